//! The journal of arrivals: what a pull has put in place so far, in a file beside the base. So nothing is
//! forgotten if the pull is interrupted, and other processes can see its progress.
//!
//! Each append is one frame of sorted rows. A later row of a path replaces an earlier one. An incomplete
//! frame at the end, left by a crash, is ignored. Any other damage invalidates the whole journal.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::iter::Peekable;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use policy_core::{Node, TreePath};

use super::base::{BaseHeader, HEADER};
use super::file::{StateFile, damage};
use super::rows::{Archive, BaseRow, Row, read_print, write_print};
use super::spool::{FrameReader, FrameWriter};
use crate::env::Env;
use crate::format::wire::{Reader, Writer};
use crate::format::{FormatError, Part};
use crate::local::{Fingerprint, MountDir, StagingId, staged};

/// The mark in the header's own byte repeats whether the rows of the base count. Changing a single bit never
/// turns one mark into the other. Older programs wrote 0; then only the byte after the header says it.
const MARKS: [u8; 2] = [1, 2];

/// What happened to one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ArrivalRow {
    pub(crate) path: TreePath,
    pub(crate) change: Change,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    /// A file in this staging directory is about to be put in place: see [`Proof`].
    Coming { row: BaseRow, inode: u64, staging: Option<StagingId> },
    /// The directory with an archive's content is about to be put in place. Until it is, the archive of this
    /// row is pending.
    Extracting { row: BaseRow, inode: u64, staging: Option<StagingId> },
    /// The staged directory with an archive's content, or the members in it, were put in place. A power failure may undo
    /// these renames; then the directory is in staging again. The inode alone may belong to another one by then.
    CameOut { row: BaseRow, staged: StagingId },
    /// A staged file was put in place, and had this fingerprint there. The rename may have been lost in a
    /// power failure. So a staging directory is checked here too: the rename was lost if the directory still
    /// has this very file. The inode alone may belong to another file by now.
    Came { row: BaseRow, print: Fingerprint },
    /// The base now has this row.
    Set(BaseRow),
    /// The base no longer has a row here.
    Unset,
    /// The file that was about to be put in place was not.
    Void,
}

impl Row for ArrivalRow {
    fn path(&self) -> &TreePath {
        &self.path
    }

    fn write(&self, w: &mut Writer) {
        match &self.change {
            Change::Void => w.u8(0),
            Change::Unset => w.u8(1),
            Change::Set(row) => {
                w.u8(2);
                row.write(w);
            }
            Change::Coming { row, inode, staging } => {
                w.u8(if staging.is_some() { 7 } else { 3 });
                w.varint(*inode);
                staging.iter().for_each(|StagingId(id)| w.bytes(id));
                row.write(w);
            }
            Change::Extracting { row, inode, staging } => {
                w.u8(if staging.is_some() { 8 } else { 4 });
                w.varint(*inode);
                staging.iter().for_each(|StagingId(id)| w.bytes(id));
                row.write(w);
            }
            Change::CameOut { row, staged: StagingId(id) } => {
                w.u8(9);
                w.bytes(id);
                row.write(w);
            }
            Change::Came { row, print } => {
                w.u8(if row.print.is_some() { 5 } else { 6 });
                row.write(w);
                if row.print.is_none() {
                    write_print(Some(print), w);
                }
            }
        }
    }

    fn read(path: TreePath, r: &mut Reader<'_>) -> Result<Self, FormatError> {
        let change = match r.u8()? {
            0 => Change::Void,
            1 => Change::Unset,
            2 => Change::Set(BaseRow::read(path.clone(), r)?),
            // Older programs wrote 3 and 4.
            kind @ (3 | 7) => {
                let inode = r.varint()?;
                let staging = if kind == 7 { Some(StagingId(r.array()?)) } else { None };
                Change::Coming { row: BaseRow::read(path.clone(), r)?, inode, staging }
            }
            kind @ (4 | 8) => {
                let inode = r.varint()?;
                let staging = if kind == 8 { Some(StagingId(r.array()?)) } else { None };
                Change::Extracting { row: BaseRow::read(path.clone(), r)?, inode, staging }
            }
            5 | 6 => {
                let row = BaseRow::read(path.clone(), r)?;
                let print = if row.print.is_some() { row.print } else { read_print(r)? };
                Change::Came { row, print: print.ok_or_else(|| r.invalid("a file without a stat"))? }
            }
            9 => {
                let staged = StagingId(r.array()?);
                Change::CameOut { row: BaseRow::read(path.clone(), r)?, staged }
            }
            _ => return Err(r.invalid("an unknown change")),
        };
        Ok(Self { path, change })
    }
}

