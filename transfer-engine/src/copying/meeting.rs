//! How far the copy of a context has come: what the destination has of it, and what is missing.

use std::collections::BTreeMap;
use std::sync::Arc;

use policy_core::Digest;

use super::is_damage;
use crate::error::Error;
use crate::format::{ContextName, Kind, Snapshot, StoreId};
use crate::store::{Head, Store};
use crate::tags::{Listed, ListedTag};

/// A snapshot of the source that the destination lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Missing {
    /// Its number in the source.
    pub(super) number: u64,
    /// The number that its copy gets.
    pub(super) to: u64,
}

/// Where the copy of a context goes on.
pub(super) struct Meeting {
    /// The newest copy that the destination has, and its original, if the source still has that.
    pub(super) met: Option<(Head, Option<Arc<Snapshot>>)>,
    /// The newest number of the context in the destination; 0 if there is none.
    pub(super) newest: u64,
    /// What is missing after the newest copy, ascending.
    pub(super) after: Vec<Missing>,
    /// What is missing before it, ascending: what could not be read in an earlier run.
    pub(super) between: Vec<Missing>,
    /// What the destination lists.
    pub(super) listed: BTreeMap<u64, Listed>,
    /// The tags that the source lists.
    pub(super) tags: Vec<ListedTag>,
}

/// The two sides.
#[derive(Clone, Copy)]
pub(super) struct Sides<'a> {
    pub(super) src: &'a Store,
    pub(super) src_id: StoreId,
    pub(super) dst: &'a Store,
    /// Whether nothing may be written.
    pub(super) dry_run: bool,
}

impl Sides<'_> {
    /// Compares a context, whose head in the source this is.
    ///
    /// # Errors
    /// [`Error::Diverged`] if the destination has another context of this name, or snapshots of its own.
    pub(super) async fn meet(self, name: &ContextName, head: &Head) -> Result<Meeting, Error> {
        let mut there = self.dst.find_head(name).await?;
        if let Some(found) = there.take() {
            there = Some(if self.dry_run { found } else { self.dst.head_after_move(name, found).await? });
        }
        let listed = self.dst.listing(name).await?;
        let (mut here, tags) = self.src.raw_listing(name).await?;
        self.src.without_void_marks(name, &mut here, tags.clone()).await?;
        let here = here.range(..=head.key.number).filter(|(_, listed)| !listed.is_gone());
        let here: Vec<u64> = here.map(|(number, _)| *number).collect();
        let newest = there.as_ref().map_or(0, |there| there.key.number);
        let after = |last: u64, offset: u64| {
            let after = here.iter().filter(|number| **number > last);
            after.map(|number| Missing { number: *number, to: number.saturating_add(offset) }).collect()
        };
        let Some(copy) = there else {
            return Ok(Meeting { met: None, newest, after: after(0, 0), between: Vec::new(), listed, tags });
        };
        if !copy.is_live() {
            if copy.moved_to().is_some() {
                return Err(self.dst.missing(name, Some(&copy)));
            }
            // The name was used before, and its numbers go on.
            let after = after(0, newest);
            return Ok(Meeting { met: None, newest, after, between: Vec::new(), listed, tags });
        }
        let (number, original) = self.common(name, head, &copy).await?;
        let offset = newest - number;
        if !copy.late_packs().is_empty() {
            // It landed too late to count, and is made once more.
            let after = after(number - 1, offset + 1);
            return Ok(Meeting { met: Some((copy, None)), newest, after, between: Vec::new(), listed, tags });
        }
        let lacks = |number: &u64| !listed.contains_key(&number.saturating_add(offset));
        let between = here.iter().filter(|n| **n < number && lacks(n));
        let between =
            between.map(|number| Missing { number: *number, to: number.saturating_add(offset) }).collect();
        let after = after(number, offset);
        Ok(Meeting { met: Some((copy, original)), newest, after, between, listed, tags })
    }

    /// Returns the number in the source of what the head of the destination is a copy of, and the original itself, if
    /// it is still there.
    async fn common(
        self,
        name: &ContextName,
        head: &Head,
        copy: &Head,
    ) -> Result<(u64, Option<Arc<Snapshot>>), Error> {
        let diverged = || Error::Diverged {
            name: name.clone(),
            number: copy.key.number,
            location: self.dst.location().to_owned(),
        };
        let noted = copy.snapshot.copied_from().filter(|(store, _)| *store == self.src_id);
        let number = noted.map_or(copy.key.number, |(_, number)| number);
        let is_possible = copy.snapshot.lineage == head.snapshot.lineage
            && (1..=head.key.number.min(copy.key.number)).contains(&number);
        if !is_possible {
            return Err(diverged());
        }
        let original = if number == head.key.number {
            Ok(head.clone())
        } else {
            self.src.read_snapshot(name, number).await
        };
        match original {
            Ok(original) if is_copy(&copy.snapshot, &original.snapshot) => {
                Ok((number, Some(original.snapshot)))
            }
            // The source forgot it, but a number never means two things.
            Err(e) if is_damage(&e) && noted.is_some() => Ok((number, None)),
            Err(e) if !is_damage(&e) => Err(e),
            _ => Err(diverged()),
        }
    }

    /// Looks at what comes before `missing`, which is between others.
    pub(super) async fn below(
        self,
        name: &ContextName,
        missing: Missing,
        listed: &BTreeMap<u64, Listed>,
    ) -> Result<Below, Error> {
        let is_there = |listed: &Listed| listed.gone.is_none() && listed.snapshot.is_some();
        let below = listed.range(..missing.to).rev().find(|(_, listed)| is_there(listed));
        let Some((number, _)) = below else { return Ok(Below::Nothing) };
        let before = self.dst.read_snapshot(name, *number).await?;
        let noted = before.snapshot.copied_from().filter(|(store, _)| *store == self.src_id);
        let fits = noted
            .is_none_or(|(_, number)| before.key.number.wrapping_sub(number) == missing.to - missing.number);
        Ok(match before.is_live() {
            false => Below::Nothing,
            true if fits => Below::Copy(Box::new(before)),
            true => Below::OtherNumbers,
        })
    }
}

impl Sides<'_> {
    /// Returns what the copy after `missing` names as its parent.
    pub(super) async fn parent_of_next(
        self,
        name: &ContextName,
        missing: Missing,
        listed: &BTreeMap<u64, Listed>,
    ) -> Result<Option<Digest>, Error> {
        let is_there = |listed: &Listed| listed.gone.is_none() && listed.snapshot.is_some();
        let next = listed.range(missing.to..).find(|(_, listed)| is_there(listed));
        let Some((number, _)) = next else { return Ok(None) };
        Ok(self.dst.read_snapshot(name, *number).await?.snapshot.parent)
    }
}

/// What comes before a number that the destination lacks.
pub(super) enum Below {
    Nothing,
    Copy(Box<Head>),
    /// A copy of other numbers, as they are before a copy that landed too late: the number may be lacking for that.
    OtherNumbers,
}

/// Whether a snapshot is the copy of another, in a store of its own.
fn is_copy(copy: &Snapshot, original: &Snapshot) -> bool {
    original.kind == Kind::Normal
        && (copy.nonce, copy.lineage, copy.created, copy.totals)
            == (original.nonce, original.lineage, original.created, original.totals)
}
