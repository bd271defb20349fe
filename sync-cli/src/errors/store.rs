//! What to do about a store that can't be used, and its library's errors in fewer words.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::io;

use storage_backends::{BucketMissing, NoCredentials};
use transfer_engine::Error;

use super::hint_of_disk;

/// The variables that give the keys of each cloud, with the parts of an error's text that tell which cloud it is.
const KEYS: [(&[&str], &str); 3] = [
    (&["Generic S3 error", "/latest/"], "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"),
    (&["Generic GCS error", "/computeMetadata/"], "GOOGLE_APPLICATION_CREDENTIALS"),
    (
        &["Generic MicrosoftAzure error", "/metadata/identity/"],
        "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY, or AZURE_STORAGE_SAS_TOKEN",
    ),
];

/// The addresses at which a cloud's own machines are asked for keys, where none are given. Elsewhere something else may
/// answer.
const OWN_KEYS: [&str; 4] =
    ["/latest/api/token", "/latest/meta-data/", "/computeMetadata/", "/metadata/identity/"];

/// Parts of a store's or a library's message, and what to do about it. The codes are those of S3's and Azure's
/// error documents.
const KNOWN: [(&[&str], &str); 8] = [
    (
        &["Account must be specified"],
        "name the storage account by AZURE_STORAGE_ACCOUNT_NAME, or by --store-option account_name=NAME",
    ),
    (
        &["ExpiredToken", "TokenRefreshRequired"],
        "the session token has expired: get new credentials, for example with `aws sso login`, and run the command \
         again",
    ),
    (
        &["RequestTimeTooSkewed", "RequestExpired"],
        "this machine's clock differs from the store's: set it, for example with NTP, and run the command again",
    ),
    (
        &["InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidClientTokenId"],
        "the store does not know this key, or the secret is not the key's: `ctxsync config` shows where settings \
         come from",
    ),
    (
        &["failed to lookup address", "dns error", "Name or service not known"],
        "no such host: check --store and the endpoint, and that this machine has DNS",
    ),
    (
        &["invalid peer certificate", "received corrupt message", "tls handshake"],
        "no secure connection: check that the endpoint is the store's and speaks https; a private authority's \
         certificate must be known to this machine",
    ),
    (
        &["Connection refused"],
        "nothing accepts connections there: check --store and the endpoint, and that the store runs",
    ),
    (
        &["Network is unreachable", "No route to host"],
        "this machine has no way to the store: check its network and proxy",
    ),
];

/// How the message begins that no credentials were given.
const NONE: &str = "there are no credentials";

/// The variables that give endpoints.
const ENDPOINTS: [&str; 6] = [
    "AWS_ENDPOINT_URL_S3",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT",
    "GOOGLE_BASE_URL",
    "AZURE_STORAGE_ENDPOINT",
    "AZURE_ENDPOINT",
];

/// Returns a hint with the variable that gave the endpoint, if one of these texts says that it was asked.
fn of_endpoint(hint: &'static str, texts: &[String]) -> Cow<'static, str> {
    const ENDPOINT: &str = "the endpoint,";
    let is_asked = |name: &&str| {
        let Ok(url) = std::env::var(name) else { return false };
        let url = url.trim_end_matches('/');
        !url.is_empty() && texts.iter().any(|text| text.contains(url))
    };
    match ENDPOINTS.iter().find(|name| hint.contains(ENDPOINT) && is_asked(name)) {
        Some(name) => hint.replace(ENDPOINT, &format!("the endpoint, which {name} gives,")).into(),
        None => hint.into(),
    }
}

/// Returns what to do about a store's error.
pub(super) fn hint(error: &Error, source: &object_store::Error) -> Cow<'static, str> {
    if let Some(hint) = known(source) {
        hint
    } else if error.is_retryable() {
        "run the command again; data that the store already has is not sent again".into()
    } else {
        "check the store's address and credentials with `ctxsync store check`".into()
    }
}

/// Returns what to do about a store's error, if its cause is known.
pub(super) fn known(source: &object_store::Error) -> Option<Cow<'static, str>> {
    let texts: Vec<String> = chain(source).map(ToString::to_string).collect();
    if NoCredentials::find(source).is_some() {
        return Some(no_keys(&texts).into());
    }
    if BucketMissing::find(source).is_some() {
        return Some("check --store; create the bucket with its provider's tools".into());
    }
    match io_kind(source) {
        Some(io::ErrorKind::PermissionDenied) => {
            return Some("give your user access to the files of the store".into());
        }
        kind => {
            if let Some(hint) = kind.and_then(hint_of_disk) {
                return Some(hint.into());
            }
        }
    }
    of_texts(&texts)
}

/// Returns what to do about a cause, if these texts tell it.
pub(super) fn of_texts(texts: &[String]) -> Option<Cow<'static, str>> {
    if texts.iter().any(|text| asks_for_keys(text)) {
        return Some(no_keys(texts).into());
    }
    let says = |part: &&str| texts.iter().any(|text| text.contains(part));
    KNOWN.iter().find(|(parts, _)| parts.iter().any(says)).map(|(_, hint)| of_endpoint(hint, texts))
}

/// Whether a text tells of a question for the keys of a cloud's own machine.
fn asks_for_keys(text: &str) -> bool {
    OWN_KEYS.iter().any(|address| text.contains(address))
}

