//! All contexts with what their heads say.
//!
//! Listings show which object is the head of each context ([`super::pages`]). What a head says is read from the index,
//! which is a cache in the store, if the index describes exactly that object, and otherwise from the head itself. So an
//! index that is old, damaged or lost costs requests and nothing else. Who had to read many heads writes a new index.
//! See `docs/design/010-listing-many-contexts.md`.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use object_store::{ObjectStoreExt, PutPayload};
use tokio::sync::Semaphore;

use super::Context;
use super::pages::HeadKeys;
use crate::error::Error;
use crate::format::{ContextName, HeadIndex, HeadRow, HeadState, Kind, LiveHead, MAX_INDEX_LEN, StoreKey};
use crate::store::{Head, HeadKey, Store};

/// How many heads are read at once, and how many bytes of them, in KiB.
const HEADS_AT_ONCE: usize = 32;
const KIB_AT_ONCE: u32 = 64 << 10;
/// How many renames are completed at once.
const MOVES_AT_ONCE: usize = 16;
/// From this many heads on that the index lacks, a new index is written. It costs one request now and saves as many
/// in each list that follows.
const WORTH_WRITING: usize = 100;
/// A list does not wait longer for the index to be written.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is known of a context.
struct Row {
    key: HeadKey,
    state: HeadState,
}

type Rows = BTreeMap<ContextName, Row>;

/// The rows of contexts, and what is wrong with the heads that can't be read.
#[derive(Default)]
struct Found {
    rows: Rows,
    damaged: BTreeMap<ContextName, Error>,
}

