//! Errors of whole operations. A failure of one path goes to the [`Monitor`](crate::Monitor) instead.

mod kind;
mod lack;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use policy_core::{PolicyError, TreePath};

pub use self::lack::Lack;
use self::lack::listed;
use crate::failure::{Cause, ErrorKind};
use crate::format::{ContextName, FormatError, TagName};

/// Why an operation failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The store does not exist.
    #[error("no store at {location}")]
    NoStore {
        /// The store's URL, without secrets.
        location: String,
    },
    /// The store has no context of this name.
    #[error("no context `{name}` in {location}")]
    NoContext {
        /// The name asked for.
        name: ContextName,
        /// The store's URL, without secrets.
        location: String,
    },
    /// The context has no such snapshot, or the snapshot is forgotten.
    #[error("context `{name}` has no snapshot {number}")]
    NoSnapshot {
        /// The context.
        name: ContextName,
        /// The number asked for; negative counts back from the head.
        number: i64,
    },
    /// The context has no such tag.
    #[error("context `{name}` has no tag `{tag}`")]
    NoTag {
        /// The context.
        name: ContextName,
        /// The tag asked for.
        tag: TagName,
    },
    /// The tag names another snapshot than the one that was given.
    #[error("tag `{tag}` of context `{name}` is on snapshot {number}")]
    TagElsewhere {
        /// The context.
        name: ContextName,
        /// The tag.
        tag: TagName,
        /// The snapshot that it names.
        number: u64,
    },
    /// The snapshot has no such path.
    #[error("no `{path}` in `{name}@{number}`")]
    NoPath {
        /// The path asked for.
        path: String,
        /// The context.
        name: ContextName,
        /// The snapshot.
        number: u64,
    },
    /// The mount has a part of a context, and the context has nothing there.
    #[error("no directory `{path}` in `{name}@{number}`")]
    NoPart {
        /// The part's path.
        path: String,
        /// The context.
        name: ContextName,
        /// The snapshot.
        number: u64,
    },
    /// The context was renamed.
    #[error("context `{name}` was moved to `{to}`")]
    Moved {
        /// The name asked for.
        name: ContextName,
        /// Its new name.
        to: ContextName,
    },
    /// The path is a directory, but a file was expected.
    #[error("`{path}` in `{name}@{number}` is a directory")]
    IsDirectory {
        /// The path.
        path: String,
        /// The context.
        name: ContextName,
        /// The snapshot.
        number: u64,
    },
    /// The context has recycled the file at this path, because it was not pushed for too long; or a repair left it out,
    /// because its content was lost.
    #[error("`{path}` in `{name}@{number}` was recycled or lost")]
    Recycled {
        /// The path.
        path: String,
        /// The context.
        name: ContextName,
        /// The snapshot.
        number: u64,
    },
    /// The path is a file or a symbolic link, but a directory was expected.
    #[error("`{path}` in `{name}@{number}` is not a directory")]
    NotADirectory {
        /// The path.
        path: String,
        /// The context.
        name: ContextName,
        /// The snapshot.
        number: u64,
    },
    /// A context of this name exists already.
    #[error("context `{name}` exists")]
    ContextExists {
        /// The name.
        name: ContextName,
    },
    /// Two contexts have no snapshot in common, so a merge can't tell what each has changed.
    #[error("`{from}` and `{into}` have no snapshot in common that is still kept")]
    Unrelated {
        /// The context to merge.
        from: ContextName,
        /// The context to merge into.
        into: ContextName,
    },
    /// The head of a context is damaged, or has a format that this version does not know.
    #[error("the newest snapshot of context `{name}`, number {number}, can't be read")]
    DamagedHead {
        /// The context.
        name: ContextName,
        /// The head's number.
        number: u64,
        /// The newest snapshot that can be read, if there is one.
        readable: Option<u64>,
        /// What is wrong with the head.
        source: Box<Error>,
    },
    /// A request to the store failed.
    #[error("cannot {action} {key}")]
    Store {
        /// What was attempted, as an infinitive: `read`, `write`, `list`.
        action: &'static str,
        /// The object, or the prefix.
        key: String,
        /// The store's error.
        source: object_store::Error,
    },
    /// An object of the store is damaged, or has a format that this version does not know.
    #[error("{key} is not usable")]
    Format {
        /// The object.
        key: String,
        /// What is wrong.
        source: FormatError,
    },
    /// The digest of an object does not match its bytes, even when it is read again.
    #[error("{key} is corrupt: {what}")]
    Corrupt {
        /// The object.
        key: String,
        /// The part of the object.
        what: String,
    },
    /// An operation of the local file system failed, and it does not concern a single path of the mount.
    #[error("cannot {action} {}", path.display())]
    Local {
        /// What was attempted, as an infinitive.
        action: &'static str,
        /// The path.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// Another process works on the mount.
    #[error("{} is in use by {holder}", mount.display())]
    Locked {
        /// The mount.
        mount: PathBuf,
        /// Process id and host of the process that holds the lock.
        holder: String,
    },
    /// Another writer committed first, again and again.
    #[error("another writer committed to `{name}` first, {attempts} times in a row")]
    Beaten {
        /// The context.
        name: ContextName,
        /// The number of attempts.
        attempts: u32,
    },
    /// The store gave no clear answer to the commit, even after further requests.
    #[error("it is unknown whether snapshot {number} of `{name}` was committed")]
    CommitUnknown {
        /// The context.
        name: ContextName,
        /// The snapshot's number.
        number: u64,
        /// The last answer.
        source: object_store::Error,
    },
    /// The commit landed, but each time so late that its packs could have been collected before it.
    #[error("snapshot {number} of `{name}` reached the store too late to count")]
    TooLate {
        /// The context.
        name: ContextName,
        /// The snapshot's number.
        number: u64,
    },
    /// The store's clock and this machine's differ so much that one of them is wrong, or an object of the
    /// store has a time in the future.
    #[error("the clocks of {location} and of this machine differ by {seconds} s")]
    ClockSkew {
        /// The store's URL, without secrets.
        location: String,
        /// How far the store's clock is ahead, in seconds.
        seconds: i64,
    },
    /// The deadline came before anything could be committed. What was sent by then is in the store, and the
    /// mount's next push continues from there.
    #[error("the deadline passed before anything was committed to `{name}`")]
    OutOfTime {
        /// The context.
        name: ContextName,
    },
    /// The push would send more than `max_upload` allows.
    #[error("the push would send at least {bytes} bytes, more than the limit of {limit}")]
    UploadTooLarge {
        /// The bytes of changed content found before the push stopped.
        bytes: u64,
        /// The limit in bytes.
        limit: u64,
        /// The largest new or possibly changed directories and files, each with its size in bytes.
        largest: Vec<(TreePath, u64)>,
    },
    /// The policy can't be used with this mount.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The policy needs a feature of this crate that was left out when the program was built.
    #[error("{} can't be used: its policy {needs}, and this program was built without the feature `{feature}`", mount.display())]
    NotBuilt {
        /// The mount.
        mount: PathBuf,
        /// What the policy does.
        needs: &'static str,
        /// The name of the feature.
        feature: &'static str,
    },
    /// The store has another id than the one that the mount was synced with.
    #[error("{location} is not the store that this mount was synced with")]
    OtherStore {
        /// The store's URL, without secrets.
        location: String,
    },
    /// Again and again, the mount's path led to another directory after the mount had been read.
    #[error("{} was replaced by another directory during the push", mount.display())]
    Exchanged {
        /// The mount.
        mount: PathBuf,
    },
    /// The programs that write to the mount could not be paused, so nothing was read.
    #[error("cannot quiesce {}", mount.display())]
    Quiesce {
        /// The mount.
        mount: PathBuf,
        /// The hook's error.
        source: io::Error,
    },
    /// The directory can't be a mount, because the program uses it itself.
    #[error("{} can't be a mount: it is {what}", mount.display())]
    OwnPlace {
        /// The directory.
        mount: PathBuf,
        /// What the directory is.
        what: &'static str,
    },
    /// The store has vanished: its disk may not be mounted, or its bucket may have been emptied.
    #[error("the store at {location} is gone: its description file is missing")]
    StoreGone {
        /// The store's URL, without secrets.
        location: String,
    },
    /// Listings of the store contradict each other or an object's content, so one of them is incomplete.
    #[error("a listing of {location} is not complete: {what}")]
    BadListing {
        /// The store's URL, without secrets.
        location: String,
        /// What does not fit together.
        what: String,
    },
    /// The context in the destination of a copy is not, or not only, a copy of the one in the source.
    #[error("`{name}` in {location} has snapshots of its own: snapshot {number} is no copy")]
    Diverged {
        /// The context.
        name: ContextName,
        /// Its snapshot that is no copy.
        number: u64,
        /// The destination's address, without secrets.
        location: String,
    },
    /// The source and the destination of a copy are one store.
    #[error("the source and {location} are the same store")]
    SameStore {
        /// The destination's address, without secrets.
        location: String,
    },
    /// The mount was opened to read only, so nothing of it is pushed.
    #[error("{} is read-only: nothing of it is pushed to context `{context}`", mount.display())]
    ReadOnly {
        /// The context.
        context: ContextName,
        /// The mount.
        mount: PathBuf,
    },
    /// A mount is to stay at a snapshot, and has a newer one already.
    #[error("{} already has snapshot {has} of context `{context}`, and no pull goes back to snapshot {wanted}", mount.display())]
    NewerMount {
        /// The context.
        context: ContextName,
        /// The mount.
        mount: PathBuf,
        /// The number of the snapshot that the mount was synced with last.
        has: u64,
        /// The number of the snapshot at which it is to stay.
        wanted: u64,
    },
    /// Two mounts of one session contain each other.
    #[error("{} and {} contain each other, and can't both be mounts of one session", mount.display(), other.display())]
    Overlap {
        /// The mount to be opened.
        mount: PathBuf,
        /// The mount that is open.
        other: PathBuf,
    },
    /// Paths that a session requires are not there, so it was not opened.
    #[error("required paths of context `{context}` are not there: {}", listed(paths))]
    Required {
        /// The context.
        context: ContextName,
        /// The mount.
        mount: PathBuf,
        /// The paths, each with the reason.
        paths: Vec<(TreePath, Lack)>,
    },
    /// The session has no mount of this path or context.
    #[error("session {session} has no mount for {wanted}")]
    NoMount {
        /// The session's id.
        session: String,
        /// The path or the context that was requested.
        wanted: String,
    },
    /// The session is being released, was released, or was dropped.
    #[error("session {session} has ended")]
    Ended {
        /// The session's id.
        session: String,
    },
    /// An operation that several callers waited for failed.
    #[error(transparent)]
    Shared(Arc<Error>),
    /// A session in another process, which holds the mount, failed.
    #[error("{message}")]
    Remote {
        /// The kind of failure.
        kind: ErrorKind,
        /// The failure's message.
        message: String,
        /// What to do about it; may be empty.
        hint: String,
        /// The failure's cause.
        source: Option<Cause>,
    },
}

