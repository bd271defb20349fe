//! One point: its set-up and its operations.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use ctxsync_benches::Random;
use serde::Deserialize;

use super::point::{Operation, Point, Row, Series};
use crate::aside::Aside;
use crate::data::like_d1;
use crate::measure::{measure as measure_command, prepare};
use crate::place::Repo;
use crate::tools::{Machine, Tool};
use crate::tree::{self, Size};
use crate::{Result, say};

/// A command that takes longer than this, in seconds, runs once.
const LONG: f64 = 120.0;
/// The factor by which files are smaller than D1's: about 1 KiB on average, so that a million of them fit.
const SHRINK: u64 = 8;
/// The files of a context whose number of snapshots varies, and how many of them each snapshot changes.
const FILES: u64 = 2000;
const CHANGED: usize = 20;

/// The directory and the program of a run.
pub(crate) struct Place<'a> {
    pub(crate) dir: PathBuf,
    pub(crate) ctxsync: &'a Path,
    pub(crate) rounds: usize,
    pub(crate) aside: Aside,
}

/// Measures one point.
pub(crate) fn measure(series: Series, n: u64, version: String, place: &Place<'_>) -> Result<Point> {
    let dir = place.dir.join("work");
    place.aside.put(&dir)?;
    place.aside.make_room()?;
    let source = dir.join("source");
    std::fs::create_dir_all(&source)?;
    like_d1(&source, if series == Series::Files { n } else { FILES }, SHRINK)?;
    let Size { files, bytes } = tree::size(&source)?;
    let paths = tree::files(&source)?;
    let rows = std::collections::BTreeMap::new();
    let point = Point { series, n, files, bytes, version, rows };
    let random = Random::new(11);
    let mut bench = Bench { place, source, dir, paths, random, point };
    bench.all()?;
    place.aside.put(&bench.dir)?;
    Ok(bench.point)
}

/// A point being measured.
struct Bench<'a> {
    place: &'a Place<'a>,
    dir: PathBuf,
    source: PathBuf,
    /// The files of the source.
    paths: Vec<PathBuf>,
    random: Random,
    point: Point,
}

/// The last line of `--json`.
#[derive(Debug, Deserialize)]
struct Summary {
    added: u64,
    changed: u64,
    deleted: u64,
    requests: u64,
    bytes_sent: u64,
    bytes_received: u64,
}

