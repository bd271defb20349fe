//! Ids of 16 random bytes, shown as 32 hexadecimal digits.

use std::fmt;
use std::str::FromStr;

/// Why some text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is not an id: 32 hexadecimal digits in lower case", policy_core::escape(.0.as_bytes()))]
pub struct IdError(String);

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub [u8; 16]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_hex(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_hex(&self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(s: &str) -> Result<Self, IdError> {
                parse_hex(s).map(Self).ok_or_else(|| IdError(s.to_owned()))
            }
        }
    };
}

id! {
    /// The id of a pack: random, chosen by the writer of the pack, and never used again.
    PackId
}
id! {
    /// The id of a store: random, chosen when the store is created.
    StoreId
}
id! {
    /// The id of one lifetime of a context. It is new whenever a context is created, also under a name used
    /// before.
    LineageId
}

fn write_hex(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|b| write!(f, "{b:02x}"))
}

/// Parses exactly `2 * N` hexadecimal digits in lower case.
pub(crate) fn parse_hex<const N: usize>(s: &str) -> Option<[u8; N]> {
    let digit = |c: u8| match c {
        b'0'..=b'9' => Some(c - b'0'),
        b'a'..=b'f' => Some(c - b'a' + 10),
        _ => None,
    };
    let s = s.as_bytes();
    if s.len() != 2 * N {
        return None;
    }
    let mut out = [0; N];
    for (byte, pair) in out.iter_mut().zip(s.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_their_hex() {
        let id = PackId(*b"\x00\x01\x0f\x10\xffabcdefghijk");
        assert_eq!(id.to_string().parse(), Ok(id));
        for bad in ["", "00", &"0".repeat(33), &"A".repeat(32), &"g".repeat(32), &"é".repeat(16)] {
            assert!(bad.parse::<PackId>().is_err(), "{bad}");
        }
        let error = "a\nb".parse::<StoreId>().unwrap_err();
        insta::assert_snapshot!(error, @r"`a\nb` is not an id: 32 hexadecimal digits in lower case");
    }
}
