//! A mount: a directory at which a context is worked on.

mod arrivals;
mod context_part;
mod head;
mod known;
mod required;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use policy_core::{
    ConflictPolicy, Digest, ListMarks, MaxDelete, Rules, Scope, SyncPolicy, Towards, TreePath, looks_lost,
};

use crate::changes::{DeltaOptions, DeltaStats, EarlyWalk, is_empty};
use crate::error::Error;
use crate::format::{ContextName, sha256};
use crate::local::{FileSystems, MountDir, absolute, recover, recover_below};
use crate::monitor::Monitor;
use crate::options::SyncOptions;
use crate::own_places::OwnPlaces;
use crate::plan::Filter;
use crate::report::SyncReport;
use crate::state::{
    Alone, Arriving, BaseHeader, BaseReader, BaseRow, Cache, ContextState, Held, MountState, NextBase,
    ScopeId,
};
use crate::status::{StatusBoard, StatusKeeper, TaskType};
use crate::store::{At, Head, Store};
use crate::tree::{Part, PartTree, Tree};

pub(crate) use self::arrivals::may_lack;
pub use self::context_part::ContextPart;
use self::head::Stay;
pub use self::known::was_synced_with;
pub(crate) use self::required::is_here;

/// A context, the path at which it is worked on, and the policy of its sync.
#[derive(Debug, Clone)]
pub struct ContextSync {
    /// The context's name, which is its id.
    pub context: ContextName,
    /// The directory of the context that the mount has; the root stands for the whole context.
    pub part: TreePath,
    /// The mount's path.
    pub path: PathBuf,
    /// When, what and how is synced.
    pub policy: SyncPolicy,
    /// Paths without which a session does not open, beside those of the policy. Other syncs ignore them.
    pub required: Vec<TreePath>,
    /// Whether nothing of the mount may go to the context: it is not created, and pushes are refused.
    pub read_only: bool,
    /// The snapshot that is pulled. With any but the head, the mount stays at it, and is read-only.
    pub at: At,
}

impl ContextSync {
    /// Binds a context to a path by a policy.
    pub fn new(context: ContextName, path: impl Into<PathBuf>, policy: SyncPolicy) -> Self {
        let (part, required) = (TreePath::root(), Vec::new());
        Self { context, part, path: path.into(), policy, required, read_only: false, at: At::Head }
    }

    /// Restricts the mount to a directory of the context. The policy's paths are then below that directory. Nothing
    /// outside of it is pulled, pushed or changed.
    #[must_use]
    pub fn with_part(self, part: TreePath) -> Self {
        Self { part, ..self }
    }

    /// Whether nothing of the mount may go to the context, because that was asked for, or because the mount stays at a
    /// snapshot.
    pub fn is_read_only(&self) -> bool {
        self.read_only || self.at != At::Head
    }
}

/// A mount that this process has locked, until it is dropped.
#[derive(Debug)]
pub struct Mount {
    pub(crate) store: Store,
    pub(crate) context: ContextName,
    /// The directory of the context that the mount has.
    pub(crate) part: Part,
    pub(crate) policy: SyncPolicy,
    /// Absolute and without links.
    pub(crate) path: PathBuf,
    pub(crate) state: MountState,
    pub(crate) files: ContextState,
    pub(crate) scope: Arc<Scope>,
    pub(crate) board: StatusBoard,
    pub(crate) arriving: Arc<Arriving>,
    own: OwnPlaces,
    read_only: bool,
    at: At,
    /// Where the mount stays, once that is known.
    stay: OnceLock<Stay>,
    /// What was last warned of.
    warned: Mutex<BTreeMap<Topic, String>>,
}

/// What a warning is about that each sync of a session would repeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Topic {
    /// What no context can hold.
    Specials,
    /// Deletions that stay held back.
    Held,
    /// File systems that are not there.
    Unmounted,
    /// Recycle rules that the context can't note.
    Recycling,
}

