//! Commands before and after each reading of a mount: `--quiesce` and `--resume`.

use nix::sys::signal::Signal;

use crate::running::{Running, is_saved, until};
use crate::world::{Machine, World};

/// Commands that leave a trace beside the mount, and a dump inside it while it is read.
const DUMP: [&str; 4] =
    ["--quiesce", "echo q >>../trace; echo dump >dump; echo said", "--resume", "rm dump; echo r >>../trace"];

fn machine() -> Machine {
    let machine = World::new().machine("a");
    machine.write("work/f", "x");
    machine
}

fn trace(machine: &Machine) -> String {
    if machine.has("trace") { machine.read("trace").replace('\n', "") } else { String::new() }
}

#[test]
fn they_run_before_and_after_a_push_reads() {
    let machine = machine();
    machine.done(&[&["push", "-n", "c", "work"], &DUMP[..]].concat());
    assert_eq!(trace(&machine), "", "a dry run changes nothing");
    let ended = machine.done(&[&["push", "c", "work"], &DUMP[..]].concat());
    assert!(ended.err.contains("said") && !ended.out.contains("said"), "{}", ended.seen());
    assert!(is_saved(&machine, "dump") && !machine.has("work/dump"));
    assert_eq!(trace(&machine), "qr");
    machine.done(&[&["sync", "c", "work"], &DUMP[..]].concat());
    assert_eq!(trace(&machine), "qrqr");
    // `--resume` also runs if the reading fails.
    machine.write("work/large", "more than a byte");
    assert_eq!(machine.call(&[&["push", "--max-upload", "1", "c", "work"], &DUMP[..]].concat()).code, 1);
    assert_eq!(trace(&machine), "qrqrqr");
}

#[test]
fn a_push_that_cannot_be_quiesced_saves_nothing_and_is_resumed() {
    let machine = machine();
    for (quiesce, limit) in [("exit 3", "60s"), ("sleep 60", "200ms"), ("kill -9 $$", "60s")] {
        let ended = machine.call(&[
            "push",
            "c",
            "work",
            "--quiesce",
            quiesce,
            "--resume",
            "echo r >>../trace",
            "--quiesce-timeout",
            limit,
        ]);
        assert_eq!(ended.code, 1, "{}", ended.seen());
        assert!(
            ended.err.contains("cannot quiesce") && ended.err.contains("caused by: --quiesce"),
            "{}",
            ended.seen()
        );
    }
    assert_eq!(trace(&machine), "rrr");
    assert!(!machine.done(&["context", "list"]).out.contains("c"));
    // A failing `--resume` is reported, and what was read is pushed.
    let ended = machine.call(&["push", "c", "work", "--resume", "exit 4"]);
    assert_eq!(ended.code, 3, "{}", ended.seen());
    assert!(ended.err.contains("--resume ended with code 4"), "{}", ended.seen());
    assert!(is_saved(&machine, "f"));
}

#[test]
fn the_end_of_a_session_saves_also_what_cannot_be_quiesced_and_says_so() {
    let machine = machine();
    for options in [&["--quiesce", "exit 3"][..], &["--quiesce", "sleep 60", "--release-timeout", "4s"]] {
        std::fs::write(machine.path("trace"), "").unwrap();
        let resume = ["--resume", "echo r >>../trace", "--json"];
        let args = [&["run", "-c", "c", "work"], options, &resume, &["--", "touch", "new"]].concat();
        let ended = machine.call(&args);
        assert_eq!(ended.code, 3, "{}", ended.seen());
        assert!(ended.err.contains("quiescing failed; the mount is pushed as it is"), "{}", ended.seen());
        assert!(ended.err.contains("\"quiesce_failed\":true"), "{}", ended.seen());
        assert!(is_saved(&machine, "new"));
        assert_eq!(trace(&machine), "r");
    }
}

#[test]
fn each_checkpoint_is_quiesced_and_the_end_of_the_command_does_not_break_that_off() {
    let machine = machine();
    machine
        .write("p.json", r#"{"uploadPolicy": {"uploadStrategy": {"UploadPeriodically": {"seconds": 1}}}}"#);
    let options = [
        "-p",
        "p.json",
        "--quiesce",
        "echo q >>../trace; touch ../under-way",
        "--resume",
        "sleep 0.2; echo r >>../trace",
    ];
    let running = Running::start(
        &machine,
        &options,
        "touch started; while ! test -e ../under-way; do sleep 0.01; done",
    );
    let ended = running.end();
    assert_eq!(ended.code, 0, "{}", ended.err);
    let trace = trace(&machine);
    assert!(trace.len() >= 4 && trace.replace("qr", "").is_empty(), "{trace}\n{}", ended.err);
}

#[test]
fn who_is_stopped_meanwhile_ends_the_one_and_runs_the_other() {
    let machine = machine();
    let quiesce = "touch ../under-way; sleep 60; echo never >>../trace";
    let args = ["push", "c", "work", "--quiesce", quiesce, "--resume", "echo r >>../trace"];
    let running = Running::spawn(&machine, machine.command(args));
    running.wait_for("under-way");
    running.send(Signal::SIGTERM);
    let ended = running.end();
    assert_eq!(ended.code, 143, "{}", ended.err);
    until("it is resumed", || trace(&machine) == "r");
    // A session that is stopped while a checkpoint is quiesced pushes what it can.
    std::fs::remove_file(machine.path("under-way")).unwrap();
    let args = [
        "watch",
        "c",
        "work",
        "--quiesce",
        quiesce,
        "--resume",
        "echo r >>../trace",
        "--release-timeout",
        "6s",
    ];
    let running = Running::spawn(&machine, machine.command(args));
    running.wait_for("under-way");
    running.send(Signal::SIGHUP);
    let ended = running.end();
    assert_eq!(ended.code, 3, "{}", ended.err);
    assert!(is_saved(&machine, "f"), "{}", ended.err);
    assert_eq!(trace(&machine), "rrr", "{}", ended.err);
}

#[test]
fn mounts_of_one_session_are_read_one_after_the_other() {
    let machine = machine();
    machine.write("other/g", "y");
    let commands = ["--quiesce", "mkdir ../lock", "--resume", "rmdir ../lock"];
    let mounts = ["run", "-m", "c=work", "-m", "d=other"];
    machine.done(&[&mounts[..], &commands, &["--", "true"]].concat());
    assert!(machine.done(&["ls", "d"]).out.contains(" g\n"));
}
