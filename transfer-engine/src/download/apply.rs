//! Carries out a download's plan.
//!
//! Order: short files in windows, long files (sooner, where their chunks would take too much memory), deletions
//! (deepest first), what takes the place of a removed directory, modes of directories. A file that stands where a
//! directory must come is removed first.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex};

use policy_core::{Entry, Node, Timestamp, TreePath, Verdict};
use rustix::fs::{AtFlags, Mode};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::compare::{free_copy_path, link_print};
use super::dir_times::set_all;
use super::fetch::{Fetcher, Item, LONG, Outcome, Told, range_buffers};
use super::jobs::Jobs;
use super::ledger::{Ledger, told, unfinished};
use super::place::has_vanished;
use super::recent::Recent;
use super::trouble::Trouble;
use crate::error::Error;
use crate::format::ChunkRef;
use crate::local::{
    Expected, FileSystems, Fingerprint, InstallError, MountDir, Stagings, names, set_times, stat_at, writable,
};
use crate::monitor::{Monitor, PathProblem, Progress};
use crate::options::SyncOptions;
use crate::plan::{Filter, Plan, PlanStep};
use crate::state::{Arriving, Cache, DeltaState, Lane};
use crate::store::{Head, MAX_RANGE, Store};

/// Paths in a window at most.
const WINDOW_PATHS: usize = 4096;
/// The first window's bytes: the first files are there soon, and later windows share more of the cost.
const FIRST_WINDOW: u64 = 1 << 20;
/// This part of the memory may be the chunks of long files that wait for the windows.
const WAITING: u64 = 16;
/// Windows that may be under way while the next one is planned: most of them wait for the disk.
const WINDOWS_AHEAD: usize = 2;
/// This part of the memory keeps what was fetched last.
pub(super) const KEPT: u64 = 8;
/// How much larger each window is than the one before.
const WINDOW_GROWTH: u64 = 4;

/// What helps where trying again does.
pub(super) const RETRY: &str = "the next pull tries it again";

/// What applying needs besides the plan.
pub(crate) struct Applying<'a> {
    pub(crate) store: &'a Store,
    pub(crate) dir: MountDir,
    pub(crate) filter: Arc<Filter>,
    pub(crate) options: &'a SyncOptions,
    pub(crate) monitor: &'a dyn Monitor,
    /// What there will be to do, for the progress.
    pub(crate) total: Progress,
    pub(crate) arriving: Arc<Arriving>,
    pub(crate) lane: Lane,
    pub(crate) stop: CancellationToken,
    /// What is brought.
    pub(crate) head: &'a Head,
    pub(crate) cache: Cache,
    /// Where other file systems begin.
    pub(crate) file_systems: Arc<FileSystems>,
    /// Whether what is removed here goes from the context as well.
    pub(crate) drops_deleted: bool,
}

/// A path to be removed.
struct Removal {
    path: TreePath,
    /// `None` for a directory.
    expected: Option<Expecting>,
    told: Told,
}

/// A directory that gets its mode when everything is in it.
struct NewDir {
    path: TreePath,
    mode: u16,
    mtime: Timestamp,
    told: Told,
}

/// What the plan saw at a path, as far as it can be told without looking again.
#[derive(Clone)]
pub(crate) enum Expecting {
    Stat(Fingerprint),
    /// A link, of which the base keeps no stat.
    Link(Box<[u8]>),
}

/// Whether a step changes something on disk.
pub(crate) fn has_outcome(step: &PlanStep) -> bool {
    matches!(step.decision.verdict, Verdict::Write | Verdict::Delete | Verdict::KeepBoth)
}

