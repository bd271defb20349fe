//! Checks that an answer comes from the store. Something between the program and the store may answer
//! instead, with a status that means success and an unrelated body.
//!
//! Such an answer may be the page of a captive portal, an error document with status 200, an empty body, or a
//! truncated listing. None of them may be read as "nothing there" or "done".

use bytes::{Bytes, BytesMut};
use futures::TryStreamExt;
use object_store::client::{HttpError, HttpRequest, HttpResponse, HttpResponseBody};

use super::Target;

/// What a request asks for, as far as it decides what a valid answer looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// A page of a listing: a document with this root element.
    Listing(&'static str),
    /// An object, a range of it, or its size and time.
    Object,
    /// To store an object. With `create`, only if the key is free; such a request must not be repeated.
    Put { create: bool },
    /// To delete an object.
    Delete,
    /// To delete many objects. The answer is a document with this root element.
    Deletions(&'static str),
    /// Something else, such as a copy.
    Other,
    /// Credentials, which do not come from the store.
    Credentials,
}

/// An answer that does not come from the store.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the answer is not the store's: {what}; something on the way may have answered in its place")]
pub(super) struct NoAnswer {
    what: String,
}

/// A page of a listing has at most a thousand keys of up to a KiB each. A longer body is no listing.
const MOST: usize = 16 << 20;
/// How many characters of an unexpected answer are shown.
const SHOWN: usize = 200;

impl Asked {
    pub(super) fn of(request: &HttpRequest, target: &Target) -> Self {
        let (method, uri, headers) = (request.method().as_str(), request.uri(), request.headers());
        if !target.holds(uri) {
            return Self::Credentials;
        }
        let query = uri.query().unwrap_or_default();
        let asks = |wanted: &str| query.split('&').any(|pair| pair == wanted);
        let has = |name: &str| headers.contains_key(name);
        let of_part = ["uploadId=", "comp=block", "comp=batch", "session", "uploads"];
        match method {
            "GET" if asks("list-type=2") => Self::Listing("ListBucketResult"),
            "GET" if asks("comp=list") => Self::Listing("EnumerationResults"),
            "POST" if asks("delete") || asks("delete=") => Self::Deletions("DeleteResult"),
            _ if query.split('&').any(|pair| of_part.iter().any(|part| pair.starts_with(part))) => {
                Self::Other
            }
            "GET" | "HEAD" => Self::Object,
            "PUT" if ["x-amz-copy-source", "x-goog-copy-source", "x-ms-copy-source"].into_iter().any(has) => {
                Self::Other
            }
            "PUT" => Self::Put {
                create: ["if-none-match", "if-match", "x-goog-if-generation-match"].into_iter().any(has),
            },
            "DELETE" => Self::Delete,
            _ => Self::Other,
        }
    }

    /// Whether the request may be sent again although the store may have carried it out already.
    pub(super) fn may_repeat(self) -> bool {
        !matches!(self, Self::Put { create: true } | Self::Other)
    }

    /// Checks an answer whose status means success, and returns it if it is one of the store's.
    pub(super) async fn check(
        self,
        answer: HttpResponse,
    ) -> Result<Result<HttpResponse, NoAnswer>, HttpError> {
        if self == Self::Credentials || !answer.status().is_success() {
            return Ok(Ok(answer));
        }
        let header = |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok());
        let kind = header("content-type").unwrap_or_default().to_ascii_lowercase();
        let tagged = answer.headers().contains_key("etag");
        let dated = answer.headers().contains_key("last-modified");
        let (is_page, page) = (kind.starts_with("text/html"), || no_answer("it is a page for people (HTML)"));
        match self {
            Self::Object if is_page => return Ok(Err(page())),
            // The reader of an object verifies its content.
            Self::Object if tagged || dated => return Ok(Ok(answer)),
            Self::Object => return Ok(Err(no_answer("it has neither tag nor time of an object"))),
            Self::Put { .. } if !tagged => return Ok(Err(no_answer("it has no tag of what was put"))),
            _ => {}
        }
        let (head, body) = answer.into_parts();
        let body = whole(body).await?;
        let said = match &body {
            // Some stores give this type to an answer without a body.
            Some(body) if is_page && !body.trim_ascii().is_empty() => Err(page()),
            Some(body) => self.judge(body),
            None => Err(no_answer("it is too long")),
        };
        let body = body.unwrap_or_default();
        Ok(said.map(|()| HttpResponse::from_parts(head, HttpResponseBody::from(body))))
    }

    fn judge(self, body: &Bytes) -> Result<(), NoAnswer> {
        let text = String::from_utf8_lossy(body);
        let text = text.trim_start_matches('\u{feff}').trim();
        match self {
            Self::Listing(root) => {
                document(text, root)?;
                let truncated =
                    inner(text, "IsTruncated").is_some_and(|value| value.eq_ignore_ascii_case("true"));
                let goes_on = inner(text, "NextContinuationToken").is_some_and(|token| !token.is_empty());
                if truncated && !goes_on {
                    return Err(no_answer("a listing says that it goes on, and not where"));
                }
                Ok(())
            }
            Self::Deletions(root) => document(text, root),
            // The answer to a put or a deletion has no body, or at least no document.
            Self::Put { .. } | Self::Delete if text.starts_with(['<', '{']) => {
                Err(no_answer(&format!("it holds `{}`", start(text))))
            }
            Self::Other if root_of(text) == Some("Error") => {
                Err(no_answer(&format!("it holds `{}`", start(text))))
            }
            _ => Ok(()),
        }
    }
}

