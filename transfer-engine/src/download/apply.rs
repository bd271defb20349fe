//! Carries out a download's plan.
//!
//! Order: short files in windows, long files, deletions (deepest first), what takes the place of a removed
//! directory, modes of directories. A file that stands where a directory must come is removed first.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex};

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use policy_core::{Entry, Node, Reason, Timestamp, TreePath, Verdict};
use rustix::fs::{AtFlags, Mode};

use super::compare::{free_copy_path, link_print};
use super::fetch::{Fetcher, Item, LONG, Outcome};
use crate::error::Error;
use crate::local::{Expected, Fingerprint, InstallError, MountDir, Staging, set_times, stat_at, writable};
use crate::monitor::{Monitor, PathProblem, Progress};
use crate::options::SyncOptions;
use crate::plan::{Filter, Plan, PlanStep};
use crate::state::DeltaState;
use crate::store::Store;

/// Paths in a window at most.
const WINDOW_PATHS: usize = 4096;

/// What applying needs besides the plan.
pub(crate) struct Applying<'a> {
    pub(crate) store: &'a Store,
    pub(crate) dir: MountDir,
    pub(crate) filter: Arc<Filter>,
    pub(crate) options: &'a SyncOptions,
    pub(crate) monitor: &'a dyn Monitor,
    /// What there will be to do, for the progress.
    pub(crate) total: Progress,
}

/// A path to be removed.
struct Removal {
    ordinal: usize,
    path: TreePath,
    /// `None` for a directory.
    expected: Option<Expecting>,
}

/// What the plan saw at a path, as far as it can be told without looking again.
#[derive(Clone)]
pub(crate) enum Expecting {
    Stat(Fingerprint),
    /// A link, of which the base keeps no stat.
    Link(Box<[u8]>),
}

/// Whether a step changes something on disk, and so has an outcome. Outcomes are numbered in plan order.
pub(crate) fn has_outcome(step: &PlanStep) -> bool {
    matches!(step.decision.verdict, Verdict::Write | Verdict::Delete | Verdict::KeepBoth)
}

/// Applies a plan and returns the outcome of each step that has one, in order.
pub(crate) async fn apply(applying: &Applying<'_>, mut plan: Plan<'_>) -> Result<Vec<Outcome>, Error> {
    let Applying { dir, options, monitor, .. } = applying;
    let staging =
        Staging::create(dir).map_err(|e| Error::local("make a staging directory in", dir.path(), e))?;
    let staging = Arc::new(staging);
    let width = usize::try_from(options.memory / (32 << 20)).unwrap_or(1).clamp(1, options.concurrency.get());
    let fetcher = Fetcher {
        store: applying.store,
        dir: dir.clone(),
        staging: staging.clone(),
        concurrency: width,
        monitor: *monitor,
        progress: Mutex::new(applying.total),
        hint: "the next pull tries it again",
    };
    let done = carry_out(applying, &fetcher, &staging, &mut plan).await;
    drop(fetcher);
    if let Some(staging) = Arc::into_inner(staging) {
        staging.finish();
    }
    done
}

