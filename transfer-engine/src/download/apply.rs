//! Carries out a pull's plan.
//!
//! The order is: files as [`Windows`] says; deletions, deepest first; what replaces a removed directory;
//! modes of directories. A file in the place of a new directory is removed before.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex};

use policy_core::{Entry, Timestamp, TreePath, Verdict};
use tokio::sync::Semaphore;

use super::applying::{Applying, Expecting, KEPT, RETRY, expecting, has_outcome, is_local_dir, problem};
use super::compare::{free_copy_path, link_print};
use super::contents::{Contents, Source};
use super::dir_times::set_all;
use super::fetch::{Fetcher, range_buffers};
use super::item::{Applied, Item, Told};
use super::jobs::Jobs;
use super::ledger::{Ledger, told, unfinished};
use super::place::{has_vanished, is_missing};
use super::recent::Recent;
use super::removing::{Removal, Removed, Stuck, remove_all, remove_now};
use super::trouble::Trouble;
use super::windows::Windows;
use crate::effect::has_same_content;
use crate::error::Error;
use crate::format::TreeEntry;
use crate::local::os;
use crate::local::{Expected, Fingerprint, InstallError, MountDir, Stagings, set_times};
use crate::packing::Moved;
use crate::plan::{Plan, PlanStep};
use crate::state::Lane;
use crate::store::MAX_RANGE;

/// How many windows may run while the next one is planned: most of them wait for the disk.
const WINDOWS_AHEAD: usize = 2;
/// A directory that gets its mode when everything is in it.
struct NewDir {
    path: TreePath,
    mode: u16,
    mtime: Timestamp,
    told: Told,
}

/// Applies a plan, and notes and reports the results.
pub(crate) async fn apply(
    applying: &Applying<'_>,
    plan: Plan<'_>,
    contents: Contents,
    ledger: &mut Ledger,
) -> Result<(), Error> {
    let Applying { dir, options, monitor, .. } = applying;
    let staging = Stagings::create(dir, applying.file_systems.clone())
        .map(|staging| staging.waiting(applying.waits))
        .map_err(|e| Error::local("make a staging directory in", dir.path(), e))?;
    if applying.lane == Lane::All
        && let Err(e) = staging.main().take_over(&applying.arriving.take_left())
    {
        tracing::debug!(error = %e, "what was left of an earlier download is fetched again");
    }
    let staging = Arc::new(staging);
    // Half of the memory is for ranges in flight, to keep a distant store busy.
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
        coming: Moved::default(),
        hint: RETRY,
        sharing: Some((applying.arriving.clone(), applying.lane)),
        stop: applying.stop.clone(),
        most_parts: options.memory / 2,
    };
    let carrying = Carrying {
        applying,
        staging: &staging,
        jobs: Jobs::new(applying, &fetcher, &staging),
        windows: Windows::new(options.memory),
        contents,
        removals: Vec::new(),
        dirs: Vec::new(),
        standing: BTreeSet::new(),
        copies: BTreeSet::new(),
    };
    let done = carrying.carry_out(plan, ledger).await;
    drop(fetcher);
    let (times, root_time) = ledger.times.finish();
    let job_dir = dir.clone();
    let timed = match times.is_empty() {
        true => Ok(()),
        false => dir.blocking(move || set_all(&job_dir, &times)).await,
    };
    let noted = ledger.flush(applying);
    // If the journal is incomplete, the next sync needs the staging directories to see what arrived.
    if !applying.arriving.is_torn()
        && let Some(staging) = Arc::into_inner(staging)
    {
        let warnings = staging.finish(done.is_err() || ledger.stopped);
        warnings.iter().for_each(|warning| monitor.warning(warning));
    }
    if let Some(time) = root_time {
        // The staging directory was the last change of the mount's root.
        set_all(dir, &[(TreePath::root(), time)]);
    }
    done.and(timed.map_err(|e| Error::local("set the times in", dir.path(), io::Error::from(e)))).and(noted)
}

