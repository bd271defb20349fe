//! The keys of a store's objects.

use object_store::path::Path;

use super::{ContextName, LineageId, PackId, TagName};

const META: &str = "ctxsync.json";
const CONTEXTS: &str = "contexts";
const INDEX: &str = "contexts.index";
const PACKS: &str = "packs";
const GONE: &str = ".gone";
/// No digit of a number sorts after it, so the newest snapshot stays first in a listing.
const TAG: &str = "tag.";

/// What an object's key says. Keys are relative to the root of the store.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum StoreKey {
    /// The store's own description.
    Meta,
    /// The index of heads.
    Index,
    /// A snapshot.
    Snapshot {
        /// The context that it belongs to.
        context: ContextName,
        /// Its number.
        number: u64,
    },
    /// The mark of a forgotten snapshot.
    Gone {
        /// The context that it belongs to.
        context: ContextName,
        /// The snapshot's number.
        number: u64,
    },
    /// A tag.
    Tag {
        /// The context that it belongs to.
        context: ContextName,
        /// The lineage of the snapshot that it names.
        lineage: LineageId,
        /// Its name.
        name: TagName,
    },
    /// A pack.
    Pack(PackId),
}

impl StoreKey {
    /// Returns the key of an object.
    pub fn path(&self) -> Path {
        match self {
            Self::Meta => path(META.to_owned()),
            Self::Index => path(INDEX.to_owned()),
            Self::Snapshot { context, number } => {
                path(format!("{CONTEXTS}/{}/{}", context.to_segment(), encode_number(*number)))
            }
            Self::Gone { context, number } => {
                path(format!("{CONTEXTS}/{}/{}{GONE}", context.to_segment(), encode_number(*number)))
            }
            Self::Tag { context, lineage, name } => {
                path(format!("{CONTEXTS}/{}/{TAG}{lineage}.{name}", context.to_segment()))
            }
            Self::Pack(id) => path(format!("{PACKS}/{id}")),
        }
    }

    /// Returns the context that the object belongs to.
    pub fn context(&self) -> Option<&ContextName> {
        match self {
            Self::Snapshot { context, .. } | Self::Gone { context, .. } | Self::Tag { context, .. } => {
                Some(context)
            }
            Self::Meta | Self::Index | Self::Pack(_) => None,
        }
    }

