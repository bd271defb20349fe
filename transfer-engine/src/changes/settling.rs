//! Scans a mount again until it does not change meanwhile, so that a snapshot is its state at one moment.
//!
//! ```text
//! scan ─► examine ─┬─ nothing changed after the scan began: this is the mount at that moment
//!    ▲             └─ something changed
//!    └── pause ◄───────┘   (a few times, then the snapshot is marked unsettled)
//! ```
//! A further scan reads only what has changed since the one before ([`Walk::again`]). A file that has only
//! grown does not count: its beginning is stored, and log files never stop growing.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use policy_core::TreePath;
use tokio::time::Instant;

use super::delta::local_delta;
use super::differences::LocalDelta;
use super::git::{Part, read_units};
use super::holding::Holding;
use super::options::{DeltaOptions, Sending};
use super::reading::Parents;
use super::walk::{Rows, Walk, pause};
use crate::error::Error;
use crate::format::ChunkId;
use crate::local::{Fingerprint, Look, MountDir, open_file_at, stat_at};
use crate::monitor::Monitor;
use crate::state::{DeltaRow, DeltaState};

/// How often a mount is scanned if it keeps changing.
const LOOKS: u32 = 5;
/// How often it is scanned only because what was read is already outdated.
const FRESHER: u32 = 3;
/// The pause before the third scan; it doubles with each further one. The second scan starts as soon as it
/// can show more.
const PAUSE: Duration = Duration::from_millis(10);
/// The time reserved for one more scan before a deadline: a minimum, and a time for each path.
const LOOK_TIME: Duration = Duration::from_millis(500);
const PATH_TIME: Duration = Duration::from_micros(20);

/// Compares the mount with the base, and scans it again until it does not change meanwhile.
pub(crate) async fn delta_at_rest(
    options: &DeltaOptions<'_>,
    walk: Walk,
    base: impl Fn() -> Result<Rows, Error>,
    mut sending: Option<Sending<'_, '_>>,
    monitor: &dyn Monitor,
) -> Result<LocalDelta, Error> {
    let holding = Holding::new(monitor);
    let sends = sending.as_mut().map(Sending::once);
    let mut delta = local_delta(options, walk, sends.into(), &holding).await?;
    // Repositories that are being written, and what was read of them before that was known.
    let (mut units, mut units_before) = (Vec::new(), None);
    for number in 1.. {
        // A scan that was cut short makes a partial snapshot, and without differences there is no snapshot.
        let changes = delta.stats.deleted + delta.stats.changed > 0;
        if delta.cut_short || !changes && units.is_empty() {
            break;
        }
        let state;
        (delta, state) = examine_apart(options, delta, Part::Outside(units.as_slice().into())).await?;
        let found = delta.look.units();
        delta.unsettled = state == State::Moving || !found.is_empty();
        if !units.is_empty() {
            // The last scan that read the repositories is the one before they were left out.
            units_before = units_before.or(delta.before.take());
        }
        let enough = match state {
            _ if !found.is_empty() => number >= 2 * LOOKS,
            State::AtRest => true,
            State::Outdated => number >= FRESHER,
            State::Moving => number >= LOOKS,
        };
        if enough || !has_time(&mut sending, &delta) {
            break;
        }
        units.extend(found);
        tracing::debug!(number, ?state, "the mount changed while it was scanned; it is scanned again");
        pause(options.mount, delta.look.pause().max(PAUSE * ((1 << (number - 1).min(4)) - 1))).await?;
        holding.look_again();
        let (unsettled, bytes_read) = (delta.unsettled, delta.stats.bytes_read);
        let part = Part::Outside(units.as_slice().into());
        let outside = part.of(options);
        let walk = Walk::again(&outside, part.rows(base()?), delta);
        let sends = sending.as_mut().map(Sending::once);
        let mut next = local_delta(&outside, walk, sends.into(), &holding).await?;
        // With a deadline, the previous scan's complete result is better than half of this one.
        if next.cut_short
            && let Some(before) = next.before.take()
        {
            delta = LocalDelta { unsettled, ..*before };
            units.clear();
            break;
        }
        next.stats.bytes_read += bytes_read;
        delta = next;
    }
    if !units.is_empty() && !delta.cut_short {
        let options = DeltaOptions {
            scope: options.scope.clone(),
            filter: options.filter.clone(),
            from: options.from.clone(),
            file_systems: delta.file_systems.clone(),
            ..*options
        };
        let parts = read_units(&options, &units, &base, &mut sending, units_before, &holding).await?;
        for mut part in parts {
            part.decide_doubts();
            delta.add_part(part);
        }
    }
    delta.decide_doubts();
    holding.tell();
    Ok(delta)
}

/// Whether there is time for one more scan before sending has to end.
fn has_time(sending: &mut Option<Sending<'_, '_>>, delta: &LocalDelta) -> bool {
    let cutoff = sending.as_ref().and_then(|sending| sending.sink.pace().cutoff());
    let paths = u32::try_from(delta.stats.found).unwrap_or(u32::MAX);
    let needed = LOOK_TIME.saturating_add(PATH_TIME.saturating_mul(paths));
    cutoff.is_none_or(|cutoff| Instant::now() + needed < cutoff)
}

/// What a scan has shown of the mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The result is the mount at one moment.
    AtRest,
    /// The result is the mount at one moment, but something is newer now.
    Outdated,
    /// The result may be a mixture of several moments.
    Moving,
}

async fn examine_apart(
    options: &DeltaOptions<'_>,
    mut delta: LocalDelta,
    part: Part,
) -> Result<(LocalDelta, State), Error> {
    let mount = options.mount.clone();
    let examine = move || {
        let mut before = delta.before.take();
        let state = examine(&mount, &mut delta, before.as_deref_mut(), &part)?;
        delta.before = before;
        Ok((delta, state))
    };
    let examined = options.mount.env().blocking(examine).await.map_err(io::Error::from).and_then(|done| done);
    examined.map_err(|e| Error::local("look at", options.mount.path(), e))
}

