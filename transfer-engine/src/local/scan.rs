//! The scan's walk through a mount: parallel, limited to the scope, and in tree order.
//!
//! The walk is one depth-first pass on the caller's thread. Helper threads run ahead of it: whenever a
//! directory has been listed, its subdirectories go onto a stack, from which the helpers list the next ones.
//! The number of entries listed ahead is limited. If the pass needs a directory that no helper has started,
//! it lists the directory itself, so it never waits for a helper that waits for it.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};

use policy_core::{Entry, Node, TreePath};
use rustix::fs::{Dir, FileType};

use super::file_systems::{FileSystems, Looked};
use super::fingerprint::Fingerprint;
use super::git_dir::{GitMarks, is_passing};
use super::look::Look;
use super::mount_dir::{MountDir, open_dir, read_link_at};
use super::special::Special;
use crate::env::JobLost;

/// Which paths a scan visits.
pub(crate) trait ScanFilter: Send + Sync {
    /// Whether the path takes part.
    fn contains(&self, path: &TreePath, is_dir: bool) -> bool;
    /// Whether anything below the directory may take part.
    fn may_hold(&self, dir: &TreePath) -> bool;
    /// Whether the content of the file system that begins at this path takes part.
    fn enters(&self, place: &TreePath) -> bool;
    /// Whether the directory with this device and inode belongs to the program itself, whatever path leads to
    /// it.
    fn is_ours(&self, _identity: (u64, u64)) -> bool {
        false
    }
}

/// One path that a scan found.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) path: TreePath,
    pub(crate) kind: FoundKind,
}

#[derive(Debug)]
pub(crate) enum FoundKind {
    File(Fingerprint),
    Symlink {
        target: Box<[u8]>,
        print: Fingerprint,
    },
    /// A directory that a tree lists: nothing in scope is in it, or its mode is not 0755.
    Dir {
        print: Fingerprint,
        empty: bool,
        /// Whether something out of scope is in it.
        hides: bool,
    },
    /// A temporary file of git's: left out, and not missing.
    Passing,
    /// A socket, FIFO or device: never opened.
    Unsupported(Special),
    /// The content can't be read; with `whole_dir`, neither can anything below.
    Unreadable {
        error: io::Error,
        whole_dir: bool,
    },
}

/// The most entries that helpers may list ahead of the pass.
const MAX_AHEAD: usize = 50_000;
/// The most directory handles that stay open for opening subdirectories. Beyond that, directories are opened
/// by path, which takes more time but no descriptor.
const MAX_HANDLES: usize = 128;
/// The handles take at most one part in this many of the descriptors that the process may open.
const HANDLES_PART: u64 = 8;

/// Returns how many directory handles may stay open.
fn max_handles() -> usize {
    let allowed = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let part = allowed.map_or(u64::MAX, |allowed| allowed / HANDLES_PART);
    usize::try_from(part).unwrap_or(usize::MAX).min(MAX_HANDLES)
}

/// A running scan; it yields paths in tree order.
pub(crate) struct Scan {
    shared: Arc<Shared>,
    frames: Vec<Frame>,
    /// A directory that waits until it is known whether something follows below it.
    pending: Option<Found>,
    ready: VecDeque<Found>,
    /// Temporary files of git's in the waiting directory.
    passing: Vec<Found>,
}

/// Where a scan begins, and what it leaves out.
pub(crate) struct ScanPlan {
    pub(crate) filter: Arc<dyn ScanFilter>,
    pub(crate) look: Arc<Look>,
    /// The directory to scan.
    pub(crate) from: TreePath,
    /// Whether to leave out git's temporary files.
    pub(crate) leaves_passing: bool,
    /// Where other file systems begin, as far as already known.
    pub(crate) file_systems: Arc<FileSystems>,
}

struct Frame {
    path: TreePath,
    items: std::vec::IntoIter<Item>,
}

