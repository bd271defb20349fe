//! The plan of a sync as a stream: base, local differences and head are merged, and each path is decided.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::sync::Arc;

use futures::StreamExt;
use futures::stream::BoxStream;
use policy_core::{
    Decision, Entry, ExtractPolicy, GitChanges, Next, Reason, Reconciler, Rules, Scope, Source, Step,
    Timestamp, Towards, TreePath, TreeRow, Verdict, original_path,
};

use crate::error::Error;
use crate::extract::ArchiveKind;
use crate::format::{LetGo, TreeEntry};
use crate::local::{FileSystems, ScanFilter, sqlite};
use crate::own_places::OwnPlaces;
use crate::state::{Archive, BaseRow, DeltaRow, DeltaState, Held, ScopeId};

/// A path of the head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RemoteRow(pub(crate) TreeEntry);

impl TreeRow for RemoteRow {
    fn path(&self) -> &TreePath {
        &self.0.path
    }

    fn entry(&self) -> &Entry {
        &self.0.entry
    }

    fn is_recycled(&self) -> bool {
        self.0.recycled
    }

    fn is_lost(&self) -> bool {
        self.0.is_lost()
    }
}

pub(crate) type PlanStep = Step<BaseRow, DeltaRow, RemoteRow>;

/// Whether the mount has something at the path before the step.
pub(crate) fn stands(step: &PlanStep) -> bool {
    match &step.local {
        Some(row) => matches!(row.state, DeltaState::Present { .. }),
        None => step.base.is_some(),
    }
}

/// Returns what is known of the archive at the step's path, if its entry is still `entry`.
pub(crate) fn archive_of(step: &PlanStep, entry: &Entry) -> Archive {
    step.base.as_ref().filter(|_| !has_lost_mark(step)).map_or(Archive::No, |base| base.archive_of(entry))
}

/// Whether the context said that the step's archive was extracted, and says so no more. It was reverted then, and what came
/// out of the archive may have gone with that.
pub(crate) fn has_lost_mark(step: &PlanStep) -> bool {
    step.base.as_ref().is_some_and(|base| base.archive.is_marked())
        && step.remote.as_ref().is_some_and(|there| !there.0.extracted)
}

/// Whether the context's archive was extracted, here or elsewhere.
pub(crate) fn was_extracted(step: &PlanStep) -> bool {
    step.remote
        .as_ref()
        .is_some_and(|there| there.0.extracted || archive_of(step, &there.0.entry).is_extracted())
}

/// The content of the head.
pub(crate) enum Remote<'a> {
    /// Exactly what the base says, so that only paths that differ locally are examined.
    AsBase,
    /// What these segments say.
    Segments(BoxStream<'a, Result<(usize, Vec<TreeEntry>), Error>>),
}

/// Which paths a sync covers: those in scope, restricted to the requested ones.
pub(crate) struct Filter {
    pub(crate) scope: Arc<Scope>,
    pub(crate) scope_id: ScopeId,
    pub(crate) only: Vec<TreePath>,
    /// Whether conflict copies of requested paths are requested too. A push reads the whole tree, and knows them all.
    pub(crate) with_copies: bool,
    /// The program's own state, store and files, if they are inside the mount.
    pub(crate) own: OwnPlaces,
    /// Whether other file systems are out of scope; and those that the scan has found so far.
    pub(crate) one_file_system: bool,
    pub(crate) closed: FileSystems,
    /// How archives are extracted when they are pulled, if they are.
    pub(crate) extract: Option<ExtractPolicy>,
}

impl Filter {
    /// Returns a filter for everything in scope, without files of the program.
    #[cfg(test)]
    pub(crate) fn of(scope: Scope) -> Self {
        Self {
            scope: Arc::new(scope),
            scope_id: ScopeId::default(),
            with_copies: false,
            only: Vec::new(),
            own: OwnPlaces::default(),
            one_file_system: false,
            closed: FileSystems::default(),
            extract: None,
        }
    }

    /// Whether the path is in scope, and neither on an excluded file system nor a file of the program.
    pub(crate) fn in_scope(&self, path: &TreePath, is_dir: bool) -> bool {
        self.scope.contains(path, is_dir)
            && self.own.holding(path).is_none()
            && (self.closed.is_empty() || self.closed.begin_of(path).is_root())
    }

    /// Whether the entry was not requested itself, but is in a directory that leads to a requested path.
    fn is_beside(&self, entry: &TreeEntry) -> bool {
        let parent = entry.path.parent().unwrap_or_default();
        !entry.recycled
            && self.only.iter().any(|only| only.is_below(&parent))
            && self.in_scope(&entry.path, entry.entry.is_dir())
    }

