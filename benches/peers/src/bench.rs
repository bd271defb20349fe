//! One cell: its set-up, the order in which the tools run, and the checks.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::aside::Aside;
use crate::cell::{Operation, Row};
use crate::data::{self, Data};
use crate::measure::{Used, measure, prepare, shown};
use crate::place::{Destination, Repo, Site, Traffic};
use crate::tools::{Machine, Tool};
use crate::tree::{self, Size};
use crate::{Result, say};

/// A command that takes longer than this, in seconds, runs once.
const LONG: f64 = 120.0;
/// A command that takes longer than this, in seconds, has two rounds that count.
const SLOW: f64 = 15.0;
/// A careful tool reads a file again that was written this short a time ago.
const GRAIN: Duration = Duration::from_millis(100);

/// What all cells share.
#[derive(Clone, Copy)]
pub(crate) struct Surroundings<'a> {
    /// The program that is measured.
    pub(crate) ctxsync: &'a Path,
    pub(crate) aside: &'a Aside,
    /// The directory of the data sets.
    pub(crate) data: &'a Path,
}

/// One cell being measured. Everything that it leaves is below `dir`, and is put aside with it.
pub(crate) struct Bench<'a> {
    data: &'a Data,
    operation: Operation,
    site: Site,
    dir: PathBuf,
    around: Surroundings<'a>,
    /// The tree that is pushed: a copy if much of it will change.
    source: PathBuf,
}

impl Drop for Bench<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.around.aside.put(&self.dir) {
            say(&format!("cannot remove {}: {error}", self.dir.display()));
        }
    }
}

impl<'a> Bench<'a> {
    /// Creates the cell's directory `dir`, which nothing else uses.
    pub(crate) fn new(
        data: &'a Data,
        to: Destination,
        operation: Operation,
        dir: &Path,
        around: Surroundings<'a>,
    ) -> Result<Self> {
        around.aside.put(dir)?;
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
        Ok(Self { data, operation, site, dir, around, source })
    }