/// Applies a plan, and notes and tells what becomes of it.
pub(crate) async fn apply(
    applying: &Applying<'_>,
    mut plan: Plan<'_>,
    ledger: &mut Ledger,
) -> Result<(), Error> {
    let Applying { dir, options, monitor, .. } = applying;
    let staging = Stagings::create(dir, applying.file_systems.clone())
        .map_err(|e| Error::local("make a staging directory in", dir.path(), e))?;
    if applying.lane == Lane::All
        && let Err(e) = staging.main().take_over(&applying.arriving.take_left())
    {
        tracing::debug!(error = %e, "what was left of an earlier download is fetched again");
    }
    let staging = Arc::new(staging);
    // Half of the memory for ranges under way, so that a store that is far away is kept busy.
    let width = usize::try_from(options.memory / 2 / MAX_RANGE).unwrap_or(1);
    let width = width.clamp(1, options.concurrency.get());
    let fetcher = Fetcher {
        store: applying.store,
        dir: dir.clone(),
        staging: staging.clone(),
        ranges: Semaphore::new(width),
        buffers: range_buffers(),
        recent: Arc::new(Mutex::new(Recent::new(options.memory / KEPT))),
        monitor: *monitor,
        progress: Mutex::new(applying.total),
        hint: RETRY,
        sharing: Some((applying.arriving.clone(), applying.lane)),
        stop: applying.stop.clone(),
    };
    let done = carry_out(applying, &fetcher, &staging, &mut plan, ledger).await;
    drop(fetcher);
    let (times, root_time) = ledger.times.finish();
    let job_dir = dir.clone();
    let timed = match times.is_empty() {
        true => Ok(()),
        false => dir.blocking(move || set_all(&job_dir, &times)).await,
    };
    let noted = ledger.flush(applying);
    // With a journal that lacks something, what is still in staging is how the next sync knows what came.
    if !applying.arriving.is_torn()
        && let Some(staging) = Arc::into_inner(staging)
    {
        staging.finish(done.is_err() || ledger.stopped);
    }
    if let Some(time) = root_time {
        // It was changed last by the staging directory.
        set_all(dir, &[(TreePath::root(), time)]);
    }
    done.and(timed.map_err(|e| Error::local("set the times in", dir.path(), io::Error::from(e)))).and(noted)
}