    /// Returns the original of a conflict copy, if copies are requested with it.
    fn original(&self, path: &TreePath) -> Option<TreePath> {
        if self.with_copies && !self.only.is_empty() { original_path(path) } else { None }
    }

    /// Whether the policy extracts an archive with this name when it is pulled.
    pub(crate) fn extracts(&self, path: &TreePath) -> bool {
        self.extract.is_some()
            && self.scope.extract_paths().contains(path)
            && ArchiveKind::has_suffix(path.name())
    }

    /// Whether an archive that was extracted may be missing in the mount. If it was requested by name, it may
    /// not.
    pub(crate) fn leaves_out(&self, path: &TreePath) -> bool {
        self.extract.as_ref().is_some_and(|e| e.delete_src_file)
            && self.extracts(path)
            && !self.only.contains(path)
    }
}

impl ScanFilter for Filter {
    fn contains(&self, path: &TreePath, is_dir: bool) -> bool {
        let database = sqlite::database_of(path).filter(|_| !is_dir && !self.only.is_empty());
        let original = self.original(path);
        let is_asked = |asked: &TreePath| {
            path.is_within(asked)
                || database.as_ref() == Some(asked)
                || original.as_ref().is_some_and(|original| original.is_within(asked))
        };
        (self.only.is_empty() || self.only.iter().any(is_asked)) && self.in_scope(path, is_dir)
    }

    fn may_hold(&self, dir: &TreePath) -> bool {
        let original = self.original(dir);
        let leads = |asked: &TreePath| {
            dir.is_within(asked)
                || asked.is_within(dir)
                || original.as_ref().is_some_and(|original| original.is_within(asked))
        };
        (self.only.is_empty() || self.only.iter().any(leads))
            && self.scope.may_hold(dir)
            && self.own.holding(dir).is_none()
    }

    fn enters(&self, place: &TreePath) -> bool {
        if self.one_file_system {
            self.closed.note(place.clone());
        }
        !self.one_file_system
    }

    fn is_ours(&self, (dev, inode): (u64, u64)) -> bool {
        self.own.is_one(dev, inode)
    }
}

/// After this many steps, the plan yields to other tasks of the runtime, such as timers.
const TURN: u64 = 512;

type Rows<'a, T> = Box<dyn Iterator<Item = io::Result<T>> + Send + 'a>;

/// A running plan.
pub(crate) struct Plan<'a> {
    reconciler: Reconciler<BaseRow, DeltaRow, RemoteRow>,
    base: Rows<'a, BaseRow>,
    local: Rows<'a, DeltaRow>,
    remote: Remote<'a>,
    filter: Arc<Filter>,
    towards: Towards,
    /// Paths of the mount that can't be read.
    unread: Arc<[TreePath]>,
    /// Extracted archives that the context still needs.
    needed: Arc<BTreeSet<TreePath>>,
    /// Files of databases that are gone because their content is in the database now.
    folded: BTreeSet<TreePath>,
    /// Whether what stayed in the mount when the context was emptied may go now.
    releases: bool,
    /// The files that the context has let go of.
    let_go: LetGo,
    /// The git repositories in which no objects may be deleted.
    git: Arc<GitChanges>,
    /// The last path at which the mount has a file or a link: nothing can be below it.
    leaf: Option<TreePath>,
    /// Entries found beside the requested paths, with their times.
    beside: VecDeque<(TreePath, Timestamp)>,
    /// The number of steps so far.
    steps: u64,
}

impl<'a> Plan<'a> {
    pub(crate) fn new(
        rules: Rules,
        towards: Towards,
        base: Rows<'a, BaseRow>,
        local: Rows<'a, DeltaRow>,
        remote: Remote<'a>,
        filter: Arc<Filter>,
    ) -> Self {
        let (reconciler, unread, needed) = (Reconciler::new(rules, towards), Arc::default(), Arc::default());
        let (folded, beside) = (BTreeSet::new(), VecDeque::new());
        let (releases, let_go, git) = (false, LetGo::default(), Arc::default());
        Self {
            reconciler,
            base,
            local,
            remote,
            filter,
            towards,
            unread,
            needed,
            folded,
            releases,
            let_go,
            git,
            leaf: None,
            beside,
            steps: 0,
        }
    }

    /// Adds the paths of the mount that can't be read, and so are not pushed.
    pub(crate) fn without(self, unread: Arc<[TreePath]>) -> Self {
        Self { unread, ..self }
    }

    /// Adds extracted archives that the context still needs.
    pub(crate) fn needing(self, needed: Arc<BTreeSet<TreePath>>) -> Self {
        Self { needed, ..self }
    }

