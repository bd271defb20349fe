//! The rules of scope, one by one.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use policy_core::{Scope, ScopeRule, SyncPolicy, TreePath, WhiteList};

const MOUNT: &[u8] = b"/home/wuying/project";

fn path(s: &str) -> TreePath {
    s.parse().unwrap()
}

fn list(path: &str, excludes: &[&str]) -> WhiteList {
    WhiteList {
        path: path.into(),
        exclude_paths: excludes.iter().map(|e| (*e).to_owned()).collect(),
        ..Default::default()
    }
}

fn policy(lists: &[WhiteList]) -> SyncPolicy {
    let mut policy = SyncPolicy::default();
    policy.bw_list.white_lists = lists.to_vec();
    policy
}

fn scope(lists: &[WhiteList]) -> Scope {
    Scope::new(&policy(lists), MOUNT).unwrap()
}

#[track_caller]
fn check(scope: &Scope, inside: &[&str], outside: &[&str]) {
    for p in inside {
        assert!(scope.contains(&path(p), false), "{p} is out: {}", scope.decide(&path(p), false).rule);
    }
    for p in outside {
        assert!(!scope.contains(&path(p), false), "{p} is in: {}", scope.decide(&path(p), false).rule);
    }
}

#[test]
fn rule_1_the_whole_mount() {
    for lists in [&[][..], &[list("", &[])], &[list("/", &[])], &[list("src", &[]), list("/", &[])]] {
        let scope = scope(lists);
        check(&scope, &["", "a", "a/b", "src/x"], &[]);
        assert!(scope.may_hold(&TreePath::root()));
    }
    // The path of the whole mount is no expression, even with the flag.
    let whole = WhiteList { is_path_regex: true, ..list("/", &[]) };
    check(&scope(&[whole]), &["", "a/b"], &[]);
}

/// A conflict copy of a file that a list names is in scope, although its path is another one.
#[test]
fn a_conflict_copy_takes_part_where_its_original_does() {
    let scope = scope(&[list("notes.txt", &[]), list("src", &["src/gen"])]);
    check(
        &scope,
        &["notes.conflict-0123abcd.txt", "src/a.conflict-0123abcd.rs", "src.conflict-0123abcd/a"],
        &["other.conflict-0123abcd.txt", "src/gen.conflict-0123abcd/x"],
    );
    assert!(scope.may_hold(&path("src.conflict-0123abcd")));
    assert!(!scope.may_hold(&path("lib.conflict-0123abcd")));
}

#[test]
fn rule_2_under_the_mount_then_the_mapping_then_relative() {
    for spelling in ["/home/wuying/project/src", "/src", "src", "./src", "src/.", "//src"] {
        let scope = scope(&[list(spelling, &[])]);
        assert_eq!(scope.lists()[0].resolved(), Some(&path("src")), "{spelling}");
        check(&scope, &["src", "src/a"], &["", "lib", "srca"]);
    }
    let mapped = |mapping: &str, spelling: &str| {
        let mut policy = policy(&[list(spelling, &[])]);
        policy.mapping_policy.path = mapping.into();
        Scope::new(&policy, MOUNT).unwrap().lists()[0].resolved().unwrap().to_string()
    };
    assert_eq!(mapped("/data/me", "/data/me/src"), "src");
    assert_eq!(mapped("/data/me/", "/data/me"), "");
    assert_eq!(mapped("/data/me", "/data/mean"), "data/mean");
    // The mount takes precedence over the mapping.
    assert_eq!(mapped("/home/wuying", "/home/wuying/project/src"), "src");
    assert_eq!(mapped("/home/wuying", "/home/wuying/other"), "other");
    // A relative path is never compared with the absolute mapping.
    assert_eq!(mapped("/src", "src/a"), "src/a");
    assert_eq!(mapped("", "/home/wuying/elsewhere"), "home/wuying/elsewhere");
}

