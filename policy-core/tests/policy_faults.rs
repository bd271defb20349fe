//! Invalid policies: each error says what was found, where, and what is allowed.

use policy_core::{FaultKind, PolicyError, Scope, SyncPolicy, WhiteList};

fn error(text: &str) -> PolicyError {
    match SyncPolicy::from_json(text) {
        Ok(policy) => panic!("{text} was read as {policy:?}"),
        Err(error) => error,
    }
}

/// Formats each document with its error, for a snapshot.
fn errors(documents: &[&str]) -> String {
    documents.iter().map(|d| format!("{}\n    {}\n", policy_core::escape(d.as_bytes()), error(d))).collect()
}

#[test]
fn y1_unknown_field_names_the_nearest() {
    let error = error(r#"{"bwList": {"whiteLists": [{"path": "src", "excludePath": ["a"]}]}}"#);
    let [fault] = error.faults() else { panic!("{error}") };
    assert_eq!(fault.pointer, "/bwList/whiteLists/0/excludePath");
    let FaultKind::UnknownField { nearest, allowed, .. } = &fault.kind else { panic!("{fault:?}") };
    assert_eq!(*nearest, Some("excludePaths"));
    assert_eq!(allowed.len(), 4);
    insta::assert_snapshot!(
        "unknown_fields",
        errors(&[
            r#"{"bwList": {"whiteLists": [{"path": "src", "excludePath": ["a"]}]}}"#,
            r#"{"upload-policy": {}}"#,
            r#"{"uploadpolicy": {}}"#,
            r#"{"deletePolicy": {"sync_local_files": true}}"#,
            r#"{"whiteLists": []}"#,
            r#"{"colour": "blue"}"#,
            r#"{"bw_list": {"white_lists": [{}, {"exclude": []}]}}"#,
            r#"{"a/b~c": 1}"#,
            "{\"\\u001b[2J\": 1}",
            r#"{"uploadPolicy": {"uploadStrategy": {"UploadPeriodically": {"second": 5}}}}"#,
        ])
    );
}

#[test]
fn y2_wrong_type_with_its_place() {
    let error = error(r#"{"uploadPolicy": {"autoUpload": "yes"}}"#);
    assert_eq!(error.faults()[0].pointer, "/uploadPolicy/autoUpload");
    insta::assert_snapshot!(
        "wrong_types",
        errors(&[
            r#"{"uploadPolicy": {"autoUpload": "yes"}}"#,
            r#"{"uploadPolicy": {"autoUpload": 1}}"#,
            r#"{"uploadPolicy": []}"#,
            r#"{"bwList": {"whiteLists": {"path": ""}}}"#,
            r#"{"bwList": {"whiteLists": ["src"]}}"#,
            r#"{"bwList": {"whiteLists": [null]}}"#,
            r#"{"bwList": {"ignorePatterns": ["a", 2.5]}}"#,
            r#"{"recyclePolicy": {"lifecycle": {"days": 3}}}"#,
            r#"{"uploadPolicy": {"uploadStrategy": {}}}"#,
            r#"{"uploadPolicy": {"uploadStrategy": "UploadOnChange"}}"#,
            r#"{"uploadPolicy": {"uploadStrategy": {"UploadBeforeResourceRelease": {}}}}"#,
            r#"[]"#,
            r#"null"#,
            r#""UploadAsync""#,
        ])
    );
}

#[test]
fn y2_unknown_values_and_numbers_out_of_range() {
    insta::assert_snapshot!(
        "unknown_values",
        errors(&[
            r#"{"uploadPolicy": {"uploadStrategy": "UploadBeforeRelease"}}"#,
            r#"{"uploadPolicy": {"uploadMode": "file"}}"#,
            r#"{"downloadPolicy": {"downloadStrategy": "DownloadSync"}}"#,
            r#"{"recyclePolicy": {"lifecycle": "Lifecycle_2Days"}}"#,
            r#"{"conflictPolicy": "keep-both"}"#,
            r#"{"conflictPolicy": "whatever"}"#,
            r#"{"deletePolicy": {"maxDeletePercent": 101}}"#,
            r#"{"deletePolicy": {"maxDeletePercent": -1}}"#,
            r#"{"deletePolicy": {"maxDeletePercent": 12.5}}"#,
            r#"{"uploadPolicy": {"uploadStrategy": {"UploadPeriodically": {"seconds": 0}}}}"#,
            r#"{"uploadPolicy": {"uploadStrategy": {"UploadPeriodically": {"seconds": 1e300}}}}"#,
            r#"{"uploadPolicy": {"uploadStrategy": {"UploadOnChange": {}}}}"#,
            r#"{"uploadPolicy": {"uploadStrategy": {"UploadOnChange": {"debounceMs": 18446744073709551615}}}}"#,
        ])
    );
}

#[test]
fn y3_duplicate_key() {
    let error = error(r#"{"uploadPolicy": {}, "upload_policy": {"autoUpload": false}}"#);
    assert!(
        matches!(&error.faults()[0].kind, FaultKind::Duplicate { also: Some(also), .. } if also == "uploadPolicy")
    );
    insta::assert_snapshot!(
        "duplicates",
        errors(&[
            r#"{"uploadPolicy": {}, "upload_policy": {"autoUpload": false}}"#,
            r#"{"deletePolicy": {"syncLocalFile": true, "syncLocalFile": false}}"#,
            r#"{"extractPolicy": {"extractToCurrentFolder": true, "extract_current_folder": true}}"#,
            r#"{"extractPolicy": null, "extractPolicy": {}}"#,
            r#"{"$schema": "a", "$schema": "b"}"#,
        ])
    );
    let toml = SyncPolicy::from_toml("[deletePolicy]\nsyncLocalFile = true\nsyncLocalFile = false\n");
    let error = toml.unwrap_err();
    assert!(matches!(&error.faults()[0].kind, FaultKind::Syntax { line: 3, .. }), "{error}");
}

#[test]
fn y7_parent_components_nul_and_wildcards() {
    insta::assert_snapshot!(
        "bad_paths",
        errors(&[
            r#"{"bwList": {"whiteLists": [{"path": "/home/../etc"}]}}"#,
            r#"{"bwList": {"whiteLists": [{"path": ".."}]}}"#,
            r#"{"bw_list": {"white_lists": [{"path": "a"}, {"exclude_paths": ["b", "c/../d"]}]}}"#,
            r#"{"bwList": {"whiteLists": [{"path": "a\u0000b"}]}}"#,
            r#"{"bwList": {"whiteLists": [{"path": "src/*.py"}]}}"#,
            r#"{"bwList": {"whiteLists": [{"path": "src", "excludePaths": ["*.log", "a?", "[ab]"]}]}}"#,
            r#"{"recyclePolicy": {"paths": ["logs/*"]}}"#,
            r#"{"extractPolicy": {"paths": ["../x"]}}"#,
            r#"{"uploadPolicy": {"archiveExcludePaths": ["*.bin"]}}"#,
            r#"{"downloadPolicy": {"requiredPaths": ["a/*"]}}"#,
            r#"{"mappingPolicy": {"path": "C:\\Users\\..\\x"}}"#,
        ])
    );
    // Names that only look similar.
    for path in ["..a", "a..", "...", ".hidden", "{a,b}", "a!"] {
        let text = format!(r#"{{"bwList": {{"whiteLists": [{{"path": "{path}"}}]}}}}"#);
        assert!(SyncPolicy::from_json(&text).is_ok(), "{path}");
    }
}

#[test]
fn y8_empty_file_or_list() {
    for empty in ["", " \n\t", "\u{feff}"] {
        assert_eq!(error(empty).faults()[0].kind, FaultKind::Empty);
        assert_eq!(SyncPolicy::from_toml(empty).unwrap_err().faults()[0].kind, FaultKind::Empty);
    }
    insta::assert_snapshot!(
        "empty",
        errors(&["", "{", "{\n  \"bwList\": {\n}}}", "{'a': 1}", "{\"a\": 1,}"])
    );
    let policy = SyncPolicy::from_json(r#"{"bwList": {"whiteLists": []}}"#).unwrap();
    let scope = Scope::new(&policy, b"/m").unwrap();
    assert!(scope.contains(&"a/b".parse().unwrap(), false));
    assert_eq!(SyncPolicy::from_json("\u{feff}{}").unwrap(), SyncPolicy::default());
    assert_eq!(SyncPolicy::from_toml("# all defaults\n").unwrap(), SyncPolicy::default());
}

#[test]
fn y12_a_pattern_that_explodes() {
    insta::assert_snapshot!(
        "bad_expressions",
        errors(&[
            r#"{"bwList": {"whiteLists": [{"path": "((a{1000}){1000}){1000}", "isPathRegex": true}]}}"#,
            r#"{"bwList": {"whiteLists": [{"path": "a)(b", "isPathRegex": true}]}}"#,
            r#"{"bwList": {"whiteLists": [{"path": "(a", "isPathRegex": true}]}}"#,
            r#"{"bw_list": {"white_lists": [{"exclude_paths": ["ok", "(?=x)"], "is_exclude_regex": true}]}}"#,
            r#"{"bwList": {"ignorePatterns": ["*.o", "[z-a]", "a[b"]}}"#,
            r#"{"bwList": {"ignorePatterns": ["a\nb"]}}"#,
        ])
    );
    // Backtracking engines would take for ever here.
    let mut policy = SyncPolicy::default();
    policy.bw_list.white_lists =
        vec![WhiteList { path: "(a*)*b".into(), is_path_regex: true, ..Default::default() }];
    let scope = Scope::new(&policy, b"/m").unwrap();
    let long = "a".repeat(100_000).parse().unwrap();
    assert!(!scope.contains(&long, false));
    let nested = format!(r#"{{"bwList": {}"#, "[".repeat(100_000));
    assert!(SyncPolicy::from_json(&nested).is_err());
    assert!(SyncPolicy::from_toml(&format!("bwList = {}", "[".repeat(100_000))).is_err());
}

#[test]
fn all_faults_are_reported_at_once_in_the_order_of_the_document() {
    let error = error(
        r#"{"uploadPolicy": {"autoUplod": 1, "uploadMode": "Zip"}, "deletePolicy": {"syncLocalFile": "no"}}"#,
    );
    let pointers: Vec<_> = error.faults().iter().map(|f| f.pointer.as_str()).collect();
    assert_eq!(
        pointers,
        ["/uploadPolicy/autoUplod", "/uploadPolicy/uploadMode", "/deletePolicy/syncLocalFile"]
    );
    insta::assert_snapshot!("several", error);
}

#[test]
fn a_policy_made_in_code_is_checked_when_it_is_compiled() {
    let mut policy = SyncPolicy::default();
    policy.bw_list.white_lists[0].exclude_paths.push("a/../b".into());
    let error = Scope::new(&policy, b"/m").unwrap_err();
    assert_eq!(error.faults()[0].pointer, "/bwList/whiteLists/0/excludePaths/0");
}

#[test]
fn toml_errors_have_places_as_well() {
    let show = |text: &str| SyncPolicy::from_toml(text).unwrap_err().to_string();
    insta::assert_snapshot!(
        "toml",
        [
            show("[uploadPolicy]\nautoUpload = yes\n"),
            show("[uploadPolicy]\nauto_upload = 1979-05-27\n"),
            show("[uploadPolicy\n"),
            show("[bwList]\nwhiteList = []\n"),
        ]
        .join("\n")
    );
}
