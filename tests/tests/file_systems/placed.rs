//! Restored files, members of archives and single files that end up on other file systems.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use ctxsync_tests::archive::archive;
use ctxsync_tests::compare::{assert_same, paths};
use ctxsync_tests::faults::Killed;
use ctxsync_tests::machine::{Ended, Machine, World, context};
use ctxsync_tests::mounts::{bind, may_mount, tmpfs};
use ctxsync_tests::notes::Notes;
use transfer_engine::{ContextSync, CreateSessionParams, Env, ReleaseOptions, Session, Store, SyncOptions};

use crate::{Mounted, all_there};

/// Restores the head of a world into a directory.
async fn restore(world: &World, dir: &Path, env: Env) -> Ended {
    let store = Store::new(Arc::clone(&world.objects), "test:", env);
    let (notes, options) = (Notes::default(), SyncOptions::default());
    let result = store.restore(&*world.head().await, dir, &[], &options, &notes).await;
    Ended { result, noted: notes.noted() }
}

#[tokio::test]
async fn d7_a_restore_into_a_directory_with_file_systems_in_it() {
    if !may_mount("placed::d7_a_restore_into_a_directory_with_file_systems_in_it") {
        return;
    }
    for bound in [false, true] {
        let all = Mounted::new(bound).await;
        let b = &all.b;
        b.mount.link("data/sub/link", "g").write("data/new/deep/n", "n").mode("data/new", 0o700);
        b.mount.dir("data/void").write("data/big", vec![7; 9 << 20]).write("after", "a");
        b.push().await.clean();
        let target = all.world.outside().dir("target").dir("target/data").at("target");
        let disk = all.world.outside().dir("disk2").at("disk2");
        if bound {
            bind(&disk, target.join("data"));
        } else {
            tmpfs(target.join("data"));
        }
        fs::create_dir(target.join("data/sub")).unwrap();
        tmpfs(target.join("data/sub"));
        restore(&all.world, &target, Env::real()).await.clean();
        assert_same(&b.mount.0, &target);
        let again = restore(&all.world, &target, Env::real()).await;
        assert_eq!(again.clean().unchanged, 7);
    }
}

#[tokio::test]
async fn d7_a_restore_that_is_killed_leaves_nothing_on_a_file_system_below() {
    if !may_mount("placed::d7_a_restore_that_is_killed_leaves_nothing_on_a_file_system_below") {
        return;
    }
    for by in ["restore", "pull", "push"] {
        let all = Mounted::new(false).await;
        let a = &all.a;
        a.mount.remove("data/f").remove("data/sub/g").remove("keep");
        let mut left = None;
        for lives in 0.. {
            let (faults, grave) = Killed::at(lives);
            let restoring = restore(&all.world, &a.mount.0, Env::real().with_file_faults(faults.clone()));
            let ended = tokio::select! {
                () = faults.died() => false,
                ended = restoring => ended.result.is_ok(),
            };
            drop(grave);
            left = paths(&a.mount.0).into_iter().find(|path| path.starts_with("data/.ctxsync-stage"));
            if ended || left.is_some() {
                break;
            }
        }
        let left = left.expect("it left nothing there");
        // The staging's lock is released when the last thread of the killed process ends.
        let marker = fs::File::open(a.mount.at(&left).join(".ctxsync-stage")).unwrap();
        marker.lock_shared().unwrap();
        drop(marker);
        match by {
            "restore" => assert_eq!(restore(&all.world, &a.mount.0, Env::real()).await.report().failed, 0),
            "pull" => _ = a.pull().await.report(),
            _ => _ = a.push().await.report(),
        }
        let left = paths(&a.mount.0);
        assert!(!left.iter().any(|path| path.contains("ctxsync-stage")), "{by}: {left:?}");
    }
}

/// Extracts into the archives' own directories, or into new ones named after them, and deletes the archives.
fn extracts(machine: Machine, current: bool) -> Machine {
    machine.with_policy(&format!(
        r#"{{"extractPolicy": {{"deleteSrcFile": true, "extractToCurrentFolder": {current}}}}}"#
    ))
}

