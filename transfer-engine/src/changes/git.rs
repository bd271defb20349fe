//! Reads git repositories that change meanwhile: names before objects, and again if an object was missed
//! (`local/git_dir.rs` says why).

use std::io;
use std::sync::Arc;
use std::time::Duration;

use policy_core::{Entry, TreePath};

use super::delta::local_delta;
use super::differences::LocalDelta;
use super::holding::Holding;
use super::options::{DeltaOptions, Sending};
use super::stats::DeltaStats;
use super::walk::{Rows, Walk, pause};
use crate::error::Error;
use crate::local::{Fingerprint, GitPart, Look, MountDir, ScanFilter};
use crate::monitor::{Monitor, PathProblem};
use crate::state::{BaseRow, DeltaRow, DeltaState};

/// How often a repository is read if it keeps changing.
const ROUNDS: u32 = 12;
/// How often its names are scanned if they keep changing.
const NAMES_LOOKS: u32 = 4;
/// The pause before each further scan of the names.
const PAUSE: Duration = Duration::from_millis(13);

/// A part of the mount that is read separately.
#[derive(Debug, Clone)]
pub(crate) enum Part {
    /// Everything outside these repositories.
    Outside(Arc<[TreePath]>),
    /// One part of a repository.
    Inside(TreePath, GitPart),
}

impl Part {
    pub(crate) fn holds(&self, path: &TreePath) -> bool {
        match self {
            Self::Outside(units) => !units.iter().any(|unit| path.is_within(unit)),
            Self::Inside(unit, part) => path.is_within(unit) && GitPart::of(unit, path) == *part,
        }
    }

    /// Whether something of the part may be below a directory.
    fn may_hold(&self, dir: &TreePath) -> bool {
        match self {
            Self::Outside(_) => self.holds(dir),
            // `objects/info` belongs to the names.
            Self::Inside(unit, GitPart::Names) => {
                dir.is_within(unit) && (self.holds(dir) || dir.name() == b"objects")
            }
            Self::Inside(unit, GitPart::Objects) => {
                let below = dir.components().nth(unit.components().count());
                dir.is_within(unit) && below.is_none_or(|name| name == b"objects" || name == b"modules")
            }
        }
    }

    /// Returns the options for reading the part, given those for the whole.
    pub(crate) fn of<'a>(&self, whole: &DeltaOptions<'a>) -> DeltaOptions<'a> {
        let (from, file_systems, is_of_all) = match self {
            // The base is also filtered. So a file system on which all rows are left out may look like a new
            // one.
            Self::Outside(_) => (whole.from.clone(), Arc::default(), whole.is_of_all),
            // File systems above the repository are not found again.
            Self::Inside(unit, _) => (unit.clone(), whole.file_systems.clone(), false),
        };
        let filter = Arc::new(PartFilter { all: whole.filter.clone(), part: self.clone() });
        DeltaOptions { scope: whole.scope.clone(), filter, from, file_systems, is_of_all, ..*whole }
    }

    /// Returns the base's rows of the part.
    pub(crate) fn rows(&self, base: Rows) -> Rows {
        let part = self.clone();
        Box::new(base.filter(move |row| row.as_ref().map_or(true, |row| part.holds(&row.path))))
    }
}

struct PartFilter {
    all: Arc<dyn ScanFilter>,
    part: Part,
}

impl ScanFilter for PartFilter {
    fn contains(&self, path: &TreePath, is_dir: bool) -> bool {
        self.part.holds(path) && self.all.contains(path, is_dir)
    }

    fn may_hold(&self, dir: &TreePath) -> bool {
        self.part.may_hold(dir) && self.all.may_hold(dir)
    }

    fn enters(&self, place: &TreePath) -> bool {
        self.all.enters(place)
    }
}

/// Reads repositories one after the other, and returns parts of the whole. `before` is what an earlier scan
/// has read of them.
pub(crate) async fn read_units(
    options: &DeltaOptions<'_>,
    units: &[TreePath],
    base: &impl Fn() -> Result<Rows, Error>,
    sending: &mut Option<Sending<'_, '_>>,
    mut before: Option<Box<LocalDelta>>,
    monitor: &dyn Monitor,
) -> Result<Vec<LocalDelta>, Error> {
    let mut parts = Vec::new();
    for unit in units {
        let holding = Holding::new(monitor);
        let mut reader = Unit { options, unit, base, sending, monitor: &holding };
        match reader.read(before.take()).await? {
            Some(read) => parts.extend(read),
            None => parts.push(reader.give_up()?),
        }
        holding.tell();
    }
    Ok(parts)
}

