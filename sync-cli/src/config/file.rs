//! The config file.

use std::collections::BTreeMap;
use std::io;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::args::{Color, Conflict};
use crate::errors::Failure;
use crate::extract_limits::Limits;
use crate::input::read_text;
use crate::owner::Owner;
use crate::values::{Deletions, Size, Span};

/// The content of the config file: the values at the top apply always, those in `[profiles.NAME]` only with
/// that profile.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Document {
    /// The profile to use if none is named elsewhere.
    profile: Option<String>,
    #[serde(default)]
    profiles: BTreeMap<String, Values>,
    // These fields repeat `Values`: serde's `flatten` can't be combined with `deny_unknown_fields`.
    store: Option<String>,
    #[serde(default)]
    store_option: BTreeMap<String, String>,
    state_dir: Option<PathBuf>,
    policy: Option<PathBuf>,
    exclude: Option<Vec<String>>,
    checksum: Option<bool>,
    conflict: Option<Conflict>,
    max_delete: Option<Deletions>,
    one_file_system: Option<bool>,
    strict: Option<bool>,
    max_upload: Option<Size>,
    extract_limits: Option<Limits>,
    chown: Option<Owner>,
    concurrency: Option<NonZeroUsize>,
    bwlimit: Option<Size>,
    memory: Option<Size>,
    retry_time: Option<Span>,
    retries: Option<usize>,
    timeout: Option<Span>,
    kill_after: Option<Span>,
    release_timeout: Option<Span>,
    metrics_file: Option<PathBuf>,
    safety_scan: Option<Span>,
    quiesce: Option<String>,
    resume: Option<String>,
    quiesce_timeout: Option<Span>,
    quiet: Option<bool>,
    verbose: Option<u8>,
    no_progress: Option<bool>,
    no_pager: Option<bool>,
    color: Option<Color>,
    utc: Option<bool>,
    bytes: Option<bool>,
    log_file: Option<PathBuf>,
}

/// Settings of one part of the config file. The names are those of the flags.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Values {
    pub(crate) store: Option<String>,
    #[serde(default)]
    pub(crate) store_option: BTreeMap<String, String>,
    pub(crate) state_dir: Option<PathBuf>,
    pub(crate) policy: Option<PathBuf>,
    pub(crate) exclude: Option<Vec<String>>,
    pub(crate) checksum: Option<bool>,
    pub(crate) conflict: Option<Conflict>,
    pub(crate) max_delete: Option<Deletions>,
    pub(crate) one_file_system: Option<bool>,
    pub(crate) strict: Option<bool>,
    pub(crate) max_upload: Option<Size>,
    pub(crate) extract_limits: Option<Limits>,
    pub(crate) chown: Option<Owner>,
    pub(crate) concurrency: Option<NonZeroUsize>,
    pub(crate) bwlimit: Option<Size>,
    pub(crate) memory: Option<Size>,
    pub(crate) retry_time: Option<Span>,
    pub(crate) retries: Option<usize>,
    pub(crate) timeout: Option<Span>,
    pub(crate) kill_after: Option<Span>,
    pub(crate) release_timeout: Option<Span>,
    pub(crate) metrics_file: Option<PathBuf>,
    pub(crate) safety_scan: Option<Span>,
    pub(crate) quiesce: Option<String>,
    pub(crate) resume: Option<String>,
    pub(crate) quiesce_timeout: Option<Span>,
    pub(crate) quiet: Option<bool>,
    pub(crate) verbose: Option<u8>,
    pub(crate) no_progress: Option<bool>,
    pub(crate) no_pager: Option<bool>,
    pub(crate) color: Option<Color>,
    pub(crate) utc: Option<bool>,
    pub(crate) bytes: Option<bool>,
    pub(crate) log_file: Option<PathBuf>,
}

