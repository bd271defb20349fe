//! The program and a server between which everything goes wrong (faults N1 to N10, N13, N14 and N18): whatever fails
//! and when, nothing is lost, a success is one, the next call succeeds, and no secret is shown.
//!
//! `CTXSYNC_FAULTS=all` tries every fault at every request of every command, or so many as it says. With `--nocapture`
//! the test prints its figures.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use ctxsync_tests::random::Random;
use ctxsync_tests::s3::{Fault, S3Server, SECRET_KEY};

use crate::world::{Ended, Machine, World, tree};

/// The commands, each with the machine that calls it.
const COMMANDS: [(&str, &[&str]); 10] = [
    ("b", &["push", "work", "work"]),
    ("b", &["pull", "work", "work"]),
    ("b", &["sync", "work", "work"]),
    ("c", &["pull", "work", "work"]),
    ("c", &["restore", "work@2", "restored"]),
    ("b", &["put", "work:put", "put-this"]),
    ("b", &["gc", "--keep-last", "1"]),
    ("b", &["check", "--read-data"]),
    ("b", &["context", "rename", "work", "renamed"]),
    ("b", &["run", "-c", "work", "work", "--", "sh", "-c", "echo ran >ran"]),
];

/// Two machines and a store in a state from which every command has something to do.
struct Stage {
    world: World,
    server: S3Server,
    /// What was tried last, for messages.
    told: std::cell::RefCell<String>,
}

impl Stage {
    fn new() -> Self {
        let stage =
            Self { world: World::new(), server: S3Server::start().unwrap(), told: Default::default() };
        let (a, b) = (stage.machine("a"), stage.machine("b"));
        for i in 0..4 {
            a.write(&format!("work/d{}/f{i}", i % 2), format!("content {i} ").repeat(300));
        }
        stage.works(&a, &["push", "work", "work"]);
        stage.works(&b, &["pull", "work", "work"]);
        a.write("work/d0/f0", "edited by a");
        std::fs::remove_file(a.path("work/d1/f1")).unwrap();
        stage.works(&a, &["push", "work", "work"]);
        b.write("work/d0/f2", "edited by b");
        b.write("work/new", "new in b");
        b.write("put-this", "put");
        copy(&stage.place(), &stage.kept());
        copy(&stage.server.bucket_dir(), &stage.kept().join("bucket"));
        stage
    }

    fn machine(&self, name: &str) -> Machine {
        self.world.machine(name)
    }

    fn place(&self) -> std::path::PathBuf {
        self.machine("b").path("")
    }

    fn kept(&self) -> std::path::PathBuf {
        self.machine("kept").path("b")
    }

    /// Puts the store and the machines where they were.
    fn reset(&self) {
        for (name, now) in [("bucket", self.server.bucket_dir()), ("", self.place())] {
            std::fs::remove_dir_all(&now).unwrap();
            copy(&self.kept().join(name), &now);
        }
        for name in ["c", "fresh"] {
            let _ = std::fs::remove_dir_all(self.machine(name).path(""));
            self.machine(name);
        }
    }

    fn call(&self, machine: &Machine, args: &[&str]) -> Ended {
        let mut command: Command = machine.command(args);
        command.envs(self.server.env()).env("CTXSYNC_STORE", self.server.url("store"));
        // A request without an answer is given up soon. A local store would not wait longer.
        command.env("CTXSYNC_TIMEOUT", "300ms").env("CTXSYNC_RETRY_TIME", "1s");
        command.env("CTXSYNC_LOG_FILE", machine.path("log")).env("CTXSYNC_VERBOSE", "2");
        machine.ended(command.output().unwrap())
    }

    #[track_caller]
    fn works(&self, machine: &Machine, args: &[&str]) -> Ended {
        let ended = self.call(machine, args);
        assert_eq!(ended.code, 0, "{}\nthen {args:?}: {}", self.told.borrow(), ended.seen());
        ended
    }
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").arg("-T").args([from, to]).status().unwrap();
    assert!(copied.success());
}

/// What is tried: a command, a fault, and when it begins and whether it ends.
#[derive(Debug, Clone, Copy)]
struct Trial {
    command: usize,
    fault: Fault,
    spared: usize,
    once: bool,
}

