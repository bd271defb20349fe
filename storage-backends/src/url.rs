//! The location of a store, as a value that can be printed safely.

use std::fmt;
use std::path::{Path as FsPath, PathBuf};

use object_store::path::Path;

const SCHEMES: [&str; 5] = ["file", "s3", "gs", "az", "memory"];

/// The location of a store: a directory, a bucket with a prefix, or memory.
///
/// A value that exists is valid:
/// * a directory is absolute;
/// * a bucket's name is not empty and has only letters, digits, `.`, `-` and `_`;
/// * a prefix has no empty, `.` or `..` part, and is taken literally (nothing in it is decoded);
/// * it has no user info and no query, so it can't contain a secret.
///
/// If [`StoreUrl::parse`] reads what `Display` or `Debug` prints, the result is the same location.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct StoreUrl {
    address: Address,
}

#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) enum Address {
    Local(PathBuf),
    Memory(Path),
    Cloud { cloud: Cloud, bucket: String, prefix: Path },
}

/// The kind of a store's backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Backend {
    /// A directory of a local file system.
    Local,
    /// The memory of this process.
    Memory,
    /// A service that is reached over HTTP.
    Cloud(Cloud),
}

/// The protocol of a store that is reached over HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cloud {
    /// S3 and what is compatible with it (`s3://`).
    S3,
    /// Google Cloud Storage (`gs://`).
    Gcs,
    /// Azure Blob Storage (`az://`).
    Azure,
}

impl Cloud {
    /// Returns the scheme that names this protocol in a URL.
    pub fn scheme(self) -> &'static str {
        match self {
            Self::S3 => "s3",
            Self::Gcs => "gs",
            Self::Azure => "az",
        }
    }

    /// Returns the feature of this crate with which stores of this protocol can be opened.
    pub fn feature(self) -> &'static str {
        match self {
            Self::S3 => "aws",
            Self::Gcs => "gcp",
            Self::Azure => "azure",
        }
    }
}

/// Why a text is not the location of a store. No message repeats user info or a query.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UrlError {
    /// The text is empty.
    #[error("the store's URL is empty")]
    Empty,
    /// The scheme is unknown.
    #[error(
        "unknown scheme `{scheme}:` in the store's URL{} (known: file, s3, gs, az, memory; a directory \
         with a colon in its name is written `./NAME`)",
        nearest.map(|name| format!("; did you mean `{name}:`?")).unwrap_or_default()
    )]
    UnknownScheme {
        /// The scheme as given.
        scheme: String,
        /// The known scheme that is most similar.
        nearest: Option<&'static str>,
    },
    /// A URL of a cloud names no bucket or container.
    #[error("`{scheme}://` needs the name of a {}", bucket_word(scheme))]
    MissingBucket {
        /// The URL's scheme.
        scheme: &'static str,
    },
    /// The bucket's name has a character that no bucket's name can have. The message does not show the name,
    /// which may be half of a password.
    #[error("the {} in the store's URL may hold only letters, digits, `.`, `-` and `_`", bucket_word(scheme))]
    BadBucket {
        /// The URL's scheme.
        scheme: &'static str,
    },
    /// The URL has user info before an `@`.
    #[error(
        "the store's URL holds user info (`...@`); credentials come from the environment or from options"
    )]
    UserInfo,
    /// The URL has a query after a `?`.
    #[error("the store's URL holds a query (`?...`); settings are given as options")]
    Query,
    /// A prefix has a part that is empty, `.` or `..`, or a control character.
    #[error("the prefix `{}` in the store's URL is not allowed: {reason}", prefix.escape_debug())]
    BadPrefix {
        /// The prefix as given.
        prefix: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A `file:` URL names another machine, is relative, or is wrongly encoded.
    #[error("`{}` is not a usable file URL: {reason}", url.escape_debug())]
    BadFile {
        /// The URL as given.
        url: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A path starts with `~`, which only a shell expands.
    #[error("`~` at the start of the store's path is expanded by shells only; write the path in full")]
    Tilde,
}

fn bucket_word(scheme: &str) -> &'static str {
    if scheme == "az" { "container" } else { "bucket" }
}

impl StoreUrl {
    /// Parses a URL or a plain path. A relative path is below `base`.
    ///
    /// The forms are `file:///dir`, a plain path, `s3://bucket/prefix`, `gs://bucket/prefix`,
    /// `az://container/prefix` and `memory:`.
    ///
    /// # Errors
    /// A [`UrlError`], which says what is wrong without repeating anything that may be a secret.
    pub fn parse(text: &str, base: &FsPath) -> Result<Self, UrlError> {
        if text.is_empty() {
            return Err(UrlError::Empty);
        }
        let Some((scheme, rest)) = split_scheme(text) else {
            if text == "~" || text.starts_with("~/") {
                return Err(UrlError::Tilde);
            }
            return Ok(Self::local(base.join(text)));
        };
        let cloud = match scheme.to_ascii_lowercase().as_str() {
            "file" => return parse_file(text, rest),
            "memory" => {
                let prefix = parse_prefix(rest)?;
                return Ok(Self { address: Address::Memory(prefix) });
            }
            "s3" => Cloud::S3,
            "gs" => Cloud::Gcs,
            "az" => Cloud::Azure,
            other => return Err(unknown_scheme(other)),
        };
        parse_cloud(cloud, rest)
    }

    /// Returns the location of a local store in `dir`, which may have any name and must be absolute.
    pub fn local(dir: impl Into<PathBuf>) -> Self {
        Self { address: Address::Local(dir.into()) }
    }

    /// Returns the kind of backend.
    pub fn backend(&self) -> Backend {
        match &self.address {
            Address::Local(_) => Backend::Local,
            Address::Memory(_) => Backend::Memory,
            Address::Cloud { cloud, .. } => Backend::Cloud(*cloud),
        }
    }

