//! Asks before a directory is synced for the first time that is probably not the one that is meant.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use policy_core::escape;
use transfer_engine::{ContextSync, Mount, TaskState, TaskStatus, status as tasks};

use crate::config::Origin;
use crate::errors::Failure;
use crate::exit::Exit;
use crate::means::Means;
use crate::open_store::open_store;
use crate::place::MountPath;

/// What a home directory has at its top, and a project has not.
const KEYS: [&str; 6] = [".ssh", ".aws/credentials", ".git-credentials", ".kube/config", ".netrc", ".gnupg"];

/// Why a directory is probably not meant, and what may be meant instead.
struct Doubt {
    text: String,
    hint: String,
}

/// What happens where nobody can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unasked {
    /// A push from an odd directory is refused: it is the mistake of a script.
    Refused,
    /// A session begins, with a warning: a container's entry point often runs in a home directory.
    Warned,
}

/// Asks about a directory that is pushed. One that was synced before is not asked about. One that is named is asked about
/// only if another mount, or another store, makes it unlikely.
///
/// # Errors
/// The answer was no, or nobody could be asked.
pub(super) fn ask(
    sync: &ContextSync,
    typed: Option<&Path>,
    unasked: Unasked,
    means: Means<'_>,
) -> Result<(), Failure> {
    let is_named = typed.is_some_and(|dir| dir != Path::new("."));
    let odd = odd(sync, means.settings.dirs.home.as_deref()).filter(|_| !is_named && !sync.read_only);
    match odd.filter(|_| !was_synced(sync, means)) {
        Some(doubt) => doubt.ask(unasked, means),
        None => ask_of_pull(sync, means),
    }
}

/// Asks about a directory into which a context is pulled.
///
/// # Errors
/// The answer was no.
pub(super) fn ask_of_pull(sync: &ContextSync, means: Means<'_>) -> Result<(), Failure> {
    let at_odds = at_odds(sync, means).filter(|_| !was_synced(sync, means));
    at_odds.map_or(Ok(()), |doubt| doubt.ask(Unasked::Warned, means))
}

/// Warns if what is restored into a directory becomes a part of a mount.
pub(super) fn warn_of_mount(dir: &Path, means: Means<'_>) {
    let Ok(dir) = MountPath::new(dir).map(|path| path.resolved) else { return };
    let here = shown(&dir);
    let all = means.settings.state_dir().ok().and_then(|state| tasks(state, None).ok()).unwrap_or_default();
    let holds = |task: &&TaskStatus| task.status == TaskState::Success && dir.starts_with(task.mount());
    if let Some(task) = all.iter().filter(holds).max_by_key(|task| task.mount().as_os_str().len()) {
        let (mount, place) = (shown(&task.mount()), &task.context);
        means.ui.warning(&format!(
            "{here} is in {mount}, a mount of {place}: the next push there saves it as well"
        ));
    }
}

impl Doubt {
    fn ask(self, unasked: Unasked, means: Means<'_>) -> Result<(), Failure> {
        let Self { text, hint } = self;
        match means.ui.confirm(&format!("{text}. Go on?")) {
            Some(true) => Ok(()),
            Some(false) => Err(Failure::new(Exit::FAILED, "nothing was done").hint(hint)),
            None if unasked == Unasked::Refused => Err(Failure::usage(text).hint(hint)),
            None => {
                means.ui.warning(&text);
                means.ui.hint(&hint);
                Ok(())
            }
        }
    }
}

fn shown(path: &Path) -> String {
    escape(path.as_os_str().as_bytes()).to_string()
}

/// Returns why the current directory is probably not meant.
fn odd(sync: &ContextSync, home: Option<&Path>) -> Option<Doubt> {
    let ContextSync { path, context, .. } = sync;
    let dir = shown(path);
    let real = |path: &Path| path.canonicalize().ok();
    let text = if path.parent().is_none() {
        format!("this saves the whole file system as context {context}")
    } else if home.is_some_and(|home| real(home).is_some_and(|home| Some(home) == real(path))) {
        format!("this saves the whole home directory, {dir}, as context {context}")
    } else if let Some(keys) = KEYS.iter().find(|keys| path.join(keys).exists()) {
        format!("this saves {dir}, which holds keys ({keys}), as context {context}")
    } else if path.join(context.as_str()).is_dir() {
        format!("`{context}` is taken for the name of a context: what is saved is all of {dir}")
    } else {
        return None;
    };
    Some(Doubt { text, hint: format!("if it is meant, name it: {dir}") })
}

/// Returns what speaks against a directory in what this machine has synced: it was synced with another store, and no store
/// is named now; or it is in a mount of the same context, or has one in it. What can't be found out now is told by the sync
/// itself.
fn at_odds(sync: &ContextSync, means: Means<'_>) -> Option<Doubt> {
    let settings = means.settings;
    let (state, dir) = (settings.state_dir().ok()?, MountPath::new(&sync.path).ok()?.resolved);
    let (store, place) = (settings.store().ok()?.to_string(), sync.place().to_string());
    let is_done = |task: &&TaskStatus| task.context == place && task.status == TaskState::Success;
    let of_dir = tasks(state, Some(&dir)).ok()?;
    if of_dir.iter().filter(is_done).any(|task| task.store == store || task.store.is_empty()) {
        return None;
    }
    let here = shown(&sync.path);
    let last = of_dir.iter().filter(is_done).max_by_key(|task| task.start_time.as_ref());
    if let Some(last) = last.filter(|_| settings.store.origin == Origin::Default) {
        let other = escape(last.store.as_bytes());
        return Some(Doubt {
            text: format!(
                "{here} was synced with {place} in {other} so far, and not with the one in {store}"
            ),
            hint: format!("to go on there: --store {other}"),
        });
    }
    let all = tasks(state, None).ok()?;
    let of_store = all.iter().filter(is_done).filter(|task| task.store == store);
    let mounts = of_store.map(TaskStatus::mount).filter(|mount| mount.is_dir() && *mount != dir);
    mounts.into_iter().find_map(|mount| {
        let other = shown(&mount);
        if let Ok(below) = dir.strip_prefix(&mount) {
            let below = shown(below);
            Some(Doubt {
                text: format!("{here} is in {other}, a mount of {place}: this syncs it with all of {place}"),
                hint: format!("to sync only this part of the mount: {other} --only {below}"),
            })
        } else if mount.starts_with(&dir) {
            Some(Doubt {
                text: format!("{other}, a mount of {place}, is in {here}: this syncs all of {here}"),
                hint: format!("to sync only the mount, name it: {other}"),
            })
        } else {
            None
        }
    })
}

/// Whether this machine has synced it before. What can't be found out now is told by the sync itself.
fn was_synced(sync: &ContextSync, means: Means<'_>) -> bool {
    let opened = open_store(means, false).ok().zip(means.settings.state_dir().ok());
    let mount = opened.and_then(|(open, state)| Mount::open(&open.store, sync.clone(), state).ok());
    mount.is_some_and(|mount| mount.was_synced().unwrap_or(true))
}
