//! One cell: what is set up, in which order the tools do it, and what is checked.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::cell::{Operation, Row};
use crate::data::{self, Data};
use crate::measure::{Used, measure, prepare};
use crate::place::{Destination, Repo, Site, Traffic};
use crate::tools::{Machine, Tool};
use crate::tree::{self, Size};
use crate::{Result, say};

/// A command that takes longer than this, in seconds, runs once.
const LONG: f64 = 120.0;

/// One cell being measured. All that it leaves is below `dir`, and vanishes with it.
pub(crate) struct Bench<'a> {
    data: &'a Data,
    operation: Operation,
    site: Site,
    dir: PathBuf,
    ctxsync: &'a Path,
    /// The tree that is saved; a copy where it is to be changed.
    source: PathBuf,
}

impl Drop for Bench<'_> {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.dir) {
            say(&format!("cannot remove {}: {error}", self.dir.display()));
        }
    }
}

impl<'a> Bench<'a> {
    /// Makes the place; `dir` is for this cell alone.
    pub(crate) fn new(
        data: &'a Data,
        to: Destination,
        operation: Operation,
        dir: &Path,
        ctxsync: &'a Path,
    ) -> Result<Self> {
        if dir.exists() {
            std::fs::remove_dir_all(dir)?;
        }
        std::fs::create_dir_all(dir)?;
        let site = Site::new(to, dir)?;
        let mut source = data.tree.clone();
        let dir = dir.to_owned();
        if operation.changes() {
            source = dir.join("source");
            copy(&data.tree, &source, &dir)?;
            if let Some(next) = &data.next {
                copy(next, &dir.join("next"), &dir)?;
            }
        }
        Ok(Self { data, operation, site, dir, ctxsync, source })
    }

    /// Lets the tools do it in turn, round by round; the first round does not count.
    pub(crate) fn measure(
        &self,
        tools: &[(Tool, String)],
        rounds: usize,
        rows: &mut BTreeMap<Tool, Row>,
    ) -> Result<()> {
        for (tool, version) in tools {
            let mut row = Row { version: version.clone(), ..Row::default() };
            if !self.starts_anew() {
                row.error = self.set_up(*tool, 0).err().map(|e| e.to_string());
            }
            rows.insert(*tool, row);
        }
        for round in 0..=rounds {
            if self.operation.changes() && self.data.next.is_none() {
                data::change(self.data.set, &self.source, round)?;
                // What was written in this moment is looked at twice by whoever is careful.
                std::thread::sleep(Duration::from_millis(100));
            }
            for (tool, _) in tools {
                let Some(row) = rows.get_mut(tool).filter(|row| row.error.is_none()) else { continue };
                if round > 1 && row.runs.first().is_some_and(|first| first.wall > LONG) {
                    continue;
                }
                match self.round(*tool, round, row) {
                    Ok(used) => {
                        // The first round counts after all where there will be no other.
                        if round > 0 || used.wall > LONG {
                            row.runs.push(used);
                        }
                    }
                    Err(error) => {
                        say(&format!("{tool}: {error}"));
                        row.error = Some(error.to_string());
                    }
                }
            }
        }
        Ok(())
    }

    /// Whether each round begins with nothing in the store, or with what the set-up makes.
    fn starts_anew(&self) -> bool {
        self.operation == Operation::FirstPush || (self.operation.changes() && self.data.set.changes_once())
    }

    /// Saves the tree, so that there is something to begin with.
    fn set_up(&self, tool: Tool, round: usize) -> Result<()> {
        let (repo, state) = self.fresh(tool, round)?;
        self.untimed(tool, |machine| tool.push(&repo, machine, &self.source), &state)?;
        if self.operation == Operation::PullChanged {
            let target = self.target(tool, round);
            std::fs::create_dir_all(&target)?;
            let state = self.state(tool, round, "there");
            self.untimed(tool, |machine| tool.pull(&repo, machine, &target), &state)?;
        }
        Ok(())
    }

    /// Makes an empty store.
    fn fresh(&self, tool: Tool, round: usize) -> Result<(Repo, PathBuf)> {
        let repo = self.site.repo(&self.name(tool, round), false);
        let state = self.state(tool, round, "here");
        if let Some(init) = tool.init(&repo, Machine { ctxsync: self.ctxsync, state: &state })? {
            prepare(init, &self.logs(tool))?;
        }
        Ok((repo, state))
    }

