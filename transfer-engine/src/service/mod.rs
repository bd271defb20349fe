//! The contexts of a store and the files in them, without a mount: the guide's context service.

mod files;
mod info;

use std::num::NonZeroUsize;

use crate::contexts::Context;
use crate::edit::{Change, Edit, EditOptions};
use crate::error::Error;
use crate::format::ContextName;
use crate::report::SyncReport;
use crate::store::Store;

pub use files::WriteOptions;
pub use info::{FileInfo, FileKind};

/// Lists, creates, renames and deletes the contexts of a store, and reads and writes the files in them.
///
/// Each change of a context is one snapshot on top of its head, like a push. It appears whole or not at all,
/// it is planned again if another writer is first, and it stays in the history. A change without an effect
/// makes no snapshot. A machine with a mount of the context treats the change like any other change of the
/// context.
///
/// ```
/// # use std::sync::Arc;
/// # use std::time::Duration;
/// use policy_core::TreePath;
/// use transfer_engine::{ContextName, ContextService, Env, Store, WriteOptions};
///
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// # let store = Store::new(Arc::new(object_store::memory::InMemory::new()), "memory:", Env::real());
/// # store.init(Duration::from_secs(86_400)).await?;
/// let contexts = ContextService::new(&store);
/// let name: ContextName = "user-42".parse()?;
/// contexts.get(&name, true).await?;
///
/// let path: TreePath = "notes/today.md".parse()?;
/// contexts.write_file(&name, &path, &b"remember me"[..], &WriteOptions::default()).await?;
/// let files = contexts.list_files(&name, &"notes".parse()?).await?;
/// assert_eq!((files[0].path.to_string(), files[0].size), ("notes/today.md".to_owned(), 11));
///
/// let mut read = Vec::new();
/// contexts.read_file(&name, &path, 0..8, |part| {
///     read.extend_from_slice(&part);
///     Ok(())
/// }).await?;
/// assert_eq!(read, b"remember");
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
#[derive(Debug, Clone)]
pub struct ContextService {
    store: Store,
    options: EditOptions,
}

impl ContextService {
    /// Returns the service for a store, without a request.
    pub fn new(store: &Store) -> Self {
        let options = EditOptions {
            session: String::new(),
            concurrency: NonZeroUsize::new(16).unwrap_or(NonZeroUsize::MIN),
            memory: 256 << 20,
        };
        Self { store: store.clone(), options }
    }

    /// Sets the name of the session, for the snapshots that are committed from now on.
    #[must_use]
    pub fn with_session(mut self, session: impl Into<String>) -> Self {
        self.options.session = session.into();
        self
    }

    /// Limits the number of concurrent requests, and roughly the bytes of memory for writing a file.
    #[must_use]
    pub fn with_limits(mut self, concurrency: NonZeroUsize, memory: u64) -> Self {
        (self.options.concurrency, self.options.memory) = (concurrency, memory);
        self
    }

    /// Returns a context. If it is missing and `create` is true, creates it first.
    ///
    /// # Errors
    /// [`Error::NoContext`]; [`Error::Moved`] with the new name, even with `create`.
    pub async fn get(&self, name: &ContextName, create: bool) -> Result<Context, Error> {
        let head = match self.store.require_head(name).await {
            Err(Error::NoContext { .. }) if create => self.store.create(name).await?.0,
            head => head?,
        };
        Ok(Context::from(&*head.snapshot))
    }

    /// Returns all contexts, sorted by name.
    pub async fn list(&self) -> Result<Vec<Context>, Error> {
        self.store.list_contexts().await
    }

    /// Creates an empty context. If an earlier context with this name was deleted or renamed, it is not
    /// restored; only the numbers continue.
    ///
    /// # Errors
    /// [`Error::ContextExists`], even if another machine has just created it.
    pub async fn create(&self, name: &ContextName) -> Result<Context, Error> {
        self.store.create_context(name).await?;
        self.get(name, false).await
    }

    /// Renames a context: see [`Store::rename_context`].
    ///
    /// # Errors
    /// [`Error::ContextExists`] if the new name is in use; [`Error::NoContext`]; [`Error::Moved`] if the
    /// context was renamed to another name.
    pub async fn update(&self, name: &ContextName, new_name: &ContextName) -> Result<Context, Error> {
        self.store.rename_context(name, new_name).await?;
        self.get(new_name, false).await
    }

    /// Deletes a context with all its snapshots.
    ///
    /// # Errors
    /// [`Error::NoContext`], [`Error::Moved`].
    pub async fn delete(&self, name: &ContextName) -> Result<(), Error> {
        self.store.delete_context(name).await
    }

    /// Removes all files of a context, in a new snapshot. Earlier snapshots stay.
    ///
    /// # Errors
    /// [`Error::NoContext`], [`Error::Moved`], [`Error::Beaten`], [`Error::CommitUnknown`].
    pub async fn clear(&self, name: &ContextName) -> Result<SyncReport, Error> {
        self.change(name, Change::Clear).await
    }

    async fn change(&self, name: &ContextName, mut change: Change<'_>) -> Result<SyncReport, Error> {
        let before = self.store.usage();
        let head = self.store.require_head(name).await?;
        let mut report = Edit::new(&self.store, name, &self.options).commit(&mut change, head).await?;
        report.note_usage(self.store.usage().since(&before));
        Ok(report)
    }
}