fn no_answer(what: &str) -> NoAnswer {
    NoAnswer { what: what.to_owned() }
}

/// Fails unless `text` is a complete document with this root element.
fn document(text: &str, root: &str) -> Result<(), NoAnswer> {
    if text.is_empty() {
        return Err(no_answer("it is empty"));
    }
    if root_of(text) != Some(root) {
        return Err(no_answer(&format!("it holds `{}` where `{root}` belongs", start(text))));
    }
    let closed = text.strip_suffix('>').is_some_and(|text| {
        let text = text.trim_end();
        text.strip_suffix(root).is_some_and(|text| text.ends_with("</"))
            || (text.ends_with('/') && text.rfind('<').is_some_and(|at| root_of(&text[at..]) == Some(root)))
    });
    if closed { Ok(()) } else { Err(no_answer("it is cut off")) }
}

/// Returns the name of a document's root element.
fn root_of(text: &str) -> Option<&str> {
    let mut rest = text;
    loop {
        rest = rest.trim_start();
        let end = match rest {
            _ if rest.starts_with("<?") => rest.find("?>")? + 2,
            _ if rest.starts_with("<!--") => rest.find("-->")? + 3,
            _ if rest.starts_with("<!") => rest.find('>')? + 1,
            _ => break,
        };
        rest = rest.get(end..)?;
    }
    let name = rest.strip_prefix('<')?;
    let end = name.find(|c: char| c.is_whitespace() || matches!(c, '>' | '/'))?;
    name.get(..end)
}

/// Returns the text of the first element with this name.
fn inner<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, after) = text.split_once(&format!("<{name}>"))?;
    after.split_once("</").map(|(value, _)| value.trim())
}

/// Returns the beginning of an answer, escaped for output.
pub(super) fn start(text: &str) -> String {
    let shown: String = text.chars().take(SHOWN).collect();
    shown.escape_debug().to_string()
}

/// Reads a body; `None` if it is too long to be a valid answer.
pub(super) async fn whole(body: HttpResponseBody) -> Result<Option<Bytes>, HttpError> {
    let (mut pieces, mut read) = (body.bytes_stream(), BytesMut::new());
    while let Some(piece) = pieces.try_next().await? {
        if read.len() + piece.len() > MOST {
            return Ok(None);
        }
        read.extend_from_slice(&piece);
    }
    Ok(Some(read.freeze()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(asked: Asked, body: &str) -> Result<(), String> {
        asked.judge(&Bytes::copy_from_slice(body.as_bytes())).map_err(|e| e.to_string())
    }

    #[test]
    fn n18_only_a_whole_document_of_its_root_is_a_listing() {
        let listing = Asked::Listing("ListBucketResult");
        let good = [
            "<ListBucketResult></ListBucketResult>",
            "\u{feff}<?xml version=\"1.0\"?>\n<!-- x --><ListBucketResult xmlns=\"a\"><Name>b</Name></ListBucketResult >\n",
            "<ListBucketResult/>",
            "<ListBucketResult xmlns='a' />",
            "<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken></ListBucketResult>",
        ];
        for body in good {
            assert_eq!(said(listing, body), Ok(()), "{body}");
        }
        let bad = [
            "",
            " \n",
            "<Error><Code>InternalError</Code></Error>",
            "<!DOCTYPE html><html></html>",
            "{\"error\": 1}",
            "<ListBucketResult>",
            "<ListBucketResult><Contents><Key>a</Key></Contents>",
            "<ListBucketResult><Prefix/>",
            "<ListBucketResults></ListBucketResults>",
            "<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>",
            "<?xml",
            "<",
        ];
        for body in bad {
            assert!(said(listing, body).is_err(), "{body}");
        }
    }

    #[test]
    fn n3_what_was_done_is_said_without_a_document() {
        for asked in [Asked::Put { create: true }, Asked::Delete] {
            assert_eq!(said(asked, ""), Ok(()));
            assert!(said(asked, "<Error><Code>InternalError</Code></Error>").is_err());
            assert!(said(asked, "{\"error\": {\"code\": 503}}").is_err());
        }
        let many = Asked::Deletions("DeleteResult");
        assert_eq!(said(many, "<DeleteResult/>"), Ok(()));
        assert!(said(many, "<Error/>").is_err() && said(many, "").is_err());
        assert!(said(Asked::Other, "<?xml version='1.0'?><Error><Code>x</Code></Error>").is_err());
        assert_eq!(said(Asked::Other, "<CopyObjectResult/>"), Ok(()));
    }
}
