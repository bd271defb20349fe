//! The time of a collection, and the ages of objects by it.

use crate::collect::CollectOptions;
use crate::error::Error;
use crate::format::StoreKey;
use crate::store::Store;

/// Clocks that differ by more than this, in seconds, are not trusted, however long the grace period is.
const MOST_SKEW: i64 = 15 * 60;
/// A difference of up to this many seconds is always accepted, because stores give whole seconds.
const LEAST_SKEW: i64 = 2;

/// The store's time when a collection began, before anything was listed.
#[derive(Debug, Clone, Copy)]
pub(super) struct PassTime {
    now: i64,
    grace: i64,
    exclusive: bool,
    /// This machine's time at that moment.
    begun: i64,
}

impl PassTime {
    /// Takes the store's time from an object that is put for this purpose. A dry run puts nothing, and takes
    /// this machine's time.
    ///
    /// # Errors
    /// [`Error::ClockSkew`]: one of the two clocks is wrong. If it is the store's, a new object could seem
    /// old.
    pub(super) async fn take(store: &Store, options: &CollectOptions) -> Result<Self, Error> {
        let grace = i64::try_from(store.meta().await?.grace_seconds).unwrap_or(i64::MAX);
        let begun = store.env().now().secs;
        let mut this = Self { now: begun, grace, exclusive: options.exclusive, begun };
        if options.dry_run {
            return Ok(this);
        }
        let (now, probe) = store.time().await?;
        let ended = store.env().now().secs;
        // A missing permission to delete is found before anything is done.
        store.delete(&StoreKey::Pack(probe).path()).await?;
        this.now = now;
        let limit = this.most_skew();
        let skew = if now < begun { now - begun } else { (now - ended).max(0) };
        if !options.exclusive && skew.abs() > limit {
            return Err(Error::ClockSkew { location: store.location().to_owned(), seconds: skew });
        }
        Ok(this)
    }

    pub(super) fn now(&self) -> i64 {
        self.now
    }

    /// Returns the age, in seconds, from which objects may be deleted.
    pub(super) fn grace(&self) -> u64 {
        if self.exclusive { 0 } else { self.grace.unsigned_abs() }
    }

    /// Whether something put at the time `put` of the store's clock is older than the grace period.
    pub(super) fn is_old(&self, put: i64) -> bool {
        self.exclusive || self.now.saturating_sub(put) > self.grace
    }

    /// Whether something is older than the grace period, for an exclusive collection as well.
    pub(super) fn outlasted_grace(&self, put: i64) -> bool {
        self.now.saturating_sub(put) > self.grace
    }

    /// Whether something landed before the collection began.
    pub(super) fn is_past(&self, put: i64) -> bool {
        put <= self.now
    }

    /// Whether another process may have put something after the collection began.
    pub(super) fn may_be_later(&self, put: i64) -> bool {
        !self.exclusive && put >= self.now
    }

    /// Fails if something was put in the future.
    pub(super) fn check(&self, put: i64, store: &Store) -> Result<(), Error> {
        let since = store.env().now().secs.saturating_sub(self.begun).max(0);
        let ahead = put.saturating_sub(self.now).saturating_sub(since);
        if !self.exclusive && ahead > self.most_skew() {
            return Err(Error::ClockSkew { location: store.location().to_owned(), seconds: ahead });
        }
        Ok(())
    }

    fn most_skew(&self) -> i64 {
        (self.grace / 4).clamp(LEAST_SKEW, MOST_SKEW)
    }
}
