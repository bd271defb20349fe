//! Archives that machines extract: each of them once, and none is removed before its members are in the mount.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use ctxsync_tests::compare::{Content, Listing};
use ctxsync_tests::machine::{Ended, Machine};
use ctxsync_tests::notes::Noted;
use policy_core::{ConflictPolicy, SyncPolicy, TreePath};
use transfer_engine::{Action, ContextName};

use crate::archives::{is_named_so, looks_like_one, members, parts};
use crate::coverage::met;
use crate::edits::{contents, users};
use crate::history::Seen;
use crate::run::{Player, Run};
use crate::schedule::{Deed, EXTRACTING, Step, What};

/// What is known of the archives on a machine.
#[derive(Debug, Default, Clone)]
pub(crate) struct Extracting {
    /// The archives that were extracted, each with the number of the step.
    done: BTreeMap<TreePath, usize>,
    /// The archives that were pulled, and that were not there before.
    pulled: BTreeMap<PathBuf, Vec<u8>>,
    /// The archives that were there when the machine was gone in the middle of a sync.
    at_death: BTreeSet<PathBuf>,
    /// What was in each directory when the step began.
    before: BTreeMap<PathBuf, BTreeSet<String>>,
    /// The archives whose members were there when the machine was gone, and not when the step began: they are extracted,
    /// though nobody has heard of it. Each has the number of the step.
    out_at_death: BTreeMap<TreePath, usize>,
    /// The archives that may lack a member in the mount, because something else was in its place.
    in_the_way: BTreeSet<PathBuf>,
}

impl Extracting {
    /// Power is lost, and with it what was not flushed.
    pub(crate) fn lose_power(&mut self) {
        self.out_at_death.clear();
    }
}

impl Player {
    pub(crate) fn extracts(&self) -> bool {
        self.machine.policy.extract_policy.is_some()
    }

    /// Whether the members of archives come out among other files.
    fn extracts_among_others(&self) -> bool {
        self.machine.policy.extract_policy.as_ref().is_some_and(|policy| policy.extract_to_current_folder)
    }

    /// Whether its policy has archives at this path extracted.
    fn extracts_at(&self, path: &Path) -> bool {
        self.machine
            .policy
            .extract_policy
            .as_ref()
            .is_some_and(|policy| policy.paths.iter().any(|place| path.starts_with(place)))
    }

    /// Returns the archives in the mount, whole ones and others.
    fn archives(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let files = users(&self.machine.mount).filter(|(_, node)| matches!(node.content, Content::File(..)));
        let files = files.filter(|(path, _)| is_named_so(path));
        files.map(|(path, _)| (path.clone(), std::fs::read(self.machine.mount.at(path)).unwrap())).collect()
    }

    /// Returns what is in each directory of the mount, if archives come out into folders.
    fn dirs(&self) -> BTreeMap<PathBuf, BTreeSet<String>> {
        if !self.extracts() || self.extracts_among_others() {
            return BTreeMap::new();
        }
        let mount = &self.machine.mount;
        let dirs = users(mount).filter(|(_, node)| node.content == Content::Dir);
        dirs.map(|(path, _)| (path.clone(), contents(mount, &path))).collect()
    }

    /// Returns the archives of which a folder beside them has got all members since the step began.
    fn came_out(&self) -> BTreeSet<PathBuf> {
        let (dirs, before) = (self.dirs(), &self.extracting.before);
        let is_out = |path: &Path, bytes: &[u8]| {
            let all = members(bytes).unwrap_or_default();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let stem = [".tar.gz", ".tar", ".zip"].iter().find_map(|kind| name.strip_suffix(kind));
            let is_its = |dir: &Path| {
                let dir_name = dir.file_name().unwrap_or_default().to_string_lossy();
                dir.parent() == path.parent()
                    && (stem == Some(&*dir_name) || dir_name.starts_with(&format!("{name}.extracted")))
            };
            let has_all = |there: &BTreeSet<String>| all.iter().all(|content| there.contains(content));
            let mut folders = dirs.iter().filter(|(dir, _)| is_its(dir));
            !all.is_empty()
                && folders.any(|(dir, there)| has_all(there) && !before.get(dir).is_some_and(has_all))
        };
        let archives = self.archives().into_iter();
        archives.filter(|(path, bytes)| is_out(path, bytes)).map(|(path, _)| path).collect()
    }

