//! Lifecycle: how long the context keeps a file that is not pushed again.

use serde::{Deserialize, Serialize};

/// How long the context keeps a file that is not pushed again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub enum Lifecycle {
    /// One day.
    #[serde(rename = "Lifecycle_1Day")]
    Days1,
    /// Three days.
    #[serde(rename = "Lifecycle_3Days")]
    Days3,
    /// Five days.
    #[serde(rename = "Lifecycle_5Days")]
    Days5,
    /// Ten days.
    #[serde(rename = "Lifecycle_10Days")]
    Days10,
    /// Fifteen days.
    #[serde(rename = "Lifecycle_15Days")]
    Days15,
    /// Thirty days.
    #[serde(rename = "Lifecycle_30Days")]
    Days30,
    /// Ninety days.
    #[serde(rename = "Lifecycle_90Days")]
    Days90,
    /// 180 days.
    #[serde(rename = "Lifecycle_180Days")]
    Days180,
    /// 360 days.
    #[serde(rename = "Lifecycle_360Days")]
    Days360,
    /// For ever.
    #[default]
    #[serde(rename = "Lifecycle_Forever")]
    Forever,
}

impl Lifecycle {
    /// Returns the days after its last upload at which a file is recycled; `None` for ever.
    pub fn days(self) -> Option<u32> {
        Some(match self {
            Self::Days1 => 1,
            Self::Days3 => 3,
            Self::Days5 => 5,
            Self::Days10 => 10,
            Self::Days15 => 15,
            Self::Days30 => 30,
            Self::Days90 => 90,
            Self::Days180 => 180,
            Self::Days360 => 360,
            Self::Forever => return None,
        })
    }
}
