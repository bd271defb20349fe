//! A directory that was not named, and is probably not meant.

use std::io::Write;

use crate::world::{Machine, World};

/// A machine whose current directory has a file.
fn machine() -> Machine {
    let machine = World::new().machine("a");
    machine.write("f", "x");
    machine
}

fn home(machine: &Machine) -> String {
    machine.path("").to_str().unwrap().to_owned()
}

#[test]
fn the_home_directory_has_to_be_named() {
    let machine = machine();
    let home = home(&machine);
    let at_home = [("HOME", &*home)];
    let (warning, hint) = ("this saves the whole home directory", "if it is meant, name it: ");
    for command in ["push", "sync"] {
        let refused = machine.call_with(&at_home, &[command, "c"]);
        let is_told = refused.err.contains(warning) && refused.err.contains(hint);
        assert!(refused.code == 2 && is_told, "{}", refused.seen());
    }
    let named = machine.call_with(&at_home, &["push", "c", &home]);
    assert!(named.code == 0 && !named.err.contains(warning), "{}", named.seen());
    // Once it is synced, it is known to be meant.
    machine.write("f", "other");
    let second = machine.call_with(&at_home, &["push", "c"]);
    assert!(second.code == 0 && !second.err.contains(warning), "{}", second.seen());
    // A session begins with a warning.
    let run = machine.call_with(&at_home, &["run", "-c", "e", "--", "true"]);
    assert!(run.code == 0 && run.err.contains(warning), "{}", run.seen());
    let read_only = machine.call_with(&at_home, &["run", "-c", "c", "--read-only", "--", "true"]);
    assert!(read_only.code == 0 && !read_only.err.contains(warning), "{}", read_only.seen());
    // What changes nothing needs no question.
    let planned = machine.call_with(&at_home, &["plan", "push", "f"]);
    assert!(planned.code == 0 && !planned.err.contains(warning), "{}", planned.seen());
}

#[test]
fn keys_at_the_top_and_a_context_named_like_a_directory_are_said() {
    let machine = machine();
    machine.write("src/f", "x");
    let mixed_up = machine.call(&["push", "src"]);
    assert!(
        mixed_up.code == 2 && mixed_up.err.contains("`src` is taken for the name of a context"),
        "{}",
        mixed_up.seen()
    );
    machine.done(&["push", "c", "src"]);
    for keys in [".ssh/id", ".netrc", ".aws/credentials"] {
        let machine = self::machine();
        machine.write(keys, "secret");
        let refused = machine.call(&["sync", "d"]);
        let shown = keys.strip_suffix("/id").unwrap_or(keys);
        let is_told = refused.err.contains(&format!("which holds keys ({shown})"));
        assert!(refused.code == 2 && is_told, "{}", refused.seen());
        let run = machine.done(&["run", "-c", "d", "--", "true"]);
        assert!(run.err.contains("which holds keys"), "{}", run.seen());
    }
}

#[test]
fn on_a_terminal_it_is_asked() {
    let machine = machine();
    for (answer, code) in [("n\n", 1), ("\n", 1), ("y\n", 0)] {
        let home = home(&machine);
        let mut command = machine.on_terminal(&[("HOME", &home)], "push c");
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(answer.as_bytes()).unwrap();
        let ended = machine.ended(child.wait_with_output().unwrap());
        assert!(ended.code == code && ended.out.contains("Go on? [y/N]"), "{}", ended.seen());
    }
    assert_eq!(machine.done(&["log", "c"]).out.lines().count(), 2);
}

/// Whoever syncs a directory of a mount with the whole context, or a directory above it, has probably mistaken where they
/// are.
#[test]
fn a_directory_in_a_mount_or_above_it_is_said() {
    let machine = World::new().machine("a");
    machine.write("w/docs/f", "x");
    machine.done(&["push", "c", "w"]);
    let (inside, above) = ("this syncs it with all of c", "this syncs all of ");
    for command in ["push", "pull", "sync"] {
        let warned = machine.done(&[command, "c", "w/docs"]);
        let is_first = command == "push";
        assert!(warned.err.contains(inside) == is_first, "{}", warned.seen());
        assert!(!is_first || warned.err.contains("w --only docs"), "{}", warned.seen());
        let warned = machine.done(&["push", "c", "."]);
        assert!(warned.err.contains(above) == is_first, "{}", warned.seen());
    }
    // Another context, or a part of this one, is meant to be there.
    for context in ["d", "c:docs"] {
        let other = machine.done(&["push", context, "w/docs"]);
        assert!(!other.err.contains("warning"), "{}", other.seen());
    }
    let pulled = machine.done(&["pull", "c", "w/docs/new"]);
    assert!(pulled.err.contains(inside), "{}", pulled.seen());
    let run = machine.done(&["run", "-c", "c", "w/docs/other", "--", "true"]);
    assert!(run.err.contains(inside), "{}", run.seen());
}

