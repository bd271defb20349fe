//! Values that flags, variables and the config file share, parsed from text.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;
use std::time::Duration;

use globset::{GlobBuilder, GlobSet};
use serde::de::{Deserializer, Error as _, Visitor};
use transfer_engine::{ContextName, MaxDelete, NamePattern, ReadData};

use crate::text;

/// A number of bytes: `256M`, `10MiB`, `4096`. Units are powers of 1024.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size(pub(crate) u64);

/// A length of time: `5s`, `250ms`, `2m`, `24h`, `7d`; a bare number is in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span(pub(crate) Duration);

/// The most deletions allowed: `100` or `10%`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Deletions(pub(crate) MaxDelete);

/// A range of bytes in a file, both ends included: `0-99`; `100-` up to the end; `-100` the last hundred.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ByteRange {
    first: Option<u64>,
    last: Option<u64>,
}

/// What `--read-data` reads: `10%` of the packs, or the files that match a pattern.
#[derive(Debug, Clone)]
pub(crate) struct Sample(pub(crate) ReadData);

impl FromStr for Sample {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(percent) = text.strip_suffix('%') {
            return match percent.parse::<u8>() {
                Ok(100) => Ok(Self(ReadData::All)),
                Ok(percent @ 1..100) => Ok(Self(ReadData::Percent(percent))),
                _ => Err("a share is a whole number from 1% to 100%".to_owned()),
            };
        }
        let pattern = GlobBuilder::new(text).literal_separator(true).build();
        let set = pattern.and_then(|pattern| GlobSet::builder().add(pattern).build());
        set.map(|set| Self(ReadData::Paths(set))).map_err(|e| format!("not a pattern: {}", e.kind()))
    }
}

const EXPECTED_SIZE: &str =
    "expected a size, such as `500K`, `10M` or `1.5G` (each unit is 1024 of the one before)";
const EXPECTED_TIME: &str = "expected a time, such as `250ms`, `30s`, `5m`, `24h` or `7d`";

/// Parses a whole number.
pub(crate) fn number<T: FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| "expected a whole number, such as `4`".to_owned())
}

/// Parses a whole number that is not 0.
pub(crate) fn at_least_one<T: FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| "expected a whole number from 1 on, such as `4`".to_owned())
}

/// Splits a number from the unit that follows it.
fn split_unit(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    (&text[..end], text[end..].trim())
}

/// Parses `number` times `unit` without floating point, so that large values stay exact.
fn scaled(number: &str, unit: u64) -> Option<u64> {
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    let whole: u64 = if whole.is_empty() && !part.is_empty() { 0 } else { whole.parse().ok()? };
    let mut value = whole.checked_mul(unit)?;
    if !part.is_empty() {
        let digits = part.len().min(9);
        let numerator: u64 = part[..digits].parse().ok()?;
        let scale = 10u128.pow(u32::try_from(digits).ok()?);
        value = value.checked_add(u64::try_from(u128::from(numerator) * u128::from(unit) / scale).ok()?)?;
    }
    Some(value)
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (number, unit) = split_unit(text.trim());
        let unit = unit.to_ascii_lowercase();
        let shift = match unit.trim_end_matches("ib").trim_end_matches('b') {
            "" => 0,
            "k" => 10,
            "m" => 20,
            "g" => 30,
            "t" => 40,
            _ => return Err(EXPECTED_SIZE.to_owned()),
        };
        scaled(number, 1 << shift).map(Self).ok_or_else(|| EXPECTED_SIZE.to_owned())
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&text::bytes(self.0))
    }
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (number, unit) = split_unit(text.trim());
        let millis = match unit {
            "ms" => 1,
            "" | "s" => 1000,
            "m" | "min" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(EXPECTED_TIME.to_owned()),
        };
        let millis = scaled(number, millis).ok_or_else(|| EXPECTED_TIME.to_owned())?;
        Ok(Self(Duration::from_millis(millis)))
    }
}

impl fmt::Display for Span {
    /// Writes the value with the largest unit that leaves no remainder, in the form that `from_str` reads.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis();
        let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1000, "s")];
        match units.into_iter().find(|(unit, _)| millis > 0 && millis.is_multiple_of(*unit)) {
            Some((unit, name)) => write!(f, "{}{name}", millis / unit),
            None => write!(f, "{millis}ms"),
        }
    }
}

impl FromStr for Deletions {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || "expected a number, such as `100`, or a share, such as `10%`".to_owned();
        match text.trim().strip_suffix('%') {
            Some(share) => match share.parse() {
                Ok(percent @ 0..=100) => Ok(Self(MaxDelete::Percent(percent))),
                _ => Err(bad()),
            },
            None => text.trim().parse().map(|n| Self(MaxDelete::Count(n))).map_err(|_| bad()),
        }
    }
}

