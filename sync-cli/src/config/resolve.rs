//! Resolves settings: a flag overrides a variable, that the profile, and that the default. Notes where each
//! value comes from.

use std::ffi::OsString;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use clap::ArgMatches;
use clap::parser::ValueSource;
use storage_backends::{StoreOptions, StoreUrl, parse_setting};
use transfer_engine::SyncOptions;

use super::Dirs;
use super::file::{ConfigFile, Values};
use super::settings::{Origin, Setting, Settings};
use crate::args::{Color, Command, Shared, variable};
use crate::errors::Failure;
use crate::extract_limits::Limits;
use crate::values::{Size, Span};

/// The sources of values, from the strongest to the weakest.
struct Sources<'a> {
    matches: &'a ArgMatches,
    file: &'a ConfigFile,
}

impl Sources<'_> {
    /// Returns whether an option was given, on the command line or by its variable, and where.
    fn given(&self, id: &str) -> Option<Origin> {
        // This is also called for commands that do not have the option, since all commands have the same
        // settings.
        match self.matches.try_get_raw(id).ok().and_then(|_| self.matches.value_source(id))? {
            ValueSource::CommandLine => Some(Origin::Flag),
            ValueSource::EnvVariable => Some(Origin::Variable(variable(id))),
            _ => None,
        }
    }

    fn pick<T>(
        &self,
        id: &str,
        typed: Option<T>,
        stored: impl Fn(&Values) -> Option<T>,
        default: T,
    ) -> Setting<T> {
        if let (Some(origin), Some(value)) = (self.given(id), typed) {
            return Setting { value, origin };
        }
        if let Some((name, values)) = &self.file.profile
            && let Some(value) = stored(values)
        {
            return Setting { value, origin: Origin::Profile(name.clone()) };
        }
        match stored(&self.file.top) {
            Some(value) => Setting { value, origin: Origin::File },
            None => Setting { value: default, origin: Origin::Default },
        }
    }
}

impl Settings {
    /// Resolves and checks all settings. `matches` are those of the innermost command.
    pub(crate) fn resolve(shared: &Shared, command: &Command, matches: &ArgMatches) -> Result<Self, Failure> {
        let dirs = Dirs::from_env();
        let config = shared.config.clone().or_else(|| dirs.config_file());
        let file = match &config {
            Some(path) => ConfigFile::read(path, shared.config.is_some(), shared.profile.as_deref())?,
            None => ConfigFile::default(),
        };
        let from = Sources { matches, file: &file };
        let quiesce = command.quiesce();
        let (defaults, store_defaults) = (SyncOptions::default(), StoreOptions::default());
        // An option of this name: its value on the command line, by its variable, or in the file, and its default.
        macro_rules! option {
            ($name:ident, |$v:ident| $value:expr, $default:expr) => {{
                let $v = shared;
                from.pick(stringify!($name), $value, |$v| $value, $default)
            }};
        }
        // A flag that the file may hold, and one that it may not.
        macro_rules! flag {
            ($name:ident, in file) => {
                from.pick(stringify!($name), Some(shared.$name), |v| v.$name, false)
            };
            ($name:ident) => {
                from.pick(stringify!($name), Some(shared.$name), |_| None, false)
            };
        }
        Ok(Self {
            store: store(shared, &from, &dirs)?,
            store_options: store_options(shared, &from)?,
            dst_options: match command {
                Command::Copy(args) => pairs("dst_option", &args.dst_option, &from)?,
                _ => Vec::new(),
            },
            config: used(config, &from),
            profile_origin: from.given("profile"),
            profile: file.profile.as_ref().map(|(name, _)| name.clone()),
            state_dir: state_dir(shared, &from, &dirs)?,
            policy: option!(policy, |v| v.policy.clone().map(Some), None),
            exclude: from.pick("exclude", excluded(shared, &from), |v| v.exclude.clone(), Vec::new()),
            dry_run: flag!(dry_run),
            checksum: flag!(checksum, in file),
            conflict: option!(conflict, |v| v.conflict.map(Some), None),
            max_delete: option!(max_delete, |v| v.max_delete.map(|d| Some(d.0)), None),
            allow_empty_mount: flag!(allow_empty_mount),
            one_file_system: flag!(one_file_system, in file),
            strict: flag!(strict, in file),
            max_upload: option!(max_upload, |v| size(v.max_upload), None),
            extract_limits: option!(
                extract_limits,
                |v| v.extract_limits.clone(),
                Limits(defaults.extract.clone())
            ),
            chown: option!(chown, |v| v.chown.clone().map(Some), None),
            concurrency: option!(concurrency, |v| v.concurrency, defaults.concurrency),
            // As in other tools, a limit of 0 means no limit.
            bwlimit: option!(bwlimit, |v| v.bwlimit.map(|s| NonZeroU64::new(s.0)), None),
            memory: option!(memory, |v| v.memory.map(|s| s.0), defaults.memory),
            retry_time: option!(retry_time, |v| v.retry_time.map(|s| s.0), store_defaults.retry_time),
            retries: option!(retries, |v| v.retries.map(Some), store_defaults.retries),
            timeout: option!(timeout, |v| v.timeout.map(|s| s.0), store_defaults.timeout),
            kill_after: kill_after(command, &from)?,
            release_timeout: release_timeout(command, &from)?,
            metrics_file: metrics_file(command, &from),
            safety_scan: safety_scan(command, &from)?,
            quiesce: shell_command("quiesce", quiesce.map(|args| &args.quiesce), |v| &v.quiesce, &from),
            resume: shell_command("resume", quiesce.map(|args| &args.resume), |v| &v.resume, &from),
            quiesce_timeout: quiesce_timeout(command, &from)?,
            json: flag!(json),
            quiet: flag!(quiet, in file),
            verbose: from.pick("verbose", Some(shared.verbose), |v| v.verbose, 0),
            no_progress: flag!(no_progress, in file),
            no_pager: flag!(no_pager, in file),
            color: option!(color, |v| v.color, Color::Auto),
            utc: flag!(utc, in file),
            bytes: flag!(bytes, in file),
            log_file: option!(log_file, |v| v.log_file.clone().map(Some), None),
            only_origin: from.given("only").unwrap_or(Origin::Default),
            mounts_origin: from.given("mounts").unwrap_or(Origin::Default),
            require_origin: from.given("require").unwrap_or(Origin::Default),
            dirs,
        })
    }
}

