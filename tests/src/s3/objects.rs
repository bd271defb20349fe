//! The objects of the server, as files: the object of a key is the file at that path below the bucket.
//!
//! `s3s-fs` answers the other requests: deletes, copies and buckets. Its puts, reads and listings are
//! replaced, because benchmarks would measure them instead of the client: they are slow, and a listing reads
//! other prefixes, too. Here:
//! - an object has one ETag, the same in every answer, including listings;
//! - a listing walks its prefix only, in order, and ends with its page;
//! - bytes are moved once, in large pieces: nothing is flushed, and the kernel joins parts. Only small
//!   objects have the MD5 as ETag that some clients need. The ETag of others looks like that of a multipart
//!   upload, which is never an MD5.

use std::collections::{BTreeMap, HashMap};
use std::fs::{File, Metadata as Meta};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::StreamExt;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use s3s::crypto::{Checksum as _, Md5};
use s3s::dto::*;
use s3s::{S3, S3Request, S3Response, S3Result, s3_error};
use s3s_fs::FileSystem;

use super::lock;
use super::page::Page;

/// Objects of up to this many bytes have their MD5 as ETag.
const SMALL: usize = 1 << 20;
/// Bytes that are read or written at once.
const PIECE: usize = 256 << 10;

pub(super) struct Objects {
    others: FileSystem,
    root: PathBuf,
    /// What the files do not store about their objects. The lock is held while an object is put in place, so
    /// that its condition still holds then.
    notes: Mutex<HashMap<PathBuf, Note>>,
    uploads: Mutex<HashMap<String, Upload>>,
    number: AtomicU64,
}

struct Note {
    /// The stamp of the file that the note is about. The note is not valid for another file at the path.
    stamp: String,
    md5: Option<String>,
    metadata: Option<Metadata>,
    content_type: Option<ContentType>,
}

#[derive(Default)]
struct Upload {
    parts: BTreeMap<PartNumber, PathBuf>,
    metadata: Option<Metadata>,
    content_type: Option<ContentType>,
}

/// A body that was received, in a temporary file.
struct Received {
    path: PathBuf,
    md5: Option<String>,
}

impl Objects {
    pub(super) fn new(root: &Path) -> io::Result<Self> {
        let others = FileSystem::new(root).map_err(|error| io::Error::other(format!("{error:?}")))?;
        std::fs::create_dir_all(root.join(".received"))?;
        Ok(Self {
            others,
            root: root.to_owned(),
            notes: Mutex::default(),
            uploads: Mutex::default(),
            number: AtomicU64::default(),
        })
    }

    fn path(&self, bucket: &str, key: &str) -> S3Result<PathBuf> {
        let named = |c: Component<'_>| matches!(c, Component::Normal(_));
        if !Path::new(key).components().all(named) || key.is_empty() || key.ends_with('/') {
            return Err(s3_error!(InvalidArgument, "a key that cannot be a path"));
        }
        Ok(self.root.join(bucket).join(key))
    }

    fn unnamed(&self) -> PathBuf {
        self.root.join(".received").join(self.number.fetch_add(1, Ordering::Relaxed).to_string())
    }

    async fn receive(&self, body: Option<StreamingBlob>) -> S3Result<Received> {
        let mut body = body.ok_or_else(|| s3_error!(IncompleteBody))?;
        let path = self.unnamed();
        let mut file = File::create_new(&path).map_err(failed)?;
        let mut held = Vec::new();
        let mut flushed = false;
        while let Some(bytes) = body.next().await {
            held.extend_from_slice(&bytes.map_err(|_| s3_error!(IncompleteBody))?);
            if held.len() > SMALL {
                file.write_all(&held).map_err(failed)?;
                held.clear();
                flushed = true;
            }
        }
        file.write_all(&held).map_err(failed)?;
        let md5 = (!flushed).then(|| Md5::checksum(&held).iter().map(|b| format!("{b:02x}")).collect());
        Ok(Received { path, md5 })
    }

