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
fn the_home_directory_is_saved_with_a_warning_unless_it_is_named() {
    let machine = machine();
    let home = home(&machine);
    let at_home = [("HOME", &*home)];
    let (warning, hint) = ("this saves the whole home directory", "if it is meant, name it: ");
    let first = machine.call_with(&at_home, &["push", "c"]);
    assert!(first.code == 0 && first.err.contains(warning) && first.err.contains(hint), "{}", first.seen());
    // Once it is synced, it is known to be meant.
    machine.write("f", "other");
    let second = machine.call_with(&at_home, &["push", "c"]);
    assert!(second.code == 0 && !second.err.contains(warning), "{}", second.seen());
    let named = machine.call_with(&at_home, &["push", "d", &home]);
    assert!(named.code == 0 && !named.err.contains(warning), "{}", named.seen());
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
    let mixed_up = machine.done(&["push", "src"]);
    assert!(mixed_up.err.contains("`src` is taken for the name of a context"), "{}", mixed_up.seen());
    machine.done(&["push", "c", "src"]);
    std::fs::create_dir(machine.path(".ssh")).unwrap();
    let keys = machine.done(&["sync", "d"]);
    assert!(keys.err.contains("which holds keys (.ssh)"), "{}", keys.seen());
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
