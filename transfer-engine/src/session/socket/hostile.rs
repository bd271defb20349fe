//! The readers of a session's messages, for fuzzing.

use super::wire::{Event, Request};
use crate::options::SyncOptions;

/// A line from another process: a request or an event. What was read is written and read again.
pub(crate) fn line(bytes: &[u8]) {
    if let Ok(request) = serde_json::from_slice::<Request>(bytes) {
        let _ = request.options(&SyncOptions::default());
        let again = serde_json::to_vec(&request).map(|text| serde_json::from_slice::<Request>(&text));
        assert!(matches!(again, Ok(Ok(again)) if again == request), "it is written as another");
    }
    let _ = serde_json::from_slice::<Event>(bytes);
}
