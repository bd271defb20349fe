//! The operations of the model's actors.

use std::num::NonZeroU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ctxsync_tests::clock::HandClock;
use object_store::ObjectStore;
use policy_core::TreePath;
use transfer_engine::format::StoreKey;
use transfer_engine::{
    CollectOptions, ContextName, ContextService, Env, Error, Gathering, MergeOptions, Random, Retention,
    Silent, Spawn, Store, TagName, WriteOptions,
};

/// Runs blocking jobs immediately, so that a seed always gives the same order.
pub(crate) struct Inline;

impl Spawn for Inline {
    fn blocking(&self, job: Box<dyn FnOnce() + Send>) {
        job();
    }

    fn parallelism(&self) -> usize {
        1
    }
}

/// Random bytes from a seed, shared by all actors.
pub(crate) struct Seeded(Mutex<ctxsync_tests::random::Random>);

impl Seeded {
    pub(crate) fn new(seed: u64) -> Arc<Self> {
        Arc::new(Self(Mutex::new(ctxsync_tests::random::Random::new(seed))))
    }
}

impl Random for Seeded {
    fn fill(&self, bytes: &mut [u8]) -> std::io::Result<()> {
        let len = bytes.len();
        bytes.copy_from_slice(&self.0.lock().unwrap_or_else(PoisonError::into_inner).bytes(len));
        Ok(())
    }
}

/// The clock and random numbers of all machines.
#[derive(Clone)]
pub(crate) struct Outside {
    pub(crate) clock: HandClock,
    pub(crate) random: Arc<Seeded>,
}

/// One operation of an actor.
#[derive(Debug, Clone)]
pub(crate) enum Deed {
    Write { name: ContextName, path: TreePath, content: Vec<u8> },
    Remove { name: ContextName, path: TreePath },
    Create { name: ContextName },
    Delete { name: ContextName },
    Rename { name: ContextName, to: ContextName },
    Fork { name: ContextName, back: i64, to: ContextName },
    Merge { from: ContextName, into: ContextName },
    Revert { name: ContextName, back: i64 },
    Collect { last: Option<u64>, within: Option<u64>, gathering: Gathering },
    Tag { name: ContextName, back: i64, tag: TagName },
    Untag { name: ContextName, tag: TagName },
}

/// What an operation has confirmed.
#[derive(Debug)]
pub(crate) enum Done {
    Nothing,
    Committed(Acked),
    Tagged { name: ContextName, number: u64, tag: TagName },
}

impl From<Option<Acked>> for Done {
    fn from(acked: Option<Acked>) -> Self {
        acked.map_or(Self::Nothing, Self::Committed)
    }
}

/// A snapshot that was confirmed as committed.
#[derive(Debug, Clone)]
pub(crate) struct Acked {
    pub(crate) name: ContextName,
    pub(crate) number: u64,
    pub(crate) file: Option<(TreePath, Vec<u8>)>,
}

pub(crate) fn store(objects: &Arc<dyn ObjectStore>, outside: &Outside) -> Store {
    let env = Env::real().with_clock(Arc::new(outside.clock.clone())).with_spawn(Arc::new(Inline));
    Store::new(Arc::clone(objects), "test:", env.with_random(outside.random.clone()))
}

impl Acked {
    /// Returns the key of the snapshot.
    pub(crate) fn key(&self) -> StoreKey {
        StoreKey::Snapshot { context: self.name.clone(), number: self.number }
    }
}

impl Deed {
    /// Performs the operation; returns what it has confirmed.
    pub(crate) async fn done(self, objects: Arc<dyn ObjectStore>, outside: Outside) -> Result<Done, String> {
        let store = store(&objects, &outside);
        let service = ContextService::new(&store);
        let told = |e: Error| e.to_string();
        let acked = match self {
            Self::Tag { name, back, tag } => {
                let number =
                    store.tag(&name, Some(back).filter(|back| *back < 0), &tag).await.map_err(told)?;
                return Ok(Done::Tagged { name, number, tag });
            }
            Self::Untag { name, tag } => store.untag(&name, &tag, None).await.map(|_| None).map_err(told)?,
            Self::Write { name, path, content } => {
                service.get(&name, true).await.map_err(told)?;
                let options = WriteOptions::default();
                let report = service.write_file(&name, &path, &content[..], &options).await.map_err(told)?;
                report.parent.and(report.snapshot).map(|number| {
                    let file = Some((path, content));
                    Acked { name, number, file }
                })
            }
            Self::Remove { name, path } => {
                let report = service.delete_file(&name, &path).await.map_err(told)?;
                report.parent.and(report.snapshot).map(|number| Acked { name, number, file: None })
            }
            Self::Create { name } => {
                let made = store.create_context(&name).await.map_err(told)?;
                Some(Acked { name, number: made.number, file: None })
            }
            Self::Delete { name } => service.delete(&name).await.map(|()| None).map_err(told)?,
            Self::Rename { name, to } => service.update(&name, &to).await.map(|_| None).map_err(told)?,
            Self::Fork { name, back, to } => {
                let back = Some(back).filter(|back| *back < 0);
                let forked = store.fork_context(&name, back, &to).await.map_err(told)?;
                Some(Acked { name: to, number: forked.number, file: None })
            }
            Self::Merge { from, into } => {
                let options = MergeOptions { unrelated: true, ..MergeOptions::default() };
                let merged =
                    store.merge_context(&from, None, &into, &options, &Silent).await.map_err(told)?;
                merged.parent.and(merged.snapshot).map(|number| Acked { name: into, number, file: None })
            }
            Self::Revert { name, back } => {
                let reverted = store.revert_context(&name, back, "", false).await.map_err(told)?;
                reverted.parent.and(reverted.snapshot).map(|number| Acked { name, number, file: None })
            }
            Self::Collect { last, within, gathering } => {
                let retention = Retention {
                    last: last.and_then(NonZeroU64::new),
                    within: within.map(Duration::from_secs),
                    ..Retention::default()
                }
                .into();
                let options = CollectOptions { retention, gathering, ..CollectOptions::default() };
                store.collect(&options, &Silent).await.map(|_| None).map_err(told)?
            }
        };
        Ok(acked.into())
    }
}
