//! The mark in the context that an archive was extracted: who sets it, and what takes it.

use ctxsync_tests::archive::archive;
use ctxsync_tests::machine::{Machine, World, context};
use transfer_engine::{ContextName, ContextService, MaxDelete, MergeOptions, Silent, WriteOptions};

use crate::{FILES, extracted, extracts, paths, with_archive};

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
