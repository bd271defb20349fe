//! The tags of a context, as a collection sees them.

use std::collections::BTreeSet;

use super::witness::{Witness, is_passing};
use crate::error::Error;
use crate::format::{ContextName, LineageId, StoreKey};
use crate::store::Store;
use crate::tags::{ListedTag, outdoes};

/// The tags of a context.
pub(super) struct Tags {
    /// The tags, and the numbers of their snapshots.
    pub(super) known: Vec<(ListedTag, u64)>,
    /// Tags that can't be read: nobody knows which snapshots they are on.
    pub(super) damaged: Vec<(ListedTag, Error)>,
    /// When the earliest of the tags landed that were deleted while the context was listed.
    lost: Option<i64>,
    grace: i64,
}

impl Tags {
    /// Reads the tags that a listing showed. The witness was taken before the listing.
    pub(super) async fn read(
        store: &Store,
        name: &ContextName,
        listed: Vec<ListedTag>,
        witness: &Witness,
    ) -> Result<Self, Error> {
        let lost = witness.lost_tag(name, &listed);
        let mut tags = Self { known: Vec::new(), damaged: Vec::new(), lost, grace: store.grace().await? };
        for (tag, number) in store.read_tags(name, listed).await {
            match number {
                Ok(number) => tags.known.push((tag, number)),
                Err(Error::Store { source: object_store::Error::NotFound { .. }, .. }) => {
                    tags.lost = Some(tags.lost.map_or(tag.landed, |lost| lost.min(tag.landed)));
                }
                Err(error) if is_passing(&error) => return Err(error),
                Err(error) => tags.damaged.push((tag, error)),
            }
        }
        Ok(tags)
    }

    /// Whether a mark may have been replaced while the context was listed: a tag was deleted that the mark may have been
    /// outdone by. Then the mark says nothing about how long its snapshot has been forgotten.
    pub(super) fn may_have_outdone(&self, mark: i64) -> bool {
        self.lost.is_some_and(|tag| outdoes(tag, mark, self.grace))
    }

    /// Returns the snapshots with a tag.
    pub(super) fn tagged(&self) -> BTreeSet<(LineageId, u64)> {
        self.known.iter().map(|(tag, number)| (tag.lineage, *number)).collect()
    }

    /// Whether there is a tag to delete below this deletion of the context.
    pub(super) fn are_left_below(&self, deletion: u64) -> bool {
        self.known.iter().any(|(_, number)| *number < deletion) || !self.damaged.is_empty()
    }

    /// Returns the keys of the damaged tags of a lineage.
    pub(super) fn damaged_of(self, name: &ContextName, lineage: Option<LineageId>) -> Vec<(String, Error)> {
        let damaged = self.damaged.into_iter().filter(|(tag, _)| Some(tag.lineage) == lineage);
        let key =
            |tag: ListedTag| StoreKey::Tag { context: name.clone(), lineage: tag.lineage, name: tag.name };
        damaged.map(|(tag, error)| (key(tag).path().to_string(), error)).collect()
    }
}
