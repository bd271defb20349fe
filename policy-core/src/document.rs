//! Reads a policy from a document: JSON, TOML, or any other format that serde reads.
//!
//! The whole document is checked, including its paths and expressions, which only the scope can parse.

use serde::{Deserialize, Deserializer};

use crate::policy::{PolicyError, SyncPolicy, check, read, value};
use crate::scope::Scope;

impl SyncPolicy {
    /// Reads a JSON document.
    ///
    /// The camelCase names are the wire format; the guide's snake_case names and SCREAMING_CASE values mean
    /// the same. A part or a field that is `null` counts as left out.
    ///
    /// # Errors
    ///
    /// Lists every fault of the document, each with its JSON pointer. A syntax error is reported alone.
    pub fn from_json(text: &str) -> Result<Self, PolicyError> {
        Self::from_value(&value::from_json(text)?)
    }

    /// Reads a TOML document with the same names as in JSON.
    ///
    /// # Errors
    ///
    /// The same as those of [`from_json`](Self::from_json).
    pub fn from_toml(text: &str) -> Result<Self, PolicyError> {
        Self::from_value(&value::from_toml(text)?)
    }

    fn from_value(value: &value::Value) -> Result<Self, PolicyError> {
        let checked = check::check(value)?;
        let policy = read::policy(checked.canonical)?;
        // Whether a path or an expression is valid does not depend on the mount, so any mount path will do.
        match Scope::new(&policy, b"/") {
            Ok(_) => Ok(policy),
            Err(error) => Err(error.relocated(&checked.written)),
        }
    }
}

impl<'de> Deserialize<'de> for SyncPolicy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = value::Value::deserialize(deserializer)?;
        Self::from_value(&value).map_err(serde::de::Error::custom)
    }
}