struct Item {
    name: Box<[u8]>,
    kind: ItemKind,
}

enum ItemKind {
    Leaf(FoundKind),
    Dir { print: Fingerprint, in_scope: bool, listing: Option<Arc<Slot>> },
}

/// The content of a directory.
struct Listing {
    /// Paths in scope, and directories that lead to some; sorted.
    items: Vec<Item>,
    /// Whether there is anything else in the directory.
    hides: bool,
}

struct Shared {
    mount: MountDir,
    /// How many handles may stay open.
    max_handles: usize,
    /// How many handles are open.
    handles: Arc<AtomicUsize>,
    filter: Arc<dyn ScanFilter>,
    file_systems: Arc<FileSystems>,
    look: Arc<Look>,
    leaves_passing: bool,
    stack: Mutex<Stack>,
    wake: Condvar,
    ahead: AtomicUsize,
    has_helpers: bool,
}

struct Stack {
    /// These are weak, because a slot keeps its parent's handle open. Once the pass has visited a slot,
    /// nobody needs it.
    slots: Vec<Weak<Slot>>,
    closed: bool,
}

/// An open directory, which is counted.
struct Handle {
    dir: OwnedFd,
    open: Arc<AtomicUsize>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A directory that the pass or a helper is to list.
struct Slot {
    path: TreePath,
    /// The parent directory; `None` if too many are open, so that it is opened by path.
    parent: Option<Arc<Handle>>,
    /// The directory's inode when its parent was listed.
    inode: u64,
    /// Whether it is inside a git directory.
    in_git: bool,
    state: Mutex<SlotState>,
    done: Condvar,
}

enum SlotState {
    Waiting,
    Running,
    Done(io::Result<Listing>),
    Taken,
}

impl Slot {
    fn waiting(path: TreePath, parent: Option<Arc<Handle>>, inode: u64, in_git: bool) -> Self {
        let (state, done) = (Mutex::new(SlotState::Waiting), Condvar::new());
        Self { path, parent, inode, in_git, state, done }
    }
}

/// Returns what was found for anything but a directory.
fn leaf(dir: &OwnedFd, name: &[u8], kind: FileType, print: Fingerprint) -> FoundKind {
    match kind {
        FileType::RegularFile => FoundKind::File(print),
        FileType::Symlink => match read_link_at(dir, name) {
            Ok(target) => FoundKind::Symlink { target, print },
            Err(error) => FoundKind::Unreadable { error, whole_dir: false },
        },
        kind => FoundKind::Unsupported(Special::of(kind)),
    }
}

impl Scan {
    /// Starts a scan of `mount`. Fails only if the directory in which it begins can't be listed.
    pub(crate) fn start(mount: &MountDir, plan: ScanPlan) -> io::Result<Self> {
        // The pass takes one thread; there is one helper for each further core.
        Self::with_helpers(mount, plan, mount.env().parallelism() - 1)
    }

    /// Starts a scan of the whole `mount` without helpers.
    pub(crate) fn alone(mount: &MountDir, filter: Arc<dyn ScanFilter>) -> io::Result<Self> {
        let look = Arc::new(Look::begin(mount.env()));
        let (from, file_systems) = (TreePath::root(), Arc::default());
        let plan = ScanPlan { filter, look, from, leaves_passing: false, file_systems };
        Self::with_helpers(mount, plan, 0)
    }

