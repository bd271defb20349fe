//! `context`: create, list, show, delete.

use std::cmp::Reverse;

use transfer_engine::format::Snapshot;
use transfer_engine::{Context, ContextName, Error, SyncReport, TagName};

use super::Finished;
use super::branches::{fork, merge, revert};
use super::rm::{clear, rename};
use super::sync::make;
use super::tag::{tag, untag};
use crate::args::{ContextCommand, DeleteArgs, ListArgs, ShowArgs, SortBy};
use crate::errors::Failure;
use crate::exit::Exit;
use crate::means::Means;
use crate::open_store::open_store;
use crate::output::json::{ContextLine, Line};
use crate::text;

pub(super) async fn context(command: &ContextCommand, means: Means<'_>) -> Result<Finished, Failure> {
    match command {
        ContextCommand::Create(args) => create(&args.name, means).await,
        ContextCommand::List(args) => list(args, means).await,
        ContextCommand::Show(args) => show(args, means).await,
        ContextCommand::Fork(args) => fork(args, means).await,
        ContextCommand::Merge(args) => merge(args, means).await,
        ContextCommand::Revert(args) => revert(args, means).await,
        ContextCommand::Delete(args) => delete(args, means).await,
        ContextCommand::Rename(args) => rename(args, means).await,
        ContextCommand::Clear(args) => clear(args, means).await,
        ContextCommand::Tag(args) => tag(args, means).await,
        ContextCommand::Untag(args) => untag(args, means).await,
    }
}

async fn create(name: &ContextName, means: Means<'_>) -> Result<Finished, Failure> {
    let open = open_store(means, true)?;
    let snapshot = match open.store.create_context(name).await {
        Err(Error::NoStore { .. }) => {
            make(&open, means.ui).await?;
            open.store.create_context(name).await
        }
        created => created,
    }?;
    if means.ui.is_json() {
        means.ui.object(&Line::Context(ContextLine::of(&Context::from(&*snapshot), Some(&[]))));
    } else {
        means.ui.line(&format!("created context {name}"));
    }
    Ok(outcome(&snapshot))
}

async fn list(args: &ListArgs, means: Means<'_>) -> Result<Finished, Failure> {
    let store = open_store(means, false)?.store;
    let mut damaged = Vec::new();
    let mut contexts = store.list_contexts_but(|name, error| damaged.push((name, error))).await?;
    match args.sort {
        SortBy::Name => {}
        SortBy::Size => contexts.sort_by_key(|context| Reverse(context.bytes)),
        SortBy::Time => contexts.sort_by_key(|context| Reverse(context.time)),
    }
    for context in &contexts {
        if means.ui.is_json() && args.long {
            means.ui.object(&Line::Context(ContextLine::of(context, None)));
        } else if means.ui.is_json() {
            means.ui.object(&Line::Context(ContextLine::name_only(context.name.as_str())));
        } else if args.long {
            let origin =
                context.forked_from.as_ref().map(|from| format!("  (fork of {})", text::origin(from)));
            let origin = origin.unwrap_or_default();
            let session = match context.session.as_str() {
                "" => "-".to_owned(),
                session => policy_core::escape(session.as_bytes()),
            };
            means.ui.header(&format!(
                "{:>10} {:>14}  {:<20}  {:<18}  context",
                "size", "files", "last change", "session"
            ));
            means.ui.line(&format!(
                "{:>10} {:>14}  {:<20}  {session:<18}  {}{origin}",
                text::bytes(context.bytes),
                text::count(context.files, "file"),
                text::moment(context.time),
                context.name,
            ));
        } else {
            means.ui.line(context.name.as_str());
        }
    }
    for (name, error) in &damaged {
        let failure = Failure::new(Exit::INCOMPLETE, format!("the newest snapshot of {name} can't be read"));
        let hint = match error.is_of_later_format() {
            true => "a newer ctxsync has written it: upgrade this one".to_owned(),
            false => format!(
                "`ctxsync repair {name}` shows what can be mended, `ctxsync log {name}` what can be read"
            ),
        };
        means.ui.failure(&failure.caused_by(error).hint(hint));
    }
    let exit = if damaged.is_empty() { Exit::DONE } else { Exit::INCOMPLETE };
    Ok(Finished { exit, ..Finished::default() })
}

async fn show(args: &ShowArgs, means: Means<'_>) -> Result<Finished, Failure> {
    let store = open_store(means, false)?.store;
    let snapshot = store.snapshot(&args.context.name, args.context.at.clone()).await?;
    let tags = store.tags(&args.context.name).await?.remove(&snapshot.number).unwrap_or_default();
    if means.ui.is_json() {
        means.ui.object(&Line::Context(ContextLine::of(&Context::from(&*snapshot), Some(&tags))));
        return Ok(outcome(&snapshot));
    }
    let totals = &snapshot.totals;
    let session = policy_core::escape(snapshot.session.as_bytes());
    let lines = [
        ("context", snapshot.context.to_string()),
        ("store", store.location().to_owned()),
        ("snapshot", format!("{}{}", snapshot.number, if snapshot.partial { " (partial)" } else { "" })),
        ("lineage", snapshot.lineage.to_string()),
        ("time", text::moment(snapshot.created)),
        ("session", if session.is_empty() { "-".into() } else { session }),
        ("files", totals.files.to_string()),
        ("symlinks", totals.symlinks.to_string()),
        ("size", text::bytes(totals.bytes)),
        ("tags", if tags.is_empty() { "-".into() } else { tag_list(&tags) }),
    ];
    let origin = text::forked_from(&snapshot).map(|origin| ("fork of", origin));
    for (name, value) in lines.into_iter().chain(origin) {
        means.ui.line(&format!("{name:<9} {value}"));
    }
    Ok(outcome(&snapshot))
}

async fn delete(args: &DeleteArgs, means: Means<'_>) -> Result<Finished, Failure> {
    let store = open_store(means, false)?.store;
    // Check that the context exists before asking for confirmation.
    let what = match store.head(&args.name).await {
        Ok(head) => text::count(head.totals.files, "file"),
        Err(Error::DamagedHead { .. }) => "an unknown number of files".to_owned(),
        Err(error) => return Err(error.into()),
    };
    if !args.yes {
        let question = format!("delete context {} with {what} in all its snapshots?", args.name);
        match means.ui.confirm(&question) {
            Some(true) => {}
            Some(false) => return Err(Failure::new(Exit::FAILED, "nothing was deleted")),
            None => {
                return Err(Failure::usage(format!("context {} is deleted only by consent", args.name))
                    .hint("there is no terminal to confirm on; pass --yes"));
            }
        }
    }
    store.delete_context(&args.name).await?;
    if !means.ui.is_json() {
        means.ui.line(&format!("deleted context {}", args.name));
    }
    Ok(Finished::of_context(&args.name))
}

/// Returns tags for people to read.
pub(super) fn tag_list(tags: &[TagName]) -> String {
    tags.iter().map(TagName::as_str).collect::<Vec<_>>().join(", ")
}

fn outcome(snapshot: &Snapshot) -> Finished {
    let report = SyncReport { snapshot: Some(snapshot.number), ..SyncReport::default() };
    Finished { report: Some(report), ..Finished::of_context(&snapshot.context) }
}
