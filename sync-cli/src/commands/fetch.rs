//! `fetch`: pull pending paths now.

use std::env;
use std::io;
use std::path::{Component, Path, PathBuf};

use policy_core::TreePath;
use transfer_engine::{ContextPart, Error, Mount, Store, SyncReport, TaskStatus, status as tasks};

use super::sync::bind;
use super::{Finished, running};
use crate::args::FetchArgs;
use crate::errors::Failure;
use crate::exit::Exit;
use crate::means::Means;
use crate::open_store::open_store;
use crate::output::Watch;
use crate::output::summary::Deed;
use crate::place::{MountPath, context_part, os_path};
use crate::policy;

pub(super) async fn fetch(args: &FetchArgs, means: Means<'_>) -> Result<Finished, Failure> {
    let Means { settings, ui, .. } = means;
    let cwd = env::current_dir().map_err(|error| Failure::local("find", Path::new("."), &error))?;
    let mount = match &args.mount {
        Some(dir) => MountPath::new(dir)?,
        None => nearest(&cwd, means).await?,
    };
    let paths = paths(&args.paths, &cwd, &mount)?;
    let mut options = settings.sync_options()?;
    let watch = Watch::new(ui, false);
    let (context, report) = match running::connect(mount.typed(), means).await? {
        Some(mut session) => {
            if let Some(context) = &args.context {
                running::refuse_other(&session, context, mount.typed())?;
            }
            let context = session.place().clone();
            ui.known().note_context(&context);
            (context, session.fetch(&paths, &watch).await?)
        }
        None => {
            let context = match &args.context {
                Some(context) => context.clone(),
                None => only_context(&mount, means)?,
            };
            ui.known().note_context(&context);
            options.only.clone_from(&paths);
            let store = open_store(means, false)?.store;
            let sync = bind(&context, mount.typed(), policy::chosen(settings)?);
            let mut open = Mount::open(&store, sync, settings.state_dir()?)?;
            let report = open.pull(&options, &watch).await?;
            if missing(&paths, &mount, &context, &report).is_err() {
                refuse_recycled(&store, &context, &paths).await?;
            }
            (context, report)
        }
    };
    missing(&paths, &mount, &context, &report)?;
    Ok(Finished {
        exit: Exit::of(&report),
        report: Some(report),
        deed: Some(Deed::Fetch),
        ..Finished::of_context(&context)
    })
}

/// Returns the nearest mount, at the current directory or above it.
async fn nearest(cwd: &Path, means: Means<'_>) -> Result<MountPath, Failure> {
    // A session also answers a process that may not read the state.
    if let Some(session) = running::around(cwd, means).await {
        return MountPath::new(session.mount());
    }
    let rows = tasks(means.settings.state_dir()?, None)?;
    let holds = rows.iter().map(TaskStatus::mount).filter(|path| cwd.starts_with(path));
    match holds.max_by_key(|path| path.as_os_str().len()) {
        Some(path) => MountPath::new(&path),
        None => Err(Failure::usage(format!("no mount is known that holds {}", cwd.display()))
            .hint("give one with --mount; `ctxsync status` lists them")),
    }
}

/// Returns the context that was last synced with a mount, if there is exactly one.
fn only_context(mount: &MountPath, means: Means<'_>) -> Result<ContextPart, Failure> {
    let rows = tasks(means.settings.state_dir()?, Some(mount.typed()))?;
    let mut names: Vec<&str> = rows.iter().map(|row| row.context.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let shown = mount.typed().display();
    match names.as_slice() {
        [name] => context_part(name)
            .map_err(|_| Failure::new(Exit::FAILED, format!("the state of {shown} is damaged"))),
        [] => Err(Failure::usage(format!("nothing was synced at {shown} yet"))
            .hint("name the context by --context")),
        several => {
            Err(Failure::usage(format!("several contexts were worked on at {shown}: {}", several.join(", ")))
                .hint("name one of them by --context"))
        }
    }
}

/// Reads paths: absolute, or relative to the current directory. If the current directory is outside the
/// mount, a path that does not lead into the mount is taken as relative to the mount.
fn paths(typed: &[std::ffi::OsString], cwd: &Path, mount: &MountPath) -> Result<Vec<TreePath>, Failure> {
    let is_inside = cwd.starts_with(&mount.resolved);
    let read = |typed: &std::ffi::OsString| {
        let here = mount.path_below(&plain(&cwd.join(Path::new(typed))));
        if is_inside { here } else { here.or_else(|_| mount.path_below(Path::new(typed))) }
    };
    typed.iter().map(read).collect()
}

/// Resolves `.` and `..` in an absolute path by its text alone, because the path need not exist.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                plain.pop();
            }
            part => plain.push(part),
        }
    }
    plain
}

/// Fails if one of the paths was recycled.
async fn refuse_recycled(store: &Store, place: &ContextPart, paths: &[TreePath]) -> Result<(), Failure> {
    let head = store.head(&place.context).await?;
    for path in paths {
        if let Err(error @ Error::Recycled { .. }) = store.entry(&head, &place.outer(path)).await {
            return Err(error.into());
        }
    }
    Ok(())
}

/// Fails if one of the paths is still missing.
fn missing(
    paths: &[TreePath],
    mount: &MountPath,
    context: &ContextPart,
    report: &SyncReport,
) -> Result<(), Failure> {
    let is_missing = |path: &&TreePath| {
        let found = mount.resolved.join(os_path(path)).symlink_metadata();
        found.is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
    };
    let missing: Vec<&TreePath> = paths.iter().filter(is_missing).collect();
    let Some(path) = missing.first() else { return Ok(()) };
    // Failed paths were already reported. An archive may be missing because it was extracted.
    if report.failed > 0 || missing.len() as u64 <= report.extracted {
        return Ok(());
    }
    let shown = policy_core::escape(path.as_bytes());
    Err(Failure::new(Exit::NOT_FOUND, format!("no `{shown}` comes from context {context}"))
        .hint(format!(
            "`ctxsync ls {context}` shows what it holds, `ctxsync explain` whether the policy leaves it out"
        ))
        .with_report(report.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_the_current_directory_where_it_is_in_the_mount() {
        let mount = MountPath::new(Path::new("/no/such/mount")).unwrap();
        let read = |cwd: &str, typed: &str| {
            let paths = paths(&[typed.into()], Path::new(cwd), &mount);
            paths.map(|paths| paths[0].to_string()).ok()
        };
        assert_eq!(read("/no/such/mount/sub", "f").as_deref(), Some("sub/f"));
        assert_eq!(read("/no/such/mount/sub", "../f").as_deref(), Some("f"));
        assert_eq!(read("/no/such/mount/sub", "/no/such/mount/f").as_deref(), Some("f"));
        assert_eq!(read("/elsewhere", "sub/f").as_deref(), Some("sub/f"));
        assert_eq!(read("/no/such", "mount/f").as_deref(), Some("f"));
        assert_eq!(read("/elsewhere", ".").as_deref(), Some(""));
        assert_eq!(read("/no/such/mount", "../f"), None);
        assert_eq!(read("/no/such/mount", "/elsewhere"), None);
    }
}
