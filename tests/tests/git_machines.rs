//! One git repository on two machines: one deletes objects that a new ref on the other leads to.
#![expect(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ctxsync_tests::git::{check, git};
use ctxsync_tests::machine::{Ended, Machine, World};
use object_store::path::Path;
use storage_backends::layer::{Fault, Faulty, Operation, Rule};
use tokio::time::Instant;
use transfer_engine::format::StoreKey;
use transfer_engine::{ContextName, CreateSessionParams, MergeOptions, ReleaseOptions, Session, Silent};

/// Where the repository is in the mount, and whether it is bare.
const PLACES: [(&str, bool); 3] = [("repo", false), ("some/repo.git", true), (".", true)];

/// Makes a repository with a branch `gone`, and returns the commit of that branch.
fn make(dir: &std::path::Path, is_bare: bool) -> String {
    let beside = tempfile::tempdir().unwrap();
    let tree = if is_bare { beside.path() } else { dir };
    std::fs::create_dir_all(tree).unwrap();
    git(tree, &["init", "-q", "-b", "main"]);
    std::fs::write(tree.join("file"), "first\n").unwrap();
    git(tree, &["add", "-A"]);
    git(tree, &["commit", "-qm", "first"]);
    git(tree, &["checkout", "-qb", "gone"]);
    std::fs::write(tree.join("file"), "second\n").unwrap();
    git(tree, &["commit", "-qam", "second"]);
    git(tree, &["checkout", "-q", "main"]);
    if is_bare {
        let (from, to) = (tree.to_str().unwrap(), dir.to_str().unwrap());
        git(tree, &["clone", "-q", "--bare", from, to]);
    }
    git(dir, &["rev-parse", "gone"]).trim().to_owned()
}

/// Deletes the branch `gone`, and its objects.
fn forget(dir: &std::path::Path) {
    git(dir, &["branch", "-qD", "gone"]);
    git(dir, &["reflog", "expire", "--expire=now", "--all"]);
    git(dir, &["gc", "-q", "--prune=now"]);
}

/// Makes a branch `keep` that leads to this commit: directly, or with one more commit.
fn keep(dir: &std::path::Path, commit: &str, goes_on: bool) {
    let tree = format!("{commit}^{{tree}}");
    let next = match goes_on {
        true => git(dir, &["commit-tree", "-m", "third", "-p", commit, &tree]).trim().to_owned(),
        false => commit.to_owned(),
    };
    git(dir, &["branch", "keep", &next]);
}

#[derive(Debug, Clone, Copy)]
enum Way {
    Push,
    Pull,
    Both,
}

async fn sync(machine: &Machine, way: Way) -> Ended {
    match way {
        Way::Push => machine.push().await,
        Way::Pull => machine.pull().await,
        Way::Both => machine.sync().await,
    }
}

/// Two machines with one repository. The first one deletes objects that the second one needs.
async fn diverged(place: &str, is_bare: bool, goes_on: bool) -> (World, [Machine; 2], [PathBuf; 2]) {
    let world = World::quick().await;
    let machines = [world.machine("a"), world.machine("b")];
    let dirs = [0, 1].map(|at: usize| machines[at].mount.at(place));
    let commit = make(&dirs[0], is_bare);
    machines[0].push().await.clean();
    machines[1].pull().await.clean();
    forget(&dirs[0]);
    keep(&dirs[1], &commit, goes_on);
    (world, machines, dirs)
}

/// Fails unless the repository is whole in the head, and has the branch `keep` if it should.
async fn check_head(world: &World, place: &str, has_branch: bool) {
    let fresh = world.machine("fresh");
    fresh.pull().await.clean();
    check(&fresh.mount.at(place));
    if has_branch {
        git(&fresh.mount.at(place), &["log", "keep"]);
    }
    fresh.mount.clear();
    fresh.lose_state();
}

#[tokio::test]
async fn objects_that_another_machine_needs_are_kept_in_either_order() {
    use Way::*;
    for (place, is_bare) in PLACES {
        for goes_on in [false, true] {
            for (first, way) in [(0, Both), (1, Both), (0, Push), (1, Push)] {
                let (world, machines, dirs) = diverged(place, is_bare, goes_on).await;
                for at in [first, 1 - first] {
                    sync(&machines[at], way).await.clean();
                    check_head(&world, place, at == 1 || first == 1).await;
                }
                for at in [first, 1 - first] {
                    sync(&machines[at], Pull).await.clean();
                }
                for at in [first, 1 - first] {
                    check(&dirs[at]);
                    git(&dirs[at], &["log", "keep"]);
                    sync(&machines[at], Both).await.clean();
                }
                check_head(&world, place, true).await;
                for machine in &machines {
                    let ended = sync(machine, Both).await;
                    let report = ended.clean();
                    assert_eq!((report.added, report.changed, report.deleted), (0, 0, 0), "{report:?}");
                }
            }
        }
    }
}

/// After the ref alone was pulled, nothing in the repository has changed in the context any more.
#[tokio::test]
async fn objects_stay_kept_after_a_pull_of_refs_alone() {
    let (world, [mut a, b], dirs) = diverged("repo.git", true, false).await;
    b.push().await.clean();
    a.push().await.clean();
    a.options.only = vec!["repo.git/refs".parse().unwrap()];
    a.pull().await.clean();
    a.options.only.clear();
    a.mount.write("other", "x");
    a.push().await.clean();
    check_head(&world, "repo.git", true).await;
    a.pull().await.clean();
    check(&dirs[0]);
}

