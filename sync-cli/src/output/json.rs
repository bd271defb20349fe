//! The lines of `--json`. Programs rely on their fields: fields are only ever added.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use policy_core::TreePath;
use serde::Serialize;
use transfer_engine::{Context, TagName};

use crate::text;

/// One line: an object with a type.
#[derive(Debug, Serialize)]
#[serde(tag = "message_type", rename_all = "snake_case")]
pub(crate) enum Line<'a> {
    Status(StatusLine<'a>),
    Path(PathLine<'a>),
    Warning { message: &'a str },
    Error(ErrorLine<'a>),
    Rule(RuleLine<'a>),
    List(ListLine<'a>),
    Entry(EntryLine<'a>),
    Snapshot(SnapshotLine<'a>),
    Context(ContextLine<'a>),
    Difference(DifferenceLine),
    Directory(DirectoryLine),
    Stats(StatsLine<'a>),
    StoreStats(StoreStatsLine<'a>),
    Setting(SettingLine<'a>),
    Store(StoreLine<'a>),
    Kept(KeptLine<'a>),
    Forgotten(ForgottenLine<'a>),
    Packs(PacksLine<'a>),
    Recycled(RecycledLine<'a>),
    Gathered(GatheredLine<'a>),
    CheckedContext(CheckedContextLine<'a>),
    CheckedSnapshot(CheckedSnapshotLine<'a>),
    DamagedObject(DamagedObjectLine<'a>),
    DamagedFile(DamagedFileLine<'a>),
    RepairedFile(RepairedFileLine<'a>),
    Purged(PurgedLine<'a>),
    StillHeld(StillHeldLine<'a>),
    RepairedContext(RepairedContextLine<'a>),
    Copied(CopiedLine<'a>),
    Summary(&'a super::summary::Summary),
}

/// A path in JSON, with its bytes if it is not UTF-8.
#[derive(Debug, Serialize)]
pub(crate) struct PathField {
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_bytes: Option<String>,
}

impl PathField {
    pub(crate) fn new(bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(path) => Self { path: path.to_owned(), path_bytes: None },
            Err(_) => Self {
                path: String::from_utf8_lossy(bytes).into_owned(),
                path_bytes: Some(BASE64_STANDARD.encode(bytes)),
            },
        }
    }
}

impl From<&TreePath> for PathField {
    fn from(path: &TreePath) -> Self {
        Self::new(path.as_bytes())
    }
}

/// The progress of a sync.
#[derive(Debug, Serialize)]
pub(crate) struct StatusLine<'a> {
    pub(crate) phase: &'a str,
    pub(crate) files_done: u64,
    pub(crate) total_files: u64,
    pub(crate) bytes_done: u64,
    pub(crate) total_bytes: u64,
    pub(crate) seconds_elapsed: f64,
    /// Null if unknown.
    pub(crate) seconds_remaining: Option<f64>,
}

/// What is done with one path.
#[derive(Debug, Serialize)]
pub(crate) struct PathLine<'a> {
    #[serde(flatten)]
    pub(crate) path: PathField,
    pub(crate) action: String,
    pub(crate) side: String,
    pub(crate) reason: &'a str,
    pub(crate) size: u64,
    /// The mount's path, if the session has several mounts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) mount: Option<&'a str>,
}

/// An error: of one path, or, if `path` is null, of the whole command.
#[derive(Debug, Serialize)]
pub(crate) struct ErrorLine<'a> {
    pub(crate) path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) path_bytes: Option<String>,
    /// The mount's path, if the session has several mounts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) mount: Option<&'a str>,
    /// The context, if a command that works on several goes on without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) context: Option<&'a str>,
    pub(crate) message: &'a str,
    pub(crate) causes: &'a [String],
    pub(crate) hint: Option<&'a str>,
}

/// The rule that decides a path.
#[derive(Debug, Serialize)]
pub(crate) struct RuleLine<'a> {
    #[serde(flatten)]
    pub(crate) path: PathField,
    pub(crate) in_scope: bool,
    pub(crate) rule: &'a str,
    pub(crate) reason: &'a str,
}

/// A white list as shown by `policy check --mount`.
#[derive(Debug, Serialize)]
pub(crate) struct ListLine<'a> {
    /// Its index in the policy, from 0.
    pub(crate) list: usize,
    pub(crate) path: &'a str,
    /// Null for an expression, which has no path of its own.
    pub(crate) resolved: Option<&'a str>,
    pub(crate) exists: Option<bool>,
}

/// A row of `ls`.
#[derive(Debug, Serialize)]
pub(crate) struct EntryLine<'a> {
    #[serde(flatten)]
    pub(crate) path: PathField,
    pub(crate) kind: &'a str,
    pub(crate) size: u64,
    /// Permission bits in octal, such as `0644`.
    pub(crate) mode: String,
    pub(crate) mtime: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) target: Option<String>,
}

/// A row of `log`.
#[derive(Debug, Serialize)]
pub(crate) struct SnapshotLine<'a> {
    pub(crate) context: &'a str,
    pub(crate) snapshot: u64,
    pub(crate) time: String,
    pub(crate) added: u64,
    pub(crate) changed: u64,
    pub(crate) deleted: u64,
    pub(crate) files: u64,
    pub(crate) bytes: u64,
    pub(crate) partial: bool,
    /// Whether the mount kept changing while it was read.
    pub(crate) unsettled: bool,
    pub(crate) session: &'a str,
    /// The program that wrote the snapshot, if the snapshot says so.
    pub(crate) writer: Option<&'a str>,
    pub(crate) tags: &'a [TagName],
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub(crate) origins: Option<OriginsFields>,
}

/// Further fields of `log --graph`. Snapshots are shown as `NAME@N`.
#[derive(Debug, Serialize)]
pub(crate) struct OriginsFields {
    /// Of the oldest snapshot, what the context was forked from.
    pub(crate) forked_from: Option<String>,
    /// What the snapshot has merged.
    pub(crate) merged: Vec<String>,
}

/// A row of `context list`, or the result of `context show`.
#[derive(Debug, Serialize)]
pub(crate) struct ContextLine<'a> {
    pub(crate) context: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) snapshot: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) lineage: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) files: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) partial: Option<bool>,
    /// The snapshot that the context was forked from, as `NAME@N`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) forked_from: Option<String>,
    /// The session that made the snapshot; empty if none did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) session: Option<&'a str>,
    /// The tags of the snapshot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tags: Option<&'a [TagName]>,
}

impl<'a> ContextLine<'a> {
    /// Returns the row of a context, with the tags of its snapshot where they are known.
    pub(crate) fn of(context: &'a Context, tags: Option<&'a [TagName]>) -> Self {
        Self {
            context: context.name.as_str(),
            snapshot: Some(context.snapshot),
            lineage: Some(context.lineage.to_string()),
            time: Some(text::time(context.time)),
            files: Some(context.files),
            bytes: Some(context.bytes),
            partial: Some(context.partial),
            forked_from: context.forked_from.as_ref().map(text::origin),
            session: Some(&context.session),
            tags,
        }
    }

    /// Returns the row of a context of which only the name is shown.
    pub(crate) fn name_only(context: &'a str) -> Self {
        Self {
            context,
            snapshot: None,
            lineage: None,
            time: None,
            files: None,
            bytes: None,
            partial: None,
            forked_from: None,
            session: None,
            tags: None,
        }
    }
}

/// A row of `ls --du`.
#[derive(Debug, Serialize)]
pub(crate) struct DirectoryLine {
    #[serde(flatten)]
    pub(crate) path: PathField,
    pub(crate) files: u64,
    pub(crate) bytes: u64,
}

/// A row of `stats`.
#[derive(Debug, Serialize)]
pub(crate) struct StatsLine<'a> {
    pub(crate) context: &'a str,
    pub(crate) snapshots: u64,
    pub(crate) files: u64,
    pub(crate) size: u64,
    pub(crate) stored: u64,
    pub(crate) packs: u64,
    pub(crate) packs_size: u64,
    pub(crate) own: u64,
}

/// The last row of `stats`.
#[derive(Debug, Serialize)]
pub(crate) struct StoreStatsLine<'a> {
    pub(crate) store: &'a str,
    pub(crate) contexts: u64,
    pub(crate) size: u64,
    pub(crate) packs: u64,
    pub(crate) packs_size: u64,
    pub(crate) unused: u64,
    pub(crate) packs_full: u64,
    pub(crate) packs_over_half: u64,
    pub(crate) packs_under_half: u64,
    pub(crate) packs_unused: u64,
}

/// A row of `diff`.
#[derive(Debug, Serialize)]
pub(crate) struct DifferenceLine {
    #[serde(flatten)]
    pub(crate) path: PathField,
    pub(crate) change: &'static str,
    /// The old path of a renamed file.
    pub(crate) from: Option<String>,
    pub(crate) kind_before: Option<&'static str>,
    pub(crate) kind_after: Option<&'static str>,
    pub(crate) size_before: Option<u64>,
    pub(crate) size_after: Option<u64>,
    pub(crate) mode_before: Option<String>,
    pub(crate) mode_after: Option<String>,
}

/// A row of `config`.
#[derive(Debug, Serialize)]
pub(crate) struct SettingLine<'a> {
    pub(crate) name: &'a str,
    pub(crate) value: Option<&'a str>,
    pub(crate) origin: &'a str,
}

/// The result of `store init` or `store check`.
#[derive(Debug, Serialize)]
pub(crate) struct StoreLine<'a> {
    pub(crate) store: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) grace_seconds: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) deletes: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) first_put_seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) round_trip_seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) clock_skew_seconds: Option<f64>,
}

/// A snapshot that `gc --dry-run` would keep.
#[derive(Debug, Serialize)]
pub(crate) struct KeptLine<'a> {
    pub(crate) context: &'a str,
    pub(crate) snapshot: u64,
    /// When it was committed, by the store's clock.
    pub(crate) time: String,
    /// The rules that keep it: `head`, `last`, `within`, `hourly` and so on.
    pub(crate) reasons: Vec<&'a str>,
}

/// A snapshot that `gc` forgets.
#[derive(Debug, Serialize)]
pub(crate) struct ForgottenLine<'a> {
    pub(crate) context: &'a str,
    pub(crate) snapshot: u64,
    /// When the snapshot was committed, by the store's clock.
    pub(crate) time: String,
    /// `retention` or `deleted`.
    pub(crate) reason: &'a str,
}

/// The files that `gc` recycles in a context.
#[derive(Debug, Serialize)]
pub(crate) struct RecycledLine<'a> {
    pub(crate) context: &'a str,
    /// The snapshot without the files; null if there is none.
    pub(crate) snapshot: Option<u64>,
    pub(crate) files: u64,
    pub(crate) bytes: u64,
    /// When the next file expires; null if none will.
    pub(crate) next_expiry: Option<String>,
}

