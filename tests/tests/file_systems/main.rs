//! File systems that are mounted below a mount (faults D7, L20).

mod folding;
mod placed;

use std::fs;
use std::path::PathBuf;

use ctxsync_tests::compare::{assert_same, paths};
use ctxsync_tests::faults::{Death, Meanwhile};
use ctxsync_tests::machine::{Ended, Machine, World};
use ctxsync_tests::mounts::{bind, may_mount, small_tmpfs, tmpfs, unmount};
use transfer_engine::Env;

/// Fails unless a push or pull withheld this many paths, deleted nothing, and named the file system's path.
#[track_caller]
fn withheld(ended: &Ended, paths: u64, place: &str) {
    let report = ended.report();
    assert_eq!((report.unmounted, report.deleted, report.failed), (paths, 0, 0), "{:?}", ended.noted);
    assert!(ended.warned(&format!("`{place}`")), "{:?}", ended.noted);
}

/// Fails unless a push withheld this many paths, and deleted this many others.
#[track_caller]
fn withheld_but(ended: &Ended, paths: u64, deleted: u64) {
    let report = ended.report();
    assert_eq!((report.unmounted, report.deleted, report.failed), (paths, deleted, 0), "{:?}", ended.noted);
}

/// Fails if anything is withheld.
#[track_caller]
fn all_there(ended: &Ended) {
    assert_eq!(ended.clean().unmounted, 0, "{:?}", ended.noted);
}

/// A world with two machines that agree on a directory `data`. On the first one it is another file system,
/// with two files; on the second one it is a plain directory.
struct Mounted {
    world: World,
    a: Machine,
    b: Machine,
    disk: PathBuf,
}

impl Mounted {
    /// `bound` means a bind mount, which has the same device as the mount.
    async fn new(bound: bool) -> Self {
        let world = World::memory().await;
        let (a, b) = (world.machine("a"), world.machine("b"));
        let disk = world.outside().dir("disk").at("disk");
        if !bound {
            tmpfs(&disk);
        }
        a.mount.write("keep", "k").dir("data");
        let mounted = Self { world, a, b, disk };
        mounted.mount();
        mounted.a.mount.write("data/f", "f").write("data/sub/g", "g").time("data/f", 5, 5).time(
            "data/sub/g",
            5,
            5,
        );
        all_there(&mounted.a.push().await);
        all_there(&mounted.b.pull().await);
        mounted
    }

    fn mount(&self) {
        bind(&self.disk, self.a.mount.at("data"));
    }

    fn unmount(&self) {
        unmount(self.a.mount.at("data"));
    }
}

#[tokio::test]
async fn d7_what_was_on_an_unmounted_file_system_is_withheld_on_both_sides() {
    if !may_mount("d7_what_was_on_an_unmounted_file_system_is_withheld_on_both_sides") {
        return;
    }
    for bound in [false, true] {
        let all = Mounted::new(bound).await;
        let (a, b) = (&all.a, &all.b);
        all.unmount();
        for _ in 0..2 {
            withheld(&a.push().await, 2, "data");
            assert_eq!(all.world.head().await.number, 2);
        }
        // Not only deletions are withheld: nothing of the context is written into the empty mount point.
        b.mount.write("data/f", "changed").write("data/new", "n").remove("data/sub/g").write("more", "m");
        b.push().await.clean();
        withheld(&a.pull().await, 2, "data");
        assert_eq!(paths(&a.mount.0), ["data", "keep", "more"]);
        // A new file there is pushed.
        a.mount.write("data/here", "h").write("keep", "changed");
        let ended = a.push().await;
        withheld(&ended, 2, "data");
        assert_eq!((ended.report().added, ended.report().changed), (1, 1));
        withheld(&a.sync().await, 2, "data");
        b.pull().await.clean();
        assert_eq!(
            (b.mount.read("data/f"), b.mount.read("data/here")),
            ("changed".to_owned(), "h".to_owned())
        );
        // The file system is back, and everything goes on as before. It hides what was created in its place.
        a.mount.remove("data/here");
        withheld_but(&a.push().await, 2, 1);
        all.mount();
        all_there(&a.push().await);
        let ended = a.pull().await;
        all_there(&ended);
        assert_eq!((a.mount.read("data/f"), a.mount.has("data/new")), ("changed".to_owned(), true));
        assert!(!a.mount.has("data/sub/g"));
        all_there(&a.push().await);
        all_there(&b.pull().await);
        assert_eq!(paths(&b.mount.at("data")), paths(&a.mount.at("data")));
    }
}

