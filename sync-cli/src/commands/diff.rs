//! `diff`: what differs between two snapshots, or a snapshot and a directory; or between directories of snapshots.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use policy_core::{Entry, Node, TreePath, escape};
use transfer_engine::format::Snapshot;
use transfer_engine::{
    At, ContextPart, ContextSync, DiffDir, DiffOptions, DiffReport, DifferenceKind, Error, PathDifference,
    SnapshotPart, Store, SyncReport,
};

use super::Finished;
use super::sync::{absolute, has, is_in};
use crate::args::DiffArgs;
use crate::errors::Failure;
use crate::exit::Exit;
use crate::means::Means;
use crate::open_store::open_store;
use crate::output::json::{DifferenceLine, Line, PathField};
use crate::output::summary::Compared;
use crate::output::{Ui, Watch};
use crate::place::{ContextAt, PathAt, os_path, tree_paths};
use crate::{policy, text};

/// The longest file of which lines are compared, in bytes.
const LONGEST: u64 = 16 << 20;
/// How long lines are compared. What is shown after that is right, and longer than it need be.
const PATIENCE: Duration = Duration::from_secs(5);

/// One side of a comparison.
enum Side {
    /// A snapshot, and the directory of it.
    Snapshot(Arc<Snapshot>, ContextPart),
    Dir {
        typed: PathBuf,
        path: PathBuf,
    },
}

impl Side {
    /// Finds what an argument names.
    async fn find(typed: &OsStr, store: &Store) -> Result<Self, Failure> {
        let dir = |typed: &OsStr| {
            let typed = PathBuf::from(typed);
            let path = absolute(&typed)?;
            match path.is_dir() {
                true => Ok(Self::Dir { path, typed }),
                false => Err(Failure::new(Exit::NOT_FOUND, format!("no directory {}", typed.display()))),
            }
        };
        if matches!(typed.as_bytes().first(), Some(b'.' | b'/')) {
            return dir(typed);
        }
        let is_dir = || Path::new(typed).is_dir();
        let place = match PathAt::parse(typed.as_bytes()) {
            Ok(place) => place,
            Err(_) if is_dir() => return dir(typed),
            Err(why) => return Err(Failure::usage(why)),
        };
        let context = &place.context;
        match store.snapshot(&context.name, context.at.clone()).await {
            Err(Error::NoContext { .. }) if context.at == At::Head && is_dir() => dir(typed),
            found => Ok(Self::Snapshot(found?, place.part())),
        }
    }

    /// Returns the name of this side.
    fn name(&self) -> String {
        match self {
            Self::Snapshot(snapshot, part) => place(snapshot, &part.path),
            Self::Dir { typed, .. } => escape(typed.as_os_str().as_bytes()),
        }
    }

    /// Whether a path, or something below it, is on this side.
    async fn has(&self, path: &TreePath, store: &Store) -> Result<bool, Failure> {
        match self {
            _ if path.is_root() => Ok(true),
            Self::Snapshot(snapshot, part) => has(store, snapshot, &part.outer(path)).await,
            Self::Dir { path: dir, .. } => Ok(is_in(dir, path)),
        }
    }

    /// Returns the name of a path on this side.
    fn name_of(&self, path: &TreePath) -> String {
        match self {
            Self::Snapshot(snapshot, part) => place(snapshot, &part.outer(path)),
            Self::Dir { typed, .. } => escape(typed.join(os_path(path)).as_os_str().as_bytes()),
        }
    }

    /// Returns the bytes of a file, or the target of a link; `None` if it is too long.
    async fn content(
        &self,
        path: &TreePath,
        entry: &Entry,
        store: &Store,
    ) -> Result<Option<Vec<u8>>, Failure> {
        let size = match &entry.node {
            Node::Symlink { target } => return Ok(Some(target.to_vec())),
            Node::Dir => return Ok(Some(Vec::new())),
            Node::File { size, .. } => *size,
        };
        if size > LONGEST {
            return Ok(None);
        }
        match self {
            Self::Snapshot(snapshot, part) => {
                let file = store.entry(snapshot, &part.outer(path)).await?;
                let mut read = Vec::new();
                store
                    .read_file(&file, 0..size, |part| {
                        read.extend_from_slice(&part);
                        Ok(())
                    })
                    .await?;
                Ok(Some(read))
            }
            Self::Dir { path: dir, .. } => {
                let place = dir.join(os_path(path));
                let read = std::fs::read(&place).map_err(|e| Failure::local("read", &place, &e))?;
                Ok((read.len() as u64 <= LONGEST).then_some(read))
            }
        }
    }
}