async fn carry_out(
    applying: &Applying<'_>,
    fetcher: &Fetcher<'_>,
    staging: &Arc<Stagings>,
    plan: &mut Plan<'_>,
    ledger: &mut Ledger,
) -> Result<(), Error> {
    let Applying { dir, options, monitor, .. } = applying;
    let largest_window = (options.memory / 4).max(1 << 20);
    let mut window_bytes = FIRST_WINDOW.min(largest_window);
    let mut window: Vec<Item> = Vec::new();
    let mut weight = 0;
    let (mut long, mut long_chunks) = (Vec::new(), 0);
    let mut removals: Vec<Removal> = Vec::new();
    let mut blocked: Vec<Item> = Vec::new();
    let mut dirs: Vec<NewDir> = Vec::new();
    let mut standing: BTreeSet<TreePath> = BTreeSet::new();
    let mut jobs = Jobs::new(applying, fetcher, staging);

    while let Some(step) = jobs.beside(ledger, plan.next()).await?? {
        if applying.stop.is_cancelled() {
            ledger.stopped = true;
            break;
        }
        ledger.times.see_beside(plan.beside_before(Some(&step.path)));
        ledger.meet(applying, &step)?;
        if let Some(archive) = unfinished(&step, &applying.filter)
            && (applying.lane == Lane::Asked || !applying.arriving.asked().covers(&step.path))
        {
            ledger.queue_archive(archive);
        }
        // In a conflict it is the local version that keeps the path.
        let keeps = !has_outcome(&step) || step.decision.verdict == Verdict::KeepBoth;
        let stays = is_local_dir(&step) && keeps;
        if stays || step.remote.as_ref().is_some_and(|r| r.0.entry.is_dir()) {
            standing.insert(step.path.clone());
        }
        if !has_outcome(&step) || !ledger.takes(applying, &step) {
            continue;
        }
        let mut told = told(&step, &applying.filter);
        told.row = told.row.map(|row| row.among(&applying.file_systems));
        ledger.expect(&told);
        if matches!(step.decision.verdict, Verdict::Delete) {
            if is_local_dir(&step) || expecting(&step).is_some() {
                removals.push(Removal { path: step.path.clone(), expected: expecting(&step), told });
            } else {
                ledger.settle(applying, &told, Outcome::Failed)?;
            }
            // A file that was to be put here waits until the directory is empty.
            park(&step.path, &mut window, &mut long, &mut blocked);
            continue;
        }
        // A file stands where a directory comes: it goes first.
        if let Some(last) = removals.pop_if(|r| r.expected.is_some() && step.path.is_below(&r.path)) {
            let outcome = remove_now(dir, staging, &last.path, last.expected, *monitor).await?;
            ledger.settle(applying, &last.told, outcome)?;
        }
        let comes_dir = step.remote.as_ref().is_none_or(|r| r.0.entry.is_dir());
        if comes_dir && step.decision.verdict == Verdict::Write && expecting(&step).is_some() {
            let removed = remove_now(dir, staging, &step.path, expecting(&step), *monitor).await?;
            if removed == Outcome::Failed {
                ledger.settle(applying, &told, Outcome::Failed)?;
                continue;
            }
        }
        let Some(remote) = &step.remote else {
            // Only an implied directory has no row: what is changed about it is its mode. Beside a conflict
            // it is what lies below it that is brought.
            if step.decision.verdict == Verdict::Write {
                let (mode, mtime) = (Entry::IMPLIED_DIR.mode, Timestamp::default());
                dirs.push(NewDir { path: step.path.clone(), mode, mtime, told });
            } else {
                ledger.settle(applying, &told, Outcome::Made)?;
            }
            continue;
        };
        let mut entry = remote.0.clone();
        let mut path = step.path.clone();
        if step.decision.verdict == Verdict::KeepBoth {
            let Some(copy) = step.copy.clone() else { continue };
            match place_of_copy(dir, &step.path, &copy, &entry.entry).await? {
                Ok(Some(free)) => {
                    told.copy = Some(free.clone());
                    path = free;
                }
                // The same conflict was met before: its copy is there.
                Ok(None) => {
                    ledger.settle(applying, &told, Outcome::Made)?;
                    continue;
                }
                Err(e) => {
                    problem(*monitor, &step.path, Trouble::local("no place for a conflict copy", &e));
                    ledger.settle(applying, &told, Outcome::Failed)?;
                    continue;
                }
            }
        }
        if entry.entry.is_dir() {
            match make_dir(applying, &path).await? {
                Outcome::Made => {
                    let (mode, mtime) = (entry.entry.mode, entry.entry.mtime);
                    dirs.push(NewDir { path, mode, mtime, told });
                }
                other => ledger.settle(applying, &told, other)?,
            }
            continue;
        }
        let expected = match (step.decision.verdict, expecting(&step)) {
            (Verdict::KeepBoth, _) | (_, None) => Expected::Absent,
            (_, Some(Expecting::Stat(print))) => Expected::Leaf(print),
            (_, Some(Expecting::Link(target))) => match look_at_link(dir, &path, &target).await? {
                Some(print) => Expected::Leaf(print),
                None => {
                    problem(*monitor, &path, Trouble::passing(InstallError::Changed.to_string()));
                    ledger.settle(applying, &told, Outcome::Failed)?;
                    continue;
                }
            },
        };
        if step.decision.verdict == Verdict::Write
            && let Expected::Leaf(print) = expected
            && has_same_content(&step)
        {
            let (job_dir, job_path) = (dir.clone(), path.clone());
            let (mode, mtime) = (entry.entry.mode, entry.entry.mtime);
            let changed =
                applying.dir.blocking(move || change_mode(&job_dir, &job_path, &print, mode, mtime)).await;
            if let Ok(Ok(Some(print))) = changed {
                ledger.settle(applying, &told, Outcome::Installed(print))?;
                // Setting its time may have hidden an edit of this very moment: it is read again.
                ledger.set(applying, &told, None)?;
                continue;
            }
        }
        entry.path = path.clone();
        let size = entry.entry.size();
        let item = Item { path, entry, expected, told };
        if step.decision.verdict == Verdict::Write && is_local_dir(&step) {
            // The directory goes first, with the deletions.
            blocked.push(item);
            continue;
        }
        if size > LONG {
            long_chunks += item.entry.chunks.len() as u64;
            long.push(item);
            if long_chunks * size_of::<ChunkRef>() as u64 > options.memory / WAITING {
                // As with windows.
                let last = long.pop();
                bring_long(applying, &mut jobs, ledger, std::mem::take(&mut long)).await?;
                long_chunks = last.as_ref().map_or(0, |last| last.entry.chunks.len() as u64);
                long.extend(last);
            }
            continue;
        }
        weight += size + 4096;
        window.push(item);
        if weight >= window_bytes || window.len() == WINDOW_PATHS {
            // The last item stays: what follows may show that a directory is in its way.
            let last = window.pop();
            jobs.fetch(std::mem::take(&mut window));
            window.extend(last);
            weight = 0;
            window_bytes = (window_bytes * WINDOW_GROWTH).min(largest_window);
            jobs.settle(ledger, WINDOWS_AHEAD).await?;
        }
    }
    ledger.times.see_beside(plan.beside_before(None));
    ledger.times.end();
    if !window.is_empty() && !ledger.stopped {
        jobs.fetch(window);
    }
    bring_long(applying, &mut jobs, ledger, long).await?;
    jobs.finish(ledger).await?;
    ledger.stopped |= applying.stop.is_cancelled();

    if !ledger.stopped {
        let (dir2, staging2, filter) = (dir.clone(), staging.clone(), applying.filter.clone());
        let making_room = blocked.iter().map(|item| item.path.clone()).collect();
        let removed = applying
            .dir
            .blocking(move || remove_all(&dir2, &staging2, removals, standing, making_room, &filter))
            .await;
        let removed = removed.map_err(|e| Error::local("remove from", dir.path(), io::Error::from(e)))?;
        let (removed, stuck, full) = removed;
        for (told, result) in removed {
            match result {
                Ok(()) => ledger.settle(applying, &told, Outcome::Removed)?,
                Err((path, trouble)) => {
                    problem(*monitor, &path, trouble);
                    ledger.settle(applying, &told, Outcome::Failed)?;
                }
            }
        }
        for Stuck { path, mode, trouble } in stuck {
            // To the next sync an empty directory would be its user's.
            ledger.keep_dir(applying, &path, mode)?;
            let mut in_the_way = blocked.extract_if(.., |item| path.is_within(&item.path)).peekable();
            if in_the_way.peek().is_none() {
                problem(*monitor, &path, trouble.clone());
                ledger.note_failed();
            }
            for item in in_the_way {
                problem(*monitor, &item.path, trouble.clone());
                ledger.settle(applying, &item.told, Outcome::Failed)?;
            }
        }
        for item in blocked.extract_if(.., |item| full.contains(&item.path)) {
            let e = io::ErrorKind::DirectoryNotEmpty.into();
            problem(*monitor, &item.path, Trouble::local("the directory in its place cannot be removed", &e));
            ledger.settle(applying, &item.told, Outcome::Failed)?;
        }
        if !blocked.is_empty() {
            jobs.fetch(blocked);
        }
        // What was in the way of an archive's folder may be gone now.
        jobs.finish_late(ledger).await?;
        ledger.stopped |= applying.stop.is_cancelled();
    }
    let dir2 = dir.clone();
    let modes = applying.dir.blocking(move || set_modes(&dir2, dirs)).await;
    for (told, result) in modes.map_err(|e| Error::local("change", dir.path(), io::Error::from(e)))? {
        match result {
            Ok(outcome) => ledger.settle(applying, &told, outcome)?,
            Err(trouble) => {
                problem(*monitor, &told.path, trouble);
                ledger.settle(applying, &told, Outcome::Failed)?;
            }
        }
    }
    Ok(())
}

