//! Decides what a sync does: which paths take part, when, and what happens to each.
//!
//! ```text
//! JSON, TOML ──► SyncPolicy ──► Scope ──── which paths take part, and by which rule
//!                    │
//!                    └────────► Rules ──┐
//! base, local, remote ──► Reconciler ───┴─► what becomes of each path, and why
//! ```
//!
//! Nothing here reads a file, a clock or a random number: equal arguments give equal answers, in the same
//! order.
//!
//! ```
//! use policy_core::{Scope, SyncPolicy, TreePath};
//!
//! // As the guide writes it, or in the camelCase of the wire.
//! let policy = SyncPolicy::from_json(
//!     r#"{"bw_list": {
//!         "white_lists": [{"path": "/home/wuying/project", "exclude_paths": ["/home/wuying/project/temp"]}],
//!         "ignorePatterns": ["*.log"]
//!     }}"#,
//! )?;
//! let scope = Scope::new(&policy, b"/home/wuying/project")?;
//!
//! let source: TreePath = "src/main.rs".parse()?;
//! let log: TreePath = "src/run.log".parse()?;
//! let temp: TreePath = "temp".parse()?;
//! assert!(scope.contains(&source, false));
//! assert_eq!(scope.decide(&log, false).rule.to_string(), r#"ignore pattern 0 "*.log" leaves it out"#);
//! assert!(!scope.may_hold(&temp));
//!
//! let error = SyncPolicy::from_json(r#"{"bwList": {"whiteList": []}}"#).unwrap_err();
//! assert!(error.to_string().starts_with("/bwList/whiteList: unknown field"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod conflict;
mod decide;
mod document;
mod entry;
mod git;
mod guard;
mod path;
mod plan;
mod policy;
mod reconcile;
mod recycle;
mod retention;
mod scope;

pub use conflict::{MAX_COPIES, MAX_NAME, copy_path, cut_at_char, numbered_copy_path, original_path};
pub use decide::{Decision, Local, Reason, Rules, Towards, Verdict, decide, decide_recycled};
pub use entry::{Digest, Entry, Node, Timestamp};
pub use git::GitChanges;
pub use guard::{MaxDelete, looks_lost};
pub use path::{PathError, TreePath, escape, escape_text, tree_order};
pub use plan::{NotSorted, Planned, plan};
pub use policy::{
    BwList, ConflictPolicy, DeletePolicy, DownloadPolicy, DownloadStrategy, ExtractPolicy, FaultKind,
    Lifecycle, MappingPolicy, PathReason, PolicyError, PolicyFault, RecyclePolicy, SyncPolicy, UploadMode,
    UploadPolicy, UploadStrategy, WhiteList,
};
pub use reconcile::{LocalRow, Next, Reconciler, Source, Step, TreeRow};
pub use recycle::Expiry;
pub use retention::{Keeper, KeptFor, NamePattern, NamePatternError, Retention, RetentionRules, Taken, kept};
pub use scope::{ListMarks, PathSet, Scope, ScopeDecision, ScopeList, ScopeRule, ScopeWarning};

/// The examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
