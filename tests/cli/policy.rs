//! `policy default|check|show|schema`.

use crate::world::World;

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