    /// Returns the directory of a local store; `None` for other stores.
    pub fn local_dir(&self) -> Option<&FsPath> {
        match &self.address {
            Address::Local(dir) => Some(dir),
            _ => None,
        }
    }

    /// Returns the bucket or container of a cloud store; `None` for other stores.
    pub fn bucket(&self) -> Option<&str> {
        match &self.address {
            Address::Cloud { bucket, .. } => Some(bucket),
            _ => None,
        }
    }

    pub(crate) fn address(&self) -> &Address {
        &self.address
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.address {
            // Control characters in a directory's name must not reach a terminal.
            Address::Local(dir) => dir.to_string_lossy().chars().try_for_each(|c| match c.is_control() {
                true => write!(f, "{}", c.escape_default()),
                false => write!(f, "{c}"),
            }),
            Address::Memory(prefix) if prefix.is_root() => write!(f, "memory:"),
            Address::Memory(prefix) => write!(f, "memory:/{prefix}"),
            Address::Cloud { cloud, bucket, prefix } => {
                write!(f, "{}://{bucket}", cloud.scheme())?;
                if prefix.is_root() { Ok(()) } else { write!(f, "/{prefix}") }
            }
        }
    }
}

impl fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoreUrl({self})")
    }
}

/// Splits at the first colon if what comes before it can be a scheme. A single letter can't be one, nor can
/// text with a `/`, so `./a:b` stays a path.
fn split_scheme(text: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = text.split_once(':')?;
    let mut chars = scheme.chars();
    let starts = chars.next().is_some_and(|c| c.is_ascii_alphabetic());
    let goes_on = chars.all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.' | '_'));
    (starts && goes_on).then_some((scheme, rest))
}

fn unknown_scheme(scheme: &str) -> UrlError {
    let aliases =
        [("s3a", "s3"), ("gcs", "gs"), ("azure", "az"), ("abfs", "az"), ("abfss", "az"), ("mem", "memory")];
    let by_alias = aliases.iter().find(|(alias, _)| *alias == scheme).map(|(_, name)| *name);
    let nearest = by_alias.or_else(|| nearest(scheme, SCHEMES));
    UrlError::UnknownScheme { scheme: scheme.to_owned(), nearest }
}

/// Returns the name with the smallest edit distance: at most two, and less than half the name's length.
pub(crate) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|candidate| (strsim::osa_distance(name, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= 2 && distance * 2 < candidate.len().max(name.len()) + 1)
        .min()
        .map(|(_, candidate)| candidate)
}

fn parse_file(text: &str, rest: &str) -> Result<StoreUrl, UrlError> {
    let bad = |reason| UrlError::BadFile { url: text.to_owned(), reason };
    let path = match rest.strip_prefix("//") {
        Some(after) => {
            let (host, _) = after.split_once('/').unwrap_or((after, ""));
            if host.contains('@') {
                return Err(UrlError::UserInfo);
            }
            if !host.is_empty() && !host.eq_ignore_ascii_case("localhost") {
                return Err(bad("it names a host; a local path has three slashes, `file:///dir`"));
            }
            &after[host.len()..]
        }
        None => rest,
    };
    if !path.starts_with('/') {
        return Err(bad("the path must be absolute; a relative one is written without `file:`"));
    }
    if path.contains(['?', '#']) {
        return Err(bad("`?` and `#` must be written `%3F` and `%23`"));
    }
    let bytes = percent_decode(path).ok_or_else(|| bad("`%` must be followed by two hexadecimal digits"))?;
    if bytes.contains(&0) {
        return Err(bad("it holds a NUL"));
    }
    #[cfg(unix)]
    let dir = {
        use std::os::unix::ffi::OsStringExt;
        PathBuf::from(std::ffi::OsString::from_vec(bytes))
    };
    #[cfg(not(unix))]
    let dir = PathBuf::from(String::from_utf8(bytes).map_err(|_| bad("it is not UTF-8"))?);
    Ok(StoreUrl::local(dir))
}

fn percent_decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let [high, low, tail @ ..] = rest else { return None };
        let digit = |c: u8| char::from(c).to_digit(16);
        bytes.push(u8::try_from(digit(*high)? * 16 + digit(*low)?).ok()?);
        rest = tail;
    }
    Some(bytes)
}

fn parse_cloud(cloud: Cloud, rest: &str) -> Result<StoreUrl, UrlError> {
    let scheme = cloud.scheme();
    let rest = rest.strip_prefix("//").ok_or(UrlError::MissingBucket { scheme })?;
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    if bucket.contains('@') {
        return Err(UrlError::UserInfo);
    }
    if rest.contains('?') {
        return Err(UrlError::Query);
    }
    if bucket.is_empty() {
        return Err(UrlError::MissingBucket { scheme });
    }
    // A password that contains a slash seems to end the authority early: `key:se/cret@bucket`.
    if !bucket.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'-' | b'_')) {
        return Err(if rest.contains('@') { UrlError::UserInfo } else { UrlError::BadBucket { scheme } });
    }
    let prefix = parse_prefix(prefix)?;
    Ok(StoreUrl { address: Address::Cloud { cloud, bucket: bucket.to_owned(), prefix } })
}

fn parse_prefix(text: &str) -> Result<Path, UrlError> {
    let trimmed = text.trim_matches('/');
    Path::parse(trimmed).map_err(|_| {
        let reason = if trimmed.split('/').any(str::is_empty) {
            "it has an empty part"
        } else if trimmed.split('/').any(|part| part == "." || part == "..") {
            "`.` and `..` can't be parts of it"
        } else {
            "it has a control character"
        };
        UrlError::BadPrefix { prefix: trimmed.to_owned(), reason }
    })
}
