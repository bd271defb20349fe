//! An S3 server in the test's own process.
//!
//! It keeps its objects in a directory and listens on a free port of the loopback interface. It has what
//! tests need: conditional puts that are atomic, a log of requests, and failures on a real connection.

mod faults;
mod objects;
mod page;
mod wire;

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, IF_MATCH, IF_NONE_MATCH};
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use tokio::sync::oneshot;

pub use faults::Fault;
use objects::Objects;
pub use wire::Bytes;
use wire::Counted;

/// The access key that the server accepts.
pub const ACCESS_KEY: &str = "test-access-key";
/// The secret key that the server accepts.
pub const SECRET_KEY: &str = "test-secret-key-canary";
/// The bucket that exists from the start.
pub const BUCKET: &str = "bucket";

/// What goes wrong with one put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutFault {
    /// The object is stored, and the reply has this error status.
    StoredAndAnswered(u16),
    /// The object is stored, and the connection is closed without a reply.
    StoredAndDropped,
    /// Nothing is stored, and the reply has this status.
    Answered(u16),
    /// Nothing is stored, and the connection is closed without a reply.
    Dropped,
}

/// A request that the server received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3Request {
    /// The method: `GET`, `PUT`, ...
    pub method: String,
    /// The path with its query.
    pub target: String,
}

/// A running server. Dropping it stops it and deletes its objects.
pub struct S3Server {
    address: SocketAddr,
    root: PathBuf,
    /// Deletes the directory when the server is dropped.
    _temporary: Option<tempfile::TempDir>,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    requests: Mutex<Vec<S3Request>>,
    put_faults: Mutex<VecDeque<PutFault>>,
    fault: Mutex<Option<Planned>>,
    ignore_preconditions: bool,
    root: PathBuf,
    counted: Counted,
    /// Latency that is added to everything, in each direction.
    delay: Duration,
}

impl Shared {
    /// Returns what goes wrong with the next request.
    fn next_fault(&self) -> Option<Fault> {
        let mut planned = lock(&self.fault);
        let planned = planned.as_mut()?;
        if let Some(left) = planned.spared.checked_sub(1) {
            planned.spared = left;
            return None;
        }
        if planned.once && planned.failed > 0 {
            return None;
        }
        planned.failed += 1;
        Some(planned.fault)
    }
}

/// A fault of requests to come.
struct Planned {
    /// How many requests are still answered as they should be.
    spared: usize,
    /// Whether only one request fails, or all that follow.
    once: bool,
    fault: Fault,
    failed: usize,
}

impl S3Server {
    /// Starts a server that honours `If-None-Match: *`, also for concurrent puts.
    ///
    /// # Errors
    /// If the temporary directory, the socket or the threads can't be created.
    pub fn start() -> io::Result<Self> {
        Self::start_with(Shared::default(), Some(tempfile::tempdir()?))
    }

    /// Starts a distant server, which keeps its objects below `root` even after it is dropped. `delay` is the
    /// latency in each direction.
    ///
    /// # Errors
    /// If the directory, the socket or the threads can't be created.
    pub fn start_at(root: &Path, delay: Duration) -> io::Result<Self> {
        Self::start_with(Shared { root: root.to_owned(), delay, ..Shared::default() }, None)
    }

    /// Starts a server that ignores the condition of a put: it overwrites the object and answers 200.
    ///
    /// # Errors
    /// If the temporary directory, the socket or the threads can't be created.
    pub fn start_ignoring_preconditions() -> io::Result<Self> {
        let shared = Shared { ignore_preconditions: true, ..Shared::default() };
        Self::start_with(shared, Some(tempfile::tempdir()?))
    }

    fn start_with(mut shared: Shared, temporary: Option<tempfile::TempDir>) -> io::Result<Self> {
        if let Some(temporary) = &temporary {
            shared.root = temporary.path().to_owned();
        }
        let root = shared.root.clone();
        std::fs::create_dir_all(root.join(BUCKET))?;
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let mut builder = S3ServiceBuilder::new(Objects::new(&root)?);
        if !shared.ignore_preconditions {
            builder.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
        }
        let service = builder.build();
        let shared = Arc::new(shared);
        let (stop, stopped) = oneshot::channel();
        // These threads read and write files. With two, large bodies use both cores.
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        // On its own thread, because a test may have no runtime, or one whose clock is paused.
        let thread = std::thread::Builder::new().name("s3-server".to_owned()).spawn({
            let shared = shared.clone();
            move || runtime.block_on(serve(listener, service, shared, stopped))
        })?;
        Ok(Self { address, root, _temporary: temporary, shared, stop: Some(stop), thread: Some(thread) })
    }

    /// Returns the address as `http://127.0.0.1:PORT`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns the URL of a store below a prefix of [`BUCKET`].
    pub fn url(&self, prefix: &str) -> String {
        format!("s3://{BUCKET}/{prefix}")
    }

