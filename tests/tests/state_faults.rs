//! The state of a mount can't be read now, or is damaged. If it can't be read, the sync fails and changes
//! nothing. If it is damaged, a warning reports it, and the mount counts as new.
#![expect(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ctxsync_tests::compare::{assert_same, list};
use ctxsync_tests::faults::{Death, FailsReading};
use ctxsync_tests::machine::{Ended, Machine, World, context};
use object_store::ObjectStoreExt;
use rustix::io::Errno;
use sha2::{Digest, Sha256};
use storage_backends::layer::{Fault, Faulty, Operation, Rule};
use transfer_engine::format::StoreKey;
use transfer_engine::{Env, Error};

/// The files of the state that a sync relies on.
const FILES: [&str; 4] = ["base", "base.next", "arrivals", "packs"];

/// The sync that is tested, and the state that it starts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scene {
    /// A push of a deletion and an edit.
    Push,
    /// A pull of the same changes.
    Pull,
    /// A push after one that died between its commit and the write of its new base.
    PushAfterCommit,
    /// A push after a pull that died in the middle.
    PushAfterPull,
    /// Another pull after a pull that died in the middle.
    PullAgain,
}

const SCENES: [Scene; 5] =
    [Scene::Push, Scene::Pull, Scene::PushAfterCommit, Scene::PushAfterPull, Scene::PullAgain];

/// Two machines; `b` is about to sync.
struct Stage {
    world: World,
    a: Machine,
    b: Machine,
    scene: Scene,
}

impl Stage {
    async fn new(scene: Scene) -> Self {
        let world = World::quick().await;
        let (a, b) = (world.machine("a"), world.machine("b"));
        for i in 0..6 {
            a.mount.write(format!("d{}/f{i}", i % 2), format!("content {i}"));
        }
        a.push().await.clean();
        b.pull().await.clean();
        let stage = Self { world, a, b, scene };
        match scene {
            Scene::Push => drop(stage.b.mount.remove("d0/f2").write("d1/f1", "edited")),
            Scene::Pull => {
                stage.a.mount.remove("d0/f2").write("d1/f1", "edited");
                stage.a.push().await.clean();
            }
            Scene::PushAfterCommit => {
                let base = stage.b.base_file();
                let before = std::fs::read(&base).unwrap();
                stage.b.mount.remove("d0/f2").write("d1/f1", "edited");
                stage.b.push().await.clean();
                std::fs::rename(&base, base.with_file_name("base.next")).unwrap();
                std::fs::write(&base, before).unwrap();
                stage.b.mount.remove("d0/f4");
            }
            Scene::PushAfterPull | Scene::PullAgain => stage.stop_in_mid_pull().await,
        }
        stage
    }

    /// Lets `b` die after its pull has recorded some of the files that arrived.
    async fn stop_in_mid_pull(&self) {
        self.a.mount.remove("d0/f2").write("d1/f1", "edited").write("new/x", "x").write("new/y", "y");
        self.a.push().await.clean();
        static LIVES: AtomicU64 = AtomicU64::new(3);
        for lives in LIVES.load(Ordering::Relaxed).. {
            let mut b = self.b.clone();
            b.env = Env::real().with_file_faults(Death::after(lives));
            let ended = b.pull().await;
            let journal = self.b.state_file("arrivals").and_then(|path| path.metadata().ok());
            if journal.is_some_and(|journal| journal.len() > 513) && self.b.mount.has("new/x") {
                LIVES.store(lives, Ordering::Relaxed);
                return;
            }
            assert!(ended.result.is_err(), "it never stops in the middle");
        }
    }

    async fn sync(&self, machine: &Machine) -> Ended {
        match self.scene {
            Scene::Push | Scene::PushAfterCommit | Scene::PushAfterPull => machine.push().await,
            Scene::Pull | Scene::PullAgain => machine.pull().await,
        }
    }

    fn base(&self) -> Vec<u8> {
        std::fs::read(self.b.base_file()).unwrap()
    }

