//! How requests are sent: given up when they take too long for their size, retried while there is time, and
//! with the store's time read from the answers.
//!
//! ```text
//! request ─────── body ───────► store: answered within the timeout, plus one timeout for each MiB
//! answer  ◄─ date ── piece, piece ──┘  each piece within the timeout; the whole is what was asked for
//! ```
//! The client's own timeouts are not suitable. One for a whole request can't fit a connection of unknown
//! speed, and the one for reading (reqwest 0.13) also runs while the body is sent. If the peer is gone while
//! a body is sent, the kernel notices, because reqwest sets `TCP_USER_TIMEOUT`.
//!
//! The retries of `object_store` are not suitable either: they are limited by number, report nothing, and
//! know no deadline. They are only used to resume a body that breaks off.

mod answer;
mod counted;
mod credentials;

use std::error::Error as StdError;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody,
    HttpService, ReqwestConnector,
};
use tokio::time::{Sleep, sleep, timeout};

use crate::patience::Patience;
use answer::{Asked, NoAnswer, start, whole};
use counted::Counting;
use credentials::Strangers;

/// The bytes of a body that may take one timeout to send.
const PER_TIMEOUT: u64 = 1 << 20;
/// Longer than anyone waits, and small enough not to overflow.
const LONGEST: Duration = Duration::from_hours(24 * 365);
/// If there is no answer for this long, once for each MiB to be sent, the store is reported as silent.
const SILENCE: Duration = Duration::from_secs(8);
/// How long answers that do not come from the store are retried. That is shorter than for a store that is
/// away, since nobody restarts a captive portal.
const NO_ANSWER: Duration = Duration::from_secs(15);

/// A connector whose requests are given up when they take too long, and retried when they fail. Each answer
/// has the time of its `Date` header among its extensions, as a [`SystemTime`]; so has the result of a put.
#[derive(Debug, Clone)]
pub(crate) struct Watching {
    pub(crate) timeout: Duration,
    pub(crate) patience: Patience,
    pub(crate) target: Target,
    pub(crate) strangers: Strangers,
}

impl Watching {
    pub(crate) fn new(timeout: Duration, patience: Patience, target: Target) -> Self {
        Self { timeout: timeout.min(LONGEST), patience, target, strangers: Strangers::default() }
    }
}

/// Tells requests to the store from those for credentials.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    /// Host and port of the endpoint, if one was given.
    endpoint: Option<String>,
    bucket: String,
}

impl Target {
    /// Makes a target from the endpoint, if one was given, and the bucket's name.
    pub(crate) fn new(endpoint: Option<&str>, bucket: &str) -> Self {
        let authority = |url: &str| {
            let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
            rest.split(['/', '?', '#']).next().unwrap_or_default().to_ascii_lowercase()
        };
        Self { endpoint: endpoint.map(authority), bucket: bucket.to_owned() }
    }

    fn holds(&self, uri: &http::Uri) -> bool {
        let authority = uri.authority().map_or("", |authority| authority.as_str()).to_ascii_lowercase();
        match &self.endpoint {
            Some(endpoint) => authority == *endpoint,
            // The bucket is in the host or in the path; an emulator has the account before it.
            None => {
                let host = authority.strip_prefix(self.bucket.to_ascii_lowercase().as_str());
                host.is_some_and(|rest| rest.starts_with('.'))
                    || uri.path().split('/').skip(1).take(2).any(|part| part == self.bucket)
            }
        }
    }
}

impl HttpConnector for Watching {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let client = ReqwestConnector::default().connect(options)?;
        Ok(HttpClient::new(Watched { client, counting: Counting::new(options), watching: self.clone() }))
    }
}

#[derive(Debug)]
struct Watched {
    client: HttpClient,
    /// Sends what is to be counted.
    counting: Option<Counting>,
    watching: Watching,
}

#[async_trait]
impl HttpService for Watched {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let Watching { patience, target, .. } = &self.watching;
        let asked = Asked::of(&request, target);
        if asked == Asked::Credentials {
            return self.ask_stranger(request).await;
        }
        let mut trial = patience.begin();
        loop {
            let failed = match self.once(request.clone(), asked).await {
                Ok(answer) => {
                    patience.answered();
                    return Ok(answer);
                }
                Err(failed) => failed,
            };
            if matches!(failed, Failed::NoAnswer(_)) {
                trial.at_most(NO_ANSWER);
            }
            if !failed.may_pass(asked) || !trial.again(&failed).await {
                return Err(failed.into_error(asked));
            }
        }
    }
}

impl Watched {
    async fn send(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        match &self.counting {
            Some(counting) if Counting::is_asked(&request) => counting.send(request).await,
            _ => self.client.execute(request).await,
        }
    }

