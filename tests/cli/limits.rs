//! Limits of the system: too few threads, a maximum file size, directories that are closed (faults P8, P9, P16).

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use crate::world::{Ended, Machine, World, noise};

/// Returns the same call, started by another program: `prlimit --nproc=3 ctxsync ...`.
fn behind(machine: &Machine, before: &[&str], args: &[&str]) -> Command {
    behind_program(machine, before, PathBuf::from(env!("CARGO_BIN_EXE_ctxsync")), args)
}

fn behind_program(machine: &Machine, before: &[&str], program: PathBuf, args: &[&str]) -> Command {
    let like = machine.command([""; 0]);
    // A call that hangs is ended.
    let mut command = Command::new("timeout");
    command.args(["-k", "1", "60"]).args(before).arg(program).args(args);
    command.current_dir(machine.path("")).env_clear();
    command.envs(like.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command
}

fn ended(machine: &Machine, mut command: Command) -> Ended {
    machine.ended(command.output().unwrap())
}

#[track_caller]
fn no_panic(ended: &Ended) {
    assert!(!ended.err.contains("panicked") && !ended.err.contains("internal error"), "{}", ended.err);
    assert!(![101, 124, 134, 137].contains(&ended.code), "{}: {}", ended.code, ended.err);
}

#[test]
fn p16_with_few_threads_it_works_or_says_so_before_the_command() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: only root can become a user of whom no other process is there");
        return;
    }
    let world = World::new();
    let machine = world.machine("a");
    machine.write("work/f", "x");
    // The program runs as another user here, who may have no access to the build directory.
    let program = machine.path("ctxsync");
    std::fs::copy(env!("CARGO_BIN_EXE_ctxsync"), &program).unwrap();
    let root = machine.path("").parent().unwrap().to_owned();
    for dir in [&root, &machine.path(""), &machine.path("work")] {
        std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o777)).unwrap();
    }
    let user = (50_000 + std::process::id() % 10_000).to_string();
    let mut done = 0;
    for limit in 1..=16 {
        let limit = format!("--nproc={limit}");
        let before = ["setpriv", "--reuid", &user, "--clear-groups", "prlimit", &limit];
        let push =
            ended(&machine, behind_program(&machine, &before, program.clone(), &["push", "c", "work"]));
        no_panic(&push);
        if push.code != 0 {
            // How many threads run at once depends on timing, so any limit may fail here.
            assert_eq!(push.code, 1, "{}", push.err);
            assert!(push.err.contains("cannot start the threads"), "{}", push.err);
        }
        let run = ["run", "-c", "r", "work", "--", "touch", "ran"];
        let run = ended(&machine, behind_program(&machine, &before, program.clone(), &run));
        no_panic(&run);
        assert_eq!(run.code == 0, machine.has("work/ran"), "{}: {}", run.code, run.err);
        let _ = std::fs::remove_file(machine.path("work/ran"));
        done += usize::from(push.code == 0);
    }
    assert!(done >= 7, "a handful of threads is enough: {done}");
}

#[test]
fn p9_a_directory_that_cannot_be_read_stays_as_the_context_has_it() {
    let world = World::new();
    let machine = world.machine("a");
    machine.write("work/closed/f", "1");
    machine.write("work/open", "1");
    machine.done(&["push", "c", "work"]);
    let closed = machine.path("work/closed");
    let mode = |mode| std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(mode)).unwrap();
    mode(0o000);
    machine.write("work/open", "2");
    // Root is refused nothing as long as it has these capabilities.
    let less: &[&str] = match nix::unistd::geteuid().is_root() {
        true => &["setpriv", "--bounding-set=-dac_override,-dac_read_search"],
        false => &[],
    };
    let push = ended(&machine, behind(&machine, less, &["push", "c", "work"]));
    mode(0o755);
    assert_eq!(push.code, 3, "{}", push.err);
    assert!(push.err.contains("closed") && push.err.contains("Permission denied"), "{}", push.err);
    machine.done(&["pull", "c", "fresh"]);
    assert_eq!((machine.read("fresh/closed/f"), machine.read("fresh/open")), ("1".into(), "2".into()));
}

#[test]
fn p16_a_file_that_gets_too_long_is_an_error_and_no_signal() {
    let machine = World::new().machine("a");
    machine.write("work/big", noise(3_000_000));
    let before = ["prlimit", "--fsize=1000000"];
    let push = ended(&machine, behind(&machine, &before, &["push", "c", "work"]));
    assert_eq!(push.code, 1, "{}", push.err);
    assert!(push.err.contains("File too large"), "{}", push.err);
    // ctxsync ignores SIGXFSZ for itself; its command gets the default back.
    let script = "grep SigIgn: /proc/self/status; head -c 2000000 /dev/zero > long";
    let args = ["run", "-c", "d", "empty", "--", "sh", "-c", script];
    let run = ended(&machine, behind(&machine, &before, &args));
    assert_eq!(run.code, 128 + 25, "{}", run.err);
    let ignored = run.out.split_whitespace().nth(1).unwrap();
    assert_eq!(u64::from_str_radix(ignored, 16).unwrap() & (1 << 24), 0, "{ignored}");
}

#[test]
fn p8_the_limit_of_files_is_raised_and_the_command_has_its_own() {
    let machine = World::new().machine("a");
    // The program has the command's limit while it starts the command.
    let script = "ulimit -n; limits=/proc/$PPID/limits; \
                  for i in $(seq 100); do grep -q 'open files *4000' $limits && break; sleep 0.1; done; \
                  grep 'open files' $limits";
    let before = ["prlimit", "--nofile=100:4000"];
    let run =
        ended(&machine, behind(&machine, &before, &["run", "-c", "c", "work", "--", "sh", "-c", script]));
    assert_eq!(run.code, 0, "{}", run.err);
    let words: Vec<_> = run.out.split_whitespace().collect();
    assert_eq!((words[0], words[4], words[5]), ("100", "4000", "4000"), "{}", run.out);
}

#[test]
fn p8_a_limit_of_files_that_is_too_low_is_a_clear_error_however_low() {
    let machine = World::new().machine("a");
    for files in 4..40 {
        machine.write("work/f", files.to_string());
        let before = ["prlimit".to_owned(), format!("--nofile={files}:{files}")];
        let push = ended(
            &machine,
            behind(
                &machine,
                &before.each_ref().map(String::as_str),
                &["push", "c", "work", "--retry-time", "1s"],
            ),
        );
        no_panic(&push);
        // With so few, the system's loader may not even start the program: descriptors that are inherited count.
        if push.code == 127 && push.err.contains("error while loading shared libraries") {
            assert!(files < 8, "{files}: {}", push.err);
            continue;
        }
        assert!(matches!(push.code, 0 | 1 | 3), "{files}: {} {}", push.code, push.err);
        assert!(push.code == 0 || push.err.contains("Too many open files"), "{files}: {}", push.err);
    }
    let push = ended(&machine, behind(&machine, &["env"], &["push", "c", "work"]));
    assert_eq!(push.code, 0, "{}", push.err);
}