/// Returns the config file, if there is one.
fn used(config: Option<PathBuf>, from: &Sources<'_>) -> Setting<Option<PathBuf>> {
    let origin = from.given("config").unwrap_or(Origin::Default);
    Setting { value: config.filter(|path| path.exists()), origin }
}

fn store(shared: &Shared, from: &Sources<'_>, dirs: &Dirs) -> Result<Setting<Option<StoreUrl>>, Failure> {
    let given = from.pick("store", shared.store.clone().map(Some), |v| v.store.clone().map(Some), None);
    Ok(match given.value {
        None => Setting { value: dirs.store().map(StoreUrl::local), origin: Origin::Default },
        Some(text) => Setting { value: Some(parse_store(&text)?), origin: given.origin },
    })
}

/// Returns the patterns that were typed or exported.
fn excluded(shared: &Shared, from: &Sources<'_>) -> Option<Vec<String>> {
    let origin = from.given("exclude")?;
    // A variable holds one text; on the command line a comma is part of the pattern.
    let separator = |c| c == ',' && origin != Origin::Flag;
    let patterns = shared.exclude.iter().flat_map(|typed| typed.split(separator));
    Some(patterns.filter(|pattern| !pattern.is_empty()).map(str::to_owned).collect())
}

fn state_dir(shared: &Shared, from: &Sources<'_>, dirs: &Dirs) -> Result<Setting<Option<PathBuf>>, Failure> {
    let (typed, stored) = (shared.state_dir.clone(), |v: &Values| v.state_dir.clone().map(Some));
    let given = from.pick("state_dir", typed.map(Some), stored, None);
    Ok(match given.value {
        None => Setting { value: dirs.state(), origin: Origin::Default },
        Some(value) => Setting { value: Some(absolute(value)?), origin: given.origin },
    })
}

#[expect(clippy::option_option, reason = "given, and what was given")]
fn size(given: Option<Size>) -> Option<Option<u64>> {
    given.map(|s| Some(s.0))
}

fn absolute(path: PathBuf) -> Result<PathBuf, Failure> {
    std::path::absolute(&path).map_err(|error| Failure::local("resolve", &path, &error))
}

/// Parses the address of a store, which may be a path relative to the current directory.
pub(crate) fn parse_store(text: &str) -> Result<StoreUrl, Failure> {
    let parse = |base: &Path| {
        StoreUrl::parse(text, base).map_err(|error| {
            Failure::usage(error.to_string()).hint(
                "a store is a directory, s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or az://CONTAINER/PREFIX",
            )
        })
    };
    match absolute(PathBuf::from(".")) {
        Ok(dir) => parse(&dir),
        // The current directory may have been deleted, which matters only for a relative path.
        Err(failure) => {
            let url = parse(Path::new("/"))?;
            if url == parse(Path::new("/elsewhere"))? { Ok(url) } else { Err(failure) }
        }
    }
}

/// Returns how long `run` gives its command to end.
fn kill_after(command: &Command, from: &Sources<'_>) -> Result<Setting<Duration>, Failure> {
    let (typed, knows) = match command {
        Command::Run(run) => (run.kill_after, true),
        _ => (None, false),
    };
    let given = |span: Option<Span>| span.map(|span| span.0);
    let setting = from.pick("kill_after", given(typed), |v| given(v.kill_after), Duration::from_secs(5));
    if knows { Ok(setting) } else { exported("kill-after", setting, |span: Span| span.0) }
}

