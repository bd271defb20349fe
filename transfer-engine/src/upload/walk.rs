//! The walk through a mount: a scan, merged with the base. It needs nothing of the store but to know that the
//! base is the right one, so it begins before the head is known, and is thrown away where that shows another.

use std::io;
use std::sync::Arc;

use policy_core::ListMarks;
use tokio::sync::{mpsc, oneshot};

use super::away::{AwayOnes, Reaching};
use super::delta::DeltaOptions;
use super::merge::{Batch, Merge};
use super::units::Candidates;
use crate::env::JobLost;
use crate::error::Error;
use crate::local::{FileSystems, MountDir, Scan};
use crate::mount::Mount;
use crate::options::SyncOptions;
use crate::plan::Filter;
use crate::state::{BaseHeader, BaseRow};

/// Batches that may lie ready: what of the mount is held in memory before anything is read.
const BATCHES_AHEAD: usize = 8;

/// A walk that is under way. It ends soon after this is dropped.
pub(crate) struct Walk {
    batches: mpsc::Receiver<Batch>,
    walked: oneshot::Receiver<io::Result<Walked>>,
}

/// What is known at the end of a walk.
pub(super) struct Walked {
    /// The lists that met something.
    pub(super) marks: ListMarks,
    pub(super) file_systems: Arc<FileSystems>,
    pub(super) away: AwayOnes,
}

impl Walk {
    /// Starts a walk; the rows of `base` come in tree order.
    pub(crate) fn start(
        options: &DeltaOptions<'_>,
        base: Box<dyn Iterator<Item = io::Result<BaseRow>> + Send>,
    ) -> Self {
        let (out, batches) = mpsc::channel(BATCHES_AHEAD);
        let (done, walked) = oneshot::channel();
        let (mount, filter, scope) = (options.mount.clone(), options.filter.clone(), options.scope.clone());
        let (checksum, mode) = (options.checksum, options.mode);
        let (is_meant, is_of_all) = (options.allow_empty_mount, options.is_of_all);
        let walk = move || {
            let scan = Scan::start(&mount, filter.clone())?;
            let file_systems = scan.file_systems();
            let mut merge = Merge {
                mount: &mount,
                scope: &scope,
                filter: &*filter,
                marks: ListMarks::new(&scope),
                checksum,
                mode,
                out: &out,
                batch: Batch { after: Some(0), ..Batch::default() },
                files: 0,
                reaching: Reaching::new(file_systems.clone(), is_meant),
                leaf: None,
                candidates: Candidates::default(),
            };
            merge.run(scan, base)?;
            let is_whole = is_of_all && !out.is_closed();
            Ok(Walked { marks: merge.marks, file_systems, away: merge.reaching.finish(&mount, is_whole) })
        };
        options.mount.env().spawn_detached(move || {
            // Without a receiver nobody wants to know any more.
            let _ = done.send(walk());
        });
        Self { batches, walked }
    }

    /// Returns the batches, and what is known once there are no more of them.
    pub(super) fn split(self) -> (mpsc::Receiver<Batch>, impl Future<Output = io::Result<Walked>>) {
        let walked = self.walked;
        (self.batches, async move { walked.await.map_err(|_| io::Error::from(JobLost))? })
    }
}

/// A walk for which the base was taken that is there.
pub(crate) struct EarlyWalk {
    header: Option<BaseHeader>,
    walk: Walk,
}

impl EarlyWalk {
    /// Returns the walk, if this turned out to be the base.
    pub(crate) fn over(self, header: Option<&BaseHeader>) -> Option<Walk> {
        (self.header.as_ref() == header).then_some(self.walk)
    }
}

impl Mount {
    /// Starts a walk before it is known whether the base fits the head. `None` where the base may be replaced
    /// on the way.
    pub(crate) fn walk_early(
        &self,
        dir: &MountDir,
        filter: &Arc<Filter>,
        options: &SyncOptions,
    ) -> Result<Option<EarlyWalk>, Error> {
        if self.files.has_next_base()? {
            return Ok(None);
        }
        let header = self.files.header()?;
        let base = self.base_rows(header.as_ref(), filter, options)?;
        let walk = Walk::start(&self.delta_options(dir, filter, options), base);
        Ok(Some(EarlyWalk { header, walk }))
    }
}
