//! Extracts an archive that was pulled into a directory beside it, once.
//!
//! The archive is extracted in the staging directory, and the complete result is moved to its place. If it
//! gets a directory of its own, that is one rename, noted before and after, so that after a crash either none
//! or all of it is there. If it goes into the archive's own directory, it is moved member by member, and the
//! next pull continues after a crash. The archive itself is removed last.

use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use policy_core::TreePath;
use rustix::fs::FileType;

use super::applying::Applying;
use super::folder::{Folder, find_folder, is_in_the_way, next_folder, spoken_for};
use super::members::{LeftOut, Placing};
use super::trouble::Trouble;
use crate::error::Error;
use crate::extract::{ArchiveKind, ExtractError, Extracted, Extraction};
use crate::local::{
    Fingerprint, InstallError, MountDir, StagedDir, Staging, Stagings, is_staging_name, names, stat_at,
    writable,
};
use crate::plan::Filter;
use crate::state::{Archive, ArrivalRow, Arriving, BaseRow, Change};

/// An archive in the mount, as it was pulled.
#[derive(Debug, Clone)]
pub(super) struct PulledArchive {
    pub(super) row: BaseRow,
    pub(super) print: Fingerprint,
}

/// What happened to an archive.
pub(super) enum Fate {
    /// It was extracted, except for members that were left out.
    Out(Box<Out>),
    /// It is not an archive, despite its name.
    NoArchive,
    /// It has changed or is gone since it was pulled, or a fetch has just extracted it.
    Left,
    /// The name of its directory is taken by something that may still be deleted.
    Later,
    /// The pull was stopped.
    Stopped,
    /// It was not extracted because of its content.
    Refused(String),
    /// It was not extracted because of a local error.
    Failed(Trouble),
}

/// The result of an extraction.
pub(super) struct Out {
    pub(super) into: TreePath,
    pub(super) extracted: Extracted,
    /// Members that were left out because something else is in their place.
    pub(super) left_out: LeftOut,
    /// Why the archive itself is still there, although the policy deletes it.
    pub(super) stays: Option<Trouble>,
}

type Done<T> = Result<T, Stop>;

/// Why an extraction ends early.
enum Stop {
    Fate(Fate),
    Error(io::Error),
}

impl From<io::Error> for Stop {
    fn from(e: io::Error) -> Self {
        Self::Error(e)
    }
}

fn failed<T>(what: &str, e: &io::Error) -> Done<T> {
    Err(Stop::Fate(Fate::Failed(Trouble::local(what, e))))
}

/// Extracts an archive. If only something that may still be deleted is in the way of its directory, the
/// archive waits for the deletions, unless it `waited` already.
pub(super) async fn extract(
    applying: &Applying<'_>,
    stagings: &Arc<Stagings>,
    pulled: PulledArchive,
    waited: bool,
) -> Result<(PulledArchive, Fate), Error> {
    let mut done = applying.arriving.extracting.lock().await;
    if !done.insert(pulled.row.path.clone()) {
        return Ok((pulled, Fate::Left));
    }
    // The result goes beside the archive, and so to the same file system.
    let fate = match stagings.of(&pulled.row.path) {
        Ok(staging) => {
            run(applying, &Places { stagings: stagings.clone(), staging }, &pulled, waited).await?
        }
        Err(e) => Fate::Failed(Trouble::local("the archive cannot be extracted", &e)),
    };
    if !matches!(fate, Fate::Out(_)) {
        done.remove(&pulled.row.path);
    }
    Ok((pulled, fate))
}

/// The staging directories for the extraction.
#[derive(Clone)]
struct Places {
    /// On the archive's own file system.
    staging: Arc<Staging>,
    /// On file systems that begin below the archive's directory as well.
    stagings: Arc<Stagings>,
}

