//! Paths that must be there before a session opens.

use std::sync::{Arc, Mutex, PoisonError};

use policy_core::TreePath;

use super::owned;
use super::worker::Worker;
use crate::error::{Error, Lack};
use crate::format::Snapshot;
use crate::local::ScanFilter;
use crate::monitor::{Monitor, PathProblem};
use crate::mount::is_here;
use crate::tree::Part;

/// The paths that the pulls of a mount could not bring.
#[derive(Default)]
struct Failed(Mutex<Vec<TreePath>>);

impl Monitor for Failed {
    fn problem(&self, problem: &PathProblem) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(problem.path.clone());
    }
}

impl Failed {
    fn is_within(&self, path: &TreePath) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().any(|failed| failed.is_within(path))
    }
}

impl Worker {
    /// Whether everything that is required is in the mount without a pull.
    pub(super) fn has_required(&self) -> bool {
        self.sync.required_in(&self.filter.scope).iter().all(|path| is_here(&self.path, path))
    }

    /// Pulls what is required, before all other files.
    ///
    /// # Errors
    /// [`Error::Required`] if some of it is not there then, and errors of the fetch.
    pub(super) async fn require(self: &Arc<Self>) -> Result<(), Error> {
        let required = self.sync.required_in(&self.filter.scope);
        if required.is_empty() {
            return Ok(());
        }
        let failed = Arc::new(Failed::default());
        let listening = self.pulls.listen(Arc::<Failed>::clone(&failed));
        let fetched = self.fetch(required.clone()).await.map_err(owned);
        drop(listening);
        match fetched {
            // None of the paths is on either side. What follows says why.
            Ok(_) | Err(Error::NoPath { .. } | Error::Recycled { .. }) => {}
            Err(e) => return Err(e),
        }
        let is_lacking = |path: &TreePath| failed.is_within(path) || !is_here(&self.path, path);
        let lacking: Vec<TreePath> = required.into_iter().filter(is_lacking).collect();
        if lacking.is_empty() {
            return Ok(());
        }
        let head = self.store.find_snapshot(&self.context(), &self.sync.at).await?;
        let mut paths = Vec::new();
        for path in lacking {
            let lack = match failed.is_within(&path) {
                true => Some(Lack::NotPulled),
                false => self.lack(&head.snapshot, &path).await?,
            };
            paths.extend(lack.map(|lack| (path, lack)));
        }
        if paths.is_empty() {
            return Ok(());
        }
        Err(Error::Required { context: self.context(), mount: self.path.clone(), paths })
    }

    /// Returns why a path is not in the mount; `None` if that is as it should be.
    async fn lack(&self, head: &Snapshot, path: &TreePath) -> Result<Option<Lack>, Error> {
        let takes = |is_dir| self.filter.contains(path, is_dir);
        if !takes(false) && !takes(true) && !self.filter.may_hold(path) {
            return Ok(Some(Lack::OutOfScope));
        }
        let (mut is_known, part) = (false, Part::new(self.sync.part.clone()));
        self.store.entries(head, &part.outer(path), |entry| is_known |= !entry.recycled).await?;
        Ok(match is_known {
            false => Some(Lack::NotInContext),
            // An archive that was extracted is gone, and its content is there.
            true if self.filter.leaves_out(path) => None,
            true => Some(Lack::NotPulled),
        })
    }
}
