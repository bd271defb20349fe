//! Failures as people see them: what failed and where, the causes, and what to do.

mod store;

use std::borrow::Cow;
use std::error::Error as StdError;
use std::io;
use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use policy_core::{PolicyError, TreePath};
use storage_backends::{OpenError, ProbeError};
use transfer_engine::{ContextName, Error, PathProblem, SyncReport};

use crate::exit::Exit;
use crate::text::bytes;

/// The hint if there is no store.
const NO_STORE: &str =
    "check --store; `ctxsync push`, `run` and `store init` create a store, `pull` does not";

/// The hint if the state can't be used.
pub(crate) const STATE_DIR: &str =
    "choose a directory that you may write with --state-dir or CTXSYNC_STATE_DIR";

/// The hint if a feature was left out of the program.
const BUILD_WITH: &str = "use a ctxsync that was built with it: the default features are all on";

/// Returns what to do about a store that does not answer, if the cause tells it.
pub(crate) fn what_helps(cause: &str) -> Option<Cow<'static, str>> {
    store::of_texts(&[cause.to_owned()])
}

/// Why a command, or one path of it, failed.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    pub(crate) message: String,
    pub(crate) causes: Vec<String>,
    pub(crate) hint: Option<String>,
    /// The report of what was done, if it says more than what the output has seen on the way.
    pub(crate) report: Option<Box<SyncReport>>,
    /// The mount's path, if the command has several mounts.
    pub(crate) mount: Option<Box<str>>,
    /// The context that the failure concerns, if the command goes on with others.
    pub(crate) context: Option<Box<ContextName>>,
    path: Option<Box<TreePath>>,
}

impl Failure {
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            exit,
            message: message.into(),
            causes: Vec::new(),
            hint: None,
            report: None,
            mount: None,
            context: None,
            path: None,
        }
    }

    /// Returns a failure caused by wrong usage or a bad config.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::USAGE, message)
    }

    /// Returns the failure of one path, with which the command goes on.
    pub(crate) fn of_path(problem: &PathProblem) -> Self {
        let hint = Some(problem.hint.clone()).filter(|hint| !hint.is_empty());
        let path = Some(Box::new(problem.path.clone()));
        Self { hint, path, ..Self::new(Exit::INCOMPLETE, problem.message.clone()) }
    }

    /// Returns the failure of a system call.
    pub(crate) fn local(action: &str, path: &Path, error: &io::Error) -> Self {
        Self::new(Exit::FAILED, format!("cannot {action} {}", path.display())).caused_by(error)
    }

    /// Returns the failure to read a file of settings; `what` says which. It is wrong usage only if it is wrong each
    /// time.
    pub(crate) fn unreadable(what: &str, path: &Path, error: &io::Error) -> Self {
        use io::ErrorKind::{
            InvalidData, InvalidFilename, InvalidInput, IsADirectory, NotADirectory, NotFound,
            PermissionDenied,
        };
        let is_wrong = matches!(
            error.kind(),
            InvalidData
                | InvalidFilename
                | InvalidInput
                | IsADirectory
                | NotADirectory
                | NotFound
                | PermissionDenied
        ) || error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error());
        let exit = if is_wrong { Exit::USAGE } else { Exit::FAILED };
        Self::new(exit, format!("cannot read the {what} {}", path.display())).caused_by(error)
    }

    /// Returns the failure of a policy; `what` names its source.
    pub(crate) fn policy(what: &str, error: &PolicyError) -> Self {
        Self::usage(format!("the policy {what} is not valid"))
            .caused_by(error)
            .hint("`ctxsync policy schema` shows what a policy may hold, `ctxsync policy default` one to begin with")
    }

    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Sets the exit code.
    pub(crate) fn ending_with(mut self, exit: Exit) -> Self {
        self.exit = exit;
        self
    }

    /// Adds the report of what was done before the failure.
    #[must_use]
    pub(crate) fn with_report(mut self, report: SyncReport) -> Self {
        self.report = Some(Box::new(report));
        self
    }

    /// Adds a cause that is only a text.
    #[must_use]
    pub(crate) fn because(mut self, cause: impl Into<String>) -> Self {
        self.causes.push(cause.into());
        self
    }

    /// Adds an error and its sources.
    #[must_use]
    pub(crate) fn caused_by(mut self, error: &dyn StdError) -> Self {
        self.causes.push(store::plain(error.to_string().trim_end()));
        self.caused_below(error)
    }

    /// Adds only the sources of an error, if the message has the error's own text.
    #[must_use]
    fn caused_below(mut self, error: &dyn StdError) -> Self {
        let mut next = error.source();
        while let Some(cause) = next {
            let text = store::plain(&cause.to_string());
            // Some libraries repeat the text of the cause in their own message; once is enough.
            if self.causes.last().is_none_or(|last| !last.contains(&text)) {
                self.causes.push(text);
            }
            next = cause.source();
        }
        self
    }

    /// Adds the mount that the failure concerns.
    #[must_use]
    pub(crate) fn at_mount(mut self, mount: Option<&str>) -> Self {
        self.mount = mount.map(Box::from);
        self
    }

    /// Returns the first line of the message.
    pub(crate) fn headline(&self) -> String {
        let mount = self.mount.as_ref().map(|mount| format!("{mount}: ")).unwrap_or_default();
        let path = self.path.as_ref().map(|path| format!("{path}: ")).unwrap_or_default();
        format!("{mount}{path}{}", self.message)
    }

    /// Returns the path as text, and also its bytes in Base64 if it is not UTF-8.
    pub(crate) fn path_fields(&self) -> (Option<String>, Option<String>) {
        let Some(path) = &self.path else { return (None, None) };
        let bytes = path.as_bytes();
        let encoded = std::str::from_utf8(bytes).is_err().then(|| BASE64_STANDARD.encode(bytes));
        (Some(String::from_utf8_lossy(bytes).into_owned()), encoded)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::from(&error)
    }
}