async fn run(
    applying: &Applying<'_>,
    places: &Places,
    pulled: &PulledArchive,
    waited: bool,
) -> Result<Fate, Error> {
    if let Archive::Extracted { at, .. } = &pulled.row.archive {
        // Only the removal of the archive was missing.
        let job = Job::new(applying, places, pulled, pulled.row.path.clone());
        let at = at.clone();
        return blocking(applying, move || job.remove(at)).await;
    }
    let Some(policy) = &applying.filter.extract else { return Ok(Fate::Left) };
    if policy.extract_to_current_folder {
        let into = pulled.row.path.parent().unwrap_or_default();
        let job = Job::new(applying, places, pulled, into.clone());
        let decoded = match blocking_done(applying, move || job.decode_members(waited)).await? {
            Ok(decoded) => decoded,
            Err(fate) => return Ok(fate),
        };
        let spoken_for = spoken_for(applying, &decoded.staged.dir, &into, &pulled.row.path).await;
        let job = Job::new(applying, places, pulled, into);
        return match spoken_for {
            Ok(spoken_for) => blocking(applying, move || job.place_members(decoded, &spoken_for)).await,
            Err(e) => {
                places.staging.discard_dir(&decoded.staged);
                failed_here(e)
            }
        };
    }
    let folder = match find_folder(applying, &pulled.row.path, waited).await {
        Ok(Folder::At(folder)) => folder,
        Ok(Folder::Later) => return Ok(Fate::Later),
        Err(e) => return failed_here(e),
    };
    let job = Job::new(applying, places, pulled, folder.clone());
    let decoded = match blocking_done(applying, move || job.decode()).await? {
        Ok(decoded) => decoded,
        Err(fate) => return Ok(fate),
    };
    let keeps_source = decoded.extracted.left_out_total > 0;
    let folder = if keeps_source && folder == pulled.row.path {
        match next_folder(applying, &folder).await {
            Ok(folder) => folder,
            Err(e) => {
                places.staging.discard_dir(&decoded.staged);
                return failed_here(e);
            }
        }
    } else {
        folder
    };
    let job = Job::new(applying, places, pulled, folder);
    blocking(applying, move || job.place_folder(decoded)).await
}

/// A local error with one archive does not affect the others.
fn failed_here(e: Error) -> Result<Fate, Error> {
    match e {
        Error::Local { .. } if !e.is_damaged_state() => Ok(Fate::Failed(Trouble::from(&e))),
        e => Err(e),
    }
}

async fn blocking(
    applying: &Applying<'_>,
    job: impl FnOnce() -> Done<Fate> + Send + 'static,
) -> Result<Fate, Error> {
    Ok(blocking_done(applying, job).await?.unwrap_or_else(|fate| fate))
}

async fn blocking_done<T: Send + 'static>(
    applying: &Applying<'_>,
    job: impl FnOnce() -> Done<T> + Send + 'static,
) -> Result<Result<T, Fate>, Error> {
    let cannot = |e| Error::local("extract in", applying.dir.path(), e);
    let ended = applying.dir.blocking(job).await.inspect_err(|_| applying.arriving.doubt());
    match ended.map_err(|e| cannot(io::Error::from(e)))? {
        Ok(done) => Ok(Ok(done)),
        Err(Stop::Fate(fate)) => Ok(Err(fate)),
        Err(Stop::Error(e)) => Err(cannot(e)),
    }
}

/// An extracted archive in staging.
struct Decoded {
    staged: StagedDir,
    extracted: Extracted,
}

/// The part of an extraction that works on the file system.
struct Job {
    dir: MountDir,
    staging: Arc<Staging>,
    stagings: Arc<Stagings>,
    arriving: Arc<Arriving>,
    filter: Arc<Filter>,
    limits: crate::extract::ExtractLimits,
    stop: tokio_util::sync::CancellationToken,
    pulled: PulledArchive,
    /// The directory for the members.
    into: TreePath,
}

impl Job {
    fn new(applying: &Applying<'_>, places: &Places, pulled: &PulledArchive, into: TreePath) -> Self {
        Self {
            dir: applying.dir.clone(),
            staging: places.staging.clone(),
            stagings: places.stagings.clone(),
            arriving: applying.arriving.clone(),
            filter: applying.filter.clone(),
            limits: applying.options.extract.clone(),
            stop: applying.stop.clone(),
            pulled: pulled.clone(),
            into,
        }
    }

    fn path(&self) -> &TreePath {
        &self.pulled.row.path
    }