/// A running plan of a pull.
struct Carrying<'a> {
    applying: &'a Applying<'a>,
    staging: &'a Arc<Stagings>,
    jobs: Jobs<'a>,
    windows: Windows,
    contents: Contents,
    removals: Vec<Removal>,
    dirs: Vec<NewDir>,
    /// Directories that stay, or that the context has.
    standing: BTreeSet<TreePath>,
    /// Conflict copies of this pull that were there already.
    copies: BTreeSet<TreePath>,
}

impl<'a> Carrying<'a> {
    async fn carry_out(mut self, mut plan: Plan<'_>, ledger: &mut Ledger) -> Result<(), Error> {
        let applying = self.applying;
        while let Some(step) = self.jobs.beside(ledger, plan.next()).await?? {
            if applying.stop.is_cancelled() {
                ledger.stopped = true;
                break;
            }
            ledger.times.see_beside(plan.beside_before(Some(&step.path)));
            self.meet(&step, ledger)?;
            if !has_outcome(&step) || !ledger.takes(applying, &step) {
                ledger.leave(applying, &step);
                continue;
            }
            let mut told = told(&step, &applying.filter);
            told.row = told.row.map(|row| row.among(&applying.file_systems));
            ledger.expect(&told);
            match step.decision.verdict {
                Verdict::Delete => self.note_removal(&step, told, ledger)?,
                _ => self.put(step, told, ledger).await?,
            }
        }
        ledger.times.see_beside(plan.beside_before(None));
        ledger.times.end();
        self.begin_rest(ledger).await?;
        ledger.stopped |= applying.stop.is_cancelled();
        if !ledger.stopped {
            self.remove(ledger).await?;
            ledger.stopped |= applying.stop.is_cancelled();
        }
        self.set_modes(ledger).await
    }

    /// Processes a step, whether or not there is anything to do.
    fn meet(&mut self, step: &PlanStep, ledger: &mut Ledger) -> Result<(), Error> {
        let applying = self.applying;
        ledger.meet(applying, step)?;
        if let Some(archive) = unfinished(step, &applying.filter)
            && (applying.lane == Lane::Asked || !applying.arriving.asked().covers(&step.path))
        {
            ledger.queue_archive(archive);
        }
        // In a conflict, the local version keeps the path.
        let keeps = !has_outcome(step) || step.decision.verdict == Verdict::KeepBoth;
        let stays = is_local_dir(step) && keeps;
        if stays || step.remote.as_ref().is_some_and(|r| r.0.entry.is_dir()) {
            self.standing.insert(step.path.clone());
        }
        Ok(())
    }

    fn note_removal(&mut self, step: &PlanStep, told: Told, ledger: &mut Ledger) -> Result<(), Error> {
        // The context has it no more, and it is the copy of a new conflict.
        if self.copies.contains(&step.path) {
            return ledger.keep_copy(self.applying, &told);
        }
        if is_local_dir(step) || expecting(step).is_some() {
            self.removals.push(Removal { path: step.path.clone(), expected: expecting(step), told });
        } else {
            ledger.close(self.applying, &told, Applied::Failed)?;
        }
        if let Some(Expecting::Stat(print)) = expecting(step) {
            self.windows.clear(&step.path, print);
        }
        // A file for this path waits until the directory is empty.
        self.windows.park(&step.path);
        Ok(())
    }