impl From<&Error> for Failure {
    fn from(error: &Error) -> Self {
        if let Error::Shared(error) = error {
            return Self::from(&**error);
        }
        if let Error::Policy(policy) = error {
            return Self::policy("does not fit this mount: it", policy)
                .reworded("the policy can't be used here");
        }
        let failure = Self::new(Exit::of_kind(error.kind()), error.to_string()).caused_below(error);
        match hint_of(error) {
            hint if hint.is_empty() => failure,
            hint => failure.hint(hint),
        }
    }
}

/// Returns what to do about an error; empty if the message says it.
fn hint_of(error: &Error) -> Cow<'_, str> {
    match error {
        Error::NoStore { .. } => NO_STORE.into(),
        Error::NoContext { .. } => {
            "list contexts with `ctxsync context list`; `push` and `run` create one, `pull` does not".into()
        }
        Error::NoPart { name, number, .. } => format!(
            "list files with `ctxsync ls {name}@{number}`; `push` and `run` create a directory, `pull` does not"
        )
        .into(),
        Error::NoSnapshot { name, .. } => format!("list snapshots with `ctxsync log {name}`").into(),
        Error::NoTag { name, .. } => format!("list tags with `ctxsync log {name}`").into(),
        Error::TagElsewhere { name, tag, .. } => format!(
            "a tag never moves: to use the name again, take it off first with `ctxsync context untag {name}@{tag}`"
        )
        .into(),
        Error::NoPath { name, number, .. } => format!("list files with `ctxsync ls {name}@{number}`").into(),
        Error::Recycled { name, .. } => format!(
            "the recycle policy removed it because of its age, or a repair because its content was lost; machines \
             that have the file keep it, and older snapshots may hold it (`ctxsync log {name}`)"
        )
        .into(),
        Error::ContextExists { name } => {
            format!("choose another name; `ctxsync push {name}` and `ctxsync run -c {name}` go on with this one").into()
        }
        Error::Unrelated { .. } => {
            "--unrelated merges them nevertheless: what both have and differs is then in conflict".into()
        }
        Error::Required { context, .. } => format!(
            "the command was not run; `ctxsync ls {context}` shows what the context has, `ctxsync explain` what a \
             policy leaves out"
        )
        .into(),
        Error::Moved { to, .. } => format!("use `{to}` instead").into(),
        Error::DamagedHead { name, readable, .. } => hint_of_damaged_head(error, name, *readable).into(),
        Error::IsDirectory { .. } => "give a file; `ctxsync rm -r` removes a directory and its contents".into(),
        Error::NotADirectory { name, number, .. } => {
            format!("`ctxsync ls {name}@{number}` shows what is there").into()
        }
        Error::Beaten { .. } => {
            "nothing was written; try again when fewer machines write to this context at once".into()
        }
        Error::Locked { .. } => "wait for it, or stop it; only one process can work on a mount".into(),
        Error::CommitUnknown { name, .. } => {
            format!("run the command again: it finds out and never commits twice; `ctxsync log {name}` shows it too")
                .into()
        }
        Error::ClockSkew { .. } => {
            "nothing was deleted, because new objects could look old; correct the clock that is wrong".into()
        }
        Error::OutOfTime { .. } => {
            "nothing was committed; the next push from this mount reuses what was sent: run it again, or give it \
             more time"
            .into()
        }
        Error::StoreGone { .. } => {
            "check --store, and that its disk is mounted; with another --state-dir the mount is new to the store"
            .into()
        }
        Error::BadListing { .. } => {
            "nothing was deleted; run the command again later, and if the error persists, check for a proxy or a \
             cache in front of the store"
            .into()
        }
        Error::Diverged { name, .. } => format!(
            "nothing of it was changed; to copy `{name}` again, rename or delete it in the destination first"
        )
        .into(),
        Error::SameStore { .. } => {
            "name another store as the destination; a copy of all objects, as rclone makes one, is the same store".into()
        }
        Error::OtherStore { .. } => "check --store; with another --state-dir the mount is new to the store".into(),
        Error::Format { .. } => {
            "an object of a newer format needs a newer ctxsync; `ctxsync check` tells what else is damaged, and \
             `ctxsync repair` what can be mended"
            .into()
        }
        Error::Corrupt { .. } => {
            "`ctxsync check` tells what else is damaged, and `ctxsync repair` what can be mended; older snapshots \
             may be intact: `ctxsync restore NAME@N DIR`"
            .into()
        }
        Error::TooLate { .. } => {
            "the store's grace period is shorter than this push took; `ctxsync store init --grace` sets it for a new \
             store"
            .into()
        }
        Error::Overlap { .. } => "give each mount a directory of its own, outside the others".into(),
        Error::Exchanged { .. } => {
            "nothing was pushed; run the command again when the directory is no longer being replaced".into()
        }
        Error::Quiesce { .. } => {
            "nothing was read or pushed; check --quiesce (it runs in the mount) and --quiesce-timeout".into()
        }
        Error::ReadOnly { .. } => "what changed stays in the mount; `ctxsync plan push` shows it".into(),
        Error::NewerMount { .. } => {
            "pull it into another directory, or remove this one first; `ctxsync restore --in-place` goes back with the \
             context"
                .into()
        }
        Error::NotBuilt { .. } => BUILD_WITH.into(),
        Error::OwnPlace { .. } => "choose another directory, or check --store and --state-dir".into(),
        Error::NoMount { .. } => "`ctxsync status` shows the mounts of a session".into(),
        Error::Ended { .. } => "its files are in the context; start another session".into(),
        Error::UploadTooLarge { largest, .. } => hint_of_too_large(largest).into(),
        Error::Store { source, .. } => store::hint(error, source),
        Error::Local { source, .. } => hint_of_local(error, source.kind()).into(),
        Error::Remote { hint, .. } => hint.into(),
        Error::Shared(error) => hint_of(error),
        _ => "".into(),
    }
}

