//! Pauses the programs that write to a mount while a push reads it.

use std::fmt::Debug;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::future::BoxFuture;
use tokio::time::Instant;

/// Makes the programs that write to a mount pause while a push reads it, or write a consistent state: for
/// example, a file system is frozen, or a database writes a dump.
pub trait Quiesce: Debug + Send + Sync {
    /// Is called before the mount is read; the read begins when the future is done. `deadline` is the
    /// deadline of the whole push. The future is dropped early if the push is given up.
    fn quiesce<'a>(&'a self, mount: &'a Path, deadline: Option<Instant>) -> BoxFuture<'a, io::Result<()>>;

    /// Is called once after each [`quiesce`](Self::quiesce): when the mount has been read, when reading has
    /// failed, and also when `quiesce` itself has failed or was dropped. The future runs to its end even if
    /// the push is given up.
    fn resume<'a>(&'a self, mount: &'a Path, deadline: Option<Instant>) -> BoxFuture<'a, io::Result<()>>;
}

/// A paused mount, until `end` is called or this is dropped.
pub(crate) struct Still(Option<Held>);

struct Held {
    hook: Arc<dyn Quiesce>,
    mount: PathBuf,
    deadline: Option<Instant>,
}

impl Held {
    async fn resume(self) -> io::Result<()> {
        self.hook.resume(&self.mount, self.deadline).await
    }
}

impl Still {
    /// Pauses the programs that write to a mount.
    pub(crate) async fn begin(
        hook: &Arc<dyn Quiesce>,
        mount: &Path,
        deadline: Option<Instant>,
    ) -> io::Result<Self> {
        let still = Self(Some(Held { hook: hook.clone(), mount: mount.to_owned(), deadline }));
        match hook.quiesce(mount, deadline).await {
            Ok(()) => Ok(still),
            Err(e) => {
                if let Err(e) = still.end().await {
                    tracing::warn!("what could not be quiesced could not be resumed either: {e}");
                }
                Err(e)
            }
        }
    }

    /// Lets the programs continue.
    pub(crate) async fn end(mut self) -> io::Result<()> {
        match self.0.take() {
            // A task of its own runs to its end even if nobody waits for it any longer.
            Some(held) => tokio::spawn(held.resume()).await.unwrap_or_else(|e| Err(io::Error::other(e))),
            None => Ok(()),
        }
    }
}

impl Drop for Still {
    fn drop(&mut self) {
        let Some(held) = self.0.take() else { return };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                if let Err(e) = held.resume().await {
                    tracing::warn!("what was quiesced could not be resumed: {e}");
                }
            });
        }
    }
}
