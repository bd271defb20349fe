//! Holds a document against the shape of a policy, and gives every name its canonical form.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json, json};

use super::error::{FaultKind, PolicyError, PolicyFault};
use super::shape::{Choice, Field, ROOT, STRUCTS, Shape, Struct};
use super::value::Value;

/// A document that has the shape of a policy.
pub(crate) struct Checked {
    /// The document with canonical names only, and without what `null` leaves out.
    pub(crate) canonical: Json,
    /// From canonical pointers to those of the document, where the two differ.
    pub(crate) written: BTreeMap<String, String>,
}

/// Checks names, types, values and ranges. All faults are reported at once.
pub(crate) fn check(value: &Value) -> Result<Checked, PolicyError> {
    let mut checker = Checker { faults: Vec::new(), written: BTreeMap::new() };
    let canonical = checker.object(&ROOT, value, &Pointers::default()).unwrap_or(Json::Null);
    PolicyError::unless(checker.faults, Checked { canonical, written: checker.written })
}

/// Where the reader is: in the document, and in the canonical form.
#[derive(Default)]
struct Pointers {
    written: String,
    canonical: String,
}

impl Pointers {
    fn below(&self, written: &str, canonical: &str) -> Self {
        let escaped = written.replace('~', "~0").replace('/', "~1");
        Self {
            written: format!("{}/{escaped}", self.written),
            canonical: format!("{}/{canonical}", self.canonical),
        }
    }
}

struct Checker {
    faults: Vec<PolicyFault>,
    written: BTreeMap<String, String>,
}

impl Checker {
    fn fault(&mut self, at: &Pointers, kind: FaultKind) {
        self.faults.push(PolicyFault { pointer: at.written.clone(), kind });
    }

    fn wrong_type(&mut self, value: &Value, expected: String, at: &Pointers) -> Option<Json> {
        self.fault(at, FaultKind::WrongType { found: value.describe(), expected });
        None
    }

    fn value(&mut self, shape: &Shape, value: &Value, at: &Pointers) -> Option<Json> {
        match (shape, value) {
            (Shape::Bool, Value::Bool(b)) => Some(json!(b)),
            (Shape::Text | Shape::Path | Shape::PathUnless(_) | Shape::Pattern, Value::Text(text)) => {
                if at.written != at.canonical {
                    self.written.insert(at.canonical.clone(), at.written.clone());
                }
                Some(json!(text))
            }
            (Shape::Number { min, max, .. }, Value::Int(_) | Value::Float(_)) => {
                let number = match *value {
                    Value::Int(n) => Some(n),
                    // JSON has one kind of number: 30.0 is 30, as JSON Schema sees it.
                    Value::Float(n) if n.fract() == 0.0 && n.abs() < 1e15 => Some(n as i128),
                    _ => None,
                };
                let number = number.and_then(|n| u32::try_from(n).ok());
                match number.filter(|n| (*min..=*max).contains(n)) {
                    Some(n) => Some(json!(n)),
                    None => {
                        // `{:?}` writes 1e300 as that, and not with all its zeros.
                        let found = match value {
                            Value::Int(n) => n.to_string(),
                            Value::Float(n) => format!("{n:?}"),
                            _ => String::new(),
                        };
                        self.fault(at, FaultKind::OutOfRange { found, min: *min, max: *max });
                        None
                    }
                }
            }
            (Shape::Choice(choices), _) => self.choice(choices, shape, value, at),
            (Shape::List(item), Value::List(items)) => Some(Json::Array(
                items
                    .iter()
                    .enumerate()
                    .filter_map(|(i, v)| self.value(item, v, &at.below(&i.to_string(), &i.to_string())))
                    .collect(),
            )),
            (Shape::Object(fields), _) => self.object(fields, value, at),
            _ => self.wrong_type(value, shape.describe(), at),
        }
    }

    fn choice(&mut self, choices: &[Choice], shape: &Shape, value: &Value, at: &Pointers) -> Option<Json> {
        let (name, payload) = match value {
            Value::Text(name) => (name, None),
            Value::Map(entries) if choices.iter().any(|c| c.payload.is_some()) => match entries.as_slice() {
                [(name, payload)] => (name, Some(payload)),
                _ => return self.wrong_type(value, shape.describe(), at),
            },
            _ => return self.wrong_type(value, shape.describe(), at),
        };
        let Some(choice) = choices.iter().find(|c| c.name == name || c.alias == name) else {
            let allowed: Vec<_> = choices.iter().map(|c| c.name).collect();
            let nearest = nearest(name, &allowed);
            self.fault(at, FaultKind::UnknownValue { found: name.clone(), allowed, nearest });
            return None;
        };
        match (choice.payload, payload) {
            (None, None) => Some(json!(choice.name)),
            (Some(fields), Some(payload)) => {
                let payload = self.object(fields, payload, &at.below(name, choice.name))?;
                Some(json!({choice.name: payload}))
            }
            _ => self.wrong_type(value, choice.form(), at),
        }
    }

    fn object(&mut self, of: &'static Struct, value: &Value, at: &Pointers) -> Option<Json> {
        let Value::Map(entries) = value else {
            return self.wrong_type(value, "an object".into(), at);
        };
        let mut seen: BTreeMap<&str, &str> = BTreeMap::new();
        let mut out = Map::new();
        for (key, value) in entries {
            let Some(field) = of.fields.iter().find(|f| f.is_named(key)) else {
                let kind = unknown_field(key, of);
                self.fault(&at.below(key, key), kind);
                continue;
            };
            let below = at.below(key, field.name);
            if let Some(first) = seen.insert(field.name, key) {
                let also = (first != key).then(|| first.to_owned());
                self.fault(&below, FaultKind::Duplicate { field: key.clone(), also });
                continue;
            }
            if *value == Value::Null && field.takes_null() {
                continue;
            }
            if let Some(value) = self.value(&field.shape, value, &below) {
                out.insert(field.name.to_owned(), value);
            }
        }
        for field in of.fields.iter().filter(|f| f.required && !seen.contains_key(f.name)) {
            self.fault(at, FaultKind::Missing { field: field.name });
        }
        Some(Json::Object(out))
    }
}

fn unknown_field(key: &str, of: &'static Struct) -> FaultKind {
    let allowed: Vec<_> = of.fields.iter().map(|f| f.name).collect();
    let nearest = nearest(key, &allowed);
    let named = |s: &&&Struct| s.fields.iter().any(|f: &Field| f.is_named(key));
    let belongs = STRUCTS.iter().find(named).map(|s| s.place);
    FaultKind::UnknownField { found: key.to_owned(), allowed, nearest, belongs }
}

/// Returns the name that `found` was most likely meant to be.
fn nearest(found: &str, names: &[&'static str]) -> Option<&'static str> {
    /// No name is near this length; and the distance takes quadratic time.
    const LONGEST: usize = 64;
    if found.len() > LONGEST {
        return None;
    }
    let simple = |s: &str| s.replace(['_', '-', ' '], "").to_lowercase();
    let found = simple(found);
    names
        .iter()
        .map(|name| {
            let simple = simple(name);
            let near = found.chars().count().max(simple.chars().count()) / 3;
            let distance = strsim::damerau_levenshtein(&found, &simple);
            // The start of a name is near as well: `exclude` for `excludePaths`.
            let starts = found.len() >= 4 && simple.starts_with(&found);
            (*name, distance, distance <= near || starts)
        })
        .filter(|(_, _, near)| *near)
        .min_by_key(|(_, distance, _)| *distance)
        .map(|(name, _, _)| name)
}