impl fmt::Display for Deletions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            MaxDelete::Count(n) => write!(f, "{n}"),
            MaxDelete::Percent(n) => write!(f, "{n}%"),
        }
    }
}

impl FromStr for ByteRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("`{text}` is not a range: `0-99`, `100-` or `-100`");
        let (first, last) = text.split_once('-').ok_or_else(bad)?;
        let number = |s: &str| if s.is_empty() { Ok(None) } else { s.parse().map(Some).map_err(|_| bad()) };
        match (number(first)?, number(last)?) {
            (None, None) => Err(bad()),
            (Some(a), Some(b)) if a > b => Err(format!("`{text}` ends before it begins")),
            (first, last) => Ok(Self { first, last }),
        }
    }
}

impl ByteRange {
    /// Returns the range within a file of `size` bytes, cut at the file's end.
    pub(crate) fn within(self, size: u64) -> Range<u64> {
        let (start, end) = match (self.first, self.last) {
            (None, Some(count)) => (size.saturating_sub(count), size),
            (first, None) => (first.unwrap_or(0), size),
            (Some(first), Some(last)) => (first, last.saturating_add(1)),
        };
        start.min(size)..end.min(size)
    }
}

/// Reads a value of the config file in the form that its flag takes; a bare number is also allowed.
pub(crate) fn from_config<'de, D: Deserializer<'de>, T: FromStr<Err = String>>(
    from: D,
) -> Result<T, D::Error> {
    struct Text;
    impl Visitor<'_> for Text {
        type Value = String;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a string or a number")
        }

        fn visit_str<E>(self, v: &str) -> Result<String, E> {
            Ok(v.to_owned())
        }

        fn visit_i64<E>(self, v: i64) -> Result<String, E> {
            Ok(v.to_string())
        }

        fn visit_u64<E>(self, v: u64) -> Result<String, E> {
            Ok(v.to_string())
        }
    }
    from.deserialize_any(Text)?.parse().map_err(D::Error::custom)
}

macro_rules! in_config {
    ($($name:ty),*) => {$(
        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                $crate::values::from_config(from)
            }
        }
    )*};
}
pub(crate) use in_config;

in_config!(Size, Span, Deletions);

/// Parses the name of a context, or a glob of names.
pub(crate) fn name_pattern(text: &str) -> Result<NamePattern, String> {
    if !text.contains(['*', '?', '[', '{']) {
        ContextName::new(text).map_err(|error| error.to_string())?;
    }
    NamePattern::new(text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        let size = |s: &str| s.parse::<Size>().map(|s| s.0);
        assert_eq!(size("10M"), Ok(10 << 20));
        assert_eq!(size("1.5GiB"), Ok(3 << 29));
        assert_eq!(size("64 kb"), Ok(64 << 10));
        assert_eq!(size("123"), Ok(123));
        for bad in ["", "M", "10X", "-1", "1e3", "99999999999T", "1.2.3"] {
            assert!(size(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn spans() {
        let span = |s: &str| s.parse::<Span>().map(|s| s.0.as_millis());
        assert_eq!(span("250ms"), Ok(250));
        assert_eq!(span("5"), Ok(5000));
        assert_eq!(span("1.5h"), Ok(5_400_000));
        assert!(span("5 weeks").is_err());
        let shown = [250, 5000, 90_000, 86_400_000].map(|ms| Span(Duration::from_millis(ms)).to_string());
        assert_eq!(shown, ["250ms", "5s", "90s", "1d"]);
    }

    #[test]
    fn deletions() {
        assert_eq!("10%".parse(), Ok(Deletions(MaxDelete::Percent(10))));
        assert_eq!("10".parse(), Ok(Deletions(MaxDelete::Count(10))));
        assert!("101%".parse::<Deletions>().is_err() && "ten".parse::<Deletions>().is_err());
    }

    #[test]
    fn ranges() {
        let range = |s: &str| s.parse::<ByteRange>().map(|r| r.within(1000));
        assert_eq!(range("0-99"), Ok(0..100));
        assert_eq!(range("990-2000"), Ok(990..1000));
        assert_eq!(range("5-"), Ok(5..1000));
        assert_eq!(range("-5"), Ok(995..1000));
        assert_eq!(range("2000-"), Ok(1000..1000));
        assert!(range("9-5").is_err() && range("-").is_err() && range("5").is_err());
    }
}
