//! Another program removes a pull's staging directory while the pull uses it: `git clean -fdx` does, and
//! `rm -rf .ctxsync*`.
#![expect(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use ctxsync_tests::compare::assert_same;
use ctxsync_tests::faults::Meanwhile;
use ctxsync_tests::machine::{Machine, World};
use ctxsync_tests::random::Random;
use transfer_engine::Env;

/// Removes the staging directories of a mount, with or without the directories themselves.
fn remove_staging(mount: &Path, whole: bool) {
    for entry in fs::read_dir(mount).unwrap().map(Result::unwrap) {
        if !entry.file_name().to_string_lossy().starts_with(".ctxsync-stage-") {
            continue;
        }
        if whole {
            fs::remove_dir_all(entry.path()).unwrap();
            continue;
        }
        // `rm` has not come to the marker yet.
        for inner in fs::read_dir(entry.path()).unwrap().map(Result::unwrap) {
            if inner.file_type().unwrap().is_dir() {
                fs::remove_dir_all(inner.path()).unwrap();
            }
        }
    }
}

/// Makes `act` run before each `operation` on the mount, or in its staging directory, that `when` picks by its number.
fn before(
    machine: &mut Machine,
    operation: &'static str,
    when: impl Fn(u32) -> bool + Send + Sync + 'static,
    act: impl Fn(&Path) + Send + Sync + 'static,
) -> Arc<AtomicBool> {
    let (mount, count) = (machine.mount.0.clone(), AtomicU32::new(0));
    let ran = Arc::new(AtomicBool::new(false));
    let done = ran.clone();
    machine.env = Env::real().with_file_faults(Meanwhile::new(move |op, at: &Path| {
        if op == operation && at.starts_with(&mount) && when(count.fetch_add(1, Ordering::SeqCst)) {
            act(&mount);
            done.store(true, Ordering::SeqCst);
        }
    }));
    ran
}

/// Two machines with the same files, of which the first then changes, adds and deletes some.
async fn changed() -> (World, Machine, Machine) {
    let world = World::memory().await;
    let (a, b) = (world.machine("a"), world.machine("b"));
    let mut random = Random::new(7);
    for i in 0..40 {
        a.mount.write(format!("d{}/old{i}", i % 3), random.bytes(100 + i));
    }
    a.mount.write("removed", "x").write("gone/too", "y");
    a.push().await.clean();
    b.pull().await.clean();
    for i in 0..20 {
        a.mount.write(format!("d{}/old{i}", i % 3), random.bytes(3000 + i));
        a.mount.write(format!("new{}/f{i}", i % 2), random.bytes(2000 * i));
    }
    a.mount.link("link", "d0").write("empty", "").write("long", random.bytes(9 << 20));
    a.mount.remove("removed").remove("gone");
    a.push().await.clean();
    (world, a, b)
}

#[tokio::test]
async fn a_pull_goes_on_when_its_staging_directory_is_removed() {
    let moments =
        ["mkdirat", "openat", "symlinkat", "fchmod", "syncfs", "renameat2", "fstatat", "unlinkat", "rmdir"];
    for (operation, at, whole) in
        moments.iter().flat_map(|op| [(op, 0, true), (op, 1, true), (op, 0, false), (op, 1, false)])
    {
        let (_world, a, mut b) = changed().await;
        // The first directory is made for nobody to remove.
        let from = u32::from(*operation == "mkdirat");
        let ran =
            before(&mut b, operation, move |n| n == at + from, move |mount| remove_staging(mount, whole));
        let case = format!("{operation} {at} {whole}");
        let ended = b.pull().await;
        // Some of them happen once.
        assert!(ran.load(Ordering::SeqCst) || at == 1, "{case}");
        assert_eq!(ended.report().failed, 0, "{case}: {:?}", ended.noted);
        assert_same(&a.mount.0, &b.mount.0);
        b.env = Env::real();
        let pushed = b.push().await;
        let pushed = pushed.clean();
        assert_eq!((pushed.added, pushed.changed, pushed.deleted), (0, 0, 0), "{case}");
        a.pull().await.clean();
        assert!(!a.mount.at("removed").exists(), "{case}");
    }
}

#[tokio::test]
async fn a_pull_whose_staging_directory_is_removed_again_and_again_ends_and_the_next_one_brings_the_rest() {
    for operation in ["openat", "renameat2"] {
        let (_world, a, mut b) = changed().await;
        before(&mut b, operation, |_| true, |mount| remove_staging(mount, true));
        let ended = b.pull().await;
        assert!(ended.report().failed > 0, "{operation}");
        let said = format!("{:?}", ended.noted);
        assert!(said.contains("something keeps removing"), "{said}");
        b.env = Env::real();
        b.pull().await.clean();
        assert_same(&a.mount.0, &b.mount.0);
    }
}
