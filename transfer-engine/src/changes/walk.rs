//! The walk through a mount: a scan, merged with the base. It needs nothing of the store but to know that the
//! base is the right one, so it begins before the head is known, and is thrown away where that shows another.

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

/// Batches that may lie ready: what of the mount is held in memory before anything is read.
const BATCHES_AHEAD: usize = 8;

/// A walk that is under way. It ends soon after this is dropped.
pub(crate) struct Walk {
    batches: mpsc::Receiver<Batch>,
    done: oneshot::Receiver<io::Result<Walked>>,
    look: Arc<Look>,
}

/// A walk that has come to its end.
pub(crate) struct Walked {
    /// The lists that met something.
    pub(crate) marks: ListMarks,
    /// What the walk before this one came to.
    pub(crate) before: Option<Box<LocalDelta>>,
    pub(crate) file_systems: Arc<FileSystems>,
    pub(crate) away: AwayOnes,
}

impl Walk {
    /// Starts a walk; the rows of `base` come in tree order.
    pub(crate) fn start(options: &DeltaOptions<'_>, base: Rows) -> Self {
        Self::begin(options, base, Look::begin(options.mount.env()), None)
    }

    /// Starts a walk after another one: what that has read and finds unchanged is not read again.
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
        let (checksum, mode) = (options.checksum, options.mode);
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
            // Without a receiver nobody wants to know any more.
            let _ = tell.send(walk());
        });
        Self { batches, done, look: shared }
    }

    /// Returns what the walk knows of its moment.
    pub(crate) fn look(&self) -> &Arc<Look> {
        &self.look
    }

    /// Returns the batches, and how it ended once there are no more of them.
    pub(crate) fn split(self) -> (mpsc::Receiver<Batch>, impl Future<Output = io::Result<Walked>>) {
        let done = self.done;
        (self.batches, async move { done.await.map_err(|_| io::Error::from(JobLost))? })
    }
}

/// Waits in the time of the file system, whose clock has to go on, and not in that of the runtime.
pub(crate) async fn pause(mount: &MountDir, pause: Duration) -> Result<(), Error> {
    let slept = mount.env().blocking(move || std::thread::sleep(pause)).await;
    slept.map_err(|e| Error::local("look at", mount.path(), io::Error::from(e)))
}

/// A walk for which the base was taken that is there.
pub(crate) struct EarlyWalk {
    header: Option<BaseHeader>,
    walk: Walk,
}

impl EarlyWalk {
    /// Starts a walk with the rows of the base that has this header.
    pub(crate) fn start(options: &DeltaOptions<'_>, header: Option<BaseHeader>, base: Rows) -> Self {
        Self { header, walk: Walk::start(options, base) }
    }

    /// Returns the walk, if this turned out to be the base.
    pub(crate) fn over(self, header: Option<&BaseHeader>) -> Option<Walk> {
        (self.header.as_ref() == header).then_some(self.walk)
    }
}
