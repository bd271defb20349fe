//! A directory as a store: its listings are sorted as object stores promise, without their metadata in
//! memory.

use std::fmt;
use std::fs::{self, Metadata};
use std::io::ErrorKind;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::UNIX_EPOCH;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result,
};
use tokio::task::spawn_blocking;
use walkdir::WalkDir;

use crate::leftovers::put_of;

/// The most keys whose metadata is read at once.
const BATCH: usize = 1024;

/// A local store whose listings are in the order of the keys' bytes.
///
/// A directory is read in the file system's order, but the first key of a listing has a meaning in every
/// object store. So the names of a listing are collected before its first item is returned, which takes some
/// 60 bytes of memory per key. The stat of a key is taken only shortly before its turn: a caller that wants
/// only the first key must not pay for all. Keys that are gone by then are left out.
#[derive(Debug, Clone)]
pub(crate) struct Sorted<S> {
    inner: S,
    root: PathBuf,
}

impl<S> Sorted<S> {
    /// Replaces the listings of `inner`, which keeps its objects below `root`.
    pub(crate) fn new(inner: S, root: PathBuf) -> Self {
        Self { inner, root }
    }

    fn listing(
        &self,
        prefix: Option<&Path>,
        offset: Option<&Path>,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        let (root, prefix, offset) = (self.root.clone(), prefix.cloned(), offset.cloned());
        let listed = async move {
            let below = root.clone();
            let names = spawn_blocking(move || names(&below, prefix.as_ref(), offset.as_ref())).await??;
            Ok::<_, Error>(stats(root, names))
        };
        stream::once(listed).try_flatten().boxed()
    }
}