    /// Returns the environment variables that point AWS clients to this server.
    pub fn env(&self) -> Vec<(String, String)> {
        [
            ("AWS_ENDPOINT_URL", self.endpoint().as_str()),
            ("AWS_ACCESS_KEY_ID", ACCESS_KEY),
            ("AWS_SECRET_ACCESS_KEY", SECRET_KEY),
            ("AWS_REGION", "us-east-1"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec()
    }

    /// Returns the directory that holds the bucket's objects as files.
    pub fn bucket_dir(&self) -> PathBuf {
        self.root.join(BUCKET)
    }

    /// Creates another bucket.
    ///
    /// # Errors
    /// If the directory can't be created.
    pub fn create_bucket(&self, name: &str) -> io::Result<()> {
        std::fs::create_dir(self.root.join(Path::new(name).file_name().unwrap_or_default()))
    }

    /// Makes the next put fail like this. Several calls queue up, one for each put.
    pub fn fail_put(&self, fault: PutFault) {
        lock(&self.shared.put_faults).push_back(fault);
    }

    /// Makes a request to come fail, and unless `once` is set all that follow: the first after `spared` others.
    pub fn fail_after(&self, spared: usize, once: bool, fault: Fault) {
        *lock(&self.shared.fault) = Some(Planned { spared, once, fault, failed: 0 });
    }

    /// Ends what [`fail_after`](Self::fail_after) began, and returns how many requests have failed.
    pub fn fail_no_more(&self) -> usize {
        lock(&self.shared.fault).take().map_or(0, |planned| planned.failed)
    }

    /// Returns the requests so far, in order.
    pub fn requests(&self) -> Vec<S3Request> {
        lock(&self.shared.requests).clone()
    }

    /// Returns the bytes that were sent to the server and received from it so far, headers included.
    pub fn bytes(&self) -> Bytes {
        self.shared.counted.bytes()
    }

    /// Clears the log of requests.
    pub fn clear_requests(&self) {
        lock(&self.shared.requests).clear();
    }
}

impl fmt::Debug for S3Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "S3Server({})", self.address)
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(
    listener: TcpListener,
    service: S3Service,
    shared: Arc<Shared>,
    mut stopped: oneshot::Receiver<()>,
) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = &mut stopped => return,
        };
        let Ok((socket, _)) = accepted else { continue };
        // Otherwise each small answer waits for the client's delayed acknowledgement.
        let _ = socket.set_nodelay(true);
        let (service, shared) = (service.clone(), shared.clone());
        let (socket, delay) = (shared.counted.count(socket), shared.delay);
        tokio::spawn(async move {
            let answers = service_fn(move |request| answer(service.clone(), shared.clone(), request));
            let http = http1::Builder::new();
            let _ = if delay.is_zero() {
                http.serve_connection(TokioIo::new(socket), answers).await
            } else {
                http.serve_connection(TokioIo::new(wire::lengthen(socket, delay).await), answers).await
            };
        });
    }
}

/// On an error the server closes the connection without a reply.
async fn answer(
    service: S3Service,
    shared: Arc<Shared>,
    mut request: Request<Incoming>,
) -> Result<Response<s3s::Body>, Gone> {
    let target = request.uri().path_and_query().map_or_else(String::new, ToString::to_string);
    lock(&shared.requests).push(S3Request { method: request.method().to_string(), target });
    if shared.ignore_preconditions {
        request.headers_mut().remove(IF_NONE_MATCH);
        request.headers_mut().remove(IF_MATCH);
        // The signature covers the removed headers. A server that ignores conditions does not check it.
        request.headers_mut().remove(AUTHORIZATION);
    }
    // As with S3, a put does not create its bucket.
    let bucket = request.uri().path().trim_start_matches('/').split('/').next().unwrap_or_default();
    if !bucket.is_empty() && !shared.root.join(bucket).is_dir() {
        let body = "<Error><Code>NoSuchBucket</Code><Message>no such bucket</Message></Error>";
        return Response::builder().status(404).body(body.to_owned().into()).map_err(|_| Gone);
    }
    if let Some(fault) = shared.next_fault() {
        if let Some(instead) = fault.instead().await {
            return instead;
        }
        return fault.spoil(Service::call(&service, request).await.map_err(|_| Gone)?).await;
    }
    let is_put = request.method() == Method::PUT;
    let fault = is_put.then(|| lock(&shared.put_faults).pop_front()).flatten();
    match fault {
        Some(PutFault::Answered(status)) => return refused(status),
        Some(PutFault::Dropped) => return Err(Gone),
        Some(PutFault::StoredAndAnswered(_) | PutFault::StoredAndDropped) | None => {}
    }
    let response = Service::call(&service, request).await.map_err(|_| Gone)?;
    match fault {
        Some(PutFault::StoredAndAnswered(status)) => refused(status),
        Some(PutFault::StoredAndDropped) => Err(Gone),
        _ => Ok(response),
    }
}

fn refused(status: u16) -> Result<Response<s3s::Body>, Gone> {
    Response::builder().status(status).body(s3s::Body::empty()).map_err(|_| Gone)
}

#[derive(Debug)]
struct Gone;

impl fmt::Display for Gone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the connection is to be closed")
    }
}

impl std::error::Error for Gone {}
