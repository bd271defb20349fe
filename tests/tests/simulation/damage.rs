//! A pack is lost or damaged. All machines send again what they have of it, and a repair leaves out the rest.

use std::collections::BTreeSet;

use ctxsync_tests::random::Random;
use ctxsync_tests::repairing::repairing;
use futures::TryStreamExt as _;
use object_store::path::Path as Key;
use object_store::{ObjectStore as _, ObjectStoreExt as _};
use transfer_engine::format::StoreKey;
use transfer_engine::{ContextName, ReadData, RepairMonitor, RepairOptions};

use crate::coverage::met;
use crate::run::Run;
use crate::schedule::{How, Step};

struct Quiet;

impl RepairMonitor for Quiet {}

impl Run {
    /// Damages a pack, and has it mended. What the context had and a machine still has must be there afterwards.
    pub(crate) async fn damage(&mut self, step: &Step, random: &mut Random) -> String {
        let Some(pack) = self.some_pack(random).await else { return "there is no pack".to_owned() };
        let (before, forks) = (self.in_context().await, self.fork_contents().await);
        let held: BTreeSet<String> = (0..self.players.len()).flat_map(|who| self.contents_of(who)).collect();
        self.is_spoiled = true;
        let mut said = vec![self.spoil(&pack, random).await];
        let mut all_healed = true;
        for who in 0..self.players.len() {
            let disk = self.disk(step, who, None);
            self.players[who].machine.options.heal = Some(ReadData::All);
            let ended = self.perform(step, who, How::Push, &disk).await;
            all_healed &= ended.as_ref().is_some_and(|ended| ended.result.is_ok());
            said.push(self.told(step, who, ended, &disk).await);
            self.players[who].machine.options.heal = None;
        }
        let options = RepairOptions { forget_damaged: true, ..repairing(ReadData::All) };
        let report = self.world.store().repair(&options, &Quiet).await.unwrap();
        assert_eq!((report.failed, report.beyond), (0, 0), "{said:?}: {report:?}");
        if report.left_out > 0 {
            met("repair: left out");
        } else if report.check.damaged_snapshots > 0 && report.repaired == 0 {
            met("repair: the machines had all of the head, and only older snapshots are damaged");
        }
        said.push(format!("repaired: {} healed, {} left out", report.healed, report.left_out));
        // A machine that could not push sends what it has with a later sync.
        let said_now = all_healed.then(|| said.join("; "));
        self.note_damage(&before, &held, forks, said_now.as_deref()).await;
        said.join("; ")
    }

    /// Returns a pack of some snapshot. One that a machine has put for a commit which failed is used later, and no push reads
    /// it before.
    async fn some_pack(&self, random: &mut Random) -> Option<Key> {
        let (store, mut used) = (self.world.store(), BTreeSet::new());
        for name in store.contexts().await.unwrap() {
            for snapshot in store.log(&name).await.unwrap_or_default() {
                used.extend(snapshot.packs.iter().map(|pack| StoreKey::Pack(pack.id).path()));
            }
        }
        let packs = self.world.objects.list(Some(&Key::from("packs")));
        let mut packs: Vec<Key> = packs.map_ok(|pack| pack.location).try_collect().await.unwrap();
        packs.sort();
        random.of(&packs).filter(|pack| used.contains(*pack)).cloned()
    }

    async fn spoil(&self, pack: &Key, random: &mut Random) -> String {
        let objects = &self.world.objects;
        if random.below(2) == 0 {
            objects.delete(pack).await.unwrap();
            return format!("{pack} is lost");
        }
        let mut bytes = objects.get(pack).await.unwrap().bytes().await.unwrap().to_vec();
        let at = random.below(bytes.len());
        bytes[at] ^= 1 << random.below(8);
        objects.put(pack, bytes.into()).await.unwrap();
        format!("{pack} is damaged at {at}")
    }

    /// Returns what each fork has, by its place.
    async fn fork_contents(&self) -> Vec<BTreeSet<String>> {
        let names: Vec<ContextName> =
            self.branches.forks.borrow().iter().map(|fork| fork.name.clone()).collect();
        let mut all = Vec::new();
        for name in names {
            // One that landed too late may be gone.
            let there = self.head_contents(&name).await.unwrap_or_default();
            all.push(there.into_values().flatten().collect());
        }
        all
    }

    /// Gives up what was nowhere but in the pack. `said` is what happened, if all machines could push what they have:
    /// then nothing else may be missing.
    async fn note_damage(
        &mut self,
        before: &BTreeSet<String>,
        held: &BTreeSet<String>,
        forks: Vec<BTreeSet<String>>,
        said: Option<&str>,
    ) {
        let after = self.in_context().await;
        let lost: BTreeSet<_> = before.difference(&after).cloned().collect();
        let ledger = self.ledger.get_mut();
        let needless: Vec<_> = lost.intersection(held).filter(|c| !ledger.given_up.contains(*c)).collect();
        match said {
            Some(said) => {
                // What a loss of power has torn and the store has lost, a push can't tell from an edit (012).
                assert!(
                    self.careless || self.has_torn || needless.is_empty(),
                    "{said}\na machine has it, and it is lost: {needless:?}"
                );
                ledger.given_up.extend(lost);
            }
            None => ledger.given_up.extend(lost.difference(held).cloned()),
        }
        let forks_after = self.fork_contents().await;
        for ((fork, before), after) in self.branches.forks.get_mut().iter_mut().zip(forks).zip(forks_after) {
            fork.ledger.given_up.extend(before.difference(&after).cloned());
        }
        self.forget_lost_tags().await;
    }
}