impl Mount {
    /// Locks a mount. The directory need not exist; the state of all mounts is kept in `state_dir`.
    ///
    /// # Errors
    /// [`Error::Locked`] if another process holds it, [`Error::Policy`] if the policy can't be used with it,
    /// [`Error::NotBuilt`] if the policy extracts archives and this crate was built without the feature `archives`.
    pub fn open(store: &Store, sync: ContextSync, state_dir: &Path) -> Result<Self, Error> {
        let path = absolute(&sync.path).map_err(|e| Error::local("find", &sync.path, e))?;
        let extracts = sync.policy.extract_policy.as_ref().is_some_and(|policy| policy.extract);
        if extracts && !cfg!(feature = "archives") {
            return Err(Error::NotBuilt { mount: path, needs: "extracts archives", feature: "archives" });
        }
        let scope = Arc::new(mount_scope(&sync.policy, &sync.path)?);
        let state = MountState::lock(state_dir, &path)?;
        let part = Part::new(sync.part.clone());
        let files = state.context(store.location(), &sync.context, part.digest(), store.env())?;
        let own = OwnPlaces::find(&path, Some(state_dir), store.place(), &[])?;
        let board = StatusBoard::open(store.env(), state.dir(), store.location());
        let board = board.map_err(|e| Error::local("read the status in", state.dir(), e))?;
        let read_only = sync.is_read_only();
        Ok(Self {
            store: store.clone(),
            context: sync.context,
            part,
            policy: sync.policy,
            path,
            state,
            files,
            scope,
            board,
            arriving: Arc::default(),
            own,
            read_only,
            at: sync.at,
            stay: OnceLock::new(),
            warned: Mutex::default(),
        })
    }

    /// Returns the mount's path, absolute and without links.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the mount was last synced with its context, or the part of it, by what this machine remembers.
    ///
    /// # Errors
    /// The local state can't be read.
    pub fn was_synced(&self) -> Result<bool, Error> {
        Ok(self.files.header()?.is_some() || self.has_arrivals()?)
    }

    /// Whether a pull was interrupted, and it is noted what it brought.
    pub(crate) fn has_arrivals(&self) -> Result<bool, Error> {
        match self.files.read_arrivals() {
            Err(e) if e.is_damaged_state() => Ok(false),
            arrivals => Ok(arrivals?.is_some()),
        }
    }

    /// Returns the warnings that the policy's paths give reason for, before anything is synced. An absolute path that
    /// is read as one below the mount gets no warning if something is there, or if the mount is still empty: then
    /// the sync finds out whether the context has the path, and reports it.
    pub fn warnings(&self) -> Vec<String> {
        let is_empty = std::fs::read_dir(&self.path)
            .map_or_else(|e| e.kind() == io::ErrorKind::NotFound, |mut entries| entries.next().is_none());
        let is_plain = |place: &TreePath| is_empty || holds(&self.path, place);
        let warnings = self.scope.warnings().iter();
        warnings.filter(|w| !w.read_as_relative().is_some_and(is_plain)).map(ToString::to_string).collect()
    }

    /// Fails if this push would write to a context from which the mount may only read.
    pub(crate) fn refuse_push(&self, options: &SyncOptions) -> Result<(), Error> {
        if self.read_only && !options.dry_run {
            return Err(Error::ReadOnly { context: self.context.clone(), mount: self.path.clone() });
        }
        Ok(())
    }

    /// Pulls, then pushes.
    pub async fn sync(&mut self, options: &SyncOptions, monitor: &dyn Monitor) -> Result<SyncReport, Error> {
        self.refuse_push(options)?;
        let mut report = match self.pull(options, monitor).await {
            Ok(report) => report,
            // There is nothing to pull yet. The push creates the context, and the directory in it.
            Err(Error::NoContext { .. } | Error::NoPart { .. }) if options.create => SyncReport::default(),
            Err(e) => return Err(e),
        };
        if !report.stopped_by_conflict {
            report.absorb(&self.push(options, monitor).await?);
        }
        Ok(report)
    }

