//! The readers of the state's files, for fuzzing.

use super::BaseRow;
use super::arrivals::ArrivalRow;
use super::base::{BaseHeader, HEADER};
use super::rows::{DeltaRow, Row};
use super::spool::parse;
use super::unflushed::Unflushed;
use crate::format::sha256;

/// A part of a file: a byte that says which, and its bytes.
pub(crate) fn read(bytes: &[u8]) {
    let Some((part, body)) = bytes.split_first() else { return };
    match part % 4 {
        _ if *part == u8::MAX => note(body),
        0 => header(body),
        1 => rows::<BaseRow>(body),
        2 => rows::<ArrivalRow>(body),
        _ => rows::<DeltaRow>(body),
    }
}

/// A header; what was read is written and read again.
fn header(body: &[u8]) {
    let mut header = [0; HEADER];
    let len = body.len().min(HEADER - 32);
    header[..len].copy_from_slice(&body[..len]);
    let digest = sha256(&header[..HEADER - 32]);
    header[HEADER - 32..].copy_from_slice(&digest.0);
    let again = |header: &[u8; HEADER]| BaseHeader::decode(header).ok()?.0.encode(0).ok();
    // A tag that is too long to be kept is left out.
    if let Some(written) = again(&header) {
        assert_eq!(again(&written), Some(written), "it is written as another");
    }
}

/// A note of syncs without a flush; what was read is written and read again.
fn note(body: &[u8]) {
    let digest = sha256(body);
    if let Ok(note) = Unflushed::decode(&[body, &digest.0].concat()) {
        let written = note.encode().ok();
        assert!(
            written.is_none_or(|bytes| Unflushed::decode(&bytes) == Ok(note)),
            "it is written as another"
        );
    }
}

/// The rows of one frame, and a byte for their number.
fn rows<R: Row>(body: &[u8]) {
    if let Some((count, body)) = body.split_first() {
        let _ = parse::<R>(body, u32::from(*count));
    }
}
