//! Merges the scan with the base, into batches for the readers of files.

use std::collections::BTreeSet;
use std::io;
use std::iter::Peekable;

use policy_core::{Entry, ListMarks, Node, Scope, TreePath, UploadMode};
use tokio::sync::mpsc;

use super::away::{Reach, Reaching};
use super::batch::{Batch, LONG, Work, hint_for, present};
use super::candidates::Candidates;
use super::differences::LocalDelta;
use super::specials::{EXCLUDE_IT, in_the_way};
use super::stats::count_row;
use crate::format::MAX_PATH_LEN;
use crate::local::{Fingerprint, Found, FoundKind, Look, MountDir, Scan, ScanFilter, Special};
use crate::monitor::PathProblem;
use crate::state::{Archive, BaseRow, DeltaRow, DeltaState};

/// The number of bytes to be read at which a batch ends; it also ends at a number of paths.
const BATCH_BYTES: u64 = 4 << 20;

/// Returns the number of paths at which a batch ends. A block is never larger than its batch, and those of
/// `Archive` mode need many tiny files.
fn batch_paths(mode: UploadMode) -> usize {
    match mode {
        UploadMode::File => 512,
        UploadMode::Archive => 8192,
    }
}

/// The result of the previous walk, which is asked for in tree order.
pub(crate) struct Before<'a> {
    rows: Peekable<Box<dyn Iterator<Item = io::Result<DeltaRow>> + 'a>>,
    /// The files of databases; none of them is read without the others.
    members: BTreeSet<TreePath>,
    failed: Option<io::Error>,
}

impl<'a> Before<'a> {
    pub(crate) fn of(before: &'a mut LocalDelta) -> io::Result<Self> {
        let members = before.together.members.clone();
        let rows: Box<dyn Iterator<Item = _> + 'a> = Box::new(before.found()?);
        Ok(Self { rows: rows.peekable(), members, failed: None })
    }

    /// Returns the row of a path, which must come after all paths asked for before.
    fn at(&mut self, path: &TreePath) -> Option<DeltaRow> {
        loop {
            match self.rows.next_if(|row| row.as_ref().map_or(true, |row| row.path <= *path))? {
                Ok(row) if row.path == *path => return Some(row),
                Ok(_) => {}
                Err(e) => self.failed = Some(e),
            }
        }
    }
}

/// The merge of scan and base.
pub(crate) struct Merge<'a> {
    pub(crate) mount: &'a MountDir,
    pub(crate) scope: &'a Scope,
    pub(crate) filter: &'a dyn ScanFilter,
    pub(crate) marks: ListMarks,
    pub(crate) checksum: bool,
    pub(crate) mode: UploadMode,
    /// See [`DeltaOptions::longest_path`](super::DeltaOptions::longest_path).
    pub(crate) longest_path: usize,
    pub(crate) out: &'a mpsc::Sender<Batch>,
    pub(crate) batch: Batch,
    /// The number of files to be read so far.
    pub(crate) files: u32,
    /// Which file systems the paths are on.
    pub(crate) reaching: Reaching,
    pub(crate) look: &'a Look,
    pub(crate) before: Option<Before<'a>>,
    /// The last path found, and whether it is a file or link.
    pub(crate) last: Option<(TreePath, bool)>,
    /// Files that may be the database to which the next file belongs.
    pub(crate) candidates: Candidates,
}

