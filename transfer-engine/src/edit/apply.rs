//! Makes a new tree from another one and a change.

use std::collections::BTreeSet;

use futures::TryStreamExt;
use policy_core::{Entry, Node, TreePath};

use super::gather::groups;
use super::look::NameIs;
use super::remove::Step;
use super::{Change, Edit, Parent, Purge, Removal, Rewrite};
use crate::error::Error;
use crate::format::{Changes, LetGo, PackId, Totals, TreeEntry};
use crate::monitor::Silent;
use crate::tree::{Listed, Resolved, Tree, TreeUpdate};

/// A new tree, in the parts that its snapshot needs.
pub(super) struct Made {
    pub(super) totals: Totals,
    pub(super) changes: Changes,
    pub(super) listed: Listed,
    pub(super) let_go: LetGo,
}

/// The mode of a new file.
const NEW_FILE: u16 = 0o644;

impl Edit<'_> {
    /// Makes the new tree, and puts the packs that it refers to; `None` if nothing changes.
    pub(super) async fn apply(
        &mut self,
        change: &mut Change<'_>,
        tree: &Tree<'_>,
        parent: &Parent,
    ) -> Result<Option<Made>, Error> {
        let packs = parent.packs();
        let absent = tree.snapshot.packs.iter().map(|p| p.id).filter(|id| !packs.contains(id));
        let mut update = TreeUpdate::new(tree.clone()).without(absent);
        match change {
            Change::Clear => return Ok(cleared(tree)),
            Change::Write(content) => {
                let old = free_for_file(tree, &content.path).await?;
                if let Some(old) = &old
                    && !old.recycled
                    && matches!(old.entry.node, Node::File { .. })
                    && content.is_that_of(old)
                    && content.mode.is_none_or(|mode| mode == old.entry.mode)
                    && old.chunks.iter().all(|c| packs.contains(&c.block.pack))
                {
                    return Ok(None);
                }
                let replaced = old.as_ref().filter(|o| matches!(o.entry.node, Node::File { .. }));
                let mode = content.mode.or(replaced.map(|o| o.entry.mode)).unwrap_or(NEW_FILE);
                let recycles = parent.tree.snapshot.recycle.lifecycle_days.is_some();
                let uploaded = self.store.upload_time(&parent.on, recycles, None).await?;
                let file = self.place(content, mode, &packs, uploaded).await?;
                update.apply(Resolved::Put(file), &mut self.sink).await?;
            }
            Change::Directory(path) => {
                tree.has_directory(path).await?;
                update.apply(Resolved::Directory(path.clone()), &mut self.sink).await?;
            }
            Change::Remove(removal) => self.remove(removal, tree, &mut update).await?,
            Change::Rewrite(rewrite) => {
                let Some(packs) = self.taken(&mut **rewrite, tree).await? else { return Ok(None) };
                // The data that stays moves to new packs, so that the old ones can be deleted.
                update = update.without(self.part(packs, tree, &**rewrite).await?);
                self.rewrite(&**rewrite, tree, &mut update).await?;
            }
            Change::Gather(packs) => {
                self.gather(packs, tree, &|_| true).await?;
                update = update.without(packs.iter().copied());
            }
            Change::Purge(Purge { paths, packs }) => {
                let stays = |entry: &TreeEntry| !paths.iter().any(|path| entry.path.is_within(path));
                for some in groups(packs, tree.snapshot) {
                    self.gather(&some, tree, &stays).await?;
                }
                update = update.without(packs.iter().copied());
                self.purge(paths, tree, &mut update).await?;
            }
        }
        let updated = update.finish(&mut self.sink).await?;
        if updated.is_unchanged() {
            return Ok(None);
        }
        self.sink.flush(&Silent).await?;
        let listed = updated.list(tree, &self.sink)?;
        Ok(Some(Made { totals: updated.totals, changes: updated.changes, listed, let_go: updated.let_go }))
    }

    /// Returns the packs with content of the entries to replace; `None` if there are no such entries.
    async fn taken(
        &self,
        rewrite: &mut dyn Rewrite,
        tree: &Tree<'_>,
    ) -> Result<Option<BTreeSet<PackId>>, Error> {
        let (mut any, mut packs) = (false, BTreeSet::new());
        rewrite.begin();
        let mut segments = std::pin::pin!(tree.segments(0..tree.snapshot.segments.len()));
        while let Some((_, entries)) = segments.try_next().await? {
            for entry in entries.iter().filter(|entry| rewrite.takes(entry)) {
                any = true;
                packs.extend(entry.chunks.iter().map(|chunk| chunk.block.pack));
            }
        }
        rewrite.end();
        Ok(any.then_some(packs))
    }

    async fn rewrite(
        &mut self,
        rewrite: &dyn Rewrite,
        tree: &Tree<'_>,
        update: &mut TreeUpdate<'_>,
    ) -> Result<(), Error> {
        let mut segments = std::pin::pin!(tree.segments(0..tree.snapshot.segments.len()));
        while let Some((_, entries)) = segments.try_next().await? {
            for new in entries.iter().filter_map(|entry| rewrite.replacement(entry)) {
                update.apply(Resolved::Put(new), &mut self.sink).await?;
            }
        }
        Ok(())
    }

    /// Removes everything at and below these paths, placeholders included.
    async fn purge(
        &mut self,
        paths: &[TreePath],
        tree: &Tree<'_>,
        update: &mut TreeUpdate<'_>,
    ) -> Result<(), Error> {
        let indexes: BTreeSet<usize> = paths.iter().flat_map(|path| tree.segments_within(path)).collect();
        let mut segments = std::pin::pin!(tree.segments(indexes));
        while let Some((_, entries)) = segments.try_next().await? {
            for gone in entries.into_iter().filter(|e| paths.iter().any(|path| e.path.is_within(path))) {
                update.apply(Resolved::Delete(gone.path), &mut self.sink).await?;
            }
        }
        Ok(())
    }

    async fn remove(
        &mut self,
        removal: &Removal,
        tree: &Tree<'_>,
        update: &mut TreeUpdate<'_>,
    ) -> Result<(), Error> {
        for step in removal.steps(tree).await? {
            match step {
                Step::Keep(path) => {
                    let dir = Entry { mtime: self.store.env().now(), ..Entry::IMPLIED_DIR };
                    update.apply(Resolved::Put(TreeEntry::bare(path, dir)), &mut self.sink).await?;
                }
                Step::Remove(path) => {
                    let mut segments = std::pin::pin!(tree.segments(tree.segments_within(&path)));
                    while let Some((_, entries)) = segments.try_next().await? {
                        for gone in entries.into_iter().filter(|e| e.path.is_within(&path)) {
                            update.apply(Resolved::Delete(gone.path), &mut self.sink).await?;
                        }
                    }
                }
            }
        }
        Ok(())
    }
}

/// Returns the entry that a file is to replace, if there is one.
///
/// # Errors
/// [`Error::IsDirectory`] and [`Error::NotADirectory`] if something is in the way.
pub(crate) async fn free_for_file(tree: &Tree<'_>, path: &TreePath) -> Result<Option<TreeEntry>, Error> {
    match tree.look(path).await? {
        NameIs::Entry(old) if old.entry.is_dir() => Err(tree.is_directory(path)),
        NameIs::Implied => Err(tree.is_directory(path)),
        NameIs::BelowFile(file) => Err(tree.not_a_directory(&file)),
        NameIs::Entry(old) => Ok(Some(*old)),
        NameIs::Free => Ok(None),
    }
}

fn cleared(tree: &Tree<'_>) -> Option<Made> {
    let deleted: u64 = tree.snapshot.segments.iter().map(|s| u64::from(s.entries)).sum();
    let changes = Changes { deleted, ..Changes::default() };
    (deleted > 0).then(|| Made {
        totals: Totals::default(),
        changes,
        listed: Listed::default(),
        let_go: tree.snapshot.let_go(),
    })
}
