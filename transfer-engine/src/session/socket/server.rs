//! The session's end of the socket.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::unix::OwnedWriteHalf;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc};

use super::Way;
use super::teller::Teller;
use super::wire::{Event, MAX_REQUEST, Request, Verb, read_line};
use crate::monitor::Monitor;
use crate::report::Direction;
use crate::session::flight::SyncResult;
use crate::session::relay::Relay;
use crate::session::worker::Worker;
use crate::state::{NEW_SOCKET, SOCKET};

/// The most connections at the same time; further ones wait.
const CONNECTIONS: usize = 64;
/// How many lines may be queued for a client.
const QUEUE: usize = 1 << 15;
/// A client that reads nothing for this long counts as gone.
const PATIENCE: Duration = Duration::from_secs(60);

/// The socket on which a session accepts requests for one mount. Its file is removed with the mount's lock.
pub(in crate::session) struct Door {
    listener: UnixListener,
    owner: Option<u32>,
}

impl Door {
    /// Creates the socket in a mount's state, for this user and, if given, one more.
    pub(in crate::session) fn open(state: &Path, owner: Option<(u32, u32)>) -> io::Result<Self> {
        // The socket is created under another name and renamed. So it never has wrong permissions under its
        // own name, and an old one is replaced. The mount's lock ensures that no other process does the same.
        let (new, path) = (state.join(NEW_SOCKET), state.join(SOCKET));
        match fs::remove_file(&new) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let way = Way::new(state, NEW_SOCKET)?;
        let listener = std::os::unix::net::UnixListener::bind(&way.to)?;
        fs::set_permissions(&new, Permissions::from_mode(0o600))?;
        if let Some((uid, gid)) = owner {
            chown(&new, Some(uid), Some(gid))?;
            open_up(state)?;
        }
        fs::rename(&new, &path)?;
        listener.set_nonblocking(true)?;
        let listener = UnixListener::from_std(listener)?;
        Ok(Self { listener, owner: owner.map(|(uid, _)| uid) })
    }

