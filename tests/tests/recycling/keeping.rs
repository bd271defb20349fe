//! Machines that have a recycled file keep it, and do not push it again.

use ctxsync_tests::compare::paths;
use ctxsync_tests::machine::{Machine, context};
use policy_core::TreePath;
use transfer_engine::{Action, ContextService, MergeOptions, Silent, SyncOptions, WriteOptions};

use crate::yard::{ONE_DAY, Yard, gone, recycled};

#[tokio::test]
async fn a_machine_that_has_it_keeps_it_and_does_not_upload_it() {
    let (yard, a) = recycled().await;
    for _ in 0..2 {
        let ended = a.sync().await;
        let report = ended.clean();
        assert_eq!((report.parent, report.withheld, report.pending, report.recycled), (None, 1, 0, 0));
        assert!(a.mount.has("old"));
    }
    // A push only checks that there is nothing new, and sends nothing.
    let again = a.push().await.clean().clone();
    assert_eq!((again.requests, again.bytes_sent), (1, 0));
    let plan = Machine { options: SyncOptions { dry_run: true, ..a.options.clone() }, ..a.clone() };
    for ended in [plan.push().await, plan.pull().await] {
        assert_eq!(ended.noted.events, [("old".parse().unwrap(), Action::Skip)]);
    }
    // Neither another timestamp or mode nor a lost state changes that.
    a.mount.time("old", 5, 5).mode("old", 0o600);
    assert_eq!(a.push().await.clean().parent, None);
    a.lose_state();
    for _ in 0..2 {
        let report = a.push().await.clean().clone();
        assert_eq!((report.parent, report.withheld), (None, 1));
    }
    // Once it is in the base again, it is neither read nor sent.
    let again = a.push().await.clean().clone();
    assert_eq!((again.bytes_read, again.bytes_sent), (0, 0));
    a.pull().await.clean();
    assert!(a.mount.has("old"));
    assert_eq!(yard.files().await, gone(&["old"], &["new"]));
}

#[tokio::test]
async fn what_is_changed_is_uploaded_again() {
    let (yard, a) = recycled().await;
    a.mount.write("old", "quite another");
    let report = a.push().await.clean().clone();
    assert_eq!((report.added, report.changed, report.withheld, report.recycled), (1, 0, 0, 0));
    assert_eq!(yard.files().await, gone(&[], &["new", "old"]));
    let fresh = yard.machine("fresh", "{}");
    fresh.pull().await.clean();
    assert_eq!(fresh.mount.read("old"), "quite another");
    assert_eq!(a.push().await.clean().requests, 1);
}

#[tokio::test]
async fn what_is_removed_here_stays_a_placeholder_and_returns_only_if_it_is_another() {
    let (yard, a) = recycled().await;
    let content = std::fs::read(a.mount.at("old")).unwrap();
    a.mount.remove("old");
    let report = a.push().await.clean().clone();
    assert_eq!((report.parent, report.withheld, report.deleted), (None, 0, 0));
    a.mount.write("old", &content);
    assert_eq!(a.push().await.clean().withheld, 1);
    assert_eq!(yard.files().await, gone(&["old"], &["new"]));
}

#[tokio::test]
async fn a_machine_that_was_away_keeps_what_it_has() {
    let yard = Yard::new().await;
    let (a, b) = (yard.machine("a", ONE_DAY), yard.machine("b", "{}"));
    a.mount.write("old", "1").write("older", "1");
    a.push().await.clean();
    b.pull().await.clean();
    a.mount.write("older", "2");
    a.push().await.clean();
    yard.days(2);
    a.push().await.clean();
    assert_eq!(yard.files().await, gone(&["old", "older"], &[]));
    // Neither is the version before the recycled one, which nothing has changed here.
    for _ in 0..2 {
        assert_eq!(b.pull().await.clean().withheld, 2);
        assert_eq!(b.push().await.clean().withheld, 2);
    }
    assert_eq!((b.mount.read("old"), b.mount.read("older")), ("1".into(), "1".into()));
    b.mount.write("older", "3");
    assert_eq!(b.push().await.clean().added, 1);
    assert_eq!(yard.files().await, gone(&["old"], &["older"]));
}