#[tokio::test]
async fn d7_the_place_is_missing_a_file_or_holds_what_was_hidden() {
    if !may_mount("d7_the_place_is_missing_a_file_or_holds_what_was_hidden") {
        return;
    }
    let all = Mounted::new(false).await;
    let a = &all.a;
    all.unmount();
    a.mount.remove("data");
    withheld(&a.push().await, 2, "data");
    withheld(&a.pull().await, 2, "data");
    assert!(!a.mount.has("data"));
    a.mount.write("data", "a file");
    withheld(&a.push().await, 2, "data");
    a.mount.remove("data").dir("data").mode("data", 0o700);
    withheld(&a.push().await, 2, "data");
    // An older version of its files, as an image has it below a volume, does not count as a change.
    a.mount.write("data/f", "older");
    withheld(&a.push().await, 2, "data");
    withheld(&a.pull().await, 2, "data");
    assert_eq!((all.world.head().await.number, a.mount.read("data/f")), (2, "older".to_owned()));
    all.mount();
    all_there(&a.push().await);
    assert_eq!(all.world.head().await.number, 2);
}

#[tokio::test]
async fn d7_a_fresh_file_system_in_its_place_is_a_lost_one() {
    if !may_mount("d7_a_fresh_file_system_in_its_place_is_a_lost_one") {
        return;
    }
    let all = Mounted::new(false).await;
    let a = &all.a;
    all.unmount();
    tmpfs(a.mount.at("data"));
    for _ in 0..2 {
        withheld(&a.push().await, 2, "data");
        withheld(&a.pull().await, 2, "data");
    }
    a.mount.write("data/other", "o").dir("data/sub");
    let ended = a.push().await;
    withheld(&ended, 2, "data");
    assert_eq!(ended.report().added, 1, "the directory is there for what was in it");
    // With `--only`, the missing files are no evidence of a lost file system.
    let mut part = a.clone();
    part.options.only = vec!["data/f".parse().unwrap()];
    part.push().await.clean();
    assert_eq!(paths(&a.mount.0), ["data", "data/other", "data/sub", "keep"]);
}

#[tokio::test]
async fn d7_allow_empty_mount_says_that_it_was_meant() {
    if !may_mount("d7_allow_empty_mount_says_that_it_was_meant") {
        return;
    }
    for fresh in [false, true] {
        let all = Mounted::new(false).await;
        let mut a = all.a.clone();
        all.unmount();
        if fresh {
            tmpfs(a.mount.at("data"));
        }
        withheld(&a.push().await, 2, "data");
        a.options.allow_empty_mount = true;
        assert_eq!(a.pull().await.clean().unmounted, 0);
        assert!(!a.mount.has("data/f"));
        assert_eq!(a.push().await.clean().deleted, 2);
        a.options.allow_empty_mount = false;
        all_there(&a.push().await);
        all_there(&all.b.pull().await);
        assert!(!all.b.mount.has("data/f"));
        // From now on the files belong to the file system that is there now.
        a.mount.write("data/g", "g").write("data/h", "h");
        all_there(&a.push().await);
        a.mount.remove("data/g");
        assert_eq!(a.push().await.clean().deleted, 1);
    }
}

