//! A mount on exFAT, which takes names that differ in case for one, and has neither links nor modes.
#![expect(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use std::fs;
use std::path::Path;
use std::process::Command;

use ctxsync_tests::machine::World;
use ctxsync_tests::mounts::{may_mount, unmount};

/// Mounts an empty exFAT; false if the programs for it are not here.
#[expect(clippy::print_stdout, reason = "who runs the tests has to see what was not tested")]
fn exfat(image: &Path, at: &Path) -> bool {
    fs::File::create(image).unwrap().set_len(64 << 20).unwrap();
    let ran = |command: &mut Command| command.output().is_ok_and(|ran| ran.status.success());
    let mounted = ran(Command::new("mkfs.exfat").arg(image))
        && ran(Command::new("mount").args(["-t", "exfat-fuse", "-o", "loop"]).args([image, at]));
    if !mounted {
        println!("skipped: exFAT can't be mounted here (Debian: exfat-fuse, exfatprogs)");
    }
    mounted
}

#[tokio::test(flavor = "multi_thread")]
async fn l17_of_names_that_the_mount_takes_for_one_all_stay_in_the_context() {
    if !may_mount("folding::l17_of_names_that_the_mount_takes_for_one_all_stay_in_the_context") {
        return;
    }
    let world = World::memory().await;
    let (a, b) = (world.machine("a"), world.machine("b"));
    if !exfat(&world.outside().at("image"), &b.mount.0) {
        return;
    }
    a.mount.write("README", "large").write("readme", "small").write("Dir/x", "1").write("dir/x", "2");
    a.mount.write("dir/y", "3").write("plain/f", "4").link("link", "README");
    a.push().await.clean();

    let pulled = b.pull().await;
    let problems = &pulled.noted.problems;
    assert!(
        problems.iter().any(|problem| problem.contains("link") && problem.contains("written")),
        "{pulled:?}"
    );
    let read = |path: &str| fs::read_to_string(b.mount.at(path)).unwrap();
    assert_eq!(read("README"), "large", "the second name has not replaced the first");
    assert_eq!((read("Dir/x"), read("plain/f")), ("1".to_owned(), "4".to_owned()));

    b.mount.write("README", "changed").write("plain/f", "changed too").write("new", "5");
    b.push().await;
    b.pull().await;
    b.push().await;
    a.pull().await.clean();
    let read = |path: &str| fs::read_to_string(a.mount.at(path)).unwrap();
    assert_eq!((read("README"), read("readme")), ("changed".to_owned(), "small".to_owned()));
    assert_eq!((read("Dir/x"), read("dir/x")), ("1".to_owned(), "2".to_owned()));
    assert_eq!((read("plain/f"), read("new")), ("changed too".to_owned(), "5".to_owned()));
    assert_eq!(fs::read_link(a.mount.at("link")).unwrap(), Path::new("README"));
    // It arrived as this one.
    assert_eq!(read("Dir/y"), "3");
    unmount(&b.mount.0);
}