    fn with_helpers(mount: &MountDir, plan: ScanPlan, helpers: usize) -> io::Result<Self> {
        let ScanPlan { filter, look, from, leaves_passing, file_systems } = plan;
        let shared = Arc::new(Shared {
            mount: mount.clone(),
            max_handles: max_handles(),
            handles: Arc::default(),
            filter,
            file_systems,
            look,
            leaves_passing,
            stack: Mutex::new(Stack { slots: Vec::new(), closed: false }),
            wake: Condvar::new(),
            ahead: AtomicUsize::new(0),
            has_helpers: helpers > 0,
        });
        let handle = shared.handle(mount.dir(&from)?);
        let Listing { items, hides } = shared.list(&from, &handle, false)?;
        let print = Fingerprint::of(&rustix::fs::fstat(&handle.dir)?);
        let is_found = !from.is_root() && shared.filter.contains(&from, true);
        let pending = is_found
            .then(|| Found { path: from.clone(), kind: FoundKind::Dir { print, empty: true, hides } });
        shared.offer(&items);
        for _ in 0..helpers {
            let shared = shared.clone();
            mount.env().spawn_detached(move || shared.help());
        }
        let frames = vec![Frame { path: from, items: items.into_iter() }];
        Ok(Self { shared, frames, pending, ready: VecDeque::new(), passing: Vec::new() })
    }

    /// Returns where other file systems begin, as far as the scan has come; for paths that it has yielded, it
    /// is known.
    pub(crate) fn file_systems(&self) -> Arc<FileSystems> {
        self.shared.file_systems.clone()
    }

    fn step(&mut self) -> Option<Found> {
        loop {
            let frame = self.frames.last_mut()?;
            let Some(item) = frame.items.next() else {
                self.frames.pop();
                continue;
            };
            // The name came from a directory listing, so it is a valid component.
            let Ok(path) = frame.path.join(&item.name) else { continue };
            match item.kind {
                ItemKind::Leaf(kind) => return Some(Found { path, kind }),
                ItemKind::Dir { print, in_scope, listing } => {
                    let mut hides = false;
                    if let Some(slot) = listing {
                        match self.shared.take(&slot) {
                            Ok(Listing { items, hides: hidden }) => {
                                hides = hidden;
                                self.frames.push(Frame { path: path.clone(), items: items.into_iter() });
                            }
                            // The directory vanished meanwhile, with everything below it.
                            Err(e) if is_gone(&e) => {
                                self.shared.look.note_gone(&frame.path);
                                continue;
                            }
                            Err(error) => {
                                return Some(Found {
                                    path,
                                    kind: FoundKind::Unreadable { error, whole_dir: true },
                                });
                            }
                        }
                    }
                    if in_scope {
                        return Some(Found { path, kind: FoundKind::Dir { print, empty: true, hides } });
                    }
                }
            }
        }
    }
}

impl Iterator for Scan {
    type Item = Found;

    fn next(&mut self) -> Option<Found> {
        loop {
            if let Some(found) = self.ready.pop_front() {
                return Some(found);
            }
            let next = self.step();
            // A temporary file does not make the tree list its directory.
            if let (Some(dir), Some(Found { kind: FoundKind::Passing, path })) = (&mut self.pending, &next)
                && path.is_below(&dir.path)
            {
                if let FoundKind::Dir { hides, .. } = &mut dir.kind {
                    *hides = true;
                }
                self.passing.extend(next);
                continue;
            }
            let held = self.pending.take();
            match (held, next) {
                (None, None) => return None,
                (Some(held), None) => {
                    self.ready.extend(self.passing.drain(..));
                    return Some(held);
                }
                (held, Some(found)) => {
                    if let Some(mut dir) = held {
                        let below = found.path.is_below(&dir.path);
                        let FoundKind::Dir { print, empty, .. } = &mut dir.kind else { continue };
                        if !below || print.mode != Entry::IMPLIED_DIR.mode {
                            *empty = !below;
                            self.ready.push_back(dir);
                        }
                    }
                    self.ready.extend(self.passing.drain(..));
                    if matches!(found.kind, FoundKind::Dir { .. }) {
                        self.pending = Some(found);
                    } else {
                        self.ready.push_back(found);
                    }
                }
            }
        }
    }
}

impl Drop for Scan {
    fn drop(&mut self) {
        lock(&self.shared.stack).closed = true;
        self.shared.wake.notify_all();
    }
}

/// A listing that a helper makes. If the helper panics, whoever waits for it gets an error.
struct Running<'a>(&'a Slot);

