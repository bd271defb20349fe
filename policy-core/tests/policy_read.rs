//! Reading policies: names, defaults, the guide's examples, and writing them again.

use policy_core::{
    BwList, ConflictPolicy, DeletePolicy, DownloadPolicy, DownloadStrategy, ExtractPolicy, Lifecycle,
    MappingPolicy, RecyclePolicy, SyncPolicy, UploadMode, UploadPolicy, UploadStrategy, WhiteList,
};
use proptest::prelude::*;

fn json(text: &str) -> SyncPolicy {
    SyncPolicy::from_json(text).unwrap_or_else(|e| panic!("{text}: {e}"))
}

const DEVELOPMENT: &str = include_str!("../../docs/examples/development.json");
const PRODUCTION: &str = include_str!("../../docs/examples/production.json");
const BIG_DATA: &str = include_str!("../../docs/examples/big-data.json");
const GUIDE: &str = include_str!("../../docs/examples/guide-complete.json");

fn white_list(path: &str, excludes: &[&str]) -> BwList {
    BwList {
        white_lists: vec![WhiteList {
            path: path.into(),
            exclude_paths: excludes.iter().map(|e| (*e).to_owned()).collect(),
            ..Default::default()
        }],
        ignore_patterns: vec![],
    }
}

#[test]
fn nothing_given_is_the_defaults() {
    assert_eq!(json("{}"), SyncPolicy::default());
    insta::assert_snapshot!("default", SyncPolicy::default().to_json());
}

#[test]
fn the_defaults_written_out_are_the_defaults() {
    let written = r#"{
      "uploadPolicy":   {"autoUpload": true, "uploadStrategy": "UploadBeforeResourceRelease", "uploadMode": "File"},
      "downloadPolicy": {"autoDownload": true, "downloadStrategy": "DownloadAsync"},
      "deletePolicy":   {"syncLocalFile": true},
      "extractPolicy":  {"extract": true, "deleteSrcFile": true, "extractToCurrentFolder": false},
      "recyclePolicy":  {"lifecycle": "Lifecycle_Forever", "paths": [""]},
      "bwList":         {"whiteLists": [{"path": "", "excludePaths": []}]},
      "mappingPolicy":  {"path": ""}
    }"#;
    let expected = SyncPolicy { extract_policy: Some(ExtractPolicy::default()), ..Default::default() };
    assert_eq!(json(written), expected);
    let empty_parts = r#"{"uploadPolicy": {}, "downloadPolicy": {}, "deletePolicy": {}, "extractPolicy": {},
        "recyclePolicy": {}, "bwList": {}, "mappingPolicy": {}, "$schema": "https://example.org/policy"}"#;
    assert_eq!(json(empty_parts), expected);
}

