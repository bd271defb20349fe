//! Crashes, races and lost packs with mounts of parts.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ctxsync_tests::compare::assert_same;
use ctxsync_tests::faults::Death;
use ctxsync_tests::interrupt::BeforePut;
use ctxsync_tests::machine::{Machine, World};
use ctxsync_tests::notes::Notes;
use futures::FutureExt;
use storage_backends::layer::{Fault, Faulty, Rule};
use transfer_engine::{Env, Error};

use super::{agreed, outside, paths_there};

#[tokio::test]
async fn both_pushes_of_two_parts_land() {
    for (one, other) in [("d", "e"), ("d", ""), ("", "d"), ("d/y", "d"), ("d", "d/y")] {
        let (world, ..) = agreed().await;
        let (mut a, b) = (world.machine("a").of_part(one), world.machine("b").of_part(other));
        for machine in [&a, &b] {
            machine.pull().await.clean();
        }
        a.mount.write("from-a", "a");
        b.mount.write("from-b", "b");
        // The rival commits right before the commit of the first.
        let (once, rival) = (Arc::new(AtomicBool::new(true)), b.clone());
        a.objects = BeforePut::new(Arc::clone(&world.objects), move |key| {
            let (once, rival, is_commit) =
                (once.clone(), rival.clone(), key.as_ref().starts_with("contexts"));
            async move {
                if is_commit && once.swap(false, Ordering::SeqCst) {
                    rival.push_elsewhere().await.clean();
                }
            }
            .boxed()
        });
        assert_eq!(a.push().await.clean().parent, Some(3), "{one} {other}");
        let there = paths_there(&world).await;
        for (machine, name) in [(&a, "from-a"), (&b, "from-b")] {
            let path = machine.part.join(name.as_bytes()).unwrap().to_string();
            assert!(there.contains(&path), "{one} {other} {there:?}");
            machine.pull().await.clean();
        }
        assert_eq!(there.len(), 7, "{one} {other} {there:?}");
    }
}

#[tokio::test]
async fn a_file_that_takes_the_parts_place_during_a_push_ends_it() {
    let (world, whole, mut part) = agreed().await;
    part.mount.write("x", "mine");
    whole.mount.remove("d").write("d", "a file now");
    let once = Arc::new(AtomicBool::new(true));
    part.objects = BeforePut::new(Arc::clone(&world.objects), move |key| {
        let (once, whole, is_commit) = (once.clone(), whole.clone(), key.as_ref().starts_with("contexts"));
        async move {
            if is_commit && once.swap(false, Ordering::SeqCst) {
                whole.push_elsewhere().await.clean();
            }
        }
        .boxed()
    });
    let pushed = part.push().await;
    assert!(matches!(pushed.error(), Error::NotADirectory { path, .. } if path == "d"), "{pushed:?}");
    assert_eq!(paths_there(&world).await, ["a", "d", "d-e", "e/x"]);
    assert_eq!(part.mount.read("x"), "mine");
}

fn edit(part: &Machine) {
    part.mount.write("x", "changed").write("new/f", "new").remove("y");
}

/// Pulls and pushes once more; fails if that finds a conflict, deletes something else, or changes what is outside.
async fn goes_on(world: &World, whole: &Machine, part: &Machine, at: &str) {
    let pushed = part.push().await;
    assert_eq!((pushed.clean().failed, pushed.clean().conflicts), (0, 0), "{at}");
    assert_eq!(paths_there(world).await, ["a", "d/new/f", "d/x", "d-e", "e/x"], "{at}");
    whole.pull().await.clean();
    assert_same(&whole.mount.at("d"), &part.mount.0);
    assert_eq!(part.push().await.clean().parent, None, "{at}");
}

#[tokio::test(start_paused = true)]
async fn death_at_any_request_of_a_push_loses_nothing() {
    for fault in [Fault::CrashBefore, Fault::CrashAfter] {
        for nth in 1.. {
            let (world, whole, mut part) = agreed().await;
            let before = outside(&world, &part.part).await;
            let faulty = Faulty::new(Arc::clone(&world.objects), 1);
            faulty.add(Rule::new(fault).nth(nth));
            part.objects = Arc::new(faulty.clone());
            edit(&part);
            let died = part.push_until_crashed(&faulty).await;
            if !died && faulty.injections().is_empty() {
                assert!(nth > 2);
                break;
            }
            part.objects = Arc::clone(&world.objects);
            // The machine changes a file again before it learns whether the commit landed.
            part.mount.write("x", "changed again");
            goes_on(&world, &whole, &part, &format!("{fault:?} {nth}")).await;
            assert_eq!(outside(&world, &part.part).await, before);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn death_at_any_change_of_a_pull_loses_nothing() {
    for lives in 0.. {
        let (world, whole, mut part) = agreed().await;
        whole.mount.write("d/x", "changed").write("d/new/f", "new").remove("d/y").write("a", "changed");
        whole.push().await.clean();
        let death = Death::after(lives);
        part.env = Env::real().with_file_faults(death.clone());
        let mut mount = part.open().unwrap();
        let ended = mount.pull(&part.options, &Notes::default()).await;
        drop(mount);
        part.env = Env::real();
        if death.calls() <= lives {
            assert!(ended.unwrap().added > 0 && lives > 3);
            break;
        }
        part.pull().await.clean();
        goes_on(&world, &whole, &part, &format!("{lives} changes")).await;
    }
}

#[tokio::test]
async fn a_push_through_a_part_heals() {
    let (world, whole, mut part) = agreed().await;
    let before = outside(&world, &part.part).await;
    part.mount.write("sent", "by the part");
    part.push().await.clean();
    let head = world.head().await;
    let lost = head.packs.iter().find(|pack| !head_before(&before, pack.id)).unwrap().id;
    let key = transfer_engine::format::StoreKey::Pack(lost).path();
    object_store::ObjectStoreExt::delete(&*world.objects, &key).await.unwrap();
    part.options.heal = Some(transfer_engine::ReadData::All);
    part.push().await.report();
    assert_eq!(outside(&world, &part.part).await, before);
    whole.pull().await.clean();
    assert_eq!(whole.mount.read("d/sent"), "by the part");
}

/// Whether one of the entries refers to a pack.
fn head_before(
    entries: &[transfer_engine::format::TreeEntry],
    pack: transfer_engine::format::PackId,
) -> bool {
    entries.iter().flat_map(|entry| &entry.chunks).any(|chunk| chunk.block.pack == pack)
}