    /// Renames a received file to its path if the conditions hold at that moment, and returns its ETag.
    fn name(
        &self,
        received: Received,
        path: &Path,
        (absent, matching): (Option<ETagCondition>, Option<ETagCondition>),
        (metadata, content_type): (Option<Metadata>, Option<ContentType>),
    ) -> S3Result<ETag> {
        let Received { path: from, md5 } = received;
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(failed)?;
        }
        let mut notes = lock(&self.notes);
        if let Some(condition) = matching {
            let there = std::fs::metadata(path).map_err(|_| s3_error!(PreconditionFailed))?;
            if let ETagCondition::ETag(wanted) = condition
                && !etag(notes.get(path), &there).strong_cmp(&wanted)
            {
                return Err(s3_error!(PreconditionFailed));
            }
        }
        let flags = if absent.is_some() { RenameFlags::NOREPLACE } else { RenameFlags::empty() };
        renameat_with(CWD, &from, CWD, path, flags).map_err(|error| {
            let _ = std::fs::remove_file(&from);
            if error == rustix::io::Errno::EXIST {
                s3_error!(PreconditionFailed)
            } else {
                failed(error.into())
            }
        })?;
        let meta = std::fs::metadata(path).map_err(failed)?;
        let note = Note { stamp: stamp(&meta), md5, metadata, content_type };
        let etag = etag(Some(&note), &meta);
        notes.insert(path.to_owned(), note);
        Ok(etag)
    }

    /// Returns the ETag of an object, and the metadata and content type of its put.
    fn known(&self, path: &Path, meta: &Meta) -> (ETag, Option<Metadata>, Option<ContentType>) {
        let notes = lock(&self.notes);
        let note = notes.get(path);
        let valid = note.filter(|note| note.stamp == stamp(meta));
        let metadata = valid.and_then(|note| note.metadata.clone());
        (etag(note, meta), metadata, valid.and_then(|note| note.content_type.clone()))
    }

    fn open(&self, bucket: &str, key: &str) -> S3Result<(PathBuf, File, Meta)> {
        let path = self.path(bucket, key)?;
        let file = File::open(&path).map_err(|_| s3_error!(NoSuchKey))?;
        let meta = file.metadata().map_err(failed)?;
        if !meta.is_file() {
            return Err(s3_error!(NoSuchKey));
        }
        Ok((path, file, meta))
    }
}

/// Returns a stamp, which differs between two files, and between two states of one file.
fn stamp(meta: &Meta) -> String {
    let when = meta.mtime() as u64 * 1_000_000_000 + meta.mtime_nsec() as u64;
    format!("{when:016x}{:08x}{:08x}", meta.size() as u32, meta.ino() as u32)
}

fn etag(note: Option<&Note>, meta: &Meta) -> ETag {
    let stamp = stamp(meta);
    let md5 = note.filter(|note| note.stamp == stamp).and_then(|note| note.md5.clone());
    ETag::Strong(md5.unwrap_or_else(|| format!("{stamp}-1")))
}

fn failed(error: io::Error) -> s3s::S3Error {
    s3_error!(error, InternalError)
}

fn time(meta: &Meta) -> Option<Timestamp> {
    meta.modified().ok().map(Timestamp::from)
}

fn length(meta: &Meta) -> Option<i64> {
    i64::try_from(meta.size()).ok()
}

#[async_trait::async_trait]
impl S3 for Objects {
    async fn put_object(&self, req: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        let input = req.input;
        if let Some(dir) = input.key.strip_suffix('/') {
            // Some clients create such keys for directories. Here a directory exists once it contains
            // something.
            self.path(&input.bucket, dir)?;
            return Ok(S3Response::new(PutObjectOutput::default()));
        }
        let path = self.path(&input.bucket, &input.key)?;
        let received = self.receive(input.body).await?;
        let conditions = (input.if_none_match, input.if_match);
        let etag = self.name(received, &path, conditions, (input.metadata, input.content_type))?;
        Ok(S3Response::new(PutObjectOutput { e_tag: Some(etag), ..Default::default() }))
    }

