//! Every rule of scope by example, as `explain` shows it.

use crate::world::{Machine, World};

/// Runs `explain` with a policy's `bwList` and mapping; returns whether `path` is in scope.
fn takes_part(machine: &Machine, policy: &str, mount: &str, path: &str) -> bool {
    machine.write("policy.json", policy);
    let ended = machine.call(&["--json", "explain", "policy.json", path, "--mount", mount]);
    assert_eq!(ended.code, 0, "{policy} {path}\n{}", ended.seen());
    let rules = ended.of_type("rule");
    assert_eq!(rules.len(), 1);
    rules[0]["in_scope"].as_bool().unwrap()
}

#[track_caller]
fn check(policy: &str, taken: &[&str], left: &[&str]) {
    let machine = World::new().machine("a");
    for (paths, expected) in [(taken, true), (left, false)] {
        for path in paths {
            assert_eq!(
                takes_part(&machine, policy, "/home/wuying/project", path),
                expected,
                "{policy}\n{path}"
            );
        }
    }
}

fn lists(lists: &str) -> String {
    format!(r#"{{"bwList": {{"whiteLists": [{lists}]}}}}"#)
}

#[test]
fn rule_1_no_list_is_the_whole_mount() {
    for whole in ["{}", &lists(""), &lists(r#"{"path": ""}"#), &lists(r#"{"path": "/"}"#)] {
        check(whole, &["a", "a/b", ".git/config"], &[]);
    }
}

#[test]
fn rule_2_a_path_is_read_against_the_mount() {
    for path in ["/home/wuying/project/src", "src", "/src", "src/"] {
        check(
            &lists(&format!(r#"{{"path": "{path}"}}"#)),
            &["src", "src/x", "/home/wuying/project/src/x"],
            &["x"],
        );
    }
    let mapped = r#"{"mappingPolicy": {"path": "C:\\Users\\me\\work"},
        "bwList": {"whiteLists": [{"path": "C:\\Users\\me\\work\\src"}]}}"#;
    check(mapped, &["src/x"], &["x"]);
    let mapped = r#"{"mappingPolicy": {"path": "/data"}, "bwList": {"whiteLists": [{"path": "/data/src"}]}}"#;
    check(mapped, &["src/x"], &["data/src/x", "x"]);
}

#[test]
fn rule_3_excludes_are_relative_to_their_list_where_they_are_not_inside_it() {
    let outside = lists(r#"{"path": "/src", "excludePaths": ["/node_modules"]}"#);
    check(&outside, &["src/a", "src/b/node_modules"], &["src/node_modules/x", "node_modules"]);
    let inside = lists(r#"{"path": "/src", "excludePaths": ["/src/gen"]}"#);
    check(&inside, &["src/a", "src/src/gen"], &["src/gen", "src/gen/x"]);
    let itself = lists(r#"{"path": "/src", "excludePaths": ["/src"]}"#);
    check(&itself, &[], &["src", "src/a"]);
}

#[test]
fn rule_4_whole_components_and_single_files() {
    check(&lists(r#"{"path": "/data"}"#), &["data", "data/x"], &["database", "database/x"]);
    check(&lists(r#"{"path": "a/README.md"}"#), &["a/README.md"], &["a", "a/README.md.bak"]);
}

#[test]
fn rule_5_the_longest_rule_decides_in_any_order() {
    let (whole, below) = (r#"{"path": "", "excludePaths": ["a"]}"#, r#"{"path": "a/b"}"#);
    for policy in [lists(&format!("{whole},{below}")), lists(&format!("{below},{whole}"))] {
        check(&policy, &["x", "a/b", "a/b/c"], &["a", "a/x"]);
    }
    let tie = lists(r#"{"path": "a"}, {"path": "", "excludePaths": ["a"]}"#);
    check(&tie, &["b"], &["a", "a/x"]);
}

#[test]
fn rule_6_dots_and_wildcards_are_errors() {
    let machine = World::new().machine("a");
    for (path, word) in [("a/../b", ".."), ("*.log", "ignorePatterns"), ("a[b]", "ignorePatterns")] {
        machine.write("policy.json", lists(&format!(r#"{{"path": "{path}"}}"#)));
        let ended = machine.call(&["explain", "policy.json", "x"]);
        assert_eq!(ended.code, 2);
        assert!(ended.err.contains(path) && ended.err.contains(word), "{}", ended.err);
    }
}

#[test]
fn rule_7_expressions() {
    let by_path = lists(r#"{"path": ".*\\.rs", "isPathRegex": true}"#);
    check(&by_path, &["a.rs", "src/b.rs"], &["a.rs.bak"]);
    let by_exclude = lists(r#"{"path": "src", "excludePaths": [".*\\.tmp"], "isExcludeRegex": true}"#);
    check(&by_exclude, &["src/a"], &["src/a.tmp", "b.tmp"]);
}

#[test]
fn rule_9_ignore_patterns_only_take_away() {
    let policy = r#"{"bwList": {"whiteLists": [{"path": "src"}], "ignorePatterns": ["*.log", "!keep.log", "target/", "!/x"]}}"#;
    check(policy, &["src/a", "src/keep.log"], &["src/a.log", "src/target/", "src/target/x", "x"]);
}

#[test]
fn words_for_people() {
    let machine = World::new().machine("a");
    machine.write(
        "policy.json",
        r#"{"bwList": {"whiteLists": [
            {"path": "/home/wuying/project", "excludePaths": ["/home/wuying/project/.git", "temp"]},
            {"path": "temp/kept"}, {"path": "/elsewhere/data"}], "ignorePatterns": ["*.log"]}}"#,
    );
    let paths = ["src/main.rs", ".git/HEAD", "temp/", "temp/kept/a", "x.log", "."];
    let args = [&["explain", "policy.json", "--mount", "/home/wuying/project"][..], &paths].concat();
    insta::assert_snapshot!(machine.call(&args).seen());
}

#[test]
fn a_context_is_explained_by_the_chosen_policy_and_says_so() {
    let machine = World::new().machine("a");
    machine.write("policy.toml", "[[bwList.whiteLists]]\npath = 'src'\n");
    let by_default = machine.call(&["explain", "my-project", "x", "--mount", "/m"]);
    let by_policy = machine.call(&["explain", "my-project", "x", "--mount", "/m", "-p", "policy.toml"]);
    insta::assert_snapshot!([by_default.seen(), by_policy.seen()].join("\n"));
}

#[test]
fn what_the_program_keeps_for_itself_never_takes_part() {
    let machine = World::new().machine("a");
    let places = ["--mount", "work", "--store", "work/kept/store", "--state-dir", "work/kept/state"];
    let paths = ["kept/store", "kept/store/packs/x", "kept/state/mounts", "kept", "kept/stored", "x"];
    let ended = machine.done(&[&["explain", "c"][..], &paths, &places, &["--json"]].concat());
    let taken: Vec<_> =
        ended.of_type("rule").iter().map(|rule| rule["in_scope"].as_bool().unwrap()).collect();
    assert_eq!(taken, [false, false, false, true, true, true], "{}", ended.seen());
    // A sync agrees.
    machine.write("work/kept/f", "x");
    machine.done(&[&["push", "c", "work"][..], &places[2..]].concat());
    let listed = machine.done(&["ls", "c", "--store", "work/kept/store"]).out;
    assert!(
        listed.contains(" kept/f") && !listed.contains("packs") && !listed.contains("mounts"),
        "{listed}"
    );
}

#[test]
fn paths_must_be_below_the_mount() {
    let machine = World::new().machine("a");
    for path in ["/elsewhere", "../x", "a/../../x"] {
        assert_eq!(machine.call(&["explain", "name", path, "--mount", "/m"]).code, 2, "{path}");
    }
}

#[test]
fn names_that_are_not_utf8_are_no_error() {
    use std::os::unix::ffi::OsStrExt;
    let machine = World::new().machine("a");
    let args =
        ["--json".as_ref(), "explain".as_ref(), "name".as_ref(), std::ffi::OsStr::from_bytes(b"a\xffb")];
    let ended = machine.ended(machine.command(args).output().unwrap());
    assert_eq!(ended.code, 0);
    assert_eq!(ended.of_type("rule")[0]["path_bytes"], "Yf9i");
}
