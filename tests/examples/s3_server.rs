//! An S3 server on this machine, for trying things by hand: it prints the variables with which to reach it, and runs until
//! its standard input ends.
//!
//! ```text
//! cargo run --workspace --example s3_server -- DIR [MILLISECONDS_EACH_WAY]
//! ```

use std::error::Error;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::time::Duration;

use ctxsync_tests::s3::S3Server;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args_os().skip(1);
    let dir = PathBuf::from(args.next().ok_or("which directory?")?);
    let delay = match args.next() {
        Some(text) => text.to_str().ok_or("not a number")?.parse()?,
        None => 0,
    };
    let server = S3Server::start_at(&dir, Duration::from_millis(delay))?;
    let mut out = io::stdout();
    for (name, value) in server.env() {
        writeln!(out, "{name}={value}")?;
    }
    out.flush()?;
    io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}
