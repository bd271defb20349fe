//! Reading a policy from a document: JSON, TOML, or whatever serde reads.
//!
//! What is read is checked as a whole, its paths and expressions as well, which only the scope knows how to read.

use serde::{Deserialize, Deserializer};

use crate::policy::{PolicyError, SyncPolicy, check, read, value};
use crate::scope::Scope;

impl SyncPolicy {
    /// Reads a JSON document.
    ///
    /// The camelCase names are the wire format; the guide's snake_case names and SCREAMING_CASE values mean
    /// the same. `null` in the place of a part or a field reads as left out.
    ///
    /// # Errors
    ///
    /// Every fault of the document, each with its JSON pointer. A fault of syntax comes alone.
    pub fn from_json(text: &str) -> Result<Self, PolicyError> {
        Self::from_value(&value::from_json(text)?)
    }

    /// Reads a TOML document with the same names as in JSON.
    ///
    /// # Errors
    ///
    /// As [`from_json`](Self::from_json).
    pub fn from_toml(text: &str) -> Result<Self, PolicyError> {
        Self::from_value(&value::from_toml(text)?)
    }

    fn from_value(value: &value::Value) -> Result<Self, PolicyError> {
        let checked = check::check(value)?;
        let policy = read::policy(&checked.canonical);
        // What a path or an expression may hold does not depend on the mount: any will do to find out.
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
