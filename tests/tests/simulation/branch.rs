//! What a machine does with a context in the store: renames, forks, merges, reverts, tags, restores and collections.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU64;

use ctxsync_tests::landing::{is_late, landed};
use ctxsync_tests::machine::Machine;
use ctxsync_tests::random::Random;
use policy_core::{Node, Retention, TreePath};
use transfer_engine::format::{Snapshot, StoreKey};
use transfer_engine::{
    CollectOptions, ContextName, ContextService, Error, MergeOptions, Silent, SyncReport, TagName,
    WriteOptions,
};

use crate::archives::{is_named_so, parts};
use crate::coverage::met;
use crate::edits::{LONG_LINK, Ledger, place};
use crate::run::Run;
use crate::schedule::{How, Step};

/// The names that the context has in turn.
const NAMES: [&str; 3] = ["work", "work-a", "work-b"];
/// The most forks.
const FORKS: usize = 2;

/// The contents of a tree, by path, as the ledger has them.
type Contents = BTreeMap<TreePath, Vec<String>>;

/// A context that began as a copy of the machines' one. It has no mount.
pub(crate) struct Fork {
    pub(crate) name: ContextName,
    pub(crate) ledger: Ledger,
}

/// A snapshot that was tagged.
pub(crate) struct Tagged {
    name: TagName,
    nonce: [u8; 16],
    contents: Contents,
}

/// What is known of the context in the store.
#[derive(Default)]
pub(crate) struct Branches {
    pub(crate) forks: RefCell<Vec<Fork>>,
    pub(crate) tagged: RefCell<Vec<Tagged>>,
}

fn name(text: impl AsRef<str>) -> ContextName {
    text.as_ref().parse().unwrap()
}

impl Run {
    /// Returns the context's name now. Whoever asks completes a rename that was interrupted.
    pub(crate) async fn name(&self) -> ContextName {
        let mut name = name(NAMES[0]);
        for _ in 0..100 {
            match self.world.store().head(&name).await {
                Err(Error::Moved { to, .. }) => name = to,
                _ => return name,
            }
        }
        panic!("{name} is moved and moved");
    }

    /// Does something in the store, as a machine reaches it.
    pub(crate) async fn in_store(
        &self,
        step: &Step,
        who: usize,
        machine: &Machine,
        how: How,
    ) -> Result<SyncReport, Error> {
        let mut random = Random::new(step.seed ^ (who as u64 + 2));
        let (store, context) = (machine.store(), &machine.context);
        let by = format!("{how:?}-{}-{who}", step.number);
        let back = Some(-(random.below(4) as i64)).filter(|back| *back < 0);
        match how {
            How::Rename => {
                let others: Vec<_> = NAMES.iter().filter(|name| **name != context.as_str()).collect();
                let to = name(random.of(&others).unwrap());
                let head = store.rename_context(context, &to).await?;
                Ok(of_snapshot(head.number))
            }
            How::Fork => {
                let to = name(format!("fork-{}-{who}", step.number));
                let forked = store.fork_context(context, back, &to).await?;
                let mut forks = self.branches.forks.borrow_mut();
                if forks.len() < FORKS {
                    forks.push(Fork { name: to, ledger: Ledger::default() });
                }
                Ok(of_snapshot(forked.number))
            }
            How::EditFork => self.edit_fork(machine, &mut random, &by).await,
            How::Merge => self.merge(machine, &mut random, &by).await,
            How::Revert => store.revert_context(context, back.unwrap_or(-1), &by, false).await,
            How::Tag => self.tag(machine, back, &by).await,
            How::Restore => self.restore(machine, back, &by).await,
            How::Collect => {
                let last = [None, NonZeroU64::new(1), NonZeroU64::new(2)][random.below(3)];
                let retention = Retention { last, ..Retention::default() }.into();
                let options = CollectOptions { retention, ..CollectOptions::default() };
                store.collect(&options, &Silent).await.map(|_| SyncReport::default())
            }
            How::Push | How::Pull | How::Sync => unreachable!("these have a mount"),
        }
    }

    /// Returns one of the forks by its place, and its name.
    fn a_fork(&self, random: &mut Random, context: &ContextName) -> Result<(usize, ContextName), Error> {
        let forks = self.branches.forks.borrow();
        let missing = || Error::NoContext { name: context.clone(), location: "no fork".to_owned() };
        let at = (!forks.is_empty()).then(|| random.below(forks.len())).ok_or_else(missing)?;
        Ok((at, forks[at].name.clone()))
    }

