//! SQLite databases that are written while they are pushed (fault L27). `CTXSYNC_DATABASES=300` sets how many
//! snapshots of each kind are made, as `just databases` does.

#![expect(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

mod logs;
mod mixed;

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ctxsync_tests::compare::assert_same;
use ctxsync_tests::machine::{Machine, World};
use policy_core::Timestamp;
use rusqlite::{Connection, Transaction, TransactionBehavior};
use transfer_engine::{Clock, Env};

/// Arguments of the writer process: its pause in milliseconds, its journal mode and the database.
const WRITER: &str = "CTXSYNC_TEST_WRITER";

/// Rows that each transaction writes.
const ROWS: u64 = 3;
/// A row is overwritten after this many transactions, so that the database does not grow for ever.
const KEPT: u64 = 2667;

fn rounds() -> Option<u64> {
    std::env::var("CTXSYNC_DATABASES").ok().and_then(|n| n.parse().ok())
}

/// A long search works on a real disk. Other runs use memory, which is faster.
pub(crate) async fn world() -> World {
    if rounds().is_some() { World::memory().await } else { World::quick().await }
}

pub(crate) fn connect(path: &Path, mode: &str) -> Connection {
    let db = Connection::open(path).unwrap();
    db.busy_timeout(Duration::from_secs(30)).unwrap();
    db.pragma_update(None, "journal_mode", mode).unwrap();
    db.pragma_update(None, "wal_autocheckpoint", 200).unwrap();
    db.pragma_update(None, "synchronous", "NORMAL").unwrap();
    let tables = "CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, n INTEGER, body TEXT);
        CREATE INDEX IF NOT EXISTS i ON t (body);";
    db.execute_batch(tables).unwrap();
    db
}

/// Writes the rows of transaction `n`, each of about 600 bytes, and changes an older one. Returns how long it
/// took.
fn commit(db: &mut Connection, n: u64) -> Duration {
    let began = Instant::now();
    let change = db.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
    add(&change, n);
    change.commit().unwrap();
    began.elapsed()
}

fn add(change: &Transaction<'_>, n: u64) {
    for row in 0..ROWS {
        let body = format!("{:x}{}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15) + row, "x".repeat(580));
        let id = n % KEPT * ROWS + row;
        change.execute("INSERT OR REPLACE INTO t (id, n, body) VALUES (?1, ?2, ?3)", (id, n, body)).unwrap();
    }
    change.execute("UPDATE t SET body = ?1 || body WHERE id = ?2", (n % 10, n / 2)).unwrap();
}

/// Writes the rows of many transactions in a single one.
pub(crate) fn fill(db: &mut Connection, numbers: std::ops::Range<u64>) {
    let change = db.transaction().unwrap();
    numbers.for_each(|n| add(&change, n));
    change.commit().unwrap();
}

/// Fails unless the database is sound; returns the number of its last transaction.
#[track_caller]
pub(crate) fn check(path: &Path) -> u64 {
    let db = Connection::open(path).unwrap();
    let verdict: String = db.query_row("PRAGMA integrity_check", (), |row| row.get(0)).unwrap();
    assert_eq!(verdict, "ok");
    let number = |query: &str| db.query_row(query, (), |row| row.get::<_, u64>(0)).unwrap();
    let last = number("SELECT coalesce(max(n), 0) FROM t");
    assert_eq!(number("SELECT count(*) FROM t"), last.min(KEPT) * ROWS, "transactions are missing");
    let parts = "SELECT count(*) FROM (SELECT 1 FROM t GROUP BY n HAVING count(*) != 3)";
    assert_eq!(number(parts), 0, "a transaction is there in part");
    last
}

/// Writes to a database until it is dropped.
enum Writer {
    Process(Child, Option<ChildStdin>, Arc<AtomicU64>, Arc<AtomicU64>),
    Thread(Option<JoinHandle<()>>, Arc<AtomicBool>, Arc<AtomicU64>, Arc<AtomicU64>),
}

impl Writer {
    /// Starts a writer in its own process, and waits for its first transaction.
    fn process(path: &Path, mode: &str, pause: u64) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "writer_of_its_own_process", "--ignored", "--nocapture"])
            .env(WRITER, format!("{pause} {mode} {}", path.display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (last, longest) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (notes, (tell, first)) = ((last.clone(), longest.clone()), mpsc::channel());
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                // The test harness prints lines, too.
                let Some(words) = line.strip_prefix("committed ") else { continue };
                let (n, micros) = words.split_once(' ').unwrap();
                notes.0.store(n.parse().unwrap(), Ordering::SeqCst);
                notes.1.fetch_max(micros.parse().unwrap(), Ordering::SeqCst);
                let _ = tell.send(());
            }
        });
        first.recv().unwrap();
        let stdin = child.stdin.take();
        Self::Process(child, stdin, last, longest)
    }

    /// Starts a writer in this process, like a program that embeds the engine and has the database open.
    fn thread(path: PathBuf, mode: &'static str, pause: u64) -> Self {
        let (stop, last, longest) = (Arc::new(AtomicBool::new(false)), Arc::default(), Arc::default());
        let (done, notes): (_, (Arc<AtomicU64>, Arc<AtomicU64>)) =
            (stop.clone(), (Arc::clone(&last), Arc::clone(&longest)));
        let (tell, first) = mpsc::channel();
        let run = move || {
            let mut db = connect(&path, mode);
            for n in 1.. {
                let took = commit(&mut db, n);
                notes.0.store(n, Ordering::SeqCst);
                notes.1.fetch_max(took.as_micros() as u64, Ordering::SeqCst);
                let _ = tell.send(());
                if done.load(Ordering::SeqCst) {
                    return;
                }
                std::thread::sleep(Duration::from_millis(pause));
            }
        };
        let thread = std::thread::spawn(run);
        first.recv().unwrap();
        Self::Thread(Some(thread), stop, last, longest)
    }

    fn last(&self) -> u64 {
        match self {
            Self::Process(_, _, last, _) | Self::Thread(_, _, last, _) => last.load(Ordering::SeqCst),
        }
    }

    fn longest(&self) -> Duration {
        match self {
            Self::Process(_, _, _, longest) | Self::Thread(_, _, _, longest) => {
                Duration::from_micros(longest.load(Ordering::SeqCst))
            }
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        match self {
            Self::Process(child, stdin, ..) => {
                drop(stdin.take());
                child.wait().unwrap();
            }
            Self::Thread(thread, stop, ..) => {
                stop.store(true, Ordering::SeqCst);
                if let Some(thread) = thread.take() {
                    thread.join().unwrap();
                }
            }
        }
    }
}