async fn carry_out(
    applying: &Applying<'_>,
    fetcher: &Fetcher<'_>,
    staging: &Arc<Staging>,
    plan: &mut Plan<'_>,
) -> Result<Vec<Outcome>, Error> {
    let Applying { dir, options, monitor, .. } = applying;
    let env = dir.env();
    let window_bytes = (options.memory / 4).max(1 << 20);
    let mut outcomes: Vec<Outcome> = Vec::new();
    let mut window: Vec<Item> = Vec::new();
    let mut weight = 0;
    let mut long: Vec<Item> = Vec::new();
    let mut removals: Vec<Removal> = Vec::new();
    let mut blocked: Vec<Item> = Vec::new();
    let mut dirs: Vec<(TreePath, u16, Timestamp)> = Vec::new();
    let mut standing: BTreeSet<TreePath> = BTreeSet::new();
    let mut windows = FuturesUnordered::new();

    while let Some(step) = plan.next().await? {
        let stays = is_local_dir(&step) && !has_outcome(&step);
        if stays || step.remote.as_ref().is_some_and(|r| r.0.entry.is_dir()) {
            standing.insert(step.path.clone());
        }
        if !has_outcome(&step) {
            continue;
        }
        let ordinal = outcomes.len();
        outcomes.push(Outcome::Failed);
        if matches!(step.decision.verdict, Verdict::Delete) {
            if let Some(removal) = removal(ordinal, &step) {
                removals.push(removal);
            }
            // A file that was to be put here waits until the directory is empty.
            park(&step.path, &mut window, &mut long, &mut blocked);
            continue;
        }
        // A file stands where a directory comes: it goes first.
        if let Some(last) = removals.pop_if(|r| r.expected.is_some() && step.path.is_below(&r.path)) {
            let ordinal = last.ordinal;
            outcomes[ordinal] = remove_now(dir, staging, last, *monitor).await?;
        }
        let comes_dir = step.remote.as_ref().is_none_or(|r| r.0.entry.is_dir());
        if comes_dir && step.decision.verdict == Verdict::Write && expecting(&step).is_some() {
            let leaf = Removal { ordinal, path: step.path.clone(), expected: expecting(&step) };
            if remove_now(dir, staging, leaf, *monitor).await? == Outcome::Failed {
                continue;
            }
        }
        let Some(remote) = &step.remote else {
            // Only an implied directory has no row: what is changed about it is its mode. Beside a conflict
            // it is what lies below it that is brought.
            if step.decision.verdict == Verdict::Write {
                dirs.push((step.path.clone(), Entry::IMPLIED_DIR.mode, Timestamp::default()));
            }
            outcomes[ordinal] = Outcome::Made;
            continue;
        };
        let mut entry = remote.0.clone();
        let mut path = step.path.clone();
        if step.decision.verdict == Verdict::KeepBoth {
            let Some(copy) = step.copy.clone() else { continue };
            let (dir, entry) = (dir.clone(), entry.clone());
            let free = env.blocking(move || free_copy_path(&dir, &copy, &entry)).await;
            let free = free.map_err(|e| Error::local("look at", applying.dir.path(), io::Error::from(e)))?;
            match free {
                Ok(Some(free)) => path = free,
                // The same conflict was met before: its copy is there.
                Ok(None) => {
                    outcomes[ordinal] = Outcome::Made;
                    continue;
                }
                Err(e) => {
                    problem(*monitor, &step.path, format!("no place for a conflict copy: {e}"));
                    continue;
                }
            }
        }
        if entry.entry.is_dir() {
            outcomes[ordinal] = make_dir(dir, &path, *monitor).await?;
            dirs.push((path, entry.entry.mode, entry.entry.mtime));
            continue;
        }
        let expected = match (step.decision.verdict, expecting(&step)) {
            (Verdict::KeepBoth, _) | (_, None) => Expected::Absent,
            (_, Some(Expecting::Stat(print))) => Expected::Leaf(print),
            (_, Some(Expecting::Link(target))) => match look_at_link(dir, &path, &target).await? {
                Some(print) => Expected::Leaf(print),
                None => {
                    problem(*monitor, &path, InstallError::Changed.to_string());
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
            let changed = env.blocking(move || change_mode(&job_dir, &job_path, &print, mode, mtime)).await;
            if let Ok(Ok(Some(print))) = changed {
                outcomes[ordinal] = Outcome::Installed(print);
                continue;
            }
        }
        entry.path = path.clone();
        let size = entry.entry.size();
        let item = Item { ordinal, path, entry, expected };
        if step.decision.verdict == Verdict::Write && is_local_dir(&step) {
            // The directory goes first, with the deletions.
            blocked.push(item);
            continue;
        }
        if size > LONG {
            long.push(item);
            continue;
        }
        weight += size + 4096;
        window.push(item);
        if weight >= window_bytes || window.len() == WINDOW_PATHS {
            // The last item stays: what follows may show that a directory is in its way.
            let last = window.pop();
            windows.push(fetcher.fetch(std::mem::take(&mut window)));
            window.extend(last);
            weight = 0;
            while windows.len() > 1 {
                if let Some(done) = windows.next().await {
                    settle(&mut outcomes, done?);
                }
            }
        }
    }
    if !window.is_empty() {
        windows.push(fetcher.fetch(window));
    }
    while let Some(done) = windows.next().await {
        settle(&mut outcomes, done?);
    }
    for item in long {
        let done = fetcher.fetch_long(item).await?;
        settle(&mut outcomes, vec![done]);
    }
    drop(windows);

    let (dir2, staging2, filter) = (dir.clone(), staging.clone(), applying.filter.clone());
    let making_room = blocked.iter().map(|item| item.path.clone()).collect();
    let removed =
        env.blocking(move || remove_all(&dir2, &staging2, removals, standing, making_room, &filter)).await;
    let removed = removed.map_err(|e| Error::local("remove from", dir.path(), io::Error::from(e)))?;
    for (ordinal, result) in removed {
        match result {
            Ok(()) => outcomes[ordinal] = Outcome::Removed,
            Err((path, message)) => problem(*monitor, &path, message),
        }
    }
    if !blocked.is_empty() {
        settle(&mut outcomes, fetcher.fetch(blocked).await?);
    }
    let dir2 = dir.clone();
    let modes = env.blocking(move || set_modes(&dir2, dirs)).await;
    for (path, message) in modes.map_err(|e| Error::local("change", dir.path(), io::Error::from(e)))? {
        problem(*monitor, &path, message);
    }
    Ok(outcomes)
}

fn settle(outcomes: &mut [Outcome], done: Vec<(usize, Outcome)>) {
    for (ordinal, outcome) in done {
        outcomes[ordinal] = outcome;
    }
}

fn problem(monitor: &dyn Monitor, path: &TreePath, message: String) {
    let hint = "the next pull tries it again".to_owned();
    monitor.problem(&PathProblem { path: path.clone(), message, hint });
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

/// Whether the mount's file has the content that the context's has, so that only the mode differs.
fn has_same_content(step: &PlanStep) -> bool {
    let local = match &step.local {
        Some(row) => match &row.state {
            DeltaState::Present { entry, .. } => Some(entry),
            DeltaState::Absent | DeltaState::Unreadable => None,
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
fn is_local_dir(step: &PlanStep) -> bool {
    match &step.local {
        Some(row) => matches!(&row.state, DeltaState::Present { entry, .. } if entry.is_dir()),
        None => step.base.as_ref().is_some_and(|b| b.entry.is_dir()),
    }
}

fn removal(ordinal: usize, step: &PlanStep) -> Option<Removal> {
    let expected = expecting(step);
    (is_local_dir(step) || expected.is_some()).then(|| Removal { ordinal, path: step.path.clone(), expected })
}

async fn look_at_link(dir: &MountDir, path: &TreePath, target: &[u8]) -> Result<Option<Fingerprint>, Error> {
    let (job_dir, job_path, target) = (dir.clone(), path.clone(), target.to_vec());
    let seen = dir.env().blocking(move || link_print(&job_dir, &job_path, &target)).await;
    seen.map_err(|e| Error::local("look at", dir.show(path), io::Error::from(e)))
}

fn remove_leaf(
    dir: &MountDir,
    staging: &Staging,
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
    staging.remove(&parent, path, &print)
}

async fn remove_now(
    dir: &MountDir,
    staging: &Arc<Staging>,
    removal: Removal,
    monitor: &dyn Monitor,
) -> Result<Outcome, Error> {
    let (job_dir, job_staging) = (dir.clone(), staging.clone());
    let path = removal.path.clone();
    let removed = dir.env().blocking(move || match &removal.expected {
        Some(expected) => remove_leaf(&job_dir, &job_staging, &removal.path, expected),
        None => Ok(()),
    });
    match removed.await.map_err(|e| Error::local("remove", dir.show(&path), io::Error::from(e)))? {
        Ok(()) => Ok(Outcome::Removed),
        Err(e) => {
            problem(monitor, &path, e.to_string());
            Ok(Outcome::Failed)
        }
    }
}

async fn make_dir(dir: &MountDir, path: &TreePath, monitor: &dyn Monitor) -> Result<Outcome, Error> {
    let (job_dir, job_path) = (dir.clone(), path.clone());
    let made = dir.env().blocking(move || job_dir.make_dirs(&job_path).map(drop)).await;
    match made.map_err(|e| Error::local("make", dir.show(path), io::Error::from(e)))? {
        Ok(()) => Ok(Outcome::Made),
        Err(e) => {
            problem(monitor, path, format!("the directory cannot be made: {e}"));
            Ok(Outcome::Failed)
        }
    }
}

type Removed = (usize, Result<(), (TreePath, String)>);

/// Removes files, then the directories that nothing is left in and that the context does not hold: those of
/// the files, and `emptied`.
fn remove_all(
    dir: &MountDir,
    staging: &Staging,
    removals: Vec<Removal>,
    standing: BTreeSet<TreePath>,
    mut emptied: BTreeSet<TreePath>,
    filter: &Filter,
) -> Vec<Removed> {
    let mut done = Vec::with_capacity(removals.len());
    // In reverse tree order what is below a directory comes before it.
    for Removal { ordinal, path, expected } in removals.into_iter().rev() {
        let result = match &expected {
            Some(expected) => {
                remove_leaf(dir, staging, &path, expected).map_err(|e| (path.clone(), e.to_string()))
            }
            None => {
                emptied.insert(path.clone());
                Ok(())
            }
        };
        if result.is_ok() {
            emptied.extend(path.parent());
        }
        done.push((ordinal, result));
    }
    while let Some(path) = emptied.pop_last() {
        if path.is_root() || standing.contains(&path) || !filter.in_scope(&path, true) {
            continue;
        }
        let Ok(parent) = dir.parent(&path) else { continue };
        let _writable = writable(&parent);
        // Whatever is still in it, in scope or not, keeps it.
        if rustix::fs::unlinkat(&parent, path.name(), AtFlags::REMOVEDIR).is_ok() {
            emptied.extend(path.parent());
        }
    }
    done
}

/// Gives directories their modes, deepest first: one that can't be written to takes no more files.
fn set_modes(dir: &MountDir, dirs: Vec<(TreePath, u16, Timestamp)>) -> Vec<(TreePath, String)> {
    let mut problems = Vec::new();
    for (path, mode, mtime) in dirs.into_iter().rev() {
        let set = || -> io::Result<()> {
            let fd = dir.dir(&path)?;
            rustix::fs::fchmod(&fd, Mode::from_raw_mode(u32::from(mode)))?;
            if mtime == Timestamp::default() { Ok(()) } else { set_times(&fd, mtime) }
        };
        if let Err(e) = set() {
            problems.push((path, format!("the directory's mode cannot be set: {e}")));
        }
    }
    problems
}

/// Whether a step's reason is one that a person wants to read of.
pub(crate) fn is_worth_telling(reason: Reason) -> bool {
    !matches!(reason, Reason::Unchanged | Reason::SameChange | Reason::DeletedOnBoth)
}
