//! How requests are sent: given up when they take too long for what they carry, and with the store's clock read from
//! the answers.
//!
//! ```text
//! request ─────── body ───────► store: answered within the timeout, and as long again for each MiB
//! answer  ◄─ date ── piece, piece ──┘  each piece within the timeout
//! ```
//! The client's own bounds would not do: that of a whole request can't be right for a line of which nobody knows how
//! fast it is, and the one for reading (reqwest 0.13) runs while the body is sent as well. A peer that is gone while a
//! body is sent is noticed by the kernel, as reqwest sets `TCP_USER_TIMEOUT`.

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

/// What of a body is given a whole timeout to be sent.
const PER_TIMEOUT: usize = 1 << 20;
/// Longer than anyone waits, and no overflow.
const LONGEST: Duration = Duration::from_hours(24 * 365);

/// Connects so that requests are given up that take too long, and that each answer's `Date` is among its extensions, as
/// a [`SystemTime`]. What a put gives back has them too.
#[derive(Debug)]
pub(crate) struct Watching {
    pub(crate) timeout: Duration,
}

impl HttpConnector for Watching {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let client = ReqwestConnector::default().connect(options)?;
        Ok(HttpClient::new(Watched { client, timeout: self.timeout.min(LONGEST) }))
    }
}

#[derive(Debug)]
struct Watched {
    client: HttpClient,
    timeout: Duration,
}

#[async_trait]
impl HttpService for Watched {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let bodies = request.body().content_length() / PER_TIMEOUT;
        let patience =
            self.timeout.saturating_mul(u32::try_from(bodies).unwrap_or(u32::MAX).saturating_add(1));
        let answered = timeout(patience, self.client.execute(request)).await;
        let answer = answered.map_err(|_| too_slow(patience))??;
        let (mut head, body) = answer.into_parts();
        let date = head.headers.get("date").and_then(|date| date.to_str().ok());
        if let Some(time) = date.and_then(|date| httpdate::parse_http_date(date).ok()) {
            head.extensions.insert::<SystemTime>(time);
        }
        let body = WatchedBody { body, timeout: self.timeout, still: None };
        Ok(HttpResponse::from_parts(head, HttpResponseBody::new(body)))
    }
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
