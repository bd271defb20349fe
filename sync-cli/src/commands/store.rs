//! `store`: init and check.

use std::time::{Duration, SystemTime};

use super::Finished;
use crate::args::StoreCommand;
use crate::config::Origin;
use crate::errors::Failure;
use crate::means::Means;
use crate::open_store::open_store;
use crate::output::json::{Line, StoreLine};
use crate::values::Span;

pub(super) async fn store(command: &StoreCommand, means: Means<'_>) -> Result<Finished, Failure> {
    match command {
        StoreCommand::Init(args) => init(args.grace.0, means).await,
        StoreCommand::Check => check(means).await,
    }
}

async fn init(grace: std::time::Duration, means: Means<'_>) -> Result<Finished, Failure> {
    let open = open_store(means, true)?;
    let there = open.store.exists().await?;
    if !there {
        open.probe().await?;
    }
    let meta = open.store.init(grace).await?;
    if means.ui.is_json() {
        means.ui.object(&Line::Store(StoreLine {
            store: open.store.location(),
            id: Some(meta.store_id.to_string()),
            grace_seconds: Some(meta.grace_seconds),
            deletes: None,
            first_put_seconds: None,
            round_trip_seconds: None,
            clock_skew_seconds: None,
        }));
        return Ok(Finished::default());
    }
    let grace = Span(Duration::from_secs(meta.grace_seconds));
    let what = if there { "there is a store at" } else { "made a store at" };
    means.ui.line(&format!("{what} {}: id {}, grace period {grace}", open.store.location(), meta.store_id));
    Ok(Finished::default())
}

/// Clocks that differ by less are as good as equal.
const CLOSE: Duration = Duration::from_mins(1);

/// How long a check waits for a store that does not answer, unless it is told how long. It is made for finding mistakes.
const PATIENCE: Duration = Duration::from_secs(5);

async fn check(means: Means<'_>) -> Result<Finished, Failure> {
    let mut settings = means.settings.clone();
    if settings.retry_time.origin == Origin::Default {
        settings.retry_time.value = PATIENCE;
    }
    let open = open_store(Means { settings: &settings, ..means }, false)?;
    let found = open.probe().await?;
    let skew = skew(found.store_time);
    if let Some(warning) = clock_warning(skew) {
        means.ui.warning(&warning);
    }
    if means.ui.is_json() {
        means.ui.object(&Line::Store(StoreLine {
            store: open.store.location(),
            id: None,
            grace_seconds: None,
            deletes: Some(found.deletes),
            first_put_seconds: Some(found.first_put.as_secs_f64()),
            round_trip_seconds: Some(found.round_trip.as_secs_f64()),
            clock_skew_seconds: Some(skew),
        }));
        return Ok(Finished::default());
    }
    let ms = |time: Duration| format!("{:.1} ms", time.as_secs_f64() * 1000.0);
    let lines = [
        ("store", open.store.location().to_owned()),
        ("write", "yes".to_owned()),
        ("put if absent", "yes".to_owned()),
        ("list", "yes".to_owned()),
        ("delete", if found.deletes { "yes".to_owned() } else { "no: nothing can be collected".to_owned() }),
        ("first put", ms(found.first_put)),
        ("round trip", ms(found.round_trip)),
        ("clock", format!("{skew:+.1} s from this machine's")),
    ];
    for (name, value) in lines {
        means.ui.line(&format!("{name:<14} {value}"));
    }
    Ok(Finished::default())
}

/// Returns how many seconds the store's clock is ahead of this machine's.
fn skew(store: SystemTime) -> f64 {
    let now = SystemTime::now();
    match store.duration_since(now) {
        Ok(ahead) => ahead.as_secs_f64(),
        Err(behind) => -behind.duration().as_secs_f64(),
    }
}

/// Returns a warning if the clocks differ by so many seconds that it matters.
fn clock_warning(skew: f64) -> Option<String> {
    let differ = Duration::try_from_secs_f64(skew.abs()).unwrap_or(Duration::MAX);
    (differ > CLOSE).then(|| {
        let differ = crate::text::span(differ);
        format!(
            "this machine's clock and the store's differ by {differ}; S3 refuses requests from 15 minutes on"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_off_is_noticed() {
        assert_eq!([0.0, 59.0, -59.0].map(clock_warning), [None, None, None]);
        let warning = clock_warning(-200.0).unwrap();
        assert!(warning.contains("differ by 3 min 20 s"), "{warning}");
    }
}