impl Running<'_> {
    fn end(self, result: io::Result<Listing>) {
        *lock(&self.0.state) = SlotState::Done(result);
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let mut state = lock(&self.0.state);
        if matches!(*state, SlotState::Running) {
            *state = SlotState::Done(Err(JobLost.into()));
        }
        self.0.done.notify_all();
    }
}

impl Shared {
    /// Puts the subdirectories of a listing on the stack, with the first on top.
    fn offer(&self, items: &[Item]) {
        if !self.has_helpers {
            return;
        }
        let slots = items.iter().rev().filter_map(|item| match &item.kind {
            ItemKind::Dir { listing: Some(slot), .. } => Some(Arc::downgrade(slot)),
            _ => None,
        });
        let mut stack = lock(&self.stack);
        let before = stack.slots.len();
        stack.slots.extend(slots);
        if stack.slots.len() > before {
            self.wake.notify_all();
        }
    }

    fn help(&self) {
        loop {
            let slot = {
                let mut stack = lock(&self.stack);
                loop {
                    if stack.closed {
                        return;
                    }
                    if self.ahead.load(Ordering::Relaxed) < MAX_AHEAD
                        && let Some(slot) = stack.slots.pop()
                    {
                        break slot;
                    }
                    stack = self.wake.wait(stack).unwrap_or_else(PoisonError::into_inner);
                }
            };
            let Some(slot) = slot.upgrade() else { continue };
            let mut state = lock(&slot.state);
            if !matches!(*state, SlotState::Waiting) {
                continue;
            }
            *state = SlotState::Running;
            drop(state);
            let running = Running(&slot);
            let result = self.list_slot(&slot);
            if let Ok(listing) = &result {
                self.ahead.fetch_add(listing.items.len(), Ordering::Relaxed);
                self.offer(&listing.items);
            }
            running.end(result);
        }
    }

