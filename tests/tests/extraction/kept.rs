//! Archives that stay in the context, because only they have all of their content.

use ctxsync_tests::machine::Machine;
use ctxsync_tests::tree::is_root;
use transfer_engine::{MaxDelete, SyncOptions};

use crate::{extracted, extracts, paths, with_archive};

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
