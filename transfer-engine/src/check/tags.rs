//! Checking the tags of a context.

use super::{CheckedContext, Damage, fault};
use crate::error::Error;
use crate::format::{LineageId, StoreKey};
use crate::store::Store;
use crate::tags::{Listed, ListedTag};

impl Store {
    /// Checks that the tags of a lineage are on snapshots that are there and can be read. The snapshots themselves were
    /// checked before.
    pub(super) async fn check_tags(
        &self,
        lineage: LineageId,
        context: &mut CheckedContext,
    ) -> Result<(), Error> {
        let name = context.name.clone();
        let (mut listed, tags) = self.raw_listing(&name).await?;
        self.without_void_marks(&name, &mut listed, tags.clone()).await?;
        let ours = tags.into_iter().filter(|tag| tag.lineage == lineage).collect();
        for (tag, number) in self.read_tags(&name, ours).await {
            let what = match number {
                Ok(number) if context.is_unreadable(number) => format!("its snapshot {number} can't be read"),
                Ok(number) => match listed.get(&number) {
                    Some(found) if !found.is_gone() => continue,
                    Some(Listed { gone: Some(_), .. }) => {
                        context.odd.push(format!(
                            "the tag {} of {name} keeps nothing: its snapshot {number} is forgotten",
                            tag.name
                        ));
                        continue;
                    }
                    _ => format!("its snapshot {number} is not in the store"),
                },
                Err(error) => fault(self, error).await?,
            };
            // Somebody may have deleted it meanwhile.
            if self.is_tag_there(context, &tag).await? {
                context.damage.push(Damage { key: key_of(context, &tag).path().to_string(), what });
            }
        }
        Ok(())
    }

    async fn is_tag_there(&self, context: &CheckedContext, tag: &ListedTag) -> Result<bool, Error> {
        match self.stat(&key_of(context, tag).path()).await {
            Ok(_) => Ok(true),
            Err(Error::Store { source: object_store::Error::NotFound { .. }, .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

impl CheckedContext {
    /// Whether the check has found that a snapshot can't be read itself.
    fn is_unreadable(&self, number: u64) -> bool {
        self.snapshots.iter().any(|s| s.number == number && s.created.is_none())
    }
}

fn key_of(context: &CheckedContext, tag: &ListedTag) -> StoreKey {
    StoreKey::Tag { context: context.name.clone(), lineage: tag.lineage, name: tag.name.clone() }
}
