//! Names of the program's own in a mount.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ctxsync_tests::compare::{assert_same, paths};
use ctxsync_tests::faults::Meanwhile;
use ctxsync_tests::machine::{World, changed};
use ctxsync_tests::tree::Tree;
use transfer_engine::Env;

#[tokio::test]
async fn l24_names_like_our_own_are_a_users_files() {
    let world = World::memory().await;
    let (a, b) = (world.machine("a"), world.machine("b"));
    a.mount.write(".ctxsync-stage-00/x", "1").write("d/.ctxsync-stage", "2").write(".ctxsync-stage", "3");
    a.mount.write("ctxsync-recovered-x", "4").write("f.conflict-00112233.txt", "5").write("f.txt", "6");
    a.push().await.clean();
    b.pull().await.clean();
    assert_same(&a.mount.0, &b.mount.0);
    b.mount.remove("f.txt").write(".ctxsync-stage-00/x", "changed");
    b.push().await.clean();
    a.pull().await.clean();
    assert_same(&a.mount.0, &b.mount.0);
}

/// A file that an interrupted sync moved aside is kept, whatever its name, and even if that name is taken.
#[tokio::test]
async fn l24_a_file_that_was_moved_aside_is_kept_also_where_its_name_is_taken() {
    use std::os::unix::ffi::OsStrExt;
    let (_world, _a, b) = changed(|t| _ = t.write("f", "1"), |t| _ = t.write("f", "2")).await;
    let long = [&[0x80; 200][..], &[b'l'; 55]].concat();
    let aside = |name: &[u8]| {
        let staging = b.mount.at(".ctxsync-stage-0123456789abcdef");
        std::fs::create_dir_all(&staging).unwrap();
        std::fs::write(staging.join(".ctxsync-stage"), "").unwrap();
        std::fs::write(staging.join(std::ffi::OsStr::from_bytes(name)), "edited").unwrap();
    };
    let kept = || {
        let names = ctxsync_tests::compare::list(&b.mount.0).into_keys();
        names.filter(|name| name.to_string_lossy().starts_with("ctxsync-recovered-")).count()
    };
    for round in 1..=3 {
        aside(b"x");
        aside(&long);
        let pulled = b.pull().await;
        assert!(pulled.report().failed == 0 && pulled.warned("ctxsync-recovered-x"), "{:?}", pulled.noted);
        assert_eq!(kept(), 2 * round);
        assert!(!b.mount.has(".ctxsync-stage-0123456789abcdef"));
    }
    assert!(b.mount.has("ctxsync-recovered-x") && b.mount.has("ctxsync-recovered-x-3"));
}

/// A mount inside another synced directory: the staging that a killed pull left in the inner one is not
/// pushed.
#[tokio::test]
async fn p1_staging_is_passed_over_at_any_depth() {
    let world = World::memory().await;
    let (outer, mut inner) = (world.machine("outer"), world.machine("inner"));
    outer.mount.write("sub/f", "f").write("sub/deep/g", "g");
    inner.mount = Tree(outer.mount.at("sub/deep"));
    let left = "sub/deep/.ctxsync-stage-0123456789abcdef";
    outer.mount.write(format!("{left}/.ctxsync-stage"), "").write(format!("{left}/s-1/n-1"), "half a file");
    outer.mount.dir("sub/.ctxsync-stage-0000456789abcdef");
    outer.push().await.clean();
    let fresh = world.machine("fresh");
    fresh.pull().await.clean();
    assert_eq!(paths(&fresh.mount.0), ["sub", "sub/deep", "sub/deep/g", "sub/f"]);
    // The next sync of the inner mount removes it.
    inner.push().await.clean();
    assert!(!outer.mount.has(left));
}

/// Git, and tools that follow its ignore files, see nothing of a sync.
#[tokio::test]
async fn staging_hides_itself_from_git() {
    let (_world, a, mut b) =
        changed(|t| drop(t.write("f", "1").at("")), |t| drop(t.write("f", "2").at(""))).await;
    let (mount, seen) = (b.mount.clone(), Arc::new(AtomicU64::new(0)));
    let count = seen.clone();
    b.env = Env::real().with_file_faults(Meanwhile::new(move |operation, _| {
        if operation == "renameat2" {
            let ours: Vec<String> =
                mount.files().into_iter().filter(|path| path.ends_with("/.gitignore")).collect();
            assert!(ours.len() == 1 && ours[0].starts_with(".ctxsync-stage-"), "{ours:?}");
            assert_eq!(mount.read(&ours[0]), "*\n");
            count.fetch_add(1, Ordering::SeqCst);
        }
    }));
    b.pull().await.clean();
    assert_eq!(seen.load(Ordering::SeqCst), 1);
    assert_same(&a.mount.0, &b.mount.0);
}