struct Unit<'u, 'a, 's, 'b, B> {
    options: &'u DeltaOptions<'a>,
    unit: &'u TreePath,
    base: &'u B,
    sending: &'u mut Option<Sending<'s, 'b>>,
    monitor: &'u Holding<'u>,
}

impl<B: Fn() -> Result<Rows, Error>> Unit<'_, '_, '_, '_, B> {
    /// Reads the repository; `None` if it kept changing.
    async fn read(&mut self, before: Option<Box<LocalDelta>>) -> Result<Option<[LocalDelta; 2]>, Error> {
        let (mut names, mut objects) = (None, before.map(|before| *before));
        let mount = self.options.mount;
        for round in 0..ROUNDS {
            self.monitor.look_again();
            if round > 0 {
                pause(mount, PAUSE).await?;
            }
            if !mount.stat(self.unit).is_ok_and(|found| found.is_some()) {
                continue;
            }
            let read = self.read_names(names.take()).await?;
            // A pack that was added just now could still change unnoticed.
            let packs = objects.as_ref().map_or_else(Vec::new, |objects: &LocalDelta| objects.look.packs());
            if !are_quiet(mount, &packs, &Look::begin(mount.env())) {
                pause(mount, PAUSE).await?;
            }
            let stored = self.look(GitPart::Objects, objects.take()).await?;
            let failed = read.stats.failed + stored.stats.failed + read.stats.gone + stored.stats.gone > 0;
            let missed = stored.look.has_lost() || !are_quiet(mount, &stored.look.packs(), &stored.look);
            if !failed && !missed {
                let in_doubt = !read.look.units().is_empty();
                let names = LocalDelta { unsettled: in_doubt, before: None, ..read };
                return Ok(Some([names, LocalDelta { before: None, ..stored }]));
            }
            (names, objects) = (Some(read), Some(stored));
        }
        Ok(None)
    }

    /// Reads the names, and again until they do not change: a ref may move to `packed-refs` meanwhile.
    async fn read_names(&mut self, before: Option<LocalDelta>) -> Result<LocalDelta, Error> {
        let mut names = self.look(GitPart::Names, before).await?;
        for _ in 1..NAMES_LOOKS {
            if names.stats.gone == 0 && names.look.units().is_empty() {
                break;
            }
            pause(self.options.mount, PAUSE).await?;
            names = self.look(GitPart::Names, Some(names)).await?;
        }
        Ok(names)
    }

    async fn look(&mut self, part: GitPart, before: Option<LocalDelta>) -> Result<LocalDelta, Error> {
        let part = Part::Inside(self.unit.clone(), part);
        let options = part.of(self.options);
        let rows = part.rows((self.base)()?);
        let walk = match before {
            Some(before) => Walk::again(&options, rows, before),
            None => Walk::start(&options, rows),
        };
        local_delta(&options, walk, self.sending.as_mut().map(Sending::once).into(), self.monitor).await
    }

    /// Gives up on the repository, which stays as it is in the context.
    fn give_up(&self) -> Result<LocalDelta, Error> {
        self.monitor.problem(&PathProblem {
            path: self.unit.clone(),
            message: "this git repository kept changing while it was read; the context keeps it as it was"
                .to_owned(),
            hint: "push again; if it keeps failing, push while git is idle, or with --quiesce".to_owned(),
        });
        let cannot_read = |e: io::Error| Error::local("read", "the local state", e);
        let mut stats = DeltaStats { failed: 1, ..DeltaStats::default() };
        stats.note_unread(self.unit.clone());
        let mut base = None;
        for row in (self.base)()? {
            let row: BaseRow = row.map_err(cannot_read)?;
            if row.path.is_within(self.unit) {
                (stats.base, stats.present) = (stats.base + 1, stats.present + 1);
                let here = if row.path == *self.unit { row.entry } else { Entry::IMPLIED_DIR };
                base.get_or_insert(here);
            }
        }
        let mut delta = LocalDelta::new(self.options, Arc::new(Look::begin(self.options.mount.env())));
        let row = DeltaRow { path: self.unit.clone(), base, state: DeltaState::Unreadable };
        delta.rows.push(&row).map_err(cannot_read)?;
        delta.stats = stats;
        Ok(delta)
    }
}

/// Whether these directories have not changed since the scan started.
fn are_quiet(mount: &MountDir, dirs: &[TreePath], look: &Look) -> bool {
    dirs.iter().all(|dir| match mount.stat(dir) {
        Ok(Some(stat)) => !look.is_fresh(&Fingerprint::of(&stat)),
        _ => false,
    })
}
