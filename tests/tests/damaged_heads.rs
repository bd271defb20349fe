//! S3: a damaged head hides neither the older snapshots of its context nor other contexts, and the context can be
//! repaired, read and deleted.
#![expect(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use std::num::NonZeroUsize;

use ctxsync_tests::machine::{Machine, World, context};
use ctxsync_tests::place::name;
use ctxsync_tests::repairing::repairing;
use object_store::ObjectStoreExt;
use transfer_engine::format::StoreKey;
use transfer_engine::{At, CheckOptions, Error, LogOptions, LogRow, ReadData, Silent, SyncOptions};

/// How a head is damaged.
#[derive(Debug, Clone, Copy)]
enum Harm {
    Appended,
    Emptied,
}

const HARMS: [Harm; 2] = [Harm::Appended, Harm::Emptied];

/// Three pushes to a context, with a tag on the second one, and another context. The head is damaged.
async fn damaged(harm: Harm) -> (World, Machine) {
    let world = World::memory().await;
    let a = world.machine("a");
    for file in ["one", "two", "three"] {
        a.mount.write(file, file);
        a.push().await.clean();
    }
    world.store().tag(&context(), At::Number(3), &"good".parse().unwrap()).await.unwrap();
    world.store().create_context(&name("other")).await.unwrap();
    harmed(&world, 4, harm).await;
    (world, a)
}

async fn harmed(world: &World, number: u64, harm: Harm) {
    let key = StoreKey::Snapshot { context: context(), number }.path();
    let mut bytes = world.objects.get(&key).await.unwrap().bytes().await.unwrap().to_vec();
    match harm {
        Harm::Appended => bytes.extend(b"junk"),
        Harm::Emptied => bytes.clear(),
    }
    world.objects.put(&key, bytes.into()).await.unwrap();
}

/// Returns the numbers that a log tells, those of damaged snapshots as negative ones.
async fn log(world: &World, options: &LogOptions) -> Vec<i64> {
    let mut told = Vec::new();
    let each = |row| match row {
        LogRow::Snapshot(snapshot, _) => told.push(snapshot.number.cast_signed()),
        LogRow::Damaged { number, .. } => told.push(-number.cast_signed()),
    };
    world.store().log_with(&context(), options, each).await.unwrap();
    told
}

async fn is_whole(world: &World) -> bool {
    let (contexts, read_data) = (Vec::new(), ReadData::All);
    let options = CheckOptions { contexts, read_data, concurrency: NonZeroUsize::MIN, memory: 64 << 20 };
    world.store().check(&options, &Silent).await.unwrap().is_whole()
}

#[tokio::test]
async fn s3_older_snapshots_are_read_whatever_the_head_is() {
    for harm in HARMS {
        let (world, a) = damaged(harm).await;
        let store = world.store();
        for (at, number) in [
            (At::Number(3), 3),
            (At::Number(2), 2),
            (At::Back(1), 3),
            (At::Back(3), 1),
            (At::Tag("good".parse().unwrap()), 3),
        ] {
            assert_eq!(store.snapshot(&context(), at).await.unwrap().number, number, "{harm:?}");
        }
        assert!(matches!(store.snapshot(&context(), 9).await, Err(Error::NoSnapshot { .. })));
        assert!(matches!(store.snapshot(&context(), -4).await, Err(Error::NoSnapshot { .. })));
        let fork = store.fork_context(&context(), 3, &name(&format!("fork-{harm:?}"))).await.unwrap();
        assert_eq!(fork.totals.files, 2);
        // The head itself, by whatever name: the error names the one before.
        for at in [At::Head, At::Number(4), At::Back(0)] {
            let error = store.snapshot(&context(), at).await.unwrap_err();
            assert!(matches!(error, Error::DamagedHead { number: 4, readable: Some(3), .. }), "{error:?}");
        }
        let pushed = a.push().await;
        assert!(matches!(pushed.error(), Error::DamagedHead { readable: Some(3), .. }), "{pushed:?}");
        store.untag(&context(), &"good".parse().unwrap(), At::Head).await.unwrap();
        assert!(store.tags(&context()).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn s3_a_log_names_damaged_snapshots_and_goes_on() {
    for harm in HARMS {
        let (world, a) = damaged(harm).await;
        let (all, two) = (LogOptions::default(), LogOptions { limit: Some(2), ..LogOptions::default() });
        assert_eq!(log(&world, &all).await, [-4, 3, 2, 1], "{harm:?}");
        assert_eq!(log(&world, &two).await, [-4, 3, 2]);
        let of_two = LogOptions { paths: vec!["two".parse().unwrap()], origins: true, limit: None };
        assert_eq!(log(&world, &of_two).await, [-4, 3]);
        harmed(&world, 2, Harm::Appended).await;
        assert_eq!(log(&world, &all).await, [-4, 3, -2, 1]);
        assert!(world.store().log(&context()).await.is_err(), "who asks for all gets all or none");
        // After a repair the context has another lineage, and its history is the same. An empty object counts as
        // forgotten then.
        repair(&world).await;
        let history: &[i64] = match harm {
            Harm::Appended => &[5, -4, 3, -2, 1],
            Harm::Emptied => &[5, 3, -2, 1],
        };
        assert_eq!(log(&world, &all).await, history);
        let pushed = a.push().await;
        assert!(pushed.warned("was repaired, or made anew"), "{:?}", pushed.noted);
        assert_eq!(log(&world, &all).await[1..], *history);
    }
}

async fn repair(world: &World) {
    let options = repairing(ReadData::All);
    assert_eq!(world.store().repair(&options, &Silent).await.unwrap().repaired, 1);
}

#[tokio::test]
async fn s3_other_contexts_are_listed_beside_one_whose_head_is_damaged() {
    for harm in HARMS {
        let (world, _) = damaged(harm).await;
        // By listings, as in a bucket, and by a look at each, as in a directory.
        for store in [world.store(), world.store().in_directory("/no/such/directory")] {
            let mut damaged = Vec::new();
            let listed = store.list_contexts_but(|name, error| damaged.push((name, error))).await.unwrap();
            assert_eq!(listed.iter().map(|context| context.id()).collect::<Vec<_>>(), ["other"]);
            assert!(damaged[0].0 == context() && damaged.len() == 1, "{damaged:?}");
            assert!(store.list_contexts().await.is_err());
        }
    }
}

#[tokio::test]
async fn s3_a_context_with_a_damaged_head_can_be_deleted() {
    for (harm, lost) in [(HARMS[0], 1), (HARMS[1], 1), (HARMS[0], 4), (HARMS[1], 4)] {
        let (world, a) = damaged(harm).await;
        // Up to all of its snapshots are damaged.
        for number in 1..lost {
            harmed(&world, number, harm).await;
        }
        world.store().delete_context(&context()).await.unwrap();
        assert_eq!(world.store().contexts().await.unwrap(), [name("other")]);
        assert!(matches!(world.store().head(&context()).await, Err(Error::NoContext { .. })));
        assert!(is_whole(&world).await, "{harm:?} {lost}");
        // The name can be used again.
        a.lose_state();
        let mut a = a;
        a.options = SyncOptions { create: true, ..SyncOptions::default() };
        assert_eq!(a.push().await.clean().added, 3);
        assert_eq!(log(&world, &LogOptions::default()).await, [7, 6]);
        assert!(is_whole(&world).await);
    }
}