impl Found {
    /// Notes what became of reading a head.
    ///
    /// # Errors
    /// The error of reading it, if it does not say that the head is damaged.
    fn note(&mut self, name: ContextName, head: Result<Option<Head>, Error>) -> Result<(), Error> {
        match head {
            Ok(Some(head)) => drop(self.rows.insert(name, Row::of(&head))),
            Ok(None) => {}
            Err(error) if error.is_of_object() => drop(self.damaged.insert(name, error)),
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

impl Row {
    fn of(head: &Head) -> Self {
        let state = match (&head.snapshot.kind, head.moved_to()) {
            (Kind::Normal, _) => HeadState::Live(Box::new(LiveHead::of(&head.snapshot))),
            (_, Some(to)) => HeadState::Moved { to: to.clone(), is_complete: false },
            (_, None) => HeadState::Ended,
        };
        Self { key: head.key.clone(), state }
    }

    fn is_live(&self) -> bool {
        matches!(self.state, HeadState::Live(_))
    }
}

/// Returns what a row of the index says, if it is about exactly this object.
fn known(row: HeadRow, key: &HeadKey) -> Option<Row> {
    let HeadRow { number, size, e_tag, landed, state, .. } = row;
    let described = HeadKey { number, size, e_tag: Some(e_tag), landed };
    (described == *key).then_some(Row { key: described, state })
}

/// An index that was read, or not.
struct Cached {
    index: Option<HeadIndex>,
    /// Whether it may be replaced: that of a later program may not.
    is_replaceable: bool,
}

impl Store {
    /// Returns the names of all contexts, sorted.
    ///
    /// # Errors
    /// [`Error::NoStore`]; those of reading the store.
    pub async fn contexts(&self) -> Result<Vec<ContextName>, Error> {
        Ok(self.list_contexts().await?.into_iter().map(|context| context.name).collect())
    }

    /// Returns all contexts, sorted by name.
    ///
    /// # Errors
    /// [`Error::NoStore`]; those of reading the store, also if one head is damaged.
    pub async fn list_contexts(&self) -> Result<Vec<Context>, Error> {
        let mut damaged = None;
        let contexts = self.list_contexts_but(|_, error| damaged = damaged.take().or(Some(error))).await?;
        damaged.map_or(Ok(contexts), Err)
    }

    /// Returns all contexts, sorted by name, but those whose heads are damaged: these go to `damaged`, with what is wrong
    /// with them.
    ///
    /// # Errors
    /// [`Error::NoStore`]; those of reading the store.
    pub async fn list_contexts_but(
        &self,
        mut damaged: impl FnMut(ContextName, Error) + Send,
    ) -> Result<Vec<Context>, Error> {
        let live = |(name, row): (ContextName, Row)| match row.state {
            HeadState::Live(head) => Some(Context::of_live(name, row.key.number, *head)),
            _ => None,
        };
        let found = self.rows().await?;
        found.damaged.into_iter().for_each(|(name, error)| damaged(name, error));
        Ok(found.rows.into_iter().filter_map(live).collect())
    }

    async fn rows(&self) -> Result<Found, Error> {
        // In a directory, a look at each context costs less than a listing of all.
        if self.place().is_some() {
            self.meta().await?;
            let mut found = self.rows_by_name().await?;
            self.complete_moves(&mut found).await?;
            return Ok(found);
        }
        let (meta, cached, first) = tokio::join!(self.meta(), self.read_index(), self.first_page());
        let store_id = meta?.store_id;
        let Cached { index, is_replaceable } = cached;
        let known = index.filter(|index| index.store_id == store_id).map(|index| index.rows);
        let known = known.unwrap_or_default();
        let hints = known.iter().map(|row| (row.context.clone(), row.number));
        let keys = self.head_keys(first?, hints).await?;
        let (rows, unknown) = look_up(known, keys);
        let mut missed = unknown.len();
        let mut found = self.read_rows(unknown).await?;
        found.rows.extend(rows);
        missed += self.complete_moves(&mut found).await?;
        if missed >= WORTH_WRITING && is_replaceable {
            self.write_index(HeadIndex { store_id, rows: writable(&found.rows) }).await;
        }
        Ok(found)
    }

    async fn rows_by_name(&self) -> Result<Found, Error> {
        let mut heads = stream::iter(self.names().await?)
            .map(|name| async move { (self.find_head(&name).await, name) })
            .buffered(16);
        let mut found = Found::default();
        while let Some((head, name)) = heads.next().await {
            found.note(name, head)?;
        }
        Ok(found)
    }

    /// Reads heads.
    async fn read_rows(&self, keys: HeadKeys) -> Result<Found, Error> {
        let memory = &Semaphore::new(KIB_AT_ONCE as usize);
        let mut heads = stream::iter(keys)
            .map(|(name, key)| async move {
                let weight = u32::try_from(key.size >> 10).unwrap_or(u32::MAX).clamp(1, KIB_AT_ONCE);
                let _memory = memory.acquire_many(weight).await;
                (self.read_listed(&name, key).await, name)
            })
            .buffer_unordered(HEADS_AT_ONCE);
        let mut found = Found::default();
        while let Some((head, name)) = heads.next().await {
            found.note(name, head)?;
        }
        Ok(found)
    }

    /// Reads a head that was listed before. If it has been succeeded and erased since, reads the head that is there now.
    pub(crate) async fn read_listed(&self, name: &ContextName, key: HeadKey) -> Result<Option<Head>, Error> {
        match self.read_head(name, key).await {
            Err(e) if e.is_of_object() => self.find_head(name).await,
            head => head.map(Some),
        }
    }

    /// Completes interrupted renames, because of which a context would be missing under both names. Returns how many
    /// heads had to be read for that.
    async fn complete_moves(&self, found: &mut Found) -> Result<usize, Error> {
        let Found { rows, damaged } = found;
        let is_live = |name| rows.get(name).is_some_and(Row::is_live);
        let moves = rows.iter().filter_map(|(name, row)| match &row.state {
            // Nothing can be completed with a head that can't be read.
            HeadState::Moved { to, is_complete: false } if !is_live(to) && !damaged.contains_key(to) => {
                Some((name.clone(), to.clone()))
            }
            _ => None,
        });
        let moves: Vec<(ContextName, ContextName)> = moves.collect();
        let looked = moves.len();
        let mut completed = stream::iter(moves)
            .map(|(from, to)| async move {
                let from = self.complete_move(from).await?;
                // What was listed of the new name may be older than the rename.
                let there = self.find_head(&to).await?.map(|head| (to, Row::of(&head)));
                Ok::<_, Error>(from.into_iter().chain(there))
            })
            .buffer_unordered(MOVES_AT_ONCE);
        while let Some(found) = completed.try_next().await? {
            found.for_each(|(name, row)| drop(rows.insert(name, row)));
        }
        Ok(looked)
    }

    async fn complete_move(&self, name: ContextName) -> Result<Option<(ContextName, Row)>, Error> {
        let Some(head) = self.find_head(&name).await? else { return Ok(None) };
        let (head, is_moved) = self.after_move(&name, head).await?;
        let mut row = Row::of(&head);
        if let HeadState::Moved { is_complete, .. } = &mut row.state {
            *is_complete = is_moved;
        }
        Ok(Some((name, row)))
    }

    /// Reads the index. Whatever is wrong with it, the heads say the same.
    async fn read_index(&self) -> Cached {
        let bytes = match self.get(&StoreKey::Index.path(), MAX_INDEX_LEN as u64).await {
            Ok((bytes, _)) => bytes,
            Err(Error::Store { source: object_store::Error::NotFound { .. }, .. }) => {
                return Cached { index: None, is_replaceable: true };
            }
            Err(error) => {
                tracing::debug!(%error, "the index of heads can't be read");
                return Cached { index: None, is_replaceable: true };
            }
        };
        match HeadIndex::decode(&bytes) {
            Ok(index) => Cached { index: Some(index), is_replaceable: true },
            Err(error) => {
                tracing::debug!(%error, "the index of heads is not used");
                Cached { index: None, is_replaceable: !error.is_of_later_program() }
            }
        }
    }

    /// Writes the index. Who may not write, or fails to, leaves that to others.
    async fn write_index(&self, index: HeadIndex) {
        let bytes = match index.encode() {
            Ok(bytes) => bytes,
            Err(error) => return tracing::debug!(%error, "the index of heads is not written"),
        };
        self.sent(bytes.len() as u64);
        let (key, payload) = (StoreKey::Index.path(), PutPayload::from(bytes));
        match tokio::time::timeout(PATIENCE, self.objects().put(&key, payload)).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::debug!(%error, "the index of heads can't be written"),
            Err(_) => tracing::debug!("writing the index of heads takes too long"),
        }
    }
}

/// Returns what the index says of these heads, and those of which it says nothing.
fn look_up(known: Vec<HeadRow>, mut keys: HeadKeys) -> (Rows, HeadKeys) {
    let mut rows = Rows::new();
    for row in known {
        let name = row.context.clone();
        if let Some(key) = keys.get(&name)
            && let Some(row) = self::known(row, key)
        {
            keys.remove(&name);
            rows.insert(name, row);
        }
    }
    (rows, keys)
}

/// Returns the rows of an index. Without an e-tag it could not be told which object a row is about.
fn writable(rows: &Rows) -> Vec<HeadRow> {
    let row = |(name, row): (&ContextName, &Row)| {
        let HeadKey { number, size, e_tag, landed } = row.key.clone();
        let (context, e_tag, state) = (name.clone(), e_tag?, row.state.clone());
        Some(HeadRow { context, number, size, e_tag, landed, state }).filter(HeadRow::is_writable)
    };
    rows.iter().filter_map(row).collect()
}
