//! Watches nothing, for a build without the feature `watch`.

use std::convert::Infallible;
use std::sync::Arc;

use tokio::time::Instant;

use super::{Blind, Root};
use crate::session::worker::Worker;

/// What would watch a mount; it does not exist.
#[derive(Clone, Copy)]
pub(in super::super) struct MountWatch(Infallible);

impl MountWatch {
    /// Fails: the caller pushes from time to time instead.
    pub(in super::super) fn start(_: Arc<Worker>) -> Result<Self, Blind> {
        Err(Blind::Unable("this program was built without the feature `watch`".to_owned()))
    }

    pub(in super::super) async fn news(&self) {
        match self.0 {}
    }

    pub(in super::super) fn state(&self) -> (Option<(Instant, Instant)>, bool) {
        match self.0 {}
    }

    pub(in super::super) fn forget(&self) {
        match self.0 {}
    }

    pub(in super::super) fn remember(&self) {
        match self.0 {}
    }

    pub(in super::super) fn distrust(&self) {
        match self.0 {}
    }

    pub(in super::super) fn catch_up(&self) -> Result<Root, Blind> {
        match self.0 {}
    }

    pub(in super::super) fn is_behind(&self) -> bool {
        match self.0 {}
    }
}
