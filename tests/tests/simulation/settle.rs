//! What must hold once nothing goes wrong any more.

use std::collections::BTreeSet;
use std::path::Path;

use ctxsync_tests::compare::{Content, differences, list, without_times};
use ctxsync_tests::machine::Machine;
use ctxsync_tests::notes::Noted;
use policy_core::ConflictPolicy;
use transfer_engine::format::Place;
use transfer_engine::{
    CheckMonitor, CheckOptions, CheckedContext, ContextName, Damage, ReadData, SyncOptions, SyncReport,
};

use crate::coverage::met;
use crate::edits::{Ledger, contents};
use crate::ending::figures;
use crate::run::Run;

/// How often all machines sync until there is nothing left to do.
const ROUNDS: usize = 8;

impl Run {
    /// Syncs all machines until there is nothing left to do, and checks the result.
    pub(crate) async fn settle(&mut self) {
        let name = self.name().await;
        self.note_history().await;
        let kept = self.held_though_recycled_everywhere();
        self.let_deletions_through(&name).await;
        let mut held: BTreeSet<String> = BTreeSet::new();
        for player in &mut self.players {
            held.extend(contents(&player.machine.mount, Path::new("")));
            // All machines have to agree in the end.
            player.machine.policy.delete_policy.max_delete_percent = None;
        }
        let mut withheld = vec![0; self.players.len()];
        for round in 0.. {
            let mut quiet = true;
            for (who, withheld) in withheld.iter_mut().enumerate() {
                let player = &mut self.players[who];
                let mut ended = player.machine.sync().await;
                quiet &= changes_nothing(ended.report());
                if ended.report().held_back > 0 {
                    // What stays since a whole side was emptied may go.
                    player.machine.options.allow_empty_mount = true;
                    ended = player.machine.sync().await;
                    player.machine.options.allow_empty_mount = false;
                }
                let report = ended.report();
                let is_well = ended.noted.problems.iter().all(|problem| player.is_of_archive(problem));
                assert!(report.failed == 0 || is_well, "m{who}: {:?}", ended.noted);
                *withheld = report.withheld;
                quiet &= changes_nothing(report);
                let Noted { events, problems, .. } = &ended.noted;
                self.trace.note(|| format!("m{who} settles: {}, {events:?} {problems:?}", figures(report)));
                self.note_extracted(who, Some(&ended)).await;
            }
            if quiet {
                break;
            }
            assert!(round < ROUNDS, "they go on and on");
        }
        let fresh = Machine { context: name, ..self.world.machine("fresh") };
        fresh.pull().await.clean();
        self.note_history().await;
        if self.keeps_history {
            self.check_kept(&kept);
            self.check_extracted();
            self.check_new_extractor(&fresh.context).await;
        }
        let expected = without_times(list(&fresh.mount.0));
        for (who, player) in self.players.iter().enumerate() {
            let mut here = without_times(list(&player.machine.mount.0));
            let expected = self.without_extracted(who, expected.clone(), &here, withheld[who] > 0);
            if self.is_spoiled {
                // A directory is not saved as an empty one while the context lists files in it that the store has lost.
                here.retain(|path, node| expected.contains_key(path) || node.content != Content::Dir);
            }
            if withheld[who] > 0 && self.is_spoiled {
                // It keeps its older version of a file that a repair has left out.
                here.retain(|path, _| expected.contains_key(path));
            }
            // It keeps what the context has recycled.
            here.retain(|path, _| expected.contains_key(path) || !self.may_keep(&player.machine, path));
            let text = differences(&expected, &here);
            assert!(text.is_empty(), "m{who} is not what the context holds:\n{text}");
        }
        let there = contents(&fresh.mount, Path::new(""));
        let Ledger { written, given_up } = self.ledger.get_mut();
        let all = held.union(written);
        let lost: Vec<_> = all.filter(|c| !given_up.contains(*c) && !there.contains(*c)).collect();
        assert!(self.careless || lost.is_empty(), "lost: {lost:?}");
        self.check_totals(&fresh).await;
        self.check_store().await;
        self.check_branches().await;
        self.trace.note(|| format!("in the end: {expected:?}"));
    }

