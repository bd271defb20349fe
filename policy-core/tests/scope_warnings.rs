//! Warnings about a policy on a mount, lists that match nothing, and lists of paths.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use policy_core::{ListMarks, Scope, SyncPolicy, TreePath};

const MOUNT: &[u8] = b"/home/wuying/my-workspace";

fn path(s: &str) -> TreePath {
    s.parse().unwrap()
}

fn scope(json: &str) -> Scope {
    Scope::new(&SyncPolicy::from_json(json).unwrap(), MOUNT).unwrap()
}

fn warnings(json: &str) -> String {
    scope(json).warnings().iter().map(|w| format!("{w}\n")).collect()
}

#[test]
fn a_path_of_another_place_is_named_with_what_it_was_read_as() {
    insta::assert_snapshot!("guide", warnings(include_str!("../../docs/examples/development.json")));
    insta::assert_snapshot!(
        "outside",
        warnings(
            r#"{"bwList": {"whiteLists": [
                {"path": "src"}, {"path": "/home/wuying/my-workspace/src"}, {"path": "/opt/x"},
                {"path": "C:\\work", "excludePaths": ["C:\\work\\tmp"]},
                {"path": "", "excludePaths": ["/node_modules", "/home/wuying/project/tmp", "D:\\x"]}]},
              "recyclePolicy": {"paths": ["", "logs", "/var/log"]},
              "uploadPolicy": {"archiveExcludePaths": ["/data"]},
              "extractPolicy": {"paths": ["/home/wuying/my-workspace/in"]}}"#
        )
    );
    assert_eq!(warnings("{}"), "");
}

#[test]
fn y10_contradiction() {
    insta::assert_snapshot!(
        "contradictions",
        warnings(
            r#"{"bwList": {"whiteLists": [{"path": "a", "excludePaths": ["a"]},
                {"path": "b", "excludePaths": ["c"]}, {"path": "b/c"}, {"path": "d/build/e"}],
                "ignorePatterns": ["build/"]},
              "recyclePolicy": {"lifecycle": "Lifecycle_1Day", "paths": []},
              "extractPolicy": {"paths": []}}"#
        )
    );
    assert_eq!(
        warnings(r#"{"bwList": {"whiteLists": [{"excludePaths": [""]}]}}"#).lines().last(),
        Some("/bwList: nothing at all can be in scope; nothing will be synced")
    );
}

#[test]
fn a_mount_must_be_absolute() {
    let policy = SyncPolicy::default();
    let error = |mount: &[u8]| Scope::new(&policy, mount).unwrap_err().to_string();
    assert_eq!(error(b"work"), r#"the mount "work" is not an absolute path"#);
    assert_eq!(error(b"/a/../b"), r#"the mount "/a/../b" has a component `..`"#);
    assert_eq!(error(b"/a\0"), r#"the mount "/a\u{0}" has a NUL byte"#);
    assert!(Scope::new(&policy, b"/a\xff").is_ok());
    assert!(Scope::new(&policy, br"C:\work").is_ok());
}

#[test]
fn marks_tell_which_lists_hold_nothing() {
    let scope = scope(
        r#"{"bwList": {"whiteLists": [{"path": "src"}, {"path": "src/lib", "excludePaths": ["tmp"]},
            {"path": "lost"}, {"path": ".*\\.py", "isPathRegex": true}, {"path": ".*\\.c", "isPathRegex": true},
            {"path": "src/lib"}, {"path": "srcs"}]}}"#,
    );
    let unmatched = |paths: &[&str]| {
        let mut all = ListMarks::new(&scope);
        for p in paths {
            let mut one = ListMarks::new(&scope);
            one.note(&scope, &path(p));
            all.merge(&one);
        }
        all.unmatched(&scope).iter().map(|l| l.index()).collect::<Vec<_>>()
    };
    assert_eq!(unmatched(&[]), [0, 1, 2, 3, 4, 5, 6]);
    assert_eq!(unmatched(&["home", "srcx"]), [0, 1, 2, 3, 4, 5, 6]);
    assert_eq!(unmatched(&["src"]), [1, 2, 3, 4, 5, 6]);
    // A list that matches a path counts, even if another rule decides about the path.
    assert_eq!(unmatched(&["src/lib/tmp/a.py"]), [2, 4, 6]);
    assert_eq!(scope.list_matching(&path("src/lib/tmp/a.py")), Some(0));
    assert_eq!(scope.list_matching(&path("x.c")), Some(4));
    assert_eq!(scope.list_matching(&path("x")), None);
}

#[test]
fn lists_of_paths_are_read_as_white_list_paths_are() {
    let scope = scope(
        r#"{"recyclePolicy": {"paths": ["tmp", "/logs/", "/home/wuying/my-workspace/a/b", "logs/x", "M:\\w\\c"]},
            "mappingPolicy": {"path": "m:\\W"}, "uploadPolicy": {"archiveExcludePaths": []}, "extractPolicy": {},
            "downloadPolicy": {"requiredPaths": ["logs", "M:\\w\\c", "logs/x"]}}"#,
    );
    let recycled = scope.recycle_paths();
    assert_eq!(recycled.places(), ["a/b", "c", "logs", "tmp"].map(path));
    for p in ["tmp", "tmp/a", "logs/x/y", "a/b", "a/b/c", "c/d"] {
        assert!(recycled.contains(&path(p)), "{p}");
    }
    for p in ["", "a", "a/c", "log", "logs-old", "tmp2", "d"] {
        assert!(!recycled.contains(&path(p)), "{p}");
    }
    assert!(scope.archive_exclude_paths().is_empty());
    assert_eq!(scope.required_paths(), ["logs", "c", "logs/x"].map(path));
    assert!(
        scope.extract_paths().contains(&path("a/b")) && scope.extract_paths().contains(&TreePath::root())
    );
    assert!(self::scope("{}").extract_paths().is_empty());
}