    /// Accepts requests until the session ends.
    pub(in crate::session) async fn serve(self, worker: Arc<Worker>) {
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let end = &worker.ends.all;
            let stream = tokio::select! {
                biased;
                accepted = self.listener.accept() => accepted,
                () = end.cancelled() => return,
            };
            match stream {
                Ok((stream, _)) if self.lets_in(&stream) => {
                    let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
                    let worker = Arc::clone(&worker);
                    tokio::spawn(async move {
                        let _place = place;
                        converse(stream, worker).await;
                    });
                }
                Ok(_) => {}
                // For example, too many files are open, which passes.
                Err(e) => {
                    tracing::debug!(error = %e, "no connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    fn lets_in(&self, stream: &UnixStream) -> bool {
        let own = rustix::process::geteuid().as_raw();
        stream.peer_cred().is_ok_and(|peer| [0, own].contains(&peer.uid()) || Some(peer.uid()) == self.owner)
    }
}

/// Lets other users pass through the state's directories, without listing them.
fn open_up(state: &Path) -> io::Result<()> {
    for dir in state.ancestors().take(3) {
        let meta = fs::metadata(dir)?;
        if meta.mode() & 0o011 != 0o011 {
            fs::set_permissions(dir, Permissions::from_mode(meta.mode() & 0o7777 | 0o011))?;
        }
    }
    Ok(())
}

/// Returns the directory above the state that the user can't enter, if there is one.
pub(in crate::session) fn barrier(state: &Path, (uid, gid): (u32, u32)) -> Option<PathBuf> {
    let passes = |dir: &&Path| {
        let Ok(meta) = fs::metadata(dir) else { return true };
        let needed = match () {
            () if meta.uid() == uid => 0o100,
            () if meta.gid() == gid => 0o010,
            () => 0o001,
        };
        uid == 0 || meta.mode() & needed != 0
    };
    state.ancestors().find(|dir| !passes(dir)).map(Path::to_owned)
}

/// Answers the requests of one connection, one after the other.
async fn converse(stream: UnixStream, worker: Arc<Worker>) {
    let (from, to) = stream.into_split();
    let (out, lines) = mpsc::channel(QUEUE);
    let writer = tokio::spawn(write_lines(to, lines));
    let mut from = BufReader::new(from);
    let (session, name) = (worker.session.clone(), worker.context());
    let was = (name != worker.sync.context).then(|| worker.sync.context.to_string());
    let (context, part) = (name.to_string(), worker.sync.part.to_string());
    let mut answer = Some(Event::Hello { session, context, was, part });
    loop {
        if let Some(event) = answer.take()
            && out.send(event.line()).await.is_err()
        {
            break;
        }
        let line = tokio::select! {
            biased;
            line = read_line(&mut from, MAX_REQUEST) => line,
            () = worker.ends.all.cancelled() => break,
        };
        match line {
            Ok(Some(line)) => {
                let parsed = serde_json::from_slice::<Request>(&line);
                answer = Some(match parsed {
                    Ok(request) => answer_to(&request, &worker, &out).await,
                    Err(e) => Event::bad_request(format!("the request is not understood: {e}")),
                });
            }
            Ok(None) => break,
            Err(e) => {
                // After an invalid request, the start of the next one is unknown.
                let _ = out.send(Event::bad_request(e.to_string()).line()).await;
                break;
            }
        }
    }
    drop(out);
    // Queued lines are still sent.
    let _ = writer.await;
}

async fn write_lines(mut to: OwnedWriteHalf, mut lines: mpsc::Receiver<Vec<u8>>) {
    while let Some(line) = lines.recv().await {
        match tokio::time::timeout(PATIENCE, to.write_all(&line)).await {
            Ok(Ok(())) => {}
            _ => return,
        }
    }
}

/// Carries out a request, and returns the last line of the answer.
async fn answer_to(request: &Request, worker: &Arc<Worker>, out: &mpsc::Sender<Vec<u8>>) -> Event {
    if request.request == Verb::Status {
        return match request.is_plain() {
            true => Event::Status { tasks: worker.board.tasks(&worker.place().to_string()) },
            false => Event::bad_request("status takes no options"),
        };
    }
    let teller = Arc::new(Teller::new(out.clone()));
    match carry_out(request, worker, &teller).await {
        Ok(outcome) => {
            if let Some(event) = teller.confess() {
                let _ = out.send(event.line()).await;
            }
            match outcome {
                Ok(report) => Event::Report { report: Box::new(report) },
                Err(error) => Event::error(&error),
            }
        }
        Err(message) => Event::bad_request(message),
    }
}

/// Carries out a sync, or returns what is wrong with the request.
async fn carry_out(
    request: &Request,
    worker: &Arc<Worker>,
    teller: &Arc<Teller>,
) -> Result<SyncResult, String> {
    let listen = |relay: &Arc<Relay>| relay.listen(Arc::<Teller>::clone(teller) as Arc<dyn Monitor>);
    let direction = match request.request {
        Verb::Push => Direction::Upload,
        Verb::Sync => Direction::Both,
        Verb::Pull | Verb::Fetch | Verb::Status => Direction::Download,
    };
    let paths = request.tree_paths()?;
    if request.request == Verb::Fetch && !request.is_of_paths() {
        return Err("fetch takes at least one path, and no options".to_owned());
    }
    if direction == Direction::Download && (request.max_upload.is_some() || request.deadline_ms.is_some()) {
        return Err("max_upload and deadline_ms are for uploads".to_owned());
    }
    let _pushes = (direction != Direction::Download).then(|| listen(&worker.pushes));
    let _pulls = (direction != Direction::Upload).then(|| listen(&worker.pulls));
    Ok(if request.is_plain() {
        worker.sync(direction).await
    } else if direction == Direction::Download && request.is_of_paths() {
        worker.fetch(paths).await
    } else {
        let options = request.options(&worker.options)?;
        worker.sync_alone(direction, options).await
    })
}
