//! Every pair of changes of one path, by every strategy, in every direction. `docs/conflicts.md` is generated
//! here.
#![expect(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

mod kinds;
mod names;
mod tables;
mod trial;

use ctxsync_tests::document;
use kinds::Cell;
use policy_core::ConflictPolicy::{self, Fail, KeepBoth, PreferLocal, PreferRemote};
use trial::{Outcome, Trial, WAYS, Way};

const DOCUMENT: &str = "docs/conflicts.md";
const DEFAULT: &str = "{}";

async fn run(cells: &[Cell], strategy: ConflictPolicy, way: Way) -> Outcome {
    // Only the strategy that prefers the context's version may drop the local one.
    let drops_local = strategy == PreferRemote;
    Trial::new(cells, DEFAULT, strategy, way).await.run(way, drops_local).await
}

/// Runs all cells in every direction. The result must be the same, whichever direction meets the conflict.
async fn in_every_direction(strategy: ConflictPolicy) -> Outcome {
    let first = run(&Cell::all(), strategy, Way::Push).await;
    for way in [Way::Pull, Way::Sync, Way::Release] {
        leads_to_the_same(&first, &run(&Cell::all(), strategy, way).await, &format!("{strategy:?} {way:?}"));
    }
    first
}

fn leads_to_the_same(one: &Outcome, other: &Outcome, what: &str) {
    assert!(!one.stopped && !other.stopped);
    let differ = other.cells.iter().filter(|(cell, came)| {
        let first = &one.cells[cell];
        came.settled != first.settled || came.conflict != first.conflict
    });
    let lines: Vec<String> =
        differ.map(|(cell, came)| format!("{cell:?}\n  {:?}\n  {came:?}", one.cells[cell])).collect();
    assert!(lines.is_empty(), "{what} leads elsewhere\n{}", lines.join("\n"));
}

#[tokio::test]
async fn every_pair_of_changes_by_every_strategy_in_every_direction() {
    let (both, local, remote) = tokio::join!(
        in_every_direction(KeepBoth),
        in_every_direction(PreferLocal),
        in_every_direction(PreferRemote)
    );
    // With a preferred side there are no copies.
    for (outcome, other) in [(&local, &remote), (&remote, &local)] {
        for (cell, came) in &outcome.cells {
            assert!(!came.conflict || both.cells[cell].conflict, "{cell:?}");
            assert!(!came.settled.keys().any(|path| kinds::is_copy(path)), "{cell:?}");
            let is_decided = both.cells[cell].conflict || came.settled == other.cells[cell].settled;
            assert!(is_decided, "{cell:?}: no conflict, and yet the strategy decides");
        }
    }
    document::check(DOCUMENT, "pairs", &tables::matrices(&both));
    document::check(DOCUMENT, "kinds", &tables::conflicts(&both, &local, &remote));
}

/// `Fail` stops at exactly the conflicts of the other strategies, before anything is written. Without
/// conflicts it does what they do. A release can't stop, and keeps both.
#[tokio::test]
async fn fail_stops_at_each_conflict_and_at_nothing_else() {
    let both = run(&Cell::all(), KeepBoth, Way::Push).await;
    let is_conflict = |cell: &Cell| both.cells[cell].conflict;
    let harmless: Vec<Cell> = Cell::all().into_iter().filter(|cell| !is_conflict(cell)).collect();
    for way in WAYS {
        let failing = run(&Cell::all(), Fail, way).await;
        if way == Way::Release {
            leads_to_the_same(&both, &failing, "a release");
            continue;
        }
        assert!(failing.stopped);
        for (cell, came) in &failing.cells {
            assert_eq!(came.conflict, is_conflict(cell), "{way:?} {cell:?}");
        }
        leads_to_the_same(&both, &run(&harmless, Fail, way).await, &format!("{way:?} without conflicts"));
    }
}

/// If the policy keeps deletions on one side, a change of kind may have to wait, but nothing is lost.
#[tokio::test]
async fn nothing_is_lost_where_deletions_stay_local() {
    for way in WAYS {
        for strategy in [KeepBoth, PreferLocal] {
            let policy = r#"{"deletePolicy": {"syncLocalFile": false}}"#;
            Trial::new(&Cell::all(), policy, strategy, way).await.only_keeps(way).await;
        }
    }
}
