//! Copying contexts with their history to another store.
//!
//! ```text
//! source:       snapshot ─► packs that it needs ─► read whole, checked ─┐
//!                   │                                                   │ those that the destination lacks,
//!                   └─► segments, with the ids of the copies ─┐         │ under new ids
//! destination:      snapshot of the same number ◄─────────────┴─────────┘
//! ```
//!
//! A snapshot's copy has the same content, number, lineage, times and nonce; the ids of the store and of packs differ,
//! and with them its digest. A pack gets a new id, because an id is never used twice; the bytes are the same. See
//! `docs/design/009-copying-a-store.md`.

mod anchor;
mod bringing;
mod context;
mod holders;
mod meeting;
mod packs;
mod tags;
mod tree;
mod verify;

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::time::Duration;

use policy_core::NamePattern;
use tokio::sync::Semaphore;

use crate::error::Error;
use crate::format::{ContextName, TagName};
use crate::monitor::{Monitor, Phase, Progress, Silent};
use crate::store::Store;
use crate::usage::Usage;

use anchor::{Anchor, is_anchor};
use holders::Holders;
use meeting::Sides;
use packs::Packs;

/// How stores are copied.
#[derive(Debug, Clone)]
pub struct CopyOptions {
    /// Which contexts are copied; none: all.
    pub names: Vec<NamePattern>,
    /// Nothing is written; what would be copied is told.
    pub dry_run: bool,
    /// Requests under way at once.
    pub concurrency: NonZeroUsize,
    /// Bytes of packs in memory at once, about.
    pub memory: u64,
    /// After so many bytes, what was put is noted in the destination, so that a run that is cut short does not begin
    /// anew. It is noted after a quarter of the grace period at the latest.
    pub note_every: u64,
}

impl Default for CopyOptions {
    fn default() -> Self {
        Self {
            names: Vec::new(),
            dry_run: false,
            concurrency: NonZeroUsize::new(16).unwrap_or(NonZeroUsize::MIN),
            memory: 256 << 20,
            note_every: 1 << 30,
        }
    }
}

/// What was copied of a context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopiedContext {
    /// The context.
    pub context: ContextName,
    /// Snapshots that were copied; 0 if the destination had all.
    pub snapshots: u64,
    /// The newest of them, by its number in the destination.
    pub newest: Option<u64>,
    /// Packs that were read, checked and put.
    pub packs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Tags that were set.
    pub tags: u64,
}

/// Snapshots that were not copied, or a tag, or a whole context.
#[derive(Debug)]
pub struct NotCopied {
    /// The context.
    pub context: ContextName,
    /// The numbers of the snapshots, ascending; none: all of the context that the destination lacks.
    pub snapshots: Vec<u64>,
    /// The tag, if only that was not copied.
    pub tag: Option<TagName>,
    /// Why.
    pub error: Error,
}

/// What a copy came to; with `dry_run`, what it would come to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CopyReport {
    /// Contexts that were looked at.
    pub contexts: u64,
    /// Contexts of which something was copied.
    pub contexts_copied: u64,
    /// Contexts that were not copied.
    pub contexts_failed: u64,
    /// Snapshots that were copied.
    pub snapshots: u64,
    /// Snapshots that were not copied, because the source has lost something that they need.
    pub snapshots_failed: u64,
    /// Tags that were set.
    pub tags: u64,
    /// Tags that were not: the destination has them on other snapshots, or they can't be read.
    pub tags_failed: u64,
    /// Patterns that stand for no context.
    pub unmatched: u64,
    /// Packs that were copied.
    pub packs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// What was asked of the source.
    pub from: Usage,
    /// What was asked of the destination.
    pub to: Usage,
}

impl CopyReport {
    /// Counts a pack.
    fn count(&mut self, size: u64) {
        self.packs += 1;
        self.bytes += size;
    }

    /// Whether something was not copied.
    pub fn is_incomplete(&self) -> bool {
        self.contexts_failed > 0 || self.snapshots_failed > 0 || self.tags_failed > 0
    }
}

/// Is told how a copy goes on.
pub trait CopyMonitor: Monitor {
    /// A context was copied, or would be; also if nothing of it was missing.
    fn copied(&self, copied: &CopiedContext) {
        let _ = copied;
    }
    /// Something can't be copied; the rest is.
    fn not_copied(&self, not_copied: &NotCopied) {
        let _ = not_copied;
    }
}

impl CopyMonitor for Silent {}

