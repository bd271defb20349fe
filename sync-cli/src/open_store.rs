//! Opens the store that the settings name.

use std::env;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use object_store::ObjectStore;
use object_store::memory::InMemory;
use policy_core::Timestamp;
use storage_backends::layer::{Bandwidth, Fault, Faulty, Operation, Rule};
use storage_backends::{
    Capabilities, Listener, Notice, Patience, StoreOptions, StoreUrl, open, probe, writable,
};
use transfer_engine::format::StoreKey;
use transfer_engine::{Error, Store, was_synced_with};

use crate::config::Origin;
use crate::errors::{Failure, what_helps};
use crate::exit::Exit;
use crate::input::read_text;
use crate::means::Means;
use crate::output::Ui;
use crate::text;

/// The grace period of a store that a command creates implicitly.
pub(crate) const DEFAULT_GRACE: Duration = Duration::from_secs(24 * 60 * 60);

/// An opened store, and the object store below it.
pub(crate) struct OpenStore {
    pub(crate) store: Store,
    /// The directory of a local store.
    pub(crate) local_dir: Option<PathBuf>,
    /// How long failed requests are retried.
    pub(crate) patience: Patience,
    objects: Arc<dyn ObjectStore>,
}

/// Opens the store without a request. `create` creates the directory of a local store.
pub(crate) fn open_store(means: Means<'_>, create: bool) -> Result<OpenStore, Failure> {
    open_at(means.settings.store()?, &means.settings.store_options, means, create)
}

/// Opens the store to sync these mounts with it. `create` creates the directory of a local store, except where a mount
/// shows that there was a store.
///
/// # Errors
/// See [`refuse_gone`].
pub(crate) fn open_for<'a>(
    mounts: impl IntoIterator<Item = &'a Path>,
    means: Means<'_>,
    create: bool,
) -> Result<OpenStore, Failure> {
    let opened = open_store(means, false);
    let is_missing = match &opened {
        Ok(open) => {
            open.local_dir.as_ref().is_some_and(|dir| !dir.join(StoreKey::Meta.path().as_ref()).exists())
        }
        Err(failure) => failure.exit == Exit::NOT_FOUND,
    };
    if is_missing {
        refuse_gone(mounts, means)?;
    }
    match opened {
        Err(_) if is_missing && create => open_store(means, true),
        opened => opened,
    }
}

/// Fails if one of these mounts was synced with the store, which is missing now.
///
/// # Errors
/// [`Error::StoreGone`]: its disk may not be mounted.
pub(crate) fn refuse_gone<'a>(
    mounts: impl IntoIterator<Item = &'a Path>,
    means: Means<'_>,
) -> Result<(), Failure> {
    let (state, store) = (means.settings.state_dir()?, means.settings.store()?.to_string());
    for mount in mounts {
        if was_synced_with(state, mount, &store)? {
            return Err(Error::StoreGone { location: store }.into());
        }
    }
    Ok(())
}

/// Opens the store at this address, with these settings of its backend, without a request.
pub(crate) fn open_at(
    url: &StoreUrl,
    options: &[(String, String, Origin)],
    means: Means<'_>,
    create: bool,
) -> Result<OpenStore, Failure> {
    let (settings, backend) = (means.settings, options);
    let mut options = StoreOptions::default()
        .with_env(
            env::vars_os()
                .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))),
        )
        .with_settings(backend.iter().map(|(key, value, _)| (key.clone(), value.clone())));
    options.create = create;
    options.retry_time = settings.retry_time.value;
    options.retries = settings.retries.value;
    options.listener = Some(listener(means.ui));
    options.timeout = settings.timeout.value;
    options.connections = options.connections.max(settings.concurrency.value.get());
    let home = settings.dirs.home.as_deref();
    if let Some(text) = aws_file("AWS_SHARED_CREDENTIALS_FILE", home, ".aws/credentials") {
        options = options.with_aws_credentials(text);
    }
    if let Some(text) = aws_file("AWS_CONFIG_FILE", home, ".aws/config") {
        options = options.with_aws_config(text);
    }
    let opened = open(url, &options)?;
    let objects = match settings.bwlimit.value {
        Some(rate) => Arc::new(Bandwidth::new(opened.store, Some(rate), Some(rate))),
        None => opened.store,
    };
    let mut store = Store::new(Arc::clone(&objects), opened.url, means.env.clone());
    if let Some(dir) = &opened.local_dir {
        store = store.listed_in_order().in_directory(dir);
    }
    means.ui.known().note_store(&store);
    Ok(OpenStore { store, local_dir: opened.local_dir, patience: opened.patience, objects })
}

