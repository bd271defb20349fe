//! Checking one snapshot, to mend what is found.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;

use futures::{StreamExt, TryStreamExt, stream};
use policy_core::TreePath;

use super::packs::Packs;
use super::segments::Segments;
use super::{CheckOptions, Damage};
use crate::error::Error;
use crate::format::PackId;
use crate::read_data::ReadData;
use crate::store::{Head, Store};

/// What is damaged of a snapshot that can be read itself.
#[derive(Debug, Default)]
pub(crate) struct DamagedParts {
    /// Packs that are missing, or in which something is damaged.
    pub(crate) packs: BTreeSet<PackId>,
    /// The indexes of the segments that can't be read, each with why.
    pub(crate) segments: BTreeMap<usize, Damage>,
    /// The files that can't be read whole, each with why.
    pub(crate) files: BTreeMap<TreePath, Damage>,
}

/// Packs that are checked together.
const PACKS: usize = 16;

impl Store {
    /// Checks what a snapshot refers to.
    pub(crate) async fn damaged_parts(
        &self,
        head: &Head,
        read_data: ReadData,
        concurrency: NonZeroUsize,
        memory: u64,
    ) -> Result<DamagedParts, Error> {
        let options = CheckOptions { contexts: Vec::new(), read_data, concurrency, memory };
        let packs = Packs::list(self, &options).await?;
        let packs = &packs;
        let mut checked = stream::iter(head.snapshot.packs.clone())
            .map(|told| async move { packs.check(&told).await })
            .buffer_unordered(PACKS);
        while checked.try_next().await?.is_some() {}
        drop(checked);
        let segments = Segments::new(packs, options.read_data.clone()).check(head).await?;
        // A store that has vanished meanwhile made everything look lost.
        self.confirm().await?;
        let mut parts =
            DamagedParts { packs: packs.damaged_of(&head.snapshot.packs), ..DamagedParts::default() };
        for (index, segment) in segments.iter().enumerate() {
            parts.segments.extend(segment.fault.clone().map(|fault| (index, fault)));
            parts.files.extend(segment.files.iter().cloned());
        }
        Ok(parts)
    }
}