/// What `gc` moves to new packs.
#[derive(Debug, Serialize)]
pub(crate) struct GatheredLine<'a> {
    pub(crate) context: &'a str,
    /// Packs from which chunks are moved.
    pub(crate) packs: u64,
    /// Bytes that are moved.
    pub(crate) bytes: u64,
}

/// The packs of one kind in the result of `gc`.
#[derive(Debug, Serialize)]
pub(crate) struct PacksLine<'a> {
    /// `kept`, `waiting` (for the end of the grace period) or `deleted`.
    pub(crate) kind: &'a str,
    pub(crate) packs: u64,
    pub(crate) bytes: u64,
}

/// What `check` found of a context.
#[derive(Debug, Serialize)]
pub(crate) struct CheckedContextLine<'a> {
    pub(crate) context: &'a str,
    pub(crate) whole: bool,
    pub(crate) snapshots: u64,
    pub(crate) snapshots_damaged: u64,
}

/// What `check` found of a snapshot.
#[derive(Debug, Serialize)]
pub(crate) struct CheckedSnapshotLine<'a> {
    pub(crate) context: &'a str,
    pub(crate) snapshot: u64,
    pub(crate) head: bool,
    pub(crate) whole: bool,
    /// Null if the snapshot can't be read.
    pub(crate) time: Option<String>,
    pub(crate) files_damaged: u64,
    /// What is wrong with the snapshot itself.
    pub(crate) message: Option<&'a str>,
}

