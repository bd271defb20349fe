//! Counts the bytes of a body while it is sent.
//!
//! A caller that wants to know how far a put has come puts an `Arc<AtomicU64>` among the put's extensions. It then holds
//! how many bytes of the body the connection has taken, and begins at 0 again when the put is repeated.
//!
//! `object_store` gives a body to its client as a whole, so that such a request needs a client of our own. It is made with
//! the options that [`super::super::client`] sets. If the user has set others, nothing is counted.

use std::error::Error as StdError;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use object_store::client::{
    HttpError, HttpErrorKind, HttpRequest, HttpRequestBody, HttpResponse, HttpResponseBody,
};
use object_store::{ClientConfigKey, ClientOptions};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// The most bytes that are handed to the connection at once.
const PIECE: usize = 64 << 10;

/// Options with an effect on the connection that the client here does not have.
const FOREIGN: [ClientConfigKey; 10] = [
    ClientConfigKey::Http2KeepAliveInterval,
    ClientConfigKey::Http2KeepAliveTimeout,
    ClientConfigKey::Http2MaxFrameSize,
    ClientConfigKey::PoolIdleTimeout,
    ClientConfigKey::ProxyUrl,
    ClientConfigKey::ProxyCaCertificate,
    ClientConfigKey::ProxyExcludes,
    ClientConfigKey::ReadTimeout,
    ClientConfigKey::Timeout,
    ClientConfigKey::UserAgent,
];
/// The same, of those that are always set.
const OFF: [ClientConfigKey; 4] = [
    ClientConfigKey::AllowInvalidCertificates,
    ClientConfigKey::NoSystemCertificates,
    ClientConfigKey::Http2KeepAliveWhileIdle,
    ClientConfigKey::Http2Only,
];

/// Sends requests whose bodies are counted.
#[derive(Debug)]
pub(super) struct Counting(reqwest::Client);

