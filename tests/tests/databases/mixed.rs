//! A database that two machines write. Their files are merged one by one, and the sync that does so says it.

use ctxsync_tests::machine::{Machine, World};
use rusqlite::Connection;

use crate::connect;

/// Adds a row to the database of a machine, and leaves it in the log as long as what is returned lives.
fn add_to_log(machine: &Machine) -> Connection {
    let db = connect(&machine.mount.at("app.db"), "WAL");
    db.execute_batch("CREATE TABLE IF NOT EXISTS added (n); INSERT INTO added VALUES (1)").unwrap();
    db
}

/// Adds a row, and closes the database, which folds the log into it.
fn add_and_close(machine: &Machine) {
    drop(add_to_log(machine));
}

/// Returns the warnings of a database that was changed on both sides, and the conflicts, of the next sync of each.
async fn told(machines: &[Machine; 2]) -> (usize, u64) {
    let (mut warnings, mut conflicts) = (0, 0);
    for machine in machines.iter().chain(machines) {
        let synced = machine.sync().await;
        warnings += synced
            .noted
            .warnings
            .iter()
            .filter(|text| text.contains("`app.db` was changed here and"))
            .count();
        conflicts += synced.report().conflicts;
    }
    (warnings, conflicts)
}

async fn two_machines() -> (World, [Machine; 2]) {
    let world = World::quick().await;
    let machines = [world.machine("a"), world.machine("b")];
    add_and_close(&machines[0]);
    machines[0].push().await.clean();
    machines[1].pull().await.clean();
    (world, machines)
}

#[tokio::test]
async fn l27_the_log_of_one_machine_beside_the_database_of_another_is_told() {
    for first in [0, 1] {
        let (_world, machines) = two_machines().await;
        let _open = add_to_log(&machines[first]);
        add_and_close(&machines[1 - first]);
        let (warnings, conflicts) = told(&machines).await;
        assert!(warnings == 1 && conflicts == 1, "{first}: {warnings} warnings, {conflicts} conflicts");
    }
}

#[tokio::test]
async fn l27_changes_of_one_machine_and_names_alone_are_no_conflict() {
    let (_world, machines) = two_machines().await;
    let _open = add_to_log(&machines[0]);
    assert_eq!(told(&machines).await, (0, 0));
    add_and_close(&machines[0]);
    assert_eq!(told(&machines).await, (0, 0));
    machines[0].mount.write("app.db.txt", "1").write("text", "1").write("text-journal", "1");
    assert_eq!(told(&machines).await, (0, 0));
    machines[0].mount.write("text", "of one");
    machines[1].mount.write("text-journal", "of the other");
    assert_eq!(told(&machines).await, (0, 0));
}
