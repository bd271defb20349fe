//! A database and its journal or log: wherever they come to, both are of one version.

use std::sync::{Arc, Mutex};

use ctxsync_tests::faults::{Fails, Meanwhile};
use ctxsync_tests::machine::{Machine, context};
use ctxsync_tests::notes::Notes;
use rusqlite::Connection;
use transfer_engine::{
    ContextSync, CreateSessionParams, Env, MergeOptions, ReleaseOptions, Session, Silent, Store, SyncOptions,
};

use crate::{check, connect, fill, world};

#[tokio::test]
async fn l27_a_database_that_is_asked_for_comes_with_its_log() {
    let world = world().await;
    let (a, b) = (world.machine("a"), world.machine("b"));
    let mut db = connect(&a.mount.at("app.db"), "WAL");
    fill(&mut db, 1..2);
    a.mount.write("app.db-walrus", "another file").write("other", "o");
    a.push().await.clean();
    assert!(world.head().await.totals.files >= 4);
    let mut part = b.clone();
    part.options.only = vec!["app.db".parse().unwrap()];
    part.pull().await.clean();
    assert_eq!(b.mount.files(), ["app.db", "app.db-wal"]);
    assert_eq!(check(&b.mount.at("app.db")), 1);
    // The same for a fetch in a session, and for a push.
    let c = world.machine("c");
    let store = Store::new(Arc::clone(&c.objects), "test:", Env::real());
    let sync = ContextSync::new(context(), &c.mount.0, c.policy.clone());
    let session = Session::create(&store, CreateSessionParams::new(vec![sync], &c.state)).await.unwrap();
    session.fetch(&c.mount.0, &["app.db".parse().unwrap()]).await.unwrap();
    assert_eq!(check(&c.mount.at("app.db")), 1);
    session.release(ReleaseOptions::default()).await.unwrap();
    fill(&mut db, 2..3);
    let mut part = a.clone();
    part.options.only = vec!["app.db".parse().unwrap()];
    // The other machine has opened the database and folded its log, so what is pushed now counts as a mix of both.
    assert_eq!(part.push().await.report().conflicts, 1);
    let d = world.machine("d");
    d.pull().await.clean();
    assert_eq!(check(&d.mount.at("app.db")), 2);
}

#[tokio::test]
async fn l27_a_database_that_is_restored_comes_with_its_log() {
    let world = world().await;
    let a = world.machine("a");
    let mut db = connect(&a.mount.at("app.db"), "WAL");
    fill(&mut db, 1..2);
    // One of them is between the database and its log.
    a.mount.write("app.db-a", "a").write("app.db-walrus", "another file").write("other", "o");
    a.push().await.clean();
    let (head, out) = (world.head().await, world.outside());
    let options = SyncOptions::default();
    let restore = async |paths: &[&str]| {
        let paths: Vec<_> = paths.iter().map(|path| path.parse().unwrap()).collect();
        let notes = Notes::default();
        let report = world.store().restore(&head, &out.0, &paths, &options, &notes).await.unwrap();
        (report, notes.noted())
    };
    assert_eq!(restore(&["app.db"]).await.0.added, 2);
    assert_eq!(out.files(), ["app.db", "app.db-wal"]);
    assert_eq!(check(&out.at("app.db")), 1);
    // Beside another database, the log would damage it.
    let _ = std::fs::remove_file(out.at("app.db-wal"));
    out.write("app.db", "another one");
    let (report, noted) = restore(&["app.db"]).await;
    assert_eq!((report.added, report.failed), (0, 2), "{:?}", noted.problems);
    assert_eq!(out.files(), ["app.db"]);
}

