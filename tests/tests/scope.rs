//! White lists, tested by what a push sends.
#![expect(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use ctxsync_tests::compare::{assert_same, paths};
use ctxsync_tests::machine::{Ended, World};
use ctxsync_tests::tree::Tree;
use policy_core::SyncPolicy;

/// Returns the files that a machine with a policy pushes, as a new machine without a policy pulls them.
async fn sent(policy: &str, make: impl FnOnce(&Tree)) -> (Vec<String>, Ended) {
    let world = World::memory().await;
    let a = world.machine("a");
    make(&a.mount);
    let mount = a.mount.0.to_str().unwrap().to_owned();
    let a = a.with_policy(&policy.replace("MOUNT", &mount));
    let ended = a.push().await;
    let b = world.machine("b");
    b.pull().await.clean();
    // The same policy lets a pull get the same paths.
    let mut c = world.machine("c");
    c.policy = SyncPolicy::from_json(&policy.replace("MOUNT", c.mount.0.to_str().unwrap())).unwrap();
    c.pull().await.report();
    assert_same(&b.mount.0, &c.mount.0);
    let files = paths(&b.mount.0).into_iter().filter(|p| b.mount.at(p).is_file());
    (files.collect(), ended)
}

fn some(tree: &Tree) {
    for path in [
        "data/a",
        "data/deep/er/b",
        "database/c",
        "src/main.rs",
        "src/node_modules/m",
        "node_modules/n",
        "src/keep/x",
        "src/keep/not/y",
        "README",
        "a.log",
    ] {
        tree.write(path, path);
    }
}

#[tokio::test]
async fn rules_of_white_lists_one_by_one() {
    let all = [
        "README",
        "a.log",
        "data/a",
        "data/deep/er/b",
        "database/c",
        "node_modules/n",
        "src/keep/not/y",
        "src/keep/x",
        "src/main.rs",
        "src/node_modules/m",
    ];
    let src = ["src/keep/not/y", "src/keep/x", "src/main.rs", "src/node_modules/m"];
    let cases: &[(&str, &str, &[&str])] = &[
        ("1 no lists", r"{}", &all),
        ("1 empty path", r#"{"bwList": {"whiteLists": [{"path": ""}]}}"#, &all),
        ("1 the root", r#"{"bwList": {"whiteLists": [{"path": "/"}]}}"#, &all),
        ("2 under the mount", r#"{"bwList": {"whiteLists": [{"path": "MOUNT/src"}]}}"#, &src),
        (
            "2 under the mapping",
            r#"{"mappingPolicy": {"path": "C:\\Users\\me\\work"},
                "bwList": {"whiteLists": [{"path": "C:\\Users\\me\\work\\src"}]}}"#,
            &src,
        ),
        ("2 relative", r#"{"bwList": {"whiteLists": [{"path": "src"}]}}"#, &src),
        ("2 with a slash", r#"{"bwList": {"whiteLists": [{"path": "/src/"}]}}"#, &src),
        (
            "3 an exclude below its list",
            r#"{"bwList": {"whiteLists": [{"path": "/src", "excludePaths": ["/src/keep"]}]}}"#,
            &["src/main.rs", "src/node_modules/m"],
        ),
        (
            "3 an exclude relative to its list",
            r#"{"bwList": {"whiteLists": [{"path": "/src", "excludePaths": ["/node_modules"]}]}}"#,
            &["src/keep/not/y", "src/keep/x", "src/main.rs"],
        ),
        (
            "3 an exclude that is its list",
            r#"{"bwList": {"whiteLists": [{"path": "/src", "excludePaths": ["/src"]}, {"path": "/data"}]}}"#,
            &["data/a", "data/deep/er/b"],
        ),
        (
            "4 whole components",
            r#"{"bwList": {"whiteLists": [{"path": "/data"}]}}"#,
            &["data/a", "data/deep/er/b"],
        ),
        ("4 a single file", r#"{"bwList": {"whiteLists": [{"path": "/src/main.rs"}]}}"#, &["src/main.rs"]),
        (
            "5 the longest path decides",
            r#"{"bwList": {"whiteLists": [{"path": "/src/keep"},
                {"path": "/src", "excludePaths": ["/src/keep", "/src/keep/not"]}]}}"#,
            &["src/main.rs", "src/node_modules/m"],
        ),
        (
            "5 a list inside an exclude",
            r#"{"bwList": {"whiteLists": [{"path": "/src", "excludePaths": ["/src/keep"]},
                {"path": "/src/keep/not"}]}}"#,
            &["src/keep/not/y", "src/main.rs", "src/node_modules/m"],
        ),
        (
            "7 expressions",
            r#"{"bwList": {"whiteLists": [{"path": ".*\\.rs|data/.*", "isPathRegex": true,
                "excludePaths": [".*/er/.*"], "isExcludeRegex": true}]}}"#,
            &["data/a", "src/main.rs"],
        ),
        (
            "7 patterns",
            r#"{"bwList": {"ignorePatterns": ["*.log", "node_modules/", "/data", "!database"]}}"#,
            &["README", "database/c", "src/keep/not/y", "src/keep/x", "src/main.rs"],
        ),
        (
            "9 patterns bring nothing in",
            r#"{"bwList": {"whiteLists": [{"path": "/data"}], "ignorePatterns": ["!README", "deep"]}}"#,
            &["data/a"],
        ),
    ];
    for (rule, policy, expected) in cases {
        let (files, ended) = sent(policy, some).await;
        assert_eq!(files, *expected, "{rule}");
        ended.clean();
    }
}

