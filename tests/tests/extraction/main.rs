//! A pull extracts archives, each of them once.
#![expect(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

mod kept;
mod marks;

use ctxsync_tests::archive::archive;
use ctxsync_tests::machine::{Ended, Machine, World, context};

pub(crate) const FILES: [(&str, &str); 3] = [("one", "1"), ("sub/two", "22"), ("sub/three", "333")];

pub(crate) fn extracts(machine: Machine, drop: bool, current: bool, deletes: bool) -> Machine {
    machine.with_policy(&format!(
        r#"{{"extractPolicy": {{"deleteSrcFile": {drop}, "extractToCurrentFolder": {current}}},
            "deletePolicy": {{"syncLocalFile": {deletes}}}}}"#
    ))
}

/// A world with an archive in its context, and the machine that pushed it.
pub(crate) async fn with_archive(path: &str) -> (World, Machine) {
    let world = World::memory().await;
    let maker = world.machine("maker");
    let suffix = path.split_once('.').unwrap().1;
    maker.mount.write(path, archive(suffix, &FILES)).write("plain", "x");
    maker.push().await.clean();
    (world, maker)
}

/// Returns the paths of the context's files.
pub(crate) async fn paths(world: &World) -> Vec<String> {
    let fresh = world.machine("looker");
    fresh.pull().await.clean();
    let mut paths: Vec<String> = fresh.mount.files();
    paths.sort();
    std::fs::remove_dir_all(fresh.mount.0.parent().unwrap()).unwrap();
    paths
}

#[track_caller]
pub(crate) fn extracted(ended: &Ended, count: u64) {
    assert_eq!(ended.clean().extracted, count, "{ended:?}");
}

/// A revert brings the archive back and takes its members away, which are still in the mount when it is extracted again.
#[tokio::test]
async fn what_the_same_pull_deletes_is_no_member_in_place() {
    for current in [false, true] {
        let (world, _) = with_archive("in/data.tar.gz").await;
        let a = extracts(world.machine("a"), true, current, true);
        extracted(&a.pull().await, 1);
        a.push().await.clean();
        let members = a.mount.files();
        assert_eq!(paths(&world).await, members);
        world.store().revert_context(&context(), -1, "revert", false).await.unwrap();
        assert_eq!(paths(&world).await, ["in/data.tar.gz", "plain"]);
        extracted(&a.pull().await, 1);
        assert_eq!(a.mount.files(), members);
        a.push().await.clean();
        assert_eq!(paths(&world).await, members);
    }
}

#[tokio::test]
async fn it_comes_out_into_a_folder_once_and_only_once() {
    let (world, _) = with_archive("in/data.tar.gz").await;
    let a = extracts(world.machine("a"), true, false, true);
    extracted(&a.pull().await, 1);
    assert_eq!(a.mount.files(), ["in/data/one", "in/data/sub/three", "in/data/sub/two", "plain"]);
    assert_eq!(a.mount.read("in/data/sub/three"), "333");
    // Nothing is extracted twice, whatever happens to the extracted files.
    a.mount.write("in/data/one", "edited").remove("in/data/sub/two");
    extracted(&a.pull().await, 0);
    let pushed = a.push().await;
    assert_eq!((pushed.clean().added, pushed.clean().deleted), (2, 1));
    assert_eq!(paths(&world).await, ["in/data/one", "in/data/sub/three", "plain"]);
    let b = extracts(world.machine("b"), true, false, true);
    extracted(&b.pull().await, 0);
    assert_eq!(b.mount.read("in/data/one"), "edited");
    for machine in [&a, &b] {
        let ended = machine.push().await;
        assert_eq!((ended.clean().snapshot, ended.clean().requests), (Some(3), 1));
    }
}

#[tokio::test]
async fn a_source_that_is_kept_is_not_extracted_again() {
    let (world, _) = with_archive("data.7z").await;
    let a = extracts(world.machine("a"), false, false, true);
    extracted(&a.pull().await, 1);
    assert_eq!(a.mount.files(), ["data.7z", "data/one", "data/sub/three", "data/sub/two", "plain"]);
    a.push().await.clean();
    a.mount.remove("data");
    a.push().await.clean();
    extracted(&a.pull().await, 0);
    let b = extracts(world.machine("b"), false, false, true);
    extracted(&b.pull().await, 0);
    assert_eq!(b.mount.files(), ["data.7z", "plain"]);
}

