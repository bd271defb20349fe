//! The plan of a sync as a stream: base, local differences and head, merged and decided.

use std::io;
use std::sync::Arc;

use futures::StreamExt;
use futures::stream::BoxStream;
use policy_core::{
    Entry, Next, Reconciler, Rules, Scope, Source, Step, Towards, TreePath, TreeRow, original_path,
};

use crate::error::Error;
use crate::format::TreeEntry;
use crate::local::ScanFilter;
use crate::state::{BaseRow, DeltaRow};

/// A path of the head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RemoteRow(pub(crate) TreeEntry);

impl TreeRow for RemoteRow {
    fn path(&self) -> &TreePath {
        &self.0.path
    }

    fn entry(&self) -> &Entry {
        &self.0.entry
    }
}

pub(crate) type PlanStep = Step<BaseRow, DeltaRow, RemoteRow>;

/// What the head holds.
pub(crate) enum Remote<'a> {
    /// Exactly what the base says: only paths that differ locally need a look.
    AsBase,
    /// What these segments say.
    Segments(BoxStream<'a, Result<(usize, Vec<TreeEntry>), Error>>),
}

/// Which paths a sync deals with: those in scope, restricted to what was asked for.
pub(crate) struct Filter {
    pub(crate) scope: Arc<Scope>,
    pub(crate) only: Vec<TreePath>,
    /// Our own state and store, should they lie inside the mount.
    pub(crate) never: Vec<TreePath>,
}

impl Filter {
    /// Whether the path is in scope; a conflict copy is where its original is.
    pub(crate) fn in_scope(&self, path: &TreePath, is_dir: bool) -> bool {
        let original = original_path(path);
        self.scope.contains(original.as_ref().unwrap_or(path), is_dir)
            && !self.never.iter().any(|n| path.is_within(n))
    }
}

impl ScanFilter for Filter {
    fn contains(&self, path: &TreePath, is_dir: bool) -> bool {
        (self.only.is_empty() || self.only.iter().any(|o| path.is_within(o))) && self.in_scope(path, is_dir)
    }

    fn may_hold(&self, dir: &TreePath) -> bool {
        (self.only.is_empty() || self.only.iter().any(|o| dir.is_within(o) || o.is_within(dir)))
            && (self.scope.may_hold(dir) || original_path(dir).is_some_and(|o| self.scope.may_hold(&o)))
            && !self.never.iter().any(|n| dir.is_within(n))
    }
}

type Rows<'a, T> = Box<dyn Iterator<Item = io::Result<T>> + Send + 'a>;

/// A plan being made.
pub(crate) struct Plan<'a> {
    reconciler: Reconciler<BaseRow, DeltaRow, RemoteRow>,
    base: Rows<'a, BaseRow>,
    local: Rows<'a, DeltaRow>,
    remote: Remote<'a>,
    filter: Arc<Filter>,
}

impl<'a> Plan<'a> {
    pub(crate) fn new(
        rules: Rules,
        towards: Towards,
        base: Rows<'a, BaseRow>,
        local: Rows<'a, DeltaRow>,
        remote: Remote<'a>,
        filter: Arc<Filter>,
    ) -> Self {
        Self { reconciler: Reconciler::new(rules, towards), base, local, remote, filter }
    }

    /// Returns the next decided path.
    pub(crate) async fn next(&mut self) -> Result<Option<PlanStep>, Error> {
        let state = |e: io::Error| Error::local("read", "the local state", e);
        loop {
            let source = match self.reconciler.next() {
                Next::Step(step) => return Ok(Some(step)),
                Next::End => return Ok(None),
                Next::Need(source) => source,
            };
            match (&mut self.remote, source) {
                (Remote::AsBase, _) => {
                    let row = self.local.next().transpose().map_err(state)?;
                    // An emptied directory that was only implied has no row in the base nor in the head.
                    let listed = row.as_ref().filter(|row| !row.is_implied_before());
                    let base = listed.and_then(|row| row.base.clone().map(|base| (row.path.clone(), base)));
                    if let Some((path, entry)) = base {
                        let remote = TreeEntry::bare(path.clone(), entry.clone());
                        self.reconciler.push_base(Some(BaseRow { path, entry, print: None, held: false }));
                        self.reconciler.push_remote(Some(RemoteRow(remote)));
                    }
                    if row.is_none() {
                        self.reconciler.push_base(None);
                        self.reconciler.push_remote(None);
                    }
                    self.reconciler.push_local(row);
                }
                (Remote::Segments(_), Source::Base) => {
                    self.reconciler.push_base(self.base.next().transpose().map_err(state)?);
                }
                (Remote::Segments(_), Source::Local) => {
                    self.reconciler.push_local(self.local.next().transpose().map_err(state)?);
                }
                (Remote::Segments(segments), Source::Remote) => match segments.next().await.transpose()? {
                    Some((_, entries)) => {
                        for entry in entries {
                            // A placeholder says that nothing is here any more.
                            if !entry.recycled && self.filter.contains(&entry.path, entry.entry.is_dir()) {
                                self.reconciler.push_remote(Some(RemoteRow(entry)));
                            }
                        }
                    }
                    None => self.reconciler.push_remote(None),
                },
            }
        }
    }
}
