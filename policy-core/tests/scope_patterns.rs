//! Ignore patterns: gitignore syntax, applied after the lists. They only ever exclude.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use policy_core::{Scope, SyncPolicy, TreePath, WhiteList};

fn path(s: &str) -> TreePath {
    s.parse().unwrap()
}

fn scope(list: &str, patterns: &[&str]) -> Scope {
    let mut policy = SyncPolicy::default();
    policy.bw_list.white_lists = vec![WhiteList { path: list.into(), ..Default::default() }];
    policy.bw_list.ignore_patterns = patterns.iter().map(|p| (*p).to_owned()).collect();
    Scope::new(&policy, b"/home/me/work").unwrap()
}

#[test]
fn names_anchors_and_directories() {
    let scope =
        scope("", &["*.log", "/build", "cache/", "doc/*.txt", "# a comment", "", r"\#file", "**/x/y"]);
    for p in [
        "a.log",
        "d/a.log",
        "build",
        "build/a",
        "cache/a",
        "d/cache/a",
        "doc/a.txt",
        "#file",
        "x/y",
        "a/x/y/z",
    ] {
        assert!(!scope.contains(&path(p), false), "{p}");
    }
    for p in ["a.logs", "d/build", "cache", "doc/d/a.txt", "a comment"] {
        assert!(scope.contains(&path(p), false), "{p}");
    }
    assert!(!scope.contains(&path("cache"), true));
}

#[test]
fn nothing_below_an_ignored_directory_comes_back() {
    let scope = scope("", &["build/", "!build/keep", "*.log", "!important.log"]);
    assert!(!scope.contains(&path("build/keep"), false));
    assert!(!scope.may_hold(&path("build")));
    assert!(!scope.may_hold(&path("build/keep")));
    assert!(scope.contains(&path("important.log"), false));
    assert!(scope.contains(&path("d/important.log"), false));
    assert!(!scope.contains(&path("a.log"), false));
}

#[test]
fn a_pattern_never_brings_in_what_the_lists_leave_out() {
    let scope = scope("src", &["!lib", "!lib/a", "!*"]);
    assert!(!scope.contains(&path("lib/a"), false));
    assert!(scope.contains(&path("src/a"), false));
}

#[test]
fn patterns_are_relative_to_the_mount_and_not_to_a_list() {
    let scope = scope("src", &["/gen", "/src/tmp"]);
    assert!(scope.contains(&path("src/gen"), true));
    assert!(!scope.contains(&path("src/tmp/a"), false));
}

#[test]
fn braces_stand_for_themselves_as_in_git() {
    let scope = scope("", &["{a,b}", r"\{c", "[{]d"]);
    assert!(scope.contains(&path("a"), false));
    assert!(!scope.contains(&path("{a,b}"), false));
    assert!(!scope.contains(&path("{c"), false));
    assert!(!scope.contains(&path("{d"), false));
}

#[test]
fn names_that_are_no_text_match_by_bytes() {
    let scope = scope("", &["*.log"]);
    assert!(!scope.contains(&TreePath::new(*b"d/\xff.log").unwrap(), false));
    assert!(scope.contains(&TreePath::new(*b"d/\xff.txt").unwrap(), false));
}

#[test]
fn the_last_pattern_that_matches_is_named() {
    let scope = scope("", &["*.log", "a.*", "# x", "*.log"]);
    assert_eq!(scope.decide(&path("a.log"), false).rule.pointer(), "/bwList/ignorePatterns/3");
    assert_eq!(scope.decide(&path("a.txt"), false).rule.pointer(), "/bwList/ignorePatterns/1");
}