/// Returns the time limit of the release of `run` and `watch`.
fn release_timeout(command: &Command, from: &Sources<'_>) -> Result<Setting<Option<Duration>>, Failure> {
    let ending = command.ending();
    let given = |span: Option<Span>| span.map(|span| Some(span.0));
    let typed = ending.and_then(|ending| ending.release_timeout);
    let setting = from.pick("release_timeout", given(typed), |v| given(v.release_timeout), None);
    match ending {
        Some(_) => Ok(setting),
        None => exported("release-timeout", setting, |span: Span| Some(span.0)),
    }
}

/// Returns the metrics file of `run` and `watch`.
fn metrics_file(command: &Command, from: &Sources<'_>) -> Setting<Option<PathBuf>> {
    let ending = command.ending();
    let typed = ending.and_then(|ending| ending.metrics_file.clone());
    let setting = from.pick("metrics_file", typed.map(Some), |v| v.metrics_file.clone().map(Some), None);
    let name = variable("metrics-file");
    match std::env::var_os(&name).filter(|_| ending.is_none()) {
        Some(path) => Setting { value: Some(path.into()), origin: Origin::Variable(name) },
        None => setting,
    }
}

/// Returns how often `run` and `watch` scan their mounts without a notification.
fn safety_scan(command: &Command, from: &Sources<'_>) -> Result<Setting<Duration>, Failure> {
    let ending = command.ending();
    let given = |span: Option<Span>| span.map(|span| span.0);
    let typed = given(ending.and_then(|ending| ending.safety_scan));
    let setting = from.pick("safety_scan", typed, |v| given(v.safety_scan), Duration::from_secs(30));
    if ending.is_some() { Ok(setting) } else { exported("safety-scan", setting, |span: Span| span.0) }
}

/// Returns a command that runs before or after each reading of the mount.
fn shell_command(
    option: &str,
    typed: Option<&Option<OsString>>,
    stored: impl Fn(&Values) -> &Option<String>,
    from: &Sources<'_>,
) -> Setting<Option<OsString>> {
    let given = typed.cloned().flatten().map(Some);
    let setting = from.pick(option, given, |v| stored(v).clone().map(|text| Some(text.into())), None);
    let name = variable(option);
    match std::env::var_os(&name).filter(|_| typed.is_none()) {
        Some(text) => Setting { value: Some(text), origin: Origin::Variable(name) },
        None => setting,
    }
}

/// Returns the time limit of each of those commands.
fn quiesce_timeout(command: &Command, from: &Sources<'_>) -> Result<Setting<Duration>, Failure> {
    let args = command.quiesce();
    let given = |span: Option<Span>| span.map(|span| span.0);
    let typed = given(args.and_then(|args| args.quiesce_timeout));
    let default = Duration::from_secs(60);
    let setting = from.pick("quiesce_timeout", typed, |v| given(v.quiesce_timeout), default);
    if args.is_some() { Ok(setting) } else { exported("quiesce-timeout", setting, |span: Span| span.0) }
}

/// Applies an option's variable for a command that does not have the option, so that `config` shows it.
fn exported<T, V: FromStr<Err = String>>(
    option: &str,
    setting: Setting<T>,
    value: impl FnOnce(V) -> T,
) -> Result<Setting<T>, Failure> {
    let name = variable(option);
    match std::env::var(&name) {
        Ok(text) => {
            let parsed = text.parse().map_err(|why| Failure::usage(format!("{name}: {why}")))?;
            Ok(Setting { value: value(parsed), origin: Origin::Variable(name) })
        }
        Err(_) => Ok(setting),
    }
}

/// Collects the store's options, the strongest last.
fn store_options(shared: &Shared, from: &Sources<'_>) -> Result<Vec<(String, String, Origin)>, Failure> {
    let mut options = Vec::new();
    let layers = [
        (Some(&from.file.top), Origin::File),
        (
            from.file.profile.as_ref().map(|(_, values)| values),
            from.file.profile.as_ref().map_or(Origin::File, |(name, _)| Origin::Profile(name.clone())),
        ),
    ];
    for (values, origin) in layers {
        for (key, value) in values.iter().flat_map(|v| &v.store_option) {
            options.push((key.clone(), value.clone(), origin.clone()));
        }
    }
    options.extend(pairs("store_option", &shared.store_option, from)?);
    Ok(options)
}

/// Returns the settings of a backend that were typed or exported.
fn pairs(id: &str, typed: &[String], from: &Sources<'_>) -> Result<Vec<(String, String, Origin)>, Failure> {
    let mut pairs = Vec::new();
    let Some(origin) = from.given(id) else { return Ok(pairs) };
    for typed in typed {
        // A variable holds one text; on the command line a comma is part of the value.
        let separator = |c| c == ',' && origin != Origin::Flag;
        for pair in typed.split(separator).filter(|pair| !pair.is_empty()) {
            let (key, value) = parse_setting(pair).map_err(|error| Failure::usage(error.to_string()))?;
            pairs.push((key, value, origin.clone()));
        }
    }
    Ok(pairs)
}
