//! Lost races for the next snapshot, in which the new head invalidates the plan (faults N9 and W4).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ctxsync_tests::compare::{assert_same, paths};
use ctxsync_tests::interrupt::BeforePut;
use ctxsync_tests::machine::World;
use futures::FutureExt;

#[tokio::test]
async fn n9_a_race_lost_to_a_head_that_dropped_what_was_counted_on() {
    // A tree of several segments. Its last files are copied, and the copies' chunks are not sent, because the
    // head has them. The rival deletes these files, which leaves a tree of one segment.
    let world = World::memory().await;
    let mut a = world.machine("a");
    for i in 0..2500 {
        a.mount.link(format!("links/{i}"), format!("target {i}"));
    }
    for i in 0..50 {
        a.mount.write(format!("z/{i}"), format!("content {i}"));
    }
    a.push().await.clean();
    assert!(world.head().await.segments.len() > 1);
    let b = world.machine("b");
    b.pull().await.clean();
    b.mount.remove("links").remove("z").write("last", "l");
    let once = Arc::new(AtomicBool::new(true));
    let mut rival = b.clone();
    rival.options.allow_empty_mount = true;
    a.objects = BeforePut::new(Arc::clone(&world.objects), move |key| {
        let (once, rival, is_commit) = (once.clone(), rival.clone(), key.as_ref().starts_with("contexts"));
        async move {
            if is_commit && once.swap(false, Ordering::SeqCst) {
                rival.push_elsewhere().await.clean();
            }
        }
        .boxed()
    });
    a.mount.dir("copy");
    for i in 0..50 {
        std::fs::copy(a.mount.at(format!("z/{i}")), a.mount.at(format!("copy/{i}"))).unwrap();
    }
    let ended = a.push().await;
    assert_eq!(ended.clean().parent, Some(3));
    a.pull().await.clean();
    b.pull().await.clean();
    assert_same(&a.mount.0, &b.mount.0);
    assert_eq!(paths(&b.mount.0).len(), 52);
}
