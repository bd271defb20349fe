//! What can be had of a context whose head can't be read.

use crate::error::Error;
use crate::format::ContextName;

use super::{At, Head, Store};

impl Store {
    /// Returns the error for a head that can't be read, which names the newest snapshot that can be.
    pub(crate) async fn damaged_head(&self, name: &ContextName, number: u64, error: Error) -> Error {
        // That an object is not there any more, or can't be read now, says nothing about it.
        if !matches!(error, Error::Format { .. } | Error::Corrupt { .. }) {
            return error;
        }
        // Whatever else goes wrong, it is the head that is told.
        let readable = self.newest_readable(name).await.ok().flatten().map(|head| head.key.number);
        Error::DamagedHead { name: name.clone(), number, readable, source: Box::new(error) }
    }

    /// Returns the newest snapshot of a context that can be read; `None` if there is none since the context was deleted
    /// last.
    pub(crate) async fn newest_readable(&self, name: &ContextName) -> Result<Option<Head>, Error> {
        for (number, is_gone) in self.list_snapshots(name).await? {
            if is_gone {
                continue;
            }
            match self.read_snapshot(name, number).await {
                Ok(head) => return Ok(Some(head).filter(Head::is_live)),
                Err(error) if error.is_of_object() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Returns the head; if it is damaged, the newest snapshot that can be read.
    ///
    /// # Errors
    /// Those of [`Store::require_head`]; [`Error::DamagedHead`] only if no snapshot can be read.
    pub(crate) async fn newest_of(&self, name: &ContextName) -> Result<Head, Error> {
        match self.require_head(name).await {
            Err(error @ Error::DamagedHead { .. }) => self.newest_readable(name).await?.ok_or(error),
            head => head,
        }
    }

    /// Returns another snapshot than the head, which failed with this error.
    pub(super) async fn find_beside_head(
        &self,
        name: &ContextName,
        at: &At,
        error: Error,
    ) -> Result<Head, Error> {
        let newest = match &error {
            Error::DamagedHead { number, .. } => Some(*number),
            // Of the context itself, nothing is known.
            Error::Store { .. } if matches!(at, At::Number(_)) => None,
            _ => return Err(error),
        };
        let number = match at {
            At::Head => None,
            At::Number(number) => Some(*number),
            At::Back(back) => newest.and_then(|newest| newest.checked_sub(*back)),
            At::Tag(tag) => match self.newest_readable(name).await? {
                Some(head) => Some(self.tag_of(&head, tag).await?.0),
                None => None,
            },
        };
        match number {
            Some(number) if newest != Some(number) => self.find_number(name, number, None).await,
            _ => Err(error),
        }
    }
}
