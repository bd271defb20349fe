//! The scan's walk through a mount: limited to the scope, and in tree order.
//!
//! The walk is one depth-first pass on the caller's thread. Directories are listed by several threads, which run
//! ahead of it ([`listing`](super::listing)).

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use policy_core::{Entry, TreePath};

use super::file_systems::FileSystems;
use super::found::{Found, FoundKind, ScanFilter, ScanPlan};
use super::listing::{Item, ItemKind, Lister, Listing};
use super::look::Look;
use super::mount_dir::MountDir;

/// A running scan; it yields paths in tree order.
pub(crate) struct Scan {
    lister: Arc<Lister>,
    frames: Vec<Frame>,
    /// A directory that waits until it is known whether something follows below it.
    pending: Option<Found>,
    ready: VecDeque<Found>,
    /// Temporary files of git's in the waiting directory.
    passing: Vec<Found>,
}

struct Frame {
    path: TreePath,
    items: std::vec::IntoIter<Item>,
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
        let from = plan.from.clone();
        let lister = Arc::new(Lister::new(mount, plan, helpers > 0));
        let (Listing { items, hides }, print) = lister.list_first(&from)?;
        let is_found = !from.is_root() && lister.filter.contains(&from, true);
        let pending = is_found
            .then(|| Found { path: from.clone(), kind: FoundKind::Dir { print, empty: true, hides } });
        for _ in 0..helpers {
            let lister = lister.clone();
            mount.env().spawn_detached(move || lister.help());
        }
        let frames = vec![Frame { path: from, items: items.into_iter() }];
        Ok(Self { lister, frames, pending, ready: VecDeque::new(), passing: Vec::new() })
    }

    /// Returns where other file systems begin, as far as the scan has come; for paths that it has yielded, it
    /// is known.
    pub(crate) fn file_systems(&self) -> Arc<FileSystems> {
        self.lister.file_systems.clone()
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
                        match self.lister.take(&slot) {
                            Ok(Listing { items, hides: hidden }) => {
                                hides = hidden;
                                self.frames.push(Frame { path: path.clone(), items: items.into_iter() });
                            }
                            // The directory vanished meanwhile, with everything below it.
                            Err(e) if is_gone(&e) => {
                                self.lister.look.note_gone(&frame.path);
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
        self.lister.close();
    }
}

/// Whether the error means that a listed directory is gone or is no directory any longer.
fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
        || error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error())
}
