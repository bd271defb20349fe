//! Requests for credentials to another server than the store: a metadata service, or a token service.
//!
//! On a machine without credentials there may be no such server, and it must not take minutes to find that
//! out. Once the store has answered a request, there were credentials before. From then on, these servers are
//! retried like the store.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use object_store::client::{HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody};
use tokio::time::{Instant, sleep, timeout_at};

use super::{Failed, Watched, too_slow, whole};
use crate::error::NoCredentials;

/// The time limit of one request for credentials.
const EACH: Duration = Duration::from_secs(4);
/// The time limit of all such requests together, until one succeeds.
const ALL: Duration = Duration::from_secs(8);
/// How long no further request is sent after that limit.
const REST: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(500);

/// Since when no request for credentials has been answered.
#[derive(Debug, Clone, Default)]
pub(crate) struct Strangers(Arc<Mutex<Option<Instant>>>);

impl Strangers {
    /// Returns the deadline of a request that is sent now.
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
        // The body is short. It is read within the time limit, as it could also take for ever.
        let body = whole(body).await.map_err(Failed::Http)?.unwrap_or_default();
        match head.status.as_u16() {
            status @ (408 | 429 | 500..) => Err(Failed::Status { status, said: String::new() }),
            _ => Ok(HttpResponse::from_parts(head, HttpResponseBody::from(body))),
        }
    }
}