/// A parsed config file.
#[derive(Debug, Clone, Default)]
pub(crate) struct ConfigFile {
    /// The values at the top.
    pub(crate) top: Values,
    /// The chosen profile, with its name.
    pub(crate) profile: Option<(String, Values)>,
}

impl ConfigFile {
    /// Reads the file at `path`. The file may be missing unless it is `required`. Relative paths in it are
    /// relative to its own directory.
    pub(crate) fn read(path: &Path, required: bool, profile: Option<&str>) -> Result<Self, Failure> {
        let text = match read_text(path) {
            Ok(text) => text,
            // A program that has dropped its user's rights may still have that user's HOME.
            Err(error)
                if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied)
                    && !required =>
            {
                return match profile {
                    None => Ok(Self::default()),
                    Some(name) => Err(Failure::usage(format!(
                        "there is no profile `{name}`: {} does not exist, or may not be read",
                        path.display()
                    ))),
                };
            }
            Err(error) => return Err(Failure::unreadable("config file", path, &error)),
        };
        Self::parse(&text, profile)
            .map_err(|why| match why {
                Why::Syntax { error, profile } => Failure::usage(format!(
                    "the config file {} is not valid",
                    path.display()
                ))
                .caused_by(&error)
                .hint(match profile {
                    Some(name) => format!("a profile's table is called `[profiles.{name}]`"),
                    None => {
                        "the names are those of the options, without the dashes in front: `ctxsync --help`"
                            .to_owned()
                    }
                }),
                Why::Profile { name, known } => {
                    let failure = Failure::usage(format!("{} has no profile `{name}`", path.display()));
                    if known.is_empty() {
                        failure
                    } else {
                        failure.hint(format!("it has: {}", known.join(", ")))
                    }
                }
            })
            .map(|file| file.below(path.parent().unwrap_or(Path::new(""))))
    }

    fn parse(text: &str, profile: Option<&str>) -> Result<Self, Why> {
        let document: Document = toml::from_str(text)
            .map_err(|error| Why::Syntax { error: Box::new(error), profile: misnamed_profile(text) })?;
        let chosen = profile.map(str::to_owned).or(document.profile);
        let mut profiles = document.profiles;
        let profile = match chosen {
            None => None,
            Some(name) => match profiles.remove(&name) {
                Some(values) => Some((name, values)),
                None => return Err(Why::Profile { name, known: profiles.into_keys().collect() }),
            },
        };
        let top = Values {
            store: document.store,
            store_option: document.store_option,
            state_dir: document.state_dir,
            policy: document.policy,
            exclude: document.exclude,
            checksum: document.checksum,
            conflict: document.conflict,
            max_delete: document.max_delete,
            one_file_system: document.one_file_system,
            strict: document.strict,
            max_upload: document.max_upload,
            extract_limits: document.extract_limits,
            chown: document.chown,
            concurrency: document.concurrency,
            bwlimit: document.bwlimit,
            memory: document.memory,
            retry_time: document.retry_time,
            retries: document.retries,
            timeout: document.timeout,
            kill_after: document.kill_after,
            release_timeout: document.release_timeout,
            metrics_file: document.metrics_file,
            safety_scan: document.safety_scan,
            quiesce: document.quiesce,
            resume: document.resume,
            quiesce_timeout: document.quiesce_timeout,
            quiet: document.quiet,
            verbose: document.verbose,
            no_progress: document.no_progress,
            no_pager: document.no_pager,
            color: document.color,
            utc: document.utc,
            bytes: document.bytes,
            log_file: document.log_file,
        };
        Ok(Self { top, profile })
    }

    fn below(mut self, dir: &Path) -> Self {
        for values in
            [Some(&mut self.top), self.profile.as_mut().map(|(_, values)| values)].into_iter().flatten()
        {
            let paths =
                [&mut values.state_dir, &mut values.policy, &mut values.metrics_file, &mut values.log_file];
            for path in paths.into_iter().flatten() {
                *path = dir.join(&path);
            }
        }
        self
    }
}

