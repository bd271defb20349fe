//! Decides what a sync does: which paths take part, when, and what becomes of each.

mod entry;
mod path;
mod policy;
mod scope;

pub use entry::{Digest, Entry, Node, Timestamp};
pub use path::{PathError, TreePath, escape, tree_order};
pub use policy::{
    BwList, ConflictPolicy, DeletePolicy, DownloadPolicy, DownloadStrategy, ExtractPolicy, FaultKind,
    Lifecycle, MappingPolicy, PathReason, PolicyError, PolicyFault, RecyclePolicy, SyncPolicy, UploadMode,
    UploadPolicy, UploadStrategy, WhiteList,
};
pub use scope::{ListMarks, PathSet, Scope, ScopeDecision, ScopeList, ScopeRule, ScopeWarning};
