//! Listing a scan's directories, by several threads.
//!
//! Helper threads run ahead of the scan's pass: whenever a directory has been listed, its subdirectories go onto a
//! stack, from which the helpers list the next ones. The number of entries listed ahead is limited. If the pass needs
//! a directory that no helper has started, it lists the directory itself, so it never waits for a helper that waits
//! for it.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};

use policy_core::TreePath;
use rustix::fs::{Dir, FileType};

use super::file_systems::{FileSystems, Looked};
use super::fingerprint::Fingerprint;
use super::found::{FoundKind, ScanFilter, ScanPlan};
use super::git_dir::{GitMarks, is_passing};
use super::look::Look;
use super::mount_dir::{MountDir, open_dir, read_link_at};
use super::special::Special;
use crate::env::JobLost;

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

/// An entry of a directory.
pub(super) struct Item {
    pub(super) name: Box<[u8]>,
    pub(super) kind: ItemKind,
}

pub(super) enum ItemKind {
    Leaf(FoundKind),
    Dir { print: Fingerprint, in_scope: bool, listing: Option<Arc<Slot>> },
}

/// The content of a directory.
pub(super) struct Listing {
    /// Paths in scope, and directories that lead to some; sorted.
    pub(super) items: Vec<Item>,
    /// Whether there is anything else in the directory.
    pub(super) hides: bool,
}

/// Lists directories, on the thread that needs them and ahead of it.
pub(super) struct Lister {
    mount: MountDir,
    /// How many handles may stay open.
    max_handles: usize,
    /// How many handles are open.
    handles: Arc<AtomicUsize>,
    pub(super) filter: Arc<dyn ScanFilter>,
    pub(super) file_systems: Arc<FileSystems>,
    pub(super) look: Arc<Look>,
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
pub(super) struct Slot {
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

impl Lister {
    /// Makes a lister. With `has_helpers`, other threads are to call [`help`](Self::help).
    pub(super) fn new(mount: &MountDir, plan: ScanPlan, has_helpers: bool) -> Self {
        let ScanPlan { filter, look, from: _, leaves_passing, file_systems } = plan;
        Self {
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
            has_helpers,
        }
    }

    /// Lists the directory with which a scan begins, and returns the directory's fingerprint too.
    pub(super) fn list_first(&self, from: &TreePath) -> io::Result<(Listing, Fingerprint)> {
        let handle = self.handle(self.mount.dir(from)?);
        let listing = self.list(from, &handle, false)?;
        let print = Fingerprint::of(&rustix::fs::fstat(&handle.dir)?);
        self.offer(&listing.items);
        Ok((listing, print))
    }

    /// Ends the helpers.
    pub(super) fn close(&self) {
        lock(&self.stack).closed = true;
        self.wake.notify_all();
    }

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

    /// Lists directories ahead of the pass until the scan ends.
    pub(super) fn help(&self) {
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
    pub(super) fn take(&self, slot: &Slot) -> io::Result<Listing> {
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

fn unreadable(name: &[u8], error: io::Error) -> Option<Item> {
    let kind = FoundKind::Unreadable { error, whole_dir: true };
    Some(Item { name: name.into(), kind: ItemKind::Leaf(kind) })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