    fn round(&self, tool: Tool, round: usize, row: &mut Row) -> Result<Used> {
        use Operation as O;
        if self.starts_anew() {
            if self.operation == O::FirstPush {
                self.fresh(tool, round)?;
            } else {
                self.set_up(tool, round)?;
                self.swap()?;
            }
        }
        let counted = round == 0;
        let made = if self.starts_anew() { round } else { 0 };
        let name = self.name(tool, made);
        let repo = self.site.repo(&name, counted);
        let here = self.state(tool, made, "here");
        let is_pull = matches!(self.operation, O::Pull | O::PullChanged | O::FetchOne);
        if self.operation == O::PullChanged {
            self.untimed(tool, |machine| tool.push(&repo, machine, &self.source), &here)?;
        }
        let (state, target) = match self.operation {
            O::PullChanged => (self.state(tool, made, "there"), self.target(tool, made)),
            O::Pull | O::FetchOne => (self.state(tool, round, "there"), self.target(tool, round)),
            _ => (here, self.target(tool, round)),
        };
        std::fs::create_dir_all(&state)?;
        if is_pull {
            std::fs::create_dir_all(&target)?;
        }
        let machine = Machine { ctxsync: self.ctxsync, state: &state };
        let wanted = if self.operation == O::FetchOne { self.wanted()? } else { String::new() };
        let command = match self.operation {
            O::FirstPush | O::PushUnchanged | O::PushChanged => tool.push(&repo, machine, &self.source),
            O::Pull | O::PullChanged => tool.pull(&repo, machine, &target),
            O::FetchOne => {
                if let Some(parent) = target.join(&wanted).parent() {
                    std::fs::create_dir_all(parent)?;
                }
                tool.fetch(&repo, machine, &wanted, &target)
            }
        };
        let before = (self.site.stored(&name)?, self.site.traffic());
        rustix::fs::sync();
        let used = measure(&command, &self.logs(tool))?;
        if counted {
            self.count(&name, before, row)?;
        }
        match self.operation {
            O::Pull | O::PullChanged => tree::compare(&self.source, &target, tool.keeps_all())?,
            O::FetchOne => tree::expect_same(&self.source.join(&wanted), &target.join(&wanted))?,
            // A push shows by what can be brought back; once is enough for all its rounds.
            _ if counted && tool != Tool::Find => self.check_push(tool, &repo)?,
            _ => {}
        }
        if self.starts_anew() && self.operation != O::FirstPush {
            self.swap()?;
        }
        self.clear(tool, round, &name, &target)?;
        Ok(used)
    }

    fn count(&self, name: &str, before: (Size, Option<Traffic>), row: &mut Row) -> Result<()> {
        let stored = self.site.stored(name)?;
        (row.stored, row.objects) = (stored.bytes, stored.files);
        row.added = stored.bytes as i64 - before.0.bytes as i64;
        if let (Some(before), Some(after)) = (before.1, self.site.traffic()) {
            row.requests = Some(after.requests - before.requests);
            row.sent = Some(after.bytes.sent - before.bytes.sent);
            row.received = Some(after.bytes.received - before.bytes.received);
        }
        Ok(())
    }

    fn check_push(&self, tool: Tool, repo: &Repo) -> Result<()> {
        let target = self.dir.join(format!("{tool}-check"));
        std::fs::create_dir_all(&target)?;
        let state = self.state(tool, 0, "check");
        self.untimed(tool, |machine| tool.pull(repo, machine, &target), &state)?;
        tree::compare(&self.source, &target, tool.keeps_all())?;
        self.put_aside(&target)
    }

    /// Takes away what no later round needs.
    fn clear(&self, tool: Tool, round: usize, name: &str, target: &Path) -> Result<()> {
        if self.starts_anew() {
            self.put_aside(&self.site.on_disk(name))?;
        }
        if self.operation != Operation::PullChanged || self.starts_anew() {
            self.put_aside(target)?;
        }
        if matches!(self.operation, Operation::Pull | Operation::FetchOne) {
            self.put_aside(&self.state(tool, round, "there"))?;
        }
        Ok(())
    }

    /// Removes a tree of few files. One of many is moved away until the cell's end: making files is slow
    /// for a while on a file system that has just lost many.
    fn put_aside(&self, path: &Path) -> Result<()> {
        if !path.exists() {
            return Ok(());
        }
        if tree::size(path)?.files < 500 {
            return Ok(std::fs::remove_dir_all(path)?);
        }
        let aside = self.dir.join("aside");
        std::fs::create_dir_all(&aside)?;
        let number = std::fs::read_dir(&aside)?.count();
        let moved = std::fs::rename(path, aside.join(number.to_string()));
        // A server's objects may be on another file system.
        moved.or_else(|_| std::fs::remove_dir_all(path)).map_err(Into::into)
    }

    /// Puts the next version in the tree's place, or the first one back.
    fn swap(&self) -> Result<()> {
        let (next, between) = (self.dir.join("next"), self.dir.join("between"));
        std::fs::rename(&self.source, &between)?;
        std::fs::rename(&next, &self.source)?;
        Ok(std::fs::rename(&between, &next)?)
    }

    fn untimed(
        &self,
        tool: Tool,
        command: impl FnOnce(Machine<'_>) -> std::process::Command,
        state: &Path,
    ) -> Result<()> {
        std::fs::create_dir_all(state)?;
        prepare(command(Machine { ctxsync: self.ctxsync, state }), &self.logs(tool))
    }

    /// Returns the file that is fetched on its own: one in the middle, and not a large one if that can be.
    fn wanted(&self) -> Result<String> {
        let files = tree::files(&self.source)?;
        let middle = files.iter().skip(files.len() / 2).chain(&files);
        let small = |path: &&PathBuf| path.metadata().is_ok_and(|m| (1 << 10..64 << 10).contains(&m.len()));
        let path = middle.clone().find(small).or_else(|| files.first()).ok_or("there is no file")?;
        Ok(path.strip_prefix(&self.source)?.display().to_string())
    }

    fn name(&self, tool: Tool, round: usize) -> String {
        format!("{tool}-store-{round}")
    }

    fn state(&self, tool: Tool, round: usize, whose: &str) -> PathBuf {
        self.dir.join(format!("{tool}-state-{round}-{whose}"))
    }

    fn target(&self, tool: Tool, round: usize) -> PathBuf {
        self.dir.join(format!("{tool}-target-{round}"))
    }

    fn logs(&self, tool: Tool) -> PathBuf {
        self.dir.join(format!("{tool}-logs"))
    }
}

fn copy(from: &Path, to: &Path, logs: &Path) -> Result<()> {
    let mut cp = std::process::Command::new("cp");
    cp.arg("-a").arg(from).arg(to);
    prepare(cp, &logs.join("cp-logs"))
}