    async fn get_object(&self, req: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        let input = req.input;
        let (path, mut file, meta) = self.open(&input.bucket, &input.key)?;
        let (mut from, mut to, mut content_range) = (0, meta.size(), None);
        if let Some(range) = input.range {
            (from, to) = range.check(to).map(|range| (range.start, range.end))?;
            content_range = Some(format!("bytes {from}-{}/{}", to - 1, meta.size()));
        }
        file.seek(SeekFrom::Start(from)).map_err(failed)?;
        let pieces = futures::stream::unfold((file, to - from), |(mut file, left)| async move {
            let len = left.min(PIECE as u64);
            if len == 0 {
                return None;
            }
            let mut piece = Vec::with_capacity(PIECE);
            let read = Read::take(&mut file, len).read_to_end(&mut piece);
            // If the file has become shorter, the body ends early.
            let whole = matches!(read, Ok(read) if read as u64 == len);
            let left = if whole { left - len } else { 0 };
            Some((read.map(|_| piece.into()), (file, left)))
        });
        let (etag, metadata, content_type) = self.known(&path, &meta);
        Ok(S3Response::new(GetObjectOutput {
            body: Some(StreamingBlob::wrap(pieces)),
            content_length: i64::try_from(to - from).ok(),
            content_range,
            content_type,
            e_tag: Some(etag),
            last_modified: time(&meta),
            metadata,
            ..Default::default()
        }))
    }

    async fn head_object(&self, req: S3Request<HeadObjectInput>) -> S3Result<S3Response<HeadObjectOutput>> {
        let (path, _, meta) = self.open(&req.input.bucket, &req.input.key)?;
        let (etag, metadata, content_type) = self.known(&path, &meta);
        Ok(S3Response::new(HeadObjectOutput {
            content_length: length(&meta),
            content_type,
            e_tag: Some(etag),
            last_modified: time(&meta),
            metadata,
            ..Default::default()
        }))
    }

    async fn list_objects_v2(
        &self,
        req: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        let input = req.input;
        if input.delimiter.as_deref().is_some_and(|delimiter| delimiter != "/") {
            return Err(s3_error!(NotImplemented));
        }
        let bucket = self.root.join(&input.bucket);
        let most = input.max_keys.unwrap_or(1000).clamp(0, 1000);
        let after = input.continuation_token.as_deref().max(input.start_after.as_deref());
        let prefix = input.prefix.as_deref().unwrap_or_default();
        let page =
            Page::list(&bucket, prefix, after.unwrap_or_default(), input.delimiter.is_some(), most as usize)
                .map_err(failed)?;
        let encoded = input.encoding_type.is_some();
        let said = |key: &str| if encoded { super::page::url_encoded(key) } else { key.to_owned() };
        // Files that were deleted since the walk are left out.
        let contents = page.keys.iter().filter_map(|key| {
            let path = bucket.join(key);
            let meta = std::fs::metadata(&path).ok()?;
            Some(Object {
                e_tag: Some(self.known(&path, &meta).0),
                key: Some(said(key)),
                last_modified: time(&meta),
                size: length(&meta),
                ..Default::default()
            })
        });
        Ok(S3Response::new(ListObjectsV2Output {
            contents: Some(contents.collect()),
            common_prefixes: Some(
                page.prefixes.iter().map(|key| CommonPrefix { prefix: Some(said(key)) }).collect(),
            ),
            key_count: i32::try_from(page.len()).ok(),
            is_truncated: Some(page.more),
            next_continuation_token: page.last().filter(|_| page.more),
            continuation_token: input.continuation_token,
            delimiter: input.delimiter,
            encoding_type: input.encoding_type,
            max_keys: Some(most),
            name: Some(input.bucket),
            prefix: input.prefix,
            start_after: input.start_after,
            ..Default::default()
        }))
    }

    async fn list_objects(
        &self,
        req: S3Request<ListObjectsInput>,
    ) -> S3Result<S3Response<ListObjectsOutput>> {
        let marker = req.input.marker.clone();
        let listed = self.list_objects_v2(req.map_input(Into::into)).await?;
        Ok(listed.map_output(|v2| ListObjectsOutput {
            contents: v2.contents,
            common_prefixes: v2.common_prefixes,
            delimiter: v2.delimiter,
            encoding_type: v2.encoding_type,
            is_truncated: v2.is_truncated,
            marker,
            max_keys: v2.max_keys,
            name: v2.name,
            next_marker: v2.next_continuation_token,
            prefix: v2.prefix,
            ..Default::default()
        }))
    }

    async fn create_multipart_upload(
        &self,
        req: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        let CreateMultipartUploadInput { bucket, key, metadata, content_type, .. } = req.input;
        let id = format!("upload-{}", self.number.fetch_add(1, Ordering::Relaxed));
        let upload = Upload { metadata, content_type, ..Upload::default() };
        lock(&self.uploads).insert(id.clone(), upload);
        Ok(S3Response::new(CreateMultipartUploadOutput {
            bucket: Some(bucket),
            key: Some(key),
            upload_id: Some(id),
            ..Default::default()
        }))
    }