    /// Runs the tools in turn, round by round. The first round does not count.
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
        let mut allowed: BTreeMap<Tool, usize> = BTreeMap::new();
        let one = if self.operation == Operation::PushOne {
            Some(data::Changed::new(&self.source.join(self.wanted()?))?)
        } else {
            None
        };
        for round in 0..=rounds {
            if let Some(one) = &one {
                one.change(round)?;
                std::thread::sleep(GRAIN);
            }
            if self.operation.changes() && self.data.next.is_none() {
                data::change(self.data.set, &self.source, round)?;
                std::thread::sleep(GRAIN);
            }
            for (tool, _) in tools {
                let Some(row) = rows.get_mut(tool).filter(|row| row.error.is_none()) else { continue };
                if row.runs.len() >= *allowed.get(tool).unwrap_or(&rounds) {
                    continue;
                }
                match self.round(*tool, round, row) {
                    Ok(used) => {
                        if round == 0 {
                            allowed.insert(*tool, rounds.min(rounds_of(used.wall)));
                        }
                        // The first round counts if it is the only one.
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

    /// Whether each round begins with an empty store, or with what the set-up creates.
    fn starts_anew(&self) -> bool {
        self.operation == Operation::FirstPush || (self.operation.changes() && self.data.set.changes_once())
    }

    /// Pushes the tree, as the state to begin with.
    fn set_up(&self, tool: Tool, round: usize) -> Result<()> {
        let (repo, state) = self.fresh(tool, round)?;
        self.untimed(tool, |machine| Ok(tool.push(&repo, machine, &self.source)), &state)?;
        if self.operation == Operation::PullChanged {
            let target = self.target(tool, round);
            std::fs::create_dir_all(&target)?;
            let state = self.state(tool, round, "there");
            self.untimed(tool, |machine| Ok(tool.pull(&repo, machine, &target)), &state)?;
        }
        Ok(())
    }

    /// Creates an empty store.
    fn fresh(&self, tool: Tool, round: usize) -> Result<(Repo, PathBuf)> {
        let repo = self.site.repo(&self.name(tool, round));
        let state = self.state(tool, round, "here");
        if let Some(init) = tool.init(&repo, Machine { ctxsync: self.around.ctxsync, state: &state })? {
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
        let repo = self.site.repo(&name);
        let here = self.state(tool, made, "here");
        let is_pull = matches!(self.operation, O::Pull | O::PullChanged | O::FetchOne);
        if self.operation == O::PullChanged {
            self.untimed(tool, |machine| Ok(tool.push(&repo, machine, &self.source)), &here)?;
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
        let machine = Machine { ctxsync: self.around.ctxsync, state: &state };
        let of_one = matches!(self.operation, O::FetchOne | O::PushOne);
        let wanted = if of_one { self.wanted()? } else { String::new() };
        let command = match self.operation {
            O::FirstPush | O::PushUnchanged | O::PushChanged | O::PushOne => {
                tool.push(&repo, machine, &self.source)
            }
            O::Pull | O::PullChanged => tool.pull(&repo, machine, &target),
            O::FetchOne => fetching(tool, &repo, machine, &wanted, &target)?,
        };
        let before = (self.site.stored(&name)?, self.site.traffic());
        rustix::fs::sync();
        let used = measure(&command, &self.logs(tool))?;
        if counted {
            self.count(&name, before, row)?;
            row.command = shown(&command, &self.names(&repo));
        }
        match self.operation {
            O::Pull | O::PullChanged => tree::compare(&self.source, &target, tool.keeps_all())?,
            O::FetchOne => tree::expect_same(&self.source.join(&wanted), &target.join(&wanted))?,
            // A push is checked by fetching what it pushed; other pushes by a pull after the first round.
            O::PushOne => {
                let state = self.state(tool, round, "check");
                self.untimed(tool, |machine| fetching(tool, &repo, machine, &wanted, &target), &state)?;
                tree::expect_same(&self.source.join(&wanted), &target.join(&wanted))?;
            }
            _ if counted && tool != Tool::Find => self.check_push(tool, &name, &repo)?,
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

    fn check_push(&self, tool: Tool, name: &str, repo: &Repo) -> Result<()> {
        if tool.stores_files() {
            return tree::compare(&self.source, &self.site.on_disk(name), tool.keeps_all());
        }
        let target = self.dir.join(format!("{tool}-check"));
        std::fs::create_dir_all(&target)?;
        let state = self.state(tool, 0, "check");
        self.untimed(tool, |machine| Ok(tool.pull(repo, machine, &target)), &state)?;
        tree::compare(&self.source, &target, tool.keeps_all())?;
        self.around.aside.put(&target)
    }

    /// Returns the names that replace paths in a command that is shown.
    fn names(&self, repo: &Repo) -> Vec<(String, &'static str)> {
        let mut names = vec![
            (self.around.ctxsync.display().to_string(), "ctxsync"),
            (self.dir.display().to_string(), "$WORK"),
            (self.around.data.display().to_string(), "$DATA"),
        ];
        if let Repo::S3 { endpoint, .. } = repo {
            names.push((endpoint.clone(), "$ENDPOINT"));
        }
        names
    }

    /// Puts aside what no later round needs.
    fn clear(&self, tool: Tool, round: usize, name: &str, target: &Path) -> Result<()> {
        if self.starts_anew() {
            self.around.aside.put(&self.site.on_disk(name))?;
        }
        if self.operation != Operation::PullChanged || self.starts_anew() {
            self.around.aside.put(target)?;
        }
        if matches!(self.operation, Operation::Pull | Operation::FetchOne) {
            self.around.aside.put(&self.state(tool, round, "there"))?;
        }
        Ok(())
    }

    /// Replaces the tree by its next version, or by the first one again.
    fn swap(&self) -> Result<()> {
        let (next, between) = (self.dir.join("next"), self.dir.join("between"));
        std::fs::rename(&self.source, &between)?;
        std::fs::rename(&next, &self.source)?;
        Ok(std::fs::rename(&between, &next)?)
    }

    fn untimed(
        &self,
        tool: Tool,
        command: impl FnOnce(Machine<'_>) -> Result<Command>,
        state: &Path,
    ) -> Result<()> {
        std::fs::create_dir_all(state)?;
        prepare(command(Machine { ctxsync: self.around.ctxsync, state })?, &self.logs(tool))
    }

    /// Returns the file to fetch: one in the middle, and a small one if possible.
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

/// Returns the number of rounds that count for a command that takes this many seconds.
fn rounds_of(seconds: f64) -> usize {
    match seconds {
        s if s > LONG => 1,
        s if s > SLOW => 2,
        _ => usize::MAX,
    }
}

/// Returns the command that fetches one file, and creates the directories that it needs.
fn fetching(tool: Tool, repo: &Repo, machine: Machine<'_>, path: &str, target: &Path) -> Result<Command> {
    if let Some(parent) = target.join(path).parent() {
        std::fs::create_dir_all(parent)?;
    }
    Ok(tool.fetch(repo, machine, path, target))
}

fn copy(from: &Path, to: &Path, logs: &Path) -> Result<()> {
    let mut cp = Command::new("cp");
    cp.arg("-a").arg(from).arg(to);
    prepare(cp, &logs.join("cp-logs"))
}
