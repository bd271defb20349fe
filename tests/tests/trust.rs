//! Syncs that do not wait for the mount's disk, and what the next one makes of the mount after a loss of power.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ctxsync_tests::compare::{assert_same_but_times, paths};
use ctxsync_tests::faults::Meanwhile;
use ctxsync_tests::machine::{Machine, World};
use ctxsync_tests::random::Random;
use object_store::ObjectStoreExt;
use transfer_engine::format::StoreKey;
use transfer_engine::{BootId, Env, ReadData};

const CONTENT: &str = "what the context has, and enough of it for two halves";

/// Returns a machine that was started so many times.
fn started(times: u8) -> Env {
    Env::real().with_boot(Some(BootId([times; 16])))
}

/// Returns a machine that pushed a tree, and one that pulled it, flushed, and then pulled changes of it.
async fn pulled(world: &World) -> (Machine, Machine) {
    let (a, mut b) = (world.machine("a"), world.machine("b"));
    b.env = started(1);
    b.options.flush_behind = false;
    a.mount.write("kept", "kept").write("changed", "old").write("deleted", "old").write("mine", "old");
    a.push().await.clean();
    b.pull().await.clean();
    b.options.flush_behind = true;
    a.mount.write("changed", CONTENT).remove("deleted").write("new", CONTENT).write("d/other", CONTENT);
    a.push().await.clean();
    b.pull().await.clean();
    (a, b)
}

fn has_note(machine: &Machine) -> bool {
    machine.state_file("unflushed").is_some()
}

#[tokio::test]
async fn p2_what_a_loss_of_power_left_of_a_pull_is_told_from_edits() {
    let half = CONTENT.len() / 2;
    let zeros = "\0".repeat(CONTENT.len());
    let half_zeros = format!("{}{}", &CONTENT[..half], &zeros[half..]);
    for torn in ["", &CONTENT[..half], &zeros, &half_zeros] {
        for pushes in [false, true] {
            let world = World::memory().await;
            let (a, mut b) = pulled(&world).await;
            assert!(has_note(&b));
            // The disk has the old version of one file, has one that was deleted, and lacks one and half of another.
            b.mount.write("changed", "old").write("deleted", "old").write("new", torn).remove("d/other");
            // What the user wrote reached it.
            b.mount.write("mine", "edited");
            b.env = started(2);
            if pushes {
                let pushed = b.push().await;
                let report = pushed.report();
                assert_eq!((report.added, report.changed, report.deleted), (0, 1, 0), "{:?}", pushed.noted);
                assert!(pushed.warned("did not all reach the disk"), "{:?}", pushed.noted);
            }
            let synced = b.sync().await;
            let said = &synced.noted;
            assert_eq!((synced.report().conflicts, synced.report().failed), (0, 0), "{torn:?} {said:?}");
            a.pull().await.clean();
            assert_same_but_times(&a.mount.0, &b.mount.0);
            assert_eq!(paths(&a.mount.0), ["changed", "d", "d/other", "kept", "mine", "new"]);
            assert_eq!((a.mount.read("new"), a.mount.read("mine")), (CONTENT.into(), "edited".into()));
        }
    }
}

/// A file that is no part of what was pulled is an edit, even of a file that was just pulled.
#[tokio::test]
async fn p2_an_edit_of_what_was_just_pulled_outlives_a_loss_of_power() {
    let world = World::memory().await;
    let (a, mut b) = pulled(&world).await;
    b.mount.write("changed", "edited").write("new", "edited too").mode("kept", 0o600);
    b.env = started(2);
    b.sync().await.report();
    a.pull().await.clean();
    let there: Vec<String> = a.mount.files().iter().map(|path| a.mount.read(path)).collect();
    for content in ["edited", "edited too", CONTENT] {
        assert!(there.iter().any(|found| found == content), "{content}: {there:?}");
    }
    assert_eq!(a.mount.mode_of("kept"), 0o600);
}

/// While the machine runs, nothing is compared again, whichever process wrote it.
#[tokio::test]
async fn without_a_loss_of_power_nothing_is_compared() {
    let world = World::memory().await;
    let (_, b) = pulled(&world).await;
    assert!(has_note(&b));
    let again = b.pull().await;
    assert_eq!((again.clean().requests, again.report().unchanged), (1, 5), "{:?}", again.report());
    assert!(again.noted.warnings.is_empty() && has_note(&b), "{:?}", again.noted);
    // A deletion counts as one.
    b.mount.remove("new");
    assert_eq!(b.push().await.clean().deleted, 1);
}

