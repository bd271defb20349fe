//! What a mount is a mount of.

use std::fmt;

use policy_core::TreePath;

use super::{ContextSync, Mount};
use crate::format::ContextName;
use crate::tree::Part;

/// A context, or a directory of it. Written `NAME` or `NAME:PATH`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContextPart {
    /// The context's name.
    pub context: ContextName,
    /// The directory's path in the context; the root stands for the whole context.
    pub path: TreePath,
}

impl ContextPart {
    /// Returns the path in the context for a path in the mount.
    pub fn outer(&self, inner: &TreePath) -> TreePath {
        Part::new(self.path.clone()).outer(inner)
    }
}

impl From<ContextName> for ContextPart {
    fn from(context: ContextName) -> Self {
        Self { context, path: TreePath::root() }
    }
}

impl fmt::Display for ContextPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.context)?;
        // A context's name has no colon.
        if self.path.is_root() { Ok(()) } else { write!(f, ":{}", self.path) }
    }
}

impl ContextSync {
    /// Returns what is mounted.
    pub fn place(&self) -> ContextPart {
        ContextPart { context: self.context.clone(), path: self.part.clone() }
    }
}

impl Mount {
    /// Returns what is mounted, under the context's current name.
    pub(crate) fn place(&self) -> ContextPart {
        ContextPart { context: self.context.clone(), path: self.part.path().clone() }
    }
}
