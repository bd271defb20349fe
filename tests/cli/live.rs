//! What is reported about a mount that changes while it is pushed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::world::World;

#[test]
fn l26_a_mount_that_never_rests_gives_a_snapshot_that_says_so() {
    let world = World::new();
    let machine = world.machine("a");
    machine.write("work/busy", "0000");
    machine.done(&["push", "c", "work"]);
    let ends = Arc::new(AtomicBool::new(false));
    let (busy, stop) = (machine.path("work/busy"), Arc::clone(&ends));
    let writer = std::thread::spawn(move || {
        for i in 0.. {
            if stop.load(Ordering::SeqCst) {
                break;
            }
            std::fs::write(&busy, format!("{:04}", i % 10_000)).unwrap();
            std::thread::sleep(Duration::from_millis(2));
        }
    });
    // On a busy machine the writer may pause for a whole push, so this tries several times.
    let unsettled = (0..100).find_map(|round| {
        machine.write("work/other", round.to_string());
        let ended = machine.call(&["--json", "push", "c", "work"]);
        ended.summary()["unsettled"].as_bool().filter(|unsettled| *unsettled).map(|_| ended)
    });
    ends.store(true, Ordering::SeqCst);
    writer.join().unwrap();
    let unsettled = unsettled.unwrap();
    let number = unsettled.summary()["snapshot"].as_u64().unwrap();
    let log = machine.done(&["--json", "log", "c"]);
    let row = log.of_type("snapshot").into_iter().find(|row| row["snapshot"] == number).unwrap();
    assert_eq!(row["unsettled"], true);
    assert!(machine.done(&["log", "c"]).out.contains("  unsettled"));
    let restored = machine.call(&["restore", &format!("c@{number}"), "back"]);
    let warning =
        format!("warning: snapshot {number} is unsettled: its files were changing while they were read");
    assert!(restored.err.contains(&warning), "{}", restored.err);
    // Nothing is reported of a mount at rest.
    machine.write("work/other", "at rest");
    let settled = machine.done(&["--json", "push", "c", "work"]);
    assert_eq!(settled.summary()["unsettled"], false);
    assert!(!machine.done(&["restore", "c", "again"]).err.contains("unsettled"));
}
