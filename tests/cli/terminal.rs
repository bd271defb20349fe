//! Text from outside is shown so that it can't be taken for the program's own output (fault L19).

use crate::world::{Machine, World};

/// A line break, a colour, right-to-left text, a separator, a byte order mark, a tag.
const FORGED: &str = "x\u{1b}[31mred\u{202e}txt\u{2028}y\u{feff}\u{e0041}\u{200b}\u{9b}1m";

#[track_caller]
fn harmless(machine: &Machine, args: &[&str]) {
    let ended = machine.call(args);
    for text in [&ended.out, &ended.err] {
        let bad = |c: &char| {
            (c.is_control() && *c != '\n')
                || matches!(c, '\u{202e}' | '\u{2028}' | '\u{feff}' | '\u{e0041}' | '\u{200b}')
        };
        assert_eq!(text.chars().find(bad), None, "{args:?}: {text}");
    }
    let shown = ended.out + &ended.err;
    assert_eq!(shown.contains("[31m"), shown.contains("\\u{1b}"), "{args:?}: {shown}");
}

#[test]
fn l19_what_comes_from_outside_is_shown_escaped() {
    let machine = World::new().machine("a");
    machine.write(&format!("work/{FORGED}"), "x");
    machine.write("good.json", "{}");
    machine
        .write("bad.json", format!("{{\"bwList\": {{\"whiteLists\": [{{\"path\": \"{FORGED}/../y\"}}]}}}}"));
    machine.write("bad.toml", format!("profile = \"{FORGED}\""));
    let dir = format!("./{FORGED}");
    let inside = format!("c:{FORGED}/none");
    let calls: &[&[&str]] = &[
        &["push", "c", "work", "-v"],
        &["ls", "c"],
        &["cat", &inside],
        &["ls", &inside],
        &["put", "c:x", FORGED],
        &["push", FORGED, "work"],
        &[FORGED],
        &["push", "c", "work", "--conflict", FORGED],
        &["push", "c", "work", "--bwlimit", FORGED],
        &["push", "c", "work", "--max-delete", FORGED],
        &["pull", "c", "work", "--store", FORGED],
        &["pull", "c", "work", "--store-option", FORGED],
        &["push", "c", &dir],
        &["push", "c", "work", "--only", &dir],
        &["push", "c", "work", "-p", FORGED],
        &["push", "c", "work", "-p", "bad.json"],
        &["push", "c", "work", "--config", FORGED],
        &["push", "c", "work", "--config", "bad.toml"],
        &["push", "c", "work", "--profile", FORGED],
        &["push", "c", "work", "--log-file", &format!("{FORGED}/log")],
        &["push", "c", "work", "--chown", FORGED],
        &["explain", "good.json", FORGED, "--mount", "work"],
        &["explain", FORGED, "x"],
        &["policy", "check", FORGED],
        &["config", "--policy", FORGED],
        &["run", "-c", "c", "work", "--", FORGED],
        &["run", "-m", FORGED, "--", "true"],
        &["restore", "c", "to", FORGED],
        &["fetch", FORGED, "--mount", "work"],
    ];
    for args in calls {
        harmless(&machine, args);
    }
    for (variable, args) in [("CTXSYNC_BWLIMIT", ["config"]), ("CTXSYNC_KILL_AFTER", ["config"])] {
        let ended = machine.call_with(&[(variable, FORGED)], &args);
        assert!(ended.code == 2 && !ended.err.contains('\u{1b}'), "{variable}: {}", ended.err);
    }
}

#[test]
fn l19_an_object_of_the_stores_is_shown_escaped() {
    let world = World::new();
    let machine = world.machine("a");
    machine.write("work/f", "x");
    machine.done(&["push", "c", "work"]);
    let odd = world.store().join("contexts/c/\u{1b}[31m\u{202e}x");
    if std::fs::write(odd, "x").is_err() {
        return;
    }
    for args in
        [&["pull", "c", "work"][..], &["push", "c", "work"], &["context", "list"], &["gc"], &["log", "c"]]
    {
        let ended = machine.call(args);
        assert!(!(ended.err + &ended.out).contains(['\u{1b}', '\u{202e}']), "{args:?}");
    }
}

#[test]
fn l19_names_that_are_only_foreign_stay_as_they_are() {
    let machine = World::new().machine("a");
    let names = ["naïve", "файл", "文件", "👩\u{200d}💻", "❤\u{fe0f}", "שלום", "e\u{301}"];
    for name in names {
        machine.write(&format!("work/{name}"), "x");
    }
    let push = machine.done(&["push", "c", "work", "-v"]);
    let ls = machine.done(&["ls", "c"]);
    for name in names {
        assert!(push.out.contains(name) && ls.out.contains(name), "{name}: {}", ls.out);
    }
    // JSON output has the exact name.
    machine.write(&format!("work/{FORGED}"), "x");
    machine.done(&["push", "c", "work"]);
    let rows = machine.done(&["ls", "c", "--json"]).of_type("entry");
    assert!(rows.iter().any(|row| row["path"] == FORGED));
}