/// The log of a long database comes later than the database, and knows all the same that it is not there.
#[tokio::test]
async fn l27_a_restore_puts_no_log_beside_another_long_database() {
    let world = world().await;
    let a = world.machine("a");
    let mut db = connect(&a.mount.at("app.db"), "WAL");
    db.execute_batch("CREATE TABLE long (body)").unwrap();
    db.execute("INSERT INTO long VALUES (randomblob(20000000))", ()).unwrap();
    db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |row| row.get::<_, u64>(0)).unwrap();
    fill(&mut db, 1..2);
    a.push().await.clean();
    let (head, out, options) = (world.head().await, world.outside(), SyncOptions::default());
    out.write("app.db", "another one");
    for paths in [vec![], vec!["app.db".parse().unwrap()]] {
        let notes = Notes::default();
        let report = world.store().restore(&head, &out.0, &paths, &options, &notes).await.unwrap();
        assert_eq!((report.added, report.failed), (0, 2), "{:?}", notes.noted().problems);
        assert_eq!(out.files(), ["app.db"]);
    }
}

#[tokio::test]
async fn l27_a_database_that_is_merged_comes_with_its_log() {
    let world = world().await;
    let (a, store) = (world.machine("a"), world.store());
    a.mount.write("other", "o");
    a.push().await.clean();
    let fork = "fork".parse().unwrap();
    store.fork_context(&context(), None, &fork).await.unwrap();
    let forker = Machine { context: fork.clone(), ..world.machine("forker") };
    forker.pull().await.clean();
    let mut db = connect(&forker.mount.at("app.db"), "WAL");
    fill(&mut db, 1..2);
    forker.mount.write("app.db-walrus", "another file");
    forker.push().await.clean();
    let options = MergeOptions { only: vec!["app.db".parse().unwrap()], ..MergeOptions::default() };
    assert_eq!(store.merge_context(&fork, None, &context(), &options, &Silent).await.unwrap().added, 2);
    let b = world.machine("b");
    b.pull().await.clean();
    assert_eq!(b.mount.files(), ["app.db", "app.db-wal", "other"]);
    assert_eq!(check(&b.mount.at("app.db")), 1);
}

/// A machine that leaves out logs sends a database. What the context has for a log is that of an older version.
#[tokio::test]
async fn l27_a_push_without_logs_leaves_no_old_log_beside_its_database() {
    for (part, is_open) in [("", false), ("", true), ("dir", false)] {
        let world = world().await;
        let policy = r#"{"bwList": {"ignorePatterns": ["*-wal"]}}"#;
        let (a, b) = (world.machine("a"), world.machine("b").with_policy(policy).of_part(part));
        std::fs::create_dir(a.mount.at("dir")).unwrap();
        let database = if part.is_empty() { "app.db" } else { "dir/app.db" };
        let log = format!("{database}-wal");
        let mut db = connect(&a.mount.at(database), "WAL");
        db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |row| row.get::<_, u64>(0)).unwrap();
        fill(&mut db, 1..2);
        a.mount.write("notes", "text").write("notes-wal", "no log");
        a.push().await.clean();
        b.pull().await.clean();
        assert!(!b.mount.has("app.db-wal"));
        // What changes no byte of the database leaves its log alone.
        b.mount.mode("app.db", 0o600);
        assert_eq!(b.push().await.clean().deleted, 0);
        let mut other = connect(&b.mount.at("app.db"), "WAL");
        fill(&mut other, 5..6);
        other.query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |row| row.get::<_, u64>(0)).unwrap();
        let other = Some(other).filter(|_| is_open);
        assert_eq!(b.mount.has("app.db-wal"), is_open);
        if part.is_empty() {
            b.mount.write("notes", "another text");
        }
        let mut dry = b.clone();
        dry.options.dry_run = true;
        let changed = 1 + u64::from(part.is_empty());
        for machine in [&dry, &b] {
            let pushed = machine.push().await;
            let report = pushed.clean();
            assert_eq!((report.changed, report.deleted), (changed, 1), "{part} {is_open}");
            assert!(
                pushed.warned("the context's app.db-wal is of another version"),
                "{:?}",
                pushed.noted.warnings
            );
        }
        drop(other);
        let c = world.machine("c");
        c.pull().await.clean();
        assert!(!c.mount.has(&log) && c.mount.has("notes-wal"));
        let found = Connection::open(c.mount.at(database)).unwrap();
        assert_eq!(found.query_row("SELECT max(n) FROM t", (), |row| row.get::<_, u64>(0)).unwrap(), 5);
        assert_eq!(b.push().await.clean().snapshot, Some(world.head().await.number));
    }
}

