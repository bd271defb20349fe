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
/// Directory handles that are kept open to find subdirectories by; with more, they are found by their path,
/// which costs time and no descriptor.
const MAX_HANDLES: usize = 128;

/// A walk under way; yields what it finds in tree order.
pub(crate) struct Scan {
    shared: Arc<Shared>,
    frames: Vec<Frame>,
    /// A directory that is held back until it is known whether something follows below it.
    pending: Option<Found>,
    ready: VecDeque<Found>,
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
    /// How many handles are open.
    handles: Arc<AtomicUsize>,
    filter: Arc<dyn ScanFilter>,
    file_systems: Arc<FileSystems>,
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
    state: Mutex<SlotState>,
    done: Condvar,
}

enum SlotState {
    Waiting,
    Running,
    Done(io::Result<Listing>),
    Taken,
}

impl Scan {
    /// Starts a walk over `mount`. Fails only if the mount itself can't be listed.
    pub(crate) fn start(mount: &MountDir, filter: Arc<dyn ScanFilter>) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            mount: mount.clone(),
            handles: Arc::default(),
            filter,
            file_systems: Arc::default(),
            stack: Mutex::new(Stack { slots: Vec::new(), closed: false }),
            wake: Condvar::new(),
            ahead: AtomicUsize::new(0),
            has_helpers: mount.env().parallelism() > 1,
        });
        let root = TreePath::root();
        let handle = shared.handle(mount.root().try_clone()?);
        let Listing { items, .. } = shared.list(&root, &handle)?;
        shared.offer(&items);
        // The pass itself is one thread; one more for each further core lists ahead of it.
        for _ in 1..mount.env().parallelism() {
            let shared = shared.clone();
            mount.env().spawn_detached(move || shared.help());
        }
        let frames = vec![Frame { path: root, items: items.into_iter() }];
        Ok(Self { shared, frames, pending: None, ready: VecDeque::new() })
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
                            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
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
            let held = self.pending.take();
            match (held, next) {
                (None, None) => return None,
                (Some(held), None) => return Some(held),
                (held, Some(found)) => {
                    if let Some(mut dir) = held {
                        let below = found.path.is_below(&dir.path);
                        let FoundKind::Dir { print, empty, .. } = &mut dir.kind else { continue };
                        if !below || print.mode != Entry::IMPLIED_DIR.mode {
                            *empty = !below;
                            self.ready.push_back(dir);
                        }
                    }
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
            None => self.mount.dir(&slot.path)?,
        };
        self.list(&slot.path, &self.handle(dir))
    }

    fn handle(&self, dir: OwnedFd) -> Arc<Handle> {
        self.handles.fetch_add(1, Ordering::Relaxed);
        Arc::new(Handle { dir, open: self.handles.clone() })
    }

    fn list(&self, path: &TreePath, handle: &Arc<Handle>) -> io::Result<Listing> {
        let dir = &handle.dir;
        let keep = self.handles.load(Ordering::Relaxed) <= MAX_HANDLES;
        let here = Looked::of_dir(dir)?.place;
        let mut items = Vec::new();
        let mut hides = false;
        for entry in Dir::read_from(dir)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." || (path.is_root() && super::staging::is_staging(dir, name)) {
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
            let in_scope = self.filter.contains(&child, is_dir);
            let walk = is_dir && self.filter.may_hold(&child);
            if !in_scope && !walk {
                hides = true;
                continue;
            }
            let stat = match stat.map_or_else(|| Looked::at(dir, name), |s| Ok(Some(s))) {
                Ok(Some(stat)) => stat,
                Ok(None) => continue,
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
                    let listing = walk.then(|| {
                        Arc::new(Slot {
                            path: child,
                            parent: keep.then(|| handle.clone()),
                            state: Mutex::new(SlotState::Waiting),
                            done: Condvar::new(),
                        })
                    });
                    ItemKind::Dir { print, in_scope, listing }
                }
                FileType::RegularFile if in_scope => ItemKind::Leaf(FoundKind::File(print)),
                FileType::Symlink if in_scope => match read_link_at(dir, name) {
                    Ok(target) => ItemKind::Leaf(FoundKind::Symlink { target, print }),
                    Err(error) => ItemKind::Leaf(FoundKind::Unreadable { error, whole_dir: false }),
                },
                kind if in_scope => ItemKind::Leaf(FoundKind::Unsupported(Special::of(kind))),
                // It was a directory a moment ago, and as what it is now it is out of scope.
                _ => continue,
            };
            items.push(Item { name: name.into(), kind });
        }
        items.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(Listing { items, hides })
    }
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