impl Counting {
    /// Returns `None` if the options ask for something that this client does not have.
    pub(super) fn new(options: &ClientOptions) -> Option<Self> {
        let value = |key: &ClientConfigKey| options.get_config_value(key);
        if FOREIGN.iter().any(|key| value(key).is_some())
            || OFF.iter().any(|key| value(key).as_deref() != Some("false"))
        {
            return None;
        }
        if value(&ClientConfigKey::Http1Only)? != "true" {
            return None;
        }
        let mut builder = reqwest::Client::builder()
            .http1_only()
            .user_agent(concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION")))
            .https_only(value(&ClientConfigKey::AllowHttp)? != "true");
        if value(&ClientConfigKey::RandomizeAddresses)? == "true" {
            builder = builder.dns_resolver(Arc::new(Shuffled));
        }
        if let Some(time) = value(&ClientConfigKey::ConnectTimeout) {
            builder = builder.connect_timeout(time_of(&time)?);
        }
        if let Some(most) = value(&ClientConfigKey::PoolMaxIdlePerHost) {
            builder = builder.pool_max_idle_per_host(most.parse().ok()?);
        }
        builder.build().ok().map(Self)
    }

    /// Whether the caller wants to know how much of a request has been sent.
    pub(super) fn is_asked(request: &HttpRequest) -> bool {
        request.extensions().get::<Arc<AtomicU64>>().is_some()
    }

    /// Sends a request, and counts its body on the way.
    pub(super) async fn send(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let (mut head, body) = request.into_parts();
        let url = head.uri.to_string();
        let url = url.parse().map_err(|error| HttpError::new(HttpErrorKind::Unknown, NoUrl(error)))?;
        let counter = head.extensions.remove::<Arc<AtomicU64>>().unwrap_or_default();
        let mut request = reqwest::Request::new(head.method, url);
        *request.headers_mut() = head.headers;
        *request.body_mut() = Some(reqwest::Body::wrap(Counted::new(body, counter)));
        let answer: http::Response<reqwest::Body> = self.0.execute(request).await.map_err(failed)?.into();
        let (head, body) = answer.into_parts();
        Ok(HttpResponse::from_parts(head, HttpResponseBody::new(Answer(body))))
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the request has no URL: {0}")]
struct NoUrl(<reqwest::Url as std::str::FromStr>::Err);

/// Reads a time as `ClientOptions` writes it: `1m 5s 300ms`.
fn time_of(text: &str) -> Option<Duration> {
    text.split_whitespace().try_fold(Duration::ZERO, |sum, part| {
        let (number, unit) = part.split_at(part.find(|c: char| !c.is_ascii_digit())?);
        let number: u64 = number.parse().ok()?;
        let time = match unit {
            "ms" => Duration::from_millis(number),
            "s" => Duration::from_secs(number),
            "m" => Duration::from_secs(number.checked_mul(60)?),
            "h" => Duration::from_secs(number.checked_mul(3600)?),
            _ => return None,
        };
        sum.checked_add(time)
    })
}

/// Tells kinds of errors apart as `object_store` does for its own client.
fn failed(error: reqwest::Error) -> HttpError {
    let kind = match () {
        () if error.is_timeout() => HttpErrorKind::Timeout,
        () if error.is_connect() => HttpErrorKind::Connect,
        () if error.is_decode() => HttpErrorKind::Decode,
        () => {
            let mut sources = std::iter::successors(error.source(), |&error| error.source());
            sources.find_map(kind_of).unwrap_or(HttpErrorKind::Unknown)
        }
    };
    HttpError::new(kind, error.without_url())
}

fn kind_of(error: &(dyn StdError + 'static)) -> Option<HttpErrorKind> {
    if let Some(error) = error.downcast_ref::<hyper::Error>() {
        if error.is_closed() || error.is_incomplete_message() || error.is_body_write_aborted() {
            return Some(HttpErrorKind::Request);
        }
        return error.is_timeout().then_some(HttpErrorKind::Timeout);
    }
    match error.downcast_ref::<io::Error>()?.kind() {
        io::ErrorKind::TimedOut => Some(HttpErrorKind::Timeout),
        io::ErrorKind::ConnectionAborted
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::UnexpectedEof => Some(HttpErrorKind::Interrupted),
        _ => None,
    }
}

/// A body that is handed over in small pieces.
#[derive(Debug)]
struct Counted {
    body: HttpRequestBody,
    /// What is left of the last part of the body.
    part: Bytes,
    handed: u64,
    counter: Arc<AtomicU64>,
}

impl Counted {
    fn new(body: HttpRequestBody, counter: Arc<AtomicU64>) -> Self {
        counter.store(0, Ordering::Relaxed);
        Self { body, part: Bytes::new(), handed: 0, counter }
    }
}

impl Body for Counted {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        // The connection has taken what it got before.
        self.counter.store(self.handed, Ordering::Relaxed);
        if self.part.is_empty() {
            match std::task::ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => self.part = frame.into_data().unwrap_or_default(),
                ended => return Poll::Ready(ended),
            }
        }
        let len = self.part.len().min(PIECE);
        let piece = self.part.split_to(len);
        self.handed += len as u64;
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.part.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.body.size_hint().exact().unwrap_or_default();
        SizeHint::with_exact(rest + self.part.len() as u64)
    }
}

/// The body of an answer, with the errors of `object_store`.
#[derive(Debug)]
struct Answer(reqwest::Body);

impl Body for Answer {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        Pin::new(&mut self.0).poll_frame(cx).map(|frame| frame.map(|frame| frame.map_err(failed)))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

/// Begins with any of a host's addresses, so that its servers share the load.
#[derive(Debug)]
struct Shuffled;

impl Resolve for Shuffled {
    fn resolve(&self, name: Name) -> Resolving {
        let host = name.as_str().to_owned();
        Box::pin(async move {
            let found = tokio::task::spawn_blocking(move || (host.as_str(), 0).to_socket_addrs());
            let mut addresses: Vec<SocketAddr> = found.await??.collect();
            let mut byte = [0];
            // Without randomness the first address is the first one.
            let drawn = getrandom::fill(&mut byte).map_or(0, |()| usize::from(byte[0]));
            let first = drawn % addresses.len().max(1);
            addresses.rotate_left(first);
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_options_are_all_understood() {
        let options = ClientOptions::new()
            .with_allow_http(true)
            .with_timeout_disabled()
            .with_connect_timeout(Duration::from_millis(5300))
            .with_pool_max_idle_per_host(3);
        assert!(Counting::new(&options).is_some());
        assert!(Counting::new(&options.with_proxy_url("http://127.0.0.1:1")).is_none());
        assert_eq!(time_of("1m 5s 300ms"), Some(Duration::from_millis(65_300)));
        assert_eq!(time_of("soon"), None);
    }

    #[tokio::test]
    async fn what_has_been_handed_over_is_counted_in_small_pieces() {
        let parts = [vec![1; PIECE + 1], vec![], vec![2; 3]].map(Bytes::from);
        let payload: object_store::PutPayload = parts.iter().cloned().collect();
        let counter = Arc::new(AtomicU64::new(7));
        let mut body = Counted::new(payload.into(), Arc::clone(&counter));
        let mut seen = vec![counter.load(Ordering::Relaxed)];
        let mut left = vec![body.size_hint().exact().unwrap()];
        while let Some(frame) =
            std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await.transpose().unwrap()
        {
            let len = frame.into_data().unwrap().len() as u64;
            seen.push(counter.load(Ordering::Relaxed) + len);
            left.push(body.size_hint().exact().unwrap());
        }
        let all = PIECE as u64 + 4;
        assert_eq!(seen.iter().zip(&left).filter(|(seen, left)| *seen + *left != all).count(), 0);
        assert_eq!(counter.load(Ordering::Relaxed), all);
    }
}
