//! Sessions: a machine works in its mount for a while, and pulls and pushes meanwhile; another one syncs at the same
//! time.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ctxsync_tests::compare::list;
use ctxsync_tests::machine::{Ended, Machine};
use ctxsync_tests::notes::Notes;
use ctxsync_tests::random::Random;
use policy_core::{DownloadStrategy, SyncPolicy, TreePath, UploadStrategy};
use tokio::time::{Instant, sleep};
use transfer_engine::{
    Arrival, ContextSync, CreateSessionParams, Direction, Error, MountResult, ReleaseOptions, Session,
    SessionMonitor, SyncParams, SyncReport, TaskType,
};

use crate::coverage::met;
use crate::disk::until_gone;
use crate::edits::{Ledger, change};
use crate::ending::figures;
use crate::outside::wait_for_tick;
use crate::run::Run;
use crate::schedule::{How, Step};

/// How long the tasks of a session that was dropped may take to end.
const ENDING: Duration = Duration::from_secs(60);

/// What is done in a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Edit,
    /// Time passes, in milliseconds.
    Rest(u64),
    Fetch,
    WaitForAll,
    Sync(Direction),
}

/// How a session ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    Release,
    /// With so many milliseconds left.
    ReleaseBy(u64),
    /// Without a release: nothing more is pushed.
    Drop,
}

/// A session as it is drawn.
#[derive(Debug)]
struct Script {
    upload: Option<UploadStrategy>,
    download: Option<DownloadStrategy>,
    acts: Vec<Act>,
    ending: Ending,
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "upload {:?}, download {:?}, {:?}, ", self.upload, self.download, self.acts)?;
        write!(f, "{:?}", self.ending)
    }
}

impl Script {
    fn draw(random: &mut Random) -> Self {
        let periodically = UploadStrategy::UploadPeriodically { seconds: 1 + random.below(3) as u32 };
        let by_release = UploadStrategy::UploadBeforeResourceRelease;
        let upload = [Some(periodically), Some(periodically), Some(by_release), None][random.below(4)];
        let (behind, before) = (DownloadStrategy::DownloadAsync, DownloadStrategy::DownloadBeforeStart);
        let download = [Some(behind), Some(behind), Some(before), None][random.below(4)];
        let acts = (0..2 + random.below(6)).map(|_| match random.below(10) {
            0..=3 => Act::Edit,
            4..=6 => Act::Rest([5, 50, 700, 3000][random.below(4)]),
            7 => Act::Fetch,
            8 => Act::WaitForAll,
            _ => Act::Sync([Direction::Upload, Direction::Download, Direction::Both][random.below(3)]),
        });
        let acts = acts.collect();
        let ending = match random.below(6) {
            0 => Ending::Drop,
            1 => Ending::ReleaseBy(20),
            2 => Ending::ReleaseBy([200, 2000, 60_000][random.below(3)]),
            _ => Ending::Release,
        };
        Self { upload, download, acts, ending }
    }

    /// Returns a machine's policy, with what the script says of it.
    fn policy(&self, policy: &SyncPolicy) -> SyncPolicy {
        let mut policy = policy.clone();
        policy.upload_policy.auto_upload = self.upload.is_some();
        policy.upload_policy.upload_strategy = self.upload.unwrap_or_default();
        policy.download_policy.auto_download = self.download.is_some();
        policy.download_policy.download_strategy = self.download.unwrap_or_default();
        policy
    }

    /// Returns what the release is to do, if there is one.
    fn release(&self) -> Option<ReleaseOptions> {
        let deadline = match self.ending {
            Ending::Drop => return None,
            Ending::Release => None,
            Ending::ReleaseBy(millis) => Some(Instant::now() + Duration::from_millis(millis)),
        };
        Some(ReleaseOptions { sync_context: true, deadline })
    }
}

#[derive(Clone, Default)]
struct Kept(Arc<Notes>);

impl SessionMonitor for Kept {
    fn of(&self, _: &ContextSync, _: TaskType) -> Arc<dyn transfer_engine::Monitor> {
        Arc::<Notes>::clone(&self.0)
    }
}