impl Bench<'_> {
    fn all(&mut self) -> Result<()> {
        use Operation as O;
        if self.point.series == Series::Files {
            self.rounds(O::FirstPush, |bench, round| {
                bench.anew(&["store", "here"])?;
                bench.round(O::FirstPush, round, "here")
            })?;
        } else {
            self.push_snapshots()?;
        }
        self.rounds(O::PushUnchanged, |bench, round| bench.round(O::PushUnchanged, round, "here"))?;
        self.rounds(O::Pull, |bench, round| {
            bench.anew(&["target", "there"])?;
            bench.round(O::Pull, round, "there")
        })?;
        self.rounds(O::PullUnchanged, |bench, round| bench.round(O::PullUnchanged, round, "there"))?;
        self.rounds(O::FetchOne, |bench, round| {
            bench.anew(&["one", "elsewhere"])?;
            bench.round(O::FetchOne, round, "elsewhere")
        })?;
        let wanted = self.wanted()?;
        tree::expect_same(&self.source.join(&wanted), &self.dir.join("one").join(&wanted))?;
        if self.point.series == Series::Snapshots {
            self.rounds(O::Log, |bench, round| bench.round(O::Log, round, "here"))?;
            self.rounds(O::Gc, |bench, round| bench.round(O::Gc, round, "here"))?;
        }
        self.rounds(O::PushOne, |bench, round| {
            bench.change(1)?;
            // A careful tool reads a file again that was written a moment ago.
            std::thread::sleep(Duration::from_millis(100));
            bench.round(O::PushOne, round, "here")?;
            bench.round(O::PullOne, round, "there")
        })?;
        // The files of the first pull and of later ones.
        tree::compare(&self.source, &self.dir.join("target"), true)?;
        if self.point.series == Series::Files {
            return Ok(());
        }
        prepare(self.collection("here"), &self.dir.join("logs"))?;
        self.rounds(O::PullCollected, |bench, round| {
            bench.anew(&["target", "there"])?;
            bench.round(O::PullCollected, round, "there")
        })?;
        tree::compare(&self.source, &self.dir.join("target"), true)
    }

    /// Pushes this point's number of snapshots.
    fn push_snapshots(&mut self) -> Result<()> {
        self.anew(&["store", "here"])?;
        for number in 0..self.point.n {
            if number > 0 {
                self.change(CHANGED)?;
            }
            prepare(self.command(Operation::FirstPush, "here")?, &self.dir.join("logs"))?;
        }
        std::thread::sleep(Duration::from_millis(100));
        Ok(())
    }

    /// Runs all rounds, or one if that takes long.
    fn rounds(
        &mut self,
        operation: Operation,
        mut once: impl FnMut(&mut Self, usize) -> Result<()>,
    ) -> Result<()> {
        say(&format!("  {operation}"));
        for round in 0..=self.place.rounds {
            let first = self.point.rows.get(&operation).and_then(|row| row.runs.first());
            if first.is_none_or(|run| run.wall <= LONG) {
                once(self, round)?;
            }
        }
        Ok(())
    }

    /// Replaces directories by empty ones.
    fn anew(&self, names: &[&str]) -> Result<()> {
        names.iter().try_for_each(|name| {
            let dir = self.dir.join(name);
            self.place.aside.put(&dir)?;
            self.place.aside.make_room()?;
            Ok(std::fs::create_dir_all(dir)?)
        })
    }

    /// Runs the program once. The first round checks the summary and counts requests and bytes; the others
    /// measure time and memory.
    fn round(&mut self, operation: Operation, round: usize, state: &str) -> Result<()> {
        let mut command = self.command(operation, state)?;
        let logs = self.dir.join("logs");
        rustix::fs::sync();
        if round > 0 {
            let used = measure_command(&command, &logs)?;
            self.point.rows.entry(operation).or_default().runs.push(used);
            return Ok(());
        }
        command.arg("--json");
        prepare(command, &logs)?;
        let summary = summary(&logs.join("output.log"))?;
        expect(operation, &summary, self.point.files)?;
        let row = Row {
            requests: summary.requests,
            sent: summary.bytes_sent,
            received: summary.bytes_received,
            stored: tree::size(&self.dir.join("store"))?.bytes,
            state: tree::size(&self.dir.join(state))?.bytes,
            runs: Vec::new(),
        };
        self.point.rows.insert(operation, row);
        Ok(())
    }

    fn command(&self, operation: Operation, state: &str) -> Result<Command> {
        use Operation as O;
        let repo = Repo::Dir(self.dir.join("store"));
        let machine = Machine { ctxsync: self.place.ctxsync, state: &self.dir.join(state) };
        let tool = Tool::Ctxsync;
        Ok(match operation {
            O::FirstPush | O::PushUnchanged | O::PushOne => tool.push(&repo, machine, &self.source),
            O::Pull | O::PullCollected | O::PullUnchanged | O::PullOne => {
                tool.pull(&repo, machine, &self.dir.join("target"))
            }
            O::FetchOne => tool.fetch(&repo, machine, &self.wanted()?, &self.dir.join("one")),
            O::Log => {
                let mut command = tool.command(&repo, machine);
                command.args(["log", "work"]);
                command
            }
            O::Gc => {
                let mut command = self.collection(state);
                command.arg("--dry-run");
                command
            }
        })
    }

    /// Returns the command that collects garbage.
    fn collection(&self, state: &str) -> Command {
        let machine = Machine { ctxsync: self.place.ctxsync, state: &self.dir.join(state) };
        let mut command = Tool::Ctxsync.command(&Repo::Dir(self.dir.join("store")), machine);
        command.arg("gc");
        command
    }

    /// Returns the file to fetch, one in the middle.
    fn wanted(&self) -> Result<String> {
        let path = self.paths.get(self.paths.len() / 2).ok_or("there is no file")?;
        Ok(path.strip_prefix(&self.source)?.display().to_string())
    }

    /// Makes this many files one byte longer, each only once, so that all are changed.
    fn change(&mut self, number: usize) -> Result<()> {
        let mut left: Vec<usize> = Vec::new();
        while left.len() < number.min(self.paths.len()) {
            let index = self.random.below(self.paths.len() as u64) as usize;
            if !left.contains(&index) {
                left.push(index);
                let mut file = OpenOptions::new().append(true).open(&self.paths[index])?;
                file.write_all(&self.random.bytes(1))?;
            }
        }
        Ok(())
    }
}

/// Reads the summary from the program's output.
fn summary(log: &Path) -> Result<Summary> {
    let mut last = None;
    for line in BufReader::new(File::open(log)?).lines() {
        let line = line?;
        if line.starts_with(r#"{"message_type":"summary""#) {
            last = Some(line);
        }
    }
    Ok(serde_json::from_str(&last.ok_or("there is no summary")?)?)
}

/// Fails unless the operation did what it should.
fn expect(operation: Operation, summary: &Summary, files: u64) -> Result<()> {
    use Operation as O;
    let Summary { added, changed, deleted, .. } = summary;
    let good = match operation {
        O::FirstPush | O::Pull | O::PullCollected => *added >= files && (*changed, *deleted) == (0, 0),
        O::PushOne | O::PullOne => (*added, *changed, *deleted) == (0, 1, 0),
        O::FetchOne => (*added, *changed, *deleted) == (1, 0, 0),
        O::PushUnchanged | O::PullUnchanged | O::Log | O::Gc => (*added, *changed, *deleted) == (0, 0, 0),
    };
    if good { Ok(()) } else { Err(format!("{operation} did something else: {summary:?}").into()) }
}
