//! Tags: names for single snapshots of a context.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::error::{FormatError, Part, at_most, check_version};
use super::wire::{Reader, Writer};
use super::{ContextName, LineageId, StoreId, sha256};

/// The longest name, in bytes.
const MAX_NAME_LEN: usize = 64;
/// The longest tag that is read, in bytes.
pub const MAX_TAG_LEN: usize = 1024;

const VERSION: u8 = 1;
const MAGIC: [u8; 4] = *b"CStg";

/// The name of a tag.
///
/// A value that exists is valid: it has 1 to 64 characters of `A-Z a-z 0-9 . _ -`, begins with a letter, a digit or `_`,
/// and is not a number.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TagName(String);

/// Why some text is not the name of a tag.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{name}` can't name a tag: {problem} (allowed are 1 to 64 of A-Z a-z 0-9 . _ -, not only digits, and no . or - \
     in front)"
)]
pub struct TagNameError {
    name: String,
    problem: String,
}

impl TagName {
    /// Parses a name.
    ///
    /// # Errors
    /// A [`TagNameError`], which says what is wrong and what is allowed.
    pub fn new(name: impl Into<String>) -> Result<Self, TagNameError> {
        let name = name.into();
        match problem(&name) {
            None => Ok(Self(name)),
            Some(problem) => {
                // A very long name would hide the rest of the message.
                let mut name = policy_core::escape(name.as_bytes());
                if let Some((end, _)) = name.char_indices().nth(MAX_NAME_LEN) {
                    name.truncate(end);
                    name.push_str("...");
                }
                Err(TagNameError { name, problem })
            }
        }
    }

    /// Returns the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn problem(name: &str) -> Option<String> {
    if name.is_empty() {
        return Some("it is empty".into());
    }
    if let Some(c) = name.chars().find(|c| !(c.is_ascii_alphanumeric() || "._-".contains(*c))) {
        return Some(format!("it has `{}`", policy_core::escape(c.to_string().as_bytes())));
    }
    if name.len() > MAX_NAME_LEN {
        return Some(format!("it has {} characters", name.len()));
    }
    if name.starts_with(['.', '-']) {
        return Some(format!("it begins with `{}`", &name[..1]));
    }
    name.bytes().all(|b| b.is_ascii_digit()).then(|| "it is a number, which names a snapshot itself".into())
}

impl fmt::Display for TagName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for TagName {
    type Err = TagNameError;

    fn from_str(s: &str) -> Result<Self, TagNameError> {
        Self::new(s)
    }
}

impl TryFrom<String> for TagName {
    type Error = TagNameError;

    fn try_from(s: String) -> Result<Self, TagNameError> {
        Self::new(s)
    }
}

impl From<TagName> for String {
    fn from(name: TagName) -> Self {
        name.0
    }
}

/// A tag: it names one snapshot of one lifetime of a context, and never another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tag {
    /// The store's id.
    pub store_id: StoreId,
    /// The context.
    pub context: ContextName,
    /// The lineage of the snapshot.
    pub lineage: LineageId,
    /// The tag's name.
    pub name: TagName,
    /// The snapshot's number.
    pub number: u64,
}

impl Tag {
    /// Returns the bytes of the tag's object. Equal tags have equal bytes.
    pub fn encode(&self) -> Bytes {
        let mut w = Writer::new();
        w.bytes(&MAGIC);
        w.u8(VERSION);
        w.bytes(&self.store_id.0);
        w.blob(self.context.as_str().as_bytes());
        w.bytes(&self.lineage.0);
        w.blob(self.name.as_str().as_bytes());
        w.varint(self.number);
        let digest = sha256(w.as_slice());
        w.bytes(&digest.0);
        w.into_vec().into()
    }

