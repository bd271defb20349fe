//! The JSON Schema of a policy accepts what the reader accepts.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::LazyLock;

use policy_core::SyncPolicy;
use proptest::prelude::*;
use regex::Regex;
use serde_json::{Value, json};

/// Whether `schema` accepts `value`. Implements only the part of JSON Schema that the policy's schema uses.
fn accepts(schema: &Value, value: &Value) -> bool {
    let Value::Object(keywords) = schema else { return schema != &json!(false) };
    keywords.iter().all(|(keyword, with)| match keyword.as_str() {
        "$ref" => {
            accepts(self::schema().pointer(with.as_str().unwrap().strip_prefix('#').unwrap()).unwrap(), value)
        }
        "$defs" | "$schema" | "title" | "description" | "default" | "else" => true,
        "type" => match with {
            Value::Array(types) => types.iter().any(|t| has_type(value, t)),
            t => has_type(value, t),
        },
        "enum" => with.as_array().unwrap().contains(value),
        "const" => with == value,
        "minimum" => value.as_f64().is_none_or(|n| n >= with.as_f64().unwrap()),
        "maximum" => value.as_f64().is_none_or(|n| n <= with.as_f64().unwrap()),
        "pattern" => value.as_str().is_none_or(|s| Regex::new(with.as_str().unwrap()).unwrap().is_match(s)),
        "not" => !accepts(with, value),
        "anyOf" => with.as_array().unwrap().iter().any(|s| accepts(s, value)),
        "allOf" => with.as_array().unwrap().iter().all(|s| accepts(s, value)),
        "if" => accepts(with, value) || accepts(&keywords["else"], value),
        "items" => value.as_array().is_none_or(|items| items.iter().all(|v| accepts(with, v))),
        "required" => value
            .as_object()
            .is_none_or(|o| with.as_array().unwrap().iter().all(|k| o.contains_key(k.as_str().unwrap()))),
        "properties" => {
            value.as_object().is_none_or(|o| o.iter().all(|(k, v)| with.get(k).is_none_or(|s| accepts(s, v))))
        }
        "additionalProperties" => {
            assert_eq!(with, &json!(false));
            let known = &keywords["properties"];
            value.as_object().is_none_or(|o| o.keys().all(|k| known.get(k).is_some()))
        }
        other => panic!("the schema uses `{other}`, which this test does not know"),
    })
}

fn has_type(value: &Value, name: &Value) -> bool {
    match name.as_str().unwrap() {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        "integer" => value.as_f64().is_some_and(|n| n.fract() == 0.0),
        other => panic!("type {other}"),
    }
}

fn schema() -> &'static Value {
    static SCHEMA: LazyLock<Value> =
        LazyLock::new(|| serde_json::from_str(&SyncPolicy::json_schema()).unwrap());
    &SCHEMA
}

#[test]
fn accepts_the_defaults_and_the_guide() {
    let default = SyncPolicy::default().to_json();
    for text in [
        default.as_str(),
        "{}",
        r#"{"extractPolicy": {}}"#,
        include_str!("../../docs/examples/development.json"),
        include_str!("../../docs/examples/production.json"),
        include_str!("../../docs/examples/big-data.json"),
        include_str!("../../docs/examples/guide-complete.json"),
    ] {
        assert!(accepts(schema(), &serde_json::from_str(text).unwrap()), "{text}");
    }
}

#[test]
fn has_every_name_and_the_defaults() {
    let schema = schema();
    let upload = &schema["$defs"]["uploadPolicy"]["properties"];
    assert_eq!(upload["autoUpload"]["default"], json!(true));
    assert!(upload["archive_exclude_paths"].is_object());
    assert_eq!(schema["properties"]["extractPolicy"].get("default"), None);
    let extract = &schema["$defs"]["extractPolicy"];
    assert!(extract["properties"]["extract_current_folder"].is_object());
    assert_eq!(extract["properties"]["deleteSrcFile"]["default"], json!(true));
    insta::assert_snapshot!("schema", SyncPolicy::json_schema());
}