#[tokio::test]
async fn d7_deletions_on_a_file_system_that_is_there_are_deletions() {
    if !may_mount("d7_deletions_on_a_file_system_that_is_there_are_deletions") {
        return;
    }
    for bound in [false, true] {
        let all = Mounted::new(bound).await;
        let (a, b) = (&all.a, &all.b);
        a.mount.remove("data/f").rename("data/sub", "data/moved");
        a.mount.write("data/sub/g", "stays");
        assert_eq!(a.push().await.clean().deleted, 1);
        b.pull().await.clean();
        assert_eq!(paths(&a.mount.0), paths(&b.mount.0));
        // On a machine without this file system its files are deleted as usual.
        b.mount.remove("data/moved/g").remove("data/moved");
        assert_eq!(b.push().await.clean().deleted, 1);
    }
}

#[tokio::test]
async fn d7_what_a_file_system_is_mounted_over_is_withheld() {
    if !may_mount("d7_what_a_file_system_is_mounted_over_is_withheld") {
        return;
    }
    let world = World::memory().await;
    let (a, b) = (world.machine("a"), world.machine("b"));
    a.mount.write("keep", "k").write("data/f", "f").write("data/d/g", "g");
    all_there(&a.push().await);
    tmpfs(a.mount.at("data"));
    a.mount.write("data/d/new", "n");
    let ended = a.push().await;
    withheld(&ended, 2, "data");
    assert_eq!(ended.report().added, 1);
    withheld(&a.pull().await, 2, "data");
    a.mount.write("data/f", "another");
    withheld(&a.push().await, 1, "data");
    b.pull().await.clean();
    assert_eq!((b.mount.read("data/f"), b.mount.read("data/d/g")), ("another".to_owned(), "g".to_owned()));
    unmount(a.mount.at("data"));
    // Now the files below are visible, and those of the file system are missing.
    withheld(&a.push().await, 2, "data");
    tmpfs(a.mount.at("data"));
    a.mount.write("data/f", "another").write("data/d/new", "n");
    withheld(&a.push().await, 1, "data");
    assert_eq!(world.head().await.number, 4);
}

#[tokio::test]
async fn d7_several_file_systems_one_in_another() {
    if !may_mount("d7_several_file_systems_one_in_another") {
        return;
    }
    let world = World::memory().await;
    let a = world.machine("a");
    let disks: Vec<PathBuf> = ["one", "two", "three"].map(|name| world.outside().dir(name).at(name)).into();
    for disk in &disks {
        tmpfs(disk);
    }
    a.mount.write("keep", "k").dir("a").dir("b");
    bind(&disks[0], a.mount.at("a"));
    a.mount.dir("a/x");
    bind(&disks[1], a.mount.at("a/x"));
    bind(&disks[2], a.mount.at("b"));
    a.mount.write("a/f", "f").write("a/x/g", "g").write("a/y", "y").write("b/h", "h").mode("b", 0o700);
    all_there(&a.push().await);
    unmount(a.mount.at("a/x"));
    withheld(&a.push().await, 1, "a/x");
    bind(&disks[1], a.mount.at("a/x"));
    all_there(&a.push().await);
    unmount(a.mount.at("a/x"));
    unmount(a.mount.at("a"));
    let ended = a.push().await;
    withheld(&ended, 3, "a");
    assert!(ended.warned("`a/x`"), "{:?}", ended.noted);
    unmount(a.mount.at("b"));
    // Withheld is also the directory's own entry, which it has because of its mode.
    let ended = a.pull().await;
    withheld(&ended, 5, "b");
    bind(&disks[0], a.mount.at("a"));
    bind(&disks[1], a.mount.at("a/x"));
    bind(&disks[2], a.mount.at("b"));
    all_there(&a.sync().await);
    assert_eq!(world.head().await.number, 2);
}

