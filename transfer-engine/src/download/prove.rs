//! After a loss of power: what of the mount is as the last syncs left it, although they did not flush it.
//!
//! At the last flush, base and disk agreed. Since then, the mount was synced with known snapshots, so each path is in one
//! of four cases:
//!
//! - It is as in the base or in one of the snapshots: that is what base and mount agree on now.
//! - It is missing, and a snapshot has another version than the base: the file never reached the disk. It counts as not
//!   pulled, and not as deleted.
//! - It has only a part of a snapshot's content, because the rest was not written: it is removed, and counts as not
//!   pulled.
//! - It is anything else: a user's change.

use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use policy_core::{Entry, Node, Towards, TreePath};

use super::pull::Job;
use crate::count::count_are;
use crate::error::Error;
use crate::format::TreeEntry;
use crate::local::{FileSystems, Fingerprint, InstallError, MountDir, Stagings, writable};
use crate::monitor::Monitor;
use crate::mount::{Mount, may_lack};
use crate::options::SyncOptions;
use crate::plan::{Filter, PlanStep, archive_of, was_extracted};
use crate::state::{Alone, Archive, BaseHeader, BaseRow, DeltaState, Held, NextBase, Unflushed};
use crate::store::Head;

/// What is known of a path after a loss of power.
#[derive(Debug, PartialEq, Eq)]
enum Proven {
    /// The base's row, if there is one, holds: the path is as it says, or was changed by a user.
    AsBase,
    /// The mount has this.
    Row(Box<BaseRow>),
    /// The path counts as not pulled.
    NotPulled,
    /// The same if the file with this stat is a part of the snapshot's; else a user has changed it.
    IfPart(Fingerprint),
}

/// What was lost.
#[derive(Debug, Default)]
struct Lost {
    /// The number of paths that the snapshot has and the mount lacks.
    missing: u64,
    /// The number of files that were not whole.
    torn: u64,
}

impl Mount {
    /// Makes a base of what the mount has, after what was written without a flush may have been lost.
    pub(crate) async fn prove(
        &self,
        alone: &Alone<'_>,
        dir: &MountDir,
        note: Unflushed,
        (towards, options): (Towards, &SyncOptions),
        monitor: &dyn Monitor,
    ) -> Result<(), Error> {
        tracing::info!("the mount was synced without a flush before a loss of power; it is compared");
        self.files.forget_unflushed()?;
        let noted = note.snapshots.iter().filter(|noted| noted.part == self.part.digest());
        let (mut heads, mut all_read) = (Vec::new(), true);
        for noted in noted {
            match self.noted_snapshot(noted).await? {
                Some(head) => heads.push((head, noted.agrees)),
                None => all_read = false,
            }
        }
        // What a snapshot did that can't be read any more is unknown, so that nothing may count as deleted.
        let mut header = if note.fresh || !all_read { None } else { self.files.header()? };
        let mut lost = Lost::default();
        let proving = self.files.prove();
        // What a later snapshot has was put in place over what an earlier one has.
        for (head, completed) in heads.iter().rev() {
            header = match self.prove_by(alone, dir, header, (head, *completed), &mut lost, monitor).await {
                Ok(Some(header)) => Some(header),
                // It is not the mount that was synced, or nothing is left of it. Until something is there again, what
                // was true at the last flush is all that is known.
                Ok(None) => return Ok(()),
                // A part of its list of files is lost.
                Err(e) if e.is_of_object() => None,
                Err(e) => return Err(e),
            };
        }
        drop(proving);
        match header {
            // A push must not wait for the disk, nor fail with it.
            Some(_) if options.deadline.is_some() => self.files.note_proven(note)?,
            Some(_) => match self.flushed(dir).await {
                Ok(()) => self.files.settle(true)?,
                Err(e) if towards == Towards::Store => {
                    monitor.warning(&may_lack(&e));
                    self.files.note_proven(note)?;
                }
                Err(e) => return Err(self.not_durable(e)),
            },
            // No snapshot is left that says anything of the mount.
            None => self.files.forget_all()?,
        }
        if lost.missing + lost.torn > 0 {
            monitor.warning(&format!(
                "what was synced last did not all reach the disk: {} missing, and {} not whole; the next pull brings them",
                count_are(lost.missing, "path"),
                count_are(lost.torn, "file")
            ));
        }
        Ok(())
    }

