//! The staging directories of one pull: one on each file system that it writes to, because a rename can't
//! cross file systems.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use policy_core::TreePath;

use super::file_systems::FileSystems;
use super::mount_dir::MountDir;
use super::shelf::Shelf;
use super::staging::Staging;

/// Staging directories below one mount. All but the first are created when needed.
#[derive(Debug)]
pub(crate) struct Stagings {
    mount: MountDir,
    file_systems: Arc<FileSystems>,
    main: Arc<Staging>,
    below: Mutex<Vec<(TreePath, Arc<Staging>)>>,
    /// Whether the disk must have a file before it is put in place.
    waits: bool,
}

impl Stagings {
    /// Creates the staging directory in the mount's root.
    pub(crate) fn create(mount: &MountDir, file_systems: Arc<FileSystems>) -> io::Result<Self> {
        let main = Arc::new(Staging::create(mount)?);
        Ok(Self { mount: mount.clone(), file_systems, main, below: Mutex::default(), waits: true })
    }

    /// Says whether the disk must have a file before it is put in place. Below the mount, it always must.
    pub(crate) fn waiting(self, waits: bool) -> Self {
        Self { waits, ..self }
    }

    /// Returns the staging directory in the mount's root.
    pub(crate) fn main(&self) -> &Arc<Staging> {
        &self.main
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
            return Ok(self.main.clone());
        }
        let mut below = self.below.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, staging)) = below.iter().find(|(place, _)| *place == begin) {
            return Ok(staging.clone());
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
            self.main.sync()?;
        }
        self.sync_below()
    }

    /// The same for the file systems below the mount only.
    pub(crate) fn sync_below(&self) -> io::Result<()> {
        let below = self.below.lock().unwrap_or_else(PoisonError::into_inner).clone();
        below.iter().try_for_each(|(_, staging)| staging.sync())
    }

    /// Removes the staging directories and what a failed sync left in them, except for resumable files in the
    /// mount's root. Returns warnings for the user.
    pub(crate) fn finish(self, keep_resumable: bool) -> Vec<String> {
        let below = self.below.into_inner().unwrap_or_else(PoisonError::into_inner);
        let all = below.into_iter().map(|(_, staging)| (staging, false)).chain([(self.main, keep_resumable)]);
        all.filter_map(|(staging, keep)| Some(Arc::into_inner(staging)?.finish(keep))).flatten().collect()
    }
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