#[tokio::test]
async fn d7_the_mount_itself_is_lost_with_all_below() {
    if !may_mount("d7_the_mount_itself_is_lost_with_all_below") {
        return;
    }
    let all = Mounted::new(true).await;
    let a = &all.a;
    all.unmount();
    let away = a.mount.0.with_file_name("away");
    fs::rename(&a.mount.0, &away).unwrap();
    fs::create_dir(&a.mount.0).unwrap();
    // Now it is another directory, with a few other files.
    a.mount.write("fresh", "1").write("other/fresh", "2");
    let ended = a.push().await;
    assert!(ended.warned("treating it as lost") && ended.warned("`data`"), "{:?}", ended.noted);
    let report = ended.report();
    assert_eq!((report.added, report.deleted, report.held_back, report.unmounted), (2, 0, 1, 2));
    withheld(&a.pull().await, 2, "data");
    assert_eq!(paths(&a.mount.0), ["fresh", "keep", "other", "other/fresh"]);
    // A pull into an empty mount gets everything, like a new machine.
    a.mount.clear();
    a.pull().await.clean();
    assert_same(&all.b.mount.at("data"), &a.mount.at("data"));
    all_there(&a.push().await);
}

#[tokio::test]
async fn d7_a_file_that_is_mounted_over_a_file() {
    if !may_mount("d7_a_file_that_is_mounted_over_a_file") {
        return;
    }
    let world = World::memory().await;
    let (a, b) = (world.machine("a"), world.machine("b"));
    let config = world.outside().write("config", "config").at("config");
    a.mount.write("keep", "k").write("config", "");
    bind(&config, a.mount.at("config"));
    all_there(&a.push().await);
    b.pull().await.clean();
    assert_eq!(b.mount.read("config"), "config");
    a.mount.write("config", "edited");
    all_there(&a.push().await);
    // The empty file below, over which the other was mounted, is visible now.
    unmount(a.mount.at("config"));
    withheld(&a.push().await, 1, "config");
    withheld(&a.pull().await, 1, "config");
    assert_eq!(a.mount.read("config"), "");
    b.pull().await.clean();
    assert_eq!(b.mount.read("config"), "edited");
    bind(&config, a.mount.at("config"));
    all_there(&a.push().await);
}

#[tokio::test]
async fn d7_a_file_system_goes_away_in_the_middle_of_a_push() {
    if !may_mount("d7_a_file_system_goes_away_in_the_middle_of_a_push") {
        return;
    }
    let all = Mounted::new(false).await;
    let mut a = all.a.clone();
    a.mount.write("data/f", "changed").write("data/sub/g", "changed as well");
    let at = a.mount.at("data");
    // The first read of a file there makes the file system go away.
    a.env = Env::real().with_file_faults(Meanwhile::new(move |_, path| {
        if path.starts_with(&at) && path.is_file() {
            unmount(&at);
        }
    }));
    let ended = a.push().await;
    assert_eq!(ended.report().deleted, 0, "{:?}", ended.noted);
    all.b.pull().await.clean();
    assert!(all.b.mount.has("data/f") && all.b.mount.has("data/sub/g"));
}

#[tokio::test]
async fn l20_one_file_system_stays_out_in_both_directions() {
    if !may_mount("l20_one_file_system_stays_out_in_both_directions") {
        return;
    }
    for bound in [false, true] {
        let all = Mounted::new(bound).await;
        let (mut a, b) = (all.a.clone(), &all.b);
        a.options.one_file_system = true;
        a.mount
            .remove("data/f")
            .write("data/sub/g", "changed")
            .write("data/here", "h")
            .write("keep", "changed");
        let ended = a.push().await;
        assert_eq!((ended.clean().changed, ended.report().added, ended.report().deleted), (1, 0, 0));
        assert_eq!(a.push().await.clean().parent, None);
        b.pull().await.clean();
        b.mount.write("data/f", "there").write("data/new", "n").remove("data/sub/g").write("more", "m");
        b.push().await.clean();
        assert_eq!(a.pull().await.clean().added, 1);
        assert_eq!(paths(&a.mount.0), ["data", "data/here", "data/sub", "data/sub/g", "keep", "more"]);
        assert_eq!(a.mount.read("data/sub/g"), "changed");
        // With `--one-file-system` nothing is missing when it is gone.
        all.unmount();
        all_there(&a.push().await);
        all.mount();
    }
}