/// Returns the hint if no credentials were given.
fn no_keys(texts: &[String]) -> String {
    let says = |part: &&str| texts.iter().any(|text| text.contains(part));
    let variables = KEYS.iter().find(|(parts, _)| parts.iter().any(says)).map_or_else(
        || KEYS.map(|(_, variables)| variables).join("; "),
        |(_, variables)| (*variables).to_owned(),
    );
    format!("give the keys by the variables of the cloud's own tools: {variables}")
}

/// Returns the kind of the system's error below an error, if there is one.
fn io_kind(error: &object_store::Error) -> Option<io::ErrorKind> {
    chain(error).find_map(|error| error.downcast_ref::<io::Error>()).map(io::Error::kind)
}

fn chain<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |error| (*error).source())
}

/// Leaves out of a message what `object_store` puts before the cause, the query of the address, and the markup of
/// an error document: `Generic S3 error: Error performing list request: Error performing GET URL?QUERY in 1.01s -
/// HTTP error: CAUSE` becomes `GET URL: CAUSE`.
pub(super) fn plain(text: &str) -> String {
    const REQUEST: &str = "Error performing ";
    let Some((before, rest)) = text.split_once(REQUEST) else { return without_markup(rest_of(text)) };
    // What is before it repeats what follows, or is a sentence of ours.
    let of_library = ["Generic ", "The operation lacked "].iter().any(|start| before.starts_with(start));
    let before = if of_library { "" } else { before };
    let Some((request, said)) = rest.split_once(" - ") else { return text.to_owned() };
    // `list request: Error performing GET URL in 1s`
    let request = request.rsplit(REQUEST).next().unwrap_or(request);
    let request = request.rsplit_once(" in ").map_or(request, |(request, _)| request);
    let request = request.split('?').next().unwrap_or(request);
    let said = plain(rest_of(said));
    let said = said.trim_end_matches([':', ' ']);
    if asks_for_keys(request) && !said.contains(NONE) {
        return format!(
            "{before}{NONE}: none were given, and this machine has none of its own ({request}: {said})"
        );
    }
    format!("{before}{request}: {said}")
}

/// Leaves out of a cause what the library puts before it.
fn rest_of(cause: &str) -> &str {
    const DISK: &str = "Generic LocalFileSystem error: ";
    let cause = cause.strip_prefix(DISK).unwrap_or(cause);
    let cause = cause.strip_prefix("HTTP error: ").unwrap_or(cause);
    cause.strip_prefix("Server returned non-2xx status code: ").unwrap_or(cause)
}

/// Returns code and message of an error document of S3 or Azure instead of the document.
fn without_markup(text: &str) -> String {
    let inner = |tag: &str| {
        let (_, rest) = text.split_once(&format!("<{tag}>"))?;
        rest.split_once(&format!("</{tag}>")).map(|(inner, _)| inner.trim())
    };
    let Some(code) = inner("Code") else { return text.to_owned() };
    let before = text.split('<').next().unwrap_or_default();
    // Azure's message goes on with ids and times in further lines.
    let message = inner("Message").and_then(|message| message.lines().next()).unwrap_or_default();
    if message.is_empty() { format!("{before}{code}") } else { format!("{before}{code}: {message}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_and_its_cause_without_the_librarys_words() {
        assert_eq!(
            plain(
                "Generic S3 error: Error performing list request: Error performing GET http://h:9/b?list-type=2&a=b in \
                 1.01s - HTTP error: Connection refused (os error 111)"
            ),
            "GET http://h:9/b: Connection refused (os error 111)"
        );
        assert_eq!(
            plain(
                "The operation lacked the necessary privileges to complete for path p/x: Error performing PUT \
                 http://h/b/p/x in 2ms - Server returned non-2xx status code: 403 Forbidden: <?xml version=\"1.0\"?>\
                 <Error><Code>AccessDenied</Code><Message>No.\nRequestId: 7</Message></Error>"
            ),
            "PUT http://h/b/p/x: 403 Forbidden: AccessDenied: No."
        );
        // The library repeats the cause with its own words before it, and a repeated cause is shown once.
        assert_eq!(
            plain("HTTP error: Connection refused (os error 111)"),
            "Connection refused (os error 111)"
        );
        assert_eq!(plain("Generic LocalFileSystem error: Unable to copy"), "Unable to copy");
        assert_eq!(
            plain(
                "Generic S3 error: Error performing PUT http://169.254.169.254/latest/api/token in 2ms - Server returned \
                 non-2xx status code: 403 Forbidden: "
            ),
            "there are no credentials: none were given, and this machine has none of its own (PUT \
             http://169.254.169.254/latest/api/token: 403 Forbidden)"
        );
        for other in ["Connection refused", "Error performing nothing", ""] {
            assert_eq!(plain(other), other);
        }
    }

    #[test]
    fn to_run_the_command_again_does_not_help_against_missing_permission() {
        let denied = io::Error::from(io::ErrorKind::PermissionDenied);
        let source = object_store::Error::Generic { store: "LocalFileSystem", source: denied.into() };
        assert_eq!(known(&source).as_deref(), Some("give your user access to the files of the store"));
    }

    #[test]
    fn each_cause_has_its_own_hint() {
        let of =
            |text: &str| known(&object_store::Error::Generic { store: "S3", source: text.to_owned().into() });
        let hints: Vec<_> = KNOWN.iter().map(|(parts, hint)| (of(parts[0]), *hint)).collect();
        assert!(hints.iter().all(|(found, hint)| found.as_deref() == Some(*hint)), "{hints:#?}");
        assert_eq!(of("Connection reset by peer"), None);
    }
}
