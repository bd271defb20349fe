//! Moves a context's tags to its new name.
//!
//! Somebody may tag a snapshot of the old name while the rename runs. Either the tagger finds the snapshot marked, and
//! takes the tag back because the context is not there any more; or the tag is there before the mark, so that the mark
//! does not count. Then the rename is not complete, and whoever meets it next moves the tag too.

use super::{Finish, lineage_of};
use crate::error::Error;
use crate::format::{ContextName, LineageId};
use crate::store::{Head, Store};

impl Store {
    /// Puts the tags of a lineage under the new name, and deletes them under the old one. Without the number of the
    /// claim they are only deleted: the context is not under the new name any more.
    ///
    /// A tag that is there already is left as it is: somebody who uses the new name has set it.
    pub(super) async fn move_tags(
        &self,
        from: &ContextName,
        lineage: LineageId,
        to: (&ContextName, LineageId),
        claim: Option<u64>,
    ) -> Result<(), Error> {
        let (_, listed) = self.raw_listing(from).await?;
        let ours: Vec<_> = listed.into_iter().filter(|tag| tag.lineage == lineage).collect();
        if ours.is_empty() {
            return Ok(());
        }
        if let Some(claim) = claim {
            for (tag, number) in self.read_tags(from, ours).await {
                match number {
                    Ok(number) => {
                        self.put_tag(to.0, to.1, &tag.name, claim.saturating_add(number)).await.map(drop)?;
                    }
                    // It was deleted meanwhile, or is damaged.
                    Err(e) if e.is_of_object() => {}
                    Err(e) => return Err(e),
                }
            }
        }
        self.delete_tags(from, |tag, _| tag.lineage == lineage).await
    }

    /// Marks what is left under the old name although the rename is complete: snapshots whose marks do not count because
    /// of a tag that landed late.
    pub(super) async fn forget_rest(
        &self,
        from: &ContextName,
        last: &Head,
        to: &ContextName,
        rest: &[u64],
    ) -> Result<Finish, Error> {
        // The digest of the head before the terminal snapshot, which itself may be erased.
        let lineage = last.snapshot.parent.map(|source| lineage_of(&source, to));
        let claim = match (lineage, self.find_head(to).await?) {
            (Some(lineage), Some(head)) if head.is_live() => self.find_claim(&head, lineage).await?,
            _ => None,
        };
        let to = (to, lineage.unwrap_or(last.snapshot.lineage));
        self.move_tags(from, last.snapshot.lineage, to, claim.map(|claim| claim.key.number)).await?;
        for number in rest {
            self.mark_gone(from, *number).await?;
        }
        Ok(Finish::Moved)
    }
}
