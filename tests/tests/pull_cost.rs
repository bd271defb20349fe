//! What a pull reads and receives: no more than necessary, and small files first.

use std::num::NonZeroU64;
use std::sync::Arc;

use ctxsync_tests::compare::assert_same;
use ctxsync_tests::machine::{Ended, Machine, World};
use ctxsync_tests::random::Random;
use storage_backends::layer::Bandwidth;
use transfer_engine::Action;

fn bytes(seed: u64, len: usize) -> Vec<u8> {
    Random::new(seed).bytes(len)
}

async fn two() -> (World, Machine, Machine) {
    let world = World::memory().await;
    let (a, b) = (world.machine("a"), world.machine("b"));
    (world, a, b)
}

fn received(ended: &Ended) -> u64 {
    ended.clean().bytes_received
}

#[tokio::test]
async fn what_only_the_mount_has_is_not_read() {
    let (_world, a, b) = two().await;
    b.mount.write("short", bytes(1, 900_000)).write("d/long", bytes(2, 6 << 20));
    b.mount.write("both", "b's").write("x", "is a directory there").write("y/z", "is a file there");
    // The context is empty.
    a.push().await.clean();
    assert_eq!(b.pull().await.clean().bytes_read, 0);
    // The context has other files beside them.
    a.mount.write("d/lond", "1").write("d/long2", "2").write("shorter", "3");
    // What was written a moment before is read once more.
    for path in ["d/lond", "d/long2", "shorter"] {
        a.mount.time(path, 1_700_000_000, 0);
    }
    a.push().await.clean();
    assert_eq!(b.pull().await.clean().bytes_read, 0);
    assert_eq!(b.pull().await.clean().bytes_read, 0, "nothing changed");
    // The context has something at their paths, below them and above: these files are read, and all versions
    // are kept.
    a.mount.write("both", "a's").write("x/below", "a's").write("y", "a's");
    a.push().await.clean();
    let ended = b.pull().await;
    let own = ["b's", "is a directory there", "is a file there"].map(str::len).iter().sum::<usize>();
    assert_eq!(ended.report().bytes_read, own as u64, "{ended:?}");
    assert_eq!(ended.report().conflicts, 4, "{ended:?}");
    let files = b.mount.files();
    for (path, content) in [("both", "b's"), ("x", "is a directory there"), ("y/z", "is a file there")] {
        assert_eq!(b.mount.read(path), content);
    }
    for begin in ["both.conflict-", "x.conflict-", "y.conflict-"] {
        assert!(files.iter().any(|path| path.starts_with(begin)), "{begin} {files:?}");
    }
    assert_eq!(std::fs::read(b.mount.at("short")).ok(), Some(bytes(1, 900_000)));
}

#[tokio::test]
async fn a_renamed_directory_is_not_received() {
    let (_world, a, b) = two().await;
    for number in 0..40_u64 {
        a.mount.write(format!("models/{number}"), bytes(number, 200_000));
    }
    a.mount
        .write("stays", "here")
        .write("models/long", bytes(99, 9 << 20))
        .write("models/sub/middle", bytes(98, 1 << 20));
    a.push().await.clean();
    assert!(received(&b.pull().await) > 17_000_000);
    a.mount.rename("models", "weights").write("again/long", bytes(99, 9 << 20));
    a.push().await.clean();
    let again = b.pull().await;
    // What is fetched before the base has been read is received once more.
    assert!(received(&again) < 2_500_000, "{again:?}");
    assert_same(&a.mount.0, &b.mount.0);
}

#[tokio::test]
async fn copies_are_received_once() {
    let (_world, a, mut b) = two().await;
    for dir in ["a", "m/copy", "z"] {
        for number in 0..30_u64 {
            a.mount.write(format!("{dir}/{number}"), bytes(number, 300_000));
        }
        a.mount.write(format!("{dir}/long"), bytes(99, 6 << 20));
    }
    a.push().await.clean();
    // Too little memory to keep the blocks that were just fetched.
    b.options.memory = 8 << 20;
    let ended = b.pull().await;
    assert!(received(&ended) < 18_000_000, "{ended:?}");
    assert_same(&a.mount.0, &b.mount.0);
}

/// A file that the base offers as a source may have changed: each chunk is verified.
#[tokio::test]
async fn a_source_that_was_changed_is_not_believed() {
    let (_world, a, b) = two().await;
    for number in 0..20_u64 {
        a.mount.write(format!("old/{number:02}"), bytes(number, 400_000));
    }
    a.push().await.clean();
    b.pull().await.clean();
    for number in 0..20_u64 {
        a.mount.write(format!("new/{number:02}"), bytes(number, 400_000));
    }
    a.push().await.clean();
    let mut torn = bytes(15, 400_000);
    torn[200_000..].fill(1);
    b.mount.write("old/15", &torn).write("old/16", "short").remove("old/17").dir("old/17");
    b.pull().await.clean();
    for number in 0..20_u64 {
        let path = format!("new/{number:02}");
        assert_eq!(std::fs::read(b.mount.at(&path)).ok(), Some(bytes(number, 400_000)), "{path}");
    }
    assert_eq!(std::fs::read(b.mount.at("old/15")).ok(), Some(torn));
}

#[tokio::test]
async fn small_files_come_first_across_directories() {
    let (_world, a, mut b) = two().await;
    // Two long files arrive at once: the longer one must take much longer to be the last. From a store that answers at
    // once, it may be the shorter one that waits for a thread.
    b.objects = Arc::new(Bandwidth::new(b.objects, None, NonZeroU64::new(60 << 20)));
    a.mount.write("a/largest", bytes(1, 30 << 20)).write("b/large", bytes(2, 5 << 20));
    a.mount.write("c/middle", bytes(3, 1 << 20)).write("d/larger", bytes(4, 6 << 20));
    for number in 0..400 {
        a.mount.write(format!("e/{number:04}"), number.to_string());
    }
    a.push().await.clean();
    let ended = b.pull().await;
    ended.clean();
    let added = ended.noted.events.iter().filter(|(_, action)| *action == Action::Add);
    let order: Vec<String> = added.map(|(path, _)| path.to_string()).collect();
    let at = |path: &str| order.iter().position(|added| added == path);
    assert!(at("e/0399") < at("c/middle"), "{:?}", at("e/0399"));
    assert!(at("c/middle") < at("a/largest"), "{order:?}");
    assert_eq!(order.last().map(String::as_str), Some("a/largest"));
}
