//! A command does without what it does not need: a home, a current directory. It reports what it can't write.

use std::fs::OpenOptions;
use std::process::Command;

use crate::world::{Machine, World};

fn world() -> (World, Machine) {
    let world = World::new();
    let machine = world.machine("a");
    machine.write("work/f", "content");
    machine.write("policy.json", "{}");
    machine.done(&["push", "c", "work"]);
    (world, machine)
}

#[test]
fn n17_without_a_home() {
    let (world, machine) = world();
    let store = world.store();
    let homeless = |args: &[&str]| {
        let mut command = machine.command(args);
        for name in ["HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_DATA_HOME"] {
            command.env_remove(name);
        }
        machine.ended(command.output().unwrap())
    };
    let store = store.to_str().unwrap();
    for args in [
        &["ls", "c"][..],
        &["log", "c"],
        &["cat", "c:f"],
        &["context", "list"],
        &["context", "show", "c"],
        &["context", "create", "d"],
        &["put", "d:x", "policy.json"],
        &["rm", "d:x"],
        &["restore", "c", "to"],
        &["gc"],
        &["store", "check"],
        &["config"],
    ] {
        let ended = homeless(&[args, &["--store", store]].concat());
        assert_eq!(ended.code, 0, "{args:?}: {}", ended.err);
    }
    for args in [
        &["config"][..],
        &["policy", "default"],
        &["policy", "schema"],
        &["policy", "check", "policy.json", "--mount", "work"],
        &["policy", "show", "policy.json"],
        &["explain", "policy.json", "x", "--mount", "work"],
        &["completions", "bash"],
        &["man", "man"],
    ] {
        let ended = homeless(args);
        assert_eq!(ended.code, 0, "{args:?}: {}", ended.err);
    }
    for (args, missing) in [
        (&["ls", "c"][..], "--store"),
        (&["push", "c", "work", "--store", store], "--state-dir"),
        (&["run", "-c", "c", "work", "--store", store, "--", "touch", "ran"], "--state-dir"),
        (&["status"], "--state-dir"),
    ] {
        let ended = homeless(args);
        assert_eq!(ended.code, 2, "{args:?}: {}", ended.err);
        assert!(ended.err.contains("hint: name a ") && ended.err.contains(missing), "{}", ended.err);
    }
    assert!(!machine.has("work/ran"));
}

#[test]
fn n17_from_a_directory_that_is_gone() {
    let (_world, machine) = world();
    let gone = machine.path("gone");
    let work = machine.path("work");
    let like = machine.command([""; 0]);
    let from_gone = |args: &[&str]| {
        std::fs::create_dir(&gone).unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "rmdir ../gone && exec \"$PROGRAM\" \"$@\"", "sh"]).args(args).current_dir(&gone);
        command.env_clear().envs(like.get_envs().filter_map(|(name, value)| Some((name, value?))));
        machine.ended(command.output().unwrap())
    };
    let work = work.to_str().unwrap();
    let store = _world.store();
    let store = store.to_str().unwrap();
    for args in [
        &["push", "c", work][..],
        &["push", "c", work, "--store", store],
        &["pull", "c", work],
        &["run", "-c", "c", work, "--", "true"],
        &["ls", "c"],
        &["config", "--store", "s3://bucket/x"],
        &["status", work],
        &["restore", "c", machine.path("to").to_str().unwrap()],
    ] {
        let ended = from_gone(args);
        assert_eq!(ended.code, 0, "{args:?}: {}", ended.err);
    }
    for args in [&["push", "c"][..], &["push", "c", "relative"], &["push", "c", work, "--store", "relative"]]
    {
        let ended = from_gone(args);
        assert!([1, 2].contains(&ended.code) && ended.err.contains("error: "), "{args:?}: {}", ended.err);
    }
}

#[test]
fn p5_output_that_cannot_be_written_is_an_error() {
    let (_world, machine) = world();
    let full = || OpenOptions::new().write(true).open("/dev/full").unwrap();
    for args in [
        &["--help"][..],
        &["push", "--help"],
        &["help", "push"],
        &["--version"],
        &["ls", "c"],
        &["log", "c"],
        &["cat", "c:f"],
        &["config"],
        &["policy", "default"],
        &["policy", "show", "policy.json"],
        &["policy", "check", "policy.json"],
        &["completions", "bash"],
        &["context", "list"],
        &["status"],
        &["ls", "c", "--json"],
        &["push", "c", "work", "--json"],
    ] {
        let output = machine.command(args).stdout(full()).output().unwrap();
        let ended = machine.ended(output);
        assert_eq!(ended.code, 1, "{args:?}: {}", ended.err);
        // With `--json` the error would go to the output that can't be written.
        assert!(
            args.contains(&"--json") || ended.err.contains("cannot write the output"),
            "{args:?}: {}",
            ended.err
        );
    }
    // A reader that goes away is no error.
    for args in [&["--help"][..], &["ls", "c"], &["policy", "schema"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = machine.command(args).stdout(writer).output().unwrap();
        assert_eq!(machine.ended(output).code, 0, "{args:?}");
    }
}