    /// Sends a request once.
    async fn once(&self, request: HttpRequest, asked: Asked) -> Result<HttpResponse, Failed> {
        let Watching { timeout: most, patience, .. } = &self.watching;
        let bytes = request.body().content_length() as u64;
        let for_body = |each: Duration| each.mul_f64(as_float(bytes) / as_float(PER_TIMEOUT)).min(LONGEST);
        let share = patience.share(*most);
        let wait = share.saturating_add(for_body(*most));
        let quiet = SILENCE.min(share / 3).saturating_add(for_body(SILENCE));
        let mut answered = std::pin::pin!(timeout(wait, self.send(request)));
        let answered = match timeout(quiet, &mut answered).await {
            Ok(answered) => answered,
            Err(_) => {
                patience.is_silent(quiet);
                answered.await
            }
        };
        let answer = answered.map_err(|_| Failed::Http(too_slow(wait)))?.map_err(Failed::Http)?;
        let (mut head, body) = answer.into_parts();
        let date = head.headers.get("date").and_then(|date| date.to_str().ok());
        if let Some(time) = date.and_then(|date| httpdate::parse_http_date(date).ok()) {
            head.extensions.insert::<SystemTime>(time);
        }
        let body = HttpResponseBody::new(WatchedBody { body, timeout: share, still: None });
        let status = head.status.as_u16();
        if matches!(status, 408 | 429 | 500..) {
            let body = whole(body).await.ok().flatten().unwrap_or_default();
            return Err(Failed::Status { status, said: start(&String::from_utf8_lossy(&body)) });
        }
        let checked = asked.check(HttpResponse::from_parts(head, body)).await.map_err(Failed::Http)?;
        checked.map_err(Failed::NoAnswer)
    }
}

#[expect(clippy::cast_precision_loss, reason = "it becomes a time that nobody measures")]
fn as_float(bytes: u64) -> f64 {
    bytes as f64
}

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
enum Failed {
    /// There was no answer.
    #[error("{}", innermost(.0))]
    Http(HttpError),
    /// The store, or a server in front of it, can't answer now.
    #[error("status {status}{}{said}", if said.is_empty() { "" } else { ": " })]
    Status { status: u16, said: String },
    #[error(transparent)]
    NoAnswer(NoAnswer),
}

impl Failed {
    /// Whether another attempt may succeed, and may be made.
    fn may_pass(&self, asked: Asked) -> bool {
        match self {
            Self::Http(error) => match error.kind() {
                // A wrong name or certificate does not become right.
                _ if innermost(error).contains("certificate") => false,
                // The request was not sent.
                HttpErrorKind::Connect | HttpErrorKind::Request => true,
                _ => asked.may_repeat(),
            },
            // The status means "not implemented", or "HTTP version not supported".
            Self::Status { status, .. } => !matches!(status, 501 | 505),
            Self::NoAnswer(_) => asked.may_repeat(),
        }
    }

    /// Returns an error that `object_store` does not retry by itself.
    fn into_error(self, asked: Asked) -> HttpError {
        match self {
            // The caller finds out whether the request took effect.
            Self::Http(error)
                if !asked.may_repeat()
                    && matches!(error.kind(), HttpErrorKind::Timeout | HttpErrorKind::Interrupted) =>
            {
                error
            }
            failed => HttpError::new(HttpErrorKind::Unknown, failed),
        }
    }
}

/// Returns the text of the innermost source: `Connection refused`, and not that a request could not be sent.
fn innermost(error: &HttpError) -> String {
    let mut deepest: &(dyn StdError + 'static) = error;
    while let Some(next) = deepest.source() {
        deepest = next;
    }
    deepest.to_string()
}

/// There was no data within the time limit.
#[derive(Debug, thiserror::Error)]
#[error("nothing came for {0:?}")]
struct TooSlow(Duration);

fn too_slow(waited: Duration) -> HttpError {
    HttpError::new(HttpErrorKind::Timeout, TooSlow(waited))
}

/// The body of an answer. It fails if nothing comes for the duration of the timeout.
#[derive(Debug)]
struct WatchedBody {
    body: HttpResponseBody,
    timeout: Duration,
    /// The timer; it runs while the next piece is awaited.
    still: Option<Pin<Box<Sleep>>>,
}

impl Body for WatchedBody {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            self.still = None;
            return Poll::Ready(frame);
        }
        let timeout = self.timeout;
        ready!(self.still.get_or_insert_with(|| Box::pin(sleep(timeout))).as_mut().poll(cx));
        Poll::Ready(Some(Err(too_slow(timeout))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