/// Returns whether the result of a scan was the mount's state at one moment.
fn examine(
    mount: &MountDir,
    delta: &mut LocalDelta,
    before: Option<&mut LocalDelta>,
    part: &Part,
) -> io::Result<State> {
    let look = delta.look.clone();
    let follows = before.is_some();
    // A database is read at one moment, whatever is written to it later.
    let mut sound = delta.together.members.clone();
    sound.extend(before.iter().flat_map(|before| before.together.members.iter().cloned()));
    let mut earlier = match before {
        Some(before) => {
            let counts = |row: &DeltaRow| part.holds(&row.path) && !sound.contains(&row.path);
            Some(before.found()?.filter(move |row| row.as_ref().map_or(true, counts)).peekable())
        }
        None => None,
    };
    let mut again = Again { mount, look: &look, parents: Parents::new(mount), dirs: Vec::new() };
    let (mut same, mut outdated) = (true, false);
    for row in delta.found()? {
        let row = row?;
        again.note_dirs(&row.path);
        if sound.contains(&row.path) {
            continue;
        }
        let mut was = None;
        while let Some(rows) = &mut earlier
            && let Some(row_before) =
                rows.next_if(|earlier| earlier.as_ref().map_or(true, |earlier| earlier.path <= row.path))
        {
            was = Some(row_before?).filter(|was| was.path == row.path);
            same &= was.is_some();
        }
        same &= was.as_ref().is_some_and(|was| says_the_same(&was.state, &row.state));
        if let DeltaState::Present { seen: Some(print), .. } = &row.state
            && look.is_fresh(print)
            && !was.is_some_and(|was| again.has_grown(&was, &row))
        {
            look.note_leaf(&row.path, print);
        }
        outdated |= again.is_outdated(&row);
    }
    if let Some(mut rows) = earlier {
        same &= rows.next().is_none();
    }
    let stirred = look.has_stirred() || delta.stats.gone > 0;
    // A directory with temporary or excluded files may never stop changing. If two scans found the same in
    // it, and nothing is missing, they have seen everything that stays.
    let twice = follows && same && delta.stats.in_doubt == 0;
    Ok(match (look.has_changed() || stirred && !twice, outdated) {
        (true, _) => State::Moving,
        (false, true) => State::Outdated,
        (false, false) => State::AtRest,
    })
}

fn says_the_same(a: &DeltaState, b: &DeltaState) -> bool {
    match (a, b) {
        (
            DeltaState::Present { entry: a, seen: seen_a, .. },
            DeltaState::Present { entry: b, seen: seen_b, .. },
        ) => a == b && seen_a == seen_b,
        (a, b) => a == b,
    }
}

/// Compares rows with the mount again.
struct Again<'a> {
    mount: &'a MountDir,
    look: &'a Look,
    parents: Parents<'a>,
    /// The directories above the previous row, from the top.
    dirs: Vec<TreePath>,
}

impl Again<'_> {
    /// Notes the directories above a path that have changed meanwhile.
    fn note_dirs(&mut self, path: &TreePath) {
        let parent = path.parent();
        if parent.as_ref() == self.dirs.last() {
            return;
        }
        let mut above: Vec<TreePath> = std::iter::successors(parent, TreePath::parent).collect();
        above.reverse();
        let known = self.dirs.iter().zip(&above).take_while(|(a, b)| a == b).count();
        for dir in &above[known..] {
            match self.mount.dir(dir).and_then(|dir| Ok(rustix::fs::fstat(dir)?)) {
                Ok(stat) => self.look.note_dir(dir, &Fingerprint::of(&stat)),
                // The directory above shows that it is gone.
                Err(_) => break,
            }
        }
        self.dirs = above;
    }

    /// Whether the row's path has changed meanwhile.
    fn is_outdated(&mut self, row: &DeltaRow) -> bool {
        let mut now = || {
            let stat = stat_at(self.parents.of(&row.path)?, row.path.name())?;
            io::Result::Ok(stat.map(|stat| Fingerprint::of(&stat)))
        };
        match &row.state {
            DeltaState::Present { seen: Some(seen), .. } => {
                let now = now().ok().flatten();
                !now.is_some_and(|now| now == *seen || now.inode == seen.inode && now.size > seen.size)
            }
            DeltaState::Absent | DeltaState::InDoubt { .. } => now().is_ok_and(|now| now.is_some()),
            _ => false,
        }
    }

    /// Whether a file is unchanged except for what was appended.
    fn has_grown(&mut self, before: &DeltaRow, now: &DeltaRow) -> bool {
        let (
            DeltaState::Present { entry: was, chunks: began, .. },
            DeltaState::Present { entry: is, chunks, .. },
        ) = (&before.state, &now.state)
        else {
            return false;
        };
        if is.size() <= was.size() {
            return false;
        }
        let Some(((id, len), whole)) = began.split_last() else { return true };
        let at = whole.iter().map(|(_, len)| u64::from(*len)).sum();
        chunks.starts_with(whole)
            && self.parents.of(&now.path).is_ok_and(|dir| {
                open_file_at(dir, now.path.name()).is_ok_and(|(file, _)| holds(&file, at, *id, *len))
            })
    }
}

/// Whether a file has this chunk at an offset.
fn holds(file: &File, at: u64, id: ChunkId, len: u32) -> bool {
    let mut bytes = vec![0; len as usize];
    file.read_exact_at(&mut bytes, at).is_ok() && ChunkId::of(&bytes) == id
}
