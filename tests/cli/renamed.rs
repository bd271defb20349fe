//! A context that is renamed while a session works on it.

use nix::sys::signal::Signal;

use crate::running::{Running, until};
use crate::world::{Machine, World};

fn files(machine: &Machine, context: &str) -> Vec<String> {
    let listed = machine.done(&["ls", context]).out;
    listed.lines().filter_map(|line| line.split_whitespace().last().map(str::to_owned)).collect()
}

fn machine() -> (World, Machine) {
    let world = World::new();
    let machine = world.machine("a");
    for file in ["changed", "deleted", "kept"] {
        machine.write(&format!("work/{file}"), "1");
    }
    machine.done(&["push", "c", "work"]);
    (world, machine)
}

#[test]
fn the_end_of_a_session_saves_under_the_new_name() {
    let (world, machine) = machine();
    let script =
        "touch started; while ! test -e stop; do sleep 0.02; done; rm deleted started stop; echo 2 >changed";
    let running = Running::start(&machine, &["--json"], script);
    let other = world.machine("b");
    other.done(&["context", "rename", "c", "d"]);
    // Another machine goes on under the new name.
    other.done(&["pull", "d", "work"]);
    other.write("work/theirs", "1");
    other.done(&["push", "d", "work"]);
    machine.write("work/stop", "");
    let ended = running.end();
    assert_eq!(ended.code, 0, "{}", ended.err);
    assert!(ended.err.contains("context `c` was renamed to `d`"), "{}", ended.err);
    assert!(ended.err.contains("\"context\":\"d\""), "{}", ended.err);
    // No conflict, and no deletion is forgotten.
    assert_eq!(files(&machine, "d"), ["changed", "kept", "theirs"]);
    assert_eq!(machine.done(&["cat", "d:changed"]).out, "2\n");
    assert_eq!(machine.call(&["ls", "c"]).code, 10);
    machine.done(&["run", "--wait", "-c", "d", "work", "--", "test", "-e", "theirs"]);
}

#[test]
fn checkpoints_and_what_is_asked_from_inside_follow_it() {
    let (world, machine) = machine();
    let script = "touch started; while ! test -e stop; do sleep 0.02; done; rm started stop; \
                  \"$PROGRAM\" push c . && \"$PROGRAM\" push d . && \"$PROGRAM\" pull c .";
    let running = Running::start(&machine, &[], script);
    world.machine("b").done(&["context", "rename", "c", "d"]);
    machine.write("work/stop", "");
    let ended = running.end();
    assert_eq!(ended.code, 0, "{}{}", ended.out, ended.err);
    let running = Running::spawn(&machine, machine.command(["watch", "d", "work"]));
    machine.write("work/first", "1");
    until("it is watched", || files(&machine, "d").contains(&"first".to_owned()));
    world.machine("b").done(&["context", "rename", "d", "e"]);
    machine.write("work/second", "1");
    std::fs::remove_file(machine.path("work/deleted")).unwrap();
    until("it is followed", || machine.call(&["ls", "e"]).out.contains("second"));
    running.send(Signal::SIGTERM);
    let ended = running.end();
    assert_eq!(ended.code, 0, "{}", ended.err);
    assert_eq!(files(&machine, "e"), ["changed", "first", "kept", "second"]);
}