/// Writes the journal.
#[derive(Debug)]
pub(crate) struct ArrivalsWriter {
    file: File,
    path: PathBuf,
    env: Env,
}

impl ArrivalsWriter {
    /// Creates a journal. `header` is the header that the base will have if the pull is interrupted. With
    /// `fresh`, the rows of the existing base do not count.
    pub(crate) fn create(path: &Path, header: &BaseHeader, fresh: bool, env: &Env) -> io::Result<Self> {
        use std::os::unix::fs::OpenOptionsExt;
        let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(path)?;
        let mut head = header.encode(MARKS[usize::from(fresh)])?.to_vec();
        head.push(u8::from(fresh));
        file.write_all(&head)?;
        Ok(Self { file, path: path.to_owned(), env: env.clone() })
    }

    /// Appends rows. Every reader sees them from now on, even after a SIGKILL.
    pub(crate) fn append(&mut self, mut rows: Vec<ArrivalRow>) -> io::Result<()> {
        rows.sort_by(|a, b| a.path.cmp(&b.path));
        let mut frames = FrameWriter::new();
        let mut bytes = Vec::new();
        for row in &rows {
            frames.push(row, &mut bytes)?;
        }
        frames.flush(&mut bytes)?;
        self.env.check_fault("write", &self.path)?;
        let before = self.file.stream_position()?;
        self.file.write_all(&bytes).inspect_err(|_| {
            // An incomplete frame would hide all later ones.
            let _ = self.file.set_len(before).and_then(|()| self.file.seek(SeekFrom::Start(before)));
        })
    }
}

/// A part of a file that others read too.
#[derive(Debug)]
struct Section {
    file: Arc<StateFile>,
    at: u64,
    end: u64,
}