#[tokio::test]
async fn placeholders_are_in_nobodys_way() {
    let yard = Yard::new().await;
    let a = yard.machine("a", ONE_DAY);
    a.mount.write("d/e/x", "1").write("d/y", "1").write("f", "1");
    a.push().await.clean();
    yard.days(1);
    a.push().await.clean();
    assert_eq!(yard.files().await, gone(&["d/e/x", "d/y", "f"], &[]));
    // A machine that never had them creates a file in the place of a directory, and the other way round.
    let b = yard.machine("b", "{}");
    b.pull().await.clean();
    assert_eq!(paths(&b.mount.0), [""; 0]);
    b.mount.write("d", "a file").write("f/in", "a directory").dir("empty");
    let report = b.push().await.clean().clone();
    assert_eq!((report.added, report.failed), (3, 0));
    assert_eq!(yard.files().await, gone(&[], &["d", "empty", "f/in"]));
    let fresh = yard.machine("fresh", "{}");
    fresh.pull().await.clean();
    assert_eq!((fresh.mount.read("d"), fresh.mount.read("f/in")), ("a file".into(), "a directory".into()));
}

/// A machine that has the last copy of a recycled file, and another one of the same context.
async fn last_copy() -> (Yard, Machine, Machine) {
    let yard = Yard::new().await;
    let (a, b) = (yard.machine("a", ONE_DAY), yard.machine("b", "{}"));
    a.mount.write("d/x", "the last copy");
    a.push().await.clean();
    yard.days(1);
    a.mount.write("k", "1");
    assert_eq!(a.push().await.clean().recycled, 1);
    b.pull().await.clean();
    assert_eq!(yard.files().await, gone(&["d/x"], &["k"]));
    (yard, a, b)
}

#[tokio::test]
async fn the_last_copy_survives_another_file_in_its_place() {
    let (yard, a, b) = last_copy().await;
    b.mount.write("d/x", "another");
    b.push().await.clean();
    // A push alone leaves both as they are.
    assert_eq!(a.push().await.clean().withheld, 1);
    assert_eq!(a.sync().await.report().conflicts, 1);
    let there: Vec<String> = paths(&a.mount.0)
        .into_iter()
        .map(|path| a.mount.at(&path))
        .filter(|at| at.is_file())
        .map(|at| std::fs::read_to_string(at).unwrap())
        .collect();
    assert_eq!(there, ["the last copy", "another", "1"]);
    b.sync().await.clean();
    assert_eq!(paths(&b.mount.0), paths(&a.mount.0));
    assert_eq!(a.sync().await.clean().conflicts, 0);
    drop(yard);
}

#[tokio::test]
async fn the_last_copy_survives_a_file_in_the_place_of_its_directory() {
    let (_yard, a, b) = last_copy().await;
    b.mount.write("d", "a file");
    b.push().await.clean();
    assert_eq!(a.push().await.clean().withheld, 1);
    for _ in 0..3 {
        a.sync().await;
        assert_eq!(a.mount.read("d/x"), "the last copy");
        b.sync().await;
    }
    let there = paths(&a.mount.0);
    let copy = there.iter().find(|path| path.starts_with("d.conflict-")).unwrap();
    assert_eq!(a.mount.read(copy), "a file");
    assert!(a.sync().await.clean().parent.is_none() && b.sync().await.clean().parent.is_none());
}

