//! Resolves the paths of a policy for a mount.

use std::borrow::Cow;

use crate::policy::{FaultKind, PathReason, PolicyError};
use crate::{SyncPolicy, TreePath, escape};

/// A resolved path of a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Resolved {
    /// The path relative to the mount.
    pub(super) path: TreePath,
    /// How the path was read.
    pub(super) by: Reading,
}

/// The ways to read a path, in the order in which they are tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reading {
    /// It lies under the mount path.
    Mount,
    /// It lies under the mapping path.
    Mapping,
    /// It is absolute, but under neither; it is read as relative to the mount.
    Outside,
    /// It is relative.
    Relative,
}

/// The mount and its mapping, for which paths are resolved.
///
/// A path that begins with a drive (`C:\`, `C:/`) or with `\\` is a Windows path, and both `\` and `/`
/// separate its components. If the mapping is a Windows path, `\` separates in every path of the policy,
/// since its author works on Windows. Case is ignored only when the components of a Windows mount or mapping
/// are compared; the rest of the path is a name in the tree, byte for byte.
#[derive(Debug, Clone)]
pub(super) struct Resolver {
    mount: PathParts,
    mapping: Option<PathParts>,
}

impl Resolver {
    /// Reads mount and mapping. [`unfit`] was already called on the mapping.
    pub(super) fn new(policy: &SyncPolicy, mount: &[u8]) -> Result<Self, PolicyError> {
        let place = PathParts::parse(mount, false);
        let bad = |reason| Err(PolicyError::one("", FaultKind::BadMount { mount: escape(mount), reason }));
        if !place.absolute {
            return bad("is not an absolute path");
        }
        if mount.contains(&0) {
            return bad("has a NUL byte");
        }
        if place.components.iter().any(|c| &**c == b"..") {
            return bad("has a component `..`");
        }
        let mapping = PathParts::parse(policy.mapping_policy.path.as_bytes(), false);
        let mapping = (!policy.mapping_policy.path.is_empty()).then_some(mapping);
        Ok(Self { mount: place, mapping })
    }

    /// Resolves a path. [`unfit`] was already called on it.
    pub(super) fn resolve(&self, text: &str) -> Resolved {
        let windows = self.mapping.as_ref().is_some_and(|m| m.windows);
        let place = PathParts::parse(text.as_bytes(), windows);
        let under = |base: &PathParts| place.under(base).and_then(tree_path);
        if let Some(path) = under(&self.mount) {
            Resolved { path, by: Reading::Mount }
        } else if let Some(path) = self.mapping.as_ref().and_then(under) {
            Resolved { path, by: Reading::Mapping }
        } else {
            let by = if place.absolute { Reading::Outside } else { Reading::Relative };
            let by = if place.components.is_empty() { Reading::Relative } else { by };
            Resolved { path: tree_path(&place.components).unwrap_or_default(), by }
        }
    }

    /// Resolves an exclude of the list at `list`.
    pub(super) fn resolve_within(&self, text: &str, list: &TreePath) -> Resolved {
        let Resolved { path, by } = self.resolve(text);
        if path.is_within(list) {
            return Resolved { path, by };
        }
        let path = path.rebase(&TreePath::root(), list).unwrap_or(path);
        Resolved { path, by }
    }

    /// Whether an absolute path outside mount and mapping looks like one of this machine: it is a Windows
    /// path, or its first component is that of the mount or the mapping.
    pub(super) fn looks_local(&self, text: &str) -> bool {
        let place = PathParts::parse(text.as_bytes(), false);
        let first = place.components.first();
        let bases = std::iter::once(&self.mount).chain(&self.mapping);
        place.windows || bases.into_iter().any(|b| first.is_some() && first == b.components.first())
    }

    /// Returns the absolute path of `path`, with `/` between its components.
    pub(super) fn absolute<'b>(&self, path: &TreePath, buffer: &'b mut Vec<u8>) -> &'b [u8] {
        buffer.clear();
        if !self.mount.windows {
            buffer.push(b'/');
        }
        for (i, component) in self.mount.components.iter().enumerate() {
            if i > 0 {
                buffer.push(b'/');
            }
            buffer.extend_from_slice(component);
        }
        if !path.is_root() {
            if !self.mount.components.is_empty() {
                buffer.push(b'/');
            }
            buffer.extend_from_slice(path.as_bytes());
        }
        buffer
    }

    /// Returns the mount path, escaped for output.
    pub(super) fn mount(&self) -> String {
        escape(self.absolute(&TreePath::root(), &mut Vec::new()))
    }
}

/// A path as a list of components, without empty ones and `.`.
#[derive(Debug, Clone)]
struct PathParts {
    absolute: bool,
    windows: bool,
    components: Vec<Box<[u8]>>,
}

impl PathParts {
    fn parse(text: &[u8], backslashes: bool) -> Self {
        let drive = matches!(text, [d, b':', rest @ ..]
            if d.is_ascii_alphabetic() && (rest.is_empty() || matches!(rest[0], b'/' | b'\\')));
        let windows = drive || text.starts_with(b"\\\\");
        let backslashes = backslashes || windows;
        let separates = |b: &u8| *b == b'/' || (backslashes && *b == b'\\');
        let components = text.split(separates).filter(|c| !matches!(*c, b"" | b".")).map(Box::from).collect();
        Self { absolute: drive || text.first().is_some_and(separates), windows, components }
    }

    /// Returns the components below `base`, if this is `base` or lies below it.
    fn under(&self, base: &Self) -> Option<&[Box<[u8]>]> {
        if self.absolute != base.absolute || self.components.len() < base.components.len() {
            return None;
        }
        let (head, rest) = self.components.split_at(base.components.len());
        let same = |a: &[u8], b: &[u8]| a == b || (base.windows && fold(a) == fold(b));
        head.iter().zip(&base.components).all(|(a, b)| same(a, b)).then_some(rest)
    }
}

fn fold(name: &[u8]) -> Cow<'_, str> {
    Cow::Owned(String::from_utf8_lossy(name).to_lowercase())
}

fn tree_path(components: &[Box<[u8]>]) -> Option<TreePath> {
    TreePath::new(components.join(&b'/')).ok()
}

/// Returns what is wrong with `path`, if anything. `flag` names the field that would make it an expression,
/// if there is such a field.
pub(super) fn unfit(path: &str, flag: Option<&'static str>) -> Option<PathReason> {
    if path.contains('\0') {
        return Some(PathReason::Nul);
    }
    // Whether `\` separates is not known yet, but a name that contains `\..\` is a mistake either way.
    if path.split(['/', '\\']).any(|c| c == "..") {
        return Some(PathReason::Parent);
    }
    let found = path.chars().find(|c| matches!(c, '*' | '?' | '[' | ']'))?;
    Some(match flag {
        Some(flag) => PathReason::ListWildcard { found, flag },
        None => PathReason::Wildcard { found },
    })
}