#[tokio::test]
async fn members_join_what_is_in_the_folder_and_replace_nothing() {
    let world = World::memory().await;
    let maker = world.machine("maker");
    maker.mount.write("in/data.zip", archive("zip", &FILES)).write("in/sub/two", "other");
    maker.mount.write("in/sub/three", "333");
    maker.push().await.clean();
    let a = extracts(world.machine("a"), true, true, true);
    let pulled = a.pull().await;
    assert_eq!((pulled.report().extracted, pulled.report().failed), (1, 1), "{pulled:?}");
    assert!(pulled.noted.problems[0].contains("in/sub/two"), "{:?}", pulled.noted.problems);
    assert_eq!(a.mount.files(), ["in/data.zip", "in/one", "in/sub/three", "in/sub/two"]);
    assert_eq!(a.mount.read("in/sub/two"), "other");
    extracted(&a.pull().await, 0);
    extracted(&a.push().await, 0);
}

#[tokio::test]
async fn a_folder_whose_name_is_taken_gets_the_full_name() {
    let world = World::memory().await;
    let maker = world.machine("maker");
    for name in ["a.tar.gz", "a.zip"] {
        maker.mount.write(name, archive(name.split_once('.').unwrap().1, &[("f", name)]));
    }
    maker.push().await.clean();
    let a = extracts(world.machine("a"), true, false, true);
    extracted(&a.pull().await, 2);
    assert_eq!(a.mount.files(), ["a.zip/f", "a/f"]);
    assert_eq!(a.mount.read("a/f"), "a.tar.gz");
    a.push().await.clean();
    assert_eq!(paths(&world).await, ["a.zip/f", "a/f"]);

    let world = World::memory().await;
    let maker = world.machine("maker");
    maker.mount.write("a.zip", archive("zip", &FILES)).write("a", "a file");
    maker.push().await.clean();
    // An archive that is kept needs its name.
    for (drop, deletes) in [(false, true), (true, false)] {
        let b = extracts(world.machine(&format!("b{drop}")), drop, false, deletes);
        extracted(&b.pull().await, 1);
        assert_eq!(b.mount.read("a.zip.extracted/one"), "1");
        assert_eq!(b.mount.has("a.zip"), !drop);
    }
}

#[tokio::test]
async fn a_damaged_archive_is_left_whole_and_told_of_each_time() {
    let world = World::memory().await;
    let maker = world.machine("maker");
    let mut bytes = archive("tar.xz", &FILES);
    bytes.truncate(bytes.len() - 20);
    maker.mount.write("bad.tar.xz", &bytes).write("good.tgz", archive("tgz", &FILES));
    maker.push().await.clean();
    for current in [false, true] {
        let a = extracts(world.machine(&format!("a{current}")), true, current, true);
        for (count, added) in [(1, 2), (0, 0)] {
            let pulled = a.pull().await;
            let report = pulled.report();
            assert_eq!((report.extracted, report.failed, report.added), (count, 1, added), "{pulled:?}");
            assert!(pulled.noted.problems[0].contains("damaged"), "{:?}", pulled.noted.problems);
        }
        assert_eq!(std::fs::read(a.mount.at("bad.tar.xz")).unwrap(), bytes);
        assert!(!a.mount.has("good.tgz"));
        let staged: Vec<_> = std::fs::read_dir(&a.mount.0).unwrap().flatten().collect();
        assert!(staged.iter().all(|e| !e.file_name().to_string_lossy().starts_with('.')), "{staged:?}");
    }
}

#[tokio::test]
async fn a_lost_mount_deletes_no_archive() {
    let (world, _) = with_archive("data.zip").await;
    let a = extracts(world.machine("a"), true, false, true);
    extracted(&a.pull().await, 1);
    a.mount.clear().write(".profile", "a skeleton");
    let pushed = a.push().await;
    assert!(pushed.report().held_back > 0, "{pushed:?}");
    assert_eq!(paths(&world).await, [".profile", "data.zip", "plain"]);
}

