//! The client's end of the socket.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use policy_core::{PathError, TreePath};
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

use super::Way;
use super::wire::{Event, MAX_EVENT, Request, Verb, read_line, remote};
use crate::error::Error;
use crate::format::ContextName;
use crate::local::absolute;
use crate::monitor::{Monitor, PathEvent, PathProblem};
use crate::mount::ContextPart;
use crate::options::SyncOptions;
use crate::report::SyncReport;
use crate::session::params::ContextInfo;
use crate::state::{SOCKET, mount_dir};
use crate::status::TaskStatus;

/// How long a session may take to answer a new connection.
const GREETING: Duration = Duration::from_secs(10);

/// A session, in this process or another, that holds a mount. It carries out the requests of its clients.
///
/// The session's own options apply, except for those that a caller chooses: `only`, `dry_run`, `checksum`,
/// `conflict`, `max_delete`, `allow_empty_mount`, `one_file_system`, `strict`, and for pushes `max_upload`
/// and `deadline`. A request continues even if its caller goes away.
#[derive(Debug)]
pub struct RunningSession {
    stream: BufReader<UnixStream>,
    session: String,
    place: ContextPart,
    /// The context's name when the session was opened.
    was: ContextName,
    mount: PathBuf,
}

enum Last {
    Report(Box<SyncReport>),
    Status(Vec<TaskStatus>),
}

