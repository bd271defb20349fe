//! A pull extracts archives, each of them once.
#![expect(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use ctxsync_tests::archive::archive;
use ctxsync_tests::machine::{Ended, Machine, World, context};
use ctxsync_tests::tree::is_root;
use transfer_engine::{
    ContextName, ContextService, MaxDelete, MergeOptions, Silent, SyncOptions, WriteOptions,
};

const FILES: [(&str, &str); 3] = [("one", "1"), ("sub/two", "22"), ("sub/three", "333")];

fn extracts(machine: Machine, drop: bool, current: bool, deletes: bool) -> Machine {
    machine.with_policy(&format!(
        r#"{{"extractPolicy": {{"deleteSrcFile": {drop}, "extractToCurrentFolder": {current}}},
            "deletePolicy": {{"syncLocalFile": {deletes}}}}}"#
    ))
}

/// A world with an archive in its context, and the machine that pushed it.
async fn with_archive(path: &str) -> (World, Machine) {
    let world = World::memory().await;
    let maker = world.machine("maker");
    let suffix = path.split_once('.').unwrap().1;
    maker.mount.write(path, archive(suffix, &FILES)).write("plain", "x");
    maker.push().await.clean();
    (world, maker)
}

/// Returns the paths of the context's files.
async fn paths(world: &World) -> Vec<String> {
    let fresh = world.machine("looker");
    fresh.pull().await.clean();
    let mut paths: Vec<String> = fresh.mount.files();
    paths.sort();
    std::fs::remove_dir_all(fresh.mount.0.parent().unwrap()).unwrap();
    paths
}