    /// Returns the listing of a directory, made by a helper or here.
    fn take(&self, slot: &Slot) -> io::Result<Listing> {
        let mut state = lock(&slot.state);
        loop {
            match std::mem::replace(&mut *state, SlotState::Taken) {
                SlotState::Waiting => {
                    drop(state);
                    let listing = self.list_slot(slot)?;
                    self.offer(&listing.items);
                    return Ok(listing);
                }
                SlotState::Done(result) => {
                    if let Ok(listing) = &result {
                        self.ahead.fetch_sub(listing.items.len(), Ordering::Relaxed);
                        self.wake.notify_all();
                    }
                    return result;
                }
                running => {
                    *state = running;
                    state = slot.done.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }

    fn list_slot(&self, slot: &Slot) -> io::Result<Listing> {
        let dir = match &slot.parent {
            Some(parent) => open_dir(&parent.dir, slot.path.name())?,
            // A directory above it may have been replaced.
            None => {
                let dir = self.mount.dir(&slot.path)?;
                if rustix::fs::fstat(&dir)?.st_ino != slot.inode {
                    self.look.note_gone(&slot.path);
                }
                dir
            }
        };
        self.list(&slot.path, &self.handle(dir), slot.in_git)
    }

    fn handle(&self, dir: OwnedFd) -> Arc<Handle> {
        self.handles.fetch_add(1, Ordering::Relaxed);
        Arc::new(Handle { dir, open: self.handles.clone() })
    }

    fn list(&self, path: &TreePath, handle: &Arc<Handle>, in_git: bool) -> io::Result<Listing> {
        let dir = &handle.dir;
        self.mount.env().check_looking("getdents64", || self.mount.show(path))?;
        let mut marks = GitMarks::default();
        let keep = self.handles.load(Ordering::Relaxed) <= self.max_handles;
        let here = Looked::of_dir(dir)?.file_system;
        let mut items = Vec::new();
        let mut hides = false;
        for entry in Dir::read_from(dir)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            // Skip staging directories, including those of a mount or restore inside this one.
            if name == b"." || name == b".." || super::staged::is_staging(dir, name) {
                continue;
            }
            let Ok(child) = path.join(name) else { continue };
            // The type is checked first, so that paths out of scope need no stat.
            let stat = match entry.file_type() {
                FileType::Unknown => match Looked::at(dir, name) {
                    Ok(stat) => stat,
                    Err(e) => {
                        items.extend(unreadable(name, e));
                        continue;
                    }
                },
                _ => None,
            };
            let is_dir = match &stat {
                Some(stat) => stat.kind == FileType::Directory,
                None => entry.file_type() == FileType::Directory,
            };
            marks.note(name, is_dir);
            let in_scope = self.filter.contains(&child, is_dir);
            let walk = is_dir && self.filter.may_hold(&child);
            if !in_scope && !walk {
                hides = true;
                continue;
            }
            let stat = match stat.map_or_else(|| Looked::at(dir, name), |s| Ok(Some(s))) {
                Ok(Some(stat)) => stat,
                Ok(None) => {
                    self.look.note_gone(path);
                    continue;
                }
                Err(e) => {
                    items.extend(unreadable(name, e));
                    continue;
                }
            };
            if stat.begins(&here) {
                if !self.filter.enters(&child) {
                    hides = true;
                    continue;
                }
                self.file_systems.note(child.clone());
            }
            let print = stat.print;
            let kind = match stat.kind {
                FileType::Directory if self.filter.is_ours(stat.identity()) => {
                    hides = true;
                    continue;
                }
                FileType::Directory => {
                    let parent = keep.then(|| handle.clone());
                    let listing = walk.then(|| Arc::new(Slot::waiting(child, parent, print.inode, in_git)));
                    ItemKind::Dir { print, in_scope, listing }
                }
                // It was a directory a moment ago, and what it is now is out of scope.
                _ if !in_scope => continue,
                kind => ItemKind::Leaf(leaf(dir, name, kind, print)),
            };
            items.push(Item { name: name.into(), kind });
        }
        items.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        if in_git || marks.are_all_there() {
            self.enter_git(path, &mut items);
        }
        self.look.note_dir(path, &Fingerprint::of(&rustix::fs::fstat(dir)?));
        Ok(Listing { items, hides })
    }
}

impl Shared {
    /// Marks what is inside a git directory.
    fn enter_git(&self, path: &TreePath, items: &mut [Item]) {
        self.look.note_git(path);
        for item in items {
            match &mut item.kind {
                ItemKind::Dir { listing: Some(slot), .. } => {
                    // No other thread has the slot yet.
                    if let Some(slot) = Arc::get_mut(slot) {
                        slot.in_git = true;
                    }
                }
                ItemKind::Leaf(kind) if self.leaves_passing && is_passing(path, &item.name) => {
                    *kind = FoundKind::Passing;
                }
                _ => {}
            }
        }
    }
}

/// Whether the error means that a listed directory is gone or is no directory any longer.
fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
        || error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error())
}

fn unreadable(name: &[u8], error: io::Error) -> Option<Item> {
    let kind = FoundKind::Unreadable { error, whole_dir: true };
    Some(Item { name: name.into(), kind: ItemKind::Leaf(kind) })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl FoundKind {
    /// Returns the tree entry if no content has to be read: for a link or a directory.
    pub(crate) fn entry(&self) -> Option<Entry> {
        match self {
            Self::Symlink { target, print } => Some(Entry {
                node: Node::Symlink { target: target.clone() },
                mode: 0o777,
                mtime: print.mtime,
                uploaded: 0,
            }),
            Self::Dir { print, .. } => {
                Some(Entry { node: Node::Dir, mode: print.mode, mtime: print.mtime, uploaded: 0 })
            }
            _ => None,
        }
    }
}
