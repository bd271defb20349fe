//! A field of the policy has a type (its name, its default, how it is read and written) and a row of the table in
//! `policy/shape.rs` (its other names, its range, its meaning: what is checked, and the schema). These tests list every
//! field and every choice of the types and of the schema, and fail if either of the two, or the guide, lacks one.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeSet;

use policy_core::{
    BwList, ConflictPolicy, DeletePolicy, DownloadPolicy, DownloadStrategy, ExtractPolicy, Lifecycle,
    MappingPolicy, RecyclePolicy, SyncPolicy, UploadMode, UploadPolicy, UploadStrategy, WhiteList,
};
use regex::Regex;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Returns the fields or choices that a type reads, from what it says of an unknown one.
fn names_of<T: DeserializeOwned>(unknown: Value) -> Vec<String> {
    let error = serde_json::from_value::<T>(unknown).err().unwrap().to_string();
    let expected = error.split_once(", expected ").unwrap_or_else(|| panic!("{error}")).1;
    Regex::new("`([^`]+)`").unwrap().captures_iter(expected).map(|name| name[1].to_owned()).collect()
}

fn fields_of<T: DeserializeOwned>() -> Vec<String> {
    names_of::<T>(json!({"?": null}))
}

fn choices_of<T: DeserializeOwned>() -> Vec<String> {
    names_of::<T>(json!("?"))
}

fn schema() -> Value {
    serde_json::from_str(&SyncPolicy::json_schema()).unwrap()
}

/// A field of the schema: its pointer in a document, its other names, and what it may be.
struct Field {
    pointer: String,
    aliases: Vec<String>,
    shape: Value,
}

/// Returns the fields of an object of the schema that is at `at` in a document.
fn fields(object: &Value, at: &str) -> Vec<Field> {
    let properties = object["properties"].as_object().unwrap();
    let own = properties.iter().filter(|(_, property)| property.get("description").is_some());
    let is_alias = |property: &Value, name: &str| {
        property["$ref"].as_str().is_some_and(|to| to.ends_with(&format!("/properties/{name}")))
    };
    own.map(|(name, property)| Field {
        pointer: format!("{at}/{name}"),
        aliases: properties
            .iter()
            .filter(|(_, p)| is_alias(p, name))
            .map(|(alias, _)| alias.clone())
            .collect(),
        // A field that may be null is one of two shapes.
        shape: property.get("anyOf").map_or_else(|| property.clone(), |forms| forms[0].clone()),
    })
    .collect()
}

/// Returns the fields of all parts. White lists are looked at as the first of a list.
fn all_fields() -> Vec<Field> {
    let schema = schema();
    let mut all = Vec::new();
    for field in fields(&schema, "").into_iter().filter(|field| field.pointer != "/$schema") {
        let part = schema["$defs"].get(&field.pointer[1..]);
        all.extend(part.map_or_else(Vec::new, |part| fields(part, &field.pointer)));
        all.push(field);
    }
    all.extend(fields(&schema["$defs"]["bwList.whiteLists"], "/bwList/whiteLists/0"));
    all
}

/// Returns a document in which only the value at `pointer` is given, its last name replaced by `name`.
fn document(pointer: &str, name: &str, value: &Value) -> Value {
    let mut names: Vec<&str> = pointer.split('/').skip(1).collect();
    *names.last_mut().unwrap() = name;
    names.into_iter().rev().fold(value.clone(), |value, name| match name {
        "0" => json!([value]),
        name => json!({name: value}),
    })
}

/// Returns values that a field of this shape may have, each as it is given and as it is written.
fn values(shape: &Value) -> Vec<(Value, Value)> {
    let same = |value: Value| (value.clone(), value);
    if let Some(forms) = shape["anyOf"].as_array() {
        return forms.iter().flat_map(values).collect();
    }
    if let Some(names) = shape["enum"].as_array() {
        // All names, then all aliases.
        let canonical = names[..names.len() / 2].iter().cycle();
        return names.iter().cloned().zip(canonical.cloned()).collect();
    }
    match shape["type"].as_str() {
        Some("boolean") => vec![same(json!(true)), same(json!(false))],
        Some("integer") => vec![same(shape["minimum"].clone()), same(shape["maximum"].clone())],
        Some("string") => vec![same(json!("a"))],
        Some("array") if shape["items"]["type"] == "string" => vec![same(json!(["a", "b"]))],
        // A choice that comes with fields of its own.
        Some("object") => {
            let (name, payload) = shape["properties"].as_object().unwrap().iter().next().unwrap();
            let payload = schema().pointer(&payload["$ref"].as_str().unwrap()[1..]).unwrap().clone();
            let inner = fields(&payload, "");
            let inner: Value = inner.iter().map(|f| (f.pointer[1..].to_owned(), json!(7))).collect();
            let canonical = choices_of::<UploadStrategy>();
            let simple = |name: &str| name.replace('_', "").to_lowercase();
            let canonical = canonical.iter().find(|choice| simple(choice) == simple(name)).unwrap();
            vec![(json!({name: inner.clone()}), json!({canonical: inner}))]
        }
        // Parts, and the list of white lists, whose fields are looked at one by one.
        _ => Vec::new(),
    }
}

