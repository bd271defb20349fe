//! Conflicts and guards as scripts see them. Two tables of `docs/conflicts.md` are generated here.

use std::fmt::Write as _;

use ctxsync_tests::document;

use crate::world::{Ended, Machine, World};

const DOCUMENT: &str = "docs/conflicts.md";

/// Two machines that agreed on a file and have both changed it since. The first has pushed.
fn in_conflict() -> (World, Machine, Machine) {
    let world = World::new();
    let (one, two) = (world.machine("one"), world.machine("two"));
    one.write("work/notes.txt", "base");
    one.done(&["push", "c", "work"]);
    two.done(&["pull", "c", "work"]);
    one.write("work/notes.txt", "theirs");
    one.done(&["push", "c", "work"]);
    two.write("work/notes.txt", "ours");
    (world, one, two)
}

/// Returns the only conflict copy in the machine's mount, if there is one.
fn copy(machine: &Machine) -> Option<String> {
    let entries = std::fs::read_dir(machine.path("work")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut copies: Vec<String> = names.filter(|name| name.contains(".conflict-")).collect();
    assert!(copies.len() <= 1, "{copies:?}");
    copies.pop()
}

const CALLS: [&str; 4] = ["push", "pull", "sync", "run"];

fn call(machine: &Machine, name: &str, more: &[&str]) -> Ended {
    let args: &[&str] = match name {
        // A command that ends before the files are pulled leaves the conflict to the release. With `--wait`
        // and the strategy `fail` the command would not run at all.
        "run" if more.contains(&"fail") => &["run", "-c", "c", "work"],
        "run" => &["run", "--wait", "-c", "c", "work"],
        name => &[name, "c", "work"],
    };
    let command: &[&str] = if name == "run" { &["--", "true"] } else { &[] };
    machine.call(&[args, more, command].concat())
}

#[test]
fn what_each_strategy_comes_to() {
    let mut text = String::from(
        "| `--conflict` | command | at the path, here | in the context | copy of theirs | code |\n",
    );
    text.push_str("|---|---|---|---|---|---|\n");
    for strategy in ["keep-both", "prefer-local", "prefer-remote", "fail"] {
        for name in CALLS {
            let (world, one, two) = in_conflict();
            let ended = call(&two, name, &["--conflict", strategy]);
            let fresh = world.machine("fresh");
            fresh.done(&["pull", "c", "work"]);
            let copies = match (copy(&two), copy(&fresh)) {
                (Some(here), Some(there)) => {
                    assert_eq!(here, there);
                    "here and there"
                }
                (Some(_), None) => "here, there with the next push",
                (None, Some(_)) => "there, here with the next pull",
                (None, None) => "none",
            };
            let (here, there) = (two.read("work/notes.txt"), fresh.read("work/notes.txt"));
            let code = ended.code;
            writeln!(text, "| `{strategy}` | `{name}` | {here} | {there} | {copies} | {code} |").unwrap();
            // Whatever the strategy, both machines end up the same, and another sync has nothing to report.
            if code == 4 && copies == "none" {
                assert_eq!((here.as_str(), there.as_str()), ("ours", "theirs"), "{}", ended.seen());
                continue;
            }
            two.call(&["sync", "c", "work", "--conflict", strategy]);
            one.done(&["sync", "c", "work", "--conflict", strategy]);
            two.done(&["sync", "c", "work", "--conflict", strategy]);
            assert_eq!(one.read("work/notes.txt"), two.read("work/notes.txt"), "{strategy} {name}");
            assert_eq!(copy(&one), copy(&two), "{strategy} {name}");
            assert_eq!(copy(&one).is_some(), strategy == "keep-both" || code == 4, "{strategy} {name}");
        }
    }
    document::check(DOCUMENT, "strategies", &text);
}

/// A plan names the conflict copy, in both directions, and the sync does what was planned.
#[test]
fn a_plan_names_the_copy() {
    for name in ["push", "pull"] {
        let (_world, _one, two) = in_conflict();
        let planned = two.call(&["plan", name, "c", "work"]);
        assert_eq!(planned.code, 4, "{}", planned.seen());
        assert_eq!(copy(&two), None);
        let line = planned.out.lines().find(|line| line.starts_with("add ")).unwrap().to_owned();
        assert!(line.contains("the context's version of `notes.txt`"), "{line}");
        let done = two.call(&[name, "c", "work", "-v"]);
        assert!(done.out.contains(&line), "{line}\n{}", done.seen());
        let counts = |ended: &Ended| ended.out.lines().last().unwrap().split(';').next().unwrap().to_owned();
        let (planned, done) = (counts(&planned), counts(&done));
        assert_eq!(planned.split_once(": ").unwrap().1, done.split_once(": ").unwrap().1);
        two.call(&["sync", "c", "work"]);
        assert!(line.contains(&copy(&two).unwrap()), "{line}");
    }
}

/// The document's way to settle a conflict: rename the copy over the file, or delete it.
#[test]
fn a_conflict_is_settled_with_mv_or_rm() {
    for keep_theirs in [false, true] {
        let (_world, one, two) = in_conflict();
        two.call(&["sync", "c", "work"]);
        let path = two.path("work").join(copy(&two).unwrap());
        if keep_theirs {
            std::fs::rename(path, two.path("work/notes.txt")).unwrap();
        } else {
            std::fs::remove_file(path).unwrap();
        }
        two.done(&["push", "c", "work"]);
        one.done(&["pull", "c", "work"]);
        assert_eq!(one.read("work/notes.txt"), if keep_theirs { "theirs" } else { "ours" });
        assert_eq!((copy(&one), copy(&two)), (None, None));
    }
}

/// If several of the codes 3, 4 and 8 apply, the exit code is the first of them.
#[test]
fn incomplete_comes_before_conflicts_and_these_before_what_is_held_back() {
    for (unreadable, conflict, code) in
        [(true, true, 3), (true, false, 3), (false, true, 4), (false, false, 8)]
    {
        let (_world, one, two) = guarded();
        if conflict {
            one.write("work/d", "theirs");
            one.done(&["push", "c", "work"]);
            two.write("work/d", "ours");
        }
        if unreadable {
            let fifo = two.path("work/c");
            std::fs::remove_file(&fifo).unwrap();
            assert!(std::process::Command::new("mkfifo").arg(fifo).status().unwrap().success());
        }
        for name in ["a", "b"] {
            std::fs::remove_file(two.path("work").join(name)).unwrap();
        }
        let ended = two.call(&["push", "c", "work", "--max-delete", "1", "--json"]);
        assert_eq!(ended.code, code, "{}", ended.seen());
        let summary = ended.summary();
        assert_eq!(summary["held_back"], 2, "{summary}");
        assert_eq!(summary["conflicts"], u64::from(conflict), "{summary}");
    }
}

/// Two machines that agree on four files.
fn guarded() -> (World, Machine, Machine) {
    let world = World::new();
    let (one, two) = (world.machine("one"), world.machine("two"));
    for name in ["a", "b", "c", "d"] {
        one.write(&format!("work/{name}"), name);
    }
    one.done(&["push", "c", "work"]);
    two.done(&["pull", "c", "work"]);
    (world, one, two)
}

/// An event that looks like a mass deletion.
struct Case {
    fault: &'static str,
    what: &'static str,
    happens: fn(&Machine, &Machine),
    policy: &'static str,
    calls: &'static [&'static str],
    script: &'static str,
}

