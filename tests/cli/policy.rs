//! `policy default|preset|check|show|schema`, and what is left out.

use crate::world::{Machine, World};

#[test]
fn the_default_is_a_policy_and_comes_back_as_it_is() {
    let machine = World::new().machine("a");
    let default = machine.done(&["policy", "default"]).out;
    machine.write("p.json", &default);
    assert_eq!(machine.done(&["policy", "show", "p.json"]).out, default);
    assert_eq!(machine.done(&["policy", "show", "-p", "p.json"]).out, default);
    machine.write("empty.json", "{}");
    assert_eq!(
        machine.done(&["--json", "policy", "show", "empty.json"]).out,
        default,
        "documents are themselves"
    );
}

#[test]
fn toml_and_the_names_of_the_guide() {
    let machine = World::new().machine("a");
    machine.write(
        "p.toml",
        "[upload_policy]\nauto_upload = false\nupload_strategy = 'UPLOAD_BEFORE_RESOURCE_RELEASE'\n",
    );
    let shown = machine.done(&["policy", "show", "p.toml"]).out;
    assert!(shown.contains("\"autoUpload\": false"), "{shown}");
}

#[test]
fn the_schema_is_one() {
    let schema = World::new().machine("a").done(&["policy", "schema"]).out;
    let schema: serde_json::Value = serde_json::from_str(&schema).unwrap();
    assert!(schema["$schema"].as_str().unwrap().contains("json-schema"));
}