#[tokio::test]
async fn the_last_copy_survives_that_nothing_tells_of_it_any_more() {
    let (yard, a, _) = last_copy().await;
    let store = yard.world.store();
    let service = ContextService::new(&store);
    let path: TreePath = "d/x".parse().unwrap();
    service.write_file(&context(), &path, &b"z"[..], &WriteOptions::default()).await.unwrap();
    service.delete_file(&context(), &path).await.unwrap();
    assert_eq!(yard.files().await, gone(&[], &["d", "k"]), "`d` is left as an empty directory");
    for _ in 0..2 {
        assert_eq!(a.pull().await.clean().withheld, 1);
        let pushed = a.push().await.clean().clone();
        assert_eq!((pushed.withheld, pushed.parent), (1, None));
        assert_eq!(a.mount.read("d/x"), "the last copy");
    }
    // Changed, it is a file like any other.
    a.mount.write("d/x", "the last copy, changed");
    assert_eq!(a.push().await.clean().added, 1);
    assert_eq!(yard.files().await, gone(&[], &["d/x", "k"]));
    assert_eq!(a.sync().await.clean().withheld, 0);
    service.delete_file(&context(), &path).await.unwrap();
    assert_eq!(a.pull().await.clean().deleted, 1);
    assert!(!a.mount.has("d/x"));
}

#[tokio::test]
async fn a_directory_of_nothing_but_placeholders_takes_no_files_place() {
    let yard = Yard::new().await;
    let (a, b) = (yard.machine("a", ONE_DAY), yard.machine("b", "{}"));
    a.mount.write("d", "a file").write("k", "1");
    a.push().await.clean();
    b.pull().await.clean();
    a.mount.remove("d").write("d/x", "in a directory");
    a.push().await.clean();
    yard.days(1);
    a.mount.write("k", "2");
    a.push().await.clean();
    assert_eq!(yard.files().await, gone(&["d/x"], &["k"]));
    let pulled = b.pull().await.clean().clone();
    assert_eq!((pulled.changed, pulled.deleted), (1, 1), "`k` is changed, and `d` is deleted");
    assert_eq!(paths(&b.mount.0), ["k"]);
}

/// The version of the context moves to a new name in a conflict, so that somebody can look at it. A new name counts as
/// an upload.
#[tokio::test]
async fn a_conflict_copy_counts_as_uploaded_when_it_is_made() {
    let yard = Yard::new().await;
    let (a, b) = (yard.machine("a", "{}"), yard.machine("b", ONE_DAY));
    a.mount.write("notes", "theirs");
    a.push().await.clean();
    yard.days(1);
    b.mount.write("notes", "mine");
    let report = b.push().await.report().clone();
    assert_eq!((report.conflicts, report.recycled), (1, 0));
    assert_eq!(yard.recycle().await.unwrap().files, 0);
    // The machine that wrote it has it too, and does not lose it.
    a.pull().await.clean();
    assert_eq!(a.mount.files().len(), 2);
    yard.days(1);
    assert_eq!(yard.recycle().await.unwrap().files, 2);
}

/// The same in a merge.
#[tokio::test]
async fn a_conflict_copy_of_a_merge_counts_as_uploaded_when_it_is_made() {
    let yard = Yard::new().await;
    let (a, store, fork) = (yard.machine("a", ONE_DAY), yard.world.store(), "fork".parse().unwrap());
    a.mount.write("notes", "both");
    a.push().await.clean();
    store.fork_context(&context(), None, &fork).await.unwrap();
    let b = Machine { context: fork.clone(), ..yard.machine("b", "{}") };
    b.pull().await.clean();
    b.mount.write("notes", "theirs");
    b.push().await.clean();
    a.mount.write("notes", "mine");
    a.push().await.clean();
    yard.days(1);
    let options = MergeOptions::default();
    let merged = store.merge_context(&fork, None, &context(), &options, &Silent).await.unwrap();
    assert_eq!(merged.conflicts, 1);
    assert_eq!(yard.recycle().await.unwrap().files, 1);
    let files = yard.files().await;
    assert!(files["notes"] && files.len() == 2 && files.values().any(|recycled| !recycled), "{files:?}");
}