    /// Parses a key; `None` for an object of another program.
    pub fn parse(key: &Path) -> Option<Self> {
        let key = key.as_ref();
        if key == META {
            return Some(Self::Meta);
        }
        if key == INDEX {
            return Some(Self::Index);
        }
        let (folder, rest) = key.split_once('/')?;
        match folder {
            PACKS => rest.parse().ok().map(Self::Pack),
            CONTEXTS => {
                let (context, file) = rest.split_once('/')?;
                let context = ContextName::from_segment(context)?;
                if let Some(tag) = file.strip_prefix(TAG) {
                    let (lineage, name) = tag.split_once('.')?;
                    return Some(Self::Tag {
                        context,
                        lineage: lineage.parse().ok()?,
                        name: name.parse().ok()?,
                    });
                }
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

/// Returns the prefix of a context's snapshots and tags. A listing of it begins with the newest.
pub fn context_prefix(context: &ContextName) -> Path {
    path(format!("{CONTEXTS}/{}", context.to_segment()))
}

/// Returns a key after all those of a context and before those of the next.
pub(crate) fn end_of_context(context: &ContextName) -> Path {
    path(format!("{CONTEXTS}/{}/~", context.to_segment()))
}

/// Returns the context for a prefix that a delimited listing of [`contexts_prefix`] returned; `None` if
/// another program wrote it.
pub fn parse_context_prefix(prefix: &Path) -> Option<ContextName> {
    ContextName::from_segment(prefix.as_ref().strip_prefix(CONTEXTS)?.strip_prefix('/')?)
}

/// Returns the prefix of all packs.
pub fn packs_prefix() -> Path {
    path(PACKS.to_owned())
}

/// `Path::from` would escape the `~` of encoded names. A key made here is already a valid path.
fn path(key: String) -> Path {
    Path::parse(&key).unwrap_or_else(|_| Path::from(key))
}

/// The newest snapshot must sort first, because stores list keys in ascending order.
fn encode_number(number: u64) -> String {
    format!("{:016x}", u64::MAX - number)
}

fn decode_number(s: &str) -> Option<u64> {
    super::ids::parse_hex(s).map(|bytes| u64::MAX - u64::from_be_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn keys_are_as_the_format_says() {
        let context: ContextName = ".team/project".parse().unwrap();
        let snapshot = StoreKey::Snapshot { context: context.clone(), number: 1 };
        let gone = StoreKey::Gone { context: context.clone(), number: 1 };
        let (lineage, name) = (LineageId([0x1f; 16]), "v1.0".parse().unwrap());
        let tag = StoreKey::Tag { context: context.clone(), lineage, name };
        assert_eq!(StoreKey::parse(&tag.path()), Some(tag.clone()));
        assert!(tag.path() > StoreKey::Snapshot { context: context.clone(), number: 0 }.path());
        let keys = [StoreKey::Meta, StoreKey::Index, snapshot, gone, tag, StoreKey::Pack(PackId([0xab; 16]))];
        insta::assert_snapshot!(keys.map(|k| k.path().to_string()).join("\n"), @r"
        ctxsync.json
        contexts.index
        contexts/~.team~project/fffffffffffffffe
        contexts/~.team~project/fffffffffffffffe.gone
        contexts/~.team~project/tag.1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f.v1.0
        packs/abababababababababababababababab
        ");
        assert_eq!(context_prefix(&context).as_ref(), "contexts/~.team~project");
        assert_eq!(parse_context_prefix(&context_prefix(&context)), Some(context));
        assert_eq!(parse_context_prefix(&contexts_prefix()), None);
        assert_eq!(parse_context_prefix(&packs_prefix()), None);
    }

    #[test]
    fn foreign_objects_are_none_of_ours() {
        for key in [
            "ctxsync.json/x",
            "packs",
            "packs/ABABABABABABABABABABABABABABABAB",
            "packs/abababababababababababababababab/x",
            "contexts/a",
            "contexts/a/fffffffffffffff",
            "contexts/a/fffffffffffffffE",
            "contexts/a/fffffffffffffffe.gone.gone",
            "contexts/a/b/fffffffffffffffe",
            "contexts/a/tag.v1",
            "contexts/a/tag.1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f",
            "contexts/a/tag.1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f.7",
            "contexts/~a/fffffffffffffffe",
            "other/abababababababababababababababab",
        ] {
            assert_eq!(StoreKey::parse(&Path::parse(key).unwrap()), None, "{key}");
        }
    }

    proptest! {
        #[test]
        fn keys_parse_back_and_the_newest_sorts_first(a in any::<u64>(), b in any::<u64>(), name in "[a-z][a-z/.]{0,3}[a-z]") {
            prop_assume!(ContextName::new(name.clone()).is_ok());
            let context = ContextName::new(name).unwrap();
            let key = |number| StoreKey::Snapshot { context: context.clone(), number };
            let gone = StoreKey::Gone { context: context.clone(), number: a };
            prop_assert_eq!(StoreKey::parse(&gone.path()), Some(gone.clone()));
            prop_assert_eq!(StoreKey::parse(&key(a).path()), Some(key(a)));
            prop_assert_eq!(key(a).path().cmp(&key(b).path()), b.cmp(&a));
            let pack = StoreKey::Pack(PackId((u128::from(a) << 64 | u128::from(b)).to_be_bytes()));
            prop_assert_eq!(StoreKey::parse(&pack.path()), Some(pack));
        }
    }
}
