//! Directories get the times of the snapshot, however they are pulled.
#![expect(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use ctxsync_tests::faults::Death;
use ctxsync_tests::machine::{Machine, World};
use ctxsync_tests::notes::Notes;
use ctxsync_tests::tree::Tree;
use policy_core::TreePath;
use transfer_engine::{Env, SyncOptions};
use walkdir::WalkDir;

/// Returns the times of all directories below `root`, and its own.
fn times(root: &Path) -> BTreeMap<String, (i64, i64)> {
    let all = WalkDir::new(root).into_iter();
    // Jobs of a sync that died in this process may still work in the staging directory.
    let all = all.filter_entry(|e| !e.file_name().to_string_lossy().starts_with(".ctxsync-stage-"));
    let all = all.map(Result::unwrap).filter(|e| e.file_type().is_dir());
    let times = all.map(|e| {
        let stat = e.path().symlink_metadata().unwrap();
        let path = e.path().strip_prefix(root).unwrap().to_string_lossy().into_owned();
        (path, (stat.mtime(), stat.mtime_nsec()))
    });
    times.collect()
}

fn time(tree: &Tree, path: &str) -> (i64, i64) {
    times(&tree.0)[path]
}

/// Implied directories at several depths, with long and short files; and listed ones, one of them empty.
fn fill(t: &Tree) {
    t.write("p/f", "f").time("p/f", 100, 7).write("p/g", "g").time("p/g", 90, 0);
    t.write("p/q/h", "h").time("p/q/h", 200, 0).link("p/q/link", "h").time("p/q/link", 210, 5);
    t.write("only/dirs/in/it", "x").time("only/dirs/in/it", 300, 0);
    t.write("long/file", vec![7; 5 << 20]).time("long/file", 400, 0);
    t.write("long/short", "s").time("long/short", 350, 0);
    t.write("listed/file", "x").time("listed/file", 600, 0).mode("listed", 0o700).time("listed", 500, 0);
    t.dir("empty").time("empty", 510, 0);
    t.write("top", "t").time("top", 20, 0);
}

fn expected() -> BTreeMap<String, (i64, i64)> {
    let all = [
        // The newest of `top`, `listed` and `empty`.
        ("", (510, 0)),
        ("empty", (510, 0)),
        ("listed", (500, 0)),
        ("long", (400, 0)),
        ("only", (300, 0)),
        ("only/dirs", (300, 0)),
        ("only/dirs/in", (300, 0)),
        ("p", (100, 7)),
        ("p/q", (210, 5)),
    ];
    all.map(|(path, time)| (path.to_owned(), time)).into()
}

#[tokio::test]
async fn directories_have_the_times_of_the_snapshot_and_never_now() {
    let world = World::memory().await;
    let (a, b) = (world.machine("a"), world.machine("b"));
    fill(&a.mount);
    a.push().await.clean();
    b.pull().await.clean();
    assert_eq!(times(&b.mount.0), expected());
    // The times are no change to push.
    assert_eq!(b.push().await.clean().snapshot, Some(2));

    let restored = world.outside();
    let (head, notes) = (world.head().await, Notes::default());
    let options = SyncOptions::default();
    world.store().restore(&head, &restored.0, &[], &options, &notes).await.unwrap();
    assert_eq!(times(&restored.0), expected());
}

/// A machine that pulls each change ends up with the same times as a new one.
#[tokio::test]
async fn who_follows_has_the_times_of_who_is_new() {
    let world = World::memory().await;
    let (a, b) = (world.machine("a"), world.machine("b"));
    fill(&a.mount);
    a.push().await.clean();
    b.pull().await.clean();
    let changes: [fn(&Tree); 8] = [
        |t| drop(t.write("p/new", "n").time("p/new", 150, 0).at("")),
        |t| drop(t.remove("p/new").at("")),
        |t| drop(t.write("p/q/r/deep", "n").time("p/q/r/deep", 700, 0).at("")),
        |t| drop(t.remove("p/q/r").at("")),
        |t| drop(t.write("only/dirs/in/it", "y").time("only/dirs/in/it", 310, 0).at("")),
        |t| drop(t.write("listed/file", "longer").time("listed/file", 650, 0).at("")),
        |t| drop(t.mode("long", 0o750).time("long", 444, 0).at("")),
        |t| drop(t.remove("top").write("top/now/a", "dir").time("top/now/a", 30, 0).at("")),
    ];
    for (round, change) in changes.into_iter().enumerate() {
        change(&a.mount);
        a.push().await.clean();
        b.pull().await.clean();
        let fresh = world.machine(&format!("fresh{round}"));
        fresh.pull().await.clean();
        assert_eq!(times(&b.mount.0), times(&fresh.mount.0), "round {round}");
        assert!(times(&b.mount.0).values().all(|(secs, _)| *secs < 1000), "round {round}");
    }
}

#[tokio::test]
async fn a_directory_in_which_nothing_was_changed_keeps_its_time() {
    let world = World::memory().await;
    let (a, b) = (world.machine("a"), world.machine("b"));
    fill(&a.mount);
    a.push().await.clean();
    b.pull().await.clean();
    for dir in times(&b.mount.0).into_keys().collect::<Vec<_>>() {
        b.mount.time(&dir, 5000, 5);
    }
    a.mount.write("p/q/h", "changed").time("p/q/h", 220, 0);
    a.push().await.clean();
    b.pull().await.clean();
    for (dir, time) in times(&b.mount.0) {
        assert_eq!(time, if dir == "p/q" { (220, 0) } else { (5000, 5) }, "{dir}");
    }
    // A sync with nothing to do keeps it, too.
    b.pull().await.clean();
    b.push().await.clean();
    assert_eq!(time(&b.mount, "p"), (5000, 5));
}

#[tokio::test]
async fn what_lies_beside_what_is_asked_for_counts() {
    let world = World::memory().await;
    let (a, mut b) = (world.machine("a"), world.machine("b"));
    fill(&a.mount);
    a.mount.write("p/out/x", "x");
    a.push().await.clean();
    b.options.only = vec![TreePath::new(*b"p/g").unwrap()];
    b.pull().await.clean();
    assert_eq!(time(&b.mount, "p"), (100, 7), "its newest file was not asked for");
    // What is out of scope does not count.
    let c =
        world.machine("c").with_policy(r#"{"bwList":{"whiteLists":[{"path":"p","excludePaths":["f"]}]}}"#);
    c.pull().await.clean();
    assert_eq!(time(&c.mount, "p"), (90, 0));
}

/// A pull may die at any change. The next one sets the same times as if it had not died.
#[tokio::test]
async fn p1_a_download_that_died_leaves_the_times_to_the_next() {
    let world = World::memory().await;
    let a = world.machine("a");
    fill(&a.mount);
    a.push().await.clean();
    let dies = |name: &str, lives: u64| {
        let mut machine = world.machine(name);
        let death = Death::after(lives);
        machine.env = Env::real().with_file_faults(death.clone());
        async move {
            let _ = machine.pull().await;
            (Machine { env: Env::real(), ..machine }, death.calls())
        }
    };
    let (_, all) = dies("count", u64::MAX).await;
    for lives in 0..all {
        let (b, _) = dies(&format!("b{lives}"), lives).await;
        b.pull().await.clean();
        let mut found = times(&b.mount.0);
        // An empty directory whose creation was not recorded counts as a local one.
        found.insert("empty".to_owned(), (510, 0));
        assert_eq!(found, expected(), "after {lives} of {all}");
    }
}
