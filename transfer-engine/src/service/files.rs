//! The files of a context.

use std::io;
use std::ops::Range;

use bytes::Bytes;
use policy_core::{Timestamp, TreePath};
use tokio::io::AsyncRead;

use super::{ContextService, FileInfo};
use crate::edit::{Change, Edit, NameIs, Removal, free_for_file, names_in};
use crate::error::Error;
use crate::format::ContextName;
use crate::report::SyncReport;
use crate::tree::Tree;

/// The options for writing a file.
#[derive(Debug, Clone, Default)]
pub struct WriteOptions {
    /// The permission bits (`0o7777` at most). The default is those of the file that is replaced, or 0644.
    pub mode: Option<u16>,
    /// The modification time. The default is now.
    pub mtime: Option<Timestamp>,
}

impl ContextService {
    /// Returns everything directly in a directory of the context, in tree order; the root is the context
    /// itself.
    ///
    /// # Errors
    /// [`Error::NoContext`], [`Error::Moved`]; [`Error::NoPath`] and [`Error::Recycled`] if the path does not
    /// exist, [`Error::NotADirectory`] if it is something else.
    pub async fn list_files(&self, name: &ContextName, dir: &TreePath) -> Result<Vec<FileInfo>, Error> {
        let head = self.store.require_head(name).await?;
        let tree = Tree { store: &self.store, snapshot: &head.snapshot, cache: None };
        match tree.look(dir).await? {
            NameIs::Implied => {}
            NameIs::Entry(entry) if entry.entry.is_dir() => {}
            NameIs::Entry(entry) if entry.recycled => return Err(tree.recycled(dir)),
            NameIs::Entry(_) => return Err(tree.not_a_directory(dir)),
            NameIs::BelowFile(file) => return Err(tree.not_a_directory(&file)),
            NameIs::Free => return Err(tree.no_path(dir)),
        }
        let mut files = Vec::new();
        names_in(&tree, dir, |path, entry| files.push(FileInfo::of(path, entry))).await?;
        Ok(files)
    }

    /// Passes the bytes `range` of a file to `sink`, in order and verified, and returns the file's entry.
    /// Bytes beyond the file's end are left out.
    ///
    /// # Errors
    /// [`Error::NoContext`], [`Error::Moved`]; [`Error::NoPath`] and [`Error::Recycled`] if the path does not
    /// exist, [`Error::IsDirectory`] if it is a directory; [`Error::Local`] if it is a symbolic link, or with
    /// an error that `sink` returns.
    pub async fn read_file(
        &self,
        name: &ContextName,
        path: &TreePath,
        range: Range<u64>,
        sink: impl FnMut(Bytes) -> io::Result<()> + Send,
    ) -> Result<FileInfo, Error> {
        let head = self.store.require_head(name).await?;
        let tree = Tree { store: &self.store, snapshot: &head.snapshot, cache: None };
        let file = match tree.look(path).await? {
            NameIs::Entry(entry) if entry.recycled => return Err(tree.recycled(path)),
            NameIs::Entry(entry) if entry.entry.is_dir() => return Err(tree.is_directory(path)),
            NameIs::Entry(entry) => entry,
            NameIs::Implied => return Err(tree.is_directory(path)),
            NameIs::BelowFile(_) | NameIs::Free => return Err(tree.no_path(path)),
        };
        self.store.read_file(&file, range, sink).await?;
        Ok(FileInfo::of(&file.path, &file.entry))
    }

    /// Writes a file: reads `content` to its end, sends what the context lacks, and commits. An existing file
    /// or symbolic link is replaced; directories above it are created. The content is not kept in memory,
    /// whatever its length.
    ///
    /// # Errors
    /// [`Error::NoContext`], [`Error::Moved`]; [`Error::IsDirectory`] and [`Error::NotADirectory`] if
    /// something is in the way; [`Error::Local`] if reading `content` fails; [`Error::Beaten`],
    /// [`Error::CommitUnknown`], and errors of the store. After an error, nothing was written.
    pub async fn write_file(
        &self,
        name: &ContextName,
        path: &TreePath,
        content: impl AsyncRead + Send + Unpin,
        options: &WriteOptions,
    ) -> Result<SyncReport, Error> {
        let before = self.store.usage();
        let head = self.store.require_head(name).await?;
        let tree = Tree { store: &self.store, snapshot: &head.snapshot, cache: None };
        let old = free_for_file(&tree, path).await?;
        let mut edit = Edit::new(&self.store, name, &self.options);
        let mode = options.mode.map(|mode| mode & 0o7777);
        let content = edit.take_in(content, path, &head, old.as_ref(), mode, options.mtime).await?;
        let bytes_read = content.len();
        let mut report = edit.commit(&mut Change::Write(content), head).await?;
        report.bytes_read = bytes_read;
        report.note_usage(self.store.usage().since(&before));
        Ok(report)
    }

    /// Deletes a file or a symbolic link. Its directory stays, even if it is empty then.
    ///
    /// # Errors
    /// [`Error::NoContext`], [`Error::Moved`]; [`Error::NoPath`] and [`Error::Recycled`] if the path does not
    /// exist, [`Error::IsDirectory`] if it is a directory; [`Error::Beaten`], [`Error::CommitUnknown`].
    pub async fn delete_file(&self, name: &ContextName, path: &TreePath) -> Result<SyncReport, Error> {
        self.delete_files(name, std::slice::from_ref(path), false).await
    }

    /// Deletes several paths in one snapshot, or none of them. With `recursive`, directories may be among
    /// them, and are deleted with everything in them. The directories of the paths stay, even if they are
    /// empty then.
    ///
    /// # Errors
    /// The same as those of [`ContextService::delete_file`].
    pub async fn delete_files(
        &self,
        name: &ContextName,
        paths: &[TreePath],
        recursive: bool,
    ) -> Result<SyncReport, Error> {
        self.change(name, Change::Remove(Removal::new(paths, recursive))).await
    }
}