/// Begins to bring long files, one after the other: while one is made durable, the next one is on its way.
async fn bring_long<'a>(
    applying: &Applying<'_>,
    jobs: &mut Jobs<'a>,
    ledger: &mut Ledger,
    long: Vec<Item>,
) -> Result<(), Error> {
    for item in long {
        jobs.settle(ledger, WINDOWS_AHEAD).await?;
        if applying.stop.is_cancelled() {
            break;
        }
        jobs.fetch(vec![item]);
    }
    Ok(())
}

fn problem(monitor: &dyn Monitor, path: &TreePath, trouble: Trouble) {
    let hint = trouble.hint_or(RETRY);
    monitor.problem(&PathProblem { path: path.clone(), message: trouble.message, hint });
}

/// Says why something was not removed.
fn not_removed(e: &InstallError) -> Trouble {
    match e {
        InstallError::Changed => Trouble::passing(e.to_string()),
        InstallError::Io(e) => Trouble::local("cannot be removed", e),
    }
}

/// Sets an item aside that is directly above `path`.
fn park(path: &TreePath, window: &mut Vec<Item>, long: &mut Vec<Item>, blocked: &mut Vec<Item>) {
    for list in [window, long] {
        blocked.extend(list.pop_if(|item| path.is_below(&item.path)));
    }
}

/// Returns what the plan saw of a file or link; `None` where there was nothing, or a directory.
pub(crate) fn expecting(step: &PlanStep) -> Option<Expecting> {
    match &step.local {
        Some(row) => match &row.state {
            DeltaState::Present { entry, seen, .. } if !entry.is_dir() => seen.map(Expecting::Stat),
            _ => None,
        },
        None => {
            let base = step.base.as_ref()?;
            match (&base.entry.node, base.print) {
                (Node::Symlink { target }, _) => Some(Expecting::Link(target.clone())),
                (Node::File { .. }, Some(print)) => Some(Expecting::Stat(print)),
                _ => None,
            }
        }
    }
}

