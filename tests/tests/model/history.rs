//! The machines of one seed, their operations, and the laws that must hold.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ctxsync_tests::busy::push_while;
use ctxsync_tests::compare::{Content, differences, list, without_times};
use ctxsync_tests::faults::Death;
use ctxsync_tests::interrupt::BeforePut;
use ctxsync_tests::machine::{Ended, Machine, World};
use ctxsync_tests::random::Random;
use futures::FutureExt;
use policy_core::SyncPolicy;
use storage_backends::layer::{Fault, Faulty, Rule};
use transfer_engine::Env;

use crate::operation::{Meanwhile, PINNED, change, contents};

pub(crate) struct History {
    seed: u64,
    random: Random,
    world: World,
    machines: Vec<Machine>,
    written: u64,
    /// Contents that a machine knowingly changed or removed, or that were lost with a machine before they
    /// were pushed.
    given_up: BTreeSet<String>,
    trace: Vec<String>,
}

impl History {
    pub(crate) async fn begin(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let world = World::memory().await;
        let count = 2 + random.below(2);
        let machines = (0..count).map(|i| {
            let mut machine = world.machine(&format!("m{i}"));
            if random.below(2) == 0 {
                machine.policy =
                    SyncPolicy::from_json(r#"{"uploadPolicy": {"uploadMode": "Archive"}}"#).unwrap();
            }
            machine
        });
        let machines: Vec<Machine> = machines.collect();
        machines[0].mount.write(PINNED, "pinned");
        machines[0].push().await.clean();
        for machine in &machines[1..] {
            machine.pull().await.clean();
        }
        Self { seed, random, world, machines, written: 0, given_up: BTreeSet::new(), trace: Vec::new() }
    }

    fn told(&self) -> String {
        format!("seed {}:\n{}", self.seed, self.trace.join("\n"))
    }

    /// Performs one random operation on one machine.
    pub(crate) async fn step(&mut self) {
        let who = self.random.below(self.machines.len());
        let what = self.random.below(25);
        let said = match what {
            0..=11 => {
                self.written += 1;
                let fresh = format!("content-{}", self.written);
                change(&self.machines[who].mount, &mut self.random, &fresh, &mut self.given_up)
            }
            12..=14 => self.tell("push", self.machines[who].push().await, true),
            15..=17 => self.tell("pull", self.machines[who].pull().await, true),
            18 => self.tell("sync", self.machines[who].sync().await, true),
            19 => self.beaten(who).await,
            20 => self.cut_off(who).await,
            21 => self.dies_in_a_pull(who).await,
            22 if self.random.below(3) == 0 => self.lose_state(who),
            23 if self.random.below(3) == 0 => self.replace(who),
            24 => self.push_while_busy(who).await,
            _ => return,
        };
        self.trace.push(format!("m{who}: {said}"));
    }

    /// Describes how a sync ended. Fails if `well` is set and the sync did not succeed.
    fn tell(&self, what: &str, ended: Ended, well: bool) -> String {
        match &ended.result {
            Ok(report) => {
                assert!(!well || report.failed == 0, "{}\n{what}: {:?}", self.told(), ended.noted);
                format!(
                    "{what}: snapshot {:?}, {} added, {} changed, {} deleted, {} conflicts, {} held, {} failed",
                    report.snapshot,
                    report.added,
                    report.changed,
                    report.deleted,
                    report.conflicts,
                    report.held_back,
                    report.failed
                )
            }
            Err(e) => {
                let is_new = matches!(e, transfer_engine::Error::NoContext { .. });
                assert!(!well || is_new, "{}\n{what}: {e:?}", self.told());
                format!("{what}: {e}")
            }
        }
    }

    /// Files are renamed and grow in the mount while it is pushed. The snapshot must have everything that the
    /// context had before and the mount still has, at whatever path.
    async fn push_while_busy(&mut self, who: usize) -> String {
        let machine = self.machines[who].clone();
        let before = self.in_context().await;
        let meanwhile = Meanwhile::plan(&machine.mount, &mut self.random);
        let said = meanwhile.to_string();
        let (deeds, mount) = (Arc::clone(&meanwhile), machine.mount.0.clone());
        let ended = push_while(&machine, move |asked| deeds.act(&mount, asked)).await;
        self.given_up.extend(meanwhile.given_up());
        let after = self.in_context().await;
        let here = contents(&machine.mount, Path::new(""));
        let lost: Vec<_> = before.intersection(&here).filter(|c| !after.contains(*c)).collect();
        let told = self.tell(&format!("push, and meanwhile {said}"), ended, false);
        assert!(lost.is_empty(), "{}\n{told}\ncommitted as deleted: {lost:?}", self.told());
        told
    }

    /// Returns the contents in the context.
    async fn in_context(&self) -> BTreeSet<String> {
        let looker = self.world.machine("looker");
        looker.pull().await.report();
        let there = contents(&looker.mount, Path::new(""));
        looker.mount.clear();
        looker.lose_state();
        there
    }

    /// Another machine commits just before this one's commit.
    async fn beaten(&mut self, who: usize) -> String {
        let rival = self.machines[(who + 1) % self.machines.len()].clone();
        let once = Arc::new(AtomicBool::new(true));
        let mut machine = self.machines[who].clone();
        machine.objects = BeforePut::new(Arc::clone(&self.world.objects), move |key| {
            let (once, rival, is_commit) =
                (once.clone(), rival.clone(), key.as_ref().starts_with("contexts"));
            async move {
                if is_commit && once.swap(false, Ordering::SeqCst) {
                    rival.push_elsewhere().await.report();
                }
            }
            .boxed()
        });
        self.tell("push, with a rival", machine.push().await, true)
    }

    /// The connection is cut at some request, before or after it took effect.
    async fn cut_off(&mut self, who: usize) -> String {
        let mut machine = self.machines[who].clone();
        let faulty = Faulty::new(Arc::clone(&self.world.objects), self.seed);
        let fault = *self.random.of(&[Fault::CrashBefore, Fault::CrashAfter]).unwrap();
        faulty.add(Rule::new(fault).nth(1 + self.random.below(6) as u64));
        machine.objects = Arc::new(faulty);
        let ended = if self.random.below(2) == 0 { machine.push().await } else { machine.sync().await };
        self.tell(&format!("cut off by {fault:?}"), ended, false)
    }

    async fn dies_in_a_pull(&mut self, who: usize) -> String {
        let mut machine = self.machines[who].clone();
        let lives = self.random.below(12) as u64;
        machine.env = Env::real().with_file_faults(Death::after(lives));
        let ended = machine.pull().await;
        self.tell(&format!("dies after {lives} changes"), ended, false)
    }

    fn lose_state(&mut self, who: usize) -> String {
        if self.machines[who].state.exists() {
            self.machines[who].lose_state();
        }
        "loses its state".to_owned()
    }

    /// A new machine takes the place of this one, which is lost with everything that it had not pushed.
    fn replace(&mut self, who: usize) -> String {
        let mount = self.machines[who].mount.clone();
        self.given_up.extend(contents(&mount, Path::new("")));
        mount.clear();
        self.lose_state(who);
        "is replaced".to_owned()
    }

    /// Syncs all machines until there is nothing left to do, and checks the result.
    pub(crate) async fn settle(&mut self) {
        let mut held: BTreeSet<String> = BTreeSet::new();
        for machine in &self.machines {
            held.extend(contents(&machine.mount, Path::new("")));
        }
        for round in 0.. {
            let mut quiet = true;
            for (who, machine) in self.machines.iter().enumerate() {
                let ended = machine.sync().await;
                let report = ended.report().clone();
                quiet &= (report.added, report.changed, report.deleted, report.conflicts) == (0, 0, 0, 0);
                let said = self.tell("settles", ended, true);
                self.trace.push(format!("m{who}: {said}"));
            }
            if quiet {
                break;
            }
            assert!(round < 6, "they go on and on; {}", self.told());
        }
        let fresh = self.world.machine("fresh");
        fresh.pull().await.clean();
        let expected = without_times(list(&fresh.mount.0));
        for machine in &self.machines {
            let text = differences(&expected, &without_times(list(&machine.mount.0)));
            assert!(
                text.is_empty(),
                "{}\n{} is not what the context holds:\n{text}",
                self.told(),
                machine.mount.0.display()
            );
        }
        let there = contents(&fresh.mount, Path::new(""));
        let lost: Vec<_> = held.difference(&there).filter(|c| !self.given_up.contains(*c)).collect();
        assert!(lost.is_empty(), "{}\nlost: {lost:?}", self.told());
        let all = (1..=self.written).map(|i| format!("content-{i}"));
        let lost: Vec<_> = all.filter(|c| !self.given_up.contains(c) && !there.contains(c)).collect();
        // A number that no file got was never written.
        let written = |c: &String| self.trace.iter().any(|line| line.ends_with(&format!(" {c}")));
        let lost: Vec<_> = lost.into_iter().filter(written).collect();
        assert!(lost.is_empty(), "{}\nlost: {lost:?}", self.told());
        self.check_totals(&fresh).await;
    }

    /// Fails unless the head's totals are those of its tree.
    async fn check_totals(&self, fresh: &Machine) {
        let totals = self.world.head().await.totals;
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
        assert_eq!(found, expected, "{}", self.told());
    }
}
