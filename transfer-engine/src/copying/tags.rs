//! Copying the tags of a context's snapshots.

use std::collections::BTreeMap;

use super::{NotCopied, Run, is_damage};
use crate::error::Error;
use crate::format::{ContextName, TagName};
use crate::store::{At, Head};
use crate::tags::{Listed, ListedTag};

/// A context in the destination, once its snapshots have been copied.
struct There {
    head: Head,
    listed: BTreeMap<u64, Listed>,
    tags: Vec<ListedTag>,
}

impl Run<'_> {
    /// Sets the tags that a listing of the source showed on the copies of their snapshots. A tag that the destination
    /// has on another snapshot stays there, and is told.
    pub(super) async fn tags(
        &mut self,
        name: &ContextName,
        head: &Head,
        listed: Vec<ListedTag>,
    ) -> Result<(), Error> {
        let lineage = head.snapshot.lineage;
        let ours: Vec<_> = listed.into_iter().filter(|tag| tag.lineage == lineage).collect();
        if ours.is_empty() {
            return Ok(());
        }
        let there = self.there(name, head).await?;
        for (tag, number) in self.sides.src.read_tags(name, ours).await {
            let set = match (number, &there) {
                (Ok(number), Some(there)) => self.tag(there, number, &tag.name).await,
                // Nothing is there: in a dry run, because nothing was copied.
                (Ok(_), None) => Ok(self.sides.dry_run),
                // It was deleted meanwhile.
                (Err(Error::Store { source: object_store::Error::NotFound { .. }, .. }), _) => Ok(false),
                (Err(error), _) => Err(error),
            };
            match set {
                Ok(is_new) => self.report.tags += u64::from(is_new),
                Err(error) if is_damage(&error) || matches!(error, Error::TagElsewhere { .. }) => {
                    self.report.tags_failed += 1;
                    let (context, tag) = (name.clone(), Some(tag.name));
                    self.monitor.not_copied(&NotCopied { context, snapshots: Vec::new(), tag, error });
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn there(&self, name: &ContextName, head: &Head) -> Result<Option<There>, Error> {
        let dst = self.sides.dst;
        let Some(there) = dst.find_head(name).await? else { return Ok(None) };
        if !there.is_live() || there.snapshot.lineage != head.snapshot.lineage {
            return Ok(None);
        }
        let (mut listed, tags) = dst.raw_listing(name).await?;
        dst.without_void_marks(name, &mut listed, tags.clone()).await?;
        Ok(Some(There { head: there, listed, tags }))
    }

    /// Sets a tag on the copy of a snapshot of the source; returns whether it was not there before.
    async fn tag(&self, there: &There, number: u64, tag: &TagName) -> Result<bool, Error> {
        let (dst, name) = (self.sides.dst, &there.head.snapshot.context);
        let copy = self.copy_in(there, number).await?;
        if there.tags.iter().any(|t| t.lineage == there.head.snapshot.lineage && t.name == *tag) {
            match dst.tag_of(&there.head, tag).await {
                Ok((found, _)) if Some(found) == copy => return Ok(false),
                Ok((number, _)) => {
                    return Err(Error::TagElsewhere { name: name.clone(), tag: tag.clone(), number });
                }
                // It was deleted meanwhile.
                Err(Error::NoTag { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        if self.sides.dry_run {
            return Ok(true);
        }
        let set = match copy {
            Some(copy) => dst.tag(name, At::Number(copy), tag).await,
            None => return Ok(self.tell_forgotten(there, number, tag)),
        };
        match set {
            Ok(_) => Ok(true),
            // A collection was quicker.
            Err(Error::NoSnapshot { .. }) => Ok(self.tell_forgotten(there, number, tag)),
            Err(error) => Err(error),
        }
    }

    /// Says that a tag can't be set because the copy of its snapshot is forgotten. Where the snapshot could not be
    /// copied, that was told already.
    fn tell_forgotten(&self, there: &There, number: u64, tag: &TagName) -> bool {
        if self.expected(there, number).is_some_and(|copy| there.listed.contains_key(&copy)) {
            let (name, location) = (&there.head.snapshot.context, self.sides.dst.location());
            self.monitor.warning(&format!(
                "tag {tag} of {name} is not copied: {location} has forgotten the copy of snapshot {number}"
            ));
        }
        false
    }

    /// Returns the highest number that the copy of a snapshot can have.
    fn expected(&self, there: &There, number: u64) -> Option<u64> {
        let newest = there.head.key.number;
        newest.checked_sub(self.original_of(&there.head))?.checked_add(number)
    }

    /// Returns the number in the source of what this is a copy of.
    fn original_of(&self, copy: &Head) -> u64 {
        let noted = copy.snapshot.copied_from().filter(|(store, _)| *store == self.sides.src_id);
        noted.map_or(copy.key.number, |(_, number)| number)
    }

    /// Finds the copy of a snapshot. Copies that landed too late, and were made again, move those after them to higher
    /// numbers.
    async fn copy_in(&self, there: &There, number: u64) -> Result<Option<u64>, Error> {
        let Some(highest) = self.expected(there, number) else { return Ok(None) };
        let kept = there.listed.range(..=highest).rev().filter(|(_, listed)| !listed.is_gone());
        for (candidate, _) in kept {
            let found = match self.sides.dst.read_snapshot(&there.head.snapshot.context, *candidate).await {
                Ok(found) => found,
                Err(error) if is_damage(&error) => continue,
                Err(error) => return Err(error),
            };
            let original = self.original_of(&found);
            if found.snapshot.lineage != there.head.snapshot.lineage || original < number {
                return Ok(None);
            }
            if original == number && found.late_packs().is_empty() {
                return Ok(Some(*candidate));
            }
        }
        Ok(None)
    }
}