/// An object that `check` found to be damaged, or missing.
#[derive(Debug, Serialize)]
pub(crate) struct DamagedObjectLine<'a> {
    pub(crate) context: &'a str,
    pub(crate) key: &'a str,
    pub(crate) message: &'a str,
}

/// A file that can't be read whole.
#[derive(Debug, Serialize)]
pub(crate) struct DamagedFileLine<'a> {
    pub(crate) context: &'a str,
    #[serde(flatten)]
    pub(crate) path: PathField,
    /// Entries from this path on whose names can't be read either; 0 for a single file.
    pub(crate) unnamed: u64,
    /// The newest and the oldest snapshot in which it is damaged.
    pub(crate) newest: u64,
    pub(crate) oldest: u64,
    /// The session that pushed the oldest one.
    pub(crate) session: &'a str,
    /// The damaged object.
    pub(crate) key: &'a str,
    pub(crate) message: &'a str,
}

/// What `repair` does about a damaged file.
#[derive(Debug, Serialize)]
pub(crate) struct RepairedFileLine<'a> {
    pub(crate) context: &'a str,
    #[serde(flatten)]
    pub(crate) path: PathField,
    /// `healed`, `from_older` or `left_out`.
    pub(crate) fate: &'a str,
    /// The damaged object.
    pub(crate) key: &'a str,
    pub(crate) message: &'a str,
}