const CASES: [Case; 8] = [
    Case {
        fault: "D1",
        what: "the mount is missing",
        happens: |_, two| std::fs::remove_dir_all(two.path("work")).unwrap(),
        policy: "{}",
        calls: &["push", "pull", "sync"],
        script: "",
    },
    Case {
        fault: "D2",
        what: "the mount is empty",
        happens: |_, two| empty(two),
        policy: "{}",
        calls: &["push", "pull", "sync", "run"],
        script: "",
    },
    Case {
        fault: "D2",
        what: "the mount is a fresh skeleton: one new file, nothing of what was brought",
        happens: |_, two| {
            empty(two);
            two.write("work/new", "new");
        },
        policy: "{}",
        calls: &["push", "pull", "sync", "run"],
        script: "",
    },
    Case {
        fault: "D2",
        what: "CMD empties the mount",
        happens: |_, _| {},
        policy: "{}",
        calls: &["run"],
        script: "rm -f *",
    },
    Case {
        fault: "D3",
        what: "three of four files are deleted, `maxDeletePercent` is 50",
        happens: |_, two| some(two),
        policy: r#"{"deletePolicy": {"maxDeletePercent": 50}}"#,
        calls: &["push", "pull", "sync"],
        script: "",
    },
    Case {
        fault: "D3",
        what: "CMD deletes three of four files, `maxDeletePercent` is 50",
        happens: |_, _| {},
        policy: r#"{"deletePolicy": {"maxDeletePercent": 50}}"#,
        calls: &["run"],
        script: "rm -f a b c",
    },
    Case {
        fault: "D3",
        what: "three of four files are deleted in the context, `maxDeletePercent` is 50",
        happens: |one, _| {
            some(one);
            one.done(&["push", "c", "work"]);
        },
        policy: r#"{"deletePolicy": {"maxDeletePercent": 50}}"#,
        calls: &["push", "pull", "sync", "run"],
        script: "",
    },
    Case {
        fault: "D6",
        what: "the context is empty",
        happens: |one, _| _ = one.done(&["context", "clear", "c", "--yes"]),
        policy: "{}",
        calls: &["push", "pull", "sync", "run"],
        script: "",
    },
];

