//! The data sets: generated from seeds, or real trees that package clients download.

mod change;
mod made;
mod real;

use std::fmt;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::{Result, say};

pub(crate) use change::{Changed, change};
pub(crate) use made::like_d1;

/// A set of data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Set {
    /// 20,000 small files in 2,000 directories, 160 MB, half of it text, half random.
    D1,
    /// One file of 2 GiB, random.
    D2,
    /// 2,000 files, 1 GiB: few large ones, many of code.
    D3,
    /// A real npm tree: what a large framework brings.
    D4,
    /// Two successive versions of a real source tree.
    D5,
    /// A million files of about 1 KiB in 30,000 directories.
    D6,
}

impl fmt::Display for Set {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl Set {
    /// Whether the change can be made once only, because it is the next version.
    pub(crate) fn changes_once(self) -> bool {
        self == Self::D5
    }
}

/// The trees of a data set.
#[derive(Debug, Clone)]
pub(crate) struct Data {
    pub(crate) set: Set,
    /// The tree.
    pub(crate) tree: PathBuf,
    /// Its next version, if there is one.
    pub(crate) next: Option<PathBuf>,
}

/// Creates a data set below `dir` unless it exists, smaller by the factor `divide`.
pub(crate) fn make(set: Set, dir: &Path, divide: u64) -> Result<Data> {
    let place = dir.join(if divide == 1 { set.to_string() } else { format!("{set}-{divide}") });
    if !place.exists() {
        say(&format!("making {set}"));
        let unfinished = place.with_extension("unfinished");
        if unfinished.exists() {
            std::fs::remove_dir_all(&unfinished)?;
        }
        let tree = unfinished.join("tree");
        std::fs::create_dir_all(&tree)?;
        match set {
            Set::D1 => made::many_small(&tree, divide)?,
            Set::D2 => made::one_large(&tree, divide)?,
            Set::D3 => made::mixed(&tree, divide)?,
            Set::D4 => real::npm_tree(&tree)?,
            Set::D5 => real::two_versions(&tree, &unfinished.join("next"))?,
            Set::D6 => made::a_million(&tree, divide)?,
        }
        std::fs::rename(&unfinished, &place)?;
    }
    let next = Some(place.join("next")).filter(|next| next.exists());
    Ok(Data { set, tree: place.join("tree"), next })
}