const MEMBERS: [(&str, &str); 4] =
    [("one", "1"), ("data/two", "22"), ("data/sub/three", "333"), ("data/more/four", "4444")];

#[tokio::test]
async fn d7_members_of_an_archive_cross_to_another_file_system() {
    if !may_mount("placed::d7_members_of_an_archive_cross_to_another_file_system") {
        return;
    }
    for suffix in ["zip", "tar.gz"] {
        let world = World::memory().await;
        let (maker, a) = (world.machine("maker"), extracts(world.machine("a"), true));
        maker.mount.write(format!("in.{suffix}"), archive(suffix, &MEMBERS)).write("keep", "k");
        maker.push().await.clean();
        a.mount.dir("data");
        tmpfs(a.mount.at("data"));
        a.mount.dir("data/sub");
        tmpfs(a.mount.at("data/sub"));
        a.mount.write("data/here", "h");
        let ended = a.pull().await;
        assert_eq!(ended.clean().extracted, 1, "{:?}", ended.noted);
        assert_eq!(
            a.mount.files(),
            ["data/here", "data/more/four", "data/sub/three", "data/two", "keep", "one"]
        );
        assert_eq!(a.mount.read("data/sub/three"), "333");
        all_there(&a.push().await);
        // A member whose path is taken is left out, as on a single file system.
        let fresh = extracts(world.machine("fresh"), true);
        maker.mount.write(format!("again.{suffix}"), archive(suffix, &MEMBERS)).write("data/two", "other");
        maker.push().await.report();
        fresh.mount.dir("data");
        tmpfs(fresh.mount.at("data"));
        fresh.pull().await.report();
        assert_eq!(fresh.mount.read("data/more/four"), "4444");
        assert!(!paths(&fresh.mount.0).iter().any(|path| path.contains("ctxsync-stage")));
    }
}

#[tokio::test]
async fn d7_an_archive_inside_another_file_system_comes_out_there() {
    if !may_mount("placed::d7_an_archive_inside_another_file_system_comes_out_there") {
        return;
    }
    for current in [false, true] {
        let world = World::memory().await;
        let (maker, a) = (world.machine("maker"), extracts(world.machine("a"), current));
        maker
            .mount
            .write("data/in.zip", archive("zip", &[("one", "1"), ("sub/two", "22")]))
            .write("keep", "k");
        maker.push().await.clean();
        a.mount.dir("data");
        tmpfs(a.mount.at("data"));
        let ended = a.pull().await;
        assert_eq!(ended.clean().extracted, 1, "{:?}", ended.noted);
        let place = if current { "data" } else { "data/in" };
        assert_eq!(a.mount.files(), [format!("{place}/one"), format!("{place}/sub/two"), "keep".to_owned()]);
        all_there(&a.push().await);
        assert!(!paths(&a.mount.0).iter().any(|path| path.contains("ctxsync-stage")));
    }
}

#[tokio::test]
async fn d7_what_is_asked_for_comes_to_another_file_system() {
    if !may_mount("placed::d7_what_is_asked_for_comes_to_another_file_system") {
        return;
    }
    let all = Mounted::new(false).await;
    let (a, b) = (&all.a, &all.b);
    b.mount.write("data/sub/new", "n").write("data/new/deep", "d").write("later", "l");
    b.push().await.clean();
    let store = Store::new(Arc::clone(&a.objects), "test:", Env::real());
    let sync = ContextSync::new(context(), &a.mount.0, a.policy.clone());
    let session = Session::create(&store, CreateSessionParams::new(vec![sync], &a.state)).await.unwrap();
    let asked = ["data/sub/new", "data/new"].map(|path| path.parse().unwrap());
    let report = session.fetch(&a.mount.0, &asked).await.unwrap();
    assert_eq!(report.failed, 0, "{report:?}");
    assert_eq!(
        (a.mount.read("data/sub/new"), a.mount.read("data/new/deep")),
        ("n".to_owned(), "d".to_owned())
    );
    session.release(ReleaseOptions::default()).await.unwrap();
    assert_same(&a.mount.0, &b.mount.0);
}