#[test]
fn an_extract_policy_is_what_is_given() {
    assert_eq!(json("{}").extract_policy, None);
    assert_eq!(json(r#"{"extractPolicy": null}"#).extract_policy, None);
    let given = json(r#"{"extractPolicy": {}}"#).extract_policy.unwrap();
    assert!(given.extract && given.delete_src_file && !given.extract_to_current_folder);
    for name in [
        "extractToCurrentFolder",
        "extract_to_current_folder",
        "extractCurrentFolder",
        "extract_current_folder",
    ] {
        let policy = json(&format!(r#"{{"extractPolicy": {{"{name}": true}}}}"#));
        assert!(policy.extract_policy.unwrap().extract_to_current_folder, "{name}");
    }
}

#[test]
fn the_guides_policies_load_as_they_stand() {
    let extract = |delete_src_file, extract_to_current_folder| {
        Some(ExtractPolicy {
            extract: true,
            delete_src_file,
            extract_to_current_folder,
            ..Default::default()
        })
    };
    let project = "/home/wuying/project";
    assert_eq!(
        json(DEVELOPMENT),
        SyncPolicy {
            extract_policy: extract(false, true),
            bw_list: white_list(
                project,
                &[
                    "/home/wuying/project/node_modules",
                    "/home/wuying/project/.git",
                    "/home/wuying/project/temp"
                ]
            ),
            ..Default::default()
        }
    );
    assert_eq!(
        json(PRODUCTION),
        SyncPolicy {
            delete_policy: DeletePolicy { sync_local_file: false, max_delete_percent: None },
            extract_policy: extract(true, false),
            bw_list: white_list("/home/wuying/data", &[]),
            ..Default::default()
        }
    );
    assert_eq!(
        json(BIG_DATA),
        SyncPolicy {
            upload_policy: UploadPolicy { auto_upload: false, ..Default::default() },
            download_policy: DownloadPolicy { auto_download: false, ..Default::default() },
            extract_policy: extract(true, true),
            bw_list: white_list(
                "/home/wuying/datasets",
                &["/home/wuying/datasets/raw", "/home/wuying/datasets/temp"]
            ),
            ..Default::default()
        }
    );
    assert_eq!(
        json(GUIDE),
        SyncPolicy {
            extract_policy: extract(false, true),
            bw_list: white_list(
                project,
                &["/home/wuying/project/temp", "/home/wuying/project/logs", "/home/wuying/project/.git"]
            ),
            ..Default::default()
        }
    );
}

const EVERYTHING: &str = r#"{
  "upload_policy": {"auto_upload": false, "upload_strategy": {"UPLOAD_ON_CHANGE": {"debounce_ms": 250}},
    "upload_mode": "ARCHIVE", "archive_exclude_paths": ["models"], "period": 30},
  "download_policy": {"auto_download": false, "download_strategy": "DOWNLOAD_BEFORE_START",
    "required_paths": ["conf"]},
  "delete_policy": {"sync_local_file": false, "max_delete_percent": 30},
  "extract_policy": {"extract": false, "delete_src_file": false, "extract_to_current_folder": true,
    "paths": ["in"]},
  "recycle_policy": {"lifecycle": "LIFECYCLE_30DAYS", "paths": ["tmp", "/logs"]},
  "bw_list": {"white_lists": [{"path": "src/.*", "exclude_paths": [".*\\.log"], "is_path_regex": true,
    "is_exclude_regex": true}], "ignore_patterns": ["*.o"]},
  "mapping_policy": {"path": "C:\\work"},
  "conflict_policy": "PREFER_REMOTE"
}"#;

fn everything() -> SyncPolicy {
    SyncPolicy {
        upload_policy: UploadPolicy {
            auto_upload: false,
            upload_strategy: UploadStrategy::UploadOnChange { debounce_ms: 250 },
            upload_mode: UploadMode::Archive,
            archive_exclude_paths: vec!["models".into()],
            period: Some(30),
        },
        download_policy: DownloadPolicy {
            auto_download: false,
            download_strategy: DownloadStrategy::DownloadBeforeStart,
            required_paths: vec!["conf".into()],
        },
        delete_policy: DeletePolicy { sync_local_file: false, max_delete_percent: Some(30) },
        extract_policy: Some(ExtractPolicy {
            extract: false,
            delete_src_file: false,
            extract_to_current_folder: true,
            paths: vec!["in".into()],
        }),
        recycle_policy: RecyclePolicy {
            lifecycle: Lifecycle::Days30,
            paths: vec!["tmp".into(), "/logs".into()],
        },
        bw_list: BwList {
            white_lists: vec![WhiteList {
                path: "src/.*".into(),
                exclude_paths: vec![r".*\.log".into()],
                is_path_regex: true,
                is_exclude_regex: true,
            }],
            ignore_patterns: vec!["*.o".into()],
        },
        mapping_policy: MappingPolicy { path: r"C:\work".into() },
        conflict_policy: ConflictPolicy::PreferRemote,
    }
}

#[test]
fn every_field_is_read_under_both_of_its_names() {
    assert_eq!(json(EVERYTHING), everything());
    assert_eq!(json(&everything().to_json()), everything());
    insta::assert_snapshot!("everything", everything().to_json());
}

#[test]
fn toml_reads_the_same() {
    let text = r#"
        conflict_policy = "PREFER_REMOTE"
        mappingPolicy.path = 'C:\work'
        [uploadPolicy]
        auto_upload = false
        uploadMode = "Archive"
        uploadStrategy = { UploadOnChange = { debounceMs = 250 } }
        archiveExcludePaths = ["models"]
        period = 30
        [downloadPolicy]
        autoDownload = false
        downloadStrategy = "DownloadBeforeStart"
        requiredPaths = ["conf"]
        [deletePolicy]
        syncLocalFile = false
        maxDeletePercent = 30
        [extractPolicy]
        extract = false
        deleteSrcFile = false
        extractToCurrentFolder = true
        paths = ["in"]
        [recyclePolicy]
        lifecycle = "Lifecycle_30Days"
        paths = ["tmp", "/logs"]
        [bwList]
        ignorePatterns = ["*.o"]
        [[bwList.whiteLists]]
        path = "src/.*"
        excludePaths = ['.*\.log']
        isPathRegex = true
        isExcludeRegex = true
    "#;
    assert_eq!(SyncPolicy::from_toml(text).unwrap(), everything());
}

#[test]
fn null_is_left_out_whatever_the_field() {
    let text = r#"{"uploadPolicy": null, "extract_policy": null, "bwList": {"white_lists": null},
        "recyclePolicy": {"paths": null}, "deletePolicy": {"maxDeletePercent": null}}"#;
    assert_eq!(json(text), SyncPolicy::default());
    // Every field of every part that the default writes, one by one and all together.
    let given = SyncPolicy { extract_policy: Some(ExtractPolicy::default()), ..SyncPolicy::default() };
    let given: serde_json::Value = serde_json::from_str(&given.to_json()).unwrap();
    for (part, value) in given.as_object().unwrap() {
        assert_eq!(json(&format!(r#"{{"{part}": null}}"#)), SyncPolicy::default(), "{part}");
        let Some(fields) = value.as_object() else { continue };
        let nulls: Vec<String> = fields.keys().map(|field| format!(r#""{field}": null"#)).collect();
        for fields in nulls.iter().map(String::as_str).chain([&*nulls.join(", ")]) {
            let read = json(&format!(r#"{{"{part}": {{{fields}}}}}"#));
            let extract_policy = (part == "extractPolicy").then(ExtractPolicy::default);
            assert_eq!(read, SyncPolicy { extract_policy, ..SyncPolicy::default() }, "{part} {fields}");
        }
    }
    let list =
        json(r#"{"bw_list": {"white_lists": [{"path": "a", "exclude_paths": null, "isPathRegex": null}]}}"#);
    assert_eq!(list, json(r#"{"bwList": {"whiteLists": [{"path": "a"}]}}"#));
    let schema = json(r#"{"$schema": null, "downloadPolicy": {"downloadStrategy": null}}"#);
    assert_eq!(schema, SyncPolicy::default());
    // An item of a list is not a field, and a strategy's parameters must not be left out.
    for bad in [
        r#"{"bwList": {"whiteLists": [null]}}"#,
        r#"{"uploadPolicy": {"uploadStrategy": {"UploadPeriodically": {"seconds": null}}}}"#,
        r#"{"uploadPolicy": {"uploadStrategy": {"UploadPeriodically": null}}}"#,
        r#"{"uploadPolicys": null}"#,
    ] {
        assert!(SyncPolicy::from_json(bad).is_err(), "{bad}");
    }
}

/// The guide's other SDKs send a period beside the strategy. It is kept, and changes nothing else.
#[test]
fn the_period_of_other_sdks_is_kept() {
    for text in [
        r#"{"uploadPolicy": {"autoUpload": true, "period": 30}}"#,
        r#"{"upload_policy": {"auto_upload": true, "period": 30}}"#,
    ] {
        let policy = json(text);
        assert_eq!(policy.upload_policy.period, Some(30));
        assert_eq!(json(&policy.to_json()), policy);
        let upload_policy = UploadPolicy { period: None, ..policy.upload_policy.clone() };
        assert_eq!(SyncPolicy { upload_policy, ..policy }, SyncPolicy::default());
    }
    // The digest of a policy without a period has not changed.
    assert!(!SyncPolicy::default().digest_input().contains("period"));
    let error = SyncPolicy::from_json(r#"{"uploadPolicy": {"periode": 30}}"#).unwrap_err().to_string();
    assert!(error.contains("did you mean `period`"), "{error}");
    assert!(SyncPolicy::from_json(r#"{"uploadPolicy": {"period": "30"}}"#).is_err());
}

#[test]
fn each_value_of_each_enumeration_has_two_names() {
    let lifecycles = [1, 3, 5, 10, 15, 30, 90, 180, 360].map(|n| {
        let s = if n == 1 { "" } else { "s" };
        (format!("Lifecycle_{n}Day{s}"), format!("LIFECYCLE_{n}DAY{}", s.to_uppercase()), Some(n))
    });
    let forever = ("Lifecycle_Forever".to_owned(), "LIFECYCLE_FOREVER".to_owned(), None);
    for (wire, guide, days) in lifecycles.into_iter().chain([forever]) {
        for name in [&wire, &guide] {
            let policy = json(&format!(r#"{{"recyclePolicy": {{"lifecycle": "{name}"}}}}"#));
            assert_eq!(policy.recycle_policy.lifecycle.days(), days, "{name}");
            assert!(policy.to_json().contains(&format!("\"{wire}\"")));
        }
    }
    for (names, value) in [
        (["KeepBoth", "KEEP_BOTH"], ConflictPolicy::KeepBoth),
        (["PreferLocal", "PREFER_LOCAL"], ConflictPolicy::PreferLocal),
        (["PreferRemote", "PREFER_REMOTE"], ConflictPolicy::PreferRemote),
        (["Fail", "FAIL"], ConflictPolicy::Fail),
    ] {
        for name in names {
            assert_eq!(json(&format!(r#"{{"conflictPolicy": "{name}"}}"#)).conflict_policy, value);
        }
    }
    for text in
        [r#"{"UploadPeriodically": {"seconds": 60}}"#, r#"{"UPLOAD_PERIODICALLY": {"seconds": 60.0}}"#]
    {
        assert_eq!(
            json(&format!(r#"{{"uploadPolicy": {{"uploadStrategy": {text}}}}}"#))
                .upload_policy
                .upload_strategy,
            UploadStrategy::UploadPeriodically { seconds: 60 }
        );
    }
}

#[test]
fn equal_policies_alone_have_equal_digest_inputs() {
    assert_eq!(json(EVERYTHING).digest_input(), everything().digest_input());
    assert_ne!(json("{}").digest_input(), everything().digest_input());
    assert!(!json("{}").digest_input().contains('\n'));
    assert_ne!(json("{}").digest_input(), json(r#"{"extractPolicy": {}}"#).digest_input());
}

fn any_path() -> impl Strategy<Value = String> {
    prop_oneof![Just(String::new()), "/?[a-z\\\\\"é]{1,5}(/[a-z .:]{2,4}z){0,2}/?"]
}

fn any_policy() -> impl Strategy<Value = SyncPolicy> {
    let paths = || proptest::collection::vec(any_path(), 0..3);
    let strategy = prop_oneof![
        Just(UploadStrategy::UploadBeforeResourceRelease),
        (1u32..).prop_map(|seconds| UploadStrategy::UploadPeriodically { seconds }),
        (1u32..).prop_map(|debounce_ms| UploadStrategy::UploadOnChange { debounce_ms }),
    ];
    let upload = (any::<[bool; 2]>(), strategy, paths(), any::<Option<u32>>()).prop_map(
        |(b, upload_strategy, paths, period)| UploadPolicy {
            auto_upload: b[0],
            upload_strategy,
            upload_mode: if b[1] { UploadMode::File } else { UploadMode::Archive },
            archive_exclude_paths: paths,
            period,
        },
    );
    let extract = proptest::option::of((any::<[bool; 3]>(), paths()).prop_map(|(b, paths)| ExtractPolicy {
        extract: b[0],
        delete_src_file: b[1],
        extract_to_current_folder: b[2],
        paths,
    }));
    let list = (any_path(), paths(), any::<[bool; 2]>()).prop_map(|(path, exclude_paths, b)| WhiteList {
        // An expression that ends in a backslash is invalid, and some of the paths do.
        is_path_regex: b[0] && !path.contains('\\'),
        is_exclude_regex: b[1] && exclude_paths.iter().all(|p| !p.contains('\\')),
        path,
        exclude_paths,
    });
    let lists = proptest::collection::vec(list, 0..3);
    let rest = (any::<[bool; 3]>(), proptest::option::of(0u8..=100), paths(), any_path());
    (upload, extract, lists, rest).prop_map(|(upload_policy, extract_policy, white_lists, rest)| {
        let ([auto_download, now, sync_local_file], max_delete_percent, paths, path) = rest;
        SyncPolicy {
            upload_policy,
            download_policy: DownloadPolicy {
                auto_download,
                download_strategy: if now {
                    DownloadStrategy::DownloadBeforeStart
                } else {
                    DownloadStrategy::DownloadAsync
                },
                required_paths: paths.clone(),
            },
            delete_policy: DeletePolicy { sync_local_file, max_delete_percent },
            extract_policy,
            recycle_policy: RecyclePolicy {
                lifecycle: if now { Lifecycle::Days1 } else { Lifecycle::Days360 },
                paths,
            },
            bw_list: BwList { white_lists, ignore_patterns: vec!["*.o".into()] },
            mapping_policy: MappingPolicy { path },
            conflict_policy: if now { ConflictPolicy::Fail } else { ConflictPolicy::PreferLocal },
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

    #[test]
    fn writing_and_reading_back_gives_the_same(policy in any_policy()) {
        prop_assert_eq!(SyncPolicy::from_json(&policy.to_json()).unwrap(), policy.clone());
        prop_assert_eq!(SyncPolicy::from_json(&policy.digest_input()).unwrap(), policy.clone());
        let through_serde: SyncPolicy = serde_json::from_str(&policy.to_json()).unwrap();
        prop_assert_eq!(through_serde, policy);
    }

    #[test]
    fn no_text_makes_it_panic(text in "[\\[\\]{}\":,a-zA-Z0-9_.\\\\/*?()\\n -]{0,80}", cut in 0usize..900) {
        let _ = SyncPolicy::from_json(&text);
        let _ = SyncPolicy::from_toml(&text);
        let cut = EVERYTHING.floor_char_boundary(cut.min(EVERYTHING.len()));
        let _ = SyncPolicy::from_json(&EVERYTHING[..cut]);
        let _ = SyncPolicy::from_json(&format!("{}{text}{}", &EVERYTHING[..cut], &EVERYTHING[cut..]));
    }
}
