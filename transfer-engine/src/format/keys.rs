//! Where each object lies in a store.

use object_store::path::Path;

use super::{ContextName, PackId};

const META: &str = "ctxsync.json";
const CONTEXTS: &str = "contexts";
const PACKS: &str = "packs";
const GONE: &str = ".gone";

/// What an object's key says about it. Keys are relative to the root of the store.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum StoreKey {
    /// The store's own description.
    Meta,
    /// A snapshot.
    Snapshot {
        /// The context that it belongs to.
        context: ContextName,
        /// Its number.
        number: u64,
    },
    /// The mark that a snapshot is forgotten.
    Gone {
        /// The context that it belongs to.
        context: ContextName,
        /// The snapshot's number.
        number: u64,
    },
    /// A pack.
    Pack(PackId),
}

impl StoreKey {
    /// Returns the key of an object.
    pub fn path(&self) -> Path {
        match self {
            Self::Meta => path(META.to_owned()),
            Self::Snapshot { context, number } => {
                path(format!("{CONTEXTS}/{}/{}", context.to_segment(), encode_number(*number)))
            }
            Self::Gone { context, number } => {
                path(format!("{CONTEXTS}/{}/{}{GONE}", context.to_segment(), encode_number(*number)))
            }
            Self::Pack(id) => path(format!("{PACKS}/{id}")),
        }
    }

    /// Parses a key; `None` for an object that is none of ours.
    pub fn parse(key: &Path) -> Option<Self> {
        let key = key.as_ref();
        if key == META {
            return Some(Self::Meta);
        }
        let (folder, rest) = key.split_once('/')?;
        match folder {
            PACKS => rest.parse().ok().map(Self::Pack),
            CONTEXTS => {
                let (context, file) = rest.split_once('/')?;
                let context = ContextName::from_segment(context)?;
                Some(match file.strip_suffix(GONE) {
                    Some(number) => Self::Gone { context, number: decode_number(number)? },
                    None => Self::Snapshot { context, number: decode_number(file)? },
                })
            }
            _ => None,
        }
    }
}

/// Returns the prefix of all contexts.
pub fn contexts_prefix() -> Path {
    path(CONTEXTS.to_owned())
}

/// Returns the prefix of a context's snapshots; a list of it begins with the newest.
pub fn context_prefix(context: &ContextName) -> Path {
    path(format!("{CONTEXTS}/{}", context.to_segment()))
}

/// Returns the context whose prefix a delimited list of [`contexts_prefix`] shows; `None` where it is none
/// of ours.
pub fn parse_context_prefix(prefix: &Path) -> Option<ContextName> {
    ContextName::from_segment(prefix.as_ref().strip_prefix(CONTEXTS)?.strip_prefix('/')?)
}

/// Returns the prefix of all packs.
pub fn packs_prefix() -> Path {
    path(PACKS.to_owned())
}

/// `Path::from` would escape the `~` of encoded names; what is made here is a valid path as it stands.
fn path(key: String) -> Path {
    Path::parse(&key).unwrap_or_else(|_| Path::from(key))
}

/// The newest must sort first, because stores list in ascending order.
fn encode_number(number: u64) -> String {
    format!("{:016x}", u64::MAX - number)
}

fn decode_number(s: &str) -> Option<u64> {
    super::ids::parse_hex(s).map(|bytes| u64::MAX - u64::from_be_bytes(bytes))
}