pub(super) async fn diff(args: &DiffArgs, means: Means<'_>) -> Result<Finished, Failure> {
    let store = open_store(means, false)?.store;
    let options = DiffOptions { only: tree_paths(&args.paths)? };
    let (a, b) = (Side::find(&args.a, &store).await?, Side::find(&args.b, &store).await?);
    for path in &options.only {
        if !a.has(path, &store).await? && !b.has(path, &store).await? {
            let message = format!("no `{path}` in {} or in {}", a.name(), b.name());
            return Err(Failure::new(Exit::NOT_FOUND, message));
        }
    }
    let mut shown = Shown { args, ui: means.ui, lines: Vec::new() };
    let each = |difference| shown.note(difference);
    let (part, report) = match (&a, &b) {
        (Side::Snapshot(before, part), Side::Snapshot(after, other)) => {
            let before = SnapshotPart { snapshot: before, path: part.path.clone() };
            let after = SnapshotPart { snapshot: after, path: other.path.clone() };
            (part, store.diff_parts(before, after, &options, each).await?)
        }
        (Side::Snapshot(before, part), Side::Dir { path, .. }) => {
            (part, with_dir((before, part), path, &options, &store, means, each).await?)
        }
        (Side::Dir { path, .. }, Side::Snapshot(after, part)) => {
            let each = |difference: PathDifference| shown.note(difference.reversed());
            let report = with_dir((after, part), path, &options, &store, means, each).await?;
            (part, reversed(report))
        }
        (Side::Dir { .. }, Side::Dir { .. }) => {
            return Err(Failure::usage("both are directories").hint("`diff -r` compares directories"));
        }
    };
    let lines = std::mem::take(&mut shown.lines);
    for difference in &lines {
        show_lines(difference, &a, &b, &store, means.ui).await?;
    }
    Ok(finished(args, part, &report, !lines.is_empty(), means.ui))
}

/// Returns how people write a path in a snapshot.
fn place(snapshot: &Snapshot, path: &TreePath) -> String {
    let context = ContextAt { name: snapshot.context.clone(), at: At::Number(snapshot.number) };
    PathAt { context, path: path.clone() }.to_string()
}

/// Compares a snapshot, or a directory of it, with a local directory.
async fn with_dir(
    (snapshot, part): (&Snapshot, &ContextPart),
    path: &Path,
    options: &DiffOptions,
    store: &Store,
    means: Means<'_>,
    each: impl FnMut(PathDifference) + Send,
) -> Result<DiffReport, Failure> {
    let sync = ContextSync::new(snapshot.context.clone(), path, policy::chosen(means.settings)?);
    let sync = sync.with_part(part.path.clone());
    let own_files = means.settings.own_files();
    let dir = DiffDir { sync: &sync, state_dir: means.settings.state_dir()?, own_files: &own_files };
    let watch = Watch::new(means.ui, false);
    Ok(store.diff_dir(snapshot, dir, options, &watch, each).await?)
}

fn reversed(report: DiffReport) -> DiffReport {
    DiffReport {
        added: report.deleted,
        deleted: report.added,
        bytes_added: report.bytes_deleted,
        bytes_deleted: report.bytes_added,
        ..report
    }
}

/// Shows the figures, and returns what the command came to.
fn finished(
    args: &DiffArgs,
    part: &ContextPart,
    report: &DiffReport,
    after_lines: bool,
    ui: &Ui,
) -> Finished {
    let DiffReport { added, changed, deleted, renamed, bytes_added, bytes_deleted, failed, pending, .. } =
        *report;
    if report.renames_skipped {
        ui.warning("there are too many differences to look for renamed files among them");
    }
    if !ui.is_json() && !args.name_only && !after_lines {
        let mut line = match report.differs() {
            false => "no differences".to_owned(),
            true => format!(
                "{added} added, {changed} changed, {deleted} deleted, {renamed} renamed; {} more, {} less",
                text::bytes(bytes_added),
                text::bytes(bytes_deleted)
            ),
        };
        if failed > 0 {
            line.push_str(&format!("; {} could not be read", text::count(failed, "path")));
        }
        if pending > 0 {
            let paths = text::count(pending, "path");
            line.push_str(&format!("; {paths} pending: not arrived yet, and not compared"));
        }
        ui.line(&line);
    }
    let exit = match (failed > 0, args.exit_code && report.differs()) {
        (_, true) => Exit::FAILED,
        (true, _) => Exit::INCOMPLETE,
        _ => Exit::DONE,
    };
    let sync = SyncReport { added, changed, deleted, failed, pending, ..SyncReport::default() };
    let compared = Some(Compared { renamed, bytes_added, bytes_deleted });
    Finished { exit, report: Some(sync), compared, ..Finished::of_context(part) }
}

/// Shows differences as they are found.
struct Shown<'a> {
    args: &'a DiffArgs,
    ui: &'a Ui,
    /// The differences of which lines are compared.
    lines: Vec<PathDifference>,
}

