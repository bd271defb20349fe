//! Collection deletes what nothing needs, and keeps what something needs, whatever happens at the same time.
//!
//! `CTXSYNC_SEEDS=5000` sets how many seeds are tried; `CTXSYNC_SEED=17` tries only that one.
#![expect(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

mod cases;
mod deeds;
mod dry;
mod gate;
mod model;
mod tags;

use model::Model;

/// The grace period of the model's stores, in seconds.
const GRACE: i64 = 1000;

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap())
}

/// Nothing that was committed in time is lost, in any order of requests, with machines that sleep and die.
#[tokio::test(start_paused = true)]
async fn collections_and_writers_at_once_lose_nothing() {
    let seeds = match variable("CTXSYNC_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..variable("CTXSYNC_SEEDS").unwrap_or(40),
    };
    for seed in seeds {
        let mut model = Model::begin(seed).await;
        model.run(40).await;
        model.check().await;
        model.check_tags().await;
        model.tidy().await;
        model.check().await;
        model.check_tags().await;
    }
}