    /// Whether a sync only told what it would extract, because it was stopped by a conflict.
    fn was_stopped(&self, ended: &Ended) -> bool {
        let stops = self.machine.policy.conflict_policy == ConflictPolicy::Fail
            && ended.noted.events.iter().any(|(_, action)| *action == Action::Conflict);
        // The report of a session is that of its last push.
        stops || ended.result.as_ref().is_ok_and(|report| report.stopped_by_conflict)
    }

    /// Whether a problem with a path is that its archive is broken, or that something is in the place of a member.
    pub(crate) fn is_of_archive(&self, problem: &str) -> bool {
        let (path, message) = problem.split_once(": ").unwrap_or_default();
        self.extracts()
            && (is_named_so(Path::new(path)) || message.contains("has something else at this path"))
    }
}

impl Run {
    /// Returns the archives in all mounts where some are extracted.
    pub(crate) fn archives(&self) -> Vec<BTreeMap<PathBuf, Vec<u8>>> {
        let archives = |player: &Player| if player.extracts() { player.archives() } else { BTreeMap::new() };
        self.players.iter().map(archives).collect()
    }

    /// Notes what is in directories before a step begins.
    pub(crate) fn note_dirs(&mut self) {
        for player in &mut self.players {
            player.extracting.before = player.dirs();
        }
    }

    /// The context is reverted, maybe to before the members of archives were in it: then they are deleted in the mounts, and
    /// archives that are not marked any more come out again.
    pub(crate) fn note_reverted_archives(&mut self) {
        for player in &mut self.players {
            player.extracting.pulled.clear();
            player.extracting.done.clear();
        }
    }

    /// The context may get another name. A machine that is gone in the middle of a pull leaves what it placed to the next
    /// pull under the same name: under another one, that counts as the user's.
    pub(crate) fn note_renamed(&mut self) {
        for player in self.players.iter_mut().filter(|player| player.is_cut_short) {
            player.extracting = Extracting::default();
        }
    }

    /// The state of a machine is lost, or is another's.
    pub(crate) fn forget_extracted(&mut self, who: usize) {
        self.players[who].extracting = Extracting::default();
    }

    /// Notes how a sync ended. What the context had all the time must not be extracted again.
    pub(crate) async fn note_extracted(&mut self, who: usize, ended: Option<&Ended>) {
        if !self.players[who].extracts() {
            return;
        }
        let Some(ended) = ended else {
            self.note_history().await;
            let archives: BTreeSet<PathBuf> = self.players[who].archives().into_keys().collect();
            let out = self.players[who].came_out();
            let player = &mut self.players[who];
            let history = self.history.borrow();
            for path in out {
                let Ok(path) = path.to_str().unwrap().parse::<TreePath>() else { continue };
                if history.files.get(&path).is_some_and(|seen| !seen.extracted) {
                    met("extraction: a folder is in place when the machine is gone");
                    player.extracting.out_at_death.insert(path, history.step);
                }
            }
            player.extracting.at_death.extend(archives.iter().cloned());
            if player.extracts_among_others() {
                player.extracting.in_the_way.extend(archives);
            }
            return;
        };
        self.note_history().await;
        self.note_in_the_way(who, &ended.noted);
        if self.players[who].was_stopped(ended) {
            return;
        }
        let history = self.history.borrow();
        let mut here = BTreeSet::new();
        for (path, _) in ended.noted.events.iter().filter(|(_, action)| *action == Action::Extract) {
            met("extraction: done");
            let known = &mut self.players[who].extracting;
            if known.at_death.remove(Path::new(&path.to_string())) {
                met("extraction: done after the machine was gone");
            }
            let before = known.done.insert(path.clone(), history.step);
            let before = known.out_at_death.remove(path).or(before);
            let twice = if here.insert(path) { before } else { Some(history.step) };
            assert!(
                twice.is_none_or(|step| !history.had_since(path, step)),
                "m{who} extracts {path} again, {:?}",
                ended.noted
            );
        }
    }