    /// Extracts the archive into a directory in staging.
    fn decode(&self) -> Done<Decoded> {
        let (file, stat) = match self.dir.open_file(self.path()) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(Stop::Fate(Fate::Left)),
            Err(e) => return failed("the archive cannot be read", &e),
            Ok(opened) => opened,
        };
        if !Fingerprint::of(&stat).same_but_moved(&self.pulled.print) {
            // The user has changed it, so it is the user's now.
            return Err(Stop::Fate(Fate::Left));
        }
        let mut begin = [0; ArchiveKind::BEGIN];
        let len = match read_begin(&file, &mut begin) {
            Ok(len) => len,
            Err(e) => return failed("the archive cannot be read", &e),
        };
        let Some(kind) = ArchiveKind::of(self.path().name(), &begin[..len]) else {
            self.note(Archive::No)?;
            return Err(Stop::Fate(Fate::NoArchive));
        };
        let staged = match self.staging.new_dir() {
            Ok(staged) => staged,
            Err(e) => return failed("the archive cannot be extracted", &e),
        };
        let extraction = Extraction {
            archive: &file,
            kind,
            name: self.path().name(),
            into: &staged.dir,
            limits: &self.limits,
            keep: &|member, is_dir| self.keeps(member, is_dir),
            stop: &|| self.stop.is_cancelled(),
        };
        match extraction.run() {
            Ok(extracted) => Ok(Decoded { staged, extracted }),
            Err(e) => {
                self.staging.discard_dir(&staged);
                Err(Stop::Fate(match e {
                    ExtractError::Stopped => Fate::Stopped,
                    ExtractError::Local { .. } => Fate::Failed(Trouble::from(&e)),
                    e => Fate::Refused(crate::error::chain(&e)),
                }))
            }
        }
    }

    /// The same, unless this has to wait for deletions, because something is where a member belongs.
    fn decode_members(&self, waited: bool) -> Done<Decoded> {
        let decoded = self.decode()?;
        let staged = &decoded.staged;
        let stop = match is_in_the_way(&staged.dir, &self.dir, &self.into, &TreePath::root()) {
            Ok(is_in_the_way) if waited || !is_in_the_way => return Ok(decoded),
            Ok(_) => Err(Stop::Fate(Fate::Later)),
            Err(e) => failed("what is in it cannot be put in place", &e),
        };
        self.staging.discard_dir(staged);
        stop
    }

    /// Whether a member would be in scope where it is extracted to.
    fn keeps(&self, member: &TreePath, is_dir: bool) -> bool {
        let Some(path) = member.rebase(&TreePath::root(), &self.into) else { return false };
        let is_ours = path.components().any(is_staging_name);
        path.as_bytes().len() <= crate::format::MAX_PATH_LEN
            && !is_ours
            && self.filter.in_scope(&path, is_dir)
    }

    /// Puts the members into a directory of their own.
    fn place_folder(&self, Decoded { staged, extracted }: Decoded) -> Done<Fate> {
        let done = self.put_folder(&staged, extracted);
        // If the journal is incomplete, the staging directory has to show what happened.
        if !matches!(done, Ok(Fate::Out(_))) && !self.arriving.is_torn() {
            self.staging.discard_dir(&staged);
        }
        done
    }

    fn put_folder(&self, staged: &StagedDir, extracted: Extracted) -> Done<Fate> {
        if extracted.members == 0 && extracted.left_out_total > 0 {
            // Nothing of it is in scope, and an empty directory is of no use.
            self.staging.discard_dir(staged);
            self.note(Archive::Extracted { at: None, drop: false, marked: false, scope: None })?;
            return Ok(self.out(extracted, LeftOut::default(), None));
        }
        self.staging.sync()?;
        if let Some(missing) = missing(staged, &extracted) {
            return Ok(missing);
        }
        let parent = match self.dir.parent(&self.into) {
            Ok(parent) => parent,
            Err(e) => return failed("what is in it cannot be put in place", &e),
        };
        let _writable = writable(&parent);
        let swaps = self.into == *self.path();
        let drop = self.drops(&extracted) && !swaps;
        // Without all members in place, no machine may take the context's members for all there is.
        let at = (extracted.left_out_total == 0).then(|| self.into.clone());
        let archive = Archive::Extracted { at, drop, marked: false, scope: Some(self.filter.scope_id) };
        let row = BaseRow { archive, ..self.pulled.row.clone() };
        let (inode, staging) = (staged.inode(), self.staging.id());
        self.note_change(Change::Extracting { row: row.clone(), inode, staging })?;
        let put = if swaps {
            self.staging.exchange_dir(staged, &parent, &self.into, &self.pulled.print)
        } else {
            self.staging.install_dir(staged, &parent, &self.into)
        };
        match put {
            Ok(()) => {}
            Err(e) => {
                self.note(Archive::Pending)?;
                return match e {
                    InstallError::Changed => Ok(Fate::Later),
                    InstallError::Io(e) => failed("what is in it cannot be put in place", &e),
                };
            }
        }
        self.note_out(row, staged)?;
        let stays = if drop { self.drop_source(Some(&self.into))? } else { None };
        Ok(self.out(extracted, LeftOut::default(), stays))
    }

    /// Puts the members into the archive's own directory. `spoken_for` lists the members at whose paths the
    /// context has something pending, and whether it is the same.
    fn place_members(&self, decoded: Decoded, spoken_for: &[(TreePath, bool)]) -> Done<Fate> {
        let Decoded { staged, extracted } = decoded;
        let placing = Placing { dir: &self.dir, stagings: &self.stagings };
        let synced = self.staging.sync();
        if let Some(missing) = missing(&staged, &extracted).filter(|_| synced.is_ok()) {
            self.staging.discard_dir(&staged);
            return Ok(missing);
        }
        let placed = synced.and_then(|()| placing.members(&staged.dir, &self.into, spoken_for));
        let placed = match placed {
            Ok(placed) => placed,
            Err(e) => {
                self.staging.discard_dir(&staged);
                return failed("what is in it cannot be put in place", &e);
            }
        };
        let is_whole = extracted.left_out_total == 0 && placed.left_out.total == 0;
        let drop = self.drops(&extracted) && is_whole;
        let at = placed.at.clone().filter(|_| is_whole);
        let archive = Archive::Extracted { at, drop, marked: false, scope: Some(self.filter.scope_id) };
        let row = BaseRow { archive, ..self.pulled.row.clone() };
        self.note_out(row, &staged)?;
        // It goes only now, so that it is there again after a loss of power that takes the members.
        self.staging.discard_dir(&staged);
        let stays = if drop { self.drop_source(placed.at.as_ref())? } else { None };
        Ok(self.out(extracted, placed.left_out, stays))
    }

    fn out(&self, extracted: Extracted, left_out: LeftOut, stays: Option<Trouble>) -> Fate {
        Fate::Out(Box::new(Out { into: self.into.clone(), extracted, left_out, stays }))
    }

    /// Whether the archive itself is deleted: not if some of its content is nowhere else.
    fn drops(&self, extracted: &Extracted) -> bool {
        self.filter.extract.as_ref().is_some_and(|e| e.delete_src_file) && extracted.left_out_total == 0
    }

    fn remove(&self, at: Option<TreePath>) -> Done<Fate> {
        match self.drop_source(at.as_ref())? {
            Some(why) => Err(Stop::Fate(Fate::Failed(why))),
            None => Ok(Fate::Left),
        }
    }

    /// Removes the archive, when its content is durable. Returns why if it can't.
    fn drop_source(&self, at: Option<&TreePath>) -> Done<Option<Trouble>> {
        let removed = self.staging.sync().map_err(InstallError::Io).and_then(|()| {
            let parent = self.dir.parent(self.path())?;
            let _writable = writable(&parent);
            self.staging.remove(&parent, self.path(), &self.pulled.print)
        });
        match removed {
            // If it has changed meanwhile, it is the user's now.
            Ok(()) | Err(InstallError::Changed) => {
                let (marked, scope) = match &self.pulled.row.archive {
                    // Only the removal was missing.
                    Archive::Extracted { marked, scope, .. } => (*marked, *scope),
                    _ => (false, Some(self.filter.scope_id)),
                };
                self.note(Archive::Extracted { at: at.cloned(), drop: false, marked, scope })?;
                Ok(None)
            }
            Err(InstallError::Io(e)) => Ok(Some(Trouble::local("the archive cannot be removed", &e))),
        }
    }

    fn note(&self, archive: Archive) -> Done<()> {
        self.note_change(Change::Set(BaseRow { archive, ..self.pulled.row.clone() }))
    }

    /// Notes that what is in a staged directory is in place.
    fn note_out(&self, row: BaseRow, staged: &StagedDir) -> Done<()> {
        self.note_change(match staged.id() {
            Some(staged) => Change::CameOut { row, staged },
            None => Change::Set(row),
        })
    }

    fn note_change(&self, change: Change) -> Done<()> {
        Ok(self.arriving.note(vec![ArrivalRow { path: self.path().clone(), change }])?)
    }
}