/// A push does not wait either. Its snapshot says what the mount had.
#[tokio::test]
async fn p2_what_was_pushed_and_then_lost_is_pulled_and_not_deleted() {
    let world = World::memory().await;
    let mut a = world.machine("a");
    a.env = started(1);
    a.options.flush_behind = true;
    a.mount.write("x", "1").write("y", "2");
    a.options.deadline = Some(tokio::time::Instant::now() + std::time::Duration::from_secs(60));
    a.push().await.clean();
    a.options.deadline = None;
    a.mount.remove("x").write("y", "");
    a.env = started(2);
    let pushed = a.push().await;
    assert_eq!((pushed.clean().deleted, pushed.clean().changed), (0, 0), "{:?}", pushed.noted);
    a.pull().await.clean();
    assert_eq!((a.mount.read("x"), a.mount.read("y")), ("1".into(), "2".into()));
}

/// Counts the flushes of a machine's mount.
fn counting(env: Env) -> (Env, Arc<AtomicU64>) {
    let flushes = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&flushes);
    let env = env.with_file_faults(Meanwhile::new(move |operation, _: &Path| {
        counted.fetch_add(u64::from(operation == "syncfs"), Ordering::SeqCst);
    }));
    (env, flushes)
}

#[tokio::test]
async fn a_sync_waits_for_the_disk_only_where_nothing_else_helps() {
    let world = World::memory().await;
    let a = world.machine("a");
    a.mount.write("x", "0");
    a.push().await.clean();
    for (behind, boot, waits) in
        [(true, Some(BootId([1; 16])), false), (false, Some(BootId([1; 16])), true), (true, None, true)]
    {
        let mut b = world.machine(&format!("{behind}-{}", boot.is_some()));
        let (env, flushes) = counting(Env::real().with_boot(boot));
        (b.env, b.options.flush_behind) = (env, behind);
        b.pull().await.clean();
        b.mount.write("y", format!("{behind} {boot:?}"));
        let pulled = flushes.swap(0, Ordering::SeqCst) > 0;
        assert_eq!((pulled, has_note(&b)), (waits, !waits), "{behind} {boot:?}");
        // One sync is noted at most.
        b.push().await.report();
        assert!(flushes.load(Ordering::SeqCst) > 0, "{behind} {boot:?}");
        assert!(!has_note(&b));
        // What waits for nothing is noted, and what waits ends that.
        b.mount.write("y", "once more");
        b.push().await.report();
        assert_eq!(has_note(&b), !waits);
        b.options.flush_behind = false;
        b.pull().await.report();
        assert!(!has_note(&b));
    }
}

/// A machine that ran for days is started anew. What was edited since the last sync is an edit of what that had put
/// there, and no conflict with it.
#[tokio::test]
async fn an_edit_of_what_was_pulled_last_is_no_conflict_after_a_new_start() {
    let world = World::memory().await;
    let (a, mut b) = pulled(&world).await;
    b.mount.write("changed", "edited").write("new", "edited too");
    b.env = started(2);
    b.sync().await.clean();
    a.pull().await.clean();
    assert_same_but_times(&a.mount.0, &b.mount.0);
    assert_eq!((a.mount.read("changed"), a.mount.read("new")), ("edited".into(), "edited too".into()));
}

/// Nothing is changed by a look.
#[tokio::test]
async fn a_dry_run_after_a_loss_of_power_changes_nothing() {
    let world = World::memory().await;
    let (_, mut b) = pulled(&world).await;
    b.mount.write("new", "");
    b.env = started(2);
    b.options.dry_run = true;
    b.pull().await.report();
    b.push().await.report();
    assert_eq!(b.mount.read("new"), "");
    b.options.dry_run = false;
    b.sync().await.clean();
    assert_eq!(b.mount.read("new"), CONTENT);
}

/// A push that can't flush leaves the doubt where it is, for the next loss of power.
#[tokio::test]
async fn p2_a_doubt_outlives_a_push_that_cannot_wait() {
    let world = World::memory().await;
    let (a, mut b) = pulled(&world).await;
    b.env = started(2);
    b.mount.write("x", "1");
    b.options.deadline = Some(tokio::time::Instant::now() + std::time::Duration::from_secs(60));
    b.push().await.clean();
    b.options.deadline = None;
    b.mount.remove("new").remove("x");
    b.env = started(3);
    assert_eq!(b.push().await.clean().deleted, 0);
    b.pull().await.clean();
    a.pull().await.clean();
    assert_same_but_times(&a.mount.0, &b.mount.0);
    assert!(a.mount.has("new") && a.mount.has("x"));
}

