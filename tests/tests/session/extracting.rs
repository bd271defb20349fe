//! Archives that are pulled in a session.

use std::sync::Arc;

use ctxsync_tests::archive::archive;
use ctxsync_tests::machine::{Machine, World};
use transfer_engine::Arrival;

use crate::gate::Gate;
use crate::{open, packs, path, report_of};

const KEEPS_IT: &str = r#"{"extractPolicy": {}, "deletePolicy": {"syncLocalFile": false}}"#;

/// A world with `first` in a pack that a gate holds, and an archive in another pack.
async fn archive_and_more() -> (World, Machine, Gate) {
    let world = World::memory().await;
    let (a, mut b) = (world.machine("a"), world.machine("b").with_policy(KEEPS_IT));
    a.mount.write("first", "1");
    a.push().await.clean();
    let first = packs(&world.objects).await;
    a.mount.write("data.zip", archive("zip", &[("one", "1"), ("two", "2")]));
    a.push().await.clean();
    let gate = Gate::new(Arc::clone(&world.objects));
    b.objects = Arc::new(gate.clone());
    gate.hold(move |key| key.as_ref().starts_with("packs/") && first.contains(key));
    (world, b, gate)
}

#[tokio::test]
async fn one_that_is_asked_for_comes_out_at_once_and_is_marked() {
    let (world, b, gate) = archive_and_more().await;
    let session = open(&b).await;
    gate.somebody_waits().await;
    let report = session.fetch(&b.mount.0, &[path("data.zip")]).await.unwrap();
    assert_eq!(report.extracted, 1, "{report:?}");
    assert!(b.mount.has("data/two") && !b.mount.has("data.zip"));
    gate.open();
    assert!(session.wait_for(&Arrival::All).await.unwrap()[0].success);
    assert_eq!(b.mount.files(), ["data/one", "data/two", "first"]);
    b.mount.write("data/one", "edited");
    report_of(&session).await;

    let fresh = world.machine("fresh").with_policy(KEEPS_IT);
    assert_eq!(fresh.pull().await.clean().extracted, 0);
    assert_eq!(fresh.mount.files(), ["data/one", "data/two", "first"]);
    assert_eq!(fresh.mount.read("data/one"), "edited");
}