    /// Fails unless both machines end up with the intended changes.
    async fn converge(&self, told: &str) {
        for machine in [&self.b, &self.a, &self.b] {
            let ended = machine.sync().await;
            assert_eq!(
                (ended.report().conflicts, ended.report().failed),
                (0, 0),
                "{told}: {:?}",
                ended.noted
            );
        }
        assert_same(&self.a.mount.0, &self.b.mount.0);
        assert_eq!(self.a.mount.read("d1/f1"), "edited", "{told}");
        assert!(!self.a.mount.has("d0/f2"), "{told}: what was deleted is back");
        assert_eq!(self.a.mount.has("d0/f4"), self.scene != Scene::PushAfterCommit, "{told}");
        assert!(self.scene != Scene::PullAgain || self.a.mount.read("new/y") == "y", "{told}");
    }
}

/// Each read of the state fails in turn, alone or with all that follow.
#[tokio::test]
async fn s17_a_state_that_cant_be_read_now_ends_the_sync_and_changes_nothing() {
    let errors = [Errno::MFILE, Errno::IO, Errno::ACCESS, Errno::NOMEM, Errno::STALE, Errno::NFILE];
    for scene in SCENES {
        let mut fired = 0;
        // First with all that follow, then each alone.
        for (nth, once) in std::iter::once((0, false)).chain((0..).map(|nth| (nth, true))) {
            let stage = Stage::new(scene).await;
            let errno = errors[nth as usize % errors.len()];
            let fails = FailsReading::at(nth, once, errno);
            let (head, base) = (stage.world.head().await.number, stage.base());
            let mount = list(&stage.b.mount.0);
            let mut b = stage.b.clone();
            b.env = Env::real().with_file_faults(fails.clone());
            let ended = stage.sync(&b).await;
            let told = format!("{scene:?}, read {nth}, once {once}, {errno}: {:?}", ended.noted);
            if !fails.has_failed() {
                ended.report();
                break;
            }
            fired += 1;
            assert!(ended.result.is_err(), "{told}: {:?}", ended.report());
            assert_eq!(stage.world.head().await.number, head, "{told}");
            assert!(ended.noted.warnings.is_empty(), "{told}");
            // What an earlier sync left may have been resolved before the failed read, and a pull may have
            // put files in place.
            if scene == Scene::Push {
                assert!(stage.base() == base && list(&stage.b.mount.0) == mount, "{told}: it is another");
            }
            stage.converge(&told).await;
        }
        println!("{scene:?}: {fired} reads");
        assert!(fired >= 6, "{scene:?}: only {fired} reads were seen");
    }
}

/// A flipped bit in a file of the state is detected and reported, or makes no difference. `CTXSYNC_FLIPS=all`
/// tries all bits.
#[tokio::test]
async fn s17_a_flipped_bit_of_the_state_is_found_or_harmless() {
    let all = std::env::var_os("CTXSYNC_FLIPS").is_some();
    let mut found = 0;
    for scene in SCENES {
        for name in FILES {
            let Some(len) = file_len(&Stage::new(scene).await, name) else { continue };
            let bits = len * 8;
            // An odd step, so that every bit of a byte has its turn.
            let step = if all { 1 } else { (bits / 12).max(1) | 1 };
            for bit in (0..bits).step_by(step as usize) {
                let stage = Stage::new(scene).await;
                let path = stage.b.state_file(name).unwrap();
                let mut bytes = std::fs::read(&path).unwrap();
                // The file contains times, so its length varies.
                let Some(byte) = bytes.get_mut((bit / 8) as usize) else { continue };
                *byte ^= 1 << (bit % 8);
                std::fs::write(&path, bytes).unwrap();
                let head = stage.world.head().await;
                let ended = stage.sync(&stage.b).await;
                let told = format!("{scene:?}, bit {bit} of {name}: {:?}", ended.noted);
                let report = ended.report();
                let is_found = ended.warned("the local state is damaged; the mount is treated as new");
                assert!(report.snapshot >= Some(head.number), "{told}");
                if !is_found {
                    stage.converge(&told).await;
                    continue;
                }
                found += 1;
                // It is unknown now what was deleted, but nothing that was written is lost.
                assert_eq!(report.deleted, 0, "{told}");
                for machine in [&stage.b, &stage.a, &stage.b] {
                    assert_eq!(machine.sync().await.report().failed, 0, "{told}");
                }
                assert_eq!(list(&stage.a.mount.0).len(), list(&stage.b.mount.0).len(), "{told}");
                let texts = contents(&stage.a);
                for text in ["content 0", "content 3", "content 5", "edited"] {
                    assert!(texts.iter().any(|t| t == text), "{told}: `{text}` is lost: {texts:?}");
                }
            }
        }
    }
    assert!(found > 30, "only {found} were found");
}