#[test]
fn rule_2_windows_paths() {
    let mapped = |mapping: &str, spelling: &str| {
        let mut policy = policy(&[list(spelling, &[])]);
        policy.mapping_policy.path = mapping.into();
        Scope::new(&policy, MOUNT).unwrap().lists()[0].resolved().unwrap().to_string()
    };
    let windows = r"C:\Users\me\work";
    assert_eq!(mapped(windows, r"C:\Users\me\work\src\lib"), "src/lib");
    assert_eq!(mapped(windows, r"c:\users\ME\Work\Src"), "Src");
    assert_eq!(mapped(windows, "C:/Users/me/work/src"), "src");
    assert_eq!(mapped(r"C:\Users\me\work\", r"C:\Users\me\work"), "");
    assert_eq!(mapped(windows, r"C:\Users\me\workshop"), "C:/Users/me/workshop");
    assert_eq!(mapped(windows, r"D:\Users\me\work\src"), "D:/Users/me/work/src");
    assert_eq!(mapped(windows, r"src\lib"), "src/lib");
    assert_eq!(mapped(r"\\server\share\work", r"\\SERVER\share\work\src"), "src");
    // Without a Windows mapping a backslash is an ordinary character.
    assert_eq!(mapped("", r"src\lib"), r"src\lib");
}

#[test]
fn rule_3_excludes() {
    let scope_of = |excludes: &[&str]| scope(&[list("/src", excludes)]);
    for spelling in
        ["/node_modules", "node_modules", "src/node_modules", "/home/wuying/project/src/node_modules"]
    {
        check(&scope_of(&[spelling]), &["src", "src/a"], &["src/node_modules", "src/node_modules/a"]);
    }
    // Excluding the list's own path excludes everything.
    let all = scope_of(&["src"]);
    check(&all, &[], &["src", "src/a"]);
    assert!(!all.may_hold(&TreePath::root()));
}

#[test]
fn y5_exclude_outside_its_white_list() {
    let scope = scope(&[list("src", &["docs", "/home/wuying/project/lib"]), list("lib", &[])]);
    check(&scope, &["lib/a"], &["src/docs/a", "src/lib/a", "docs/a"]);
    let warnings: Vec<_> = scope.warnings().iter().map(ToString::to_string).collect();
    assert_eq!(
        warnings,
        [
            r#"/bwList/whiteLists/0/excludePaths/1: "/home/wuying/project/lib" is outside its white list "src"; it is read as "src/lib" below the mount"#
        ]
    );
}

#[test]
fn rule_4_by_whole_components_and_single_files() {
    check(&scope(&[list("/data", &[])]), &["data", "data/a"], &["database", "database/a", "Data", "x/data"]);
    let file = scope(&[list("src/main.rs", &[])]);
    check(&file, &["src/main.rs"], &["src", "src/main.rsx", "src/lib.rs"]);
    assert!(file.may_hold(&path("src")));
    assert!(!file.may_hold(&path("lib")));
}

#[test]
fn y4_overlapping_lists_the_longest_path_decides() {
    let lists = [list("src", &["gen"]), list("src/gen/keep", &["tmp"]), list("src/gen/keep/tmp/x", &[])];
    let inside = ["src/a", "src/gen/keep/a", "src/gen/keep/tmp/x/b"];
    let outside = ["src/gen", "src/gen/a", "src/gen/keep/tmp/a", "a"];
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0], [0, 2, 1]] {
        check(&scope(&order.map(|i: usize| lists[i].clone())), &inside, &outside);
    }
    // Of two equally long rules the exclude wins.
    for lists in [[list("a", &["b"]), list("a/b", &[])], [list("a/b", &[]), list("a", &["b"])]] {
        check(&scope(&lists), &["a/c"], &["a/b", "a/b/c"]);
    }
}

#[test]
fn y6_relative_path() {
    check(
        &scope(&[list("src/lib", &["../x".trim_start_matches("../")])]),
        &["src/lib/a"],
        &["src/lib/x", "lib"],
    );
}

#[test]
fn y9_trailing_slash_is_the_same() {
    for p in ["src", "src/", "/src/", "src//", "/home/wuying/project/src/"] {
        check(&scope(&[list(p, &["a/"])]), &["src", "src/b"], &["src/a", "src/a/b", "lib"]);
    }
    let with =
        Scope::new(&policy(&[list("/home/wuying/project/src", &[])]), b"/home/wuying/project/").unwrap();
    check(&with, &["src/a"], &["home/wuying/project/src/a"]);
}

#[test]
fn y11_root_as_the_mount() {
    let scope = Scope::new(&policy(&[list("/home/me", &["/home/me/tmp", "cache"])]), b"/").unwrap();
    check(&scope, &["home/me/a"], &["home/me/tmp/a", "home/me/cache", "etc/passwd"]);
    assert_eq!(scope.warnings(), []);
    let regex = WhiteList { is_path_regex: true, ..list("/etc/[a-z]+", &[]) };
    check(&Scope::new(&policy(&[regex]), b"/").unwrap(), &["etc/passwd"], &["etc", "etc/a/b"]);
}

