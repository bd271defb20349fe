//! A dry run tells what the real run does: the same snapshots, and the same code.

use std::collections::BTreeSet;
use std::num::NonZeroU64;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ctxsync_tests::random::Random;
use ctxsync_tests::repairing::repairing;
use futures::TryStreamExt;
use object_store::{ObjectStore, ObjectStoreExt};
use policy_core::TreePath;
use transfer_engine::{
    At, CollectMonitor, CollectOptions, CollectReport, ContextName, ContextService, ContextSync, Env, Error,
    Forgotten, Gathering, Kept, LostPack, Mount, ReadData, Retention, Silent, Store, SyncOptions, TagName,
    Why, WriteOptions,
};

use crate::cases::{Place, keep_last, name};
use crate::{GRACE, variable};

const DAY: i64 = 86_400;

/// What a collection tells.
#[derive(Default, Debug, PartialEq, Eq)]
struct Told {
    forgotten: Vec<Forgotten>,
    lost: BTreeSet<String>,
    /// Only of a dry run.
    kept: Vec<(ContextName, u64)>,
}

#[derive(Default)]
struct Watch(Mutex<Told>);

impl CollectMonitor for Watch {
    fn forgotten(&self, forgotten: &Forgotten) {
        self.0.lock().unwrap().forgotten.push(forgotten.clone());
    }

    fn kept(&self, kept: &Kept) {
        self.0.lock().unwrap().kept.push((kept.context.clone(), kept.number));
    }

    fn lost(&self, lost: &LostPack) {
        self.0.lock().unwrap().lost.insert(lost.key.clone());
    }
}

/// What decides the exit code.
fn code(report: &CollectReport) -> [bool; 2] {
    [report.unreadable > 0, report.packs_lost > 0]
}

impl Place {
    /// Collects, after a dry run that must tell the same; returns what the dry run told.
    async fn collect_as_told(&self, options: &CollectOptions, case: &str) -> Told {
        let (dry, wet) = (Watch::default(), Watch::default());
        let before = self.keys("").await;
        let dry_run = CollectOptions { dry_run: true, ..options.clone() };
        let told = self.store().collect(&dry_run, &dry).await.unwrap();
        assert_eq!(self.keys("").await, before, "{case}");
        let done = self.store().collect(options, &wet).await.unwrap();
        let (dry, mut wet) = (dry.0.into_inner().unwrap(), wet.0.into_inner().unwrap());
        wet.kept.clone_from(&dry.kept);
        assert_eq!(dry, wet, "{case}");
        assert_eq!(code(&told), code(&done), "{case}");
        let figures = |r: &CollectReport| (r.forgotten, r.erased, r.freed, r.files_recycled);
        assert_eq!(figures(&told), figures(&done), "{case}");
        for (context, number) in &dry.kept {
            let found = self.store().snapshot(context, number.cast_signed()).await;
            assert!(found.is_ok(), "{case}: {context}@{number} was to be kept");
        }
        dry
    }