    /// Puts the context's version into the mount: at its path, or beside it after a conflict.
    async fn put(&mut self, step: PlanStep, mut told: Told, ledger: &mut Ledger) -> Result<(), Error> {
        let (applying, verdict) = (self.applying, step.decision.verdict);
        if !self.make_way(&step, &told, ledger).await? {
            return Ok(());
        }
        let Some(remote) = &step.remote else {
            // Only an implied directory has no row, so its mode changes. After a conflict, what is below it
            // is pulled.
            if verdict == Verdict::Write {
                let (mode, mtime) = (Entry::IMPLIED_DIR.mode, Timestamp::default());
                self.dirs.push(NewDir { path: step.path.clone(), mode, mtime, told });
                return Ok(());
            }
            return ledger.close(applying, &told, Applied::Made);
        };
        let mut entry = remote.0.clone();
        if verdict == Verdict::KeepBoth {
            match free_place(applying, &step, &entry, &told, ledger).await? {
                Some(free) => {
                    told.copy = Some(free.clone());
                    entry.path = free;
                }
                None => {
                    self.copies.extend(step.copy);
                    return Ok(());
                }
            }
        }
        if entry.entry.is_dir() {
            return match make_dir(applying, &entry).await? {
                Applied::Made => {
                    let (mode, mtime) = (entry.entry.mode, entry.entry.mtime);
                    self.dirs.push(NewDir { path: entry.path, mode, mtime, told });
                    Ok(())
                }
                other => ledger.close(applying, &told, other),
            };
        }
        match expected_at(applying, &step, &entry).await? {
            Some(expected) => self.put_file(&step, entry, expected, told, ledger).await,
            None => {
                problem(applying.monitor, &entry.path, Trouble::passing(InstallError::Changed.to_string()));
                ledger.close(applying, &told, Applied::Failed)
            }
        }
    }

