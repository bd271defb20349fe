//! Which contexts and snapshots there are.

use std::collections::{BTreeMap, BTreeSet};

use futures::StreamExt;

use crate::count::count;
use crate::error::Error;
use crate::format::{ContextName, StoreKey, contexts_prefix};
use crate::store::Store;

/// What a listing shows of a number of a context.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) number: u64,
    /// The snapshot's length in bytes; nothing is left of a tombstone.
    pub(super) size: Option<u64>,
    /// Whether it is marked as forgotten.
    pub(super) gone: bool,
}

/// All contexts that are to be checked, each with what a listing shows of it, the newest number first.
#[derive(Debug, Default)]
pub(super) struct Survey {
    pub(super) contexts: BTreeMap<ContextName, Vec<Row>>,
    /// Those of them that have tags.
    pub(super) tagged: BTreeSet<ContextName>,
    /// What is odd, and no damage.
    pub(super) odd: Vec<String>,
}

impl Survey {
    /// Lists the contexts of these names, or all.
    ///
    /// # Errors
    /// [`Error::NoContext`] for a name of which there is nothing.
    pub(super) async fn make(store: &Store, names: &[ContextName]) -> Result<Self, Error> {
        let mut survey = Self::default();
        if names.is_empty() {
            survey.list_all(store).await?;
        }
        for name in names {
            let (mut listed, tags) = store.raw_listing(name).await?;
            if !tags.is_empty() {
                survey.tagged.insert(name.clone());
                store.without_void_marks(name, &mut listed, tags).await?;
            }
            if listed.is_empty() {
                store.confirm().await?;
                return Err(store.missing(name, None));
            }
            let rows = listed.into_iter().rev().map(|(number, listed)| Row {
                number,
                size: listed.snapshot.map(|key| key.size),
                gone: listed.gone.is_some(),
            });
            survey.contexts.insert(name.clone(), rows.collect());
        }
        for (name, rows) in &survey.contexts {
            let stray = rows.iter().filter(|row| row.size.is_none()).count();
            if stray > 0 {
                survey.odd.push(format!(
                    "{name} has {} of forgotten snapshots, which are not there",
                    count(stray as u64, "mark")
                ));
            }
        }
        Ok(survey)
    }

    /// Lists all contexts, in two ways.
    async fn list_all(&mut self, store: &Store) -> Result<(), Error> {
        let prefix = contexts_prefix();
        // A server may end a listing too early, without a word: it gives the rest when it is asked for that.
        let mut last = None;
        loop {
            let mut listed = match &last {
                None => store.list_all(&prefix),
                Some(last) => store.objects().list_with_offset(Some(&prefix), last),
            };
            let before = last.clone();
            while let Some(meta) = listed.next().await {
                let meta = meta.map_err(|e| Error::store("list", &prefix, e))?;
                match StoreKey::parse(&meta.location) {
                    Some(StoreKey::Snapshot { context, number }) => {
                        self.row(context, number).size = Some(meta.size);
                    }
                    Some(StoreKey::Gone { context, number }) => self.row(context, number).gone = true,
                    Some(StoreKey::Tag { context, .. }) => drop(self.tagged.insert(context)),
                    // Nobody knows what that is.
                    _ => {}
                }
                last = last.max(Some(meta.location));
            }
            if last == before {
                break;
            }
        }
        let names = store.names().await?.into_iter().collect();
        self.list_each(store, &names).await?;
        for rows in self.contexts.values_mut() {
            rows.sort_by_key(|row| std::cmp::Reverse(row.number));
        }
        Ok(())
    }

    /// Lists the contexts that one listing has and the other lacks, each by itself; also those with tags, because of
    /// which marks may not count.
    async fn list_each(&mut self, store: &Store, names: &BTreeSet<ContextName>) -> Result<(), Error> {
        let known: BTreeSet<ContextName> = self.contexts.keys().cloned().collect();
        let mut again: BTreeSet<ContextName> = known.symmetric_difference(names).cloned().collect();
        again.extend(self.tagged.iter().cloned());
        for name in &again {
            let listed = store.listing(name).await?;
            if listed.is_empty() && known.contains(name) {
                // Its last objects were collected meanwhile.
                self.contexts.remove(name);
            }
            for (number, listed) in listed {
                let row = self.row(name.clone(), number);
                row.size = listed.snapshot.map(|key| key.size);
                row.gone = listed.gone.is_some();
            }
        }
        Ok(())
    }

    /// Returns the row of a number. Listings come in order, so it is the last one or a new one, nearly always.
    fn row(&mut self, context: ContextName, number: u64) -> &mut Row {
        let rows = self.contexts.entry(context).or_default();
        let at = match rows.last() {
            Some(last) if last.number == number => rows.len() - 1,
            _ => match rows.iter().rposition(|row| row.number == number) {
                Some(at) => at,
                None => {
                    rows.push(Row { number, ..Row::default() });
                    rows.len() - 1
                }
            },
        };
        &mut rows[at]
    }
}
