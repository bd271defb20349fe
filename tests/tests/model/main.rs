//! Whole machines against a ledger, by seed: everything that was written, and that nothing knowingly removed,
//! still exists in the end, and all machines agree.
//!
//! `CTXSYNC_SEEDS=5000` sets how many seeds are tried; `CTXSYNC_SEED=17` tries only that one.
#![expect(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

mod history;
mod operation;

use history::History;

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap())
}

#[tokio::test(start_paused = true)]
async fn machines_lose_nothing_and_agree_in_the_end() {
    let seeds = match variable("CTXSYNC_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..variable("CTXSYNC_SEEDS").unwrap_or(30),
    };
    for seed in seeds {
        let mut history = History::begin(seed).await;
        for _ in 0..30 {
            history.step().await;
        }
        history.settle().await;
    }
}