impl Run {
    /// A session on this machine, while the next one syncs. What its release then says to have saved must be there.
    pub(crate) async fn session(&mut self, step: &Step, how: How, random: &mut Random) -> String {
        let next = (step.who + 1) % self.players.len();
        let quiet = Step { files: Vec::new(), ..step.clone() };
        let (mine, theirs) = (self.disk(step, step.who, None), self.disk(&quiet, next, None));
        let script = Script::draw(random);
        let later = Duration::from_millis([0, 20, 500, 4000][random.below(4)]);
        self.trace.note(|| format!("    {script}"));
        let (ledger, notes, before_release) = (RefCell::<Ledger>::default(), Kept::default(), Cell::new(0));
        let machine = self.machine(step, step.who, &mine);
        let work = async {
            let working = async {
                let session = self.work(step, &machine, &script, &notes, &ledger).await?;
                before_release.set(notes.0.noted().problems.len());
                self.release(step.who, session, &script).await
            };
            let done = until_gone(&mine, working).await;
            // The tasks of a session end a little later than the session, if nobody releases it.
            sleep(ENDING).await;
            done
        };
        let partner = async {
            sleep(later).await;
            self.perform(&quiet, next, how, &theirs).await
        };
        let (done, their_end) = tokio::join!(work, partner);
        self.ledger.get_mut().note(ledger.into_inner());
        let mut noted = notes.0.noted();
        // Before, users and pulls may be in each other's way.
        noted.problems.drain(..before_release.get());
        let ended = done.map(|result| Ended { result, noted });
        let has_saved = ended.as_ref().and_then(|ended| ended.result.as_ref().ok()).is_some_and(|report| {
            report.snapshot.is_some() && !report.is_incomplete() && !report.stopped_by_conflict
        });
        let said = self.told(step, step.who, ended, &mine).await;
        self.players[step.who].is_unflushed |= matches!(script.ending, Ending::ReleaseBy(_));
        let said_there = self.told(&quiet, next, their_end, &theirs).await;
        if step.reverts() {
            self.note_reverts(step).await;
        }
        if has_saved && !self.careless {
            let (here, there) = (self.contents_of(step.who), self.in_context().await);
            let given_up = &self.ledger.borrow().given_up;
            // The release may have recycled a file, which stays in the mount.
            let lost = |c: &&String| !there.contains(*c) && !given_up.contains(*c) && !self.was_recycled(c);
            let lost: Vec<_> = here.iter().filter(lost).collect();
            assert!(lost.is_empty(), "{said}\nit is said to be saved and is not: {lost:?}");
        }
        format!("a session: {said}; m{next}: {said_there}")
    }

    async fn open(
        &self,
        who: usize,
        machine: &Machine,
        policy: SyncPolicy,
        notes: &Kept,
    ) -> Result<Session, Error> {
        let context = self.players[who].context.borrow().clone();
        let sync = ContextSync::new(context, &machine.mount.0, policy);
        let params = CreateSessionParams {
            options: machine.options.clone(),
            safety_scan: None,
            monitor: Arc::new(notes.clone()),
            ..CreateSessionParams::new(vec![sync], &machine.state)
        };
        let opened = Session::create(&machine.store(), params).await;
        if let Err(Error::Moved { to, .. }) = &opened {
            self.players[who].context.replace(to.clone());
        }
        opened
    }

    /// Opens a session and works in it.
    async fn work(
        &self,
        step: &Step,
        machine: &Machine,
        script: &Script,
        notes: &Kept,
        ledger: &RefCell<Ledger>,
    ) -> Result<Session, Error> {
        let mut random = Random::new(step.seed ^ 1);
        let policy = script.policy(&machine.policy);
        let session = loop {
            match self.open(step.who, machine, policy.clone(), notes).await {
                // As its user would, it tries again with the new name, which may be an old one as well by now.
                Err(Error::Moved { .. }) => {}
                opened => break opened?,
            }
        };
        met("session: opened");
        for (number, act) in script.acts.iter().enumerate() {
            let fresh = format!("content-{}-{number}", step.number);
            let said = match act {
                Act::Edit => {
                    let said = change(&machine.mount, &mut random, &fresh, &mut ledger.borrow_mut());
                    self.clock.observe(&machine.mount.0);
                    wait_for_tick();
                    said
                }
                Act::Rest(millis) => {
                    sleep(Duration::from_millis(*millis)).await;
                    String::new()
                }
                Act::Fetch => fetch(&session, machine, &mut random).await,
                Act::WaitForAll => {
                    format!("{:?}", session.wait_for(&Arrival::All).await.map(|all| all.len()))
                }
                Act::Sync(mode) => {
                    let params = SyncParams { mode: *mode, ..SyncParams::default() };
                    let synced = session.context().sync_with(params).await;
                    format!("{:?}", synced.error_message)
                }
            };
            self.trace.note(|| format!("    {act:?} {said}"));
        }
        Ok(session)
    }

    /// Ends a session. Returns the report of its release.
    async fn release(&self, who: usize, session: Session, script: &Script) -> Result<SyncReport, Error> {
        let Some(how) = script.release() else {
            met("session: dropped without a release");
            return Ok(SyncReport::default());
        };
        let released = session.release(how).await?;
        let [MountResult { context_id, report, error, .. }] = &released.mounts[..] else {
            panic!("{released:?}")
        };
        self.players[who].context.replace(context_id.clone());
        if let Some(error) = error {
            return Err(Error::Shared(Arc::clone(error)));
        }
        let report = report.clone().unwrap();
        met(match (how.deadline.is_some(), report.partial) {
            (false, _) => "session: released",
            (true, false) => "session: released in time",
            (true, true) => "session: released with a partial snapshot",
        });
        Ok(report)
    }
}

/// Fetches a path, which may be there already, or be nowhere.
async fn fetch(session: &Session, machine: &Machine, random: &mut Random) -> String {
    let paths: Vec<_> = list(&machine.mount.0).into_keys().collect();
    let path = random.of(&paths).map_or("b.txt".to_owned(), |path| path.display().to_string());
    let path: TreePath = [path, "a".to_owned(), "c".to_owned()][random.below(3)].parse().unwrap();
    match session.fetch(&machine.mount.0, std::slice::from_ref(&path)).await {
        Ok(report) => {
            met("session: fetched");
            format!("{path}: {}", figures(&report))
        }
        Err(e) => format!("{path}: {e}"),
    }
}