impl Read for Section {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end - self.at).unwrap_or(usize::MAX).min(buf.len());
        let read = self.file.read_at(&mut buf[..left], self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

/// Frames whose rows are in order from one frame to the next.
struct Run {
    file: Arc<StateFile>,
    /// The begin and end of each frame.
    frames: std::vec::IntoIter<(u64, u64)>,
    rows: std::vec::IntoIter<ArrivalRow>,
    /// Where the current frame begins. A frame that begins later is newer.
    from: u64,
    next: Option<ArrivalRow>,
}

impl Run {
    fn advance(&mut self) -> io::Result<Option<ArrivalRow>> {
        loop {
            if let Some(row) = self.rows.next() {
                return Ok(self.next.replace(row));
            }
            let Some((at, end)) = self.frames.next() else { return Ok(self.next.take()) };
            let mut reader = FrameReader::new(Section { file: self.file.clone(), at, end });
            if let Some((rows, _)) = reader.frame()? {
                self.from = at;
                self.rows = rows.into_iter();
            }
        }
    }
}

/// The newest change of each path, in tree order.
pub(crate) struct ArrivalsReader {
    runs: Vec<Run>,
    is_torn: bool,
}

impl ArrivalsReader {
    /// Opens a journal, as far as it has been written. Returns the header of the resulting base, and whether
    /// the rows of the existing base do not count. `None` if there is no journal, or if the machine crashed
    /// before its header was written.
    pub(super) fn open(path: &Path, env: &Env) -> io::Result<Option<(BaseHeader, bool, Self)>> {
        let Some(mut file) = StateFile::open(path, env)? else { return Ok(None) };
        let mut head = [0; HEADER + 1];
        match file.read_exact(&mut head) {
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            read => read?,
        }
        if head.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let mut header = [0; HEADER];
        header.copy_from_slice(&head[..HEADER]);
        let (header, mark) = BaseHeader::decode(&header).map_err(io::Error::other)?;
        let fresh = match (mark, head[HEADER]) {
            (0, fresh) => fresh != 0,
            (mark, fresh @ (0 | 1)) if MARKS[usize::from(fresh)] == mark => fresh == 1,
            _ => return Err(io::Error::other(FormatError::Corrupt { part: Part::State })),
        };
        let file = Arc::new(file);
        let (runs, is_torn) = find_runs(&file)?;
        Ok(Some((header, fresh, Self { runs, is_torn })))
    }

    /// Whether the journal ends with an incomplete frame.
    pub(crate) fn is_torn(&self) -> bool {
        self.is_torn
    }
}

/// How to find out what is in place of what was about to be put there.
pub(crate) enum Proof {
    /// All of it counts as in place.
    All,
    /// What is in no staging directory any more, by inode: the pull is ours, and nobody else has cleared them. An inode
    /// with another size was given away again.
    NotStaged(BTreeMap<u64, Fingerprint>),
    /// The same, where the staging directory is still the one that it was, by the ids of all and of the directories in them. Otherwise what was staged may be gone for many
    /// reasons: the mount was copied, put back from a backup, cleaned up, or away. Then a file is in place if its path has
    /// its size and time.
    Left { dir: MountDir, staged: BTreeMap<u64, Fingerprint>, stagings: Vec<StagingId> },
    /// Nothing of it: the mount is away.
    None,
}

impl Proof {
    /// Returns how to find it out in a mount after the pull was interrupted.
    pub(crate) fn in_mount(dir: &MountDir) -> io::Result<Self> {
        let (staged, stagings) = staged(dir)?;
        Ok(Self::Left { dir: dir.clone(), staged, stagings })
    }

    /// Whether the file of this row is in place.
    fn has_come(&self, row: &BaseRow, inode: u64, staging: Option<StagingId>) -> bool {
        let may_be_staged = |staged: &BTreeMap<u64, Fingerprint>| {
            staged.get(&inode).is_some_and(|staged| staged.size == row.entry.size())
        };
        match self {
            Self::All => true,
            Self::NotStaged(staged) => !may_be_staged(staged),
            Self::Left { staged, stagings, .. } if staging.is_some_and(|id| stagings.contains(&id)) => {
                !may_be_staged(staged)
            }
            Self::Left { dir, .. } => {
                let print = dir.stat(&row.path).ok().flatten().map(|stat| Fingerprint::of(&stat));
                matches!(row.entry.node, Node::File { .. })
                    && print.is_some_and(|p| p.size == row.entry.size() && p.mtime == row.entry.mtime)
            }
            Self::None => false,
        }
    }

    /// Whether the directory with the members of this row's archive is in place.
    fn has_come_out(&self, row: &BaseRow, inode: u64, staging: Option<StagingId>) -> bool {
        match (self, &row.archive) {
            (Self::All, _) => true,
            (Self::NotStaged(staged), _) => !staged.contains_key(&inode),
            (Self::Left { staged, stagings, .. }, _) if staging.is_some_and(|id| stagings.contains(&id)) => {
                !staged.contains_key(&inode)
            }
            (Self::Left { dir, .. }, Archive::Extracted { at: Some(at), .. }) => {
                dir.stat(at).is_ok_and(|stat| stat.is_some_and(|stat| stat.st_ino == inode))
            }
            (Self::Left { .. } | Self::None, _) => false,
        }
    }

    /// Whether a directory of an archive is staged again: a loss of power took the renames of it, or of its members.
    fn has_again(&self, staged: StagingId) -> bool {
        matches!(self, Self::Left { stagings, .. } if stagings.contains(&staged))
    }

    /// Whether the file that had this stat in place is staged: a loss of power took its rename.
    fn is_staged_again(&self, print: &Fingerprint) -> bool {
        match self {
            Self::NotStaged(staged) | Self::Left { staged, .. } => {
                staged.get(&print.inode).is_some_and(|staged| staged.same_but_moved(print))
            }
            Self::All | Self::None => false,
        }
    }
}

/// Finds the frames and distributes them over as few runs as their order allows. Also returns whether the
/// last frame is incomplete.
fn find_runs(file: &Arc<StateFile>) -> io::Result<(Vec<Run>, bool)> {
    let mut at = HEADER as u64 + 1;
    let end = file.len()?;
    let mut reader = FrameReader::<ArrivalRow, _>::new(io::BufReader::with_capacity(
        256 << 10,
        Section { file: file.clone(), at, end },
    ));
    let mut found: Vec<(TreePath, Vec<(u64, u64)>)> = Vec::new();
    let is_torn = loop {
        let (rows, len) = match reader.frame() {
            Ok(Some(frame)) => frame,
            Ok(None) => break false,
            Err(e) if matches!(damage(&e), Some(FormatError::Truncated { .. })) => break true,
            Err(e) => return Err(e),
        };
        let place = (at, at + len);
        at += len;
        let (Some(first), Some(last)) = (rows.first(), rows.last()) else { continue };
        match found.iter_mut().find(|(until, _)| *until < first.path) {
            Some((until, frames)) => {
                *until = last.path.clone();
                frames.push(place);
            }
            None => found.push((last.path.clone(), vec![place])),
        }
    };
    let runs = found.into_iter().map(|(_, frames)| {
        let (frames, rows) = (frames.into_iter(), Vec::new().into_iter());
        let mut run = Run { file: file.clone(), frames, rows, from: 0, next: None };
        run.advance()?;
        Ok(run)
    });
    Ok((runs.collect::<io::Result<_>>()?, is_torn))
}

impl Iterator for ArrivalsReader {
    type Item = io::Result<ArrivalRow>;

    fn next(&mut self) -> Option<Self::Item> {
        let least = self.runs.iter().filter_map(|r| r.next.as_ref()).map(|r| &r.path).min()?.clone();
        let mut newest: Option<(u64, ArrivalRow)> = None;
        for run in &mut self.runs {
            while run.next.as_ref().is_some_and(|r| r.path == least) {
                // The current row belongs to the previous frame, even if a new frame begins after it.
                let from = run.from;
                match run.advance() {
                    Ok(Some(row)) if newest.as_ref().is_none_or(|(at, _)| *at <= from) => {
                        newest = Some((from, row));
                    }
                    Ok(_) => {}
                    Err(e) => return Some(Err(e)),
                }
            }
        }
        newest.map(|(_, row)| Ok(row))
    }
}

/// The rows of a base, with the changes that arrived since it was written.
pub(crate) struct Overlaid<B: Iterator<Item = io::Result<BaseRow>>> {
    base: Peekable<B>,
    arrivals: Peekable<ArrivalsReader>,
    proof: Proof,
}

impl<B: Iterator<Item = io::Result<BaseRow>>> Overlaid<B> {
    pub(crate) fn new(base: B, arrivals: ArrivalsReader, proof: Proof) -> Self {
        Self { base: base.peekable(), arrivals: arrivals.peekable(), proof }
    }
}

impl<B: Iterator<Item = io::Result<BaseRow>>> Iterator for Overlaid<B> {
    type Item = io::Result<BaseRow>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let arrived = match (self.base.peek(), self.arrivals.peek()) {
                (Some(Ok(old)), Some(Ok(arrived))) if old.path < arrived.path => return self.base.next(),
                (Some(Err(_)), _) | (_, None) => return self.base.next(),
                _ => match self.arrivals.next()? {
                    Ok(arrived) => arrived,
                    Err(e) => return Some(Err(e)),
                },
            };
            let of_path = |r: &io::Result<BaseRow>| r.as_ref().is_ok_and(|r| r.path == arrived.path);
            let old = self.base.next_if(of_path);
            match arrived.change {
                Change::Set(row) => return Some(Ok(row)),
                // On file systems below the mount, staging can't be checked, because they may not be mounted.
                // A path that was only about to be put in place is compared again.
                Change::Coming { ref row, .. } if row.depth.is_some_and(|depth| depth > 0) => match old {
                    Some(old) => return Some(old),
                    None => continue,
                },
                Change::Extracting { row, .. } if row.depth.is_some_and(|depth| depth > 0) => {
                    return Some(Ok(BaseRow { archive: Archive::Pending, ..row }));
                }
                Change::Coming { row, inode, staging } if self.proof.has_come(&row, inode, staging) => {
                    return Some(Ok(row));
                }
                Change::Extracting { row, inode, staging }
                    if self.proof.has_come_out(&row, inode, staging) =>
                {
                    return Some(Ok(row));
                }
                Change::Came { row, print } if !self.proof.is_staged_again(&print) => return Some(Ok(row)),
                Change::CameOut { row, staged }
                    if row.depth.is_some_and(|depth| depth > 0) || !self.proof.has_again(staged) =>
                {
                    return Some(Ok(row));
                }
                Change::Extracting { row, .. } | Change::CameOut { row, .. } => {
                    return Some(Ok(BaseRow { archive: Archive::Pending, ..row }));
                }
                Change::Coming { .. } | Change::Came { .. } | Change::Void => match old {
                    Some(old) => return Some(old),
                    None => continue,
                },
                Change::Unset => continue,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use policy_core::{Digest, Entry, Node, Timestamp};
    use proptest::prelude::*;

    use super::*;

    fn row(path: &TreePath, size: u64) -> BaseRow {
        let node = Node::File { size, digest: Digest([7; 32]) };
        let entry = Entry { node, mode: 0o644, mtime: Timestamp::default(), uploaded: 0 };
        BaseRow::new(path.clone(), entry, None)
    }

    fn print(inode: u64, secs: i64) -> Fingerprint {
        let time = Timestamp { secs, nanos: 0 };
        Fingerprint { size: 1, mtime: time, ctime: time, inode, mode: 0o644 }
    }

    fn path() -> impl Strategy<Value = TreePath> {
        "[a-c](/[a-c]){0,2}".prop_map(|p| TreePath::new(p.as_bytes()).unwrap())
    }

    fn change() -> impl Strategy<Value = (u8, u64)> {
        (0..8u8, 0..6u64)
    }

    fn change_of(path: &TreePath, (kind, n): (u8, u64)) -> Change {
        match kind {
            0 => Change::Void,
            1 => Change::Unset,
            2 => Change::Set(row(path, n)),
            3 => Change::Coming { row: row(path, 1 + n / 3), inode: n, staging: Some(StagingId([1; 8])) },
            4 => Change::Came { row: row(path, n), print: print(n, 0) },
            5 => {
                Change::Came { row: BaseRow { print: Some(print(n, 1)), ..row(path, n) }, print: print(n, 1) }
            }
            6 => Change::Extracting { row: row(path, n), inode: n, staging: None },
            _ => Change::CameOut { row: row(path, n), staged: StagingId([n as u8; 8]) },
        }
    }

    #[test]
    fn what_came_out_is_pending_where_its_directory_is_staged_again() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("arrivals");
        let (path, at) = (TreePath::new(&b"a.zip"[..]).unwrap(), TreePath::new(&b"a"[..]).unwrap());
        let archive = Archive::Extracted { at: Some(at), drop: false, marked: false, scope: Some([7; 8]) };
        let row = BaseRow { archive: archive.clone(), ..row(&path, 1) };
        let mut writer = ArrivalsWriter::create(&file, &BaseHeader::example(3), true, &Env::real()).unwrap();
        let change = Change::CameOut { row, staged: StagingId([1; 8]) };
        writer.append(vec![ArrivalRow { path, change }]).unwrap();
        let found = |stagings: Vec<StagingId>| {
            let (_, _, reader) = ArrivalsReader::open(&file, &Env::real()).unwrap().unwrap();
            let mount = MountDir::open(dir.path(), &Env::real()).unwrap();
            // Another directory may have the inode of the removed one.
            let staged = BTreeMap::from([(1, print(1, 0))]);
            let proof = Proof::Left { dir: mount, staged, stagings };
            let rows: Vec<BaseRow> =
                Overlaid::new(std::iter::empty(), reader, proof).map(Result::unwrap).collect();
            rows.into_iter().map(|row| row.archive).collect::<Vec<_>>()
        };
        assert_eq!(found(vec![StagingId([2; 8])]), [archive]);
        assert_eq!(found(vec![StagingId([2; 8]), StagingId([1; 8])]), [Archive::Pending]);
    }

    proptest! {
        /// Of each path, the journal returns the last change, however the rows were appended and wherever the
        /// end is truncated; the base follows it.
        #[test]
        fn the_last_word_on_a_path_counts(
            base in proptest::collection::btree_map(path(), 100..200u64, 0..8),
            appends in proptest::collection::vec(proptest::collection::btree_map(path(), change(), 0..6), 0..8),
            staged in proptest::option::weighted(0.8, proptest::collection::btree_map(0..6u64, 0..2i64, 0..4)),
            torn in 0..3usize,
        ) {
            let print_of = |(inode, mtime)| (inode, print(inode, mtime));
            let staged: Option<BTreeMap<u64, Fingerprint>> =
                staged.map(|staged| staged.into_iter().map(print_of).collect());
            let dir = tempfile::tempdir().unwrap();
            let file = dir.path().join("arrivals");
            let mut writer = ArrivalsWriter::create(&file, &BaseHeader::example(3), true, &Env::real()).unwrap();
            let mut said: BTreeMap<TreePath, Change> = BTreeMap::new();
            let whole = appends.len().saturating_sub(torn);
            for (i, append) in appends.iter().enumerate() {
                let before = file.metadata().unwrap().len();
                let rows: Vec<ArrivalRow> = append
                    .iter()
                    .map(|(path, change)| ArrivalRow { path: path.clone(), change: change_of(path, *change) })
                    .collect();
                writer.append(rows.clone()).unwrap();
                if i == whole && !rows.is_empty() {
                    // The machine crashes while this frame is written.
                    let len = file.metadata().unwrap().len();
                    File::options().write(true).open(&file).unwrap().set_len((before + len) / 2).unwrap();
                    break;
                }
                if i < whole {
                    said.extend(rows.into_iter().map(|row| (row.path, row.change)));
                } else {
                    break;
                }
            }
            let (read, fresh, reader) = ArrivalsReader::open(&file, &Env::real()).unwrap().unwrap();
            prop_assert_eq!((read, fresh), (BaseHeader::example(3), true));
            let found: Vec<(TreePath, Change)> =
                reader.map(|row| row.map(|row| (row.path, row.change)).unwrap()).collect();
            prop_assert_eq!(&found, &said.clone().into_iter().collect::<Vec<_>>());

            let mut model: BTreeMap<TreePath, BaseRow> =
                base.iter().map(|(path, size)| (path.clone(), row(path, *size))).collect();
            for (path, change) in said {
                match change {
                    Change::Set(row) => drop(model.insert(path, row)),
                    Change::Coming { row, inode, .. }
                        if staged.as_ref().is_some_and(|staged| {
                            staged.get(&inode).is_none_or(|staged| staged.size != row.entry.size())
                        }) =>
                    {
                        drop(model.insert(path, row));
                    }
                    Change::Extracting { row, inode, .. }
                        if staged.as_ref().is_some_and(|staged| !staged.contains_key(&inode)) =>
                    {
                        drop(model.insert(path, row));
                    }
                    Change::Came { row, print }
                        if staged.as_ref().and_then(|staged| staged.get(&print.inode)) != Some(&print) =>
                    {
                        drop(model.insert(path, row));
                    }
                    // Without a loss of power, it is in place.
                    Change::CameOut { row, .. } => drop(model.insert(path, row)),
                    Change::Extracting { row, .. } => {
                        drop(model.insert(path, BaseRow { archive: Archive::Pending, ..row }));
                    }
                    Change::Unset => drop(model.remove(&path)),
                    Change::Coming { .. } | Change::Came { .. } | Change::Void => {}
                }
            }
            let (_, _, reader) = ArrivalsReader::open(&file, &Env::real()).unwrap().unwrap();
            let old = base.iter().map(|(path, size)| Ok(row(path, *size))).collect::<Vec<_>>();
            let overlaid: Vec<BaseRow> =
                Overlaid::new(old.into_iter(), reader, staged.map_or(Proof::None, Proof::NotStaged)).map(Result::unwrap).collect();
            prop_assert_eq!(overlaid, model.into_values().collect::<Vec<_>>());
        }
    }
}