/// The new ref arrives, and the objects that were deleted here do not.
#[tokio::test]
async fn objects_stay_kept_after_a_pull_in_which_they_failed() {
    let (world, [mut a, b], dirs) = diverged("repo.git", true, true).await;
    let head = world.head().await;
    let packs: Vec<_> = head.packs.iter().map(|pack| StoreKey::Pack(pack.id).path()).collect();
    b.push().await.clean();
    let faulty = Faulty::new(Arc::clone(&world.objects), 1);
    let is_old = move |key: &Path| packs.contains(key);
    faulty.add(Rule::new(Fault::NotFound).on(Operation::Get).with_key(is_old));
    a.objects = Arc::new(faulty);
    assert!(a.pull().await.report().failed > 0);
    assert!(a.mount.has("repo.git/refs/heads/keep"));
    a.objects = Arc::clone(&world.objects);
    a.push().await.report();
    check_head(&world, "repo.git", true).await;
    a.pull().await.clean();
    check(&dirs[0]);
}

#[tokio::test]
async fn objects_are_fetched_with_the_ref_that_needs_them() {
    let (world, [a, b], dirs) = diverged("repo.git", true, true).await;
    b.push().await.clean();
    let a = a.with_policy(r#"{"downloadPolicy": {"autoDownload": false}}"#);
    let params = CreateSessionParams::new(vec![a.context_sync()], &a.state);
    let session = Session::create(&a.store(), params).await.unwrap();
    session.fetch(&a.mount.0, &["repo.git".parse().unwrap()]).await.unwrap();
    check(&dirs[0]);
    git(&dirs[0], &["log", "keep"]);
    session.release(ReleaseOptions::default()).await.unwrap();
    check_head(&world, "repo.git", true).await;
}

/// A release reads the mount in another order, and again if it has to send what it took for unchanged.
#[tokio::test]
async fn objects_are_sent_again_by_a_release() {
    let (world, [a, b], dirs) = diverged("repo", false, true).await;
    a.push().await.clean();
    let b = b.with_policy(r#"{"downloadPolicy": {"autoDownload": false}}"#);
    let params = CreateSessionParams::new(vec![b.context_sync()], &b.state);
    let session = Session::create(&b.store(), params).await.unwrap();
    let deadline = Some(Instant::now() + Duration::from_secs(600));
    session.release(ReleaseOptions { deadline, ..ReleaseOptions::default() }).await.unwrap();
    check_head(&world, "repo", true).await;
    a.pull().await.clean();
    check(&dirs[0]);
}

#[tokio::test]
async fn objects_that_no_other_machine_needs_are_deleted() {
    let (_world, [a, b], dirs) = diverged("repo", false, false).await;
    git(&dirs[1], &["branch", "-qD", "keep"]);
    b.push().await.clean();
    b.mount.write("beside", "x").write("repo/file", "changed\n");
    for machine in [&a, &b, &a] {
        machine.sync().await.clean();
    }
    for dir in &dirs {
        check(dir);
        let objects = git(dir, &["count-objects", "-v"]);
        assert!(objects.starts_with("count: 0\n") && objects.contains("\npacks: 1\n"), "{objects}");
    }
}

#[tokio::test]
async fn objects_that_another_fork_needs_are_kept_by_a_merge() {
    for (first, second) in [("work", "fork"), ("fork", "work")] {
        let world = World::quick().await;
        let (a, mut b) = (world.machine("a"), world.machine("b"));
        let commit = make(&a.mount.at("repo"), false);
        a.push().await.clean();
        let name = |name: &str| ContextName::new(name).unwrap();
        world.store().fork_context(&name("work"), None, &name("fork")).await.unwrap();
        b.context = name("fork");
        b.pull().await.clean();
        forget(&a.mount.at("repo"));
        keep(&b.mount.at("repo"), &commit, false);
        a.push().await.clean();
        b.push().await.clean();
        for (from, into) in [(first, second), (second, first)] {
            let (store, options) = (world.store(), MergeOptions::default());
            let report =
                store.merge_context(&name(from), None, &name(into), &options, &Silent).await.unwrap();
            assert_eq!((report.conflicts, report.held_back, report.failed), (0, 0, 0), "{report:?}");
        }
        for machine in [&a, &b] {
            machine.sync().await.clean();
            let dir = machine.mount.at("repo");
            check(&dir);
            git(&dir, &["log", "keep"]);
        }
    }
}

#[tokio::test]
async fn two_commits_on_one_branch_are_two_branches_afterwards() {
    let world = World::quick().await;
    let (a, b) = (world.machine("a"), world.machine("b"));
    make(&a.mount.at("repo"), false);
    a.push().await.clean();
    b.pull().await.clean();
    for (machine, file) in [(&a, "of-a"), (&b, "of-b")] {
        machine.mount.write(format!("repo/{file}"), file);
        git(&machine.mount.at("repo"), &["add", file]);
        git(&machine.mount.at("repo"), &["commit", "-qm", file]);
    }
    a.push().await.clean();
    assert!(b.sync().await.report().conflicts > 0);
    a.pull().await.clean();
    for machine in [&a, &b] {
        let dir = machine.mount.at("repo");
        check(&dir);
        let branches = git(&dir, &["branch", "--format=%(refname:short)"]);
        let other = branches.lines().find(|name| name.starts_with("main.conflict-")).unwrap();
        git(&dir, &["checkout", "-qf", "main"]);
        git(&dir, &["clean", "-qfd"]);
        git(&dir, &["merge", "-q", "-m", "both", other]);
        assert_eq!(
            (machine.mount.read("repo/of-a"), machine.mount.read("repo/of-b")),
            ("of-a".into(), "of-b".into())
        );
    }
}