/// A forgotten `--store` must not go unnoticed: the other store is made, or has a context of the same name.
#[test]
fn a_mount_of_another_store_is_said_once() {
    let machine = World::new().machine("a");
    machine.write("w/f", "x");
    let other = machine.path("other");
    let other = other.to_str().unwrap();
    machine.done(&["push", "c", "w", "--store", other]);
    for is_first in [true, false] {
        let warned = machine.done(&["push", "c", "w"]);
        assert_eq!(
            warned.err.contains(&format!("was synced with c in {other} so far")),
            is_first,
            "{}",
            warned.seen()
        );
        assert_eq!(
            warned.err.contains(&format!("to go on there: --store {other}")),
            is_first,
            "{}",
            warned.seen()
        );
    }
    // A sync that failed says nothing of where the directory belongs.
    let nowhere = machine.call(&["push", "e", "w", "--store", "/proc/none"]);
    assert!(
        nowhere.code != 0 && !machine.done(&["push", "e", "w"]).err.contains("so far"),
        "{}",
        nowhere.seen()
    );
    // Each of the two is known by now.
    assert!(!machine.done(&["push", "c", "w", "--store", other]).err.contains("so far"));
    let status = machine.done(&["status", "w"]);
    assert_eq!(status.out.matches("context c in ").count(), 2, "{}", status.seen());
    // Nor is a store asked about that is named.
    assert!(!machine.done(&["push", "c", "w", "--store", "third"]).err.contains("so far"));
}

/// Once a day, and to whoever sits at a terminal.
#[test]
fn a_store_on_this_machine_is_said_to_be_there() {
    let machine = machine();
    let hint = "the store is on this machine's disk, and lost with it";
    let typed = |args: &str| machine.ended(machine.on_terminal(&[], args).output().unwrap());
    assert!(!machine.done(&["push", "c", "."]).err.contains(hint));
    assert!(!typed("push c . --store other").out.contains(hint));
    let first = typed("push c .");
    assert!(first.code == 0 && first.out.contains(hint), "{}", first.seen());
    assert!(!typed("push c .").out.contains(hint));
    // A day later.
    let said = std::fs::File::open(machine.state_file("reminded"));
    let yesterday = std::time::SystemTime::now() - std::time::Duration::from_hours(25);
    said.unwrap().set_modified(yesterday).unwrap();
    assert!(typed("run -c c . -- true").out.contains(hint));
}

/// A directory that is odd is refused, also if there is a mount in it.
#[test]
fn a_home_directory_with_a_mount_in_it_is_refused() {
    let machine = machine();
    machine.write("w/f", "x");
    machine.done(&["push", "c", "w"]);
    let home = home(&machine);
    let refused = machine.call_with(&[("HOME", &home)], &["push", "c"]);
    assert!(refused.code == 2 && refused.err.contains("the whole home directory"), "{}", refused.seen());
}

/// A sync that fails does not make a directory unknown.
#[test]
fn a_mount_that_was_synced_is_known_after_a_failure() {
    let machine = World::new().machine("a");
    machine.write("w/f", "x");
    machine.done(&["push", "c", "w", "--store", "other"]);
    machine.done(&["push", "c", "w"]);
    machine.write("w/f", "other");
    machine.call(&["push", "c", "w", "--max-upload", "1"]);
    let again = machine.done(&["push", "c", "w"]);
    assert!(!again.err.contains("so far"), "{}", again.seen());
}

#[test]
fn what_is_restored_into_a_mount_is_saved_with_it() {
    let machine = machine();
    machine.write("work/f", "x");
    machine.done(&["push", "c", "work"]);
    let inside = machine.call(&["restore", "c", "work/old"]);
    let warning = "a mount of c: the next push there saves it as well";
    assert!(inside.code == 0 && inside.err.contains(warning), "{}", inside.seen());
    let outside = machine.call(&["restore", "c", "elsewhere"]);
    assert!(outside.code == 0 && !outside.err.contains("warning"), "{}", outside.seen());
}