impl Merge<'_> {
    pub(crate) fn run(
        &mut self,
        scan: Scan,
        base: Box<dyn Iterator<Item = io::Result<BaseRow>> + Send>,
    ) -> io::Result<()> {
        let mut scan = scan.peekable();
        let mut base = base.peekable();
        // A directory that can't be listed: nothing below it counts as present or as deleted.
        let mut frozen: Option<TreePath> = None;
        while !self.out.is_closed() {
            let next_base = match base.peek() {
                Some(Ok(row)) => Some(&row.path),
                Some(Err(_)) => {
                    return Err(base
                        .next()
                        .and_then(Result::err)
                        .unwrap_or_else(|| io::ErrorKind::Other.into()));
                }
                None => None,
            };
            match (scan.peek().map(|f| &f.path), next_base) {
                (None, None) => break,
                (Some(found), Some(row)) if found == row => {
                    if let (Some(found), Some(Ok(row))) = (scan.next(), base.next()) {
                        self.both(found, row, &mut frozen);
                    }
                }
                (Some(found), row) if row.is_none_or(|row| found < row) => {
                    let implied = row.is_some_and(|row| row.is_below(found));
                    if let Some(found) = scan.next() {
                        self.only_found(found, implied.then_some(Entry::IMPLIED_DIR), &mut frozen);
                    }
                }
                (found, _) => {
                    let below = |row: &BaseRow| found.is_some_and(|f| f.is_below(&row.path));
                    if let Some(Ok(row)) = base.next() {
                        let implied = below(&row);
                        let next = scan.peek().map(|found| &found.path);
                        self.only_base(row, implied, next, frozen.as_ref());
                    }
                }
            }
            if let Some(error) = self.before.as_mut().and_then(|before| before.failed.take()) {
                return Err(error);
            }
            if (self.batch.bytes >= BATCH_BYTES || self.batch.work.len() >= batch_paths(self.mode))
                && !self.send()
            {
                return Ok(());
            }
        }
        self.send();
        Ok(())
    }

    /// Sends the batch; false if the receiver is gone.
    fn send(&mut self) -> bool {
        let next = Batch { after: Some(self.files), ..Batch::default() };
        self.out.blocking_send(std::mem::replace(&mut self.batch, next)).is_ok()
    }

    fn both(&mut self, found: Found, row: BaseRow, frozen: &mut Option<TreePath>) {
        if matches!(self.reaching.of(&row), Reach::Unmounted) {
            // This was hidden below the file system, and says nothing about what was on it.
            self.marks.note(self.scope, &row.path);
            self.reaching.note_unmounted(&row);
            return;
        }
        self.batch.stats.base += 1;
        self.batch.stats.present += 1;
        self.reaching.count(&row, true);
        let found = self.note(found);
        let stayed = row.depth.unwrap_or(0) == self.reaching.depth_of(&row.path);
        match &found.kind {
            FoundKind::File(print) => {
                let same = row.print.is_some_and(|p| p == *print) && stayed && !self.checksum;
                let same = same && matches!(row.entry.node, Node::File { .. });
                if self.is_member(&found.path, Some(print), Some(&row), !same) {
                    return;
                }
                if same {
                    self.look.note_leaf(&found.path, print);
                    self.batch.stats.unchanged += 1;
                    self.candidates.note(found.path, Some(row.entry), *print);
                    return;
                }
                self.candidates.note(found.path.clone(), None, *print);
                self.file(found.path, *print, Some(row.entry));
            }
            FoundKind::Symlink { .. } | FoundKind::Dir { .. } => {
                let Some(entry) = found.kind.entry() else { return };
                if entry.agrees_with(&row.entry) && (stayed || entry.is_dir()) {
                    self.batch.stats.unchanged += 1;
                    return;
                }
                self.bare(found.path, entry, &found.kind, Some(row.entry));
            }
            FoundKind::Passing => self.batch.stats.unchanged += 1,
            FoundKind::Unsupported(_) | FoundKind::Unreadable { .. } => {
                self.unreadable(found, Some(row.entry), frozen);
            }
        }
    }

    fn only_found(&mut self, found: Found, base: Option<Entry>, frozen: &mut Option<TreePath>) {
        let found = self.note(found);
        match &found.kind {
            FoundKind::File(print) => {
                if !self.is_member(&found.path, Some(print), None, true) {
                    self.candidates.note(found.path.clone(), None, *print);
                    self.file(found.path, *print, base);
                }
            }
            // The content is invisible, and must not show by its directory: a directory that a deletion in
            // the context left behind would come back as new.
            FoundKind::Dir { empty: true, hides: true, .. } | FoundKind::Passing => {}
            FoundKind::Symlink { .. } | FoundKind::Dir { .. } => {
                if let Some(entry) = found.kind.entry() {
                    self.bare(found.path, entry, &found.kind, base);
                }
            }
            FoundKind::Unsupported(special) => self.special(found.path, *special, base),
            FoundKind::Unreadable { .. } => self.unreadable(found, base, frozen),
        }
    }

    fn only_base(&mut self, row: BaseRow, implied: bool, next: Option<&TreePath>, frozen: Option<&TreePath>) {
        // The scan may have found only now that the path is on an excluded file system.
        if !self.filter.contains(&row.path, row.entry.is_dir()) {
            return;
        }
        self.marks.note(self.scope, &row.path);
        let is_frozen = frozen.is_some_and(|f| row.path.is_within(f));
        let reach = if is_frozen { Reach::There } else { self.reaching.of(&row) };
        match reach {
            Reach::There => {}
            Reach::Unmounted => return self.reaching.note_unmounted(&row),
            Reach::Covered(_) if implied => {}
            Reach::Covered(place) => {
                self.reaching.note_covered(place);
                return self.row(DeltaRow {
                    path: row.path,
                    base: Some(row.entry),
                    state: DeltaState::Unmounted,
                });
            }
        }
        let (present, state) = self.state_of_absent(&row, implied, is_frozen);
        self.batch.stats.base += 1;
        self.batch.stats.present += u64::from(present);
        self.reaching.count(&row, present);
        if matches!(state, Some((DeltaState::Absent, true)))
            && matches!(row.entry.node, Node::File { .. })
            && self.is_member(&row.path, None, Some(&row), true)
        {
            return;
        }
        let state = match state {
            Some((DeltaState::Absent, true)) => Some((self.missing(&row.path, next), true)),
            state => state,
        };
        match state {
            None => self.batch.stats.unchanged += 1,
            Some((state, true)) => self.row(DeltaRow { path: row.path, base: Some(row.entry), state }),
            Some((state, false)) => {
                self.batch.work.push(Work::Row(DeltaRow { path: row.path, base: Some(row.entry), state }));
            }
        }
    }

    /// Returns the state of a base's path that the scan did not find: whether something counts as present,
    /// and the new state together with whether it counts as a change; `None` if nothing changed.
    fn state_of_absent(
        &self,
        row: &BaseRow,
        implied: bool,
        is_frozen: bool,
    ) -> (bool, Option<(DeltaState, bool)>) {
        if is_frozen {
            return (true, Some((DeltaState::Unreadable, true)));
        }
        if implied {
            // Something is below it, so it exists: as a directory with the default mode, which needs no row.
            let is_same = row.entry.agrees_with(&Entry::IMPLIED_DIR);
            return (true, (!is_same).then(|| (present(Entry::IMPLIED_DIR, None, false), true)));
        }
        if self.came_out(row) {
            // The archive was not deleted by the user: its extracted content replaces it.
            return (true, Some((DeltaState::Absent, false)));
        }
        // A file has replaced the directory that contained it. So the path does not count towards a lost
        // mount.
        let gave_way = self.last.as_ref().is_some_and(|(last, leaf)| *leaf && row.path.is_below(last));
        (gave_way, Some((DeltaState::Absent, true)))
    }

    /// Returns the state of a path that was not found. The path is in doubt if its directory was changing, or
    /// if an earlier walk found the path. `next` is the path found next.
    fn missing(&mut self, path: &TreePath, next: Option<&TreePath>) -> DeltaState {
        let before = self.before.as_mut().map(|before| before.at(path).map(|row| row.state));
        let met = match before {
            None | Some(Some(DeltaState::Absent)) => false,
            Some(Some(DeltaState::InDoubt { met })) => met,
            Some(_) => true,
        };
        let last = self.last.as_ref().map(|(last, _)| last);
        let holder =
            [last, next].into_iter().flatten().map(|near| common_dir(near, path)).max_by_key(Vec::len);
        let holder = TreePath::new(holder.unwrap_or_default()).unwrap_or_default();
        match met || self.look.is_moving(&holder) {
            true => DeltaState::InDoubt { met },
            false => DeltaState::Absent,
        }
    }

    /// Whether the row is an archive that was deleted after its extraction, and whose content is there.
    fn came_out(&self, row: &BaseRow) -> bool {
        let Archive::Extracted { at: Some(at), .. } = &row.archive else { return false };
        self.mount.stat(at).is_ok_and(|stat| stat.is_some())
    }

    /// Counts a path that was found. A path that a tree can't store counts as unreadable.
    fn note(&mut self, found: Found) -> Found {
        let is_leaf = matches!(found.kind, FoundKind::File(_) | FoundKind::Symlink { .. });
        self.last = Some((found.path.clone(), is_leaf));
        if let FoundKind::Symlink { print, .. } = &found.kind {
            self.look.note_leaf(&found.path, print);
        }
        self.batch.stats.found += 1;
        self.marks.note(self.scope, &found.path);
        let target_len = match &found.kind {
            FoundKind::Symlink { target, .. } => target.len(),
            _ => 0,
        };
        if found.path.as_bytes().len() <= self.longest_path && target_len <= MAX_PATH_LEN {
            return found;
        }
        let error = io::Error::other(format!("its path or target is longer than {MAX_PATH_LEN} bytes"));
        let whole_dir = matches!(found.kind, FoundKind::Dir { .. });
        Found { kind: FoundKind::Unreadable { error, whole_dir }, ..found }
    }

    fn file(&mut self, path: TreePath, print: Fingerprint, base: Option<Entry>) {
        if let Some(before) = &mut self.before
            && let Some(row) = before.at(&path)
            && !before.members.contains(&path)
            && matches!(row.state, DeltaState::Present { seen, trusted: true, .. } if seen == Some(print))
        {
            return self.row(DeltaRow { path, base, state: row.state });
        }
        let size = print.size;
        let work = Work::File { path, print, base };
        if size > LONG {
            self.batch.long.push(work);
        } else {
            self.batch.bytes += size.max(1);
            self.batch.work.push(work);
            self.files = self.files.saturating_add(1);
        }
    }

    fn bare(&mut self, path: TreePath, entry: Entry, kind: &FoundKind, base: Option<Entry>) {
        let (seen, empty) = match kind {
            FoundKind::Symlink { print, .. } => (Some(*print), false),
            FoundKind::Dir { empty, .. } => (None, *empty),
            _ => (None, false),
        };
        self.row(DeltaRow { path, base, state: present(entry, seen, empty) });
    }

    fn unreadable(&mut self, found: Found, base: Option<Entry>, frozen: &mut Option<TreePath>) {
        let (message, hint, whole_dir) = match &found.kind {
            FoundKind::Unreadable { error, whole_dir } => {
                (format!("cannot be read: {error}"), hint_for(error), *whole_dir)
            }
            FoundKind::Unsupported(kind) => (in_the_way(*kind), EXCLUDE_IT, false),
            _ => return,
        };
        self.batch.problems.push(PathProblem { path: found.path.clone(), message, hint: hint.to_owned() });
        self.batch.stats.failed += 1;
        if matches!(found.kind, FoundKind::Unreadable { .. }) {
            self.batch.stats.note_unread(found.path.clone());
        }
        if whole_dir {
            *frozen = Some(found.path.clone());
        }
        self.row(DeltaRow { path: found.path, base, state: DeltaState::Unreadable });
    }

    /// Notes a file that no context can store. Whether it is in the way of something is known only when the
    /// head is.
    fn special(&mut self, path: TreePath, special: Special, base: Option<Entry>) {
        self.batch.stats.specials.note(&path, special);
        self.row(DeltaRow { path, base, state: DeltaState::Special(special) });
    }

    pub(crate) fn row(&mut self, row: DeltaRow) {
        count_row(&row, &mut self.batch.stats);
        self.batch.work.push(Work::Row(row));
    }
}

/// Returns the deepest directory that contains both; it exists if `there` does.
fn common_dir(there: &TreePath, other: &TreePath) -> Vec<u8> {
    let shared = there.components().zip(other.components()).take_while(|(a, b)| a == b);
    let shared: Vec<&[u8]> = shared.map(|(a, _)| a).collect();
    shared.join(&b'/')
}