    /// Returns a snapshot that was noted, if the store still has it.
    async fn noted_snapshot(&self, noted: &BaseHeader) -> Result<Option<Head>, Error> {
        match self.load_head(Some(noted), &noted.head).await {
            Ok(head) if head.digest == noted.digest => Ok(Some(head)),
            Ok(_) => Ok(None),
            Err(e) if e.is_of_object() => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Compares base, mount and one snapshot, and writes the base that follows. Returns its header; `None` if all that
    /// the base lists is missing.
    async fn prove_by(
        &self,
        alone: &Alone<'_>,
        dir: &MountDir,
        header: Option<BaseHeader>,
        (head, completed): (&Head, bool),
        lost: &mut Lost,
        monitor: &dyn Monitor,
    ) -> Result<Option<BaseHeader>, Error> {
        let options = SyncOptions::default();
        let filter = self.filter(&options, Towards::Mount);
        // Of another life of the context, a row says nothing.
        let header = header.filter(|header| header.lineage == head.snapshot.lineage);
        let job = Job { dir, filter: &filter, options: &options, monitor };
        let had_base = header.is_some();
        let (mut delta, header) = self.compare(&job, head, header, None).await?;
        if had_base && header.is_none() {
            return Ok(None);
        }
        let file_systems = delta.file_systems.clone();
        self.clear_below(alone, dir, &file_systems, monitor);
        let old = match self.all_base_rows(header.as_ref())? {
            Some(rows) => Box::new(rows) as Box<dyn Iterator<Item = _> + Send>,
            None => Box::new(std::iter::empty()),
        };
        let path = self.files.folded_base();
        let cannot = |e| Error::local("write", path.clone(), e);
        let mut next = NextBase::create(&path, old);
        let mut stagings = None;
        let mut plan = self.pull_plan(head, header.as_ref(), &mut delta, true, &filter, &options)?;
        while let Some(step) = plan.next().await? {
            let row = match proven(&step, &filter, &file_systems) {
                Proven::AsBase => continue,
                Proven::Row(row) => Some(*row),
                Proven::NotPulled => {
                    lost.missing += u64::from(step.remote.is_some());
                    None
                }
                Proven::IfPart(print) => {
                    let there = step.remote.as_ref().map(|row| &row.0);
                    if !self.is_part(dir, &step.path, &print, there).await? {
                        // An edit, of what the sync had put there.
                        if let Some(there) = there.filter(|_| completed) {
                            let row = BaseRow::new(step.path.clone(), there.entry.clone(), None);
                            next.set(&step.path, Some(row.among(&file_systems))).map_err(cannot)?;
                        }
                        continue;
                    }
                    let stagings = match &mut stagings {
                        Some(stagings) => stagings,
                        none => none.insert(
                            Stagings::create(dir, file_systems.clone())
                                .map_err(|e| Error::local("make a staging directory in", dir.path(), e))?,
                        ),
                    };
                    match remove(dir, stagings, &step.path, &print) {
                        Ok(()) => lost.torn += 1,
                        Err(InstallError::Changed) => continue,
                        Err(InstallError::Io(e)) => {
                            return Err(Error::local("remove", dir.show(&step.path), e));
                        }
                    }
                    None
                }
            };
            next.set(&step.path, row).map_err(cannot)?;
        }
        drop(plan);
        let warnings = stagings.map(|stagings| stagings.finish(false)).unwrap_or_default();
        warnings.iter().for_each(|warning| monitor.warning(warning));
        next.take_rest().map_err(cannot)?;
        let header = next.finish(self.header_of(head, false).await?, false).map_err(cannot)?;
        self.files.adopt_proven()?;
        Ok(Some(header))
    }

    /// Whether a file is what a snapshot has, as far as the disk got it: its bytes are the same or zero, and if any are
    /// missing, it is those at the end.
    async fn is_part(
        &self,
        dir: &MountDir,
        path: &TreePath,
        print: &Fingerprint,
        there: Option<&TreeEntry>,
    ) -> Result<bool, Error> {
        let Some(there) = there.filter(|there| print.size <= there.entry.size()) else { return Ok(false) };
        let cannot = |e| Error::local("read", dir.show(path), e);
        let (file, _) = dir.open_file(path).map_err(cannot)?;
        let file = Arc::new(file);
        let mut at = 0;
        for chunk in &there.chunks {
            if at >= print.size {
                break;
            }
            let bytes = match self.store.chunk(chunk).await {
                Ok(bytes) => bytes,
                // Then nobody can tell.
                Err(e) if e.is_of_object() => return Ok(false),
                Err(e) => return Err(e),
            };
            let (file, len) = (file.clone(), u64::from(chunk.len).min(print.size - at) as usize);
            let compare = move || -> io::Result<bool> {
                let mut here = vec![0; len];
                file.read_exact_at(&mut here, at)?;
                Ok(here.iter().zip(&bytes).all(|(here, there)| *here == 0 || here == there))
            };
            let same = dir.blocking(compare).await.map_err(io::Error::from).flatten();
            match same {
                Ok(true) => {}
                Ok(false) => return Ok(false),
                // It was cut short just now, by somebody who is at work.
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
                Err(e) => return Err(cannot(e)),
            }
            at += u64::from(chunk.len);
        }
        Ok(true)
    }
}

fn remove(
    dir: &MountDir,
    stagings: &Stagings,
    path: &TreePath,
    print: &Fingerprint,
) -> Result<(), InstallError> {
    let parent = dir.parent(path)?;
    let _writable = writable(&parent);
    stagings.of(path)?.remove(&parent, path, print)
}

/// Decides about one path, with a snapshot that it was synced with since the base was written.
fn proven(step: &PlanStep, filter: &Filter, file_systems: &FileSystems) -> Proven {
    let there = step.remote.as_ref().map(|row| &row.0);
    if step.recycled || there.is_some_and(TreeEntry::is_lost) {
        return Proven::AsBase;
    }
    // The mount is as the base says, or has nothing where the base has nothing.
    let Some(local) = &step.local else { return Proven::AsBase };
    if step.base.as_ref().is_some_and(|base| base.held != Held::No) {
        return Proven::AsBase;
    }
    let base = step.base.as_ref().map(|base| &base.entry);
    match &local.state {
        DeltaState::Absent => {
            let synced = match (base, there) {
                (Some(base), Some(there)) => !base.agrees_with(&there.entry),
                (Some(_), None) => true,
                (None, _) => false,
            };
            if synced { Proven::NotPulled } else { Proven::AsBase }
        }
        DeltaState::Present { entry, seen, trusted, .. } => {
            let row = |known: Entry, archive| {
                let print = seen.filter(|_| *trusted && known.agrees_with(entry));
                let row = BaseRow { archive, ..BaseRow::new(step.path.clone(), known, print) };
                Proven::Row(Box::new(row.among(file_systems)))
            };
            if let Some(base) = step.base.as_ref().filter(|base| base.entry.agrees_with(entry)) {
                return row(base.entry.clone(), base.archive.clone());
            }
            if let Some(there) = there.filter(|there| there.entry.agrees_with(entry)) {
                return row(there.entry.clone(), archive_at(step, there, filter));
            }
            let is_file = matches!(entry.node, Node::File { .. });
            // A user has changed its mode.
            if let Some(there) = there.filter(|there| is_file && there.entry.node == entry.node) {
                return row(there.entry.clone(), archive_at(step, there, filter));
            }
            // What was in it was deleted, and its own removal was lost. Without a row it would look new.
            if local.is_implied_before() && there.is_none() && !step.remote_implied {
                return row(entry.clone(), Archive::No);
            }
            let there = there.map(|there| &there.entry.node);
            let was_put = matches!(there, Some(Node::File { .. })) && there != base.map(|base| &base.node);
            seen.filter(|_| is_file && was_put).map_or(Proven::AsBase, Proven::IfPart)
        }
        DeltaState::InDoubt { .. }
        | DeltaState::Unreadable
        | DeltaState::Special(_)
        | DeltaState::Unmounted
        | DeltaState::Unsent { .. } => Proven::AsBase,
    }
}

/// Returns what is known of an archive that the mount has as the snapshot has it.
fn archive_at(step: &PlanStep, there: &TreeEntry, filter: &Filter) -> Archive {
    match archive_of(step, &there.entry) {
        Archive::No if was_extracted(step) => {
            Archive::Extracted { at: None, drop: false, marked: true, scope: None }
        }
        Archive::No if filter.extracts(&step.path) => Archive::Pending,
        known => known,
    }
}