fn empty(machine: &Machine) {
    std::fs::remove_dir_all(machine.path("work")).unwrap();
    std::fs::create_dir(machine.path("work")).unwrap();
}

fn some(machine: &Machine) {
    for name in ["a", "b", "c"] {
        std::fs::remove_file(machine.path("work").join(name)).unwrap();
    }
}

fn files(machine: &Machine) -> usize {
    std::fs::read_dir(machine.path("work")).map_or(0, Iterator::count)
}

/// D1, D2, D3, D6: deletions are held back by every call, everything else is synced, and the hint names the
/// flag that allows the deletions.
#[test]
fn what_each_guard_comes_to() {
    let mut text = String::from(
        "| | what happens | command | code | held back | here, in the context | the way out |\n",
    );
    text.push_str("|---|---|---|---|---|---|---|\n");
    for Case { fault, what, happens, policy, calls, script } in CASES {
        for name in calls {
            let (world, one, two) = guarded();
            two.write("p.json", policy);
            happens(&one, &two);
            let script = if script.is_empty() { "true" } else { script };
            let go = |more: &[&str], script: &str| match *name {
                "run" => {
                    let args = ["run", "--wait", "-c", "c", "work", "-p", "p.json"];
                    two.call(&[&args, more, &["--", "sh", "-c", script]].concat())
                }
                name => two.call(&[&[name, "c", "work", "-p", "p.json"], more].concat()),
            };
            let ended = go(&[], script);
            let hint =
                ended.err.lines().find_map(|line| line.split_once("intended, pass ")).map(|(_, by)| by);
            let (here, there) = (files(&two), in_context(&world));
            let held = match ended.code {
                8 => "yes",
                _ => "",
            };
            let way_out = hint.map(|by| format!("`{by}`")).unwrap_or_default();
            writeln!(
                text,
                "| {fault} | {what} | `{name}` | {} | {held} | {here}, {there} | {way_out} |",
                ended.code
            )
            .unwrap();
            assert_eq!(hint.is_some(), ended.code == 8, "{what}, {name}: {}", ended.seen());
            let Some(by) = hint else { continue };
            assert!(there >= 1 || fault == "D6", "{what}, {name}: something was deleted");
            // Repeating the call gives the same code. `run` and `sync` pull first, which restores what is
            // missing.
            if *name != "run" && *name != "sync" {
                let again = go(&[], script);
                assert_eq!(again.code, 8, "{what}, {name}: {}", again.seen());
            }
            let flags: Vec<&str> = by.split(" and ").flat_map(|flag| flag.split(' ')).collect();
            let out = go(&flags, script);
            assert_eq!(out.code, 0, "{what}, {name}: {}", out.seen());
            let left = |count: usize| count <= 1;
            assert!(left(files(&two)) && left(in_context(&world)), "{what}, {name}: {}", out.seen());
        }
    }
    document::check(DOCUMENT, "guards", &text);
}

fn in_context(world: &World) -> usize {
    let looking = world.machine("looking");
    let ended = looking.done(&["ls", "c"]);
    ended.out.lines().count()
}