#[test]
fn check_shows_what_the_lists_are_read_as() {
    let machine = World::new().machine("a");
    machine.write("work/src/a", "");
    machine.write("p.json", r#"{"bwList": {"whiteLists": [{"path": "/src"}, {"path": "/opt/data"}]}}"#);
    let there = machine.call(&["policy", "check", "p.json", "--mount", "work"]);
    let nowhere = machine.call(&["policy", "check", "p.json", "--mount", "/not/there"]);
    insta::assert_snapshot!([there.seen(), nowhere.seen()].join("\n"));
}

/// The messages of the guide's other SDKs load: they have a field of their own, and null for each unset
/// field.
#[test]
fn policies_of_other_sdks_load() {
    let machine = World::new().machine("a");
    machine.write("work/a", "x");
    for policy in [
        r#"{"uploadPolicy": {"autoUpload": true, "period": 30}}"#,
        r#"{"downloadPolicy": {"downloadStrategy": null}, "extractPolicy": null, "$schema": null}"#,
        r#"{"upload_policy": {"auto_upload": null, "upload_mode": null}, "bw_list": {"white_lists": null}}"#,
    ] {
        machine.write("p.json", policy);
        for args in [&["policy", "check", "p.json"][..], &["push", "c", "work", "-p", "p.json"]] {
            let ended = machine.done(args);
            assert!(!ended.err.contains("warning"), "{policy}: {}", ended.err);
        }
        let shown = machine.done(&["policy", "show", "p.json"]).out;
        assert_eq!(shown.contains("\"period\": 30"), policy.contains("period"), "{shown}");
        machine.write("q.json", &shown);
        assert_eq!(machine.done(&["policy", "show", "q.json"]).out, shown);
    }
}

/// People write a mount's paths with a leading slash. That is no reason for a warning if the path exists on
/// either side.
#[test]
fn a_leading_slash_is_no_warning_where_something_is_there() {
    let world = World::new();
    let (a, b) = (world.machine("a"), world.machine("b"));
    let policy = r#"{"bwList": {"whiteLists": [{"path": "/src", "excludePaths": ["/src/out"]}, {"path": "/notes.txt"}]}}"#;
    for machine in [&a, &b] {
        machine.write("p.json", policy);
    }
    a.write("work/src/main.rs", "x");
    a.write("work/src/out/o", "x");
    a.write("work/notes.txt", "x");
    for machine in [&a, &b] {
        for command in ["sync", "push", "pull"] {
            let ended = machine.done(&[command, "c", "work", "-p", "p.json"]);
            assert!(!ended.err.contains("warning"), "{command}: {}", ended.err);
        }
        let ended = machine.done(&["run", "-c", "c", "-p", "p.json", "work", "--", "true"]);
        assert!(!ended.err.contains("warning"), "{}", ended.err);
    }
    assert!(b.has("work/src/main.rs") && !b.has("work/src/out"));
    // If nothing is there, a warning names the path at once, and the result names it again.
    a.write("p.json", r#"{"bwList": {"whiteLists": [{"path": "/srv"}, {"path": "/src"}]}}"#);
    let ended = a.done(&["push", "c", "work", "-p", "p.json"]);
    assert_eq!(ended.err.matches("/srv").count(), 2, "{}", ended.err);
    assert!(ended.err.contains("is neither under the mount"), "{}", ended.err);
}

#[test]
fn check_names_the_place_of_each_fault() {
    let machine = World::new().machine("a");
    machine.write("y1.json", r#"{"bwList": {"whiteList": []}}"#);
    machine.write("y2.json", r#"{"deletePolicy": {"syncLocalFile": "yes"}}"#);
    machine.write("y3.json", r#"{"deletePolicy": {}, "deletePolicy": {}}"#);
    machine.write("y8.json", "");
    let texts = ["y1", "y2", "y3", "y8"]
        .map(|name| machine.call(&["policy", "check", &format!("{name}.json")]).seen());
    insta::assert_snapshot!("policy-faults", texts.join("\n"));
}

#[test]
fn what_is_excluded_is_neither_saved_nor_brought_nor_deleted() {
    let world = World::new();
    let one = world.machine("one");
    for path in ["a", "b.log", "d/c.log", "d/e.tmp"] {
        one.write(&format!("work/{path}"), path);
    }
    one.done(&["push", "c", "work", "--exclude", "*.log"]);
    assert_eq!(listed(&one, "c"), ["a", "d/e.tmp"]);
    // By variable, and by the config file.
    one.call_with(&[("CTXSYNC_EXCLUDE", "d/e.*,*.log")], &["push", "c", "work"]);
    assert_eq!(listed(&one, "c"), ["a", "d/e.tmp"], "what is out of scope is not deleted");
    one.done(&["push", "c", "work"]);
    let two = world.machine("two");
    two.write("c.toml", "exclude = ['*.log', 'd/e.tmp']\n");
    two.done(&["pull", "c", "work", "--config", "c.toml"]);
    assert_eq!(crate::world::tree(&two.path("work")).len(), 1, "only `a` is brought");
    let explained = two.done(&["explain", "c", "b.log", "--exclude", "*.log"]);
    assert!(explained.out.contains("out  b.log"), "{}", explained.seen());
    let wrong = two.call(&["push", "c", "work", "--exclude", "a[", "-n"]);
    assert_eq!(wrong.code, 2, "{}", wrong.seen());
    // Where no policy has a say, it would do nothing.
    for args in [&["restore", "c", "out"][..], &["ls", "c"], &["gc"], &["rm", "c:a"]] {
        let refused = two.call(&[args, &["--exclude", "*.log"]].concat());
        assert!(
            refused.code == 2 && refused.err.contains("--exclude means nothing here"),
            "{}",
            refused.seen()
        );
        assert!(!two.has("out"));
    }
    two.call_with(&[("CTXSYNC_EXCLUDE", "*.log")], &["restore", "c", "out"]);
    assert!(two.has("out/b.log"), "the variable is for other commands");
}

fn listed(machine: &Machine, context: &str) -> Vec<String> {
    let rows = machine.done(&["ls", context, "--json"]);
    let rows = rows.of_type("entry");
    let files = rows.iter().filter(|row| row["kind"] == "file");
    files.map(|row| row["path"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn the_first_push_that_sends_what_is_usually_secret_says_so_once() {
    let machine = World::new().machine("a");
    for path in ["work/.env", "work/.env.example", "work/keys/id_rsa", "work/f"] {
        machine.write(path, "x");
    }
    let warning = "warning: new in the context, and usually secret: `.env`, `keys/id_rsa`; --exclude PATTERN leaves \
                   files out, and so does `ctxsync policy preset no-secrets`\n";
    let ended = machine.done(&["push", "c", "work"]);
    assert!(ended.err.contains(warning), "{}", ended.err);
    machine.write("work/.env", "changed");
    assert_eq!(machine.done(&["push", "c", "work"]).err, "");
    // With the preset, none is sent.
    let preset = machine.done(&["policy", "preset", "no-secrets"]);
    machine.write("p.json", &preset.out);
    let ended = machine.done(&["push", "d", "work", "-p", "p.json"]);
    assert!(!ended.err.contains("secret"), "{}", ended.err);
    assert_eq!(listed(&machine, "d"), [".env.example", "f"]);
}
