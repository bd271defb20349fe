//! What a mount of a part brings and changes.

use std::collections::BTreeMap;

use ctxsync_tests::compare::{assert_same, paths};
use ctxsync_tests::machine::World;
use ctxsync_tests::random::Random;
use policy_core::TreePath;
use transfer_engine::format::Place;
use transfer_engine::{Action, At, ContextSync, Error, Mount, Silent};

use super::{agreed, assert_whole, entries, outside, paths_there};

#[tokio::test]
async fn a_pull_brings_only_the_part() {
    let (_world, whole, part) = agreed().await;
    assert_eq!(paths(&part.mount.0), ["x", "y", "y/z"]);
    assert_same(&whole.mount.at("d"), &part.mount.0);
}

#[tokio::test]
async fn a_push_changes_only_the_part() {
    let (world, whole, part) = agreed().await;
    let before = outside(&world, &part.part).await;
    part.mount.write("x", "changed").write("new/f", "new").remove("y");
    let pushed = part.push().await;
    let report = pushed.clean();
    assert_eq!((report.added, report.changed, report.deleted), (1, 1, 1));
    let mut told: Vec<String> = pushed.noted.events.iter().map(|(path, _)| path.to_string()).collect();
    told.sort();
    assert_eq!(told, ["new/f", "x", "y/z"]);
    assert_eq!(outside(&world, &part.part).await, before);
    assert_eq!(paths_there(&world).await, ["a", "d/new/f", "d/x", "d-e", "e/x"]);
    let head = world.head().await;
    assert_eq!((head.totals.files, head.totals.bytes), (5, 1 + 3 + 7 + 6 + 5));
    whole.pull().await.clean();
    assert_same(&whole.mount.at("d"), &part.mount.0);
    // Nothing is left to do on either side, and a push finds that out with one request.
    for machine in [&whole, &part] {
        let again = machine.push().await;
        assert_eq!((again.clean().parent, again.clean().requests), (None, 1));
    }
}

#[tokio::test]
async fn changes_outside_do_not_reach_the_mount() {
    let (world, whole, part) = agreed().await;
    whole.mount.write("a", "changed").remove("e").write("d/x", "theirs").write("dd/x", "new");
    whole.push().await.clean();
    let pulled = part.pull().await;
    let report = pulled.clean();
    assert_eq!((report.added, report.changed, report.deleted), (0, 1, 0));
    assert_same(&whole.mount.at("d"), &part.mount.0);
    assert_eq!(part.push().await.clean().parent, None);
    assert_eq!(world.head().await.number, 3);
}

#[tokio::test]
async fn a_push_makes_a_part_that_is_missing() {
    for files in [&["x", "y/z"][..], &[]] {
        let (world, whole, _) = agreed().await;
        let part = world.machine("new").of_part("n/m");
        for file in files {
            part.mount.write(file, *file);
        }
        let before = entries(&world).await;
        let missing = part.pull().await;
        assert!(matches!(missing.error(), Error::NoPart { path, .. } if path == "n/m"), "{missing:?}");
        let pushed = part.sync().await;
        assert!(pushed.clean().parent.is_some());
        assert_eq!(outside(&world, &part.part).await, before);
        whole.pull().await.clean();
        assert!(whole.mount.at("n/m").is_dir());
        assert_same(&whole.mount.at("n/m"), &part.mount.0);
        // It is there from now on.
        part.pull().await.clean();
        let other = world.machine("other").of_part("n/m");
        other.pull().await.clean();
        assert_same(&other.mount.0, &part.mount.0);
        assert_eq!(part.push().await.clean().parent, None);
    }
}

#[tokio::test]
async fn a_push_makes_the_context_of_a_part() {
    let world = World::quick().await;
    let part = world.machine("part").of_part("d/e");
    part.mount.write("x", "x");
    part.push().await.clean();
    assert_eq!(paths_there(&world).await, ["d/e/x"]);
}

#[tokio::test]
async fn what_is_no_directory_can_not_be_mounted() {
    let (world, whole, _) = agreed().await;
    whole.mount.link("link", "d");
    whole.push().await.clean();
    let before = entries(&world).await;
    for (place, in_the_way) in
        [("a", "a"), ("a/b/c", "a"), ("link", "link"), ("link/x", "link"), ("d/x", "d/x")]
    {
        let part = world.machine("file").of_part(place);
        part.mount.write("new", "new");
        for ended in [part.push().await, part.pull().await, part.sync().await] {
            let error = ended.error();
            assert!(
                matches!(error, Error::NotADirectory { path, .. } if path == in_the_way),
                "{place}: {error:?}"
            );
        }
        assert_eq!(paths(&part.mount.0), ["new"]);
    }
    assert_eq!(entries(&world).await, before);
}

