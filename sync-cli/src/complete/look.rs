//! Looks into the store for what an argument may name.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use clap::FromArgMatches;
use policy_core::TreePath;
use transfer_engine::{ContextName, Env, Store};

use super::Kind;
use crate::args::{self, Cli};
use crate::config::Settings;
use crate::means::Means;
use crate::open_store::open_store;
use crate::output::Ui;
use crate::place::ContextAt;

/// How long a user waits for an answer that may not come.
const TIME: Duration = Duration::from_secs(1);
/// More would fill the terminal.
const MOST: usize = 1000;
/// Options that decide which store is meant, and how it is reached.
const OPTIONS: [&str; 5] = ["--store", "--store-option", "--config", "--profile", "--state-dir"];

/// What has been found so far, also where the time is over.
type Found = Arc<Mutex<BTreeSet<String>>>;

/// Returns how `current` may go on.
pub(super) fn found(kind: Kind, current: &str, words: &[OsString]) -> Vec<String> {
    let (found, (done, ended)) = (Found::default(), mpsc::channel());
    let (shared, current, words) = (Arc::clone(&found), current.to_owned(), words.to_vec());
    // A thread of its own, which nobody waits for: even a file of settings may not answer.
    let looking = thread::Builder::new().spawn(move || {
        let _ = look(kind, &current, &words, &shared);
        let _ = done.send(());
    });
    if looking.is_ok() {
        let _ = ended.recv_timeout(TIME);
    }
    let found = found.lock().unwrap_or_else(PoisonError::into_inner);
    found.iter().take(MOST).cloned().collect()
}

/// Says that there is nothing to find, for whatever reason.
struct Nothing;

fn look(kind: Kind, current: &str, words: &[OsString], found: &Found) -> Result<(), Nothing> {
    let settings = settings(words)?;
    let (ui, env) = (Arc::new(Ui::silent()), Env::real());
    let means = Means { settings: &settings, ui: &ui, env: &env };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.map_err(|_| Nothing)?;
    let _entered = runtime.enter();
    let opened = open_store(means, false).map_err(|_| Nothing)?;
    let store = opened.read_only(means);
    runtime.block_on(async {
        match (kind.paths.then(|| current.split_once(':')), kind.tags.then(|| current.split_once('@'))) {
            (Some(Some((place, path))), _) => paths(&store, place, path, found).await,
            (_, Some(Some((name, begin)))) => tags(&store, name, begin, found).await,
            _ => names(&store, current, found).await,
        }
    })
}

/// Returns the settings of a command with the same store.
fn settings(words: &[OsString]) -> Result<Settings, Nothing> {
    let mut line: Vec<OsString> = ["ctxsync", "context", "list"].map(OsString::from).to_vec();
    let mut rest = words.iter().take_while(|word| *word != "--");
    while let Some(word) = rest.next() {
        let Some(text) = word.to_str() else { continue };
        match text.split_once('=') {
            Some((option, _)) if OPTIONS.contains(&option) => line.push(word.clone()),
            None if OPTIONS.contains(&text) => line.extend([word].into_iter().chain(rest.next()).cloned()),
            _ => {}
        }
    }
    let matches = args::command().try_get_matches_from(line).map_err(|_| Nothing)?;
    let cli = Cli::from_arg_matches(&matches).map_err(|_| Nothing)?;
    let inner = matches.subcommand().and_then(|(_, below)| below.subcommand()).ok_or(Nothing)?.1;
    let mut settings = Settings::resolve(&cli.shared, &cli.command, inner).map_err(|_| Nothing)?;
    settings.retry_time.value = Duration::ZERO;
    settings.timeout.value = TIME;
    Ok(settings)
}

async fn names(store: &Store, begin: &str, found: &Found) -> Result<(), Nothing> {
    let contexts = store.list_contexts_but(|_, _| {}).await.map_err(|_| Nothing)?;
    let names = contexts.into_iter().map(|context| context.name.to_string());
    add(found, names.filter(|name| name.starts_with(begin)));
    Ok(())
}

async fn tags(store: &Store, name: &str, begin: &str, found: &Found) -> Result<(), Nothing> {
    let name: ContextName = name.parse().map_err(|_| Nothing)?;
    let tags = store.tags(&name).await.map_err(|_| Nothing)?;
    let tags = tags.into_values().flatten().filter(|tag| tag.as_str().starts_with(begin));
    add(found, tags.map(|tag| format!("{name}@{tag}")));
    Ok(())
}

/// Finds what is in the directory in which the path is.
async fn paths(store: &Store, place: &str, path: &str, found: &Found) -> Result<(), Nothing> {
    let context: ContextAt = place.parse().map_err(|_| Nothing)?;
    let (above, begin) = path.rsplit_once('/').map_or(("", path), |(above, begin)| (above, begin));
    let within: TreePath = above.parse().map_err(|_| Nothing)?;
    let head = if above.is_empty() { String::new() } else { format!("{above}/") };
    let snapshot = store.snapshot(&context.name, context.at).await.map_err(|_| Nothing)?;
    let entries = store.entries(&snapshot, &within, |entry| {
        let whole = entry.path.to_string();
        let Some(below) = whole.strip_prefix(&head).filter(|below| !below.is_empty() && !entry.recycled)
        else {
            return;
        };
        let (name, is_dir) = match below.split_once('/') {
            Some((dir, _)) => (dir, true),
            None => (below, entry.entry.is_dir()),
        };
        // A shell would show such a name otherwise than it is.
        if name.starts_with(begin) && !name.contains(char::is_control) {
            add(found, [format!("{place}:{head}{name}{}", if is_dir { "/" } else { "" })]);
        }
    });
    entries.await.map_err(|_| Nothing)
}

fn add(found: &Found, more: impl IntoIterator<Item = String>) {
    found.lock().unwrap_or_else(PoisonError::into_inner).extend(more);
}
