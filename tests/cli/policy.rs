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