    /// Makes a context with these files in one pack.
    async fn push(&self, context: &ContextName, policy: &str, files: &[(&str, Vec<u8>)]) {
        let (mount, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for (path, content) in files {
            let path = mount.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        let env = Env::real().with_clock(Arc::new(self.outside.clock.clone()));
        let store = Store::new(Arc::clone(&self.objects), "test:", env);
        store.create_context(context).await.unwrap();
        let sync = ContextSync::new(context.clone(), mount.path(), serde_json::from_str(policy).unwrap());
        let mut mount = Mount::open(&store, sync, state.path()).unwrap();
        mount.push(&SyncOptions::default(), &Silent).await.unwrap();
    }

    async fn write_noise(&self, context: &ContextName, path: &TreePath, content: &[u8]) -> Result<(), Error> {
        let service = ContextService::new(&self.store());
        service.write_file(context, path, content, &WriteOptions::default()).await.map(drop)
    }

    async fn repair(&self) {
        let options = repairing(ReadData::None);
        self.store().repair(&options, &Silent).await.unwrap();
    }
}

/// One step of the history of a store.
async fn step(place: &Place, random: &mut Random, at: usize) {
    let contexts = ["c", "d", "e"].map(name);
    let (store, service) = (place.store(), ContextService::new(&place.store()));
    let context = random.of(&contexts).unwrap();
    let path: TreePath = random.of(&["x", "y", "old/f", "old/g"]).unwrap().parse().unwrap();
    let back = -i64::try_from(random.below(4)).unwrap();
    let may_fail = |result: Result<(), Error>| match result {
        Ok(()) => {}
        Err(e) => assert!(!matches!(e, Error::BadListing { .. }), "{e}"),
    };
    match random.below(16) {
        0..=5 => {
            let len = *random.of(&[10, 2_000, 40_000]).unwrap();
            may_fail(place.write_noise(context, &path, &random.bytes(len)).await);
        }
        6 | 7 => may_fail(service.delete_file(context, &path).await.map(drop)),
        8 => may_fail(store.fork_context(&name("d"), At::Head, &name("e")).await.map(drop)),
        9 => {
            let tag: TagName = format!("t{at}").parse().unwrap();
            may_fail(store.tag(context, back, &tag).await.map(drop));
        }
        10 => {
            let packs: Vec<_> = place.objects.list(Some(&"packs".into())).try_collect().await.unwrap();
            if let Some(pack) = random.of(&packs) {
                place.objects.delete(&pack.location).await.unwrap();
            }
        }
        11 | 12 => place.repair().await,
        _ => place.outside.clock.pass(*random.of(&[600, GRACE, DAY / 2, DAY]).unwrap()),
    }
}

fn options(random: &mut Random) -> CollectOptions {
    let number = |random: &mut Random| NonZeroU64::new(random.below(4) as u64);
    let mut retention = Retention { last: number(random), ..Retention::default() };
    match random.below(4) {
        0 => retention = Retention::default(),
        1 => retention.hourly = number(random),
        2 => retention.daily = number(random),
        _ => retention.within = Some(Duration::from_secs(random.bits() % DAY.cast_unsigned())),
    }
    let gathering = Gathering { small: 1 << 10, many: 3, most: 1 << 20 };
    let exclusive = random.below(4) == 0;
    CollectOptions { retention: retention.into(), gathering, exclusive, ..CollectOptions::default() }
}

/// `CTXSYNC_SEED` and `CTXSYNC_SEEDS` as for the model.
#[tokio::test]
async fn a_dry_run_and_the_real_run_agree() {
    let seeds = match variable("CTXSYNC_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..variable("CTXSYNC_SEEDS").unwrap_or(24),
    };
    let mut met = [0; 4];
    for seed in seeds {
        let (place, mut random) = (Place::new().await, Random::new(seed));
        let policy = r#"{"recyclePolicy": {"lifecycle": "Lifecycle_1Day", "paths": ["old"]}}"#;
        place.push(&name("d"), policy, &[("old/f", b"old".to_vec()), ("y", random.bytes(4_000))]).await;
        for at in 0..40 {
            step(&place, &mut random, at).await;
            if at % 5 == 4 {
                let options = options(&mut random);
                let told =
                    place.collect_as_told(&options, &format!("seed {seed}, step {at}, {options:?}")).await;
                let why = |why| told.forgotten.iter().any(|forgotten| forgotten.why == why);
                let what =
                    [why(Why::Retention), why(Why::Recycled), !told.lost.is_empty(), !told.kept.is_empty()];
                met.iter_mut().zip(what).for_each(|(met, what)| *met += u32::from(what));
            }
        }
    }
    if variable("CTXSYNC_SEED").is_none() {
        assert!(met.iter().all(|met| *met > 3), "something hardly ever happens: {met:?}");
    }
}

/// Gathering adds a snapshot with the same files. It takes no number of a rule from a snapshot that a user has made, in
/// this run and in all later ones; and the old packs go.
#[tokio::test]
async fn a_snapshot_that_a_collection_makes_takes_no_ones_place() {
    let (place, g) = (Place::new().await, name("g"));
    let noise = |seed, len| Random::new(seed).bytes(len);
    place.push(&g, "{}", &[("small", noise(1, 4_000)), ("big", noise(2, 40_000))]).await;
    ContextService::new(&place.store()).delete_file(&g, &"big".parse().unwrap()).await.unwrap();
    for content in [b"four", b"five"] {
        place.outside.clock.pass(DAY);
        place.write_noise(&g, &"work".parse().unwrap(), content).await.unwrap();
    }
    // On another day, which is no day of a user's snapshot.
    place.outside.clock.pass(DAY);
    let numbers = async || {
        let log = place.store().log(&g).await.unwrap();
        log.iter().map(|snapshot| snapshot.number).collect::<Vec<_>>()
    };
    let daily = Retention { daily: NonZeroU64::new(2), ..Retention::default() };
    let gathering = Gathering { small: 1 << 10, many: 99, most: 1 << 20 };
    let options = |retention| CollectOptions { retention, gathering, ..CollectOptions::default() };
    let told = place.collect_as_told(&options(daily.into()), "the data moves").await;
    let kept: Vec<_> = told.kept.iter().filter(|(context, _)| *context == g).map(|(_, n)| *n).collect();
    assert_eq!((kept, numbers().await), (vec![5, 4], vec![6, 5, 4]));
    // From now on, the new snapshot counts as the one whose files it has.
    for retention in [keep_last(2).retention, daily.into(), keep_last(2).retention] {
        place.outside.clock.pass(GRACE + 1);
        place.collect_as_told(&options(retention), "later").await;
        assert_eq!(numbers().await, [6, 4]);
    }
    // It keeps the day of that one. So a snapshot of the day on which the data moved takes the place of the oldest.
    place.write_noise(&g, &"work".parse().unwrap(), b"seven").await.unwrap();
    place.collect_as_told(&options(daily.into()), "the same day").await;
    assert_eq!(numbers().await, [7, 6]);
}