#[tokio::test]
async fn l20_a_fresh_machine_gets_a_plain_directory_and_deletes_nothing() {
    if !may_mount("l20_a_fresh_machine_gets_a_plain_directory_and_deletes_nothing") {
        return;
    }
    let all = Mounted::new(false).await;
    let fresh = all.world.machine("fresh");
    fresh.pull().await.clean();
    assert_same(&all.b.mount.0, &fresh.mount.0);
    assert_eq!(fresh.push().await.clean().parent, None);
    fresh.lose_state();
    assert_eq!(fresh.push().await.clean().deleted, 0);
    all_there(&all.a.push().await);
}

#[tokio::test]
async fn l20_what_is_on_another_file_system_is_brought_changed_and_removed() {
    if !may_mount("l20_what_is_on_another_file_system_is_brought_changed_and_removed") {
        return;
    }
    for bound in [false, true] {
        let all = Mounted::new(bound).await;
        let (a, b) = (&all.a, &all.b);
        b.mount
            .write("data/f", "changed")
            .write("data/deep/er/new", "n")
            .link("data/link", "f")
            .dir("data/void");
        b.mount.remove("data/sub").write("data/sub", "a file now").write("data/big", vec![7; 9 << 20]);
        b.mount.mode("data/deep/er/new", 0o600).write("data/empty", "").write("keep", "changed");
        b.push().await.clean();
        a.pull().await.clean();
        assert_same(&a.mount.0, &b.mount.0);
        assert_eq!(a.push().await.clean().parent, None);
        // Both sides change the file.
        a.mount.write("data/f", "here");
        b.mount.write("data/f", "there");
        b.push().await.clean();
        assert_eq!(a.pull().await.report().conflicts, 1);
        assert_eq!(paths(&a.mount.at("data")).iter().filter(|path| path.contains(".conflict-")).count(), 1);
        assert!(!paths(&a.mount.0).iter().any(|path| path.contains("ctxsync-stage")));
    }
}

#[tokio::test]
async fn l20_a_download_that_dies_leaves_nothing_on_another_file_system() {
    if !may_mount("l20_a_download_that_dies_leaves_nothing_on_another_file_system") {
        return;
    }
    let all = Mounted::new(false).await;
    let (a, b) = (&all.a, &all.b);
    b.mount.write("data/f", "changed").write("data/new", "n").write("keep", "changed").remove("data/sub/g");
    b.push().await.clean();
    for lives in 0.. {
        let mut dying = a.clone();
        let death = Death::after(lives);
        dying.env = Env::real().with_file_faults(death.clone());
        let ended = dying.pull().await;
        let done = ended.result.is_ok_and(|report| !report.is_incomplete());
        // The files that were not pulled yet do not count as deleted here.
        let push = a.push().await;
        assert_eq!((push.report().deleted, push.report().unmounted), (0, 0), "{lives}: {:?}", push.noted);
        if done {
            break;
        }
    }
    a.pull().await.clean();
    assert_same(&a.mount.0, &b.mount.0);
}

#[tokio::test]
async fn p5_a_full_file_system_below_holds_up_nothing_else() {
    if !may_mount("p5_a_full_file_system_below_holds_up_nothing_else") {
        return;
    }
    let world = World::memory().await;
    let (a, b) = (world.machine("a"), world.machine("b"));
    a.mount.write("data/large", vec![1; 3 << 20]).write("data/small", "s").write("other", "o");
    a.push().await.clean();
    b.mount.dir("data");
    small_tmpfs(b.mount.at("data"), "1m");
    let ended = b.pull().await;
    assert!(ended.report().failed > 0, "{:?}", ended.noted);
    assert!(ended.noted.problems[0].starts_with("data/large"), "{:?}", ended.noted.problems);
    assert!(b.mount.has("other"));
}
