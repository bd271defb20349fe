//! Whole machines against a ledger, by seed: what was written and what no one took away is there at the end,
//! and in the end all agree.
//!
//! `CTXSYNC_SEEDS=5000` tries so many seeds, `CTXSYNC_SEED=17` only that one.
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
