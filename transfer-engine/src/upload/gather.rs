//! A push gathers what is scattered over many small packs: each push adds a pack, and a pull asks for every pack.

use std::collections::BTreeSet;

use super::attempt::{Attempt, Onto};
use crate::edit::scattered;
use crate::error::Error;
use crate::format::{PackId, Place, SegmentRef};
use crate::mount::Mount;
use crate::packing::{Added, PackSink, chunks_in, send_again};

/// The most stored bytes of segments that are read and written again for it.
const MOST_OF_TREE: u64 = 8 << 20;

impl Mount {
    /// Sends what the head has in many small packs again, and returns these packs. A push with a deadline has no time for
    /// that, and what fails is left to the next push.
    ///
    /// Others may purge or recycle files of the head meanwhile. Their snapshot comes first then, and what was gathered must
    /// not be used for another one: its pack would bring back what is gone, and keep it. So it has packs of its own, which no
    /// later push finds in the journal, and a push that is beaten does not use.
    pub(super) async fn gather(
        &self,
        attempt: &mut Attempt<'_>,
        onto: &Onto<'_>,
        sink: &mut PackSink,
    ) -> BTreeSet<PackId> {
        let (options, snapshot) = (attempt.job.options, onto.tree.snapshot);
        let is_hurried = options.deadline.is_some() || attempt.cut.is_some();
        if is_hurried || !onto.head.late_packs().is_empty() {
            return BTreeSet::new();
        }
        let (packs, bytes) = scattered(snapshot, &options.gathering, false);
        let is_touched = |segment: &&SegmentRef| snapshot.needs_any(segment, |id| packs.contains(id));
        let stored = snapshot.segments.iter().filter(is_touched).map(|segment| match segment.place {
            Place::Pack { .. } => u64::from(segment.len),
            Place::Inline { .. } => 0,
        });
        if packs.is_empty() || stored.sum::<u64>() > MOST_OF_TREE {
            return BTreeSet::new();
        }
        attempt.may_gather = false;
        let sent = async {
            let needs = chunks_in(&packs, &onto.tree, &attempt.chunks, &|_| true).await?;
            let gathering = sink.begin_gathering().await?;
            let sent = send_again(&self.store, needs, options.concurrency.get(), sink).await;
            sink.end_gathering(gathering).await?;
            sent
        };
        let sent: Result<Added, Error> = sent.await;
        match sent {
            Ok(Added::Taken) => {
                tracing::debug!(packs = packs.len(), bytes, "what was in many small packs is gathered");
                packs
            }
            Ok(Added::TooLate) => BTreeSet::new(),
            Err(error) => {
                tracing::debug!(%error, "what is in many small packs can't be gathered now");
                BTreeSet::new()
            }
        }
    }
}
