//! An upload: local differences are sent, planned against the head, and committed; planned again when
//! another writer is first.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use policy_core::Digest;

use super::delta::{LocalDelta, Sending, local_delta};
use super::packs::{Chunks, PackSink};
use crate::error::Error;
use crate::format::{Kind, RecycleRules, Snapshot};
use crate::local::MountDir;
use crate::monitor::{Monitor, Phase};
use crate::mount::Mount;
use crate::options::SyncOptions;
use crate::plan::Filter;
use crate::report::SyncReport;
use crate::state::BaseHeader;
use crate::status::TaskType;
use crate::store::Head;
use crate::tree::Tree;

/// How often a commit is tried against ever newer heads before giving up.
const ATTEMPTS: u32 = 100;
/// How often everything is sent again because the commit landed too late.
const LATE_ATTEMPTS: u32 = 3;
/// After this long, a newer head is looked for before the tree is written.
const STALE_SECS: i64 = 5;

/// What the attempts of one push share.
pub(super) struct Attempt<'a> {
    pub(super) filter: Arc<Filter>,
    pub(super) options: &'a SyncOptions,
    pub(super) monitor: &'a dyn Monitor,
    /// Whether deletions are held back.
    pub(super) hold: bool,
    /// Whether that is because the mount was found lost.
    pub(super) lost: bool,
    /// Whether what is planned has been told already.
    pub(super) told: bool,
}

pub(super) enum Outcome {
    Done(SyncReport),
    /// Another writer was first.
    Beaten,
    /// A chunk that was counted on is not in the new head: everything must be looked at again.
    Rehash,
    /// The commit landed, but too late for its packs to count.
    Late,
}

impl Mount {
    /// Uploads what changed in the mount, and commits it as a new snapshot; nothing changed, nothing is
    /// written.
    ///
    /// # Errors
    /// [`Error::NoContext`] where the context is missing and `options.create` is false, [`Error::NoStore`]
    /// where the store is, [`Error::Beaten`], [`Error::CommitUnknown`], and whatever the store and the local
    /// file system say. Trouble with single paths goes to the monitor and into the report.
    pub async fn push(&mut self, options: &SyncOptions, monitor: &dyn Monitor) -> Result<SyncReport, Error> {
        self.save(options, monitor).await
    }

    /// Does what [`Mount::push`] does, for who shares the mount and sees to it that nothing else is under way.
    pub(crate) async fn save(
        &self,
        options: &SyncOptions,
        monitor: &dyn Monitor,
    ) -> Result<SyncReport, Error> {
        let _gate = self.arriving.gate.write().await;
        let keeper = self.keep_status(options, monitor, TaskType::Upload);
        let before = self.store.usage();
        let mut result = self.push_all(options, &keeper).await;
        if self.forget_damaged_base(&result, &keeper)? {
            result = self.push_all(options, &keeper).await;
        }
        keeper.finish(result, self.store.usage().since(&before))
    }

    async fn push_all(&self, options: &SyncOptions, monitor: &dyn Monitor) -> Result<SyncReport, Error> {
        let filter = self.filter(options);
        let dir = self.open_dir(monitor)?;
        if dir.is_none() && self.files.header().is_none() {
            let missing = io::Error::from(rustix::io::Errno::NOENT);
            return Err(Error::local("open the mount", &self.path, missing));
        }
        let (mut head, mut header) = self.find_parent(options, monitor).await?;
        let Some(dir) = dir else {
            monitor.warning("the mount is gone; its deletions are held back");
            let held_back = header.as_ref().map_or(0, |h| h.rows);
            return Ok(SyncReport { snapshot: Some(head.key.number), held_back, ..SyncReport::default() });
        };

        self.warn_of_expired(header.as_ref(), monitor)?;
        let mut attempt = Attempt { filter, options, monitor, hold: false, lost: false, told: false };
        let (mut attempts, mut late) = (0, 0);
        loop {
            let chunks = Arc::new(Chunks::default());
            let concurrency = options.concurrency.get();
            let mut sink = PackSink::new(&self.store, chunks.clone(), options.memory, concurrency);
            let mut delta =
                self.read_mount(&dir, &attempt, &head, header.as_ref(), &chunks, &mut sink).await?;
            let in_scope_nothing = self.check_mount(&dir, &mut attempt, &delta);
            let read_at = self.store.env().now().secs;
            let mut first = true;
            loop {
                if !first || self.store.env().now().secs - read_at > STALE_SECS {
                    (head, header) = self.find_parent(options, monitor).await?;
                }
                first = false;
                let outcome =
                    self.commit(&mut attempt, &head, header.as_ref(), &mut delta, &chunks, &mut sink).await?;
                match outcome {
                    Outcome::Done(mut report) => {
                        report.nothing_in_scope = in_scope_nothing;
                        return Ok(report);
                    }
                    Outcome::Beaten => {}
                    Outcome::Rehash => break,
                    Outcome::Late => {
                        late += 1;
                        if late == LATE_ATTEMPTS {
                            let number = head.key.number + 1;
                            return Err(Error::TooLate { name: self.context.clone(), number });
                        }
                        monitor.warning("the commit landed too late to count; everything is sent again");
                        (head, header) = self.find_parent(options, monitor).await?;
                        break;
                    }
                }
                attempts += 1;
                if attempts == ATTEMPTS {
                    return Err(Error::Beaten { name: self.context.clone(), attempts });
                }
                self.back_off(attempts).await?;
            }
            attempts += 1;
            if attempts >= ATTEMPTS {
                return Err(Error::Beaten { name: self.context.clone(), attempts });
            }
        }
    }