    pub(crate) fn keep_status<'m>(
        &self,
        options: &SyncOptions,
        monitor: &'m dyn Monitor,
        task_type: TaskType,
    ) -> StatusKeeper<'m> {
        if options.dry_run {
            return StatusKeeper::of_plan(monitor, &self.board);
        }
        let context = self.place().to_string();
        StatusKeeper::start(monitor, &self.board, &context, &self.path, &options.session, task_type)
            .with_warnings(self.warnings())
    }

    /// Forgets the state of the mount if it is damaged and a sync has failed because of it. Returns whether it did.
    /// What can't be read now is no damage: then the sync has failed.
    pub(crate) fn forget_damaged_state(
        &self,
        alone: &Alone<'_>,
        result: &Result<SyncReport, Error>,
        monitor: &dyn Monitor,
    ) -> Result<bool, Error> {
        let damaged = result.as_ref().is_err_and(Error::is_damaged_state) && self.files.forget_damaged()?;
        if damaged {
            alone.end();
            monitor
                .warning("the local state is damaged; the mount is treated as new, and nothing is deleted");
        }
        Ok(damaged)
    }

    pub(crate) fn filter(&self, options: &SyncOptions, towards: Towards) -> Arc<Filter> {
        // Only a directory can be the mount itself.
        let files = OwnPlaces::find(&self.path, None, None, &options.own_files);
        let files = files.unwrap_or_default();
        Arc::new(Filter {
            scope: self.scope.clone(),
            scope_id: self.scope_id(),
            only: options.only.clone(),
            with_copies: towards == Towards::Store,
            own: self.own.clone().and(files),
            one_file_system: options.one_file_system,
            closed: FileSystems::default(),
            extract: self.policy.extract_policy.clone().filter(|e| e.extract),
        })
    }

    pub(crate) fn rules(&self, options: &SyncOptions, hold_deletions: bool) -> Rules {
        Rules {
            sync_local_file: self.policy.delete_policy.sync_local_file,
            conflict: self.conflict_policy(options),
            hold_deletions,
        }
    }

    pub(crate) fn conflict_policy(&self, options: &SyncOptions) -> ConflictPolicy {
        options.conflict.unwrap_or(self.policy.conflict_policy)
    }

    pub(crate) fn cache(&self) -> Cache {
        self.files.cache()
    }

    /// Returns a head's tree, restricted to the part that the mount has.
    pub(crate) fn part_tree<'a>(&'a self, head: &'a Head, cache: Option<&'a Cache>) -> PartTree<'a> {
        let tree = Tree { store: &self.store, snapshot: &head.snapshot, cache };
        PartTree::new(tree, self.part.clone())
    }

    /// A digest of what decides which paths are in scope.
    /// Returns what tells the scope from that of another policy.
    fn scope_id(&self) -> ScopeId {
        let lists = SyncPolicy { bw_list: self.policy.bw_list.clone(), ..SyncPolicy::default() };
        let mut id = ScopeId::default();
        id.copy_from_slice(&sha256(lists.digest_input().as_bytes()).0[..8]);
        id
    }

    pub(crate) fn scope_digest(&self) -> Digest {
        sha256(self.policy.digest_input().as_bytes())
    }

    /// Opens the mount's directory and clears away what a crash left in it; `None` where it does not exist.
    pub(crate) async fn open_dir(
        &self,
        alone: &Alone<'_>,
        towards: Towards,
        options: &SyncOptions,
        monitor: &dyn Monitor,
    ) -> Result<Option<MountDir>, Error> {
        self.recognize().await?;
        let dir = match MountDir::open(&self.path, self.store.env()) {
            Ok(dir) => dir.with_busy(self.arriving.busy.clone()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                // Where it may have been lost, what was pulled into it counts for nothing.
                if self.files.in_doubt()?.is_none() {
                    self.fold_arrivals(alone, None, None)?;
                }
                return Ok(None);
            }
            Err(e) => return Err(Error::local("open the mount", &self.path, e)),
        };
        if let Some(note) = self.files.in_doubt()?.filter(|_| !options.dry_run) {
            self.prove(alone, &dir, note, (towards, options), monitor).await?;
        }
        // What an interrupted pull left comes first: its staging directory shows how far the pull came.
        if let Some((begun, fresh, _)) = self.files.read_arrivals()? {
            let flushed = match self.files.is_unflushed()? || options.deadline.is_some() {
                // A push must not wait for a disk that others write to, nor fail with it. That would make nothing safer.
                false => match self.flushed(&dir).await {
                    Err(e) if towards == Towards::Mount => return Err(self.not_durable(e)),
                    Err(e) => {
                        monitor.warning(&may_lack(&e));
                        false
                    }
                    Ok(()) => true,
                },
                true => false,
            };
            if !flushed && (options.flush_behind || self.files.is_unflushed()?) {
                self.files.note_unflushed(&begun, fresh)?;
            }
        }
        self.fold_arrivals(alone, Some(&dir), None)?;
        if !options.flush_behind
            && !options.dry_run
            && options.deadline.is_none()
            && self.files.is_unflushed()?
        {
            // The caller does not flush later, so the mount is flushed now.
            match self.flushed(&dir).await {
                Ok(()) => self.files.settle(true)?,
                Err(e) => monitor.warning(&may_lack(&e)),
            }
        }
        let recovered = recover(&dir, true).map_err(|e| Error::local("clear up", &self.path, e))?;
        recovered.tell(monitor);
        self.arriving.leave(recovered.left);
        Ok(Some(dir))
    }

    /// Clears away what a crash left on file systems below the mount.
    pub(crate) fn clear_below(
        &self,
        _: &Alone<'_>,
        dir: &MountDir,
        file_systems: &FileSystems,
        monitor: &dyn Monitor,
    ) {
        recover_below(dir, &file_systems.all()).iter().for_each(|warning| monitor.warning(warning));
    }

    pub(crate) fn delta_options<'a>(
        &'a self,
        dir: &'a MountDir,
        filter: &Arc<Filter>,
        options: &SyncOptions,
        towards: Towards,
    ) -> DeltaOptions<'a> {
        DeltaOptions {
            mount: dir,
            scope: self.scope.clone(),
            filter: filter.clone(),
            spool_dir: self.files.dir(),
            checksum: options.checksum,
            allow_empty_mount: options.allow_empty_mount,
            is_of_all: options.only.is_empty(),
            mode: self.policy.upload_policy.upload_mode,
            max_upload: options.max_upload,
            from: policy_core::TreePath::root(),
            file_systems: Arc::default(),
            leaves_passing: towards == Towards::Store && !options.at_rest,
            longest_path: self.part.longest_path(),
        }
    }

    /// Starts a walk before it is known whether the base fits the head. `None` where the base may be replaced
    /// on the way.
    pub(crate) fn walk_early(
        &self,
        dir: &MountDir,
        filter: &Arc<Filter>,
        options: &SyncOptions,
        towards: Towards,
    ) -> Result<Option<EarlyWalk>, Error> {
        if self.files.has_next_base()? {
            return Ok(None);
        }
        let header = self.files.header()?;
        let base = self.base_rows(header.as_ref(), filter, options)?;
        Ok(Some(EarlyWalk::start(&self.delta_options(dir, filter, options, towards), header, base)))
    }

    /// Returns the base's rows that this sync deals with; none without a usable base.
    pub(crate) fn base_rows(
        &self,
        header: Option<&BaseHeader>,
        filter: &Arc<Filter>,
        options: &SyncOptions,
    ) -> Result<Box<dyn Iterator<Item = io::Result<BaseRow>> + Send>, Error> {
        use crate::local::ScanFilter;
        let filter = filter.clone();
        let with_held = options.allow_empty_mount;
        Ok(match self.all_base_rows(header)? {
            Some(rows) => Box::new(rows.filter(move |row| {
                row.as_ref().map_or(true, |row| {
                    (with_held || row.held != Held::Here) && filter.contains(&row.path, row.entry.is_dir())
                })
            })),
            None => Box::new(std::iter::empty()),
        })
    }

    pub(crate) fn all_base_rows(&self, header: Option<&BaseHeader>) -> Result<Option<BaseReader>, Error> {
        if header.is_none() {
            return Ok(None);
        }
        let gone = || Error::local("read", self.files.dir(), io::Error::from(io::ErrorKind::NotFound));
        Ok(Some(self.files.read_base()?.ok_or_else(gone)?.1))
    }

    /// Begins the base that follows the one of `header`: its rows, but for those that left the scope, so that
    /// their return can't look like a deletion.
    pub(crate) fn next_base(
        &self,
        header: Option<&BaseHeader>,
        filter: &Arc<Filter>,
    ) -> Result<NextBase, Error> {
        let old: Box<dyn Iterator<Item = io::Result<BaseRow>> + Send> = match self.all_base_rows(header)? {
            Some(rows) => {
                let filter = filter.clone();
                Box::new(rows.filter(move |row| {
                    row.as_ref().map_or(true, |row| filter.in_scope(&row.path, row.entry.is_dir()))
                }))
            }
            None => Box::new(std::iter::empty()),
        };
        Ok(NextBase::create(&self.files.next_base(), old))
    }

    /// Whether a guard holds this many deletions back.
    pub(crate) fn guards(&self, options: &SyncOptions, deletions: u64, base: u64) -> bool {
        let limit =
            options.max_delete.or(self.policy.delete_policy.max_delete_percent.map(MaxDelete::Percent));
        limit.is_some_and(|limit| limit.is_exceeded(deletions, base))
    }

    /// Whether all synced files are missing: then the mount was lost, and not everything was deleted. If only some paths
    /// are synced, it was lost if there is a base and nothing at all is in the mount.
    pub(crate) fn looks_lost(
        dir: &MountDir,
        options: &SyncOptions,
        stats: &DeltaStats,
        header: Option<&BaseHeader>,
    ) -> bool {
        let is_lost = || match options.only.is_empty() {
            true => looks_lost(stats.base, stats.present),
            false => header.is_some_and(|h| h.rows > 0) && is_empty(dir, &TreePath::root()),
        };
        !options.allow_empty_mount && is_lost()
    }

    /// Warns of something, unless that was the last that was said about it.
    pub(crate) fn warn_of(&self, topic: Topic, warning: Option<String>, monitor: &dyn Monitor) {
        let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
        match warning {
            Some(warning) if warned.get(&topic) == Some(&warning) => {}
            Some(warning) => {
                monitor.warning(&warning);
                warned.insert(topic, warning);
            }
            None => _ = warned.remove(&topic),
        }
    }

    /// Warns of white lists that match nothing here or in the context.
    pub(crate) fn warn_unmatched(&self, marks: &ListMarks, monitor: &dyn Monitor) {
        for list in marks.unmatched(&self.scope) {
            let read_as = match list.resolved() {
                // An empty mount of an empty context is nothing to warn of.
                Some(path) if path.is_root() => continue,
                Some(path) => format!("`{path}` in the mount"),
                None => "an expression".to_owned(),
            };
            monitor.warning(&format!(
                "the white list `{}`, read as {read_as}, matches nothing here or in the context",
                list.path()
            ));
        }
    }

    /// Keeps only the objects of this head in the cache.
    pub(crate) fn trim_cache(&self, head: &Head) {
        let mut keep: BTreeSet<Digest> = head.snapshot.segments.iter().map(|s| s.digest).collect();
        keep.insert(head.digest);
        self.cache().keep_only(&keep);
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // While the lock is still held.
        self.board.close();
    }
}

/// Compiles a policy for a mount, which need not exist. Where the mount is reached through links, the
/// policy's absolute paths are taken for that name of it, as given or without links, by which more of them
/// make sense.
pub fn mount_scope(policy: &SyncPolicy, mount: &Path) -> Result<Scope, Error> {
    use std::os::unix::ffi::OsStrExt;
    let cannot_find = |e| Error::local("find", mount, e);
    let as_given = std::path::absolute(mount).map_err(cannot_find)?;
    let given = Scope::new(policy, as_given.as_os_str().as_bytes())?;
    let real = absolute(mount).map_err(cannot_find)?;
    if as_given == real || given.warnings().is_empty() {
        return Ok(given);
    }
    let real = Scope::new(policy, real.as_os_str().as_bytes())?;
    Ok(if real.warnings().len() < given.warnings().len() { real } else { given })
}

/// Whether something is at a place below `mount`.
fn holds(mount: &Path, place: &TreePath) -> bool {
    use std::os::unix::ffi::OsStrExt;
    mount.join(std::ffi::OsStr::from_bytes(place.as_bytes())).symlink_metadata().is_ok()
}