/// What `repair` did about a damaged context.
#[derive(Debug, Serialize)]
pub(crate) struct RepairedContextLine<'a> {
    pub(crate) context: &'a str,
    /// The new head; null in a dry run, or if the head is whole.
    pub(crate) snapshot: Option<u64>,
    pub(crate) healed: u64,
    pub(crate) from_older: u64,
    pub(crate) left_out: u64,
    /// Paths whose names are lost, at most.
    pub(crate) unnamed: u64,
    pub(crate) begins_anew: bool,
    /// Damaged tags that were deleted.
    pub(crate) untagged: &'a [TagName],
    /// Older snapshots that were forgotten, and those that stay although they are damaged.
    pub(crate) forgotten: &'a [u64],
    pub(crate) damaged_left: &'a [u64],
    /// Why nothing can be repaired.
    pub(crate) beyond: Option<&'a str>,
    /// What stopped the repair of this context, and may pass.
    pub(crate) failed: Option<&'a str>,
}

/// What `purge` did.
#[derive(Debug, Serialize)]
pub(crate) struct PurgedLine<'a> {
    pub(crate) context: &'a str,
    pub(crate) paths: Vec<PathField>,
    /// The new head; null in a dry run, or if the old one had nothing of it.
    pub(crate) snapshot: Option<u64>,
    /// The contexts of which snapshots are forgotten.
    pub(crate) contexts: Vec<&'a str>,
    /// How many snapshots are forgotten.
    pub(crate) forgotten: u64,
    /// The tags of those snapshots, which are deleted.
    pub(crate) tags: Vec<PurgedTagField<'a>>,
    /// Packs that held content of the paths, or may have held some.
    pub(crate) packs: u64,
    /// How many of them only may have: snapshots were erased.
    pub(crate) packs_unknown: u64,
    /// Those that are deleted already.
    pub(crate) packs_deleted: u64,
}

/// A tag that `purge` deletes.
#[derive(Debug, Serialize)]
pub(crate) struct PurgedTagField<'a> {
    pub(crate) context: &'a str,
    pub(crate) snapshot: u64,
    pub(crate) tag: &'a TagName,
}

/// A file at another path that has content, or a part of it, which `purge` took out, and keeps it.
#[derive(Debug, Serialize)]
pub(crate) struct StillHeldLine<'a> {
    pub(crate) context: &'a str,
    pub(crate) snapshot: u64,
    #[serde(flatten)]
    pub(crate) path: PathField,
}

/// A context that `copy` has copied.
#[derive(Debug, Serialize)]
pub(crate) struct CopiedLine<'a> {
    pub(crate) context: &'a str,
    /// Snapshots that the destination lacked.
    pub(crate) snapshots: u64,
    /// The newest of them, by its number there; null if there is none.
    pub(crate) newest: Option<u64>,
    /// Packs that it lacked.
    pub(crate) packs: u64,
    pub(crate) bytes: u64,
    /// Tags that it lacked.
    pub(crate) tags: u64,
}

/// Returns a line's text.
pub(crate) fn text(line: &impl Serialize) -> String {
    // Serializing these types does not fail. If that changes, the line still has a type.
    serde_json::to_string(line)
        .unwrap_or_else(|_| r#"{"message_type":"error","message":"a line could not be written"}"#.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_not_utf8_carry_their_bytes() {
        let line = Line::Path(PathLine {
            path: PathField::new(b"a\xff"),
            action: "add".into(),
            side: "store".into(),
            reason: "new here",
            size: 3,
            mount: None,
        });
        assert_eq!(
            text(&line),
            "{\"message_type\":\"path\",\"path\":\"a\u{fffd}\",\"path_bytes\":\"Yf8=\",\"action\":\"add\",\
             \"side\":\"store\",\"reason\":\"new here\",\"size\":3}"
        );
    }
}
