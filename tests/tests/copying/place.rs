//! What is done to two stores, and what a copy tells.

use std::num::NonZeroU64;
use std::sync::Mutex;

use ctxsync_tests::random::Random;
use transfer_engine::{
    CollectOptions, CopiedContext, CopyMonitor, CopyOptions, CopyReport, Gathering, Monitor, NotCopied,
    Retention,
};

pub(crate) use ctxsync_tests::place::{GRACE, Place, content, content_of, name};

/// What a copy told.
#[derive(Default)]
pub(crate) struct Told {
    pub(crate) copied: Mutex<Vec<CopiedContext>>,
    not_copied: Mutex<Vec<(String, Vec<u64>, String)>>,
    pub(crate) warnings: Mutex<Vec<String>>,
}

impl Monitor for Told {
    fn warning(&self, warning: &str) {
        self.warnings.lock().unwrap().push(warning.to_owned());
    }
}

impl CopyMonitor for Told {
    fn copied(&self, copied: &CopiedContext) {
        self.copied.lock().unwrap().push(copied.clone());
    }

    fn not_copied(&self, not: &NotCopied) {
        let told = (not.context.to_string(), not.snapshots.clone(), not.error.to_string());
        self.not_copied.lock().unwrap().push(told);
    }
}

impl Told {
    pub(crate) fn not_copied(&self) -> Vec<(String, Vec<u64>, String)> {
        self.not_copied.lock().unwrap().clone()
    }
}

pub(crate) async fn copy(src: &Place, dst: &Place) -> CopyReport {
    let told = Told::default();
    let report = src.store().copy_to(&dst.store(), &CopyOptions::default(), &told).await.unwrap();
    assert!(!report.is_incomplete(), "{:?}", told.not_copied());
    report
}

/// Makes a history with renamed, deleted and forgotten parts, with packs of several sizes, and with segments in packs.
pub(crate) async fn make_history(place: &Place, random: &mut Random, steps: usize) {
    let names = ["a", "b/c", "d"];
    for step in 0..steps {
        place.clock.pass(60);
        let context = names[random.below(names.len())];
        match random.below(20) {
            0 if step > 3 => drop(place.store().delete_context(&name(context)).await),
            1 => drop(place.store().rename_context(&name(context), &name(&format!("{context}-new"))).await),
            2 => {
                let last = NonZeroU64::new(1 + random.below(4) as u64);
                let retention = Retention { last, ..Retention::default() };
                let gathering = Gathering { many: 4, ..Gathering::default() };
                place
                    .collect(CollectOptions {
                        retention: retention.into(),
                        gathering,
                        ..CollectOptions::default()
                    })
                    .await;
                place.clock.pass(GRACE * random.below(2) as i64 * 2);
            }
            3 => {
                for file in 0..40 {
                    let len = random.below(200);
                    place.write(context, &format!("many/{file}"), &random.bytes(len)).await;
                }
            }
            4 => {
                let len = random.below(2 << 20);
                place.write(context, "long", &random.bytes(len)).await;
            }
            _ => {
                let (path, len) = (format!("{}/{}", random.below(4), random.below(9)), random.below(3000));
                place.write(context, &path, &random.bytes(len)).await;
            }
        }
    }
}
