//! Which snapshot of a context is meant.

use crate::format::TagName;

/// Which snapshot of a context is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum At {
    /// The head.
    Head,
    /// The one with this number.
    Number(u64),
    /// The one that many before the head.
    Back(u64),
    /// The one with this tag.
    Tag(TagName),
}

impl From<i64> for At {
    fn from(at: i64) -> Self {
        Some(at).into()
    }
}

impl From<Option<i64>> for At {
    fn from(at: Option<i64>) -> Self {
        match at {
            None => Self::Head,
            Some(at) => u64::try_from(at).map_or(Self::Back(at.unsigned_abs()), Self::Number),
        }
    }
}

impl std::fmt::Display for At {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Head => Ok(()),
            Self::Number(number) => write!(f, "@{number}"),
            Self::Back(back) => write!(f, "@-{back}"),
            Self::Tag(tag) => write!(f, "@{tag}"),
        }
    }
}
