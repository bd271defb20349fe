//! Long results go through a pager if stdout is a terminal.

use std::io::{Read, Write};

use crate::world::{Ended, Machine, World};

fn machine() -> Machine {
    let machine = World::new().machine("a");
    for number in 0..3 {
        machine.write(&format!("work/f{number}"), "x");
        machine.done(&["push", "c", "work"]);
    }
    machine
}

/// Calls the program on a terminal where nobody types, with this pager.
fn paged(machine: &Machine, pager: &str, args: &str) -> Ended {
    let mut command = machine.on_terminal(&[("TERM", "xterm"), ("PAGER", pager)], args);
    machine.ended(command.output().unwrap())
}

#[test]
fn long_results_go_through_the_pager() {
    let machine = machine();
    for args in ["log c", "ls c", "diff c@1 c@3", "stats", "context list"] {
        let shown = paged(&machine, "sed s/^/paged:/", args);
        assert!(
            shown.code == 0 && shown.out.lines().all(|line| line.starts_with("paged:")),
            "{}",
            shown.seen()
        );
        assert!(shown.out.contains("paged:"), "{}", shown.seen());
    }
    for args in ["log c --no-pager", "log c --json", "status work", "cat c:f1"] {
        let shown = paged(&machine, "sed s/^/paged:/", args);
        assert!(shown.code == 0 && !shown.out.contains("paged:"), "{}", shown.seen());
    }
    for plain in ["", "cat", "no-such-pager -x"] {
        let shown = paged(&machine, plain, "ls c");
        // With the header.
        assert!(shown.code == 0 && shown.out.lines().count() == 4, "{plain}: {}", shown.seen());
    }
}

#[test]
fn an_error_is_shown_without_a_pager_and_keeps_its_code() {
    let shown = paged(&machine(), "sed s/^/paged:/", "log none");
    assert!(!shown.out.contains("paged:"), "{}", shown.seen());
    assert!(shown.code == 10 && shown.out.contains("error:"), "{}", shown.seen());
}

#[test]
fn a_pager_that_is_left_early_ends_the_command() {
    let shown = paged(&machine(), "head -n 1", "ls c");
    assert!(shown.code == 0 && shown.out.lines().count() == 1, "{}", shown.seen());
}

/// Ctrl-C is for the pager: the program waits until the user leaves it, so that the shell does not get the terminal
/// before.
#[test]
fn the_program_outlives_an_interrupted_pager() {
    let machine = machine();
    // Longer than the program takes to end after a signal that nothing reacts to.
    machine
        .write("pager", "trap 'echo interrupted' INT\ncat\necho ready\nread x </dev/tty\nsleep 2\necho left");
    let mut child =
        machine.on_terminal(&[("TERM", "xterm"), ("PAGER", "sh pager")], "log c").spawn().unwrap();
    let (mut keys, mut screen) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let mut shown = String::new();
    let mut until = |wanted: &str| {
        let mut byte = [0];
        while !shown.contains(wanted) {
            assert_eq!(screen.read(&mut byte).unwrap(), 1, "it ended before `{wanted}`: {shown}");
            shown.push(char::from(byte[0]));
        }
    };
    until("ready");
    // A shell that gets the signal right before it reads tells of it only after a line.
    keys.write_all(b"\x03\n").unwrap();
    until("interrupted");
    until("left");
    let status = child.wait().unwrap();
    assert!(status.success(), "{status:?}: {shown}");
}

/// What reads a pipe gets only the lines.
#[test]
fn columns_have_a_header_on_a_terminal_only() {
    let machine = machine();
    for (args, header) in [
        ("log c", "snapshot  time"),
        ("ls c", "kind    mode"),
        ("context list --long", "      size          files"),
    ] {
        let shown = paged(&machine, "cat", args);
        assert!(shown.code == 0 && shown.out.contains(header), "{}", shown.seen());
        let piped = machine.done(&args.split(' ').collect::<Vec<_>>());
        assert!(!piped.out.contains(header) && !piped.out.is_empty(), "{}", piped.seen());
        assert_eq!(shown.out.lines().count(), piped.out.lines().count() + 1, "{}", shown.seen());
    }
    for args in ["ls c --du", "context list", "ls c --json"] {
        let shown = paged(&machine, "cat", args);
        assert!(shown.code == 0 && !shown.out.contains("size "), "{}", shown.seen());
    }
}
