//! Sessions, from opening mounts to releasing them.
#![expect(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

mod arrival;
mod checkpoint;
mod extracting;
mod gate;
mod lifetime;
mod manual;
mod socket;
mod status;

use std::sync::Arc;
use std::time::Duration;

use ctxsync_tests::machine::{Machine, context};
use ctxsync_tests::notes::Notes;
use futures::TryStreamExt;
use object_store::ObjectStore;
use object_store::path::Path;
use policy_core::TreePath;
use transfer_engine::{
    ContextSync, CreateSessionParams, Error, Monitor, Released, Session, SessionMonitor, Store, SyncReport,
    TaskType,
};

/// Policies, by the one field that they set.
const ON_DEMAND: &str = r#"{"downloadPolicy": {"autoDownload": false}}"#;
const BEFORE_START: &str = r#"{"downloadPolicy": {"downloadStrategy": "DownloadBeforeStart"}}"#;
const PERIODIC: &str = r#"{"uploadPolicy": {"uploadStrategy": {"UploadPeriodically": {"seconds": 1}}}}"#;

/// Records the reports of all tasks of a session.
#[derive(Clone, Default)]
struct Kept(Arc<Notes>);

impl SessionMonitor for Kept {
    fn of(&self, _: &ContextSync, _: TaskType) -> Arc<dyn Monitor> {
        Arc::<Notes>::clone(&self.0)
    }
}

fn params(machine: &Machine) -> CreateSessionParams {
    let sync = ContextSync::new(context(), &machine.mount.0, machine.policy.clone());
    CreateSessionParams::new(vec![sync], &machine.state)
}

fn store(machine: &Machine) -> Store {
    Store::new(Arc::clone(&machine.objects), "test:", machine.env.clone())
}

async fn open(machine: &Machine) -> Session {
    try_open(machine).await.unwrap()
}

async fn try_open(machine: &Machine) -> Result<Session, Error> {
    Session::create(&store(machine), params(machine)).await
}

async fn release(session: &Session) -> Released {
    session.release(Default::default()).await.unwrap()
}

/// Releases a session with one mount, and returns the report of the release.
async fn report_of(session: &Session) -> SyncReport {
    let released = release(session).await;
    let [mount] = &released.mounts[..] else { panic!("{released:?}") };
    assert!(mount.success(), "{released:?}");
    mount.report.clone().unwrap()
}

fn path(text: &str) -> TreePath {
    text.parse().unwrap()
}

async fn packs(objects: &Arc<dyn ObjectStore>) -> Vec<Path> {
    let listed = objects.list(Some(&Path::from("packs"))).map_ok(|meta| meta.location);
    listed.try_collect().await.unwrap()
}

/// Waits until a condition holds, which must happen.
async fn eventually(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let patience = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(30), patience).await.is_ok(), "never happened: {what}");
}
