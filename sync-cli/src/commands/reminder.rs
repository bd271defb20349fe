//! The default store is on this machine. That is said once a day, to whoever sits at a terminal.

use std::time::{Duration, SystemTime};

use crate::config::Origin;
use crate::means::Means;

/// The file in the state directory whose time tells when it was last said.
const SAID: &str = "reminded";
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Says that what was saved is lost with this machine, unless a store is named.
pub(super) fn remind(means: Means<'_>) {
    let Means { settings, ui, .. } = means;
    let Ok(state) = settings.state_dir() else { return };
    if settings.store.origin != Origin::Default || !ui.is_watched() {
        return;
    }
    let said = state.join(SAID);
    let at = said.metadata().and_then(|file| file.modified());
    let is_recent = |at| SystemTime::now().duration_since(at).is_ok_and(|ago| ago < DAY);
    if at.is_ok_and(is_recent) {
        return;
    }
    // If it can't be noted, it is said once more.
    let _ = std::fs::write(said, "");
    ui.hint(
        "the store is on this machine's disk, and lost with it; with --store or CTXSYNC_STORE it can be a bucket, such as \
         s3://bucket/prefix",
    );
}
