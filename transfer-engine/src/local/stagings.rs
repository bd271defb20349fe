//! The staging directories of one pull: one on each file system that it writes to, because a rename can't
//! cross file systems.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use policy_core::TreePath;

use super::file_systems::FileSystems;
use super::mount_dir::MountDir;
use super::shelf::Shelf;
use super::staging::Staging;

/// Staging directories below one mount. All but the first are created when needed. One that another program has removed
/// is created anew.
#[derive(Debug)]
pub(crate) struct Stagings {
    mount: MountDir,
    file_systems: Arc<FileSystems>,
    main: Mutex<Arc<Staging>>,
    below: Mutex<Vec<(TreePath, Arc<Staging>)>>,
    /// Those that were removed, for what a program may not have removed of them.
    gone: Mutex<Vec<Arc<Staging>>>,
    /// Whether the disk must have a file before it is put in place.
    waits: bool,
}

impl Stagings {
    /// Creates the staging directory in the mount's root.
    pub(crate) fn create(mount: &MountDir, file_systems: Arc<FileSystems>) -> io::Result<Self> {
        let main = Mutex::new(Arc::new(Staging::create(mount)?));
        let (below, gone) = Default::default();
        Ok(Self { mount: mount.clone(), file_systems, main, below, gone, waits: true })
    }

    /// Says whether the disk must have a file before it is put in place. Below the mount, it always must.
    pub(crate) fn waiting(self, waits: bool) -> Self {
        Self { waits, ..self }
    }

    /// Returns the staging directory in the mount's root, which may be gone.
    pub(crate) fn main(&self) -> Arc<Staging> {
        lock(&self.main).clone()
    }

    /// Whether `path` is on a file system below the mount.
    pub(crate) fn is_below(&self, path: &TreePath) -> bool {
        !self.file_systems.begin_of(&path.parent().unwrap_or_default()).is_root()
    }

    /// Returns the staging directory from which a file can be renamed to `path`.
    pub(crate) fn of(&self, path: &TreePath) -> io::Result<Arc<Staging>> {
        self.in_dir(&path.parent().unwrap_or_default())
    }

    /// Returns the staging directory from which a file can be renamed into a directory.
    pub(crate) fn in_dir(&self, dir: &TreePath) -> io::Result<Arc<Staging>> {
        let begin = self.file_systems.begin_of(dir);
        if begin.is_root() {
            let mut main = lock(&self.main);
            if main.is_gone() {
                let anew = Arc::new(Staging::create(&self.mount)?);
                lock(&self.gone).push(std::mem::replace(&mut *main, anew));
            }
            return Ok(main.clone());
        }
        let mut below = lock(&self.below);
        let at = below.iter().position(|(place, _)| *place == begin);
        match at {
            Some(at) if below[at].1.is_gone() => lock(&self.gone).push(below.swap_remove(at).1),
            Some(at) => return Ok(below[at].1.clone()),
            None => {}
        }
        let place = self.mount.inside(self.mount.dir(&begin)?, self.mount.show(&begin));
        let staging = Arc::new(Staging::create(&place)?.shown_by(&self.mount));
        below.push((begin, staging.clone()));
        Ok(staging)
    }

    /// Makes everything durable that was staged so far, where that has to be waited for, with one call for each file
    /// system. With `all`, it is waited for everywhere.
    pub(crate) fn sync(&self, all: bool) -> io::Result<()> {
        if all || self.waits {
            self.main().sync()?;
        }
        self.sync_below()
    }

    /// The same for the file systems below the mount only.
    pub(crate) fn sync_below(&self) -> io::Result<()> {
        let below = lock(&self.below).clone();
        below.iter().try_for_each(|(_, staging)| staging.sync())
    }

    /// Removes the staging directories and what a failed sync left in them, except for resumable files in the
    /// mount's root. Returns warnings for the user.
    pub(crate) fn finish(self, keep_resumable: bool) -> Vec<String> {
        let below = into_inner(self.below).into_iter().map(|(_, staging)| staging);
        let all = into_inner(self.gone).into_iter().chain(below).map(|staging| (staging, false));
        let all = all.chain([(into_inner(self.main), keep_resumable)]);
        all.filter_map(|(staging, keep)| Some(Arc::into_inner(staging)?.finish(keep))).flatten().collect()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn into_inner<T>(mutex: Mutex<T>) -> T {
    mutex.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// A [`Shelf`] on each file system, for one thread at a time.
pub(crate) struct Shelves<'a> {
    stagings: &'a Stagings,
    made: Vec<(Arc<Staging>, Shelf)>,
}

impl<'a> Shelves<'a> {
    pub(crate) fn new(stagings: &'a Stagings) -> Self {
        Self { stagings, made: Vec::new() }
    }

    /// Returns the shelf for a file to be put at `path`.
    pub(crate) fn of(&mut self, path: &TreePath) -> io::Result<&mut Shelf> {
        let staging = self.stagings.of(path)?;
        let known = self.made.iter().position(|(made, _)| Arc::ptr_eq(made, &staging));
        let at = known.unwrap_or(self.made.len());
        if known.is_none() {
            let shelf = Shelf::of(staging.clone());
            self.made.push((staging, shelf));
        }
        Ok(&mut self.made[at].1)
    }
}
