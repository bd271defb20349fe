//! The JSON Schema of a policy.

use serde_json::{Map, Value, json};

use super::SyncPolicy;
use super::shape::{Choice, Field, ROOT, Shape, Struct};

/// Returns the schema, made from the table that the reader follows.
pub(super) fn schema() -> Value {
    let defaults = serde_json::to_value(SyncPolicy::default()).unwrap_or_default();
    let mut schema = object(&ROOT, &defaults);
    if let Some(schema) = schema.as_object_mut() {
        schema.insert("$schema".into(), json!("https://json-schema.org/draft/2020-12/schema"));
        schema.insert("title".into(), json!("SyncPolicy"));
    }
    schema
}

fn object(of: &Struct, defaults: &Value) -> Value {
    let mut properties = Map::new();
    let mut all_of = Vec::new();
    for field in of.fields {
        let default = defaults.get(field.name).unwrap_or(&Value::Null);
        let mut property = shape(&field.shape, default);
        if let Some(property) = property.as_object_mut() {
            property.insert("description".into(), json!(field.doc));
            if !default.is_null() {
                property.insert("default".into(), default.clone());
            }
        }
        if field.shape.takes_null() {
            property = nullable(property);
        }
        for alias in field.aliases() {
            let mut property = property.clone();
            if let Some(property) = property.as_object_mut() {
                property.insert("description".into(), json!(format!("Another name of `{}`.", field.name)));
            }
            properties.insert(alias, property);
        }
        properties.insert(field.name.to_owned(), property);
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
            rules.push(json!({"not": {"required": [a, b]}}));
        }
    }
    if field.required {
        let each: Vec<_> = names.iter().map(|name| json!({"required": [name]})).collect();
        rules.push(json!({"anyOf": each}));
    }
    let (flag, literal) = match &field.shape {
        Shape::PathUnless(flag) => (flag, path()),
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

fn shape(of: &Shape, default: &Value) -> Value {
    match of {
        Shape::Bool => json!({"type": "boolean"}),
        Shape::Text | Shape::PathUnless(_) => json!({"type": "string"}),
        Shape::Path => path(),
        Shape::Pattern => json!({"type": "string", "pattern": "^[^\\n\\r\\u0000]*$"}),
        Shape::Number { min, max, .. } => json!({"type": "integer", "minimum": min, "maximum": max}),
        Shape::Choice(choices) => choice(choices),
        Shape::List(item) => json!({"type": "array", "items": shape(item, &default[0])}),
        Shape::Object(of) => object(of, default),
    }
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
                "properties": {name: object(payload, &Value::Null)},
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

/// Returns `schema` with `null` allowed as well.
fn nullable(mut schema: Value) -> Value {
    let of = schema["type"].take();
    schema["type"] = json!([of, "null"]);
    schema
}