/// Returns all trials, or as many of them as the environment says, drawn at random but always the same.
fn trials(stage: &Stage) -> Vec<Trial> {
    let mut all = Vec::new();
    for (command, (who, args)) in COMMANDS.iter().enumerate() {
        stage.reset();
        stage.server.clear_requests();
        stage.works(&stage.machine(who), args);
        for spared in 0..stage.server.requests().len() {
            for fault in Fault::ALL {
                all.extend([true, false].map(|once| Trial { command, fault, spared, once }));
            }
        }
    }
    let wanted = std::env::var("CTXSYNC_FAULTS").unwrap_or_else(|_| "40".to_owned());
    let Ok(wanted) = wanted.parse() else { return all };
    let mut random = Random::new(14);
    let mut drawn = Vec::new();
    while drawn.len() < wanted && !all.is_empty() {
        drawn.push(all.swap_remove(random.below(all.len())));
    }
    drawn
}

fn show_no_secret(machine: &Machine, ended: &Ended, told: &str) {
    let log = std::fs::read_to_string(machine.path("log")).unwrap_or_default();
    for text in [&ended.out, &ended.err, &log] {
        assert!(!text.contains(SECRET_KEY), "{told}: {text}");
    }
    // In the state there may be sockets, which can't be read.
    let mut found = Command::new("grep");
    found.args(["-rlF", "-D", "skip", SECRET_KEY, "."]).current_dir(machine.path(""));
    assert_eq!(String::from_utf8_lossy(&found.output().unwrap().stdout), "", "{told}");
}

#[test]
fn n1_n2_n3_n4_n5_n6_n7_n8_n9_n10_n13_n14_n18_whatever_the_network_does() {
    let stage = Stage::new();
    let mut figures = BTreeMap::<String, [usize; 3]>::new();
    for trial in trials(&stage) {
        let (who, args) = COMMANDS[trial.command];
        stage.reset();
        let machine = stage.machine(who);
        stage.server.fail_after(trial.spared, trial.once, trial.fault);
        let ended = stage.call(&machine, args);
        let failed = stage.server.fail_no_more();
        let told = format!("{trial:?} {args:?}: {}", ended.seen());
        *stage.told.borrow_mut() = told.clone();
        // 2 is a wrong call. 101 is a panic, and a number below 0 a signal.
        assert!((0..100).contains(&ended.code) && ended.code != 2, "{told}");
        assert!(!ended.err.contains("panicked"), "{told}");
        show_no_secret(&machine, &ended, &told);
        let row = figures.entry(format!("{:?}", trial.fault)).or_default();
        row[0] += 1;
        row[1] += usize::from(failed > 0);
        row[2] += usize::from(ended.code == 0);
        check(&stage, &trial, &ended, &told);
    }
    for (fault, [all, met, done]) in figures {
        println!("{fault}: {all} calls, {met} met it, {done} succeeded");
    }
}

/// Fails unless nothing was lost, and everything goes on.
fn check(stage: &Stage, trial: &Trial, ended: &Ended, told: &str) {
    let (who, args) = COMMANDS[trial.command];
    let b = stage.machine("b");
    // What only b has is still there, and nothing else was put in its place.
    assert_eq!(b.read("work/d0/f2"), "edited by b", "{told}");
    assert_eq!(b.read("work/new"), "new in b", "{told}");
    let f0 = b.read("work/d0/f0");
    assert!(f0 == "edited by a" || f0 == "content 0 ".repeat(300), "{told}: {f0}");
    assert!(b.has("work/d1/f3") && b.has("work/ran") <= (args[0] == "run"), "{told}");
    let fresh = stage.machine("fresh");
    if args[0] == "context" {
        if ended.code != 0 {
            stage.works(&b, args);
        }
        stage.works(&fresh, &["pull", "renamed", "work"]);
        assert_eq!(fresh.read("work/d0/f0"), "edited by a", "{told}");
        assert_eq!(stage.call(&b, &["pull", "work", "work"]).code, 10, "{told}");
        stage.works(&b, &["check", "--read-data"]);
        return;
    }
    if ended.code == 0 && who == "b" && ["push", "sync", "run"].contains(&args[0]) {
        stage.works(&fresh, &["pull", "work", "work"]);
        assert!(fresh.has("work/new"), "a push that succeeded saved nothing: {told}");
    }
    stage.works(&b, &["sync", "work", "work"]);
    stage.works(&fresh, &["pull", "work", "work"]);
    let (of_b, of_fresh) = (tree(&b.path("work")), tree(&fresh.path("work")));
    assert_eq!(of_b, of_fresh, "{told}");
    let conflicts = of_b.iter().filter(|line| line.contains("conflict-")).count();
    assert_eq!(conflicts, 0, "{told}: {of_b:?}");
    assert!(!b.has("work/d1/f1") && b.read("work/d0/f0") == "edited by a", "{told}");
    if args[0] == "put" && ended.code == 0 {
        assert_eq!(b.read("work/put"), "put", "{told}");
    }
    stage.works(&b, &["check", "--read-data"]);
}
