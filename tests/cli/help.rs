//! The text of `--help`, which is part of the program's interface.

use crate::world::World;

#[test]
fn overview_and_commands() {
    let machine = World::new().machine("a");
    for command in [
        "",
        "run",
        "watch",
        "fetch",
        "status",
        "push",
        "plan",
        "explain",
        "context",
        "context delete",
        "cat",
        "gc",
        "check",
        "repair",
        "purge",
        "copy",
        "store init",
        "policy check",
    ] {
        let args: Vec<_> = command.split_whitespace().chain(["-h"]).collect();
        let help = machine.done(&args);
        assert_eq!(help.err, "");
        insta::assert_snapshot!(format!("help {command}").trim_end().replace(' ', "-"), help.out);
    }
}

#[test]
fn long_help_names_all_shared_options() {
    let help = World::new().machine("a").done(&["--help"]);
    insta::assert_snapshot!("long-help", help.out);
}

#[test]
fn completions_and_manual() {
    let machine = World::new().machine("a");
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = machine.done(&["completions", shell]).out;
        assert!(script.contains("ctxsync"), "{shell}");
    }
    machine.done(&["man", "manual"]);
    assert!(machine.read("manual/ctxsync.1").contains("ctxsync"));
    assert!(machine.read("manual/ctxsync-run.1").contains("kill"));
    assert!(machine.has("manual/ctxsync-context-delete.1"));
    let push = machine.read("manual/ctxsync-push.1");
    for part in [
        ".SH EXAMPLES",
        "ctxsync push project . \\-n \\-v",
        ".SH ENVIRONMENT",
        "CTXSYNC_MAX_DELETE",
        ".SH EXIT STATUS",
    ] {
        assert!(push.contains(part), "{part}");
    }
}