impl Store {
    /// Copies contexts with their history to another store: what it lacks of them. Everything that is copied is read
    /// whole and checked first. A copy that was cut short is continued by the next.
    ///
    /// A destination that is missing is made, with the grace period of the source. The caller has made sure that the
    /// place honours put-if-absent.
    ///
    /// What can't be copied goes to the monitor, and the rest is copied: a context that has snapshots of its own in the
    /// destination, and snapshots of which the source has lost something.
    ///
    /// # Errors
    /// [`Error::SameStore`]; [`Error::NoStore`] for the source; [`Error::NoContext`] and [`Error::Moved`] for a name that was given;
    /// whatever the stores say.
    pub async fn copy_to(
        &self,
        destination: &Store,
        options: &CopyOptions,
        monitor: &dyn CopyMonitor,
    ) -> Result<CopyReport, Error> {
        let before = (self.usage(), destination.usage());
        let source = self.meta().await?;
        let there = match destination.exists().await? {
            true => destination.meta().await?,
            false => destination.init(Duration::from_secs(source.grace_seconds)).await?,
        };
        if source.store_id == there.store_id {
            return Err(Error::SameStore { location: destination.location().to_owned() });
        }
        let (src, dst, dry_run) = (self, destination, options.dry_run);
        let sides = Sides { src, src_id: source.store_id, dst, dry_run };
        let mut packs = Packs::new(src, dst, Holders::new(dst).await?);
        let anchor = Anchor::find(dst, source.store_id, &mut packs, dry_run).await?;
        let room = u32::try_from(options.memory / 2).unwrap_or(u32::MAX >> 3).clamp(1, u32::MAX >> 3);
        let mut run = Run {
            sides,
            options,
            monitor,
            packs,
            anchor,
            room: (Semaphore::new(room as usize), room),
            progress: Progress::default(),
            failed: BTreeMap::new(),
            report: CopyReport::default(),
        };
        let ended = run.all().await;
        if ended.is_err() && !dry_run {
            // What has arrived is not sent again, if the destination still answers.
            let _ = run.anchor.save(dst, &mut run.packs).await;
        }
        ended?;
        let mut report = run.report;
        (report.from, report.to) = (self.usage().since(&before.0), destination.usage().since(&before.1));
        Ok(report)
    }
}

/// A copy that is under way.
struct Run<'a> {
    sides: Sides<'a>,
    options: &'a CopyOptions,
    monitor: &'a dyn CopyMonitor,
    packs: Packs<'a>,
    anchor: Anchor,
    /// Bytes of packs that may be in memory, and how many that are in all.
    room: (Semaphore, u32),
    progress: Progress,
    /// Snapshots of a context that were not copied, by what is damaged.
    failed: BTreeMap<String, (Vec<u64>, Error)>,
    report: CopyReport,
}

impl Run<'_> {
    async fn all(&mut self) -> Result<(), Error> {
        self.monitor.phase(Phase::Opening);
        let names = self.wanted().await?;
        self.monitor.phase(Phase::Copying);
        for name in &names {
            self.report.contexts += 1;
            let copied = self.context(name).await;
            for (_, (snapshots, error)) in std::mem::take(&mut self.failed) {
                self.report.snapshots_failed += snapshots.len() as u64;
                self.monitor.not_copied(&NotCopied { context: name.clone(), snapshots, tag: None, error });
            }
            match copied {
                Ok(Some(copied)) => {
                    self.report.contexts_copied += u64::from(copied.snapshots + copied.tags > 0);
                    self.monitor.copied(&copied);
                }
                Ok(None) => self.report.contexts -= 1,
                Err(error) if is_of_context(&error) => {
                    self.report.contexts_failed += 1;
                    let (context, snapshots) = (name.clone(), Vec::new());
                    self.monitor.not_copied(&NotCopied { context, snapshots, tag: None, error });
                }
                Err(error) => return Err(error),
            }
        }
        if !self.options.dry_run {
            let everything = self.options.names.is_empty();
            self.anchor.finish(self.sides.dst, &self.packs, everything).await?;
        }
        self.monitor.phase(Phase::Done);
        Ok(())
    }

    /// Returns the names that are copied, sorted.
    async fn wanted(&mut self) -> Result<Vec<ContextName>, Error> {
        let src = self.sides.src;
        let mut names = src.names().await?;
        names.retain(|name| !is_anchor(name));
        names.sort_unstable();
        let patterns = &self.options.names;
        for pattern in patterns {
            if let Ok(name) = ContextName::new(pattern.as_str()) {
                // Whatever else is wrong with it is told in its turn.
                if let Err(error @ (Error::NoContext { .. } | Error::Moved { .. })) =
                    src.require_head(&name).await
                {
                    return Err(error);
                }
            } else if !names.iter().any(|name| pattern.matches(name.as_str())) {
                self.report.unmatched += 1;
                self.monitor.warning(&format!("no context matches `{}`", pattern.as_str()));
            }
        }
        let is_wanted =
            |name: &str| patterns.is_empty() || patterns.iter().any(|pattern| pattern.matches(name));
        names.retain(|name| is_wanted(name.as_str()));
        Ok(names)
    }
}

/// Whether an error says that an object that was to be read is gone or damaged.
fn is_damage(error: &Error) -> bool {
    let is_of_writing = matches!(error, Error::Store { action, .. } if *action != "read");
    error.is_of_object() && !is_of_writing
}

/// Whether an error concerns one context only.
fn is_of_context(error: &Error) -> bool {
    let is_its_own = matches!(
        error,
        Error::Diverged { .. }
            | Error::Moved { .. }
            | Error::NoContext { .. }
            | Error::Beaten { .. }
            | Error::TooLate { .. }
    );
    is_its_own || is_damage(error)
}