    /// Waits a little, longer each time, and not in step with the other writers.
    async fn back_off(&self, attempts: u32) -> Result<(), Error> {
        let random: [u8; 4] = self.store.random()?;
        let most = 20 * (1u64 << attempts.min(6));
        let millis = u64::from(u32::from_le_bytes(random)) % most;
        tokio::time::sleep(Duration::from_millis(millis)).await;
        Ok(())
    }

    /// Finds the snapshot to succeed, making the context where that is wanted.
    async fn find_parent(
        &self,
        options: &SyncOptions,
        monitor: &dyn Monitor,
    ) -> Result<(Head, Option<BaseHeader>), Error> {
        let (key, header) = self.find_head(monitor).await?;
        let head = match key {
            Some(key) => Some(self.load_head(header.as_ref(), &key).await?),
            None => None,
        };
        // Before anything is said of a context that is missing, or made, the store itself has to be there.
        let meta_id = match &head {
            Some(head) if head.is_live() => None,
            _ => Some(self.store.meta().await?.store_id),
        };
        let head = match head {
            Some(head) if head.is_live() => head,
            _ if !options.create => {
                return Err(Error::NoContext {
                    name: self.context.clone(),
                    location: self.store.location().to_owned(),
                });
            }
            _ if options.dry_run => self.nothing_yet(),
            _ => {
                let remembered = self.files.header();
                if remembered.is_some_and(|h| Some(h.store.store_id) != meta_id) {
                    return Err(Error::OtherStore { location: self.store.location().to_owned() });
                }
                self.store.create(&self.context).await?.0
            }
        };
        let header = self.check_base(header, &head, monitor)?;
        Ok((head, header))
    }

    /// The state of a context that a dry run would have to make first.
    fn nothing_yet(&self) -> Head {
        let key = crate::store::HeadKey { number: 0, size: 0, e_tag: None, landed: 0 };
        let snapshot = Snapshot {
            number: 0,
            store_id: crate::format::StoreId([0; 16]),
            context: self.context.clone(),
            lineage: crate::format::LineageId([0; 16]),
            parent: None,
            kind: Kind::Normal,
            created: Default::default(),
            session: String::new(),
            nonce: [0; 16],
            policy: Digest([0; 32]),
            recycle: RecycleRules::default(),
            totals: Default::default(),
            changes: Default::default(),
            partial: false,
            packs: Vec::new(),
            segments: Vec::new(),
            inline: bytes::Bytes::new(),
        };
        Head { key, digest: Digest([0; 32]), snapshot: Arc::new(snapshot), bytes: bytes::Bytes::new() }
    }

    async fn read_mount(
        &self,
        dir: &MountDir,
        attempt: &Attempt<'_>,
        head: &Head,
        header: Option<&BaseHeader>,
        chunks: &Arc<Chunks>,
        sink: &mut PackSink,
    ) -> Result<LocalDelta, Error> {
        attempt.monitor.phase(Phase::Scanning);
        let cache = self.cache();
        let absent = head.late_packs();
        let tree = Tree { store: &self.store, snapshot: &head.snapshot, cache: Some(&cache) };
        let mut read = self.delta_options(dir, &attempt.filter, attempt.options);
        // What lies in packs that don't count has to be sent again, so it has to be read again.
        read.checksum |= !absent.is_empty();
        let base = self.base_rows(header, &attempt.filter, attempt.options)?;
        let sending = Sending { sink, chunks: chunks.clone(), head: tree, absent: &absent };
        let sending = (!attempt.options.dry_run).then_some(sending);
        local_delta(&read, base, sending, attempt.monitor).await
    }

    /// Looks at the mount as a whole: was it lost, is too much deleted, is nothing in scope?
    fn check_mount(&self, dir: &MountDir, attempt: &mut Attempt<'_>, delta: &LocalDelta) -> bool {
        let stats = &delta.stats;
        if Self::looks_lost(attempt.options, stats) {
            attempt.monitor.warning("nothing of what was brought is in the mount any more: it is taken as lost, and deletions are held back");
            attempt.hold = true;
            attempt.lost = true;
        }
        if self.guards(attempt.options, stats.deleted, stats.base) {
            attempt.monitor.warning(&format!(
                "{} of {} paths are deleted, more than the guard allows; deletions are held back",
                stats.deleted, stats.base
            ));
            attempt.hold = true;
        }
        let nothing = stats.found == 0
            && stats.base == 0
            && attempt.options.only.is_empty()
            && !self.scope.lists().is_empty()
            && holds_something(dir);
        if nothing {
            attempt.monitor.warning("no white list matches anything in the mount, which is not empty");
        }
        nothing
    }
}

/// Whether the mount's directory has anything in it.
fn holds_something(dir: &MountDir) -> bool {
    rustix::fs::Dir::read_from(dir.root())
        .is_ok_and(|entries| entries.flatten().any(|e| !matches!(e.file_name().to_bytes(), b"." | b"..")))
}