    /// Changes a file of a fork.
    async fn edit_fork(
        &self,
        machine: &Machine,
        random: &mut Random,
        fresh: &str,
    ) -> Result<SyncReport, Error> {
        let (at, fork) = self.a_fork(random, &machine.context)?;
        let there = self.head_contents(&fork).await?;
        let known: Vec<_> = there.keys().cloned().collect();
        let any: TreePath = place(random).to_str().unwrap().parse().unwrap();
        let path = random.of(&known).cloned().filter(|_| random.below(3) > 0).unwrap_or(any);
        // Whoever tries to replace or delete it has given it up.
        self.branches.forks.borrow_mut()[at]
            .ledger
            .given_up
            .extend(there.get(&path).into_iter().flatten().cloned());
        let store = machine.store();
        let service = ContextService::new(&store);
        if random.below(4) == 0 {
            return service.delete_file(&fork, &path).await;
        }
        let report = service.write_file(&fork, &path, fresh.as_bytes(), &WriteOptions::default()).await?;
        self.branches.forks.borrow_mut()[at].ledger.written.insert(fresh.to_owned());
        Ok(report)
    }

    /// Merges a fork into the context, or the other way round.
    async fn merge(&self, machine: &Machine, random: &mut Random, by: &str) -> Result<SyncReport, Error> {
        let (at, fork) = self.a_fork(random, &machine.context)?;
        let back = random.below(4) > 0;
        let (from, into) = if back { (&fork, &machine.context) } else { (&machine.context, &fork) };
        let merged = self.head_contents(from).await?;
        self.before_merge(at, back);
        let options = MergeOptions { session: by.to_owned(), ..MergeOptions::default() };
        let report = machine.store().merge_context(from, None, into, &options, &Silent).await?;
        if report.held_back == 0 && report.failed == 0 {
            let mut forks = self.branches.forks.borrow_mut();
            let (mut here, there) = (self.ledger.borrow_mut(), &mut forks[at].ledger);
            let ledger = if back { &mut *here } else { there };
            ledger.written.extend(merged.into_values().flatten());
        }
        Ok(report)
    }

    /// What one side has given up, the other gives up by a merge.
    fn before_merge(&self, at: usize, back: bool) {
        let mut forks = self.branches.forks.borrow_mut();
        let (mut here, there) = (self.ledger.borrow_mut(), &mut forks[at].ledger);
        match back {
            true => here.given_up.extend(there.given_up.iter().cloned()),
            false => there.given_up.extend(here.given_up.iter().cloned()),
        }
    }

    async fn tag(&self, machine: &Machine, back: Option<i64>, by: &str) -> Result<SyncReport, Error> {
        let tag: TagName = by.parse().unwrap();
        let number = machine.store().tag(&machine.context, back, &tag).await?;
        let snapshot = self.world.store().snapshot(&machine.context, number.cast_signed()).await;
        // It may be renamed by now.
        let Ok(snapshot) = snapshot else { return Ok(of_snapshot(number)) };
        if !self.is_late(&snapshot).await {
            let contents = self.contents_in(&snapshot).await?;
            let nonce = snapshot.nonce;
            self.branches.tagged.borrow_mut().push(Tagged { name: tag, nonce, contents });
        }
        Ok(of_snapshot(number))
    }

    /// Restores a snapshot. What a restore says to have restored must be there.
    async fn restore(&self, machine: &Machine, back: Option<i64>, by: &str) -> Result<SyncReport, Error> {
        let snapshot = machine.store().snapshot(&machine.context, back).await?;
        let dir = self.world.root().join(by);
        let restored = machine.store().restore(&snapshot, &dir, &[], &machine.options, &Silent).await;
        let report = restored?;
        if !report.is_incomplete() && !self.is_late(&snapshot).await {
            let expected: Vec<_> = self.contents_in(&snapshot).await?.into_values().flatten().collect();
            let found = crate::edits::contents(&ctxsync_tests::tree::Tree(dir), std::path::Path::new(""));
            assert!(expected.iter().all(|content| found.contains(content)), "{expected:?} {found:?}");
        }
        Ok(report)
    }

    /// Gives up what reverts in this step have taken out of the context.
    pub(crate) async fn note_reverts(&self, step: &Step) {
        let by = format!("{:?}-{}-", How::Revert, step.number);
        let Ok(log) = self.world.store().log(&self.name().await).await else { return };
        if self.players.iter().any(|player| player.machine.policy.recycle_policy.lifecycle.days().is_some()) {
            // What was reverted to may have a file that was recycled once more, and be forgotten; so may what a machine
            // pushed just before.
            let after = self.in_context().await;
            let history = self.history.borrow();
            let begun = history.begun.values().filter_map(|seen| history.parts.get(&seen.digest)).flatten();
            let two = [step.who, (step.who + 1) % self.players.len()];
            let in_mounts = two.into_iter().flat_map(|who| self.contents_of(who));
            let parts = begun.cloned().chain(in_mounts).filter(|part| !after.contains(part));
            self.ledger.borrow_mut().given_up.extend(parts);
        }
        for made in log.iter().filter(|snapshot| snapshot.session.starts_with(&by)) {
            // A collection at the same time may have forgotten the one before: it has recycled something.
            let Some(before) = log.iter().find(|snapshot| snapshot.number + 1 == made.number) else {
                continue;
            };
            let (before, after) = (self.contents_in(before).await.unwrap(), self.contents_in(made).await);
            let after = after.unwrap_or_default();
            let mut gone: BTreeSet<_> = before.into_values().flatten().collect();
            // Where a machine has deleted a file and not pushed that yet, the revert has left nothing for good.
            for (_, others) in after.iter().filter(|(path, _)| !self.may_be_deleted(path)) {
                for other in others {
                    gone.remove(other);
                }
            }
            self.ledger.borrow_mut().given_up.extend(gone);
        }
    }