/// A database beside the log of another version of it would be damaged.
#[tokio::test]
async fn l27_a_pull_shows_no_database_beside_the_log_of_another_version() {
    let world = world().await;
    let (a, b) = (world.machine("a"), world.machine("b"));
    let path = a.mount.at("app.db");
    let files =
        |machine: &Machine| ["app.db", "app.db-wal"].map(|name| std::fs::read(machine.mount.at(name)).ok());
    let mut db = Some(connect(&path, "WAL"));
    fill(db.as_mut().unwrap(), 1..2);
    a.push().await.clean();
    b.pull().await.clean();
    let mut versions = vec![files(&b)];
    for (numbers, is_closed) in [(2..300, true), (300..301, false), (302..700, false)] {
        let mut next = connect(&path, "WAL");
        fill(&mut next, numbers.clone());
        let checkpoint = "PRAGMA wal_checkpoint(TRUNCATE)";
        assert_eq!(next.query_row(checkpoint, (), |row| row.get::<_, u64>(0)).unwrap(), 0);
        if !is_closed {
            fill(&mut next, numbers.end..numbers.end + 1);
        }
        // Closing the last connection removes the log.
        drop(std::mem::replace(&mut db, (!is_closed).then_some(next)));
        // One file that is pulled before the database, and one after it.
        a.mount.write("app", numbers.end.to_string()).write("zz", vec![numbers.end as u8; 3 << 20]);
        a.push().await.clean();
        let c = world.machine(&format!("c{}", numbers.end));
        c.pull().await.clean();
        let (old, new) = (versions.last().unwrap().clone(), files(&c));
        versions.push(new.clone());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (noted, mount) = (seen.clone(), b.mount.0.clone());
        let mut watched = b.clone();
        watched.env = Env::real().with_file_faults(Meanwhile::new(move |operation, _| {
            let now = ["app.db", "app.db-wal"].map(|name| std::fs::read(mount.join(name)).ok());
            noted.lock().unwrap().push((operation, now));
        }));
        watched.pull().await.clean();
        assert_eq!(files(&b), new);
        let seen = std::mem::take(&mut *seen.lock().unwrap());
        assert!(seen.len() > 5, "{} operations", seen.len());
        for (operation, [database, log]) in seen {
            let of = |version: &[Option<Vec<u8>>; 2]| {
                database == version[0] && (log.is_none() || log == version[1])
            };
            assert!(of(&old) || of(&new), "before {operation}, {numbers:?}");
        }
        check(&c.mount.at("app.db"));
    }
}

#[tokio::test]
async fn l27_the_log_of_a_database_that_can_not_be_put_in_place_stays_away() {
    let world = world().await;
    let (a, b) = (world.machine("a"), world.machine("b"));
    let mut db = connect(&a.mount.at("app.db"), "WAL");
    fill(&mut db, 1..2);
    a.push().await.clean();
    b.pull().await.clean();
    let files = || ["app.db", "app.db-wal"].map(|name| std::fs::read(b.mount.at(name)).ok());
    let old = files();
    db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |row| row.get::<_, u64>(0)).unwrap();
    fill(&mut db, 2..3);
    a.push().await.clean();
    let mut failing = b.clone();
    failing.env = Env::real()
        .with_file_faults(Fails::new("renameat2", rustix::io::Errno::IO, |path| path.ends_with("app.db")));
    let ended = failing.pull().await;
    assert_eq!(ended.report().failed, 2, "{:?}", ended.noted);
    assert_eq!(files()[0], old[0]);
    assert!(files()[1].is_none() || files()[1] == old[1], "{:?}", ended.noted);
    // The next pull gets both files, and a push sends nothing of the old version.
    b.pull().await.clean();
    assert_eq!(b.push().await.clean().changed, 0);
    assert_eq!(check(&b.mount.at("app.db")), 2);
}