#[tokio::test]
async fn rule_9_a_list_that_holds_nothing_is_said_and_makes_the_push_incomplete() {
    let (files, ended) = sent(r#"{"bwList": {"whiteLists": [{"path": "/no/such/place"}]}}"#, some).await;
    assert_eq!(files, [""; 0]);
    assert!(ended.report().nothing_in_scope && ended.report().is_incomplete(), "{:?}", ended.report());
    assert!(ended.warned("no/such/place"), "{:?}", ended.noted.warnings);
    let (_, ended) =
        sent(r#"{"bwList": {"whiteLists": [{"path": "/src"}, {"path": "/nothing"}]}}"#, some).await;
    assert!(ended.warned("`/nothing`") && !ended.warned("`/src`"), "{:?}", ended.noted.warnings);
    assert!(!ended.report().is_incomplete());
}

#[tokio::test]
async fn y13_what_is_newly_excluded_is_deleted_nowhere_and_may_come_back() {
    let world = World::memory().await;
    let (a, b) = (world.machine("a"), world.machine("b"));
    some(&a.mount);
    a.push().await.clean();
    b.pull().await.clean();
    let narrow = r#"{"bwList": {"whiteLists": [{"path": "", "excludePaths": ["/src"]}]}}"#;
    let b = b.with_policy(narrow);
    assert_eq!(b.pull().await.clean().deleted, 0);
    assert_eq!(b.push().await.clean().deleted, 0);
    assert!(b.mount.has("src/main.rs"));
    // Changes that are out of scope are not pushed.
    b.mount.remove("src/keep").write("src/main.rs", "mine").write("src/new", "n").write("README", "changed");
    assert_eq!((b.push().await.clean().changed, b.pull().await.clean().changed), (1, 0));
    a.pull().await.clean();
    assert_eq!(a.mount.read("src/main.rs"), "src/main.rs");
    // Back in scope: files that were deleted meanwhile are pulled, nothing is deleted, and an edit is a
    // conflict.
    let b = b.with_policy("{}");
    let pulled = b.pull().await;
    assert_eq!((pulled.report().deleted, pulled.report().conflicts), (0, 1), "{:?}", pulled.noted);
    assert!(b.mount.has("src/keep/not/y"));
    assert_eq!(b.push().await.clean().deleted, 0);
    a.pull().await.clean();
    assert_eq!((a.mount.read("src/main.rs").as_str(), a.mount.has("src/new")), ("mine", true));
}

#[tokio::test]
async fn rule_8_a_directory_stays_for_what_is_out_of_scope_in_it() {
    let world = World::memory().await;
    let a = world.machine("a");
    a.mount.write("src/in", "x").write("src/tmp/out", "x");
    let policy = r#"{"bwList": {"ignorePatterns": ["tmp"]}}"#;
    let (a, b) = (a.with_policy(policy), world.machine("b").with_policy(policy));
    a.push().await.clean();
    b.pull().await.clean();
    b.mount.write("src/tmp/mine", "m").write("other", "o");
    b.push().await.clean();
    a.pull().await.clean();
    a.mount.remove("src");
    a.push().await.clean();
    b.pull().await.clean();
    assert_eq!(paths(&b.mount.0), ["other", "src", "src/tmp", "src/tmp/mine"]);
    // The empty directories that are left are no change either.
    assert_eq!(b.push().await.clean().deleted, 0);
    b.pull().await.clean();
}

#[tokio::test]
async fn the_guides_configurations_run_as_they_stand() {
    let examples = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/examples");
    for (name, expected) in [
        ("development", &["README", "src/main.rs"][..]),
        ("production", &["README", "src/main.rs"]),
        ("big-data", &["README", "src/main.rs"]),
    ] {
        let text = std::fs::read_to_string(examples.join(format!("{name}.json"))).unwrap();
        // The mount takes the place of the guide's directory.
        let list = SyncPolicy::from_json(&text).unwrap().bw_list.white_lists[0].clone();
        let text = text.replace(&format!("\"{}", list.path), "\"MOUNT");
        let (files, ended) = sent(&text, |tree| {
            tree.write("README", "r").write("src/main.rs", "m");
            for excluded in &list.exclude_paths {
                let below = excluded.strip_prefix(&list.path).unwrap_or(excluded).trim_start_matches('/');
                tree.write(format!("{below}/left/out"), "x");
            }
        })
        .await;
        assert_eq!(files, expected, "{name}");
        ended.clean();
    }
}

#[tokio::test]
async fn only_some_paths_leave_the_others_as_they_are() {
    let world = World::memory().await;
    let (a, mut b) = (world.machine("a"), world.machine("b"));
    some(&a.mount);
    a.push().await.clean();
    b.options.only = vec!["src".parse().unwrap()];
    b.pull().await.clean();
    assert_eq!(paths(&b.mount.0)[0], "src");
    // What was not pulled is pending, not deleted.
    b.mount.write("src/main.rs", "changed").remove("src/keep").write("elsewhere", "x");
    let pushed = b.push().await;
    assert_eq!((pushed.clean().changed, pushed.clean().deleted, pushed.clean().added), (1, 2, 0));
    b.options.only.clear();
    let pushed = b.push().await;
    assert_eq!((pushed.clean().added, pushed.clean().deleted), (1, 0));
    b.pull().await.clean();
    a.pull().await.clean();
    assert_same(&a.mount.0, &b.mount.0);
}

/// What takes no part in the sync and is at the path of a file of the context is said by each pull, and nothing happens to
/// either.
#[tokio::test]
async fn what_is_left_out_at_a_files_path_fails_that_path_each_time() {
    let world = World::memory().await;
    let (a, b) = (world.machine("a"), world.machine("b"));
    a.mount.write("build", "a file").write("kept", "k");
    a.push().await.clean();
    let b = b.with_policy(r#"{"bwList": {"ignorePatterns": ["build/"]}}"#);
    b.mount.write("build/out", "mine");
    for _ in 0..2 {
        for ended in [b.pull().await, b.sync().await] {
            assert_eq!((ended.report().failed, ended.report().unsettled), (1, 0), "{:?}", ended.noted);
        }
    }
    assert_eq!(paths(&b.mount.0), ["build", "build/out", "kept"]);
    assert_eq!(world.head().await.totals.files, 2);
    std::fs::remove_dir_all(b.mount.at("build")).unwrap();
    assert_eq!(b.pull().await.clean().added, 1);
}

/// The same of a directory that stays because of what is left out in it.
#[tokio::test]
async fn a_directory_of_what_is_left_out_at_a_files_path_fails_that_path_each_time() {
    let world = World::memory().await;
    let (a, b) = (world.machine("a"), world.machine("b"));
    a.mount.write("d/x", "1").write("d/sub/y.log", "2").write("kept", "k");
    a.push().await.clean();
    b.pull().await.clean();
    std::fs::remove_dir_all(a.mount.at("d")).unwrap();
    a.mount.write("d", "a file");
    a.push().await.clean();
    let b = b.with_policy(r#"{"bwList": {"ignorePatterns": ["*.log"]}}"#);
    for _ in 0..3 {
        let ended = b.sync().await;
        assert_eq!((ended.report().failed, ended.report().unsettled), (1, 0), "{:?}", ended.noted);
    }
    assert_eq!(paths(&b.mount.0), ["d", "d/sub", "d/sub/y.log", "kept"]);
    assert_eq!(world.head().await.totals.files, 2);
    std::fs::remove_dir_all(b.mount.at("d")).unwrap();
    b.sync().await.clean();
    assert_eq!(b.mount.read("d"), "a file");
}
