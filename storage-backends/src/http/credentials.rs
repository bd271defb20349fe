//! Asking somebody else than the store for credentials: a metadata service, or a service for tokens.
//!
//! On a machine that has none, nobody may be at the address, and it must not take minutes to say so. Once the store
//! has answered, credentials were there before, and whoever gives them is waited for as the store is.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use object_store::client::{HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody};
use tokio::time::{Instant, sleep, timeout_at};

use super::{Failed, Watched, too_slow, whole};

/// How long one request for credentials may take.
const EACH: Duration = Duration::from_secs(4);
/// How long all of them may, until one has succeeded.
const ALL: Duration = Duration::from_secs(8);
/// For so long after that, nobody is asked again.
const REST: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(500);

/// There are no credentials: none were given, and whoever was asked for them does not answer.
#[derive(Debug, thiserror::Error)]
#[error(
    "there are no credentials: none were given, and {asked}, which was asked for them, does not answer ({cause})"
)]
pub struct NoCredentials {
    /// Host and port that the request went to.
    pub asked: String,
    /// What the last request failed by.
    cause: String,
}

impl NoCredentials {
    /// Finds a `NoCredentials` in the chain of an error's sources.
    pub fn find(error: &object_store::Error) -> Option<&Self> {
        crate::guard::find(error)
    }
}

/// Since when nobody has given credentials.
#[derive(Debug, Clone, Default)]
pub(crate) struct Strangers(Arc<Mutex<Option<Instant>>>);

impl Strangers {
    /// Returns when a request that is sent now has to be answered.
    fn end(&self) -> Instant {
        let now = Instant::now();
        let mut since = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let begun = since.filter(|begun| now.saturating_duration_since(*begun) < ALL + REST).unwrap_or(now);
        *since = Some(begun);
        (now + EACH).min(begun + ALL)
    }

    fn answered(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl Watched {
    pub(super) async fn ask_stranger(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let (patience, strangers) = (&self.watching.patience, &self.watching.strangers);
        let asked = request.uri().authority().map_or_else(String::new, ToString::to_string);
        let (mut trial, end) = (patience.begin(), strangers.end());
        let mut cause = String::from("asked a moment ago");
        loop {
            let known = patience.has_met();
            let by = if known { Instant::now() + EACH } else { end };
            if !known && Instant::now() >= end {
                return Err(HttpError::new(HttpErrorKind::Unknown, NoCredentials { asked, cause }));
            }
            let failed = match timeout_at(by, self.ask_once(request.clone())).await {
                Ok(Ok(answer)) => {
                    strangers.answered();
                    return Ok(answer);
                }
                Ok(Err(failed)) => failed,
                Err(_) => Failed::Http(too_slow(EACH)),
            };
            cause = failed.to_string();
            let none = NoCredentials { asked: asked.clone(), cause: cause.clone() };
            if !known {
                sleep(PAUSE.min(end.saturating_duration_since(Instant::now()))).await;
            } else if !trial.again(&none).await {
                return Err(HttpError::new(HttpErrorKind::Unknown, none));
            }
        }
    }

    async fn ask_once(&self, request: HttpRequest) -> Result<HttpResponse, Failed> {
        let answer = self.client.execute(request).await.map_err(Failed::Http)?;
        let (head, body) = answer.into_parts();
        // It is short, and must not be the part that takes for ever.
        let body = whole(body).await.map_err(Failed::Http)?.unwrap_or_default();
        match head.status.as_u16() {
            status @ (408 | 429 | 500..) => Err(Failed::Status { status, said: String::new() }),
            _ => Ok(HttpResponse::from_parts(head, HttpResponseBody::from(body))),
        }
    }
}