    /// Adds files of databases that are gone from the mount because their content is in the database now. No
    /// rule may keep them, since they would corrupt the database.
    pub(crate) fn with_folded(self, folded: BTreeSet<TreePath>) -> Self {
        Self { folded, ..self }
    }

    /// Says which files the context has let go of: the mount may have the last copy of one.
    pub(crate) fn knowing(self, let_go: LetGo) -> Self {
        Self { let_go, ..self }
    }

    /// Says what each side has changed in git repositories.
    pub(crate) fn with_git(self, git: Arc<GitChanges>) -> Self {
        Self { git, ..self }
    }

    /// Lets what stayed in the mount when the context was emptied be deleted.
    pub(crate) fn releasing(self, releases: bool) -> Self {
        Self { releases, ..self }
    }

    /// Whether the archive is still the only complete copy of its content in the context. Then it stays
    /// there, without the mark that it was extracted.
    pub(crate) fn withholds(&self, step: &PlanStep) -> bool {
        let Some(Archive::Extracted { at: Some(at), .. }) = step.base.as_ref().map(|base| &base.archive)
        else {
            return false;
        };
        if self.needed.contains(&step.path) {
            return true;
        }
        let among_others = self.filter.extract.as_ref().is_some_and(|e| e.extract_to_current_folder);
        let place = if among_others { step.path.parent().unwrap_or_default() } else { at.clone() };
        let is_asked = |asked: &TreePath| place.is_within(asked);
        let asked = self.filter.only.is_empty() || self.filter.only.iter().any(is_asked);
        !asked || self.unread.iter().any(|path| path.is_within(&place) || place.is_within(path))
    }

    /// Lets what only the plan knows overrule the decision, one rule after the other.
    ///
    /// These rules can be no rows of `decide` or `effect`: `decide` sees one path, by its three entries and the rules of
    /// the policy, and knows neither archives nor databases; `effect` says what follows from a decision, and decides
    /// nothing. What they need is here: the base's notes on archives, the filter, and which other paths were not read.
    fn judge(&self, step: PlanStep) -> PlanStep {
        let mut step = self.without_lost_mark(step);
        for overrule in [
            Self::spares_extracted,
            Self::keeps_archive,
            Self::heals_lost,
            Self::drops_folded,
            Self::holds_emptied,
            Self::keeps_objects,
        ] {
            step.decision = overrule(self, &step).unwrap_or(step.decision);
        }
        step
    }

    /// An archive that was removed after its extraction is new here, if the context says no more that it was extracted.
    fn without_lost_mark(&self, step: PlanStep) -> PlanStep {
        let is_gone = step.local.as_ref().is_some_and(|row| row.state == DeltaState::Absent);
        // If a user's file has taken the place of its directory, that is decided as a conflict.
        let is_gone = is_gone && !self.leaf.as_ref().is_some_and(|leaf| step.path.is_below(leaf));
        let same = step.base.as_ref().zip(step.remote.as_ref());
        let is_same = same.is_some_and(|(base, there)| base.entry.node == there.0.entry.node);
        if !is_gone || !is_same || !has_lost_mark(&step) {
            return step;
        }
        let decision = match self.towards {
            Towards::Mount => Decision { verdict: Verdict::Write, reason: Reason::NewThere },
            Towards::Store => Decision { verdict: Verdict::Keep, reason: Reason::NotYetBrought },
        };
        PlanStep { base: None, local: None, decision, ..step }
    }

    /// An archive that was extracted here, and then removed, is not pulled again.
    fn spares_extracted(&self, step: &PlanStep) -> Option<Decision> {
        let brings = match self.towards {
            Towards::Mount => step.decision.verdict == Verdict::Write,
            Towards::Store => step.decision.reason == Reason::NotYetBrought,
        };
        let spares = brings && !stands(step) && was_extracted(step) && self.filter.leaves_out(&step.path);
        spares.then_some(Decision { verdict: Verdict::Keep, reason: Reason::Extracted })
    }

    /// An archive is not deleted in the context before its content is there.
    fn keeps_archive(&self, step: &PlanStep) -> Option<Decision> {
        let deletes = self.towards == Towards::Store && step.decision.verdict == Verdict::Delete;
        let keeps = deletes && self.withholds(step);
        keeps.then_some(Decision { verdict: Verdict::Keep, reason: Reason::ExtractedKept })
    }

    /// Sends a file again whose content the store has lost, if it was read.
    fn heals_lost(&self, step: &PlanStep) -> Option<Decision> {
        let heals = self.towards == Towards::Store && step.heals && step.local.is_some();
        heals.then_some(Decision { verdict: Verdict::Write, reason: Reason::SentAgain })
    }