impl Shown<'_> {
    fn note(&mut self, difference: PathDifference) {
        let PathDifference { path, kind, from, before, after } = &difference;
        let change = match kind {
            DifferenceKind::Added => "added",
            DifferenceKind::Changed => "changed",
            DifferenceKind::Deleted => "deleted",
            DifferenceKind::Renamed => "renamed",
        };
        if self.ui.is_json() {
            let (kind_before, kind_after) = (before.as_ref().map(kind_of), after.as_ref().map(kind_of));
            let mode = |entry: &Option<Entry>| entry.as_ref().map(|entry| format!("{:04o}", entry.mode));
            self.ui.object(&Line::Difference(DifferenceLine {
                path: PathField::new(path.as_bytes()),
                change,
                from: from.as_ref().map(ToString::to_string),
                kind_before,
                kind_after,
                size_before: before.as_ref().map(Entry::size),
                size_after: after.as_ref().map(Entry::size),
                mode_before: mode(before),
                mode_after: mode(after),
            }));
            return;
        }
        if self.args.name_only {
            return self.ui.line(&path.to_string());
        }
        if !self.args.paths.is_empty() && !self.args.stat {
            return self.lines.push(difference);
        }
        if !self.args.stat {
            let from = from.as_ref().map(|from| format!("{from} -> ")).unwrap_or_default();
            self.ui.line(&format!("{change:<8} {from}{path}  ({})", what(before.as_ref(), after.as_ref())));
        }
    }
}

fn kind_of(entry: &Entry) -> &'static str {
    match entry.node {
        Node::File { .. } => "file",
        Node::Dir => "dir",
        Node::Symlink { .. } => "symlink",
    }
}

/// Says in a few words what there is on each side.
fn what(before: Option<&Entry>, after: Option<&Entry>) -> String {
    let size = |entry: &Entry| match entry.node {
        Node::File { .. } => text::bytes(entry.size()),
        _ => kind_of(entry).to_owned(),
    };
    match (before, after) {
        (Some(before), Some(after)) => {
            let (old, new) = (size(before), size(after));
            if before.node == after.node && before.mode != after.mode {
                return format!("mode {:04o} -> {:04o}", before.mode, after.mode);
            }
            if old == new { new } else { format!("{old} -> {new}") }
        }
        (one, other) => one.or(other).map(size).unwrap_or_default(),
    }
}

/// Shows how the lines of a file differ, as `diff -u` does.
async fn show_lines(
    difference: &PathDifference,
    a: &Side,
    b: &Side,
    store: &Store,
    ui: &Ui,
) -> Result<(), Failure> {
    let PathDifference { path, from, before, after, .. } = difference;
    let old_path = from.as_ref().unwrap_or(path);
    let content = async |side: &Side, path: &TreePath, entry: &Option<Entry>| match entry {
        Some(entry) => side.content(path, entry, store).await,
        None => Ok(Some(Vec::new())),
    };
    let (old, new) = (content(a, old_path, before).await?, content(b, path, after).await?);
    let name = |side: &Side, path: &TreePath, entry: &Option<Entry>| match entry {
        Some(_) => side.name_of(path),
        None => "/dev/null".to_owned(),
    };
    let (old_name, new_name) = (name(a, old_path, before), name(b, path, after));
    let is_text = |bytes: &[u8]| !bytes.contains(&0) && std::str::from_utf8(bytes).is_ok();
    let (Some(old), Some(new)) = (old, new) else {
        ui.line(&format!("{old_name} and {new_name} differ, and are too long to be shown"));
        return Ok(());
    };
    if !is_text(&old) || !is_text(&new) {
        ui.line(&format!("binary files {old_name} and {new_name} differ"));
        return Ok(());
    }
    let is_dir = |entry: &Option<Entry>| entry.as_ref().is_some_and(Entry::is_dir);
    if let Some(from) = from {
        ui.line(&format!("renamed {from} to {path}"));
    } else if is_dir(before) && after.is_none() {
        ui.line(&format!("deleted directory {old_name}"));
    } else if is_dir(after) && before.is_none() {
        ui.line(&format!("new directory {new_name}"));
    }
    if let (Some(before), Some(after)) = (before, after)
        && before.mode != after.mode
    {
        ui.line(&format!("{new_name}: mode {:04o} -> {:04o}", before.mode, after.mode));
    }
    let (old, new) = (String::from_utf8_lossy(&old), String::from_utf8_lossy(&new));
    let compared = similar::TextDiff::configure().timeout(PATIENCE).diff_lines(&*old, &*new);
    let unified = compared.unified_diff().header(&old_name, &new_name).to_string();
    if !unified.is_empty() {
        ui.document(unified.trim_end_matches('\n'));
    }
    Ok(())
}
