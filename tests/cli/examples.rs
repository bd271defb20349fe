//! The guide's configurations, from `docs/examples/`.

use std::path::PathBuf;

use crate::world::{World, tree};

fn example(name: &str) -> String {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/examples").join(name).to_str().unwrap().to_owned()
}

const ALL: [&str; 4] = ["guide-complete.json", "development.json", "production.json", "big-data.json"];

#[test]
fn they_load() {
    let machine = World::new().machine("a");
    for name in ALL {
        machine.done(&["policy", "check", &example(name)]);
    }
}

/// Whether `path`, below the mount, is in scope of an example.
fn in_scope(name: &str, mount: &str, path: &str) -> bool {
    let machine = World::new().machine("a");
    let ended = machine.done(&["--json", "explain", &example(name), path, "--mount", mount]);
    ended.of_type("rule")[0]["in_scope"].as_bool().unwrap()
}

#[test]
fn they_take_and_leave_what_the_guide_says() {
    for (path, expected) in
        [("src/a", true), ("node_modules/x", false), (".git/HEAD", false), ("temp", false)]
    {
        assert_eq!(in_scope("development.json", "/home/wuying/project", path), expected, "{path}");
    }
    for (path, expected) in [("logs/a", false), ("src", true)] {
        assert_eq!(in_scope("guide-complete.json", "/home/wuying/project", path), expected, "{path}");
    }
    assert!(in_scope("production.json", "/home/wuying/data", "anything"));
    for (path, expected) in [("a.parquet", true), ("raw/a", false), ("temp/a", false)] {
        assert_eq!(in_scope("big-data.json", "/home/wuying/datasets", path), expected, "{path}");
    }
}

#[test]
fn a_real_push_by_the_development_policy() {
    let world = World::new();
    let (one, two) = (world.machine("one"), world.machine("two"));
    for file in ["src/main.rs", "node_modules/x/y.js", ".git/HEAD", "temp/t", "README.md"] {
        one.write(&format!("work/{file}"), file);
    }
    // The guide's absolute paths are those of another mount; the mapping translates them.
    let policy: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(example("development.json")).unwrap()).unwrap();
    let mut policy = policy;
    policy["mappingPolicy"] = serde_json::json!({"path": "/home/wuying/project"});
    one.write("p.json", policy.to_string());
    two.write("p.json", policy.to_string());
    one.done(&["push", "dev", "work", "-p", "p.json"]);
    two.done(&["pull", "dev", "work", "-p", "p.json"]);
    let names: Vec<_> =
        tree(&two.path("work")).iter().map(|row| row.split(' ').next().unwrap().to_owned()).collect();
    assert_eq!(names, ["README.md", "src/", "src/main.rs"]);
}

#[test]
fn big_data_moves_nothing_by_itself() {
    let world = World::new();
    let machine = world.machine("a");
    machine.write("work/a", "1");
    let mut policy: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(example("big-data.json")).unwrap()).unwrap();
    policy["mappingPolicy"] = serde_json::json!({"path": "/home/wuying/datasets"});
    machine.write("p.json", policy.to_string());
    let ended = machine.done(&["run", "-c", "data", "-p", "p.json", "work", "--", "touch", "b"]);
    assert!(ended.err.contains("nothing was pushed"), "{}", ended.err);
    assert_eq!(machine.done(&["ls", "data"]).out, "");
    machine.done(&["push", "data", "work", "-p", "p.json"]);
    assert!(machine.done(&["ls", "data"]).out.contains(" a"));
}