/// A document in which some names and values are right and some nearly so.
fn any_document() -> impl Strategy<Value = Value> {
    let text = prop_oneof![
        Just("src"),
        Just("a/../b"),
        Just("*.py"),
        Just(""),
        Just("a\u{0}"),
        Just("x\ny"),
        Just("[a]"),
        Just("UploadPeriodically"),
        Just("UPLOAD_BEFORE_RESOURCE_RELEASE"),
        Just("Archive"),
        Just("FILE"),
        Just("DOWNLOAD_ASYNC"),
        Just("Lifecycle_1Day"),
        Just("LIFECYCLE_FOREVER"),
        Just("KeepBoth"),
    ];
    let key = prop_oneof![
        Just("uploadPolicy"),
        Just("upload_policy"),
        Just("bwList"),
        Just("whiteLists"),
        Just("white_lists"),
        Just("path"),
        Just("excludePaths"),
        Just("exclude_paths"),
        Just("isPathRegex"),
        Just("is_path_regex"),
        Just("isExcludeRegex"),
        Just("ignorePatterns"),
        Just("autoUpload"),
        Just("uploadStrategy"),
        Just("UploadPeriodically"),
        Just("UPLOAD_ON_CHANGE"),
        Just("seconds"),
        Just("debounce_ms"),
        Just("deletePolicy"),
        Just("maxDeletePercent"),
        Just("extract_policy"),
        Just("extractCurrentFolder"),
        Just("extractToCurrentFolder"),
        Just("recyclePolicy"),
        Just("paths"),
        Just("lifecycle"),
        Just("conflictPolicy"),
        Just("$schema"),
        Just("mappingPolicy"),
        Just("other"),
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        prop_oneof![
            Just(json!(0)),
            Just(json!(1)),
            Just(json!(100)),
            Just(json!(101)),
            Just(json!(1.5)),
            Just(json!(7.0))
        ],
        text.prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 40, 4, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            proptest::collection::btree_map(key.clone().prop_map(String::from), inner, 0..4)
                .prop_map(|m| Value::Object(m.into_iter().collect())),
        ]
    })
}

/// Documents that are right except for an `any_document` at one place.
fn nearly_right() -> impl Strategy<Value = Value> {
    let places = prop_oneof![
        Just(vec!["uploadPolicy"]),
        Just(vec!["uploadPolicy", "uploadStrategy"]),
        Just(vec!["upload_policy", "uploadStrategy", "UploadPeriodically"]),
        Just(vec!["upload_policy", "uploadStrategy", "UploadPeriodically", "seconds"]),
        Just(vec!["uploadPolicy", "archiveExcludePaths"]),
        Just(vec!["downloadPolicy", "requiredPaths"]),
        Just(vec!["deletePolicy", "maxDeletePercent"]),
        Just(vec!["extract_policy"]),
        Just(vec!["recyclePolicy", "paths"]),
        Just(vec!["recyclePolicy", "lifecycle"]),
        Just(vec!["bwList"]),
        Just(vec!["bwList", "white_lists"]),
        Just(vec!["bwList", "ignorePatterns"]),
        Just(vec!["mappingPolicy", "path"]),
        Just(vec!["conflictPolicy"]),
    ];
    (places, any_document())
        .prop_map(|(place, value)| place.into_iter().rev().fold(value, |value, key| json!({key: value})))
}

fn white_lists() -> impl Strategy<Value = Value> {
    let text = || prop_oneof![Just("src"), Just("*.py"), Just("a/.."), Just("/"), Just("")];
    let texts = proptest::collection::vec(text(), 0..3);
    let flag = || proptest::option::of(any::<bool>());
    (text(), texts, flag(), flag(), any::<bool>()).prop_map(|(path, excludes, by_path, by_exclude, snake)| {
        let name = |camel: &'static str, snaked: &'static str| if snake { snaked } else { camel };
        let mut list = json!({"path": path, name("excludePaths", "exclude_paths"): excludes});
        if let Some(flag) = by_path {
            list[name("isPathRegex", "is_path_regex")] = json!(flag);
        }
        if let Some(flag) = by_exclude {
            list[name("isExcludeRegex", "is_exclude_regex")] = json!(flag);
        }
        json!({"bwList": {"whiteLists": [list]}})
    })
}

/// Whether the reader accepts it, apart from what no schema can check: a malformed expression.
fn reads(value: &Value) -> bool {
    match SyncPolicy::from_json(&value.to_string()) {
        Ok(_) => true,
        Err(error) => error.faults().iter().all(|f| {
            matches!(
                f.kind,
                policy_core::FaultKind::BadRegex { .. } | policy_core::FaultKind::BadPattern { .. }
            ) && !f.to_string().contains("line break")
        }),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..Default::default() })]

    #[test]
    fn accepts_exactly_what_is_read(value in prop_oneof![any_document(), nearly_right(), white_lists()]) {
        prop_assert_eq!(accepts(schema(), &value), reads(&value), "{}", value);
    }
}