fn hint_of_damaged_head(error: &Error, name: &ContextName, readable: Option<u64>) -> String {
    match readable {
        Some(number) if error.is_of_later_format() => format!(
            "a newer ctxsync has written it: upgrade this one; `{name}@{number}` is the newest snapshot that this one reads"
        ),
        None if error.is_of_later_format() => "a newer ctxsync has written it: upgrade this one".to_owned(),
        Some(number) => format!(
            "`{name}@{number}` is the newest that can be read, such as by `ctxsync restore {name}@{number} DIR`; `ctxsync \
             repair --yes {name}` makes a new head of it"
        ),
        None => format!(
            "none of its snapshots can be read: bring them back from a copy of the store, or delete it with `ctxsync \
             context delete {name}`"
        ),
    }
}

fn hint_of_too_large(largest: &[(TreePath, u64)]) -> String {
    let parts: Vec<_> =
        largest.iter().map(|(path, size)| format!("`{path}` with {}", bytes(*size))).collect();
    let parts = match parts.join(", ") {
        parts if parts.is_empty() => parts,
        parts => format!("; the largest new or changed paths: {parts}"),
    };
    format!("exclude large files with `bwList` in the policy, or raise --max-upload{parts}")
}

fn hint_of_local(error: &Error, kind: io::ErrorKind) -> &'static str {
    if error.is_later_state() {
        return "upgrade ctxsync; with another --state-dir the mount is new, and nothing is deleted";
    }
    if let Error::Local { action: "use the state in", .. } = error
        && hint_of_disk(kind).is_none()
    {
        return STATE_DIR;
    }
    match kind {
        io::ErrorKind::NotFound => "check the path: `push` needs an existing directory",
        io::ErrorKind::NotADirectory => "a mount must be a directory",
        io::ErrorKind::PermissionDenied => "give your user access to it",
        kind => hint_of_disk(kind).unwrap_or("run the command again; no partial change remains"),
    }
}

