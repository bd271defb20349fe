//! `context tag` and `context untag`: names for snapshots.

use transfer_engine::{At, ContextName, Store, SyncReport, TagName};

use super::Finished;
use crate::args::{TagArgs, UntagArgs};
use crate::errors::Failure;
use crate::means::Means;
use crate::open_store::open_store;
use crate::output::json::{ContextLine, Line};

pub(super) async fn tag(args: &TagArgs, means: Means<'_>) -> Result<Finished, Failure> {
    let (name, tag) = (&args.context.name, &args.tag);
    let store = open_store(means, false)?.store;
    let number = store.tag(name, args.context.at.clone(), tag).await?;
    tell(&store, name, number, &format!("tagged {name}@{number} as {tag}"), means).await
}

pub(super) async fn untag(args: &UntagArgs, means: Means<'_>) -> Result<Finished, Failure> {
    let name = &args.context.name;
    let (tag, at) = match (&args.context.at, &args.tag) {
        (At::Tag(tag), None) => (tag, At::Head),
        (At::Tag(_), Some(_)) => {
            return Err(Failure::usage("a tag was given twice").hint(format!(
                "write `ctxsync context untag {name}@TAG`, or with the snapshot's number `{name}@N TAG`"
            )));
        }
        (_, None) => {
            return Err(Failure::usage("no tag was given")
                .hint(format!("write `ctxsync context untag {name}@TAG`; `ctxsync log {name}` lists tags")));
        }
        (at, Some(tag)) => (tag, at.clone()),
    };
    let store = open_store(means, false)?.store;
    match store.untag(name, tag, at).await? {
        Some(number) => {
            tell(&store, name, number, &format!("took the tag {tag} off {name}@{number}"), means).await
        }
        None => {
            if !means.ui.is_json() {
                means.ui.line(&format!("deleted the damaged tag {tag} of {name}"));
            }
            Ok(Finished::of_context(name))
        }
    }
}

async fn tell(
    store: &Store,
    name: &ContextName,
    number: u64,
    text: &str,
    means: Means<'_>,
) -> Result<Finished, Failure> {
    if means.ui.is_json() {
        let tags: Vec<TagName> = store.tags(name).await?.remove(&number).unwrap_or_default();
        means.ui.object(&Line::Context(ContextLine {
            snapshot: Some(number),
            tags: Some(&tags),
            ..ContextLine::name_only(name.as_str())
        }));
    } else {
        means.ui.line(text);
    }
    let report = SyncReport { snapshot: Some(number), ..SyncReport::default() };
    Ok(Finished { report: Some(report), ..Finished::of_context(name) })
}
