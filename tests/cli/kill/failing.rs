//! Commands of which a system call fails, at one call after another.

use std::path::Path;

use ctxsync_tests::trace::{Act, Call, Errno, Ran, may_trace, trace};

use crate::place::Place;
use crate::scenario::{Failed, ROUNDS_IN_A_PLACE, Scenario, collect, go_on, rounds, undisturbed};

/// Returns the errors that a call may end with; none for calls that can't fail, or are not ours.
fn errors(call: &Call, root: &Path) -> &'static [Errno] {
    use Errno::{EACCES, EAGAIN, EIO, EMFILE, ENOMEM, ENOSPC, EROFS};
    let objects = call.objects();
    if !objects.is_empty() && !objects.iter().any(|object| object.starts_with(root)) {
        return &[];
    }
    match call.name() {
        "open" | "openat" | "openat2" if call.changes() => &[ENOSPC, EMFILE, EACCES, EIO, EROFS, ENOMEM],
        "open" | "openat" | "openat2" => &[EMFILE, EACCES, EIO, ENOMEM],
        "stat" | "lstat" | "newfstatat" | "statx" | "access" | "faccessat2" | "readlink" | "readlinkat" => {
            &[EACCES, EIO, ENOMEM]
        }
        "read" | "readv" | "pread64" | "getdents64" | "fstat" | "statfs" | "fstatfs" => &[EIO, ENOMEM],
        "fsync" | "fdatasync" | "syncfs" => &[EIO, ENOSPC],
        "write" | "writev" | "pwrite64" | "pwritev" | "ftruncate" | "fallocate" | "copy_file_range"
        | "sendfile" => &[ENOSPC, EIO],
        "unlink" | "unlinkat" | "rmdir" | "fchmod" | "fchmodat" | "utimensat" => &[EACCES, EIO, EROFS],
        "rename" | "renameat" | "renameat2" | "link" | "linkat" | "symlink" | "symlinkat" | "mkdir"
        | "mkdirat" => &[ENOSPC, EACCES, EIO, EROFS],
        "clone" | "clone3" | "vfork" => &[EAGAIN, ENOMEM],
        // Not `socketpair` nor `getrandom`: where tokio and the standard library need these, they panic if they
        // fail. The program finds out at its beginning whether it can have them.
        "socket" | "pipe2" | "eventfd2" | "epoll_create1" | "inotify_init1" => &[EMFILE, ENOMEM],
        "inotify_add_watch" => &[ENOSPC, EACCES],
        _ => &[],
    }
}

/// What was reached.
#[derive(Default)]
struct Tally {
    errors: usize,
    /// How often the command succeeded nevertheless.
    successes: usize,
}

/// Runs a scenario once as it is, and then lets one call after another fail. In every other round, all later
/// calls of the same name fail as well.
#[expect(clippy::print_stdout, reason = "with --nocapture, it shows what was reached")]
pub(crate) fn fail<S: Scenario>(title: &str, new: impl Fn() -> S) {
    if !may_trace() {
        return;
    }
    let (mut place, mut scenario) = (Place::new(0), new());
    scenario.prepare(&mut place);
    let (root, command, mut calls) = (place.path(""), scenario.command(&place), 0);
    let ran = trace(&command, |call| {
        if call.changes() {
            scenario.meanwhile(&place, call);
        }
        calls += usize::from(!errors(call, &root).is_empty());
        Act::Go
    });
    let usual = undisturbed(&mut scenario, &mut place, &ran);

    let (mut tally, mut failed) = (Tally::default(), Failed::default());
    for (round, number) in rounds("CTXSYNC_ERRORS", calls) {
        if round % ROUNDS_IN_A_PLACE == ROUNDS_IN_A_PLACE - 1 {
            collect(&place);
            (place, scenario) = (Place::new(round), new());
        }
        let went_well = failed.round(format!("{title}, round {round}"), |what| {
            scenario.prepare(&mut place);
            let (ran, failing) = with_error(&mut scenario, &place, (round, number, calls));
            if let Some(failing) = failing {
                tally.errors += 1;
                *what += &failing;
            }
            *what += &format!("\n{ran:?}");
            tally.successes += usize::from(judge(&mut scenario, &mut place, &ran));
            go_on(&mut scenario, &mut place, &usual);
        });
        if !went_well {
            (place, scenario) = (Place::new(round), new());
        }
    }
    collect(&place);
    println!("{title}: {} of {calls} calls failed, {} without consequence", tally.errors, tally.successes);
    failed.tell();
}

/// Runs a scenario's command, and lets one call fail. Returns how it ended, and what failed.
fn with_error(
    scenario: &mut impl Scenario,
    place: &Place,
    (round, number, calls): (usize, usize, usize),
) -> (Ran, Option<String>) {
    let (root, mut command) = (place.path(""), scenario.command(place));
    // A store that answers with errors is asked again.
    command.env("CTXSYNC_RETRY_TIME", "1s");
    let (mut count, mut failing, mut what) = (0, None, None);
    let ran = trace(&command, |call| {
        if call.changes() {
            scenario.meanwhile(place, call);
        }
        let errors = errors(call, &root);
        count += usize::from(!errors.is_empty());
        match &failing {
            None if count == number && !errors.is_empty() => {
                let error = errors[(round + round / calls) % errors.len()];
                what = Some(format!("\n{error:?} at {number}: {call}"));
                failing = Some((call.name(), error));
                Act::Fail(error)
            }
            Some((name, error)) if round % 2 == 1 && call.name() == *name && errors.contains(error) => {
                Act::Fail(*error)
            }
            _ => Act::Go,
        }
    });
    (ran, what)
}

/// Fails unless a command ended well or with a clear error, and left everything whole. Returns whether it
/// ended well.
fn judge(scenario: &mut impl Scenario, place: &mut Place, ran: &Ran) -> bool {
    assert!(!ran.err.contains("panicked") && !ran.err.contains("internal error"));
    let code = ran.code().unwrap();
    // "No such context" is no answer to an error.
    let is_good = code != 10 && scenario.codes().contains(&code);
    let is_part = code == 3 && !is_good;
    let is_new = !is_part && scenario.look(place);
    if is_part {
        scenario.look_at_part(place);
    }
    if is_good {
        assert!(is_new, "it says that it is done");
    } else {
        assert!(scenario.failing_codes().contains(&code), "code {code}");
        let said = [ran.out.as_str(), &ran.err].concat();
        assert!(["\"error\"", "\"warning\"", "error: ", "warning: "].iter().any(|word| said.contains(word)));
    }
    is_good
}
