//! The JSON Schema of a policy.

use serde_json::{Map, Value, json};

use super::shape::{Choice, Field, ROOT, STRUCTS, Shape, Struct};
use super::{ExtractPolicy, SyncPolicy};

/// Returns the schema, made from the table that the reader follows.
pub(super) fn schema() -> Value {
    // The fields of the extract policy have defaults; that it is given has none.
    let given = SyncPolicy { extract_policy: Some(ExtractPolicy::default()), ..SyncPolicy::default() };
    let given = serde_json::to_value(given).unwrap_or_default();
    let mut defs = Map::new();
    for of in STRUCTS.iter().filter(|of| of.place != ROOT.place) {
        let defaults = match of.place {
            "bwList.whiteLists" => &given["bwList"]["whiteLists"][0],
            part => &given[part],
        };
        defs.insert(of.place.into(), object(of, defaults, &format!("#/$defs/{}", of.place)));
    }
    let mut schema = object(&ROOT, &Value::Null, "#");
    schema["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    schema["title"] = json!("SyncPolicy");
    schema["$defs"] = Value::Object(defs);
    schema
}

/// Returns the schema of an object that stands at the pointer `at` of the whole.
fn object(of: &Struct, defaults: &Value, at: &str) -> Value {
    let mut properties = Map::new();
    let mut all_of = Vec::new();
    for field in of.fields {
        let mut property = shape(&field.shape);
        if field.takes_null() {
            property = json!({"anyOf": [property, {"type": "null"}]});
        }
        property["description"] = json!(field.doc);
        if let Some(default) = defaults.get(field.name) {
            property["default"] = default.clone();
        }
        properties.insert(field.name.to_owned(), property);
        for alias in field.aliases() {
            properties.insert(alias, json!({"$ref": format!("{at}/properties/{}", field.name)}));
        }
        all_of.extend(field_rules(field, of));
    }
    let mut out = json!({
        "type": "object",
        "description": of.doc,
        "properties": properties,
        "additionalProperties": false,
    });
    if !all_of.is_empty() {
        out["allOf"] = json!(all_of);
    }
    out
}

/// Returns what the field demands of the object as a whole.
fn field_rules(field: &Field, of: &Struct) -> Vec<Value> {
    let names: Vec<_> = std::iter::once(field.name.to_owned()).chain(field.aliases()).collect();
    let mut rules = Vec::new();
    for (i, a) in names.iter().enumerate() {
        for b in &names[i + 1..] {
            rules.push(json!({"not": {"type": "object", "required": [a, b]}}));
        }
    }
    if field.required {
        let each: Vec<_> = names.iter().map(|name| json!({"required": [name]})).collect();
        rules.push(json!({"anyOf": each}));
    }
    let (flag, literal) = match &field.shape {
        Shape::PathUnless(flag) => (flag, json!({"anyOf": [path(), {"type": "null"}]})),
        Shape::List(Shape::PathUnless(flag)) => (flag, json!({"items": path()})),
        _ => return rules,
    };
    let flags = of.fields.iter().find(|f| f.name == *flag);
    let flags = flags.into_iter().flat_map(|f| std::iter::once(f.name.to_owned()).chain(f.aliases()));
    let set: Vec<_> = flags
        .map(|flag| json!({"properties": {flag.as_str(): {"const": true}}, "required": [flag]}))
        .collect();
    let literal: Map<_, _> = names.into_iter().map(|name| (name, literal.clone())).collect();
    rules.push(json!({"if": {"anyOf": set}, "else": {"properties": literal}}));
    rules
}

fn shape(of: &Shape) -> Value {
    match of {
        Shape::Bool => json!({"type": "boolean"}),
        Shape::Text | Shape::PathUnless(_) => json!({"type": "string"}),
        Shape::Path => path(),
        Shape::Pattern => json!({"type": "string", "pattern": "^[^\\n\\r\\u0000]*$"}),
        Shape::Number { min, max, .. } => json!({"type": "integer", "minimum": min, "maximum": max}),
        Shape::Choice(choices) => choice(choices),
        Shape::List(item) => json!({"type": "array", "items": shape(item)}),
        Shape::Object(of) => reference(of),
    }
}

fn reference(of: &Struct) -> Value {
    json!({"$ref": format!("#/$defs/{}", of.place)})
}

/// Returns the schema of a path that is taken literally.
fn path() -> Value {
    json!({
        "type": "string",
        "pattern": "^[^*?\\[\\]\\u0000]*$",
        "not": {"pattern": "(^|[/\\\\])\\.\\.([/\\\\]|$)"},
    })
}

fn choice(choices: &[Choice]) -> Value {
    let plain = choices.iter().filter(|c| c.payload.is_none());
    let names: Vec<_> = plain.clone().map(|c| c.name).chain(plain.map(|c| c.alias)).collect();
    let mut forms = vec![json!({"enum": names})];
    for choice in choices {
        let Some(payload) = choice.payload else { continue };
        for name in [choice.name, choice.alias] {
            forms.push(json!({
                "type": "object",
                "properties": {name: reference(payload)},
                "required": [name],
                "additionalProperties": false,
            }));
        }
    }
    match forms.len() {
        1 => forms.remove(0),
        _ => json!({"anyOf": forms}),
    }
}