/// Reports a store that does not answer, on the terminal and in the log. What to do is said once.
fn listener(ui: &Arc<Ui>) -> Listener {
    let ui = Arc::clone(ui);
    let has_hinted = AtomicBool::new(false);
    Arc::new(move |notice| match notice {
        Notice::Waiting { cause, left } => {
            let hint = what_helps(cause).filter(|_| !has_hinted.swap(true, Ordering::Relaxed));
            let until = SystemTime::now() + *left;
            let since_1970 = until.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
            let until = text::moment(Timestamp { secs: since_1970.cast_signed(), nanos: 0 });
            let cause = policy_core::escape(cause.as_bytes());
            let message = format!("the store does not answer ({cause}); trying again until {until}");
            tracing::warn!("{message}");
            ui.warning(&message);
            if let Some(hint) = hint {
                ui.hint(&hint);
            }
        }
        Notice::Back { after } => {
            let message = format!("the store answers again, after {}", text::span(*after));
            tracing::info!("{message}");
            ui.note(&message);
        }
        _ => {}
    })
}

/// Returns an empty store in memory, for a dry run against a store that does not exist.
pub(crate) async fn imagined_store(means: Means<'_>) -> Result<Store, Failure> {
    imagined_at(means.settings.store()?, means).await
}

/// The same for a store at this address.
pub(crate) async fn imagined_at(url: &StoreUrl, means: Means<'_>) -> Result<Store, Failure> {
    let store = Store::new(Arc::new(InMemory::new()), url.to_string(), means.env.clone());
    store.init(DEFAULT_GRACE).await?;
    Ok(store)
}

/// Reads one of AWS's files. A file that is missing or unreadable counts as not given.
fn aws_file(variable: &str, home: Option<&Path>, default: &str) -> Option<String> {
    let path = env::var_os(variable).map(PathBuf::from).or_else(|| home.map(|home| home.join(default)))?;
    read_text(&path).ok()
}

impl OpenStore {
    /// Checks what a commit relies on.
    pub(crate) async fn probe(&self) -> Result<Capabilities, Failure> {
        Ok(probe(&self.objects).await?)
    }

    /// Fails if the store is known not to be writable.
    pub(crate) async fn prove_writable(&self) -> Result<(), Failure> {
        Ok(writable(&self.objects).await?)
    }

    /// Returns the store so that nothing can be written to it, not even what only makes later commands faster.
    pub(crate) fn read_only(&self, means: Means<'_>) -> Store {
        let refusing = Faulty::new(Arc::clone(&self.objects), 0);
        for operation in [Operation::Put, Operation::Delete, Operation::Copy, Operation::Rename] {
            refusing.add(Rule::new(Fault::FailBefore).on(operation));
        }
        let store = Store::new(Arc::new(refusing), self.store.location(), means.env.clone());
        match &self.local_dir {
            Some(dir) => store.listed_in_order().in_directory(dir),
            None => store,
        }
    }

    /// Creates the store if it is missing, after the check.
    pub(crate) async fn make(&self) -> Result<(), Failure> {
        self.probe().await?;
        self.store.init(DEFAULT_GRACE).await?;
        Ok(())
    }
}