/// The work after a loss of power has a limit: the next pull flushes what the last one put there.
#[tokio::test]
async fn the_next_pull_flushes_what_the_last_one_did_not() {
    let world = World::memory().await;
    let (a, mut b) = (world.machine("a"), world.machine("b"));
    let (env, flushes) = counting(started(1));
    (b.env, b.options.flush_behind) = (env, true);
    for round in 0..2 {
        assert_eq!(flushes.load(Ordering::SeqCst), 0, "round {round}");
        a.mount.write("x", format!("{round}"));
        a.push().await.clean();
        b.pull().await.clean();
    }
    assert!(flushes.load(Ordering::SeqCst) > 0);
}

/// A file that was deleted here, and that the policy brings again, is in the base as it is in the context: a half of it
/// could not be told from an edit.
#[tokio::test]
async fn p2_what_is_brought_again_is_flushed() {
    let world = World::memory().await;
    let (_, mut b) = pulled(&world).await;
    b.policy.delete_policy.sync_local_file = false;
    b.mount.remove("kept");
    let (env, flushes) = counting(started(1));
    b.env = env;
    assert_eq!(b.pull().await.clean().added, 1);
    assert!(flushes.load(Ordering::SeqCst) > 0 && !has_note(&b));
}

/// If the store has lost a part of the list of files, nobody can tell what the sync put there. So nothing counts as deleted.
#[tokio::test]
async fn p2_a_snapshot_that_the_store_has_lost_deletes_nothing() {
    let world = World::memory().await;
    let (mut a, mut b) = (world.machine("a"), world.machine("b"));
    b.env = started(1);
    a.mount.write("kept", "kept").write("lost", "lost");
    a.push().await.clean();
    b.pull().await.clean();
    // The list of files becomes too long to be in the snapshot itself.
    let mut random = Random::new(1);
    for number in 0..40 {
        let target: Vec<u8> = random.bytes(4000).into_iter().map(|byte| byte.max(1)).collect();
        a.mount.link(format!("link-{number}"), OsStr::from_bytes(&target));
    }
    a.push().await.clean();
    b.options.flush_behind = true;
    b.pull().await.clean();
    assert!(has_note(&b));
    let packs =
        world.head().await.packs.iter().map(|pack| StoreKey::Pack(pack.id).path()).collect::<Vec<_>>();
    for pack in packs {
        world.objects.delete(&pack).await.unwrap();
    }
    // The machine that made it still has it in its cache, and sends it again.
    a.options.heal = Some(ReadData::All);
    a.push().await.clean();
    std::fs::remove_dir_all(b.base_file().parent().unwrap().join("cache")).unwrap();
    b.mount.remove("lost");
    b.env = started(2);
    let pushed = b.push().await;
    assert_eq!(pushed.clean().deleted, 0, "{:?}", pushed.noted);
    b.pull().await.clean();
    assert_same_but_times(&a.mount.0, &b.mount.0);
    assert_eq!(a.mount.read("lost"), "lost");
}

/// A pull of one path completes nothing else: an edit of what it did not bring is one of the older version.
#[tokio::test]
async fn p2_a_pull_of_one_path_says_nothing_of_the_others() {
    let world = World::memory().await;
    let (a, mut b) = (world.machine("a"), world.machine("b"));
    b.env = started(1);
    a.mount.write("one", "old").write("other", "old");
    a.push().await.clean();
    b.pull().await.clean();
    a.mount.write("one", CONTENT).write("other", CONTENT);
    a.push().await.clean();
    b.options.flush_behind = true;
    b.options.only = vec!["one".parse().unwrap()];
    b.pull().await.clean();
    b.options.only = Vec::new();
    b.mount.write("other", "edited");
    b.env = started(2);
    assert_eq!(b.sync().await.report().conflicts, 1);
    a.pull().await.clean();
    let there: Vec<String> = a.mount.files().iter().map(|path| a.mount.read(path)).collect();
    for content in ["edited", CONTENT] {
        assert!(there.iter().any(|found| found == content), "{content}: {there:?}");
    }
}

/// What is lost of one context would be an edit to another one that has the same mount.
#[tokio::test]
async fn a_mount_of_two_contexts_waits_for_the_disk() {
    let world = World::memory().await;
    let a = world.machine("a");
    a.mount.write("x", "1");
    a.push().await.clean();
    for shares in [false, true] {
        let mut b = world.machine(&format!("shares-{shares}"));
        let (env, flushes) = counting(started(1));
        (b.env, b.options.flush_behind) = (env, true);
        if shares {
            let other = Machine { context: "other".parse().unwrap(), ..b.clone() };
            drop(other.open().unwrap());
        }
        b.pull().await.clean();
        assert_eq!((flushes.load(Ordering::SeqCst) > 0, has_note(&b)), (shares, !shares));
    }
}