    /// Parses the bytes of a tag's object.
    ///
    /// # Errors
    /// [`FormatError::UnsupportedVersion`] for a tag of a newer format; others if the bytes are not a tag's.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        at_most(Part::Tag, "a length", bytes.len() as u64, MAX_TAG_LEN as u64)?;
        let mut r = Reader::new(Part::Tag, bytes);
        if r.array()? != MAGIC {
            return Err(r.invalid("no tag begins like this"));
        }
        let version = r.u8()?;
        let truncated = FormatError::Truncated { part: Part::Tag, offset: bytes.len() as u64 };
        let (Some(end), Some((body, digest))) =
            (r.remaining().checked_sub(32), bytes.split_last_chunk::<32>())
        else {
            return Err(truncated);
        };
        if sha256(body).0 != *digest {
            return Err(FormatError::Corrupt { part: Part::Tag });
        }
        check_version(Part::Tag, version.into(), VERSION.into())?;
        let mut r = Reader::at(Part::Tag, r.take(end)?, 5);
        let store_id = StoreId(r.array()?);
        let context = text(&mut r)?;
        let context = ContextName::new(context).map_err(|e| r.invalid(e.to_string()))?;
        let lineage = LineageId(r.array()?);
        let name = text(&mut r)?;
        let name = TagName::new(name).map_err(|e| r.invalid(e.to_string()))?;
        let number = r.varint()?;
        r.finish()?;
        Ok(Self { store_id, context, lineage, name, number })
    }
}

fn text<'a>(r: &mut Reader<'a>) -> Result<&'a str, FormatError> {
    let text = r.blob("a name length", 128)?;
    str::from_utf8(text).map_err(|_| r.invalid("a name that is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tag() -> Tag {
        Tag {
            store_id: StoreId([0x5a; 16]),
            context: "team/project".parse().unwrap(),
            lineage: LineageId([0x11; 16]),
            name: "v1.0".parse().unwrap(),
            number: 300,
        }
    }

    #[test]
    fn names_are_neither_numbers_nor_options_nor_paths() {
        let errors: Vec<_> = ["", "7", "-1", ".x", "a/b", "a b", "a@b", "a:b", "ä", &"x".repeat(65)]
            .into_iter()
            .map(|name| TagName::new(name).unwrap_err().problem)
            .collect();
        insta::assert_snapshot!(errors.join("\n"), @r"
        it is empty
        it is a number, which names a snapshot itself
        it begins with `-`
        it begins with `.`
        it has `/`
        it has ` `
        it has `@`
        it has `:`
        it has `ä`
        it has 65 characters
        ");
        for name in ["a", "v1", "1.0", "2026-11-29", "_x", "A.b-c_d", &"x".repeat(64)] {
            assert_eq!(TagName::new(name).unwrap().as_str(), name);
        }
        assert!(serde_json::from_str::<TagName>("\"7\"").is_err());
    }

    #[test]
    fn a_tag_is_as_the_format_says() {
        let hex: String = tag().encode().iter().map(|byte| format!("{byte:02x}")).collect();
        insta::assert_snapshot!(hex, @"43537467015a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a0c7465616d2f70726f6a656374111111111111111111111111111111110476312e30ac0255ac7ad562df3864da1e1bd0bdab5545397d2999e63f9f9b1f2c8d8a42af28bb");
        assert_eq!(Tag::decode(&tag().encode()), Ok(tag()));
    }

    #[test]
    fn every_changed_byte_is_noticed() {
        let bytes = tag().encode();
        for at in 0..bytes.len() {
            let mut other = bytes.to_vec();
            other[at] ^= 1;
            assert!(Tag::decode(&other).is_err(), "byte {at}");
            assert!(Tag::decode(&bytes[..at]).is_err(), "the first {at}");
        }
        assert!(Tag::decode(&[&bytes[..], b"x"].concat()).is_err());
    }

    #[test]
    fn a_later_version_is_told() {
        let mut bytes = tag().encode().to_vec();
        bytes[4] = 2;
        let end = bytes.len() - 32;
        let digest = sha256(&bytes[..end]);
        bytes[end..].copy_from_slice(&digest.0);
        assert_eq!(
            Tag::decode(&bytes),
            Err(FormatError::UnsupportedVersion { part: Part::Tag, found: 2, supported: 1 })
        );
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>, whole: bool) {
            let bytes = if whole { [&MAGIC[..], &[VERSION], &bytes].concat() } else { bytes };
            let signed = [&bytes[..], &sha256(&bytes).0].concat();
            if let Ok(tag) = Tag::decode(&signed) {
                prop_assert_eq!(tag.encode(), signed);
            }
        }
    }
}