    fn note_in_the_way(&mut self, who: usize, noted: &Noted) {
        for problem in &noted.problems {
            if problem.contains("has something else at this path") {
                let archive = problem.split('`').nth(1).unwrap();
                self.players[who].extracting.in_the_way.insert(archive.into());
                met("extraction: something is in the place of a member");
            } else if self.players[who].is_of_archive(problem) {
                met("extraction: refused or failed");
            }
        }
    }

    /// Notes which archives a step has brought. One that it has taken away is still in the context, or its members are
    /// in the mount.
    pub(crate) fn note_archives(&mut self, step: &Step, before: Vec<BTreeMap<PathBuf, Vec<u8>>>) {
        if !matches!(step.deed, Deed::Sync(_) | Deed::Both(..)) {
            return;
        }
        let loses_power = step.files.iter().any(|trouble| trouble.what == What::PowerLoss);
        let after = self.archives();
        for (who, (before, after)) in before.into_iter().zip(after).enumerate() {
            let gone = before.iter().filter(|(path, _)| !after.contains_key(*path));
            // A loss of power takes what the disk did not have.
            for (path, bytes) in gone.filter(|_| !loses_power || who != step.who) {
                self.check_removed(step, who, path, bytes);
            }
            let is_new = |path: &Path, bytes: &Vec<u8>| {
                before.get(path) != Some(bytes) && !path.to_string_lossy().contains(".conflict-")
            };
            let player = &mut self.players[who];
            let loses_state = loses_power && player.machine.options.flush_behind;
            for (path, bytes) in after.into_iter().filter(|_| !loses_state) {
                if is_new(&path, &bytes) && player.extracts_at(&path) {
                    player.extracting.pulled.insert(path, bytes);
                }
            }
        }
    }

    /// A sync has removed an archive that is not marked, and nobody else has deleted it: its members are in the mount.
    fn check_removed(&self, step: &Step, who: usize, path: &Path, bytes: &[u8]) {
        let history = self.history.borrow();
        let Ok(at) = path.to_str().unwrap().parse::<TreePath>() else { return };
        let has = |seen: &Seen| {
            !seen.extracted && history.parts.get(&seen.digest).is_some_and(|there| *there == parts(bytes))
        };
        let is_alone = matches!(step.deed, Deed::Sync(_)) || history.files.get(&at).is_some_and(has);
        if history.begun.get(&at).is_some_and(has) && is_alone {
            met("extraction: an archive is removed after it");
            self.check_members(who, path, bytes);
        }
    }

    /// Fails unless all members of an archive are in the mount, as far as nobody has removed them.
    fn check_members(&self, who: usize, path: &Path, bytes: &[u8]) {
        let (here, ledger) = (self.contents_outside(&self.players[who].machine), self.ledger.borrow());
        let all = members(bytes).unwrap_or_default();
        let lost: Vec<_> = all
            .iter()
            .filter(|content| !here.contains(*content) && !ledger.given_up.contains(*content))
            .collect();
        assert!(lost.is_empty() || self.careless, "m{who} has not extracted {lost:?} of {}", path.display());
    }

    /// Returns what is in the files of a mount that are no archives.
    pub(crate) fn contents_outside(&self, machine: &Machine) -> BTreeSet<String> {
        let files = users(&machine.mount).filter(|(_, node)| matches!(node.content, Content::File(..)));
        let files = files.filter_map(|(path, _)| Some((std::fs::read(machine.mount.at(&path)).ok()?, path)));
        let others = files.filter(|(bytes, path)| !is_named_so(path) || members(bytes).is_none());
        others.flat_map(|(bytes, _)| parts(&bytes)).collect()
    }

