//! What guards a mount of a whole context guards a mount of a part: lost mounts, mass deletions, pending paths, changes
//! of what is mounted, archives, recycling.

use ctxsync_tests::archive::archive;
use ctxsync_tests::compare::{assert_same, paths};
use ctxsync_tests::machine::World;
use transfer_engine::MaxDelete;

use super::{agreed, entries, outside, paths_there};

#[tokio::test]
async fn the_deletions_of_an_emptied_mount_are_held_back() {
    let (world, _, part) = agreed().await;
    let before = entries(&world).await;
    part.mount.clear();
    let pushed = part.push().await;
    assert_eq!(pushed.report().held_back, 2);
    assert!(pushed.warned("treating it as lost"), "{pushed:?}");
    assert_eq!(entries(&world).await, before);
    part.pull().await.clean();
    assert_eq!(paths(&part.mount.0), ["x", "y", "y/z"]);
    std::fs::remove_dir_all(&part.mount.0).unwrap();
    assert_eq!(part.push().await.report().held_back, 2);
    assert_eq!(entries(&world).await, before);
}

#[tokio::test]
async fn the_deletions_of_an_emptied_part_are_held_back() {
    let (_world, whole, part) = agreed().await;
    whole.mount.remove("d");
    whole.push().await.clean();
    let pulled = part.pull().await;
    assert_eq!(pulled.report().held_back, 2);
    assert!(pulled.warned("every synced file is missing from the context"), "{pulled:?}");
    assert_eq!(paths(&part.mount.0), ["x", "y", "y/z"]);
    let mut meant = part.clone();
    meant.options.allow_empty_mount = true;
    assert_eq!(meant.pull().await.clean().deleted, 2);
    assert!(part.mount.files().is_empty());
}

#[tokio::test]
async fn the_limit_of_deletions_counts_the_paths_of_the_part() {
    let (world, whole, mut part) = agreed().await;
    let before = entries(&world).await;
    // One of two paths is more than a quarter; one of five is not.
    part.options.max_delete = Some(MaxDelete::Percent(25));
    part.mount.remove("y");
    assert_eq!(part.push().await.report().held_back, 1);
    assert_eq!(entries(&world).await, before);
    part.mount.write("y/z", "z");
    part.push().await.clean();
    whole.mount.remove("d/x");
    whole.push().await.clean();
    assert_eq!(part.pull().await.report().held_back, 1);
    assert!(part.mount.has("x"));
}

#[tokio::test]
async fn a_mount_of_something_else_is_new() {
    for places in [["", "d", ""], ["d", "", "d"], ["d", "e", "d"]] {
        let (world, whole, _) = agreed().await;
        let [first, second, third] = places.map(|place| world.machine("switched").of_part(place));
        first.pull().await.clean();
        let held = paths(&first.mount.0);
        // With another head, a base says nothing by itself.
        whole.mount.write("later", "1").write("d/later", "2").write("e/later", "3");
        whole.push().await.clean();
        let before = entries(&world).await;
        // What the other part lacks was not deleted there, and what the mount lacks was not deleted here.
        second.pull().await.report();
        assert!(held.iter().all(|path| second.mount.has(path)), "{places:?} {held:?}");
        assert_eq!(second.push().await.clean().deleted, 0, "{places:?}");
        let there = entries(&world).await;
        let differs = |path: &str| ["d/x", "e/x", "d/later", "e/later", "later"].contains(&path);
        for entry in before.iter().filter(|entry| !differs(&entry.path.to_string())) {
            assert!(there.contains(entry), "{places:?} {entry:?}");
        }
        // The base of the first mount does not count any more, so what is missing now is no deletion.
        for path in held.iter().filter(|path| second.mount.at(path).is_file()) {
            second.mount.remove(path);
        }
        third.mount.write("last", "last");
        assert_eq!(third.push().await.report().deleted, 0, "{places:?}");
        third.pull().await.report();
        assert!(held.iter().all(|path| third.mount.has(path)), "{places:?} {held:?}");
    }
}

#[tokio::test]
async fn a_look_at_another_part_does_not_forget_the_mount() {
    let (world, _, part) = agreed().await;
    part.mount.remove("y");
    for other in ["no/such/part", "a"] {
        let other = part.clone().of_part(other);
        other.pull().await.error();
    }
    let mut dry = part.clone().of_part("e");
    dry.options.dry_run = true;
    dry.pull().await.report();
    dry.push().await.report();
    assert_eq!(part.push().await.clean().deleted, 1);
    assert_eq!(paths_there(&world).await, ["a", "d/x", "d-e", "e/x"]);
}

#[tokio::test]
async fn files_that_have_not_arrived_are_not_deleted() {
    let (world, ..) = agreed().await;
    let before = entries(&world).await;
    let fresh = world.machine("fresh").of_part("d");
    let mut some = fresh.clone();
    some.options.only = vec!["x".parse().unwrap()];
    some.pull().await.clean();
    assert_eq!(fresh.push().await.clean().pending, 1);
    assert_eq!(entries(&world).await, before);
}

#[tokio::test]
async fn an_archive_of_a_part_comes_out_once() {
    let world = World::quick().await;
    let policy = r#"{"extractPolicy": {"deleteSrcFile": true}}"#;
    let maker = world.machine("maker");
    // Outside is a directory by the name that the archive's own would have.
    maker.mount.write("d/in/data.tar.gz", archive("tar.gz", &[("one", "1"), ("sub/two", "2")]));
    maker.mount.write("in/data/one", "outside");
    maker.push().await.clean();
    let part = world.machine("part").of_part("d").with_policy(policy);
    assert_eq!(part.pull().await.clean().extracted, 1);
    assert_eq!(part.mount.files(), ["in/data/one", "in/data/sub/two"]);
    let before = outside(&world, &part.part).await;
    part.push().await.clean();
    assert_eq!(outside(&world, &part.part).await, before);
    let other = world.machine("other").of_part("d").with_policy(policy);
    assert_eq!(other.pull().await.clean().extracted, 0);
    assert_same(&other.mount.0, &part.mount.0);
    // What the part already has at the folder's name, pending or not, is in the archive's way; what is outside is not.
    let taken = world.machine("taken");
    taken.mount.write("d/in/more.zip", archive("zip", &[("one", "1")])).write("d/in/more/one", "taken");
    taken.mount.write("in/data/one", "outside");
    taken.push().await.report();
    part.pull().await.report();
    assert_eq!(part.mount.read("in/more/one"), "taken");
}
