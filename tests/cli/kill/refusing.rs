//! A system that refuses threads, or gives no random numbers (faults P16, P17).

use ctxsync_tests::trace::{Act, Errno, Ran, may_trace, trace};

use crate::place::Place;

/// Runs a session in which some of the calls with these names fail, chosen by their numbers. Returns how it ended,
/// and how many failed.
fn session_without(
    place: &Place,
    names: &[&str],
    refusal: Errno,
    fails: impl Fn(usize) -> bool,
) -> (Ran, usize) {
    let args = ["run", "-c", "work", "mount", "--", "/bin/sh", "-c", ": > ran"];
    let (mut count, mut failed) = (0, 0);
    let ran = trace(&place.program("a", &args), |call| {
        let is_one = names.contains(&call.name());
        count += usize::from(is_one);
        if is_one && fails(count) {
            failed += 1;
            return Act::Fail(refusal);
        }
        Act::Go
    });
    assert!(!ran.err.contains("panicked") && !ran.err.contains("internal error"), "{ran:?}");
    (ran, failed)
}

#[test]
fn p16_a_thread_that_is_refused_at_any_moment() {
    if !may_trace() {
        return;
    }
    let place = Place::new(0);
    let a = place.mount("a");
    let refused = |fails: &dyn Fn(usize) -> bool| {
        a.write("file", "content");
        let (ran, failed) = session_without(&place, &["clone", "clone3", "vfork"], Errno::EAGAIN, fails);
        assert!(matches!(ran.code(), Some(0 | 1 | 126)), "{ran:?}");
        assert_eq!(ran.code() == Some(0), a.has("ran"), "{ran:?}");
        let _ = std::fs::remove_file(a.at("ran"));
        failed
    };
    // The first thread handles signals, the next ones probe how many threads can be had, and the rest does
    // the work.
    let threads = (1..).take_while(|only| refused(&|number| number == *only) > 0).count();
    assert!(threads > 13, "{threads}");
    for first in [2, 5, 13] {
        assert!(refused(&|number| number >= first) > 0, "{first}");
    }
}

#[test]
fn p17_without_random_numbers_nothing_begins() {
    if !may_trace() {
        return;
    }
    let place = Place::new(0);
    let a = place.mount("a");
    let (ran, failed) = session_without(&place, &["getrandom"], Errno::EIO, |_| true);
    assert!(failed > 0 && ran.code() == Some(1), "{ran:?}");
    assert!(ran.err.contains("the system gives no random numbers"), "{ran:?}");
    assert!(!a.has("ran"));
}