#[track_caller]
fn extracted(ended: &Ended, count: u64) {
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

/// The revert takes the members away, and the mark that the archive was extracted: it has to come out again.
#[tokio::test]
async fn an_archive_whose_mark_was_reverted_comes_out_again() {
    for (current, pushes_first) in [(false, false), (false, true), (true, false), (true, true)] {
        let (world, _) = with_archive("in/data.zip").await;
        let a = extracts(world.machine("a"), true, current, false);
        extracted(&a.pull().await, 1);
        a.push().await.clean();
        let (members, all) = (a.mount.files(), paths(&world).await);
        // The mark is noted by whoever pushes it, and by whoever pulls it.
        let b = extracts(world.machine("b"), true, current, false);
        extracted(&b.pull().await, 0);
        world.store().revert_context(&context(), -1, "revert", false).await.unwrap();
        assert_eq!(paths(&world).await, ["in/data.zip", "plain"]);
        if pushes_first {
            assert_eq!(a.push().await.clean().parent, None, "it has nothing to say");
        }
        for machine in [&a, &b] {
            extracted(&machine.pull().await, u64::from(machine.state == a.state));
            assert_eq!(machine.mount.files(), members, "{current} {pushes_first}");
            machine.push().await.clean();
            assert_eq!(paths(&world).await, all);
        }
        for machine in [&a, &b] {
            extracted(&machine.pull().await, 0);
            let again = machine.push().await;
            assert_eq!((again.clean().parent, again.clean().requests), (None, 1));
        }
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
async fn an_archive_that_the_context_keeps_is_marked_and_not_brought_again() {
    let (world, _) = with_archive("data.zip").await;
    let a = extracts(world.machine("a"), true, false, false);
    extracted(&a.pull().await, 1);
    extracted(&a.pull().await, 0);
    assert!(!a.mount.has("data.zip"));
    a.push().await.clean();
    extracted(&a.pull().await, 0);
    assert!(!a.mount.has("data.zip"));
    assert_eq!(paths(&world).await, ["data.zip", "data/one", "data/sub/three", "data/sub/two", "plain"]);

    let b = extracts(world.machine("b"), true, false, false);
    let pulled = b.pull().await;
    extracted(&pulled, 0);
    assert_eq!(b.mount.files(), ["data/one", "data/sub/three", "data/sub/two", "plain"]);
    let pushed = b.push().await;
    assert_eq!((pushed.clean().snapshot, pushed.clean().parent, pushed.clean().pending), (Some(3), None, 0));
    // Deleted members stay deleted.
    b.mount.remove("data");
    b.push().await.clean();
    assert_eq!(b.pull().await.clean().extracted, 0);
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

/// Another mode makes it no other archive, whichever machine sets it.
#[tokio::test]
async fn an_archive_that_gets_another_mode_stays_extracted() {
    let (world, maker) = with_archive("data.tar").await;
    let a = extracts(world.machine("a"), false, false, true);
    extracted(&a.pull().await, 1);
    a.push().await.clean();
    let store = world.store();
    let fork = "fork".parse().unwrap();
    store.fork_context(&context(), Some(2), &fork).await.unwrap();
    let forker = Machine { context: fork.clone(), ..world.machine("forker") };
    forker.pull().await.clean();
    forker.mount.mode("data.tar", 0o400);
    forker.push().await.clean();
    let merge = MergeOptions::default();
    assert_eq!(store.merge_context(&fork, None, &context(), &merge, &Silent).await.unwrap().changed, 1);
    let new = extracts(world.machine("merged"), false, false, true);
    extracted(&new.pull().await, 0);
    maker.pull().await.clean();
    for (machine, mode) in [(&maker, 0o600), (&a, 0o640)] {
        machine.mount.mode("data.tar", mode);
        assert_eq!(machine.push().await.clean().changed, 1);
        let new = extracts(world.machine(&format!("{mode:o}")), false, false, true);
        extracted(&new.pull().await, 0);
    }
    let path = "data.tar".parse().unwrap();
    let options = WriteOptions { mode: Some(0o666), mtime: None };
    let bytes = archive("tar", &FILES);
    ContextService::new(&store).write_file(&context(), &path, &bytes[..], &options).await.unwrap();
    let new = extracts(world.machine("put"), false, false, true);
    extracted(&new.pull().await, 0);
    maker.pull().await.clean();
    // It is also known where the archive was deleted and comes back for its mode.
    a.mount.remove("data.tar");
    maker.pull().await.clean();
    maker.mount.mode("data.tar", 0o644);
    maker.push().await.clean();
    extracted(&a.sync().await, 0);
    assert_eq!(a.mount.files(), ["data.tar", "data/one", "data/sub/three", "data/sub/two", "plain"]);
}

async fn merge(world: &World, from: &ContextName, into: &ContextName, options: MergeOptions) -> (u64, u64) {
    let report = world.store().merge_context(from, None, into, &options, &Silent).await.unwrap();
    (report.added, report.changed)
}

/// A fork of the context on which the archive was extracted, and its members were edited.
async fn edited_on_a_fork(world: &World, current: bool, deletes: bool) -> ContextName {
    let fork: ContextName = "fork".parse().unwrap();
    world.store().fork_context(&context(), None, &fork).await.unwrap();
    let a = Machine { context: fork.clone(), ..extracts(world.machine("a"), false, current, deletes) };
    extracted(&a.pull().await, 1);
    a.push().await.clean();
    let folder = if current { "in" } else { "in/data" };
    a.mount.write(format!("{folder}/one"), "edited").remove(format!("{folder}/sub/two"));
    a.push().await.clean();
    fork
}

/// A merge brings the members, so it also brings the mark: nobody extracts the archive once more.
#[tokio::test]
async fn a_merge_brings_the_mark_with_the_members() {
    for (current, has_mode) in [(true, false), (false, false), (true, true)] {
        let (world, maker) = with_archive("in/data.tar.gz").await;
        let fork = edited_on_a_fork(&world, current, true).await;
        if has_mode {
            // The target's mode is its own.
            maker.mount.mode("in/data.tar.gz", 0o600);
            maker.push().await.clean();
        }
        let planned = MergeOptions { dry_run: true, ..MergeOptions::default() };
        for options in [planned, MergeOptions::default()] {
            assert_eq!(merge(&world, &fork, &context(), options).await, (2, 1));
        }
        let b = extracts(world.machine("b"), false, current, true);
        extracted(&b.pull().await, 0);
        let folder = if current { "in" } else { "in/data" };
        let members = [format!("{folder}/one"), format!("{folder}/sub/three")];
        let mut files = vec!["in/data.tar.gz".to_owned(), "plain".to_owned()];
        files.extend(members.iter().cloned());
        files.sort();
        assert_eq!((b.mount.files(), b.mount.read(&members[0])), (files, "edited".to_owned()));
        if has_mode {
            assert_eq!(b.mount.mode_of("in/data.tar.gz"), 0o600);
        }
        // The machine that has the archive, without a policy, has nothing to send.
        maker.pull().await.clean();
        assert_eq!(maker.push().await.clean().parent, None);
    }
}

/// A mark is a change of its own.
#[tokio::test]
async fn a_mark_alone_is_merged() {
    let (world, _) = with_archive("in/data.zip").await;
    let fork = edited_on_a_fork(&world, true, true).await;
    let store = world.store();
    // The members are merged before it.
    let members = ["in/one", "in/sub"].map(|path| path.parse().unwrap());
    let only = MergeOptions { only: members.into(), ..MergeOptions::default() };
    assert_eq!(merge(&world, &fork, &context(), only).await, (2, 0));
    let before = store.head(&context()).await.unwrap().number;
    assert_eq!(merge(&world, &fork, &context(), MergeOptions::default()).await, (0, 1));
    assert_eq!(store.head(&context()).await.unwrap().number, before + 1);
    extracted(&extracts(world.machine("b"), false, true, true).pull().await, 0);
    // Once more, there is nothing to do.
    assert_eq!(merge(&world, &fork, &context(), MergeOptions::default()).await, (0, 0));
    assert_eq!(store.head(&context()).await.unwrap().number, before + 1);
}

/// Without the place of its members, the archive is extracted by the next machine.
#[tokio::test]
async fn a_merge_of_some_paths_brings_the_mark_only_with_the_place_of_the_members() {
    for (path, count) in [("in/data.zip", 1), ("in", 0)] {
        for is_new in [false, true] {
            let (world, _) = with_archive("in/data.zip").await;
            let fork = edited_on_a_fork(&world, false, true).await;
            let mut into = context();
            if is_new {
                // It has no archive yet.
                into = "empty".parse().unwrap();
                world.store().fork_context(&context(), Some(1), &into).await.unwrap();
            }
            let only = MergeOptions { only: vec![path.parse().unwrap()], ..MergeOptions::default() };
            merge(&world, &fork, &into, only).await;
            let b = Machine { context: into, ..extracts(world.machine("b"), false, false, true) };
            extracted(&b.pull().await, count);
            assert!(b.mount.has("in/data/one"), "{path} {is_new}");
        }
    }
}

/// The mark is that of a content, and what the target has done with its own stays done.
#[tokio::test]
async fn a_merge_marks_no_other_archive() {
    let (world, maker) = with_archive("in/data.tar").await;
    let fork = edited_on_a_fork(&world, true, true).await;
    maker.mount.write("in/data.tar", archive("tar", &[("other", "o")]));
    maker.push().await.clean();
    merge(&world, &fork, &context(), MergeOptions::default()).await;
    let b = extracts(world.machine("b"), false, true, true);
    extracted(&b.pull().await, 1);
    assert_eq!(b.mount.read("in/other"), "o");
    // A context that was reverted to before the mark extracts again, although a fork from before that is merged.
    let (world, _) = with_archive("in/data.tar").await;
    let a = extracts(world.machine("a"), false, true, true);
    extracted(&a.pull().await, 1);
    a.push().await.clean();
    let store = world.store();
    store.fork_context(&context(), None, &fork).await.unwrap();
    store.revert_context(&context(), -1, "revert", false).await.unwrap();
    let forker = Machine { context: fork.clone(), ..world.machine("forker") };
    forker.pull().await.clean();
    forker.mount.write("more", "m");
    forker.push().await.clean();
    assert_eq!(merge(&world, &fork, &context(), MergeOptions::default()).await, (1, 0));
    extracted(&extracts(world.machine("b"), false, true, true).pull().await, 1);
}

/// What can't be written may be a member, so only the archive has everything.
#[tokio::test]
async fn a_merge_that_leaves_something_out_brings_no_mark() {
    let (world, maker) = with_archive("in/data.zip").await;
    maker.mount.write("gone", "x");
    maker.push().await.clean();
    let fork = edited_on_a_fork(&world, false, true).await;
    let forker = Machine { context: fork.clone(), ..world.machine("forker") };
    forker.pull().await.clean();
    forker.mount.remove("gone").remove("plain").write("plain/x", "in the place of a file");
    forker.push().await.clean();
    // The file stays, so there is no room for the directory. The next merge makes room.
    for (most, failed, count) in [(Some(MaxDelete::Count(0)), 2, 1), (None, 0, 0)] {
        let options = MergeOptions { max_delete: most, ..MergeOptions::default() };
        let merged = world.store().merge_context(&fork, None, &context(), &options, &Silent).await.unwrap();
        assert_eq!(merged.failed, failed, "{merged:?}");
        let b = extracts(world.machine(&format!("b{failed}")), false, false, true);
        extracted(&b.pull().await, count);
    }
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
async fn what_is_out_of_scope_keeps_the_archive() {
    let (world, _) = with_archive("in/data.zip").await;
    let a = world.machine("a").with_policy(
        r#"{"extractPolicy": {}, "bwList": {"whiteLists": [{"path": "in", "excludePaths": ["data/sub"]}]}}"#,
    );
    let pulled = a.pull().await;
    extracted(&pulled, 1);
    assert!(pulled.warned("2 of its members take no part here"), "{:?}", pulled.noted);
    assert_eq!(a.mount.files(), ["in/data.zip", "in/data/one"]);
    extracted(&a.pull().await, 0);
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

#[tokio::test]
async fn an_archive_stays_in_the_context_until_all_that_came_out_is_uploaded() {
    for (current, member) in [(false, "in/data/one"), (true, "in/one")] {
        for deletes in [true, false] {
            let (world, _) = with_archive("in/data.zip").await;
            let mut a = extracts(world.machine("a"), true, current, deletes);
            extracted(&a.pull().await, 1);
            // `--only` selects the archive, but not its members.
            a.options.only = vec!["in/data.zip".parse().unwrap()];
            assert_eq!(a.push().await.clean().deleted, 0);
            assert_eq!(paths(&world).await, ["in/data.zip", "plain"]);
            a.options.only.clear();
            if !is_root() {
                a.mount.mode(member, 0o000);
                for _ in 0..2 {
                    let pushed = a.push().await;
                    assert_eq!((pushed.report().failed, pushed.report().deleted), (1, 0), "{pushed:?}");
                    // A new machine gets everything.
                    let b = extracts(world.machine("b"), true, false, deletes);
                    extracted(&b.pull().await, 1);
                    let out = b.mount.files().into_iter().find(|path| path.ends_with("/one"));
                    assert_eq!(b.mount.read(out.unwrap()), "1");
                    std::fs::remove_dir_all(b.mount.0.parent().unwrap()).unwrap();
                }
                a.mount.mode(member, 0o644);
            }
            assert_eq!(a.push().await.clean().deleted, u64::from(deletes));
            let b = extracts(world.machine("b"), true, false, deletes);
            extracted(&b.pull().await, 0);
            assert_eq!(b.mount.read(member), "1");
            assert_eq!(a.push().await.clean().requests, 1);
        }
    }
}

#[tokio::test]
async fn an_archive_of_which_nothing_is_in_scope_is_extracted_by_others() {
    for current in [false, true] {
        let (world, _) = with_archive("in/data.zip").await;
        let a = world.machine("a").with_policy(&format!(
            r#"{{"extractPolicy": {{"extractToCurrentFolder": {current}}},
                "bwList": {{"whiteLists": [{{"path": "in/data.zip"}}]}}}}"#
        ));
        a.pull().await.clean();
        assert_eq!(a.mount.files(), ["in/data.zip"]);
        for _ in 0..2 {
            assert_eq!(a.push().await.clean().snapshot, Some(2));
        }
        assert_eq!(a.push().await.clean().requests, 1);
        let b = extracts(world.machine("b"), true, current, true);
        extracted(&b.pull().await, 1);
        assert_eq!(b.mount.read(if current { "in/sub/two" } else { "in/data/sub/two" }), "22");
    }
}

/// Members that were left out are only in the archive, so it is not marked: the next machine extracts it.
#[tokio::test]
async fn an_archive_of_which_some_was_left_out_is_extracted_by_others() {
    for current in [false, true] {
        let (world, _) = with_archive("in/data.zip").await;
        let left_out = if current { "sub/two" } else { "data/sub/two" };
        let a = world.machine("a").with_policy(&format!(
            r#"{{"extractPolicy": {{"extractToCurrentFolder": {current}}},
                "bwList": {{"whiteLists": [{{"path": "in", "excludePaths": ["{left_out}"]}}]}}}}"#
        ));
        a.pull().await.clean();
        a.push().await.clean();
        assert_eq!(a.push().await.clean().requests, 1);
        let b = extracts(world.machine("b"), true, current, true);
        extracted(&b.pull().await, 1);
        assert_eq!(b.mount.read(if current { "in/sub/two" } else { "in/data.zip/sub/two" }), "22");
        assert!(!b.mount.0.join("in/data.zip").is_file());
    }
    // Something else is in the way of a member.
    let (world, maker) = with_archive("in/data.zip").await;
    maker.mount.write("in/sub/two", "other");
    maker.push().await.clean();
    let a = extracts(world.machine("a"), true, true, true);
    assert_eq!(a.pull().await.report().failed, 1);
    a.push().await.clean();
    let b = extracts(world.machine("b"), true, true, true);
    assert_eq!(b.pull().await.report().failed, 1);
    assert_eq!(b.mount.files(), ["in/data.zip", "in/one", "in/sub/three", "in/sub/two", "plain"]);
}

/// What a push does not delete in the context was not deleted for good.
#[tokio::test]
async fn an_archive_of_which_nothing_is_in_the_context_stays_to_be_extracted() {
    let (world, _) = with_archive("data.tar").await;
    let lost = extracts(world.machine("lost"), true, false, true);
    extracted(&lost.pull().await, 1);
    lost.mount.clear();
    assert!(lost.push().await.report().held_back > 0);
    let guarded = extracts(world.machine("guarded"), true, false, true);
    extracted(&guarded.pull().await, 1);
    guarded.mount.remove("data");
    let none = SyncOptions { max_delete: Some(MaxDelete::Count(0)), ..guarded.options.clone() };
    assert!(Machine { options: none, ..guarded.clone() }.push().await.report().held_back > 0);
    let keeps = extracts(world.machine("keeps"), true, false, false);
    extracted(&keeps.pull().await, 1);
    keeps.mount.remove("data");
    keeps.push().await.clean();
    let new = extracts(world.machine("new"), true, false, false);
    extracted(&new.pull().await, 1);
    assert_eq!(new.mount.files(), ["data/one", "data/sub/three", "data/sub/two", "plain"]);
    // The mount that was lost has it again.
    extracted(&lost.sync().await, 1);
    lost.push().await.clean();
    assert_eq!(paths(&world).await, ["data/one", "data/sub/three", "data/sub/two", "plain"]);
}

/// A push with a smaller scope than that of the pull before it does not save what came out.
#[tokio::test]
async fn an_archive_whose_members_are_out_of_scope_by_now_stays() {
    let (world, _) = with_archive("data.tar").await;
    let a = extracts(world.machine("a"), true, false, true);
    extracted(&a.pull().await, 1);
    for ignored in ["data/", "sub/"] {
        let policy = format!(r#"{{"extractPolicy": {{}}, "bwList": {{"ignorePatterns": ["{ignored}"]}}}}"#);
        let narrower = a.clone().with_policy(&policy);
        narrower.push().await.clean();
        narrower.sync().await.clean();
        assert!(paths(&world).await.contains(&"data.tar".to_owned()), "{ignored}");
        let new = extracts(world.machine("new"), true, false, true);
        let pulled = new.pull().await;
        let is_out = new.mount.files().iter().any(|path| path.ends_with("sub/two"));
        assert!(pulled.report().extracted == 1 && is_out, "{pulled:?}");
        new.mount.clear();
        new.lose_state();
    }
    a.push().await.clean();
    assert_eq!(paths(&world).await, ["data/one", "data/sub/three", "data/sub/two", "plain"]);
}

/// A file that no policy lets out of the mount is no member, if the policy is that of the extraction.
#[tokio::test]
async fn what_is_ignored_beside_the_members_keeps_no_archive() {
    let (world, _) = with_archive("data.tar").await;
    let policy = r#"{"extractPolicy": {}, "bwList": {"ignorePatterns": ["*.o"]}}"#;
    let a = world.machine("a").with_policy(policy);
    extracted(&a.pull().await, 1);
    a.mount.write("data/made.o", "object code");
    // What else the policy says does not matter.
    let other = policy.replacen('{', r#"{"deletePolicy": {"maxDeletePercent": 90}, "#, 1);
    a.clone().with_policy(&other).push().await.clean();
    assert_eq!(paths(&world).await, ["data/one", "data/sub/three", "data/sub/two", "plain"]);
}
