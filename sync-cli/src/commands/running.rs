//! Syncs of a mount that a session holds. The session runs them, because it knows what has arrived.

use std::path::Path;

use transfer_engine::{ContextPart, RunningSession, SyncOptions, SyncReport};

use crate::config::Origin;
use crate::errors::{Failure, STATE_DIR};
use crate::exit::Exit;
use crate::means::Means;
use crate::output::Watch;
use crate::output::summary::Deed;

/// Finds the session of another process that holds a mount.
pub(super) async fn connect(mount: &Path, means: Means<'_>) -> Result<Option<RunningSession>, Failure> {
    let state_dir = means.settings.state_dir()?;
    RunningSession::connect(state_dir, mount).await.map_err(|error| {
        if let Err(unusable) = std::fs::read_dir(state_dir) {
            return Failure::local("use the state directory", state_dir, &unusable).hint(STATE_DIR);
        }
        Failure::new(Exit::FAILED, format!("cannot reach the session that holds {}", mount.display()))
            .caused_by(&error)
            .hint("it may belong to another user; `ctxsync status` shows whose it is")
    })
}

/// Finds the session of another process that holds `dir` or a directory above it.
///
/// A session that can't be asked is ignored: it is another user's.
pub(super) async fn around(dir: &Path, means: Means<'_>) -> Option<RunningSession> {
    let state_dir = means.settings.state_dir().ok()?;
    for mount in dir.ancestors() {
        if let Ok(Some(session)) = RunningSession::connect(state_dir, mount).await {
            return Some(session);
        }
    }
    None
}

/// Makes a session sync one of its mounts.
pub(super) async fn sync(
    session: &mut RunningSession,
    deed: Deed,
    options: &SyncOptions,
    watch: &Watch,
    means: Means<'_>,
) -> Result<SyncReport, Failure> {
    if means.settings.policy.origin == Origin::Flag {
        means.ui.warning(&format!(
            "session {} holds this mount: its own policy counts, and --policy does not",
            session.id()
        ));
    }
    if options.quiesce.is_some() && means.settings.quiesce.origin == Origin::Flag {
        means.ui.warning(&format!(
            "session {} holds this mount: what it runs round each reading counts, and --quiesce does not",
            session.id()
        ));
    }
    let done = match deed {
        Deed::Push => session.push(options, watch).await,
        Deed::Sync => session.sync(options, watch).await,
        Deed::Pull | Deed::Restore | Deed::Fetch => session.pull(options, watch).await,
    };
    Ok(done?)
}

/// Fails if the session that holds the mount works on another context.
pub(super) fn refuse_other(
    session: &RunningSession,
    wanted: &ContextPart,
    mount: &Path,
) -> Result<(), Failure> {
    let held = session.place();
    if session.works_on(wanted) {
        return Ok(());
    }
    Err(Failure::usage(format!(
        "{} is held by session {}, which works on context {held} there, not {wanted}",
        mount.display(),
        session.id()
    ))
    .hint(format!("name {held}, or wait until the session is released")))
}