    /// Lets the deletions through that waited for the policy of a machine. By now, the context may have a content only
    /// where it was deleted here.
    async fn let_deletions_through(&mut self, name: &ContextName) {
        for who in 0..self.players.len() {
            let machine = &mut self.players[who].machine;
            machine.context = name.clone();
            machine.options.conflict = Some(ConflictPolicy::KeepBoth);
            if machine.policy.delete_policy.sync_local_file {
                continue;
            }
            machine.sync().await.report();
            machine.policy.delete_policy.sync_local_file = true;
            let before = self.in_context().await;
            self.players[who].machine.push().await.report();
            let (after, here) = (self.in_context().await, self.contents_of(who));
            let gone = before.difference(&after).filter(|content| !here.contains(*content));
            self.ledger.get_mut().given_up.extend(gone.cloned());
        }
    }

    /// Fails unless the head's totals are those of its tree.
    async fn check_totals(&self, fresh: &Machine) {
        let head = self.world.store().head(&fresh.context).await.unwrap();
        if head.segments.iter().any(|segment| matches!(segment.place, Place::Pack { .. })) {
            met("a tree with segments in packs");
        }
        let totals = head.totals;
        let nodes = list(&fresh.mount.0);
        let count = |is: fn(&Content) -> bool| nodes.values().filter(|n| is(&n.content)).count() as u64;
        let bytes: u64 =
            nodes.values().map(|n| if let Content::File(size, ..) = n.content { size } else { 0 }).sum();
        let listed = nodes.iter().filter(|(path, node)| {
            let is_empty = !nodes.keys().any(|other| other != *path && other.starts_with(path));
            node.content == Content::Dir && (is_empty || node.mode != 0o755)
        });
        let found = (totals.files, totals.symlinks, totals.bytes, totals.dirs);
        let expected = (
            count(|c| matches!(c, Content::File(..))),
            count(|c| matches!(c, Content::Link(_))),
            bytes,
            listed.count() as u64,
        );
        assert_eq!(found, expected, "the head's totals are not those of its tree");
    }

    /// Fails unless all that the store holds is whole.
    async fn check_store(&self) {
        let said = Said::default();
        let sync = SyncOptions::default();
        let (concurrency, memory) = (sync.concurrency, sync.memory);
        let options = CheckOptions { contexts: Vec::new(), read_data: ReadData::All, concurrency, memory };
        let report = self.world.store().check(&options, &said).await.unwrap();
        let found = std::mem::take(&mut *said.0.lock().unwrap());
        for checked in &found {
            let late = self.late(&checked.name).await;
            let damaged = checked.snapshots.iter().filter(|snapshot| !snapshot.is_whole());
            let is_left =
                |damage: &Damage| self.is_spoiled && damage.what.ends_with("is damaged that no file needs");
            let whole = checked.damage.iter().all(is_left)
                && damaged.clone().all(|snapshot| !snapshot.is_head && late.contains(&snapshot.number));
            assert!(whole, "the store is not whole: {report:?} {checked:?}");
        }
        assert!(
            report.is_whole() || self.is_spoiled || !found.is_empty(),
            "the store is not whole: {report:?}"
        );
    }

    /// Returns the numbers of the snapshots that landed too late to count. Their writers have committed the same once
    /// more, and collections may delete their packs.
    async fn late(&self, name: &ContextName) -> BTreeSet<u64> {
        let mut late = BTreeSet::new();
        for snapshot in self.world.store().log(name).await.unwrap() {
            if self.is_late(&snapshot).await {
                late.insert(snapshot.number);
            }
        }
        late
    }
}

fn changes_nothing(report: &SyncReport) -> bool {
    let counts = [report.added, report.changed, report.deleted, report.conflicts];
    counts == [0; 4] && (report.extracted, report.recycled) == (0, 0)
}

#[derive(Default)]
struct Said(std::sync::Mutex<Vec<CheckedContext>>);

impl CheckMonitor for Said {
    fn context(&self, checked: &CheckedContext) {
        if !checked.is_whole() {
            self.0.lock().unwrap().push(checked.clone());
        }
    }
}
