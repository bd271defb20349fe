//! How requests are sent: given up when they take too long for what they carry, sent again while there is time, and with
//! the store's clock read from the answers.
//!
//! ```text
//! request ─────── body ───────► store: answered within the timeout, and as long again for each MiB
//! answer  ◄─ date ── piece, piece ──┘  each piece within the timeout; the whole of it is what was asked for
//! ```
//! The client's own bounds would not do: that of a whole request can't be right for a line of which nobody knows how
//! fast it is, and the one for reading (reqwest 0.13) runs while the body is sent as well. A peer that is gone while a
//! body is sent is noticed by the kernel, as reqwest sets `TCP_USER_TIMEOUT`. Nor would `object_store`'s way of trying
//! again, which counts, says nothing, and knows no deadline; it is left to resume a body that breaks off.

mod answer;
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
pub use credentials::NoCredentials;
use credentials::Strangers;

/// What of a body is given a whole timeout to be sent.
const PER_TIMEOUT: u64 = 1 << 20;
/// Longer than anyone waits, and no overflow.
const LONGEST: Duration = Duration::from_hours(24 * 365);
/// After this long without an answer, or as many times it as there are MiB to be sent, it is said that there is none.
const SILENCE: Duration = Duration::from_secs(8);
/// An answer that is not one may pass, but not as a store does that is away: nobody restarts a captive portal.
const NO_ANSWER: Duration = Duration::from_secs(15);

/// Connects so that requests are given up that take too long and sent again that failed, and that each answer's `Date`
/// is among its extensions, as a [`SystemTime`]. What a put gives back has them too.
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

/// Which requests are the store's, and not of whoever gives credentials for it.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    /// Host and port of the endpoint that was given.
    endpoint: Option<String>,
    bucket: String,
}

impl Target {
    /// Takes the endpoint that was given, if one was, and the name of the bucket.
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
            // The bucket is in the path or in the host; an emulator has the account before it.
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
        Ok(HttpClient::new(Watched { client, watching: self.clone() }))
    }
}

#[derive(Debug)]
struct Watched {
    client: HttpClient,
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
    /// Sends a request once.
    async fn once(&self, request: HttpRequest, asked: Asked) -> Result<HttpResponse, Failed> {
        let Watching { timeout: most, patience, .. } = &self.watching;
        let bytes = request.body().content_length() as u64;
        let for_body = |each: Duration| each.mul_f64(as_float(bytes) / as_float(PER_TIMEOUT)).min(LONGEST);
        let share = patience.share(*most);
        let wait = share.saturating_add(for_body(*most));
        let quiet = SILENCE.min(share / 3).saturating_add(for_body(SILENCE));
        let mut answered = std::pin::pin!(timeout(wait, self.client.execute(request)));
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

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
enum Failed {
    /// It did not come to an answer.
    #[error("{}", innermost(.0))]
    Http(HttpError),
    /// The store, or who answers for it, can't at the moment.
    #[error("status {status}{}{said}", if said.is_empty() { "" } else { ": " })]
    Status { status: u16, said: String },
    #[error(transparent)]
    NoAnswer(NoAnswer),
}

impl Failed {
    /// Whether the request may fare better if it is sent again, and may be.
    fn may_pass(&self, asked: Asked) -> bool {
        match self {
            Self::Http(error) => match error.kind() {
                // A name or a certificate that is wrong stays so.
                _ if innermost(error).contains("certificate") => false,
                // It was not sent.
                HttpErrorKind::Connect | HttpErrorKind::Request => true,
                _ => asked.may_repeat(),
            },
            // Not implemented, or not in this version of HTTP.
            Self::Status { status, .. } => !matches!(status, 501 | 505),
            Self::NoAnswer(_) => asked.may_repeat(),
        }
    }

    /// Returns what `object_store` does not try again on its own account.
    fn into_error(self, asked: Asked) -> HttpError {
        match self {
            // Whoever asked for it finds out what became of it.
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

/// Returns what is at the bottom of an error: `Connection refused`, rather than that a request was not sent.
fn innermost(error: &HttpError) -> String {
    let mut deepest: &(dyn StdError + 'static) = error;
    while let Some(next) = deepest.source() {
        deepest = next;
    }
    deepest.to_string()
}

/// What was waited for did not come.
#[derive(Debug, thiserror::Error)]
#[error("nothing came for {0:?}")]
struct TooSlow(Duration);

fn too_slow(waited: Duration) -> HttpError {
    HttpError::new(HttpErrorKind::Timeout, TooSlow(waited))
}

/// The body of an answer, which fails when nothing of it comes for the timeout.
#[derive(Debug)]
struct WatchedBody {
    body: HttpResponseBody,
    timeout: Duration,
    /// Runs while something is waited for.
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