/// Returns a failure if extracted files are missing from staging. It is in the mount, where other programs may clean up.
fn missing(staged: &StagedDir, extracted: &Extracted) -> Option<Fate> {
    let cannot = "what is in it cannot be put in place";
    match leaves(&staged.dir) {
        Ok(there) if there == extracted.leaves => None,
        Ok(_) => {
            let gone = io::Error::other("something has removed a part of it meanwhile");
            Some(Fate::Failed(Trouble::local(cannot, &gone)))
        }
        // A directory of the archive that its owner may not read.
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => None,
        Err(e) => Some(Fate::Failed(Trouble::local(cannot, &e))),
    }
}

/// Returns the number of files and links in a directory and below it.
fn leaves(dir: &MountDir) -> io::Result<u64> {
    let (mut open, mut count) = (vec![TreePath::root()], 0);
    while let Some(path) = open.pop() {
        let there = dir.dir(&path)?;
        for name in names(&there)? {
            match stat_at(&there, &name)? {
                Some(stat) if FileType::from_raw_mode(stat.st_mode).is_dir() => {
                    open.push(path.join(&name).map_err(io::Error::other)?);
                }
                stat => count += u64::from(stat.is_some()),
            }
        }
    }
    Ok(count)
}

fn read_begin(file: &std::fs::File, begin: &mut [u8]) -> io::Result<usize> {
    let mut len = 0;
    while len < begin.len() {
        match file.read_at(&mut begin[len..], len as u64) {
            Ok(0) => break,
            Ok(n) => len += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(len)
}