fn file_len(stage: &Stage, name: &str) -> Option<u64> {
    stage.b.state_file(name).map(|path| path.metadata().unwrap().len())
}

fn contents(machine: &Machine) -> Vec<String> {
    let files = list(&machine.mount.0).into_keys().map(|path| machine.mount.at(path));
    files.filter(|path| path.is_file()).map(|path| std::fs::read_to_string(path).unwrap()).collect()
}

/// The state of a later program is not damaged: the error asks for an upgrade, and the file stays.
#[tokio::test]
async fn s5_a_state_that_a_later_program_wrote_is_left_alone() {
    for name in ["base", "arrivals", "base.next"] {
        let scene = match name {
            "arrivals" => Scene::PushAfterPull,
            "base.next" => Scene::PushAfterCommit,
            _ => Scene::Push,
        };
        let stage = Stage::new(scene).await;
        let path: PathBuf = stage.b.state_file(name).unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        // A version that no program writes yet.
        bytes[4] += 2;
        let digest = Sha256::digest(&bytes[..480]);
        bytes[480..512].copy_from_slice(&digest);
        std::fs::write(&path, &bytes).unwrap();
        let head = stage.world.head().await.number;
        for ended in [stage.b.push().await, stage.b.pull().await] {
            let error = ended.error();
            assert!(error.is_later_state(), "{name}: {error:?}");
            let cause = std::error::Error::source(error).unwrap().to_string();
            assert!(cause.contains("upgrade"), "{name}: {cause}");
        }
        assert_eq!(stage.world.head().await.number, head, "{name}");
        assert_eq!(std::fs::read(&path).unwrap(), bytes, "{name}");
    }
}

/// While the store can't be read, it is unknown whether an interrupted commit landed. The base that it would
/// give stays.
#[tokio::test]
async fn s17_what_an_interrupted_commit_came_to_is_asked_again_where_the_store_does_not_say() {
    let stage = Stage::new(Scene::PushAfterCommit).await;
    let committed = stage.world.head().await.number;
    stage.a.pull().await.clean();
    stage.a.mount.write("after", "x");
    stage.a.push().await.clean();
    // The commit has been collected since, but its successor names it as parent.
    let key = |number| StoreKey::Snapshot { context: context(), number }.path();
    stage.world.objects.delete(&key(committed)).await.unwrap();
    let faulty = Faulty::new(Arc::clone(&stage.world.objects), 1);
    let next = key(committed + 1);
    let is_next = move |key: &object_store::path::Path| *key == next;
    faulty.add(Rule::new(Fault::FailBefore).on(Operation::Get).with_key(is_next).times(1));
    let mut b = stage.b.clone();
    b.objects = Arc::new(faulty);
    let next_base = || stage.b.state_file("base.next");
    assert!(matches!(b.push().await.error(), Error::Store { .. }));
    assert!(next_base().is_some(), "it was taken for one that did not land");
    b.push().await.clean();
    assert!(next_base().is_none());
    stage.converge("then").await;
}
