//! The walk through a mount: a scan, merged with the base. It only needs to know which base is the right one.
//! So it starts before the head is known, and is dropped if the head requires another base.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use policy_core::ListMarks;
use tokio::sync::{mpsc, oneshot};

use super::away::{AwayOnes, Reaching};
use super::batch::Batch;
use super::candidates::Candidates;
use super::differences::LocalDelta;
use super::merge::{Before, Merge};
use super::options::DeltaOptions;
use crate::env::JobLost;
use crate::error::Error;
use crate::local::{FileSystems, Look, MountDir, Scan, ScanPlan};
use crate::state::{BaseHeader, BaseRow};

/// The base's rows, in tree order.
pub(crate) type Rows = Box<dyn Iterator<Item = io::Result<BaseRow>> + Send>;

/// How many batches may wait, which limits what is held in memory before anything is read.
const BATCHES_AHEAD: usize = 8;

/// A running walk. It ends soon after this is dropped.
pub(crate) struct Walk {
    batches: mpsc::Receiver<Batch>,
    done: oneshot::Receiver<io::Result<Walked>>,
    look: Arc<Look>,
}

/// The result of a walk.
pub(crate) struct Walked {
    /// The white lists that matched something.
    pub(crate) marks: ListMarks,
    /// The result of the previous walk.
    pub(crate) before: Option<Box<LocalDelta>>,
    pub(crate) file_systems: Arc<FileSystems>,
    pub(crate) away: AwayOnes,
}

impl Walk {
    /// Starts a walk. The rows of `base` are in tree order.
    pub(crate) fn start(options: &DeltaOptions<'_>, base: Rows) -> Self {
        Self::begin(options, base, Look::begin(options.mount.env()), None)
    }

    /// Starts a walk after another one. What that has read is not read again if it is unchanged.
    pub(crate) fn again(options: &DeltaOptions<'_>, base: Rows, before: LocalDelta) -> Self {
        let look = before.look.again();
        Self::begin(options, base, look, Some(Box::new(before)))
    }

    fn begin(
        options: &DeltaOptions<'_>,
        base: Rows,
        look: Look,
        mut before: Option<Box<LocalDelta>>,
    ) -> Self {
        let look = Arc::new(look);
        let shared = look.clone();
        let (out, batches) = mpsc::channel(BATCHES_AHEAD);
        let (tell, done) = oneshot::channel();
        let (mount, scope) = (options.mount.clone(), options.scope.clone());
        let plan = ScanPlan {
            filter: options.filter.clone(),
            look: look.clone(),
            from: options.from.clone(),
            leaves_passing: options.leaves_passing,
            file_systems: options.file_systems.clone(),
        };
        let filter = options.filter.clone();
        let (checksum, mode, longest_path) = (options.checksum, options.mode, options.longest_path);
        let (is_meant, is_of_all) = (options.allow_empty_mount, options.is_of_all);
        let walk = move || {
            let scan = Scan::start(&mount, plan)?;
            let file_systems = scan.file_systems();
            let (marks, away) = {
                let before = before.as_mut().map(|before| Before::of(before)).transpose()?;
                let mut merge = Merge {
                    mount: &mount,
                    scope: &scope,
                    filter: &*filter,
                    marks: ListMarks::new(&scope),
                    checksum,
                    mode,
                    longest_path,
                    out: &out,
                    batch: Batch { after: Some(0), ..Batch::default() },
                    files: 0,
                    reaching: Reaching::new(file_systems.clone(), is_meant),
                    look: &look,
                    before,
                    last: None,
                    candidates: Candidates::default(),
                };
                merge.run(scan, base)?;
                let is_whole = is_of_all && !out.is_closed();
                (merge.marks, merge.reaching.finish(&mount, is_whole))
            };
            Ok(Walked { marks, before, file_systems, away })
        };
        options.mount.env().spawn_detached(move || {
            // If the receiver is gone, no one needs the result.
            let _ = tell.send(walk());
        });
        Self { batches, done, look: shared }
    }

    /// Returns the record of changes during the walk.
    pub(crate) fn look(&self) -> &Arc<Look> {
        &self.look
    }

    /// Returns the batches, and a future with the result of the walk.
    pub(crate) fn split(self) -> (mpsc::Receiver<Batch>, impl Future<Output = io::Result<Walked>>) {
        let done = self.done;
        (self.batches, async move { done.await.map_err(|_| io::Error::from(JobLost))? })
    }
}

/// Waits by the wall clock and not by the runtime's, because the file system's clock has to advance.
pub(crate) async fn pause(mount: &MountDir, pause: Duration) -> Result<(), Error> {
    let clock = mount.env().clock.clone();
    let slept = mount.env().blocking(move || clock.wait(pause)).await;
    slept.map_err(|e| Error::local("look at", mount.path(), io::Error::from(e)))
}

/// A walk that was started with the existing base.
pub(crate) struct EarlyWalk {
    header: Option<BaseHeader>,
    walk: Walk,
}

impl EarlyWalk {
    /// Starts a walk with the rows of the base that has this header.
    pub(crate) fn start(options: &DeltaOptions<'_>, header: Option<BaseHeader>, base: Rows) -> Self {
        Self { header, walk: Walk::start(options, base) }
    }

    /// Returns the walk if this is the right base.
    pub(crate) fn over(self, header: Option<&BaseHeader>) -> Option<Walk> {
        (self.header.as_ref() == header).then_some(self.walk)
    }
}