    /// The log of a database goes once its content is in the database, whatever keeps other deletions back.
    fn drops_folded(&self, step: &PlanStep) -> Option<Decision> {
        let reason = Reason::DeletedHere;
        let verdict = match (self.towards, step.decision.reason) {
            (Towards::Store, Reason::DeletedHereKept | Reason::DeletedHereHeld) => Verdict::Delete,
            (Towards::Mount, Reason::BroughtAgain) => Verdict::Keep,
            _ => return None,
        };
        self.folded.contains(&step.path).then_some(Decision { verdict, reason })
    }

    /// What stayed in the mount when the context was emptied also stays when the context has other files again.
    fn holds_emptied(&self, step: &PlanStep) -> Option<Decision> {
        let deletes = self.towards == Towards::Mount && step.decision.verdict == Verdict::Delete;
        let stayed = step.base.as_ref().is_some_and(|base| base.held == Held::There);
        let holds = deletes && stayed && !self.releases;
        holds.then_some(Decision { verdict: Verdict::HoldBack, reason: Reason::DeletedThereHeld })
    }

    /// An object of a git repository stays if the side that has it has changed the repository.
    fn keeps_objects(&self, step: &PlanStep) -> Option<Decision> {
        self.git.keeps(step, self.towards)
    }

    /// Returns the entries that the context has beside the requested paths and before `path`, in order, with
    /// their times. They are known when the step at `path` is.
    pub(crate) fn beside_before(&mut self, path: Option<&TreePath>) -> Vec<(TreePath, Timestamp)> {
        let end = path.map_or(self.beside.len(), |path| self.beside.partition_point(|(p, _)| p < path));
        self.beside.drain(..end).collect()
    }

    /// Returns the next decided path.
    pub(crate) async fn next(&mut self) -> Result<Option<PlanStep>, Error> {
        self.steps += 1;
        if self.steps.is_multiple_of(TURN) {
            // A deadline also limits the time of a plan.
            tokio::task::yield_now().await;
        }
        let state = |e: io::Error| Error::local("read", "the local state", e);
        loop {
            let source = match self.reconciler.next() {
                Next::Step(step) => {
                    let here = step.local.as_ref().and_then(DeltaRow::present);
                    if here.is_some_and(|(entry, _)| !entry.is_dir()) {
                        self.leaf = Some(step.path.clone());
                    }
                    let step = self.judge(step);
                    let Decision { verdict, reason } = step.decision;
                    tracing::trace!(path = %step.path, towards = ?self.towards, ?verdict, ?reason, "decided");
                    return Ok(Some(step));
                }
                Next::End => return Ok(None),
                Next::Need(source) => source,
            };
            match (&mut self.remote, source) {
                (Remote::AsBase, _) => {
                    let row = self.local.next().transpose().map_err(state)?;
                    // An emptied directory that was only implied has a row neither in the base nor in the
                    // head.
                    let listed = row.as_ref().filter(|row| !row.is_implied_before());
                    let base = listed.and_then(|row| row.base.clone().map(|base| (row.path.clone(), base)));
                    if let Some((path, entry)) = base {
                        let remote = TreeEntry::bare(path.clone(), entry.clone());
                        self.reconciler.push_base(Some(BaseRow::new(path, entry, None)));
                        self.reconciler.push_remote(Some(RemoteRow(remote)));
                    }
                    if row.is_none() {
                        self.reconciler.push_base(None);
                        self.reconciler.push_remote(None);
                    }
                    self.reconciler.push_local(row);
                }
                (Remote::Segments(_), Source::Base) => {
                    let row = self.base.next().transpose().map_err(state)?;
                    let is_gone = |row: &BaseRow| self.let_go.contains(&row.path, &row.entry.node);
                    self.reconciler.push_base(row.map(|row| match is_gone(&row) {
                        true => BaseRow { held: Held::Recycled, ..row },
                        false => row,
                    }));
                }
                (Remote::Segments(_), Source::Local) => {
                    self.reconciler.push_local(self.local.next().transpose().map_err(state)?);
                }
                (Remote::Segments(segments), Source::Remote) => match segments.next().await.transpose()? {
                    Some((_, entries)) => {
                        for entry in entries {
                            if self.filter.contains(&entry.path, entry.entry.is_dir()) {
                                self.reconciler.push_remote(Some(RemoteRow(entry)));
                            } else if self.filter.is_beside(&entry) {
                                self.beside.push_back((entry.path, entry.entry.mtime));
                            }
                        }
                    }
                    None => self.reconciler.push_remote(None),
                },
            }
        }
    }
}
