//! The program's own state and store.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use ctxsync_tests::machine::World;

#[tokio::test]
async fn p14_a_mount_is_locked_and_the_message_says_by_whom() {
    let world = World::memory().await;
    let a = world.machine("a");
    let held = a.open().unwrap();
    let ended = a.push().await;
    let message = ended.error().to_string();
    assert!(message.contains(&format!("process {}", std::process::id())), "{message}");
    drop(held);
    a.mount.write("x", "1");
    a.push().await.clean();
}

#[tokio::test]
async fn k3_state_is_for_its_owner_only() {
    let world = World::memory().await;
    let a = world.machine("a");
    a.mount.write("x", "1");
    a.push().await.clean();
    let files = walkdir::WalkDir::new(&a.state).into_iter().flatten().filter(|e| e.file_type().is_file());
    for file in files
        .map(walkdir::DirEntry::into_path)
        .filter(|p: &PathBuf| !p.components().any(|c| c.as_os_str() == "cache"))
    {
        assert_eq!(file.metadata().unwrap().mode() & 0o077, 0, "{}", file.display());
    }
}

#[tokio::test]
async fn l20_our_own_state_and_store_inside_the_mount_are_left_out() {
    let world = World::memory().await;
    let mut a = world.machine("a");
    a.state = a.mount.at("inside/state");
    a.mount.write("x", "1");
    a.push().await.clean();
    a.push().await.clean();
    let b = world.machine("b");
    b.pull().await.clean();
    assert_eq!(b.mount.read("x"), "1");
    assert!(!b.mount.has("inside/state"));
}