/// Not a test: the process that [`Writer::process`] starts. It ends when its standard input ends.
#[test]
#[ignore = "not a test: a process that the tests of this file start"]
fn writer_of_its_own_process() {
    let Ok(told) = std::env::var(WRITER) else { return };
    let mut told = told.splitn(3, ' ');
    let pause = told.next().unwrap().parse().unwrap();
    let (mode, path) = (told.next().unwrap(), told.next().unwrap());
    let mut db = connect(Path::new(path), mode);
    let ended = Arc::new(AtomicBool::new(false));
    let tell = ended.clone();
    std::thread::spawn(move || {
        let _ = std::io::stdin().read_line(&mut String::new());
        tell.store(true, Ordering::SeqCst);
    });
    for n in 1.. {
        let took = commit(&mut db, n).as_micros();
        writeln!(std::io::stdout(), "committed {n} {took}").unwrap();
        if ended.load(Ordering::SeqCst) {
            return;
        }
        std::thread::sleep(Duration::from_millis(pause));
    }
}

/// Pushes a database several times while it is written, and checks each snapshot.
async fn save_meanwhile(a: &Machine, world: &World, writer: &Writer, what: &str) {
    let rounds = rounds().unwrap_or(3);
    for round in 0..rounds {
        let committed = writer.last();
        a.push().await.clean();
        let b = world.machine(&format!("of-{round}"));
        b.pull().await.clean();
        assert!(!b.mount.has("state/app.db-shm"), "{what}");
        let found = check(&b.mount.at("state/app.db"));
        assert!(found >= committed, "{what}: {found} of {committed}");
        std::fs::remove_dir_all(b.mount.0.parent().unwrap()).unwrap();
    }
    let waited = writer.longest();
    let _ = writeln!(std::io::stderr(), "{what}: {rounds} snapshots, the longest commit {waited:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn l27_a_database_that_is_written_meanwhile_is_sound_in_each_snapshot() {
    for pause in [50, 10, 0] {
        for mode in ["WAL", "DELETE", "TRUNCATE", "PERSIST"] {
            if rounds().is_none() && pause > 0 && !matches!(mode, "WAL" | "DELETE") {
                continue;
            }
            let world = world().await;
            let a = world.machine("a");
            a.mount.dir("state").write("state/app.db.txt", "not of it").write("other", "1");
            let path = a.mount.at("state/app.db");
            {
                let writer = Writer::process(&path, mode, pause);
                save_meanwhile(&a, &world, &writer, &format!("{mode}, {pause} ms")).await;
            }
            // The writer and its log are gone. The next snapshot has its last transaction.
            let last = check(&path);
            a.push().await.clean();
            let b = world.machine("b");
            b.pull().await.clean();
            assert_eq!(check(&b.mount.at("state/app.db")), last, "{mode}");
        }
    }
}

/// A program that embeds the engine has the database open itself. If the engine closed a descriptor of the
/// same file, the process would lose its locks.
#[tokio::test]
async fn l27_a_database_that_this_process_writes_is_sound_in_each_snapshot() {
    for mode in ["WAL", "DELETE"] {
        let world = world().await;
        let a = world.machine("a");
        a.mount.dir("state");
        let path = a.mount.at("state/app.db");
        let writer = Writer::thread(path.clone(), mode, 0);
        save_meanwhile(&a, &world, &writer, &format!("{mode}, in this process")).await;
        drop(writer);
        // What this process has locked must still be locked for others.
        let mut db = connect(&path, mode);
        let next = check(&path) + 1;
        commit(&mut db, next);
        let lock = db.transaction_with_behavior(TransactionBehavior::Exclusive).unwrap();
        tokio::time::pause();
        let failed = a.push().await;
        tokio::time::resume();
        if mode == "DELETE" {
            assert_eq!(failed.report().failed, 1, "{:?}", failed.noted);
            let other = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "who_finds_it_locked", "--ignored"])
                .env(WRITER, &path)
                .status()
                .unwrap();
            assert!(other.success(), "the lock of this process is lost");
        }
        drop(lock);
    }
}

