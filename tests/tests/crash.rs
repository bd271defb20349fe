//! The process dies at any change of the local file system. The next sync goes on as if nothing had happened.
#![expect(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use std::process::Command;
use std::sync::Arc;

use ctxsync_tests::compare::{assert_same, paths};
use ctxsync_tests::faults::Death;
use ctxsync_tests::machine::{Machine, World};
use ctxsync_tests::notes::Notes;
use ctxsync_tests::random::Random;
use ctxsync_tests::tree::Tree;
use storage_backends::layer::{Fault, Faulty, Rule};
use transfer_engine::{Env, SyncOptions};

/// Just long enough to be pulled in several steps.
const LARGE: usize = (4 << 20) + 1;

fn before(tree: &Tree) {
    tree.write("changed", "1").write("deleted", "1").write("d/e/deleted", "1").write("mode", "1");
    tree.write("file-to-dir", "1").write("dir-to-file/x", "1").link("link", "1").dir("void");
    tree.write("large", Random::new(8).bytes(LARGE)).write("kept", "1");
}

fn after(tree: &Tree) {
    tree.write("changed", "2").remove("deleted").remove("d").mode("mode", 0o755).write("new/f", "2");
    tree.remove("file-to-dir").write("file-to-dir/x", "2").remove("dir-to-file").write("dir-to-file", "2");
    tree.remove("link").link("link", "2").mode("void", 0o700).link("new-link", "2").dir("new-void");
    tree.write("large", Random::new(9).bytes(LARGE));
}

/// Two machines that agreed. The first one has changed files since.
async fn changed() -> (World, Machine, Machine) {
    let world = World::memory().await;
    let (a, b) = (world.machine("a"), world.machine("b"));
    before(&a.mount);
    a.push().await.clean();
    b.pull().await.clean();
    after(&a.mount);
    (world, a, b)
}

/// Fails unless both end up the same without a conflict, and without another snapshot.
async fn converged(world: &World, a: &Machine, b: &Machine, snapshot: u64, at: &str) {
    let ended = b.pull().await;
    assert!(ended.result.is_ok() && ended.noted.problems.is_empty(), "{at} {ended:?}");
    assert_eq!(ended.report().conflicts, 0, "{at} {:?}", ended.noted);
    assert_same(&a.mount.0, &b.mount.0);
    let pushed = b.push().await;
    assert_eq!(
        (pushed.clean().snapshot, pushed.clean().parent),
        (Some(snapshot), None),
        "{at} {:?}",
        pushed.noted
    );
    a.pull().await.clean();
    assert_same(&a.mount.0, &b.mount.0);
    assert_eq!(world.head().await.number, snapshot);
}

/// A pull of those changes that dies after so many changes of the file system; `None` if it ends before.
async fn pulled_until(lives: u64) -> Option<(World, Machine, Machine)> {
    let (world, a, mut b) = changed().await;
    a.push().await.clean();
    let death = Death::after(lives);
    b.env = Env::real().with_file_faults(death.clone());
    let notes = Notes::default();
    // A dead process cleans up nothing. Here the engine still runs, but each of its changes fails from
    // now on, which is close to it.
    let mut mount = b.open().unwrap();
    let ended = mount.pull(&b.options, &notes).await;
    drop(mount);
    b.env = Env::real();
    if death.calls() <= lives {
        assert!(ended.unwrap().added > 0 && lives > 10);
        return None;
    }
    Some((world, a, b))
}

#[tokio::test(start_paused = true)]
async fn p1_death_at_any_change_of_a_pull_loses_nothing() {
    let old = Random::new(8).bytes(LARGE);
    for lives in 0.. {
        let Some((world, a, b)) = pulled_until(lives).await else { break };
        // Every file at its real path is whole.
        for path in ["changed", "mode", "kept", "new/f", "large", "dir-to-file", "file-to-dir/x"] {
            let whole = std::fs::read(a.mount.at(path)).unwrap();
            if b.mount.at(path).is_file() {
                let found = std::fs::read(b.mount.at(path)).unwrap();
                assert!(found == whole || found == b"1" || found == old, "{path} is half a file");
            }
        }
        converged(&world, &a, &b, 3, &format!("pull, {lives} changes")).await;
    }
}