/// Finds where the context's version of `of` is kept; `None` if it is there already.
pub(super) async fn place_of_copy(
    dir: &MountDir,
    of: &TreePath,
    copy: &TreePath,
    entry: &Entry,
) -> Result<io::Result<Option<TreePath>>, Error> {
    let (job_dir, of, copy, entry) = (dir.clone(), of.clone(), copy.clone(), entry.clone());
    let free = dir.blocking(move || free_copy_path(&job_dir, &of, &copy, &entry)).await;
    free.map_err(|e| Error::local("look at", dir.path(), io::Error::from(e)))
}

/// Whether the mount's file has the content that the context's has, so that only the mode differs.
pub(super) fn has_same_content(step: &PlanStep) -> bool {
    let local = match &step.local {
        Some(row) => match &row.state {
            DeltaState::Present { entry, .. } => Some(entry),
            _ => None,
        },
        None => step.base.as_ref().map(|b| &b.entry),
    };
    let there = step.remote.as_ref().map(|r| &r.0.entry.node);
    matches!(there, Some(Node::File { .. })) && local.map(|l| &l.node) == there
}

/// Changes a file's mode where it stands; `None` if it is not what was expected, or has other names, which
/// would see the change as well.
fn change_mode(
    dir: &MountDir,
    path: &TreePath,
    expected: &Fingerprint,
    mode: u16,
    mtime: Timestamp,
) -> io::Result<Option<Fingerprint>> {
    let (file, stat) = dir.open_file(path)?;
    if Fingerprint::of(&stat) != *expected || stat.st_nlink > 1 {
        return Ok(None);
    }
    dir.env().check_fault("fchmod", &dir.show(path))?;
    rustix::fs::fchmod(&file, Mode::from_raw_mode(u32::from(mode)))?;
    set_times(&file, mtime)?;
    Ok(Some(Fingerprint::of(&rustix::fs::fstat(&file).map_err(io::Error::from)?)))
}

/// Whether the mount has a directory at the step's path that a row speaks of.
pub(super) fn is_local_dir(step: &PlanStep) -> bool {
    match &step.local {
        Some(row) => matches!(&row.state, DeltaState::Present { entry, .. } if entry.is_dir()),
        None => step.base.as_ref().is_some_and(|b| b.entry.is_dir()),
    }
}

async fn look_at_link(dir: &MountDir, path: &TreePath, target: &[u8]) -> Result<Option<Fingerprint>, Error> {
    let (job_dir, job_path, target) = (dir.clone(), path.clone(), target.to_vec());
    let seen = dir.blocking(move || link_print(&job_dir, &job_path, &target)).await;
    seen.map_err(|e| Error::local("look at", dir.show(path), io::Error::from(e)))
}

