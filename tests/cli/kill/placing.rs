//! What happens to a file right after a pull has put it in place, and before the pull has looked at it again.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use ctxsync_tests::trace::{Act, Errno, Ran, may_trace, trace};
use ctxsync_tests::tree::Tree;

use crate::place::Place;

/// Pulls a file, new or changed, and does something when the pull looks at what it has just put in place: it asks
/// for the state of the path, for the first time since it was renamed to it. Returns the place after the next sync.
fn pulled(is_new: bool, mut at_look: impl FnMut(&Tree) -> Act) -> (Place, Ran) {
    let place = Place::new(0);
    let (a, b) = (place.mount("a"), place.mount("b"));
    a.write("d/file", "as it was").write("other", "always there");
    place.run("push", "a");
    if !is_new {
        place.run("pull", "b");
        a.write("d/file", "as the context has it");
        place.run("push", "a");
    }
    let file = b.at("d/file");
    let (mut is_placed, mut is_met) = (false, false);
    let ran = trace(&place.command("pull", "b"), |call| {
        let is_about = |path: &Path| call.objects().last().is_some_and(|object| object == path);
        if call.name() == "renameat2" && is_about(&file) {
            is_placed = true;
        } else if is_placed && !is_met && matches!(call.name(), "newfstatat" | "statx") && is_about(&file) {
            is_met = true;
            return at_look(&b);
        }
        Act::Go
    });
    assert!(is_met, "{ran:?}");
    (place, ran)
}

/// Fails unless the next sync takes what a program did to the pulled file for a change of this side alone.
fn assert_pushed(place: &Place, expected: Option<&str>) {
    place.run("sync", "b");
    let b = place.mount("b");
    let copies: Vec<String> = b.files().into_iter().filter(|name| name.contains(".conflict-")).collect();
    assert!(copies.is_empty(), "{copies:?}");
    place.fresh();
    let fresh = place.mount("fresh");
    assert_eq!(fresh.has("d/file").then(|| fresh.read("d/file")).as_deref(), expected);
    assert_eq!(b.has("d/file").then(|| b.read("d/file")).as_deref(), expected);
}

fn replace(mount: &Tree) {
    mount.write("d/file~", "saved here");
    std::fs::rename(mount.at("d/file~"), mount.at("d/file")).unwrap();
}

#[test]
fn a_file_that_is_saved_right_after_it_was_pulled_is_no_conflict() {
    for is_new in [true, false] {
        if !may_trace() {
            return;
        }
        let (place, ran) = pulled(is_new, |mount| {
            replace(mount);
            Act::Go
        });
        assert_eq!(ran.code(), Some(0), "{ran:?}");
        assert_pushed(&place, Some("saved here"));
    }
}

#[test]
fn a_file_that_is_deleted_right_after_it_was_pulled_does_not_come_back() {
    for is_new in [true, false] {
        if !may_trace() {
            return;
        }
        let (place, ran) = pulled(is_new, |mount| {
            mount.remove("d/file");
            Act::Go
        });
        assert_eq!(ran.code(), Some(0), "{ran:?}");
        assert_pushed(&place, None);
    }
}

#[test]
fn p6_a_pull_that_cannot_look_at_what_it_put_in_place_knows_that_it_is_there() {
    for is_new in [true, false] {
        if !may_trace() {
            return;
        }
        let (place, ran) = pulled(is_new, |_| Act::Fail(Errno::ENOMEM));
        assert_eq!(ran.code(), Some(0), "{ran:?}");
        replace(&place.mount("b"));
        assert_pushed(&place, Some("saved here"));
    }
}

#[test]
fn p1_a_pull_that_is_killed_after_it_put_a_file_in_place_knows_that_it_is_there() {
    for is_new in [true, false] {
        if !may_trace() {
            return;
        }
        let (place, ran) = pulled(is_new, |mount| {
            replace(mount);
            Act::Kill
        });
        assert!(ran.is_killed(), "{ran:?}");
        assert_pushed(&place, Some("saved here"));
    }
}

/// A user other than root.
const USER: u32 = 54_321;

/// Returns a command as another user runs it, to whom everything of the place belongs now.
fn by_another_user(place: &Place, command: &Command) -> Command {
    let program = place.path("ctxsync");
    if !program.exists() {
        // That user may have no access to the build directory.
        std::fs::copy(command.get_program(), &program).unwrap();
    }
    let owner = format!("{USER}:{USER}");
    assert!(Command::new("chown").args(["-Rh", &owner]).arg(place.path("")).status().unwrap().success());
    let mut theirs = Command::new("setpriv");
    theirs
        .args([&format!("--reuid={USER}"), "--clear-groups"])
        .arg(program)
        .args(command.get_args())
        .env_clear();
    theirs.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    theirs.current_dir(command.get_current_dir().unwrap());
    theirs
}

#[test]
fn p1_a_read_only_directory_stays_so_if_a_pull_into_it_is_killed() {
    if !may_trace() || !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: only root can become a user who needs permissions");
        return;
    }
    let place = Place::new(0);
    let (a, b) = (place.mount("a"), place.mount("b"));
    a.write("closed/file", "1").mode("closed", 0o555);
    place.run("push", "a");
    let theirs = |verb| by_another_user(&place, &place.command(verb, "b"));
    let run = |verb| assert!(theirs(verb).output().unwrap().status.success());
    run("pull");
    a.write("closed/new", "2");
    place.run("push", "a");
    let ran = trace(&theirs("pull"), |call| {
        let is_placing = call.name() == "renameat2" && call.objects().last() == Some(&b.at("closed/new"));
        if is_placing { Act::Kill } else { Act::Go }
    });
    let mode_in = |mount: &Tree| mount.at("closed").metadata().unwrap().permissions().mode() & 0o777;
    assert!(ran.is_killed() && mode_in(&b) == 0o755, "{ran:?}");
    run("push");
    run("pull");
    place.run("pull", "a");
    assert_eq!((mode_in(&a), mode_in(&b)), (0o555, 0o555));
    assert_eq!(b.read("closed/new"), "2");
}
