//! The program is killed at random moments: what it leaves behind needs no repair.
//!
//! `CTXSYNC_KILLS=100` sets how often each test kills.
#![expect(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

mod extracting;
mod mending;
mod place;
mod working;

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use ctxsync_tests::compare::{Listing, assert_same, differences, list};

use crate::place::{Place, end, rounds, time};

#[test]
fn p1_a_push_that_is_killed_leaves_the_old_snapshot_or_the_new_one() {
    let mut place = Place::new();
    let mount = place.mount("a");
    place.change(&mount);
    let mut whole = time(|| drop(place.run("push", "a")));
    let mut old = list(&mount.0);
    let (mut killed, mut landed) = (0, 0);
    for round in 0..rounds() {
        place.change(&mount);
        let new = list(&mount.0);
        killed += u64::from(place.kill("push", "a", whole));
        let found = place.fresh();
        let is_new = differences(&new, &found).is_empty();
        landed += u64::from(is_new);
        let text = differences(&old, &found);
        assert!(is_new || text.is_empty(), "round {round}: neither old nor new, against the old:\n{text}");
        whole = whole.max(time(|| drop(place.run("push", "a"))));
        let text = differences(&new, &place.fresh());
        assert!(text.is_empty(), "round {round}, after the next push:\n{text}");
        old = new;
    }
    println!("{} rounds: killed in time {killed}, had landed {landed}", rounds());
    assert!(killed > 0, "every push was quicker than its killer");
}

/// Fails unless each file of a mount is one of two versions, and everything else is staging.
fn is_between(mount: &Path, old: &Listing, new: &Listing) -> Result<(), String> {
    for (path, node) in list(mount) {
        let ours = path.to_string_lossy().starts_with(".ctxsync-stage-");
        if !ours && Some(&node) != old.get(&path) && Some(&node) != new.get(&path) {
            return Err(format!("{}: {node:?}", path.display()));
        }
    }
    Ok(())
}

#[test]
fn p1_a_restore_that_is_killed_leaves_nothing_that_the_next_does_not_clear() {
    let mut place = Place::new();
    let a = place.mount("a");
    place.change(&a);
    let snapshot = place.run("push", "a")["snapshot"].to_string();
    let args = ["restore".to_owned(), format!("work@{snapshot}"), "restored".to_owned(), "--json".to_owned()];
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let restore = |place: &Place| {
        let output = place.program("a", &args).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
    };
    let mut whole = time(|| restore(&place));
    let restored = place.path("a").join("restored");
    let (mut killed, mut left) = (0, 0);
    for round in 0..rounds() {
        std::fs::remove_dir_all(&restored).unwrap();
        let mut child =
            place.program("a", &args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let nanos = place.random.below(whole.as_nanos() as usize);
        std::thread::sleep(Duration::from_nanos(nanos as u64));
        killed += u64::from(child.try_wait().unwrap().is_none());
        end(&mut child);
        is_between(&restored, &Listing::new(), &list(&a.0)).unwrap_or_else(|e| panic!("round {round}: {e}"));
        left +=
            u64::from(list(&restored).keys().any(|path| path.to_string_lossy().contains(".ctxsync-stage")));
        whole = whole.max(time(|| restore(&place)));
        assert_same(&a.0, &restored);
    }
    println!("{} rounds: killed in time {killed}, left something {left}", rounds());
    assert!(killed > 0 && left > 0, "{killed} {left}");
}

#[test]
fn p1_a_pull_that_is_killed_leaves_whole_files_and_is_gone_on_with() {
    let mut place = Place::new();
    let (a, b) = (place.mount("a"), place.mount("b"));
    place.change(&a);
    place.run("push", "a");
    let mut whole = time(|| drop(place.run("pull", "b")));
    let mut killed = 0;
    for round in 0..rounds() {
        let old = list(&b.0);
        place.change(&a);
        let pushed = place.run("push", "a");
        let new = list(&a.0);
        killed += u64::from(place.kill("pull", "b", whole));
        is_between(&b.0, &old, &new).unwrap_or_else(|e| panic!("round {round}: {e}"));
        // A push before the next pull sends nothing: whatever the killed pull put in place is not a local
        // change.
        if round % 2 == 0 {
            let between = place.run("push", "b");
            assert_eq!(
                (&between["added"], &between["deleted"]),
                (&0.into(), &0.into()),
                "round {round}: {between}"
            );
        }
        whole = whole.max(time(|| drop(place.run("pull", "b"))));
        assert_same(&a.0, &b.0);
        let after = place.run("push", "b");
        assert_eq!(after["snapshot"], pushed["snapshot"], "round {round}: {after}");
    }
    println!("{} rounds: killed in time {killed}", rounds());
    assert!(killed > 0, "every pull was quicker than its killer");
}