/// Returns the name of the profile in a table `[profile.NAME]`, which should be `[profiles.NAME]`.
fn misnamed_profile(text: &str) -> Option<String> {
    let document: toml::Table = text.parse().ok()?;
    document.get("profile")?.as_table()?.keys().next().cloned()
}

enum Why {
    /// `profile` is the name of a profile whose table has the wrong name.
    Syntax {
        error: Box<toml::de::Error>,
        profile: Option<String>,
    },
    Profile {
        name: String,
        known: Vec<String>,
    },
}

#[cfg(test)]
mod tests {
    use ctxsync_tests::random::Random;

    use super::*;

    #[test]
    fn a_profile_by_name_or_by_default() {
        let text =
            "profile = 'a'\nbwlimit = '1M'\n[profiles.a]\nretries = 3\n[profiles.b]\nmax-delete = '5%'\n";
        let file = ConfigFile::parse(text, None).ok().unwrap();
        assert_eq!(file.profile.unwrap().0, "a");
        let file = ConfigFile::parse(text, Some("b")).ok().unwrap();
        assert!(file.profile.unwrap().1.max_delete.is_some());
        assert_eq!(file.top.bwlimit, Some(Size(1 << 20)));
        assert!(matches!(ConfigFile::parse(text, Some("c")), Err(Why::Profile { .. })));
    }

    /// As a fuzzer would: the program is no library that a fuzz target could use.
    #[test]
    fn whatever_a_config_file_holds_is_read_or_refused() {
        const WHOLE: &str = "profile = 'a'\nstore = 's3://b/p'\nstore-option = { region = 'x' }\nmax-delete = '5%'\n\
                             conflict = 'fail'\nmax-upload = '1.5G'\nextract-limits = 'bytes=1T,ratio=9'\nchown = '1:2'\n\
                             concurrency = 8\nbwlimit = '10MiB'\nretry-time = '1h'\ntimeout = 250\nquiet = true\n\
                             verbose = 2\ncolor = 'never'\n[profiles.a]\nretries = 3\npolicy = 'p.json'\n";
        const SIGNS: &[u8] = b"0123456789.-%=[]{}'\"\\\n\xc3\xa9\0eEkKtTsdh";
        assert!(ConfigFile::parse(WHOLE, None).is_ok());
        let rounds = std::env::var("CTXSYNC_CONFIGS").map_or(2000, |rounds| rounds.parse().unwrap());
        let mut random = Random::new(7);
        for _ in 0..rounds {
            let mut bytes = WHOLE.as_bytes().to_vec();
            for _ in 0..=random.below(4) {
                let (at, from) = (random.below(bytes.len()), random.below(WHOLE.len()));
                let piece = &WHOLE.as_bytes()[from..(from + random.below(9)).min(WHOLE.len())];
                match random.below(3) {
                    0 => bytes[at] = SIGNS[random.below(SIGNS.len())],
                    1 => drop(bytes.splice(at..at, piece.iter().copied())),
                    _ => drop(bytes.drain(at..(at + random.below(9) + 1).min(bytes.len()))),
                }
            }
            // No text is a mistake as well, which the reading of the file finds.
            let _ = ConfigFile::parse(&String::from_utf8_lossy(&bytes), None);
        }
    }

    #[test]
    fn a_profile_under_the_wrong_name_is_noticed() {
        let parsed = ConfigFile::parse("[profile.work]\nstore = 'a'\n", None);
        assert!(matches!(parsed, Err(Why::Syntax { profile: Some(name), .. }) if name == "work"));
    }

    #[test]
    fn unknown_names_and_bad_values_are_refused() {
        for bad in ["bwlimt = 1", "[profiles.a]\nx = 1", "timeout = 'soon'", "conflict = 'merge'"] {
            assert!(matches!(ConfigFile::parse(bad, None), Err(Why::Syntax { profile: None, .. })), "{bad}");
        }
    }
}