/// Returns the keys below `prefix` and after `offset`, sorted: those that `LocalFileSystem` would list if it
/// did not fail at names that can't be keys.
fn names(root: &std::path::Path, prefix: Option<&Path>, offset: Option<&Path>) -> Result<Vec<Path>> {
    let top = prefix.map_or_else(|| root.to_owned(), |prefix| root.join(prefix.as_ref()));
    let mut names = Vec::new();
    for entry in WalkDir::new(top).min_depth(1).follow_links(true) {
        let entry = match entry {
            Ok(entry) if entry.file_type().is_file() => entry,
            Ok(_) => continue,
            // The entry is gone meanwhile, is a dangling link, or never existed.
            Err(e) if e.io_error().is_some_and(|e| e.kind() == ErrorKind::NotFound) => continue,
            // A name that can't be part of a key does not belong to the store, nor does anything below it.
            Err(e) if e.path().is_some_and(|path| key_of(root, path).is_none()) => continue,
            Err(e) => return Err(failed(e)),
        };
        // A put is still writing this file.
        if entry.file_name().to_str().is_some_and(|name| put_of(name).is_some()) {
            continue;
        }
        // No put has made a file whose name is not a key.
        let Some(key) = key_of(root, entry.path()) else { continue };
        if offset.is_none_or(|offset| key > *offset) {
            names.push(key);
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Returns the key of a file; `None` if its name, or that of a directory above it, can't be part of a key.
fn key_of(root: &std::path::Path, file: &std::path::Path) -> Option<Path> {
    let below = file.strip_prefix(root).ok()?;
    Path::parse(str::from_utf8(below.as_os_str().as_encoded_bytes()).ok()?).ok()
}

/// Returns the directories and files that are directly below `prefix`, sorted.
fn level(root: &std::path::Path, prefix: Option<&Path>) -> Result<ListResult> {
    let top = prefix.map_or_else(|| root.to_owned(), |prefix| root.join(prefix.as_ref()));
    let (mut common_prefixes, mut objects) = (Vec::new(), Vec::new());
    for entry in WalkDir::new(top).min_depth(1).max_depth(1).follow_links(true) {
        let entry = match entry {
            Ok(entry) => entry,
            Err(e) if e.io_error().is_some_and(|e| e.kind() == ErrorKind::NotFound) => continue,
            Err(e) if e.path().is_some_and(|path| key_of(root, path).is_none()) => continue,
            Err(e) => return Err(failed(e)),
        };
        let Some(key) = key_of(root, entry.path()) else { continue };
        if entry.file_type().is_dir() {
            common_prefixes.push(key);
        } else if entry.file_type().is_file()
            && entry.file_name().to_str().is_none_or(|name| put_of(name).is_none())
        {
            match entry.metadata() {
                Ok(found) => objects.push(meta(key, &found)?),
                Err(e) if e.io_error().is_some_and(|e| e.kind() == ErrorKind::NotFound) => {}
                Err(e) => return Err(failed(e)),
            }
        }
    }
    objects.sort_unstable_by(|a, b| a.location.cmp(&b.location));
    common_prefixes.sort_unstable();
    Ok(ListResult { common_prefixes, objects, extensions: Default::default() })
}

/// Takes the stats of keys, in order: one at first, and larger batches the longer the caller reads on.
fn stats(root: PathBuf, names: Vec<Path>) -> impl Stream<Item = Result<ObjectMeta>> + Send {
    let batches = stream::try_unfold((names.into_iter(), 1), move |(mut names, size)| {
        let batch: Vec<Path> = names.by_ref().take(size).collect();
        let root = root.clone();
        async move {
            if batch.is_empty() {
                return Ok(None);
            }
            let taken = spawn_blocking(move || {
                let stat = |key: Path| match fs::metadata(root.join(key.as_ref())) {
                    Ok(found) if found.is_file() => Some(meta(key, &found)),
                    Ok(_) => None,
                    Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => None,
                    Err(e) => Some(Err(failed(e))),
                };
                batch.into_iter().filter_map(stat).collect::<Vec<_>>()
            });
            let taken = taken.await?;
            Ok::<_, Error>(Some((stream::iter(taken), (names, (size * 2).min(BATCH)))))
        }
    });
    batches.try_flatten()
}

/// Describes an object as `LocalFileSystem` does, so that the tag is the same as in its other answers.
fn meta(location: Path, found: &Metadata) -> Result<ObjectMeta> {
    let modified = found.modified().map_err(failed)?;
    let micros = modified.duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
    let e_tag = format!("\"{:x}-{micros:x}-{:x}\"", found.ino(), found.len());
    let size = found.len();
    Ok(ObjectMeta { location, last_modified: modified.into(), size, e_tag: Some(e_tag), version: None })
}

fn failed(source: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Generic { store: "LocalFileSystem", source: Box::new(source) }
}

impl<S: fmt::Display> fmt::Display for Sorted<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: ObjectStore> ObjectStore for Sorted<S> {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.inner.put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.listing(prefix, None)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.listing(prefix, Some(offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let (root, prefix) = (self.root.clone(), prefix.cloned());
        spawn_blocking(move || level(&root, prefix.as_ref())).await?
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.inner.rename_opts(from, to, options).await
    }
}

#[cfg(test)]
mod tests {
    use object_store::ObjectStoreExt;
    use object_store::local::LocalFileSystem;

    use super::*;

    #[tokio::test]
    async fn only_what_is_asked_for_is_looked_at() {
        let dir = tempfile::tempdir().unwrap();
        let inner = LocalFileSystem::new_with_prefix(dir.path()).unwrap();
        let store = Sorted::new(inner, dir.path().to_owned());
        for n in 0..40 {
            fs::write(dir.path().join(format!("{n:02}")), "x").unwrap();
        }
        let mut listed = store.list(None);
        assert_eq!(listed.next().await.unwrap().unwrap().location.as_ref(), "00");
        // The names are already collected, but no stat is taken yet.
        fs::write(dir.path().join("01"), "longer").unwrap();
        fs::write(dir.path().join("39"), "longer").unwrap();
        fs::remove_file(dir.path().join("20")).unwrap();
        fs::remove_file(dir.path().join("30")).unwrap();
        fs::create_dir(dir.path().join("30")).unwrap();
        let rest: Vec<ObjectMeta> = listed.try_collect().await.unwrap();
        let keys: Vec<_> = rest.iter().map(|meta| meta.location.to_string()).collect();
        let expected = (1..40).filter(|n| ![20, 30].contains(n)).map(|n| format!("{n:02}"));
        assert_eq!(keys, expected.collect::<Vec<_>>());
        assert_eq!((rest[0].size, rest[1].size, rest[36].size), (6, 1, 6));
    }

    #[tokio::test]
    async fn a_listing_says_what_the_wrapped_store_would() {
        let dir = tempfile::tempdir().unwrap();
        let inner = LocalFileSystem::new_with_prefix(dir.path()).unwrap();
        let store = Sorted::new(inner.clone(), dir.path().to_owned());
        for key in ["a/b/c", "a/b-c", "a/x y%2F", "b", "\u{fc}"] {
            let path = dir.path().join(key);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, key).unwrap();
        }
        fs::write(dir.path().join("a/b/c#1"), "being put").unwrap();
        fs::write(dir.path().join("a/c#d"), "no such").unwrap();
        fs::create_dir_all(dir.path().join("empty/too")).unwrap();
        std::os::unix::fs::symlink("a", dir.path().join("link")).unwrap();
        std::os::unix::fs::symlink("nowhere", dir.path().join("broken")).unwrap();
        for prefix in ["", "a", "a/b", "b", "link", "none", "a/b/c"] {
            let prefix = (!prefix.is_empty()).then(|| Path::from(prefix));
            let mut expected: Vec<ObjectMeta> = inner.list(prefix.as_ref()).try_collect().await.unwrap();
            expected.sort_unstable_by(|a, b| a.location.cmp(&b.location));
            let listed: Vec<ObjectMeta> = store.list(prefix.as_ref()).try_collect().await.unwrap();
            assert_eq!(listed, expected, "{prefix:?}");
            for meta in listed {
                assert_eq!(store.head(&meta.location).await.unwrap(), meta);
            }
        }
    }

    #[tokio::test]
    async fn s16_names_that_are_not_ours_are_left_alone() {
        use std::ffi::OsStr;
        use std::os::unix::ffi::OsStrExt;
        let dir = tempfile::tempdir().unwrap();
        let store = Sorted::new(LocalFileSystem::new_with_prefix(dir.path()).unwrap(), dir.path().to_owned());
        fs::create_dir_all(dir.path().join("a/b")).unwrap();
        fs::write(dir.path().join("a/b/c"), "x").unwrap();
        for stray in [&b"\x1b[31m"[..], b"\xff\xfe", b"new\nline", b"back\\slash", b"q?"] {
            let stray = OsStr::from_bytes(stray);
            for below in [dir.path().join(stray), dir.path().join("a").join(stray)] {
                fs::create_dir_all(&below).unwrap();
                fs::write(below.join("c"), "x").unwrap();
            }
            fs::write(dir.path().join("a/b").join(stray), "x").unwrap();
        }
        let listed: Vec<ObjectMeta> = store.list(None).try_collect().await.unwrap();
        let plain = |keys: Vec<&Path>| keys.iter().all(|key| !key.as_ref().contains(char::is_control));
        assert!(listed.iter().any(|meta| meta.location.as_ref() == "a/b/c"));
        assert!(plain(listed.iter().map(|meta| &meta.location).collect()), "{listed:?}");
        let level = store.list_with_delimiter(Some(&Path::from("a"))).await.unwrap();
        assert!(level.common_prefixes.contains(&Path::from("a/b")));
        assert!(plain(level.common_prefixes.iter().collect()), "{level:?}");
    }
}
