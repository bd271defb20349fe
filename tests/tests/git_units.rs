//! Git repositories as units of a push (fault L28), without git.

use ctxsync_tests::busy::push_while;
use ctxsync_tests::machine::{Machine, World};
use ctxsync_tests::tree::Tree;

/// Creates what looks like a repository.
fn fill(tree: &Tree) {
    tree.write("r.git/HEAD", "ref: refs/heads/main\n").write("r.git/refs/heads/main", "1");
    tree.write("r.git/objects/pack/a.pack", "1").write("r.git/objects/ab/c", "1").write("file", "1");
}

#[tokio::test]
async fn l28_a_repository_that_cannot_be_had_whole_stays_as_the_context_has_it() {
    let world = World::quick().await;
    let machine = world.machine("m");
    fill(&machine.mount);
    machine.push().await.clean();
    machine.mount.write("file", "2").write("r.git/refs/heads/main", "2").write("r.git/objects/ab/new", "2");
    let pack = machine.mount.at("r.git/objects/pack");
    let ended = push_while(&machine, move |_| {
        let (a, b) = (pack.join("a.pack"), pack.join("b.pack"));
        if a.exists() { std::fs::rename(a, b).unwrap() } else { std::fs::rename(b, a).unwrap() }
    })
    .await;
    assert_eq!(ended.report().failed, 1, "{ended:?}");
    assert!(ended.noted.problems[0].starts_with("r.git: this git repository kept changing"), "{ended:?}");
    let fresh = world.machine("fresh");
    fresh.pull().await.clean();
    assert_eq!(fresh.mount.read("file"), "2");
    assert_eq!(fresh.mount.read("r.git/refs/heads/main"), "1");
    assert!(fresh.mount.has("r.git/objects/pack/a.pack") && !fresh.mount.has("r.git/objects/ab/new"));

    machine.push().await.clean();
    fresh.pull().await.clean();
    assert_eq!(fresh.mount.read("r.git/refs/heads/main"), "2");
}

#[tokio::test]
async fn l28_lock_files_travel_only_where_nothing_works_any_more() {
    let world = World::quick().await;
    let mut machine = world.machine("m");
    fill(&machine.mount);
    machine.mount.write("r.git/index.lock", "lock").write("r.git/refs/heads/topic/x.lock", "lock");
    machine.mount.write("Cargo.lock", "no lock of git's").write("r.git/objects/pack/tmp_pack_x", "half");
    let there = |machine: &Machine, path: &str| machine.mount.has(path);
    machine.push().await.clean();
    let fresh = world.machine("fresh");
    fresh.pull().await.clean();
    assert!(there(&fresh, "Cargo.lock") && there(&fresh, "r.git/HEAD"));
    for path in ["r.git/index.lock", "r.git/refs/heads/topic", "r.git/objects/pack/tmp_pack_x"] {
        assert!(!there(&fresh, path), "{path}");
    }
    // A release pushes lock files, too.
    machine.options.at_rest = true;
    machine.push().await.clean();
    fresh.pull().await.clean();
    assert_eq!(fresh.mount.read("r.git/index.lock"), "lock");
    assert!(there(&fresh, "r.git/refs/heads/topic/x.lock"));
    // A lock file that is left out is neither a deletion nor a change.
    machine.options.at_rest = false;
    machine.mount.write("r.git/index.lock", "another").write("file", "2");
    machine.push().await.clean();
    fresh.pull().await.clean();
    assert_eq!((fresh.mount.read("r.git/index.lock"), fresh.mount.read("file")), ("lock".into(), "2".into()));
    // A lock file that no longer exists is a deletion.
    machine.mount.remove("r.git/index.lock");
    machine.push().await.clean();
    fresh.pull().await.clean();
    assert!(!there(&fresh, "r.git/index.lock") && there(&fresh, "r.git/refs/heads/topic/x.lock"));
}