#[test]
fn the_types_and_the_schema_have_the_same_fields() {
    let parts = [
        ("uploadPolicy", fields_of::<UploadPolicy>()),
        ("downloadPolicy", fields_of::<DownloadPolicy>()),
        ("deletePolicy", fields_of::<DeletePolicy>()),
        ("extractPolicy", fields_of::<ExtractPolicy>()),
        ("recyclePolicy", fields_of::<RecyclePolicy>()),
        ("bwList", fields_of::<BwList>()),
        ("bwList.whiteLists", fields_of::<WhiteList>()),
        ("mappingPolicy", fields_of::<MappingPolicy>()),
    ];
    let schema = schema();
    for (part, of_type) in &parts {
        let of_schema = fields(&schema["$defs"][part], "").into_iter().map(|f| f.pointer[1..].to_owned());
        let of_type: BTreeSet<String> = of_type.iter().cloned().collect();
        assert_eq!(of_schema.collect::<BTreeSet<_>>(), of_type, "{part}");
    }
    let whole = SyncPolicy { extract_policy: Some(ExtractPolicy::default()), ..SyncPolicy::default() };
    let written: Value = serde_json::from_str(&whole.to_json()).unwrap();
    let written: BTreeSet<String> = written.as_object().unwrap().keys().cloned().collect();
    let own = fields(&schema, "").into_iter().map(|field| field.pointer[1..].to_owned());
    assert_eq!(own.filter(|name| name != "$schema").collect::<BTreeSet<_>>(), written);
}

#[test]
fn the_types_and_the_schema_have_the_same_choices() {
    let choices = [
        ("/uploadPolicy/uploadStrategy", choices_of::<UploadStrategy>()),
        ("/uploadPolicy/uploadMode", choices_of::<UploadMode>()),
        ("/downloadPolicy/downloadStrategy", choices_of::<DownloadStrategy>()),
        ("/recyclePolicy/lifecycle", choices_of::<Lifecycle>()),
        ("/conflictPolicy", choices_of::<ConflictPolicy>()),
    ];
    let name = |value: &Value| match value {
        Value::Object(choice) => choice.keys().next().unwrap().clone(),
        name => name.as_str().unwrap().to_owned(),
    };
    let mut seen = 0;
    for field in all_fields().iter().filter(|f| f.shape.get("enum").or(f.shape.get("anyOf")).is_some()) {
        let (_, of_type) = choices.iter().find(|(pointer, _)| *pointer == field.pointer).unwrap();
        let of_schema: BTreeSet<String> =
            values(&field.shape).iter().map(|(_, written)| name(written)).collect();
        assert_eq!(of_schema, of_type.iter().cloned().collect(), "{}", field.pointer);
        seen += 1;
    }
    assert_eq!(seen, choices.len());
}

#[test]
fn each_field_is_read_under_each_name_with_each_value_and_written_back() {
    let mut tried = 0;
    for field in all_fields() {
        let name = field.pointer.rsplit('/').next().unwrap();
        for name in field.aliases.iter().map(String::as_str).chain([name]) {
            for (given, written) in values(&field.shape) {
                let document = document(&field.pointer, name, &given);
                let policy = SyncPolicy::from_json(&document.to_string()).unwrap();
                let back: Value = serde_json::from_str(&policy.to_json()).unwrap();
                assert_eq!(back.pointer(&field.pointer), Some(&written), "{document}");
                tried += 1;
            }
        }
    }
    assert!(tried > 100, "{tried}");
}

#[test]
fn the_schema_has_the_defaults_of_the_types() {
    let whole: Value = serde_json::from_str(
        &SyncPolicy { extract_policy: Some(ExtractPolicy::default()), ..SyncPolicy::default() }.to_json(),
    )
    .unwrap();
    let schema = schema();
    for (at, part) in schema["$defs"].as_object().unwrap() {
        let at = at.replace("bwList.whiteLists", "bwList/whiteLists/0");
        let Some(defaults) = whole.pointer(&format!("/{at}")) else { continue };
        for field in fields(part, "") {
            let property = &part["properties"][&field.pointer[1..]];
            assert_eq!(property.get("default"), defaults.get(&field.pointer[1..]), "{at}{}", field.pointer);
        }
    }
}

#[test]
fn the_guide_names_each_field_and_each_choice() {
    let guide = include_str!("../../docs/guide.md");
    let mut missing = BTreeSet::new();
    let mut look = |names: Vec<&str>| {
        let is_named = |name: &&str| Regex::new(&format!(r"\b{name}\b")).unwrap().is_match(guide);
        if !names.iter().any(is_named) {
            missing.insert(names[0].to_owned());
        }
    };
    for field in all_fields() {
        let name = field.pointer.rsplit('/').next().unwrap();
        look([name].into_iter().chain(field.aliases.iter().map(String::as_str)).collect());
        for (given, written) in values(&field.shape) {
            if let (Value::String(given), Value::String(written)) = (&given, &written)
                && field.shape.get("type").is_none()
            {
                look(vec![written, given]);
            }
        }
    }
    for choice in choices_of::<UploadStrategy>() {
        look(vec![&choice]);
    }
    assert!(missing.is_empty(), "docs/guide.md does not name {missing:?}");
}