/// Not a test: another process, for which the database is locked.
#[test]
#[ignore = "not a test: a process that the tests of this file start"]
fn who_finds_it_locked() {
    let Some(path) = std::env::var_os(WRITER) else { return };
    let db = Connection::open(path).unwrap();
    db.busy_timeout(Duration::ZERO).unwrap();
    let found = db.query_row("SELECT count(*) FROM t", (), |row| row.get::<_, u64>(0));
    assert!(found.is_err(), "{found:?}");
}

/// A database that can't be read stays as it is in the context. The rest of the push goes on.
#[tokio::test(start_paused = true)]
async fn l27_a_database_that_stays_locked_keeps_its_last_version() {
    for (mode, exclusive) in [("DELETE", false), ("WAL", true)] {
        let world = World::quick().await;
        let a = world.machine("a");
        let path = a.mount.at("app.db");
        let mut db = connect(&path, mode);
        commit(&mut db, 1);
        a.push().await.clean();
        if exclusive {
            db.pragma_update(None, "locking_mode", "EXCLUSIVE").unwrap();
        }
        commit(&mut db, 2);
        let lock = db.transaction_with_behavior(TransactionBehavior::Exclusive).unwrap();
        a.mount.write("other", "1");
        let ended = a.push().await;
        assert!(ended.report().is_incomplete() && ended.report().added == 1, "{mode} {ended:?}");
        assert_eq!(ended.noted.problems.len(), 1, "{:?}", ended.noted.problems);
        assert!(ended.noted.problems[0].contains("app.db: the database can't be pushed: another program"));
        let b = world.machine("b");
        b.pull().await.clean();
        assert_eq!((check(&b.mount.at("app.db")), b.mount.read("other").as_str()), (1, "1"));
        lock.commit().unwrap();
        drop(db);
        a.push().await.clean();
        let c = world.machine("c");
        c.pull().await.clean();
        assert_eq!(check(&c.mount.at("app.db")), 2, "{mode}");
    }
}