fn remove_leaf(
    dir: &MountDir,
    staging: &Stagings,
    path: &TreePath,
    expected: &Expecting,
) -> Result<(), InstallError> {
    let parent = match dir.parent(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    let _writable = writable(&parent);
    let print = match expected {
        Expecting::Stat(print) => *print,
        Expecting::Link(target) => match link_print(dir, path, target) {
            Some(print) => print,
            None if stat_at(&parent, path.name())?.is_none() => return Ok(()),
            None => return Err(InstallError::Changed),
        },
    };
    staging.of(path)?.remove(&parent, path, &print)
}

async fn remove_now(
    dir: &MountDir,
    staging: &Arc<Stagings>,
    path: &TreePath,
    expected: Option<Expecting>,
    monitor: &dyn Monitor,
) -> Result<Outcome, Error> {
    let (job_dir, job_staging, job_path) = (dir.clone(), staging.clone(), path.clone());
    let removed = dir.blocking(move || match &expected {
        Some(expected) => remove_leaf(&job_dir, &job_staging, &job_path, expected),
        None => Ok(()),
    });
    match removed.await.map_err(|e| Error::local("remove", dir.show(path), io::Error::from(e)))? {
        Ok(()) => Ok(Outcome::Removed),
        Err(e) => {
            problem(monitor, path, not_removed(&e));
            Ok(Outcome::Failed)
        }
    }
}

/// Makes a directory, unless it was there and is no more.
async fn make_dir(applying: &Applying<'_>, path: &TreePath) -> Result<Outcome, Error> {
    let (dir, job_path, arriving) = (applying.dir.clone(), path.clone(), applying.arriving.clone());
    let is_asked = applying.lane == Lane::Asked;
    let made = applying.dir.blocking(move || {
        if !is_asked && has_vanished(&dir, &arriving, &job_path) {
            return Ok(Outcome::Withheld);
        }
        dir.make_dirs(&job_path)?;
        arriving.use_dir(&job_path);
        Ok::<_, io::Error>(Outcome::Made)
    });
    match made.await.map_err(|e| Error::local("make", applying.dir.show(path), io::Error::from(e)))? {
        Ok(outcome) => Ok(outcome),
        Err(e) => {
            problem(applying.monitor, path, Trouble::local("the directory cannot be made", &e));
            Ok(Outcome::Failed)
        }
    }
}

/// A directory that is empty and can't be removed.
struct Stuck {
    path: TreePath,
    mode: u16,
    trouble: Trouble,
}

type Removed = (Told, Result<(), (TreePath, Trouble)>);

/// Removes files, then the directories that nothing is left in and that the context does not hold: those of
/// the files, and `emptied`. Returns as well which of them can't be removed, and in which something is left.
fn remove_all(
    dir: &MountDir,
    staging: &Stagings,
    removals: Vec<Removal>,
    standing: BTreeSet<TreePath>,
    mut emptied: BTreeSet<TreePath>,
    filter: &Filter,
) -> (Vec<Removed>, Vec<Stuck>, BTreeSet<TreePath>) {
    let mut done = Vec::with_capacity(removals.len());
    // In reverse tree order what is below a directory comes before it.
    for Removal { path, expected, told } in removals.into_iter().rev() {
        let result = match &expected {
            Some(expected) => {
                remove_leaf(dir, staging, &path, expected).map_err(|e| (path.clone(), not_removed(&e)))
            }
            None => {
                emptied.insert(path.clone());
                Ok(())
            }
        };
        if result.is_ok() {
            emptied.extend(path.parent());
        }
        done.push((told, result));
    }
    let (mut stuck, mut full) = (Vec::new(), BTreeSet::new());
    while let Some(path) = emptied.pop_last() {
        if path.is_root() || standing.contains(&path) || !filter.in_scope(&path, true) {
            continue;
        }
        match remove_dir(dir, &path) {
            Ok(()) => emptied.extend(path.parent()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            // Whatever is still in it, in scope or not, keeps it.
            Err(e) if e.kind() == io::ErrorKind::DirectoryNotEmpty => _ = full.insert(path),
            // Of a place where another file system begins the kernel says that first.
            Err(e) if e.kind() == io::ErrorKind::ResourceBusy && holds_something(dir, &path) => {
                full.insert(path);
            }
            Err(e) => {
                let mode =
                    dir.stat(&path).ok().flatten().map_or(0o755, |stat| (stat.st_mode & 0o7777) as u16);
                let trouble = Trouble::local(&format!("the directory `{path}` cannot be removed"), &e);
                stuck.push(Stuck { path, mode, trouble });
            }
        }
    }
    (done, stuck, full)
}

fn holds_something(dir: &MountDir, path: &TreePath) -> bool {
    dir.dir(path).and_then(|dir| names(&dir)).is_ok_and(|names| !names.is_empty())
}

fn remove_dir(dir: &MountDir, path: &TreePath) -> io::Result<()> {
    let parent = dir.parent(path)?;
    let _writable = writable(&parent);
    dir.env().check_fault("rmdir", &dir.show(path))?;
    Ok(rustix::fs::unlinkat(&parent, path.name(), AtFlags::REMOVEDIR)?)
}

/// Gives directories their modes, deepest first: one that can't be written to takes no more files.
fn set_modes(dir: &MountDir, dirs: Vec<NewDir>) -> Vec<(Told, Result<Outcome, Trouble>)> {
    let set = |path: &TreePath, mode, mtime| -> io::Result<Outcome> {
        let fd = match dir.dir(path) {
            // Whoever removed it meant it.
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Outcome::Withheld),
            other => other?,
        };
        rustix::fs::fchmod(&fd, Mode::from_raw_mode(u32::from(mode)))?;
        if mtime != Timestamp::default() {
            set_times(&fd, mtime)?;
        }
        Ok(Outcome::Made)
    };
    let set = dirs.into_iter().rev().map(|NewDir { path, mode, mtime, told }| {
        let result =
            set(&path, mode, mtime).map_err(|e| Trouble::local("the directory's mode cannot be set", &e));
        (told, result)
    });
    set.collect()
}
