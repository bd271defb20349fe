//! What the context has had: its snapshots are looked at as they come.

use std::collections::{BTreeMap, BTreeSet};

use policy_core::{Digest, Node, TreePath};
use transfer_engine::format::{LineageId, Snapshot};
use transfer_engine::{Clock as _, ContextName, Error};

use crate::archives::parts;
use crate::run::Run;

/// A file of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) digest: Digest,
    pub(crate) mode: u16,
    /// Whether it is an archive that is marked as extracted.
    pub(crate) extracted: bool,
    /// Whether it is the placeholder of a recycled file.
    pub(crate) recycled: bool,
}

/// All files of a snapshot by path.
pub(crate) type Files = BTreeMap<TreePath, Seen>;

#[derive(Debug, Default)]
pub(crate) struct History {
    last: Option<(LineageId, u64)>,
    /// The files of the newest snapshot.
    pub(crate) files: Files,
    /// The files of the newest snapshot when the step began.
    pub(crate) begun: Files,
    /// The number of the step.
    pub(crate) step: usize,
    /// In which step the content at a path has last changed.
    changed: BTreeMap<TreePath, usize>,
    /// When it was last looked, in seconds by the store's clock.
    looked: i64,
    /// Before when each file was not in the context with this content and mode.
    pub(crate) since: BTreeMap<(TreePath, Digest, u16), i64>,
    /// The contents of files, as the ledger has them.
    pub(crate) parts: BTreeMap<Digest, Vec<String>>,
    /// The files that were recycled.
    pub(crate) recycled: BTreeSet<(TreePath, Digest)>,
    /// What was in these files.
    pub(crate) recycled_parts: BTreeSet<String>,
    /// What of that the context has got again since.
    pub(crate) returned: BTreeSet<String>,
}

impl History {
    /// A step begins.
    pub(crate) fn begin_step(&mut self) {
        self.step += 1;
        self.begun = self.files.clone();
    }

    /// The context is gone: its files are others from now on.
    pub(crate) fn end(&mut self) {
        for path in std::mem::take(&mut self.files).into_keys() {
            self.changed.insert(path, self.step);
        }
        self.last = None;
    }

    /// Whether the context had this file with the same content since before a step began.
    pub(crate) fn had_since(&self, path: &TreePath, step: usize) -> bool {
        self.files.contains_key(path) && self.changed.get(path).is_none_or(|changed| *changed < step)
    }

    fn take(&mut self, files: Files) -> Files {
        let before = std::mem::replace(&mut self.files, files);
        let of = |files: &Files, path: &TreePath| files.get(path).map(|seen| (seen.digest, seen.recycled));
        for path in before.keys().chain(self.files.keys()) {
            if of(&before, path) != of(&self.files, path) {
                self.changed.insert(path.clone(), self.step);
            }
        }
        before
    }
}

impl Run {
    /// Looks at the snapshots that came since the last look.
    pub(crate) async fn note_history(&self) {
        if !self.keeps_history {
            return;
        }
        let name = self.name().await;
        let now = self.clock.now().secs;
        let head = match self.world.store().head(&name).await {
            Ok(head) => head,
            Err(Error::NoContext { .. }) => return self.history.borrow_mut().end(),
            Err(e) => panic!("the head can't be read: {e:?}"),
        };
        let last = self.history.borrow().last;
        let first = match last {
            Some((lineage, number)) if lineage == head.lineage => number + 1,
            _ => 1,
        };
        for number in first..=head.number {
            // It may be collected by now.
            let Ok(snapshot) = self.world.store().snapshot(&name, number.cast_signed()).await else {
                continue;
            };
            if !self.is_late(&snapshot).await {
                self.note_snapshot(&name, &snapshot, now).await;
            }
        }
        let mut history = self.history.borrow_mut();
        (history.last, history.looked) = (Some((head.lineage, head.number)), now);
    }

    async fn note_snapshot(&self, name: &ContextName, snapshot: &Snapshot, now: i64) {
        let (store, mut entries) = (self.world.store(), Vec::new());
        // It may be collected by now, or a pack of it is lost.
        if store.entries(snapshot, &TreePath::root(), |entry| entries.push(entry)).await.is_err() {
            return;
        }
        let looked = self.history.borrow().looked;
        let is_merged = ["Merge", "Revert"].iter().any(|how| snapshot.session.starts_with(how));
        let mut files = Files::new();
        for entry in entries {
            let Node::File { digest, .. } = entry.entry.node else { continue };
            if entry.is_lost() {
                continue;
            }
            let (mode, extracted, recycled) = (entry.entry.mode, entry.extracted, entry.recycled);
            // A merge and a revert keep the time of the upload.
            let since = if is_merged { looked.min(entry.entry.uploaded) } else { looked };
            let key = (entry.path.clone(), digest, mode);
            self.history.borrow_mut().since.entry(key).or_insert(since);
            if !recycled && !self.history.borrow().parts.contains_key(&digest) {
                let mut bytes = Vec::new();
                let take = |part: bytes::Bytes| {
                    bytes.extend_from_slice(&part);
                    Ok(())
                };
                if store.read_file(&entry, 0..u64::MAX, take).await.is_ok() {
                    self.history.borrow_mut().parts.insert(digest, parts(&bytes));
                }
            }
            files.insert(entry.path, Seen { digest, mode, extracted, recycled });
        }
        let before = self.history.borrow_mut().take(files);
        self.check_recycled(name, snapshot, &before, is_merged, now);
    }
}
