//! A document as it was written: ordered, and with the keys that stand twice.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use super::error::{FaultKind, PolicyError};

/// What JSON and TOML can say.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(String),
    List(Vec<Value>),
    Map(Vec<(String, Value)>),
}

/// The key under which the toml crate hands a date to serde.
const TOML_DATE: &str = "$__toml_private_datetime";

impl Value {
    /// Returns a short description for an error.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Null => "null".into(),
            Self::Bool(b) => b.to_string(),
            Self::Int(n) => format!("the number {n}"),
            Self::Float(n) => format!("the number {n:?}"),
            Self::Text(s) => format!("the string \"{s}\""),
            Self::List(_) => "a list".into(),
            Self::Map(entries) if entries.iter().any(|(k, _)| k == TOML_DATE) => "a date".into(),
            Self::Map(_) => "an object".into(),
        }
    }
}

/// Parses JSON text.
pub(crate) fn from_json(text: &str) -> Result<Value, PolicyError> {
    let text = refuse_empty(text)?;
    serde_json::from_str(text).map_err(|error| {
        let message = error.to_string();
        // The place is a field of its own here; serde_json repeats it at the end of its message.
        let message = message.rsplit_once(" at line ").map_or(message.as_str(), |(head, _)| head);
        syntax("JSON", error.line(), error.column(), message)
    })
}

/// Parses TOML text.
pub(crate) fn from_toml(text: &str) -> Result<Value, PolicyError> {
    let text = refuse_empty(text)?;
    toml::from_str(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        let before = text.get(..at).unwrap_or(text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().map_or(0, |l| l.chars().count()) + 1;
        syntax("TOML", line, column, error.message())
    })
}

/// Returns the text without a byte order mark, which editors on Windows like to put there.
fn refuse_empty(text: &str) -> Result<&str, PolicyError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    // A file that was cut to nothing must not pass for a policy that takes in everything.
    if text.trim().is_empty() { Err(PolicyError::one("", FaultKind::Empty)) } else { Ok(text) }
}

fn syntax(format: &'static str, line: usize, column: usize, message: &str) -> PolicyError {
    let message = crate::escape(message.trim_end().replace('\n', "; ").as_bytes());
    PolicyError::one("", FaultKind::Syntax { format, line, column, message })
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a policy")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        Value::deserialize(deserializer)
    }

    fn visit_bool<E>(self, v: bool) -> Result<Value, E> {
        Ok(Value::Bool(v))
    }

    fn visit_i64<E>(self, v: i64) -> Result<Value, E> {
        Ok(Value::Int(v.into()))
    }

    fn visit_u64<E>(self, v: u64) -> Result<Value, E> {
        Ok(Value::Int(v.into()))
    }

    fn visit_f64<E>(self, v: f64) -> Result<Value, E> {
        Ok(Value::Float(v))
    }

    fn visit_str<E>(self, v: &str) -> Result<Value, E> {
        Ok(Value::Text(v.to_owned()))
    }

    fn visit_string<E>(self, v: String) -> Result<Value, E> {
        Ok(Value::Text(v))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Value::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Value::Map(entries))
    }
}