/// The context lists a directory in which a machine has nothing but what was recycled. That is no change.
#[tokio::test]
async fn a_directory_with_nothing_but_what_was_recycled_is_added_once() {
    let yard = Yard::new().await;
    let policy = r#"{"recyclePolicy": {"lifecycle": "Lifecycle_1Day", "paths": ["logs"]}}"#;
    let (a, b) = (yard.machine("a", policy), yard.machine("b", policy));
    a.mount.write("logs/old", "old").write("stays", "x");
    a.push().await.clean();
    yard.days(1);
    a.mount.write("new", "x");
    assert_eq!(a.push().await.clean().recycled, 1);
    b.mount.write("logs", "a file");
    b.sync().await.clean();
    assert_eq!(a.sync().await.report().conflicts, 1);
    for _ in 0..3 {
        let report = a.sync().await.clean().clone();
        assert_eq!((report.added, report.changed, report.withheld), (0, 0, 1));
    }
}

#[tokio::test]
async fn a_machine_that_was_away_keeps_the_last_copy_too() {
    for in_place in ["d/x", "d"] {
        let yard = Yard::new().await;
        let (a, b) = (yard.machine("a", "{}"), yard.machine("b", ONE_DAY));
        a.mount.write("d/x", "the last copy").write("d/y", "1");
        a.push().await.clean();
        yard.days(1);
        b.mount.write("k", "1");
        assert_eq!(b.push().await.clean().recycled, 2);
        b.mount.write(in_place, "another");
        b.push().await.clean();
        // Snapshots after it remember it too.
        b.mount.write("k", "2");
        b.push().await.clean();
        assert_eq!(a.push().await.clean().deleted, 0);
        for _ in 0..3 {
            a.sync().await;
            assert_eq!(a.mount.read("d/x"), "the last copy");
            b.sync().await;
        }
        assert!(a.sync().await.clean().parent.is_none() && b.sync().await.clean().parent.is_none());
        let there = paths(&a.mount.0);
        let copy = there.iter().find(|path| path.contains(".conflict-")).unwrap();
        assert_eq!(a.mount.read(copy), "another", "{there:?}");
    }
}

/// What is written again is a file like any other, also for machines that were away.
#[tokio::test]
async fn what_came_back_can_be_changed_and_deleted() {
    let (yard, a, b) = last_copy().await;
    let away = yard.machine("away", "{}");
    away.mount.write("d/x", "the last copy");
    b.mount.write("d/x", "another");
    b.push().await.clean();
    b.mount.write("d/x", "the last copy");
    b.push().await.clean();
    assert_eq!(away.sync().await.clean().conflicts, 0);
    assert_eq!(a.sync().await.clean().withheld, 0);
    b.mount.remove("d/x");
    b.push().await.clean();
    for machine in [&a, &away] {
        assert_eq!(machine.pull().await.clean().deleted, 1);
        assert!(!machine.mount.has("d/x"));
    }
}

/// What the context has let go of is known by name and content. A file that has the same in another directory is not it.
#[tokio::test]
async fn another_file_with_its_name_and_content_is_deleted_like_any_other() {
    let yard = Yard::new().await;
    let (a, b) = (yard.machine("a", ONE_DAY), yard.machine("b", "{}"));
    a.mount.write("d/x", "the last copy");
    a.push().await.clean();
    yard.days(1);
    a.mount.write("e/x", "the last copy");
    assert_eq!(a.push().await.clean().recycled, 1);
    b.pull().await.clean();
    b.mount.write("d/x", "another");
    b.push().await.clean();
    assert_eq!(yard.files().await, gone(&[], &["d/x", "e/x"]));
    b.mount.remove("e/x");
    assert_eq!(b.pull().await.clean().added, 0);
    assert_eq!(b.push().await.clean().deleted, 1);
    a.sync().await;
    assert_eq!(a.mount.read("d/x"), "the last copy");
}
