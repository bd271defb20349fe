//! `--extract-limits`: how large the content of an archive may be for it to be extracted.

use std::fmt;
use std::str::FromStr;

use transfer_engine::ExtractLimits;

use crate::values::{Size, in_config};

/// The limits, as in `bytes=100G,ratio=1000`. Limits that are not named keep their defaults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Limits(pub(crate) ExtractLimits);

impl FromStr for Limits {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut limits = ExtractLimits::default();
        for part in text.split(',') {
            let part = part.trim();
            let (name, value) =
                part.split_once('=').ok_or_else(|| format!("`{part}` is not `NAME=VALUE`"))?;
            let number = || value.parse().map_err(|_| format!("`{value}` is no number"));
            match name {
                "bytes" => limits.total_bytes = value.parse::<Size>()?.0,
                "members" => limits.members = number()?,
                "levels" => {
                    limits.levels = number()?.try_into().map_err(|_| format!("`{value}` is too large"))?;
                }
                "ratio" => limits.ratio = number()?,
                _ => return Err(format!("unknown limit `{name}` (known: bytes, members, levels, ratio)")),
            }
        }
        Ok(Self(limits))
    }
}

impl fmt::Display for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ExtractLimits { total_bytes, members, levels, ratio, .. } = self.0;
        write!(f, "bytes={},members={members},levels={levels},ratio={ratio}", Size(total_bytes))
    }
}

in_config!(Limits);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_read_and_shown() {
        let limits: Limits = "bytes=1.5T, ratio=1000".parse().unwrap();
        assert_eq!((limits.0.total_bytes, limits.0.ratio, limits.0.members), (3 << 39, 1000, 1_000_000));
        assert_eq!(limits.to_string().parse(), Ok(limits));
        for bad in ["", "bytes", "bytes=x", "member=3", "levels=99999999999", "ratio=-1"] {
            assert!(bad.parse::<Limits>().is_err(), "{bad}");
        }
    }
}
