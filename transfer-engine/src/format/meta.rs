//! `ctxsync.json`: a store's description of itself.

use serde_json::{Map, Value, json};

use super::error::{FormatError, Part, check_version};
use super::ids::parse_hex;
use super::{StoreId, sha256};

const VERSION: u32 = 1;
/// The longest description that is read, in bytes.
const MAX_LEN: usize = 64 << 10;
const DIGEST: &str = "sha256";

/// The description of a store, written once when it is created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreMeta {
    /// The store's id, chosen at random.
    pub store_id: StoreId,
    /// The grace period of collection, in seconds.
    pub grace_seconds: u64,
    /// When the store was created, in seconds since 1970, by its creator's clock.
    pub created: i64,
}

impl StoreMeta {
    /// Returns the text of `ctxsync.json`.
    pub fn encode(&self) -> String {
        let mut members = Map::new();
        members.insert("formatVersion".into(), json!(VERSION));
        members.insert("storeId".into(), json!(self.store_id.to_string()));
        members.insert("graceSeconds".into(), json!(self.grace_seconds));
        members.insert("created".into(), json!(self.created));
        let digest = digest(&members);
        members.insert(DIGEST.into(), json!(digest));
        format!("{:#}\n", Value::Object(members))
    }

    /// Parses the text of `ctxsync.json`.
    ///
    /// # Errors
    /// [`FormatError::UnsupportedVersion`] for a store of a newer format; [`FormatError::Corrupt`] if the
    /// digest does not match; [`FormatError::Invalid`] if the text is no such description.
    pub fn decode(text: &[u8]) -> Result<Self, FormatError> {
        if text.len() > MAX_LEN {
            let (found, limit) = (text.len() as u64, MAX_LEN as u64);
            return Err(FormatError::TooLarge { part: Part::StoreMeta, what: "a length", found, limit });
        }
        let mut members = match serde_json::from_slice(text) {
            Ok(Value::Object(members)) => members,
            Ok(_) => return Err(invalid("it is no JSON object")),
            Err(e) if e.is_eof() => {
                return Err(FormatError::Truncated { part: Part::StoreMeta, offset: text.len() as u64 });
            }
            Err(e) => return Err(invalid(format!("it is no JSON: {e}"))),
        };
        let declared = members.remove(DIGEST);
        if declared.as_ref().and_then(Value::as_str) != Some(&digest(&members)) {
            return Err(FormatError::Corrupt { part: Part::StoreMeta });
        }
        let version = number(&members, "formatVersion")?;
        check_version(Part::StoreMeta, u32::try_from(version).unwrap_or(u32::MAX), VERSION)?;
        let store_id = members.get("storeId").and_then(Value::as_str).and_then(parse_hex);
        Ok(Self {
            store_id: StoreId(store_id.ok_or_else(|| invalid("`storeId` is not 32 hexadecimal digits"))?),
            grace_seconds: number(&members, "graceSeconds")?,
            created: members
                .get("created")
                .and_then(Value::as_i64)
                .ok_or_else(|| invalid("`created` is no whole number"))?,
        })
    }
}

fn number(members: &Map<String, Value>, name: &str) -> Result<u64, FormatError> {
    members
        .get(name)
        .and_then(Value::as_u64)
        .ok_or_else(|| invalid(format!("`{name}` is no whole number of 0 or more")))
}

fn invalid(what: impl Into<String>) -> FormatError {
    FormatError::Invalid { part: Part::StoreMeta, offset: 0, what: what.into() }
}

/// Returns the SHA-256, in hexadecimal, of the members in the order of their names, as JSON without white
/// space. It does not depend on the version, so damaged text is never mistaken for a newer format.
fn digest(members: &Map<String, Value>) -> String {
    let mut members: Vec<_> = members.iter().collect();
    members.sort_by(|a, b| a.0.cmp(b.0));
    let members: Vec<_> =
        members.iter().map(|(name, value)| format!("{}:{value}", Value::from(name.as_str()))).collect();
    sha256(format!("{{{}}}", members.join(",")).as_bytes()).to_string()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const META: StoreMeta =
        StoreMeta { store_id: StoreId([0x5a; 16]), grace_seconds: 86_400, created: 1_700_000_000 };

    #[test]
    fn golden() {
        insta::assert_snapshot!(META.encode());
        assert_eq!(StoreMeta::decode(META.encode().as_bytes()), Ok(META));
    }

    /// The text with some members replaced, and with a valid digest.
    fn signed(changes: &[(&str, Value)]) -> Vec<u8> {
        let Value::Object(mut members) = serde_json::from_str(&META.encode()).unwrap() else { panic!() };
        members.remove(DIGEST);
        changes.iter().for_each(|(name, value)| drop(members.insert((*name).into(), value.clone())));
        let digest = digest(&members);
        members.insert(DIGEST.into(), json!(digest));
        serde_json::to_vec(&members).unwrap()
    }

    #[test]
    fn s5_future_format() {
        let text = signed(&[("formatVersion", json!(2)), ("encryption", json!({"z": 1, "a": "x"}))]);
        let error = StoreMeta::decode(&text).unwrap_err();
        insta::assert_snapshot!(
            error,
            @"store description has format 2, and this program reads up to 1: upgrade it"
        );
    }

    #[test]
    fn says_what_is_wrong() {
        let errors: Vec<_> = [
            b"".to_vec(),
            b"{".to_vec(),
            b"[]".to_vec(),
            b"<html>".to_vec(),
            b"{}".to_vec(),
            META.encode().replace("86400", "86401").into_bytes(),
            META.encode().replace("\"formatVersion\": 1", "\"formatVersion\": 2").into_bytes(),
            signed(&[("formatVersion", json!("1"))]),
            signed(&[("formatVersion", json!(0))]),
            signed(&[("storeId", json!("5A"))]),
            signed(&[("graceSeconds", json!(-1))]),
            signed(&[("created", json!(1.5))]),
            vec![b' '; 1 << 20],
        ]
        .iter()
        .map(|text| StoreMeta::decode(text).unwrap_err().to_string())
        .collect();
        insta::assert_snapshot!(errors.join("\n"));
    }

    proptest! {
        #[test]
        fn round_trips(id in any::<[u8; 16]>(), grace_seconds in any::<u64>(), created in any::<i64>()) {
            let meta = StoreMeta { store_id: StoreId(id), grace_seconds, created };
            prop_assert_eq!(StoreMeta::decode(meta.encode().as_bytes()), Ok(meta));
        }

        #[test]
        fn mutations_are_seen(at in any::<prop::sample::Index>(), value in any::<u8>()) {
            let mut text = META.encode().into_bytes();
            let at = at.index(text.len());
            text[at] = value;
            if let Ok(meta) = StoreMeta::decode(&text) {
                prop_assert_eq!(meta, META);
            }
            let _ = StoreMeta::decode(&text[..at]);
        }
    }
}