#[tokio::test]
async fn an_archive_that_only_looks_like_one_stays() {
    let world = World::memory().await;
    let maker = world.machine("maker");
    maker.mount.write("notes.zip", "no archive").write("book.docx", archive("zip", &FILES));
    maker.push().await.clean();
    let a = extracts(world.machine("a"), true, false, true);
    extracted(&a.pull().await, 0);
    assert_eq!(a.mount.files(), ["book.docx", "notes.zip"]);
    let again = a.pull().await;
    assert_eq!(again.clean().requests, 1);
}

#[tokio::test]
async fn a_new_content_is_extracted_anew() {
    let (world, maker) = with_archive("data.zip").await;
    let a = extracts(world.machine("a"), false, false, true);
    extracted(&a.pull().await, 1);
    maker.mount.write("data.zip", archive("zip", &[("new", "n")]));
    maker.push().await.clean();
    extracted(&a.pull().await, 1);
    assert_eq!(a.mount.read("data.zip.extracted/new"), "n");
    a.push().await.clean();
    // A machine without an extract policy has the archive as it is.
    maker.pull().await.clean();
    assert!(maker.mount.has("data.zip"));
}

#[tokio::test]
async fn the_only_file_of_a_context_may_be_an_archive() {
    let world = World::memory().await;
    let maker = world.machine("maker");
    maker.mount.write("data.zip", archive("zip", &FILES));
    maker.push().await.clean();
    let a = extracts(world.machine("a"), true, false, true);
    extracted(&a.pull().await, 1);
    // The mount is not lost, and no guard holds anything back: no user deleted anything.
    let mut guarded = a.clone();
    guarded.policy.delete_policy.max_delete_percent = Some(10);
    let pushed = guarded.push().await;
    assert_eq!((pushed.clean().added, pushed.clean().deleted), (3, 1), "{pushed:?}");
    assert_eq!(paths(&world).await, ["data/one", "data/sub/three", "data/sub/two"]);
}

#[tokio::test]
async fn an_archive_that_is_edited_before_it_is_extracted_is_the_users() {
    let world = World::memory().await;
    let maker = world.machine("maker");
    let mut bytes = archive("tar", &FILES);
    bytes.truncate(700);
    maker.mount.write("data.tar", &bytes);
    maker.push().await.clean();
    let a = extracts(world.machine("a"), true, false, true);
    assert_eq!(a.pull().await.report().failed, 1);
    // Once it is repaired here, it is pushed as it is, and other machines extract it.
    a.mount.write("data.tar", archive("tar", &FILES));
    extracted(&a.pull().await, 0);
    assert_eq!(a.push().await.clean().changed, 1);
    let b = extracts(world.machine("b"), true, false, true);
    extracted(&b.pull().await, 1);
    assert_eq!(b.mount.files(), ["data/one", "data/sub/three", "data/sub/two"]);
}

#[tokio::test]
async fn what_came_out_is_found_again_after_the_state_was_lost() {
    let (world, _) = with_archive("data.zip").await;
    let a = extracts(world.machine("a"), true, false, true);
    extracted(&a.pull().await, 1);
    a.mount.write("data/one", "edited");
    a.lose_state();
    // Without the state it is unknown what was extracted: the archive is extracted once more, and replaces
    // nothing.
    extracted(&a.pull().await, 1);
    assert_eq!((a.mount.read("data/one"), a.mount.read("data.zip/one")), ("edited".into(), "1".into()));
}

#[tokio::test]
async fn a_name_of_255_bytes_gets_a_folder_that_is_cut() {
    let long = "ä".repeat(125) + "x";
    let (world, _) = with_archive("good.zip").await;
    let maker = world.machine("maker");
    maker.mount.write(format!("{long}.zip"), archive("zip", &FILES)).write(&long, "in the way");
    maker.push().await.clean();
    let a = extracts(world.machine("a"), false, false, true);
    extracted(&a.pull().await, 2);
    assert_eq!(a.mount.read(format!("{}.extracted/one", "ä".repeat(122))), "1");
    assert_eq!(a.mount.read("good/one"), "1");
}
