//! A walk over a mount: parallel, pruned by the scope, and in tree order.
//!
//! The walk itself is one depth-first pass on the caller's thread. Helpers run ahead of it: whenever a
//! directory has been listed, its subdirectories go onto a stack from which they list the next ones. What
//! they hold in advance is bounded; what the pass needs and nobody has begun it lists itself, so that it
//! never waits for a helper that waits for it.

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

/// Which paths a scan looks at.
pub(crate) trait ScanFilter: Send + Sync {
    /// Whether the path takes part.
    fn contains(&self, path: &TreePath, is_dir: bool) -> bool;
    /// Whether anything below the directory may take part.
    fn may_hold(&self, dir: &TreePath) -> bool;
    /// Whether what is in the file system that begins at this place takes part.
    fn enters(&self, place: &TreePath) -> bool;
    /// Whether the directory of this device and inode is one of our own, by whatever path it was met.
    fn is_ours(&self, _identity: (u64, u64)) -> bool {
        false
    }
}

/// One path that a scan met.
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
    /// A directory that a tree lists: one in which nothing in scope is, or whose mode is not 0755.
    Dir {
        print: Fingerprint,
        empty: bool,
        /// Whether something out of scope is in it.
        hides: bool,
    },
    /// A file that is there only while git works on it: left out, and not missing.
    Passing,
    /// A socket, FIFO or device: never opened.
    Unsupported(Special),
    /// What is here can't be told; with `whole_dir`, nor what is below.
    Unreadable {
        error: io::Error,
        whole_dir: bool,
    },
}

/// Listings that helpers may hold in advance, counted in entries.
const MAX_AHEAD: usize = 50_000;
/// Directory handles that are kept open to find subdirectories by, at the most; with more, they are found by their
/// path, which costs time and no descriptor.
const MAX_HANDLES: usize = 128;
/// This part of the descriptors that the process may open is for them.
const HANDLES_PART: u64 = 8;

/// Returns how many directory handles are kept open here.
fn max_handles() -> usize {
    let allowed = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let part = allowed.map_or(u64::MAX, |allowed| allowed / HANDLES_PART);
    usize::try_from(part).unwrap_or(usize::MAX).min(MAX_HANDLES)
}

/// A walk under way; yields what it finds in tree order.
pub(crate) struct Scan {
    shared: Arc<Shared>,
    frames: Vec<Frame>,
    /// A directory that is held back until it is known whether something follows below it.
    pending: Option<Found>,
    ready: VecDeque<Found>,
    /// What is passing in the directory that is held back.
    passing: Vec<Found>,
}

/// Where a scan begins, and what it leaves out.
pub(crate) struct ScanPlan {
    pub(crate) filter: Arc<dyn ScanFilter>,
    pub(crate) look: Arc<Look>,
    /// The directory that is walked.
    pub(crate) from: TreePath,
    /// Whether files are passed over that are there only while git works on them.
    pub(crate) leaves_passing: bool,
    /// Where other file systems begin, as far as that is known before.
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

/// What is in a directory.
struct Listing {
    /// What takes part, and the directories that lead there; sorted.
    items: Vec<Item>,
    /// Whether there is anything else.
    hides: bool,
}

struct Shared {
    mount: MountDir,
    /// How many handles may be kept open.
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
    /// Weak, because a slot holds its parent's handle open: once the pass has been there, nobody needs it.
    slots: Vec<Weak<Slot>>,
    closed: bool,
}

/// An open directory, counted.
struct Handle {
    dir: OwnedFd,
    open: Arc<AtomicUsize>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A directory to be listed, by whoever comes first.
struct Slot {
    path: TreePath,
    /// The directory that holds it; `None` when so many are open that it is to be found by its path.
    parent: Option<Arc<Handle>>,
    /// Which directory it was when its parent was listed.
    inode: u64,
    /// Whether it lies in a directory of git's.
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

/// Returns what something that is no directory was found to be.
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
    /// Starts a walk over `mount`. Fails only if the directory in which it begins can't be listed.
    pub(crate) fn start(mount: &MountDir, plan: ScanPlan) -> io::Result<Self> {
        // The pass itself is one thread; one more for each further core lists ahead of it.
        Self::with_helpers(mount, plan, mount.env().parallelism() - 1)
    }

    /// Starts a walk over all of `mount` for which no other thread works.
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

    /// Returns where other file systems begin, as far as the walk has come: what it has yielded is known.
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
            // The name came from a directory listing: it is a valid component.
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
                            // It vanished in the meantime, with everything below it.
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
            // Nothing shows by it, nor the directory that it is in.
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

impl Shared {
    /// Puts the subdirectories of a listing on the stack, the first on top.
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
            let result = self.list_slot(&slot);
            if let Ok(listing) = &result {
                self.ahead.fetch_add(listing.items.len(), Ordering::Relaxed);
                self.offer(&listing.items);
            }
            *lock(&slot.state) = SlotState::Done(result);
            slot.done.notify_all();
        }
    }

    /// Returns the listing of a directory: a helper's, or one made here.
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
            // Another directory may have taken the place of one above it.
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
        let mut marks = GitMarks::default();
        let keep = self.handles.load(Ordering::Relaxed) <= self.max_handles;
        let here = Looked::of_dir(dir)?.place;
        let mut items = Vec::new();
        let mut hides = false;
        for entry in Dir::read_from(dir)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            // Also one of a mount or restore further in.
            if name == b"." || name == b".." || super::staged::is_staging(dir, name) {
                continue;
            }
            let Ok(child) = path.join(name) else { continue };
            // The type decides before anything else is asked: what is out of scope costs no stat.
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
                // It was a directory a moment ago, and as what it is now it is out of scope.
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
    /// Looks through what is in a directory of git's, or below one.
    fn enter_git(&self, path: &TreePath, items: &mut [Item]) {
        self.look.note_git(path);
        for item in items {
            match &mut item.kind {
                ItemKind::Dir { listing: Some(slot), .. } => {
                    // Nobody else has it yet.
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

/// Whether a directory that was listed a moment ago is none any more.
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
    /// Returns the tree entry of what needs no reading: a link or a directory.
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