impl Error {
    /// Whether the local state is damaged.
    pub(crate) fn is_damaged_state(&self) -> bool {
        self.state_format().is_some_and(FormatError::is_damaged_state)
    }

    /// Whether an object of the store is gone or damaged, so that a retry does not help.
    pub(crate) fn is_of_object(&self) -> bool {
        match self {
            Self::Store { source, .. } => matches!(source, object_store::Error::NotFound { .. }),
            Self::Format { .. } | Self::Corrupt { .. } | Self::DamagedHead { .. } => true,
            _ => false,
        }
    }

    /// Whether the store, or the file system that it is on, did not permit a request.
    pub(crate) fn is_denied(&self) -> bool {
        let Self::Store { source, .. } = self else { return false };
        let of_system = |e: &(dyn std::error::Error + 'static)| {
            e.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::PermissionDenied)
        };
        matches!(source, object_store::Error::PermissionDenied { .. })
            || std::iter::successors(std::error::Error::source(source), |e| e.source()).any(of_system)
    }

    /// Whether a newer program wrote an object of the store. It says nothing to this one, and is not damaged.
    pub fn is_of_later_format(&self) -> bool {
        match self {
            Self::Format { source, .. } => source.is_of_later_program(),
            Self::DamagedHead { source, .. } => source.is_of_later_format(),
            _ => false,
        }
    }

    /// Whether a newer program wrote the local state.
    pub fn is_later_state(&self) -> bool {
        self.state_format().is_some_and(FormatError::is_of_later_program)
    }

    fn state_format(&self) -> Option<&FormatError> {
        match self {
            Self::Local { source, .. } => source.get_ref().and_then(|e| e.downcast_ref()),
            Self::Shared(error) => error.state_format(),
            _ => None,
        }
    }

    pub(crate) fn store(
        action: &'static str,
        key: &object_store::path::Path,
        source: object_store::Error,
    ) -> Self {
        Self::Store { action, key: key.to_string(), source }
    }

    pub(crate) fn local(
        action: &'static str,
        path: impl Into<PathBuf>,
        source: impl Into<io::Error>,
    ) -> Self {
        Self::Local { action, path: path.into(), source: source.into() }
    }
}

/// Returns an error's message, followed by those of its sources.
pub(crate) fn chain(e: &dyn std::error::Error) -> String {
    let mut text = e.to_string();
    let mut source = e.source();
    while let Some(e) = source {
        text.push_str(": ");
        text.push_str(&e.to_string());
        source = e.source();
    }
    text
}