    /// Whether a machine lacks a file, and has not extracted it.
    fn may_be_deleted(&self, path: &TreePath) -> bool {
        self.players.iter().any(|player| {
            let place = player.machine.mount.at(path.to_string());
            let comes_out = player.machine.policy.extract_policy.is_some() && is_named_so(&place);
            !comes_out && place.symlink_metadata().is_err()
        })
    }

    pub(crate) async fn is_late(&self, snapshot: &Snapshot) -> bool {
        let key = StoreKey::Snapshot { context: snapshot.context.clone(), number: snapshot.number };
        landed(&self.world.objects, &key).await.is_ok_and(|landed| is_late(snapshot, landed))
    }

    pub(crate) async fn head_contents(&self, name: &ContextName) -> Result<Contents, Error> {
        let head = self.world.store().head(name).await?;
        self.contents_in(&head).await
    }

    /// Returns what is in the files and links of a snapshot.
    async fn contents_in(&self, snapshot: &Snapshot) -> Result<Contents, Error> {
        let (store, mut entries) = (self.world.store(), Vec::new());
        store.entries(snapshot, &TreePath::root(), |entry| entries.push(entry)).await?;
        let mut contents = Contents::new();
        for entry in entries {
            if entry.recycled {
                continue;
            }
            let mut bytes = Vec::new();
            match &entry.entry.node {
                Node::Dir => continue,
                Node::Symlink { target } if target.len() >= LONG_LINK => continue,
                Node::Symlink { target } => bytes.extend_from_slice(target),
                Node::File { .. } => {
                    let take = |part: bytes::Bytes| {
                        bytes.extend_from_slice(&part);
                        Ok(())
                    };
                    store.read_file(&entry, 0..u64::MAX, take).await?;
                }
            }
            contents.insert(entry.path, parts(&bytes));
        }
        Ok(contents)
    }

    /// Leaves out the tags whose snapshots a repair has forgotten.
    pub(crate) async fn forget_lost_tags(&mut self) {
        let name = self.name().await;
        let mut left = Vec::new();
        for tagged in std::mem::take(self.branches.tagged.get_mut()) {
            let at = transfer_engine::At::Tag(tagged.name.clone());
            let Ok(snapshot) = self.world.store().snapshot(&name, at).await else { continue };
            if self.contents_in(&snapshot).await.is_ok_and(|contents| contents == tagged.contents) {
                left.push(tagged);
            }
        }
        *self.branches.tagged.get_mut() = left;
    }

    /// Fails unless all forks have what was written to them, and all tags name what they named.
    pub(crate) async fn check_branches(&mut self) {
        for fork in std::mem::take(self.branches.forks.get_mut()) {
            // One that landed too late may be gone.
            let Ok(there) = self.head_contents(&fork.name).await else { continue };
            let wanted = fork.ledger.written.difference(&fork.ledger.given_up);
            let lost: Vec<_> =
                wanted.filter(|content| !there.values().flatten().any(|c| c == *content)).collect();
            assert!(lost.is_empty(), "{} has lost {lost:?}", fork.name);
        }
        let name = self.name().await;
        for tagged in std::mem::take(self.branches.tagged.get_mut()) {
            let at = transfer_engine::At::Tag(tagged.name.clone());
            let snapshot = self.world.store().snapshot(&name, at).await;
            // A snapshot with a recycled file goes, whatever its tags.
            let is_recycled = tagged.contents.values().flatten().any(|content| self.was_recycled(content));
            let snapshot = match snapshot {
                Err(_) if is_recycled => {
                    met("recycled: a tag goes with its snapshot");
                    continue;
                }
                snapshot => snapshot.unwrap_or_else(|e| panic!("the tag {} is lost: {e:?}", tagged.name)),
            };
            assert_eq!(snapshot.nonce, tagged.nonce, "{} is of another snapshot", tagged.name);
            let contents = self.contents_in(&snapshot).await.unwrap();
            assert_eq!(contents, tagged.contents, "{} is another tree", tagged.name);
        }
    }
}

fn of_snapshot(number: u64) -> SyncReport {
    SyncReport { snapshot: Some(number), ..SyncReport::default() }
}