/// Returns what to do about a disk that takes nothing more.
fn hint_of_disk(kind: io::ErrorKind) -> Option<&'static str> {
    match kind {
        io::ErrorKind::StorageFull => Some("free space on the disk and run the command again"),
        io::ErrorKind::QuotaExceeded => Some("free space in your quota and run the command again"),
        io::ErrorKind::ReadOnlyFilesystem => {
            Some("remount it read-write, or choose a directory on another file system")
        }
        _ => None,
    }
}

impl Failure {
    fn reworded(mut self, message: &str) -> Self {
        message.clone_into(&mut self.message);
        self
    }
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        if let OpenError::Settings { source, .. } = &error
            && let Some(hint) = store::known(source)
        {
            return Self::new(Exit::USAGE, error.to_string()).caused_below(&error).hint(hint);
        }
        let (exit, hint) = match &error {
            OpenError::Missing { .. } => (Exit::NOT_FOUND, NO_STORE),
            OpenError::UnknownOption { .. } | OpenError::BadOption { .. } => (
                Exit::USAGE,
                "--store-option KEY=VALUE takes the backend's own settings, such as region=eu-north-1",
            ),
            OpenError::NotBuilt { .. } => (Exit::USAGE, BUILD_WITH),
            OpenError::PlainHttp { .. } => (Exit::USAGE, "use https, or allow plain HTTP"),
            OpenError::Profile { .. } | OpenError::Settings { .. } => {
                (Exit::USAGE, "`ctxsync config` shows where each setting came from")
            }
            _ => (Exit::FAILED, "check --store"),
        };
        Self::new(exit, error.to_string()).caused_below(&error).hint(hint)
    }
}

impl From<ProbeError> for Failure {
    fn from(error: ProbeError) -> Self {
        let hint: Cow<'_, str> = match &error {
            ProbeError::IgnoresPreconditions | ProbeError::NoPutIfAbsent { .. } => {
                "this store can't keep two writers apart; use another, or a newer version of it".into()
            }
            ProbeError::Missing { .. } => "create the bucket first, or correct --store".into(),
            ProbeError::NoWritePermission { source } | ProbeError::NoReadPermission { source, .. } => {
                store::known(source)
                    .unwrap_or_else(|| "correct the credentials, or what they are allowed to do".into())
            }
            ProbeError::Failed { source, .. } if store::known(source).is_some() => {
                store::known(source).unwrap_or_default()
            }
            _ => "check --store and the network, then run `ctxsync store check`".into(),
        };
        Self::new(Exit::FAILED, error.to_string()).caused_below(&error).hint(hint)
    }
}