/// What may happen to a mount between the death of a pull and the next sync, and what was staged is gone after it.
#[derive(Debug)]
enum Meanwhile {
    /// A copy takes its place.
    Copied,
    /// Its content is put back from a copy.
    PutBack,
    /// It is away while another command looks for it.
    Away,
    /// It is cleaned up.
    CleanedUp,
    /// Something else is restored into it.
    Restored,
}

const MEANWHILE: [Meanwhile; 5] =
    [Meanwhile::Copied, Meanwhile::PutBack, Meanwhile::Away, Meanwhile::CleanedUp, Meanwhile::Restored];

impl Meanwhile {
    async fn happen(&self, b: &Machine) {
        let (mount, aside) = (&b.mount.0, b.mount.0.with_extension("aside"));
        let run = |command: &mut Command| assert!(command.status().unwrap().success());
        match self {
            Self::Copied | Self::PutBack => {
                run(Command::new("cp").arg("-a").arg("-T").args([mount, &aside]));
                if matches!(self, Self::Copied) {
                    std::fs::remove_dir_all(mount).unwrap();
                    std::fs::rename(&aside, mount).unwrap();
                } else {
                    run(Command::new("find").arg(mount).args(["-mindepth", "1", "-delete"]));
                    run(Command::new("cp").arg("-a").arg("-T").args([&aside, mount]));
                }
            }
            Self::Away => {
                std::fs::rename(mount, &aside).unwrap();
                let options = SyncOptions { dry_run: true, ..b.options.clone() };
                let _ = b.open().unwrap().push(&options, &Notes::default()).await;
                if mount.exists() {
                    std::fs::remove_dir(mount).unwrap();
                }
                std::fs::rename(&aside, mount).unwrap();
            }
            Self::CleanedUp => {
                let staging = std::fs::read_dir(mount).unwrap().map(|entry| entry.unwrap());
                staging
                    .filter(|entry| entry.file_name().to_string_lossy().starts_with(".ctxsync-stage"))
                    .for_each(|entry| std::fs::remove_dir_all(entry.path()).unwrap());
            }
            Self::Restored => {
                let head = b.store().head(&b.context).await.unwrap();
                let paths = ["kept".parse().unwrap()];
                let _ = b.store().restore(&head, mount, &paths, &b.options, &Notes::default()).await;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn p1_death_at_any_change_of_a_pull_loses_nothing_whatever_happens_to_what_was_staged() {
    for (lives, meanwhile) in (0..).step_by(4).zip(MEANWHILE.iter().cycle()) {
        let Some((world, a, b)) = pulled_until(lives).await else { break };
        meanwhile.happen(&b).await;
        b.push().await.clean();
        assert_eq!(world.head().await.number, 3, "something is pushed, {meanwhile:?} after {lives} changes");
        converged(&world, &a, &b, 3, &format!("pull, {lives} changes, {meanwhile:?}")).await;
    }
}

#[tokio::test(start_paused = true)]
async fn p1_death_at_any_request_of_a_push_loses_nothing_and_conflicts_with_nobody() {
    for fault in [Fault::CrashBefore, Fault::CrashAfter] {
        for nth in 1.. {
            let (world, mut a, b) = changed().await;
            let faulty = Faulty::new(Arc::clone(&world.objects), 1);
            faulty.add(Rule::new(fault).nth(nth));
            a.objects = Arc::new(faulty.clone());
            let died = a.push_until_crashed(&faulty).await;
            if !died && faulty.injections().is_empty() {
                assert!(nth > 4);
                break;
            }
            a.objects = Arc::clone(&world.objects);
            // The machine changes a file before it learns whether the commit landed.
            a.mount.write("changed", "3");
            let pushed = a.push().await;
            assert_eq!((pushed.clean().failed, pushed.clean().conflicts), (0, 0), "{fault:?} {nth}");
            let head = world.head().await.number;
            assert!(head == 3 || head == 4, "{head}");
            converged(&world, &a, &b, head, &format!("push, {fault:?}, request {nth}")).await;
            assert_eq!(paths(&b.mount.0).iter().filter(|p| p.contains("conflict")).count(), 0);
        }
    }
}