#[tokio::test]
async fn a_file_in_place_of_the_part_stops_its_syncs() {
    let (world, whole, part) = agreed().await;
    whole.mount.remove("d").write("d", "a file now");
    whole.push().await.clean();
    part.mount.write("x", "mine");
    for ended in [part.push().await, part.pull().await] {
        assert!(matches!(ended.error(), Error::NotADirectory { path, .. } if path == "d"), "{ended:?}");
    }
    assert_eq!(part.mount.read("x"), "mine");
    assert_eq!(paths_there(&world).await, ["a", "d", "d-e", "e/x"]);
}

#[tokio::test]
async fn the_parts_own_mode_stays_on_both_sides() {
    let world = World::quick().await;
    let (whole, part) = (world.machine("whole"), world.machine("part").of_part("d"));
    // With a file beside the part, the whole context does not count as emptied later.
    whole.mount.write("beside", "b").write("d/x", "x").write("d/z", "z").mode("d", 0o750);
    whole.push().await.clean();
    part.mount.mode("", 0o700);
    part.pull().await.clean();
    assert_eq!(part.mount.mode_of(""), 0o700);
    part.mount.write("y", "y").remove("x");
    part.push().await.clean();
    whole.pull().await.clean();
    assert_eq!(
        (whole.mount.mode_of("d"), paths(&whole.mount.at("d"))),
        (0o750, vec!["y".into(), "z".into()])
    );
    // Also when everything in it goes.
    part.mount.clear();
    let mut emptied = part.clone();
    emptied.options.allow_empty_mount = true;
    emptied.push().await.clean();
    assert_eq!(paths_there(&world).await, ["beside", "d"]);
    whole.pull().await.clean();
    assert_eq!((whole.mount.mode_of("d"), paths(&whole.mount.at("d")).len()), (0o750, 0));
}

#[tokio::test]
async fn an_emptied_part_stays_as_a_directory() {
    let (world, whole, part) = agreed().await;
    let before = outside(&world, &part.part).await;
    part.mount.clear();
    let mut meant = part.clone();
    meant.options.allow_empty_mount = true;
    assert_eq!(meant.push().await.clean().deleted, 2);
    assert_eq!(outside(&world, &part.part).await, before);
    assert_eq!(paths_there(&world).await, ["a", "d", "d-e", "e/x"]);
    assert_eq!(part.push().await.clean().parent, None);
    whole.pull().await.clean();
    assert_eq!(paths(&whole.mount.at("d")).len(), 0);
    world.machine("fresh").of_part("d").pull().await.clean();
}