    /// What a machine has pulled, it has extracted in the end.
    pub(crate) fn check_extracted(&self) {
        for (who, player) in self.players.iter().enumerate() {
            let here = player.archives();
            for (path, bytes) in &player.extracting.pulled {
                if here.get(path) == Some(bytes) && !player.extracting.in_the_way.contains(path) {
                    met("extraction: an archive stays after it");
                    self.check_members(who, path, bytes);
                }
            }
        }
    }

    /// Takes out of two listings the archives that a machine does not need: they are marked as extracted. If it keeps files
    /// that the context has recycled, it does not mark an archive among whose members one of them could be; then it need
    /// not have any archive.
    pub(crate) fn without_extracted(
        &self,
        who: usize,
        mut expected: Listing,
        here: &Listing,
        keeps_recycled: bool,
    ) -> Listing {
        if self.players[who].extracts() {
            let history = self.history.borrow();
            let is_marked = |path: &Path| {
                let tree_path = path.to_str().and_then(|path| path.parse::<TreePath>().ok());
                tree_path.is_some_and(|path| history.files.get(&path).is_some_and(|seen| seen.extracted))
                    || keeps_recycled && is_named_so(path)
            };
            let spared: Vec<PathBuf> = expected.keys().filter(|path| is_marked(path)).cloned().collect();
            expected.retain(|path, _| here.contains_key(path) || !is_marked(path));
            // Nor does it need a directory in which there is nothing else.
            let left: Vec<PathBuf> = expected.keys().cloned().collect();
            let holds =
                |all: &[PathBuf], dir: &Path| all.iter().any(|path| path != dir && path.starts_with(dir));
            let has_more = |dir: &Path| {
                left.iter().any(|path| path != dir && path.starts_with(dir) && here.contains_key(path))
            };
            expected.retain(|path, _| here.contains_key(path) || !holds(&spared, path) || has_more(path));
        }
        expected
    }

    /// A new machine extracts each archive of the context that is not marked, and each once.
    pub(crate) async fn check_new_extractor(&self, name: &ContextName) {
        self.note_history().await;
        let mut late = Machine { context: name.clone(), ..self.world.machine("extractor") };
        late.policy = SyncPolicy::from_json(EXTRACTING[0]).unwrap();
        let ended = late.pull().await;
        let broken = self.check_all_extracted(&late, &ended);
        assert_eq!(ended.report().failed, broken, "{ended:?}");
        let again = late.pull().await;
        assert_eq!((again.report().extracted, again.report().failed), (0, broken), "{again:?}");
    }

    /// Returns how many archives could not be extracted because they are broken.
    fn check_all_extracted(&self, late: &Machine, ended: &Ended) -> u64 {
        let (here, history, mut broken) = (self.contents_outside(late), self.history.borrow(), 0);
        for (path, seen) in history.files.iter().filter(|(_, seen)| !seen.recycled) {
            let place = late.mount.at(path.to_string());
            if !is_named_so(&place) {
                continue;
            }
            let bytes = if place.is_file() { std::fs::read(&place).unwrap() } else { Vec::new() };
            if seen.extracted {
                met("extraction: an archive is marked");
                assert!(!place.is_file(), "{path} is marked and is pulled");
            } else if bytes.is_empty() {
                // An archive of which a loss of power has left nothing but zeros is an empty one.
                let all =
                    history.parts[&seen.digest].iter().filter(|content| !content.bytes().all(|b| b == 0));
                let missing: Vec<_> = all.filter(|content| !here.contains(*content)).collect();
                assert!(missing.is_empty(), "{path} is gone, and of it {missing:?}: {ended:?}");
            } else {
                assert!(members(&bytes).is_none(), "{path} is not extracted: {ended:?}");
                broken += u64::from(looks_like_one(&bytes));
            }
        }
        broken
    }
}
