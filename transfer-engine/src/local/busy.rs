//! The jobs that write to a mount, so that the end of an abandoned job can be awaited.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::watch;

/// The running jobs. A job starts without waiting for others: if it had to wait for its turn, it might wait
/// for a job that waits for it.
#[derive(Debug, Default)]
pub(crate) struct Busy(watch::Sender<UnderWay>);

#[derive(Debug, Default)]
struct UnderWay {
    /// How many jobs were started.
    begun: u64,
    /// The numbers of the running jobs.
    jobs: BTreeSet<u64>,
}

/// A running job; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Job {
    busy: Arc<Busy>,
    number: u64,
}

impl Busy {
    /// Starts a job.
    pub(crate) fn begin(self: &Arc<Self>) -> Job {
        let mut number = 0;
        self.0.send_modify(|under_way| {
            number = under_way.begun;
            under_way.begun += 1;
            under_way.jobs.insert(number);
        });
        Job { busy: Arc::clone(self), number }
    }

    /// Waits until all jobs that were started before this call have ended.
    pub(crate) async fn quiet(&self) {
        let next = self.0.borrow().begun;
        let ended = |under_way: &UnderWay| under_way.jobs.first().is_none_or(|first| *first >= next);
        // `self` has the sender, so it is not closed.
        let _ = self.0.subscribe().wait_for(ended).await;
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        self.busy.0.send_modify(|under_way| {
            under_way.jobs.remove(&self.number);
        });
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn what_was_begun_before_is_waited_for_and_holds_nobody_back() {
        let busy = Arc::new(Busy::default());
        let first = busy.begin();
        let mut quiet = std::pin::pin!(busy.quiet());
        assert!(quiet.as_mut().now_or_never().is_none());
        let second = busy.begin();
        let mut both = std::pin::pin!(busy.quiet());
        drop(first);
        assert!(quiet.now_or_never().is_some());
        assert!(both.as_mut().now_or_never().is_none());
        drop(second);
        assert!(both.now_or_never().is_some());
        assert!(busy.quiet().now_or_never().is_some());
    }
}
