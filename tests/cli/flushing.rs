//! A pull does not wait for the disk: another process flushes the mount, unless `--durable` is given.

use std::path::PathBuf;
use std::time::Duration;

use crate::world::{Machine, World, tree};

/// Returns the files with this name in a machine's state.
fn named(machine: &Machine, name: &str) -> Vec<PathBuf> {
    let all = tree(&machine.path("state"));
    all.iter()
        .filter(|row| row.split(' ').any(|word| word.ends_with(&format!("/{name}"))))
        .map(PathBuf::from)
        .collect()
}

/// Waits until the process has flushed the mount that a pull has started.
fn wait_for_flush(machine: &Machine) {
    for _ in 0..6000 {
        if named(machine, "unflushed").is_empty() || !named(machine, "flushed").is_empty() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("nothing was flushed: {:?}", tree(&machine.path("state")));
}

#[test]
fn a_pull_leaves_the_flush_to_another_process_unless_it_is_to_be_durable() {
    let world = World::new();
    let (a, b) = (world.machine("a"), world.machine("b"));
    a.write("work/x", "1");
    a.done(&["push", "c", "work"]);
    b.done(&["pull", "c", "work", "--durable"]);
    assert!(named(&b, "unflushed").is_empty());
    a.write("work/y", "2");
    a.done(&["push", "c", "work"]);
    b.done(&["pull", "c", "work"]);
    wait_for_flush(&b);
    // The next sync takes it up, and nothing else has changed.
    std::fs::remove_file(b.path("work/y")).unwrap();
    let pushed = b.call_with(&[("CTXSYNC_DURABLE", "true")], &["push", "c", "work", "--json"]);
    assert_eq!(pushed.summary()["deleted"], 1, "{}", pushed.seen());
    for name in ["unflushed", "flushed", "base.recent"] {
        assert!(named(&b, name).is_empty(), "{name}");
    }
}