#[tokio::test]
async fn paths_of_the_policy_are_those_of_the_mount() {
    let (world, _, part) = agreed().await;
    let listed =
        world.machine("listed").of_part("d").with_policy(r#"{"bwList": {"whiteLists": [{"path": "y"}]}}"#);
    listed.pull().await.clean();
    assert_eq!(paths(&listed.mount.0), ["y", "y/z"]);
    listed.mount.write("y/new", "new").write("out", "out");
    listed.push().await.clean();
    assert_eq!(paths_there(&world).await, ["a", "d/x", "d/y/new", "d/y/z", "d-e", "e/x"]);
    part.pull().await.clean();
    assert_eq!(paths(&part.mount.0), ["x", "y", "y/new", "y/z"]);
}

#[tokio::test]
async fn only_takes_paths_of_the_mount() {
    let (world, _, part) = agreed().await;
    part.mount.write("x", "changed").write("y/z", "changed");
    let mut some = part.clone();
    some.options.only = vec!["y".parse().unwrap()];
    assert_eq!(some.push().await.clean().changed, 1);
    let fresh = world.machine("fresh").of_part("d");
    let mut some = fresh.clone();
    some.options.only = vec!["y".parse().unwrap()];
    some.pull().await.clean();
    assert_eq!(
        (paths(&fresh.mount.0), fresh.mount.read("y/z")),
        (vec!["y".to_owned(), "y/z".to_owned()], "changed".into())
    );
    // What was not asked for is pending, and no deletion.
    assert_eq!(fresh.push().await.clean().parent, None);
    fresh.pull().await.clean();
    assert_eq!(fresh.mount.read("x"), "x");
}

#[tokio::test]
async fn a_conflict_copy_is_in_the_part() {
    let (world, whole, part) = agreed().await;
    whole.mount.write("d/x", "theirs");
    whole.push().await.clean();
    part.mount.write("x", "mine");
    let pushed = part.push().await;
    assert_eq!(pushed.report().conflicts, 1);
    let there = paths_there(&world).await;
    let copies: Vec<&String> = there.iter().filter(|path| path.starts_with("d/x.conflict-")).collect();
    assert_eq!((copies.len(), there.len()), (1, 6), "{there:?}");
    let pulled = whole.pull().await;
    assert_eq!(pulled.clean().conflicts, 0);
    assert_eq!((whole.mount.read("d/x"), whole.mount.read(copies[0])), ("mine".into(), "theirs".into()));
    part.pull().await.clean();
    assert_same(&whole.mount.at("d"), &part.mount.0);
}

#[tokio::test]
async fn what_a_new_mount_has_already_is_no_conflict() {
    let (world, ..) = agreed().await;
    let before = entries(&world).await;
    for pulls in [true, false] {
        let new = world.machine(&format!("new-{pulls}")).of_part("d");
        new.mount.write("x", "x").write("a", "not that of the context").write("y/z", "z");
        let ended = if pulls { new.pull().await } else { new.push().await };
        assert_eq!(ended.clean().conflicts, 0);
        assert_eq!(new.mount.files(), ["a", "x", "y/z"]);
    }
    let mut there = entries(&world).await;
    there.retain(|entry| entry.path.to_string() != "d/a");
    assert_eq!(there, before);
}

#[tokio::test]
async fn a_part_in_a_part() {
    let (world, whole, part) = agreed().await;
    let inner = world.machine("inner").of_part("d/y");
    inner.pull().await.clean();
    inner.mount.write("z", "from the inner part");
    part.mount.write("x", "from the outer part");
    inner.push().await.clean();
    part.push().await.clean();
    for machine in [&whole, &inner, &part] {
        machine.pull().await.clean();
    }
    assert_same(&whole.mount.at("d"), &part.mount.0);
    assert_same(&whole.mount.at("d/y"), &inner.mount.0);
    assert_eq!(
        whole.mount.read("d/x") + &whole.mount.read("d/y/z"),
        "from the outer partfrom the inner part"
    );
}

#[tokio::test]
async fn a_push_leaves_the_segments_of_other_parts_where_they_are() {
    let world = World::quick().await;
    let (whole, part) = (world.machine("whole"), world.machine("part").of_part("m"));
    let mut random = Random::new(5);
    for dir in ["a", "m", "z"] {
        for n in 0..4000 {
            // The entries of many small files fill several segments.
            whole.mount.write(format!("{dir}/{:016x}-{n}", random.bits()), random.bits().to_le_bytes());
        }
    }
    whole.push().await.clean();
    let places = |snapshot: &transfer_engine::format::Snapshot| -> BTreeMap<TreePath, _> {
        let place = |s: &transfer_engine::format::SegmentRef| match s.place {
            Place::Pack { pack, offset } => Some((snapshot.packs[pack as usize].id, offset)),
            Place::Inline { .. } => None,
        };
        snapshot.segments.iter().map(|s| (s.first.clone(), place(s))).collect()
    };
    let before = places(&*world.head().await);
    part.pull().await.clean();
    part.mount.write("new", "new");
    part.push().await.clean();
    let after = places(&*world.head().await);
    // Where the part begins is looked at as well, and is no reason to write that segment again.
    let kept = before.iter().filter(|(first, place)| after.get(*first) == Some(*place)).count();
    assert!(before.len() > 8 && kept + 1 == before.len(), "{kept} of {}", before.len());
    assert_whole(&world).await;
}

#[tokio::test]
async fn a_dry_run_tells_of_the_part_only() {
    let (world, whole, part) = agreed().await;
    whole.mount.write("a", "new").write("d/x", "new");
    whole.push().await.clean();
    let before = entries(&world).await;
    part.mount.write("mine", "mine");
    let mut dry = part.clone();
    dry.options.dry_run = true;
    let pushed = dry.push().await;
    // The other side's change is still to be pulled.
    let told = [("mine".parse().unwrap(), Action::Add), ("x".parse().unwrap(), Action::Keep)];
    assert_eq!(pushed.noted.events, told);
    let pulled = dry.pull().await;
    assert!(
        pulled.noted.events.iter().all(|(path, _)| ["x", "mine"].contains(&&*path.to_string())),
        "{pulled:?}"
    );
    assert_eq!((entries(&world).await, part.mount.read("x")), (before, "x".to_owned()));
}

#[tokio::test]
async fn a_part_of_an_older_snapshot() {
    let (world, whole, _) = agreed().await;
    whole.mount.write("d/x", "newer").write("a", "newer");
    whole.push().await.clean();
    let old = world.machine("old").of_part("d");
    let at = |number| ContextSync { at: At::Number(number), ..old.context_sync() };
    let open = |number| Mount::open(&world.store(), at(number), &old.state).unwrap();
    let missing = open(1).pull(&old.options, &Silent).await.unwrap_err();
    assert!(matches!(missing, Error::NoPart { number: 1, .. }), "{missing:?}");
    assert_eq!(open(2).pull(&old.options, &Silent).await.unwrap().added, 2);
    assert_eq!((paths(&old.mount.0).len(), old.mount.read("x")), (3, "x".to_owned()));
    // A later pull of the newest goes on from there.
    assert_eq!(old.pull().await.clean().changed, 1);
    assert_same(&whole.mount.at("d"), &old.mount.0);
}