impl RunningSession {
    /// Finds the session that holds a mount; `None` if there is none.
    ///
    /// # Errors
    /// The session can't be asked: it belongs to another user, or does not answer.
    pub async fn connect(state_dir: &Path, mount: &Path) -> io::Result<Option<Self>> {
        let mount = absolute(mount)?;
        let connected = match Way::new(&mount_dir(state_dir, &mount), SOCKET) {
            Ok(way) => UnixStream::connect(&way.to).await,
            Err(e) => Err(e),
        };
        let stream = match connected {
            Ok(stream) => stream,
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
                return Ok(None);
            }
            Err(e) => return Err(e),
        };
        let mut stream = BufReader::new(stream);
        let line = tokio::time::timeout(GREETING, read_line(&mut stream, MAX_EVENT)).await;
        let line = match line.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))? {
            Ok(Some(line)) => line,
            // The session was just ending.
            Ok(None) => return Ok(None),
            Err(e) if e.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
            Err(e) => return Err(e),
        };
        let odd = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
        match serde_json::from_slice(&line).map_err(|e| odd(e.to_string()))? {
            Event::Hello { session, context, was, part } => {
                let parse = |name: &str| name.parse::<ContextName>().map_err(|e| odd(e.to_string()));
                let was = parse(was.as_ref().unwrap_or(&context))?;
                let path = part.parse().map_err(|e: PathError| odd(e.to_string()))?;
                let place = ContextPart { context: parse(&context)?, path };
                Ok(Some(Self { stream, session, place, was, mount }))
            }
            other => Err(odd(format!("the session began with {other:?}"))),
        }
    }

    /// Returns the session's id.
    pub fn id(&self) -> &str {
        &self.session
    }

    /// Returns the session's context at this mount.
    pub fn context(&self) -> &ContextName {
        &self.place.context
    }

    /// Returns the session's context at this mount, or the part of it that is mounted.
    pub fn place(&self) -> &ContextPart {
        &self.place
    }

    /// Whether this is what the session has mounted, by the context's current name or by its name when the session was
    /// opened.
    pub fn works_on(&self, place: &ContextPart) -> bool {
        [&self.place.context, &self.was].contains(&&place.context) && self.place.path == place.path
    }

    /// Returns the mount's path, absolute and without links.
    pub fn mount(&self) -> &Path {
        &self.mount
    }

    /// Pushes what changed in the mount.
    ///
    /// # Errors
    /// [`Error::Remote`] if the session failed; [`Error::Local`] if the connection failed.
    pub async fn push(&mut self, options: &SyncOptions, monitor: &dyn Monitor) -> Result<SyncReport, Error> {
        self.sync_with(Verb::Push, options, monitor).await
    }

    /// Pulls what the context has and the mount lacks.
    ///
    /// # Errors
    /// The same as those of [`push`](Self::push).
    pub async fn pull(&mut self, options: &SyncOptions, monitor: &dyn Monitor) -> Result<SyncReport, Error> {
        self.sync_with(Verb::Pull, options, monitor).await
    }

    /// Pulls, then pushes.
    ///
    /// # Errors
    /// The same as those of [`push`](Self::push).
    pub async fn sync(&mut self, options: &SyncOptions, monitor: &dyn Monitor) -> Result<SyncReport, Error> {
        self.sync_with(Verb::Sync, options, monitor).await
    }

    /// Fetches paths and what is below them now, before all other files.
    ///
    /// # Errors
    /// The same as those of [`push`](Self::push).
    pub async fn fetch(&mut self, paths: &[TreePath], monitor: &dyn Monitor) -> Result<SyncReport, Error> {
        match self.ask(&Request::new(Verb::Fetch, paths), monitor).await? {
            Last::Report(report) => Ok(*report),
            Last::Status(_) => Err(self.unheard(io::ErrorKind::InvalidData.into())),
        }
    }

    /// Returns the state of the mount's tasks.
    ///
    /// # Errors
    /// The same as those of [`push`](Self::push).
    pub async fn status(&mut self) -> Result<ContextInfo, Error> {
        match self.ask(&Request::new(Verb::Status, &[]), &crate::monitor::Silent).await? {
            Last::Status(tasks) => Ok(ContextInfo { context_status_data: tasks }),
            Last::Report(_) => Err(self.unheard(io::ErrorKind::InvalidData.into())),
        }
    }

    async fn sync_with(
        &mut self,
        verb: Verb,
        options: &SyncOptions,
        monitor: &dyn Monitor,
    ) -> Result<SyncReport, Error> {
        let mut request = Request::sync(verb, options);
        if verb == Verb::Pull {
            // These options apply only to pushes.
            (request.max_upload, request.deadline_ms) = (None, None);
        }
        match self.ask(&request, monitor).await? {
            Last::Report(report) => Ok(*report),
            Last::Status(_) => Err(self.unheard(io::ErrorKind::InvalidData.into())),
        }
    }

    async fn ask(&mut self, request: &Request, monitor: &dyn Monitor) -> Result<Last, Error> {
        let mut line = serde_json::to_vec(request).map_err(|e| self.unheard(e.into()))?;
        line.push(b'\n');
        self.stream.get_mut().write_all(&line).await.map_err(|e| self.unheard(e))?;
        loop {
            let line = read_line(&mut self.stream, MAX_EVENT).await.map_err(|e| self.unheard(e))?;
            let line = line.ok_or_else(|| self.unheard(io::ErrorKind::UnexpectedEof.into()))?;
            // Events of a newer version are ignored.
            let Ok(event) = serde_json::from_slice(&line) else { continue };
            match event {
                Event::Report { report } => return Ok(Last::Report(report)),
                Event::Status { tasks } => return Ok(Last::Status(tasks)),
                Event::Error { kind, message, hint, causes } => {
                    return Err(remote(kind, message, hint, causes));
                }
                event => pass_on(event, monitor),
            }
        }
    }

    fn unheard(&self, source: io::Error) -> Error {
        Error::local("hear from the session that holds", &self.mount, source)
    }
}

fn pass_on(event: Event, monitor: &dyn Monitor) {
    match event {
        Event::Phase { phase } => monitor.phase(phase),
        Event::Progress(progress) => monitor.progress(&progress),
        Event::Path { path, action, side, reason, size } => {
            if let Ok(path) = path.decode() {
                monitor.path(&PathEvent { path: &path, action, side, reason: &reason, size });
            }
        }
        Event::Warning { message } => monitor.warning(&message),
        Event::Problem { path, message, hint } => {
            if let Ok(path) = path.decode() {
                monitor.problem(&PathProblem { path, message, hint });
            }
        }
        Event::Hello { .. } | Event::Report { .. } | Event::Status { .. } | Event::Error { .. } => {}
    }
}