    async fn upload_part(&self, req: S3Request<UploadPartInput>) -> S3Result<S3Response<UploadPartOutput>> {
        let UploadPartInput { body, part_number, upload_id, .. } = req.input;
        let Received { path, md5 } = self.receive(body).await?;
        let meta = std::fs::metadata(&path).map_err(failed)?;
        let etag = md5.map_or_else(|| etag(None, &meta), ETag::Strong);
        let mut uploads = lock(&self.uploads);
        let upload = uploads.get_mut(&upload_id).ok_or_else(|| s3_error!(NoSuchUpload))?;
        if let Some(old) = upload.parts.insert(part_number, path) {
            std::fs::remove_file(old).map_err(failed)?;
        }
        Ok(S3Response::new(UploadPartOutput { e_tag: Some(etag), ..Default::default() }))
    }

    async fn complete_multipart_upload(
        &self,
        req: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        let input = req.input;
        let path = self.path(&input.bucket, &input.key)?;
        let upload = lock(&self.uploads).remove(&input.upload_id).ok_or_else(|| s3_error!(NoSuchUpload))?;
        let asked = input.multipart_upload.and_then(|upload| upload.parts).unwrap_or_default();
        let asked = asked.into_iter().map(|part| part.part_number.unwrap_or_default());
        if !asked.eq(upload.parts.keys().copied()) {
            return Err(s3_error!(InvalidPart));
        }
        let mut parts = upload.parts.into_values();
        let whole = parts.next().ok_or_else(|| s3_error!(InvalidPart))?;
        let mut file = File::options().write(true).open(&whole).map_err(failed)?;
        file.seek(SeekFrom::End(0)).map_err(failed)?;
        for part in parts {
            io::copy(&mut File::open(&part).map_err(failed)?, &mut file).map_err(failed)?;
            std::fs::remove_file(&part).map_err(failed)?;
        }
        let received = Received { path: whole, md5: None };
        let conditions = (input.if_none_match, input.if_match);
        let etag = self.name(received, &path, conditions, (upload.metadata, upload.content_type))?;
        Ok(S3Response::new(CompleteMultipartUploadOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            e_tag: Some(etag),
            ..Default::default()
        }))
    }

    async fn abort_multipart_upload(
        &self,
        req: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        let upload =
            lock(&self.uploads).remove(&req.input.upload_id).ok_or_else(|| s3_error!(NoSuchUpload))?;
        for part in upload.parts.into_values() {
            std::fs::remove_file(part).map_err(failed)?;
        }
        Ok(S3Response::new(AbortMultipartUploadOutput::default()))
    }

    async fn copy_object(&self, req: S3Request<CopyObjectInput>) -> S3Result<S3Response<CopyObjectOutput>> {
        let path = self.path(&req.input.bucket, &req.input.key)?;
        let mut copied = self.others.copy_object(req).await?;
        let meta = std::fs::metadata(&path).map_err(failed)?;
        if let Some(result) = &mut copied.output.copy_object_result {
            result.e_tag = Some(self.known(&path, &meta).0);
        }
        Ok(copied)
    }

    async fn delete_object(
        &self,
        req: S3Request<DeleteObjectInput>,
    ) -> S3Result<S3Response<DeleteObjectOutput>> {
        self.others.delete_object(req).await
    }

    async fn delete_objects(
        &self,
        req: S3Request<DeleteObjectsInput>,
    ) -> S3Result<S3Response<DeleteObjectsOutput>> {
        self.others.delete_objects(req).await
    }

    async fn create_bucket(
        &self,
        req: S3Request<CreateBucketInput>,
    ) -> S3Result<S3Response<CreateBucketOutput>> {
        self.others.create_bucket(req).await
    }

    async fn head_bucket(&self, req: S3Request<HeadBucketInput>) -> S3Result<S3Response<HeadBucketOutput>> {
        self.others.head_bucket(req).await
    }

    async fn get_bucket_location(
        &self,
        req: S3Request<GetBucketLocationInput>,
    ) -> S3Result<S3Response<GetBucketLocationOutput>> {
        self.others.get_bucket_location(req).await
    }

    async fn list_buckets(
        &self,
        req: S3Request<ListBucketsInput>,
    ) -> S3Result<S3Response<ListBucketsOutput>> {
        self.others.list_buckets(req).await
    }
}
