//! `put`: write a file of a context from a local file or the standard input.

use std::os::fd::AsFd;
use std::path::Path;

use policy_core::Timestamp;
use rustix::fs::OFlags;
use tokio::io::{AsyncRead, AsyncReadExt};
use transfer_engine::{At, SyncReport, WriteOptions};

use super::Finished;
use super::rm::service;
use crate::args::PutArgs;
use crate::errors::Failure;
use crate::exit::Exit;
use crate::means::Means;
use crate::open_store::open_store;
use crate::text;

pub(super) async fn put(args: &PutArgs, means: Means<'_>) -> Result<Finished, Failure> {
    let (context, path) = (&args.place.context, &args.place.path);
    if path.is_root() {
        return Err(Failure::usage("no file was given").hint("a file of a context is written NAME:PATH"));
    }
    if context.at != At::Head {
        return Err(Failure::usage(format!("{context} is history, which stays as it is"))
            .hint(format!("write to {}:{path}; the snapshots before it are kept", context.name)));
    }
    let store = open_store(means, false)?.store;
    let service = service(&store, means)?;
    let from = args.file.as_deref().filter(|file| *file != Path::new("-"));
    let report = match from {
        None => {
            let options = WriteOptions { mode: args.mode, mtime: None };
            let content = standard_input(args.file.is_some()).await?;
            service.write_file(&context.name, path, content, &options).await?
        }
        Some(file) => {
            let (content, options) = open(file, args.mode).await?;
            service.write_file(&context.name, path, content, &options).await?
        }
    };
    if !means.ui.is_json() {
        means.ui.line(&told(&format!("{}:{path}", context.name), &report, means));
    }
    Ok(Finished { report: Some(report), ..Finished::of_context(&context.name) })
}

/// Returns the standard input, unless it is empty and nobody asked for an empty file.
///
/// A command without a standard input (started by a scheduler or by mistake, or after a program that failed)
/// would otherwise empty the file.
async fn standard_input(asked_for: bool) -> Result<impl AsyncRead + Send + Unpin, Failure> {
    if is_closed(std::io::stdin()) {
        return Err(Failure::usage("the standard input is closed").hint(NO_INPUT));
    }
    let mut stdin = tokio::io::stdin();
    let mut first = Vec::with_capacity(1);
    let read = (&mut stdin).take(1).read_to_end(&mut first).await;
    let read = read.map_err(|error| Failure::local("read", Path::new("the standard input"), &error))?;
    if read == 0 && !asked_for {
        return Err(Failure::usage("there is nothing in the standard input").hint(NO_INPUT));
    }
    Ok(std::io::Cursor::new(first).chain(stdin))
}

const NO_INPUT: &str = "name the FILE to write, or say `-` for a standard input that may be empty; /dev/null as FILE \
                        makes an empty file";

/// Whether the descriptor was closed when the program started. Then the standard library opens /dev/null in
/// its place, for reading and writing. Nobody else opens it for writing as a standard input.
fn is_closed(stdin: impl AsFd) -> bool {
    let null =
        |stat: rustix::fs::Stat| rustix::fs::stat("/dev/null").is_ok_and(|null| null.st_rdev == stat.st_rdev);
    rustix::fs::fstat(&stdin).is_ok_and(null)
        && rustix::fs::fcntl_getfl(&stdin).is_ok_and(|flags| flags.contains(OFlags::RDWR))
}

/// Opens a local file; its mode and time are written too.
async fn open(file: &Path, mode: Option<u16>) -> Result<(tokio::fs::File, WriteOptions), Failure> {
    use std::os::unix::fs::MetadataExt;
    let failed = |error: std::io::Error| Failure::local("read", file, &error);
    // The type is checked first: opening a directory succeeds, and opening a FIFO may wait for ever.
    let stat = tokio::fs::metadata(file).await.map_err(failed)?;
    if stat.is_dir() {
        return Err(Failure::new(Exit::FAILED, format!("{} is a directory, not a file", file.display()))
            .hint("use `ctxsync push` for directories"));
    }
    let content = tokio::fs::File::open(file).await.map_err(failed)?;
    if !stat.is_file() {
        return Ok((content, WriteOptions { mode, mtime: None }));
    }
    let options = WriteOptions {
        mode: Some(mode.unwrap_or((stat.mode() & 0o7777) as u16)),
        mtime: Some(Timestamp { secs: stat.mtime(), nanos: u32::try_from(stat.mtime_nsec()).unwrap_or(0) }),
    };
    Ok((content, options))
}

fn told(place: &str, report: &SyncReport, means: Means<'_>) -> String {
    let number = report.snapshot.unwrap_or(0);
    if report.parent.is_none() {
        return format!("nothing to write: {place} is the same in snapshot {number}");
    }
    format!(
        "wrote {place} in snapshot {number}: {} sent of {}; {}",
        text::bytes(report.bytes_sent),
        text::bytes(report.bytes_read),
        text::span(means.ui.took())
    )
}
