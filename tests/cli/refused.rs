//! Input that can only be a mistake.

use std::process::{Command, Stdio};

use crate::world::{Ended, Machine, World};

/// Calls the program by a shell, which can close its standard streams.
fn shell(machine: &Machine, script: &str) -> Ended {
    let like = machine.command([""; 0]);
    let mut command = Command::new("sh");
    command.args(["-c", script]).current_dir(machine.path("")).env_clear().stdin(Stdio::null());
    command.envs(like.get_envs().filter_map(|(name, value)| Some((name, value?))));
    machine.ended(command.output().unwrap())
}

#[test]
fn l21_put_empties_no_file_by_accident() {
    let machine = World::new().machine("a");
    machine.write("work/db", "content");
    machine.done(&["push", "c", "work"]);
    for script in [
        "$PROGRAM put c:db <&-",
        "$PROGRAM put c:db - <&-",
        "$PROGRAM put c:db </dev/null",
        "false | $PROGRAM put c:db",
        "$PROGRAM put c:db <home/none/f || exit 2",
    ] {
        let ended = shell(&machine, script);
        assert_eq!(ended.code, 2, "{script}: {}", ended.err);
        assert_eq!(machine.done(&["cat", "c:db"]).out, "content", "{script}");
    }
    for script in
        ["printf '' | $PROGRAM put c:db -", "$PROGRAM put c:db - </dev/null", "$PROGRAM put c:db /dev/null"]
    {
        assert_eq!(shell(&machine, "printf content | $PROGRAM put c:db").code, 0);
        let ended = shell(&machine, script);
        assert_eq!(ended.code, 0, "{script}: {}", ended.err);
        assert_eq!(machine.done(&["cat", "c:db"]).out, "", "{script}");
    }
}

#[test]
fn n17_only_a_path_that_one_side_has() {
    let world = World::new();
    let machine = world.machine("a");
    machine.write("work/a/f", "x");
    machine.write("work/g", "x");
    for command in [&["push"][..], &["sync"], &["plan", "push"]] {
        let ended = machine.call(&[command, &["c", "work", "--only", "h"]].concat());
        assert_eq!(ended.code, 10, "{command:?} {}", ended.err);
    }
    machine.done(&["push", "c", "work"]);
    for command in
        [&["push"][..], &["pull"], &["sync"], &["plan", "push"], &["plan", "pull"], &["push", "-n"]]
    {
        let ended = machine.call(&[command, &["c", "work", "--only", "a", "--only", "h/i"]].concat());
        assert_eq!(ended.code, 10, "{command:?} {}", ended.err);
        assert!(ended.err.contains("no `h/i` in context c or in "), "{}", ended.err);
        for there in ["a", "a/f", "g", "."] {
            machine.done(&[command, &["c", "work", "--only", there]].concat());
        }
    }
    // A path that exists on one side only counts as existing.
    std::fs::remove_file(machine.path("work/g")).unwrap();
    machine.done(&["push", "c", "work", "--only", "g"]);
    let other = world.machine("b");
    other.done(&["pull", "c", "work", "--only", "a"]);
    assert!(other.has("work/a/f"));
    assert_eq!(other.call(&["pull", "c", "work", "--only", "g"]).code, 10);
}