#[test]
fn rule_7_expressions_match_in_full() {
    let scope_of = |source: &str| scope(&[WhiteList { is_path_regex: true, ..list(source, &[]) }]);
    check(&scope_of("src"), &["src"], &["src2", "asrc", "src/a", "a/src"]);
    check(&scope_of("a|ab"), &["a", "ab"], &["abc", ""]);
    check(&scope_of(r"src/.*\.py"), &["src/a.py", "src/b/c.py", "src/a\nb.py"], &["src/a.pyc", "lib/a.py"]);
    check(&scope_of(r"/home/wuying/project/src/.*"), &["src/a"], &["src", "lib/a"]);
    check(&scope_of("é?x"), &["éx", "x"], &["éé"]);
    // Names that are not UTF-8.
    let bytes = TreePath::new(*b"src/\xff.py").unwrap();
    assert!(scope_of(r"src/.*\.py").contains(&bytes, false));
    assert!(scope_of(r"src/[^/]\.py").contains(&bytes, false));
    assert!(!scope_of(r"lib/.*").contains(&bytes, false));
}

#[test]
fn rule_7_expressions_among_other_rules() {
    let python = WhiteList { is_path_regex: true, ..list(r".*\.py", &[]) };
    // A path expression is the shortest rule, so every plain path wins over it.
    let both = scope(&[python.clone(), list("src", &["gen"])]);
    check(&both, &["a.py", "src/a.txt", "lib/b.py"], &["a.txt", "src/gen/a.py"]);

    // An exclude expression is as long as its list's path, and wins over it.
    let no_logs = WhiteList { is_exclude_regex: true, ..list("src", &[r".*\.log", "src/tmp(/.*)?"]) };
    check(
        &scope(std::slice::from_ref(&no_logs)),
        &["src/a", "src/a.logs"],
        &["src/a.log", "src/tmp", "src/tmp/a"],
    );
    // A longer path of another list wins over it, an equally long one does not.
    check(&scope(&[no_logs.clone(), list("src/keep", &[])]), &["src/keep/a.log"], &["src/a.log"]);
    check(&scope(&[no_logs, list("src", &[])]), &["src/a"], &["src/a.log"]);

    let no_tests =
        WhiteList { is_path_regex: true, is_exclude_regex: true, ..list(r".*\.py", &[".*/test_[^/]*"]) };
    check(&scope(&[no_tests, python]), &["a/x.py"], &["a/test_x.py"]);
}

#[test]
fn rule_8_only_directories_that_lead_somewhere_are_walked() {
    let scope = scope(&[list("a/b/c", &["d"]), list("x", &["y"]), list("x/y/z", &[])]);
    for dir in ["", "a", "a/b", "a/b/c", "a/b/c/e", "x", "x/y", "x/y/z", "x/q"] {
        assert!(scope.may_hold(&path(dir)), "{dir}");
    }
    for dir in ["b", "a/c", "a/b/d", "a/b/c/d", "a/b/c/d/e", "x/y/q", "xx"] {
        assert!(!scope.may_hold(&path(dir)), "{dir}");
    }
}

#[test]
fn the_root_is_in_scope_with_the_whole_mount_alone() {
    let root = TreePath::root();
    assert!(scope(&[]).contains(&root, true));
    assert!(!scope(&[list("src", &[])]).contains(&root, true));
    let nothing = scope(&[list("", &[""])]);
    assert!(!nothing.contains(&root, true) && !nothing.may_hold(&root));
}

#[test]
fn explains_in_plain_words() {
    let mut policy = policy(&[
        list("/home/wuying/project/src", &["gen"]),
        WhiteList { is_path_regex: true, is_exclude_regex: true, ..list(r".*\.py", &[".*/old/.*"]) },
        list("docs\n", &[]),
    ]);
    policy.bw_list.ignore_patterns = vec!["*.log".into(), "build/".into()];
    let scope = Scope::new(&policy, MOUNT).unwrap();
    let words: Vec<_> =
        ["src/a", "src/gen/a", "a.py", "a/old/b.py", "b", "src/a.log", "src/build/x", "docs\n/a"]
            .map(|p| {
                let decision = scope.decide(&path(p), false);
                format!("{} {p:?} {}: {}", decision.in_scope, decision.rule.pointer(), decision.rule)
            })
            .into();
    insta::assert_snapshot!("words", words.join("\n"));
    assert_eq!(
        scope.decide(&path("src/a"), false).rule.to_string(),
        r#"white list 0 "/home/wuying/project/src" includes it"#
    );
    let whole = Scope::new(&self::policy(&[]), MOUNT).unwrap();
    assert_eq!(whole.decide(&path("a"), false).rule, ScopeRule::WholeMount);
}