/// When a log is gone, its content is in the database. No policy keeps the old log: beside the newer database
/// it would damage it.
#[tokio::test]
async fn l27_a_log_that_was_folded_leaves_the_context_whatever_the_policy_says() {
    let world = World::quick().await;
    let policy = r#"{"deletePolicy": {"syncLocalFile": false}}"#;
    let (a, b) = (world.machine("a").with_policy(policy), world.machine("b").with_policy(policy));
    let path = a.mount.at("app.db");
    let mut db = connect(&path, "WAL");
    (1..4).for_each(|n| _ = commit(&mut db, n));
    a.push().await.clean();
    b.pull().await.clean();
    assert!(b.mount.has("app.db-wal"));
    (4..8).for_each(|n| _ = commit(&mut db, n));
    drop(db);
    assert!(!a.mount.has("app.db-wal"));
    // A pull does not restore the old log either.
    a.pull().await.clean();
    assert!(!a.mount.has("app.db-wal") && check(&path) == 7);
    a.push().await.clean();
    b.pull().await.clean();
    assert!(!b.mount.has("app.db-wal"));
    assert_eq!(check(&b.mount.at("app.db")), 7);
}

/// A machine died in the middle of a transaction: the journal or the log is part of the database.
#[tokio::test]
async fn l27_a_database_whose_program_died_is_saved_with_its_journal() {
    for mode in ["DELETE", "WAL"] {
        let world = World::quick().await;
        let (a, b) = (world.machine("a"), world.machine("b"));
        let work = world.outside();
        let mut db = connect(&work.at("app.db"), mode);
        fill(&mut db, 1..200);
        // With a small cache, SQLite writes to the database before the transaction ends.
        db.pragma_update(None, "cache_size", 1).unwrap();
        let change = db.transaction().unwrap();
        change.execute("UPDATE t SET body = 'lost' || body", ()).unwrap();
        let other = if mode == "WAL" { "app.db-wal" } else { "app.db-journal" };
        for name in ["app.db", other] {
            std::fs::copy(work.at(name), a.mount.at(name)).unwrap();
        }
        a.push().await.clean();
        b.pull().await.clean();
        assert_same(&a.mount.0, &b.mount.0);
        assert!(b.mount.has(other));
        assert_eq!(check(&b.mount.at("app.db")), 199, "{mode}");
    }
}

struct Ahead;

impl Clock for Ahead {
    fn now(&self) -> Timestamp {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        Timestamp { secs: now.as_secs() as i64 + 60, nanos: now.subsec_nanos() }
    }
}

/// Of a long database only the changes are read.
#[tokio::test]
async fn l27_an_unchanged_database_is_not_read_for_its_log() {
    let world = World::quick().await;
    let (mut a, b) = (world.machine("a"), world.machine("b"));
    // A minute ahead, so that no file counts as written a moment ago.
    a.env = Env::real().with_clock(Arc::new(Ahead));
    let path = a.mount.at("app.db");
    let mut db = connect(&path, "WAL");
    db.pragma_update(None, "wal_autocheckpoint", 0).unwrap();
    fill(&mut db, 1..2600);
    db.pragma_query(None, "wal_checkpoint", |_| Ok(())).unwrap();
    let long = path.metadata().unwrap().len();
    assert!(long > 4 << 20, "{long}");
    assert!(a.push().await.clean().bytes_read > long);
    for n in 2600..2603 {
        commit(&mut db, n);
        let pushed = a.push().await;
        let (report, log) = (pushed.clean(), a.mount.at("app.db-wal").metadata().unwrap().len());
        assert_eq!((report.bytes_read, report.changed), (log, 1));
        b.pull().await.clean();
        let c = world.machine(&format!("c{n}"));
        c.pull().await.clean();
        assert_eq!(check(&c.mount.at("app.db")), n);
    }
    assert_eq!(a.push().await.clean().bytes_read, 0);
}

#[tokio::test]
async fn l27_names_alone_make_no_database() {
    let world = World::quick().await;
    let (a, b) = (world.machine("a"), world.machine("b"));
    a.mount
        .write("notes", "text")
        .write("notes-wal", "1")
        .write("notes-shm", "2")
        .write("lonely-journal", "3");
    // It begins like a database but is none: SQLite does not open it either.
    a.mount.write("broken", [b"SQLite format 3\0".as_slice(), &[9; 4000]].concat()).write("broken-wal", "4");
    a.mount.write("short", "SQLite format 3\0");
    a.push().await.clean();
    b.pull().await.clean();
    assert_same(&a.mount.0, &b.mount.0);
    a.mount.write("notes-wal", "changed").remove("notes-shm").write("broken-wal", "5");
    let report = a.push().await.clean().clone();
    assert_eq!((report.changed, report.deleted), (2, 1));
    b.pull().await.clean();
    assert_same(&a.mount.0, &b.mount.0);
}