    /// Removes a file in the place of a new directory; false if that failed.
    async fn make_way(&mut self, step: &PlanStep, told: &Told, ledger: &mut Ledger) -> Result<bool, Error> {
        let Applying { dir, monitor, .. } = self.applying;
        if let Some(last) = self.removals.pop_if(|r| r.expected.is_some() && step.path.is_below(&r.path)) {
            let outcome = remove_now(dir, self.staging, &last.path, last.expected, *monitor).await?;
            ledger.close(self.applying, &last.told, outcome)?;
        }
        let comes_dir = step.remote.as_ref().is_none_or(|r| r.0.entry.is_dir());
        if comes_dir && step.decision.verdict == Verdict::Write && expecting(step).is_some() {
            let removed = remove_now(dir, self.staging, &step.path, expecting(step), *monitor).await?;
            if removed == Applied::Failed {
                ledger.close(self.applying, told, Applied::Failed)?;
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn put_file(
        &mut self,
        step: &PlanStep,
        entry: TreeEntry,
        expected: Expected,
        told: Told,
        ledger: &mut Ledger,
    ) -> Result<(), Error> {
        let applying = self.applying;
        if step.decision.verdict == Verdict::Write
            && let Expected::Leaf(print) = expected
            && has_same_content(step)
        {
            let (job_dir, job_path) = (applying.dir.clone(), entry.path.clone());
            let (mode, mtime) = (entry.entry.mode, entry.entry.mtime);
            let changed =
                applying.dir.blocking(move || change_mode(&job_dir, &job_path, &print, mode, mtime)).await;
            if let Ok(Ok(Some(print))) = changed {
                ledger.close(applying, &told, Applied::Installed(Some(print)))?;
                // Setting the time may have hidden a simultaneous edit, so the file is read again.
                return ledger.set(applying, &told, None);
            }
        }
        let mut item =
            Item { path: entry.path.clone(), entry, expected, source: None, clears: Vec::new(), told };
        if step.decision.verdict == Verdict::Write && is_local_dir(step) {
            // The directory is removed first, with the deletions.
            self.windows.blocked.push(item);
            return Ok(());
        }
        let found = self.contents.find(&item.path, &item.entry.entry);
        let found = found.map_err(|e| Error::local("read", "the local state", e))?;
        let is_copy = matches!(found, Some(Source::Coming(_)));
        item.source = found.map(|(Source::Coming(path) | Source::Here(path))| path);
        let begun = self.windows.add(item, is_copy);
        self.begin(begun, ledger).await
    }

    /// Pulls the rest of the plan: waiting files only after all small ones, and copies only after their
    /// sources.
    async fn begin_rest(&mut self, ledger: &mut Ledger) -> Result<(), Error> {
        let small = self.windows.small();
        self.begin(small, ledger).await?;
        self.jobs.drain_to(ledger, 0).await?;
        let waiting = self.windows.waiting();
        self.begin(waiting, ledger).await?;
        self.jobs.finish(ledger).await?;
        let copies = self.windows.copies();
        self.begin(copies, ledger).await?;
        self.jobs.finish(ledger).await
    }

    /// Starts these windows, a few at once: while one is made durable, the next one is fetched.
    async fn begin(&mut self, windows: Vec<Vec<Item>>, ledger: &mut Ledger) -> Result<(), Error> {
        for window in windows {
            self.jobs.drain_to(ledger, WINDOWS_AHEAD).await?;
            if ledger.stopped || self.applying.stop.is_cancelled() {
                break;
            }
            self.jobs.fetch(window);
        }
        Ok(())
    }

    /// Removes what is to be removed, and puts what replaces it in place.
    async fn remove(&mut self, ledger: &mut Ledger) -> Result<(), Error> {
        let (applying, dir) = (self.applying, &self.applying.dir);
        let (dir2, staging2, filter) = (dir.clone(), self.staging.clone(), applying.filter.clone());
        let mut blocked = std::mem::take(&mut self.windows.blocked);
        let making_room = blocked.iter().map(|item| item.path.clone()).collect();
        let (removals, standing) = (std::mem::take(&mut self.removals), std::mem::take(&mut self.standing));
        let removed = dir
            .blocking(move || remove_all(&dir2, &staging2, removals, standing, making_room, &filter))
            .await;
        let removed = removed.map_err(|e| Error::local("remove from", dir.path(), io::Error::from(e)))?;
        let Removed { told, dirs, stuck, full } = removed;
        applying.arriving.forget_dirs(&dirs);
        for (told, result) in told {
            match result {
                Ok(()) => ledger.close(applying, &told, Applied::Removed)?,
                Err((path, trouble)) => {
                    problem(applying.monitor, &path, trouble);
                    ledger.close(applying, &told, Applied::Failed)?;
                }
            }
        }
        for Stuck { path, mode, trouble } in stuck {
            // The next sync would take an empty directory as the user's.
            ledger.keep_dir(applying, &path, mode)?;
            let mut in_the_way = blocked.extract_if(.., |item| path.is_within(&item.path)).peekable();
            if in_the_way.peek().is_none() {
                problem(applying.monitor, &path, trouble.clone());
                ledger.note_failed();
            }
            for item in in_the_way {
                problem(applying.monitor, &item.path, trouble.clone());
                ledger.close(applying, &item.told, Applied::Failed)?;
            }
        }
        for item in blocked.extract_if(.., |item| full.contains(&item.path)) {
            let e = io::ErrorKind::DirectoryNotEmpty.into();
            let trouble = Trouble::local("the directory in its place cannot be removed", &e);
            problem(applying.monitor, &item.path, trouble);
            ledger.close(applying, &item.told, Applied::Failed)?;
        }
        if !blocked.is_empty() {
            self.jobs.fetch(blocked);
        }
        // What was in the way of an archive's directory may be gone now.
        self.jobs.finish_late(ledger).await
    }

    async fn set_modes(&mut self, ledger: &mut Ledger) -> Result<(), Error> {
        let (applying, dirs) = (self.applying, std::mem::take(&mut self.dirs));
        let dir = applying.dir.clone();
        let modes = applying.dir.blocking(move || set_modes(&dir, dirs)).await;
        let lost = |e| Error::local("change", applying.dir.path(), io::Error::from(e));
        for (told, result) in modes.map_err(lost)? {
            match result {
                Ok(outcome) => ledger.close(applying, &told, outcome)?,
                Err(trouble) => {
                    problem(applying.monitor, &told.path, trouble);
                    ledger.close(applying, &told, Applied::Failed)?;
                }
            }
        }
        Ok(())
    }
}

/// Finds a free name for a conflict copy. If there is none, the result of the step is noted.
async fn free_place(
    applying: &Applying<'_>,
    step: &PlanStep,
    entry: &TreeEntry,
    told: &Told,
    ledger: &mut Ledger,
) -> Result<Option<TreePath>, Error> {
    let Some(copy) = &step.copy else { return Ok(None) };
    match place_of_copy(&applying.dir, &step.path, copy, &entry.entry).await? {
        Ok(Some(free)) => return Ok(Some(free)),
        // The copy of the same conflict exists already.
        Ok(None) => ledger.close(applying, told, Applied::Made)?,
        Err(e) => {
            let trouble = Trouble::local("no place for a conflict copy", &e);
            problem(applying.monitor, &step.path, trouble);
            ledger.close(applying, told, Applied::Failed)?;
        }
    }
    Ok(None)
}

/// Returns what must be at a file's path when it is put in place; `None` if that has already changed.
async fn expected_at(
    applying: &Applying<'_>,
    step: &PlanStep,
    entry: &TreeEntry,
) -> Result<Option<Expected>, Error> {
    Ok(match (step.decision.verdict, expecting(step)) {
        (Verdict::KeepBoth, _) | (_, None) => Some(Expected::Absent),
        (_, Some(Expecting::Stat(print))) => Some(Expected::Leaf(print)),
        (_, Some(Expecting::Link(target))) => {
            look_at_link(&applying.dir, &entry.path, &target).await?.map(Expected::Leaf)
        }
    })
}

/// Finds the path for the context's version of `of`; `None` if the copy exists already.
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

/// Changes a file's mode in place; `None` if the file is not the expected one, or has other hard links, which
/// the change would affect too.
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
    rustix::fs::fchmod(&file, os::mode(mode))?;
    set_times(&file, mtime)?;
    Ok(Some(Fingerprint::of(&rustix::fs::fstat(&file).map_err(io::Error::from)?)))
}

async fn look_at_link(dir: &MountDir, path: &TreePath, target: &[u8]) -> Result<Option<Fingerprint>, Error> {
    let (job_dir, job_path, target) = (dir.clone(), path.clone(), target.to_vec());
    let seen = dir.blocking(move || link_print(&job_dir, &job_path, &target)).await;
    seen.map_err(|e| Error::local("look at", dir.show(path), io::Error::from(e)))
}

/// Creates a directory, unless it existed before and was removed.
async fn make_dir(applying: &Applying<'_>, entry: &TreeEntry) -> Result<Applied, Error> {
    let TreeEntry { path, entry, .. } = entry;
    let (dir, job_path, arriving) = (applying.dir.clone(), path.clone(), applying.arriving.clone());
    let is_asked = applying.lane == Lane::Asked;
    let was_withheld = arriving.was_withheld(path, entry);
    let made = applying.dir.blocking(move || {
        let vanished =
            || has_vanished(&dir, &arriving, &job_path) || was_withheld && is_missing(&dir, &job_path);
        if !is_asked && vanished() {
            return Ok(Applied::Withheld);
        }
        dir.make_dirs(&job_path)?;
        arriving.use_dir(&job_path);
        Ok::<_, io::Error>(Applied::Made)
    });
    match made.await.map_err(|e| Error::local("make", applying.dir.show(path), io::Error::from(e)))? {
        Ok(outcome) => Ok(outcome),
        Err(e) => {
            problem(applying.monitor, path, Trouble::local("the directory cannot be made", &e));
            Ok(Applied::Failed)
        }
    }
}

/// Sets the modes of directories, deepest first, because a directory that is not writable takes no more
/// files.
fn set_modes(dir: &MountDir, dirs: Vec<NewDir>) -> Vec<(Told, Result<Applied, Trouble>)> {
    let set = |path: &TreePath, mode, mtime| -> io::Result<Applied> {
        let fd = match dir.dir(path) {
            // The user has removed it on purpose.
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Applied::Withheld),
            other => other?,
        };
        rustix::fs::fchmod(&fd, os::mode(mode))?;
        if mtime != Timestamp::default() {
            set_times(&fd, mtime)?;
        }
        Ok(Applied::Made)
    };
    let set = dirs.into_iter().rev().map(|NewDir { path, mode, mtime, told }| {
        let result =
            set(&path, mode, mtime).map_err(|e| Trouble::local("the directory's mode cannot be set", &e));
        (told, result)
    });
    set.collect()
}
