//! The operations of the model's actors, and a fork of a context, which one of them needs.

use std::num::NonZeroU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ctxsync_tests::clock::HandClock;
use ctxsync_tests::landing::{is_late, landed};
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutPayload};
use policy_core::TreePath;
use transfer_engine::format::{Kind, LineageId, PackUse, Snapshot, StoreKey};
use transfer_engine::{
    CollectOptions, ContextName, ContextService, Env, Error, Gathering, Random, Retention, Silent, Spawn,
    Store, TagName, WriteOptions,
};

use crate::GRACE;

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
                let number = fork(&store, &objects, &name, back, &to).await?;
                Some(Acked { name: to, number, file: None })
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

/// Creates a context with the tree of another one's snapshot, as `docs/format.md` allows.
async fn fork(
    store: &Store,
    objects: &Arc<dyn ObjectStore>,
    from: &ContextName,
    back: i64,
    to: &ContextName,
) -> Result<u64, String> {
    // The store's time before the check whether the source is gone.
    let probe = object_store::path::Path::from(format!("probe/{to}"));
    objects.put(&probe, PutPayload::new()).await.map_err(|e| e.to_string())?;
    let checked = objects.head(&probe).await.map_err(|e| e.to_string())?.last_modified.timestamp();
    let source = store.snapshot(from, (back < 0).then_some(back)).await.map_err(|e| e.to_string())?;
    let key = StoreKey::Snapshot { context: from.clone(), number: source.number };
    if is_late(&source, landed(objects, &key).await?) {
        return Err("the source landed late".to_owned());
    }
    let land_by = Some(checked + GRACE);
    let fork = Snapshot {
        number: 1,
        context: to.clone(),
        lineage: LineageId(source.nonce),
        parent: None,
        kind: Kind::Normal,
        extensions: Vec::new(),
        packs: source.packs.iter().map(|p| PackUse { land_by, ..*p }).collect(),
        ..(*source).clone()
    };
    let encoded = fork.encode().map_err(|e| e.to_string())?;
    let key = StoreKey::Snapshot { context: to.clone(), number: 1 };
    let options = object_store::PutOptions { mode: PutMode::Create, ..Default::default() };
    objects.put_opts(&key.path(), encoded.bytes.into(), options).await.map_err(|e| e.to_string())?;
    if is_late(&fork, landed(objects, &key).await?) {
        return Err("landed too late".to_owned());
    }
    Ok(1)
}
