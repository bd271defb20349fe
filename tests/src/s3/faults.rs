//! What goes wrong with a request on its way to the server and back (faults N1 to N10, N12 to N14 and N18).

use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Bytes, Frame};
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE};
use hyper::{Response, http};
use s3s::Body;

use super::Gone;

/// What goes wrong with one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It has no effect, and no answer ever comes.
    Silent,
    /// It has no effect, and the connection is closed.
    Dropped,
    /// It has no effect, and the answer has this status and, as its error, this code.
    Refused(u16, &'static str),
    /// It takes effect, and the connection is closed.
    DoneAndDropped,
    /// It takes effect, and the answer is 500.
    DoneAndRefused,
    /// The connection breaks in the middle of the answer's body.
    CutOff,
    /// The answer's body ends early, and says so.
    Shortened,
    /// A bit of the answer's body is flipped.
    Flipped,
    /// It has no effect, and the answer is an error with status 200.
    ErrorInOk,
    /// It has no effect, and the answer is a page for people.
    Page,
    /// It has no effect, and the answer is empty.
    Empty,
}

impl Fault {
    /// All of them, each status and code that clients have to tell apart included.
    pub const ALL: [Self; 18] = [
        Self::Silent,
        Self::Dropped,
        Self::Refused(500, "InternalError"),
        Self::Refused(503, "SlowDown"),
        Self::Refused(429, "TooManyRequests"),
        Self::Refused(409, "ConditionalRequestConflict"),
        Self::Refused(412, "PreconditionFailed"),
        Self::Refused(400, "ExpiredToken"),
        Self::Refused(403, "AccessDenied"),
        Self::Refused(404, "NoSuchKey"),
        Self::DoneAndDropped,
        Self::DoneAndRefused,
        Self::CutOff,
        Self::Shortened,
        Self::Flipped,
        Self::ErrorInOk,
        Self::Page,
        Self::Empty,
    ];

    /// Returns the answer to a request that does not reach the server; `None` if it does.
    pub(super) async fn instead(self) -> Option<Result<Response<Body>, Gone>> {
        let error = |code: &str| format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code></Error>");
        Some(match self {
            Self::Silent => std::future::pending().await,
            Self::Dropped => Err(Gone),
            Self::Refused(status, code) => answer(status, "application/xml", error(code)),
            Self::ErrorInOk => answer(200, "application/xml", error("InternalError")),
            Self::Page => answer(200, "text/html", "<html><body>Please log in</body></html>".to_owned()),
            Self::Empty => answer(200, "application/octet-stream", String::new()),
            _ => return None,
        })
    }

    /// Spoils the answer to a request that took effect.
    pub(super) async fn spoil(self, response: Response<Body>) -> Result<Response<Body>, Gone> {
        let (mut head, body) = match self {
            Self::DoneAndDropped => return Err(Gone),
            Self::DoneAndRefused => return answer(500, "application/xml", String::new()),
            Self::CutOff | Self::Shortened | Self::Flipped => response.into_parts(),
            _ => return Ok(response),
        };
        let mut bytes = body.collect().await.map_err(|_| Gone)?.to_bytes().to_vec();
        let half = bytes.len() / 2;
        match self {
            Self::Flipped => bytes.iter_mut().skip(half).take(1).for_each(|byte| *byte ^= 4),
            _ => bytes.truncate(half),
        }
        if self == Self::CutOff {
            // The header still promises everything.
            let pieces = [Ok(Frame::data(Bytes::from(bytes))), Err(Gone)];
            let broken = StreamBody::new(futures::stream::iter(pieces));
            return Ok(Response::from_parts(head, Body::http_body(broken)));
        }
        head.headers.insert(CONTENT_LENGTH, bytes.len().into());
        Ok(Response::from_parts(head, bytes.into()))
    }
}

fn answer(status: u16, kind: &str, body: String) -> Result<Response<Body>, Gone> {
    let response = Response::builder().status(status).header(CONTENT_TYPE, kind);
    response.body(body.into()).map_err(|_: http::Error| Gone)
}
