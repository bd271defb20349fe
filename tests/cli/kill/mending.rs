//! A repair and a purge that are killed.

use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;

use crate::place::{Place, end, rounds, time};

/// Runs a command to its end, and returns its exit code and its lines.
fn lines(place: &Place, args: &[&str]) -> (Option<i32>, Vec<Value>) {
    let output = place.program("a", args).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    (output.status.code(), text.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}

/// Returns whether a check calls the head whole, with all contents.
fn head_is_whole(place: &Place) -> bool {
    let (_, lines) = lines(place, &["check", "work", "--read-data", "--json"]);
    let heads: Vec<_> = lines.iter().filter(|line| line["head"] == true).collect();
    assert_eq!(heads.len(), 1, "{lines:?}");
    heads[0]["whole"] == true
}

/// Kills a command after a random part of `whole`; returns whether it was still running.
fn kill(place: &mut Place, args: &[&str], whole: Duration) -> bool {
    let mut child = place.program("a", args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let nanos = place.random.below((whole.as_nanos() as usize).max(1));
    std::thread::sleep(Duration::from_nanos(nanos as u64));
    let running = child.try_wait().unwrap().is_none();
    end(&mut child);
    running
}

/// Removes the pack with most bytes.
fn lose_a_pack(place: &Place) {
    let packs = std::fs::read_dir(place.path("store/packs")).unwrap().map(|entry| entry.unwrap().path());
    std::fs::remove_file(packs.max_by_key(|path| path.metadata().unwrap().len()).unwrap()).unwrap();
}

const REPAIR: [&str; 4] = ["repair", "--yes", "--json", "work"];

#[test]
fn p1_a_repair_that_is_killed_is_done_again() {
    let mut place = Place::new();
    let a = place.mount("a");
    let (mut whole, mut killed, mut landed) = (Duration::from_millis(300), 0, 0);
    for round in 0..rounds().div_ceil(2) {
        place.change(&a);
        place.run("push", "a");
        // Older snapshots do not lend the next round what it has lost.
        let (code, _) = lines(&place, &["gc", "--keep-last", "1", "--exclusive", "--json"]);
        assert_eq!(code, Some(0));
        lose_a_pack(&place);
        killed += u64::from(kill(&mut place, &REPAIR, whole));
        landed += u64::from(head_is_whole(&place));
        let (code, said) = lines(&place, &REPAIR);
        assert!(matches!(code, Some(0 | 3)), "round {round}: {said:?}");
        whole = whole.max(time(|| drop(lines(&place, &REPAIR))));
        assert!(head_is_whole(&place), "round {round}");
        // The machine still has everything, and gives it back.
        let pulled = place.run("pull", "a");
        assert_eq!(pulled["deleted"], 0, "round {round}");
        let (code, said) = lines(&place, &["push", "--heal", "work", "mount", "--json"]);
        assert_eq!(code, Some(0), "{said:?}");
        assert_eq!(ctxsync_tests::compare::list(&a.0), place.fresh(), "round {round}");
        let (code, _) = lines(&place, &["repair", "--yes", "--forget-damaged", "--json"]);
        assert_eq!(code, Some(0));
    }
    println!("{} rounds: killed in time {killed}, had landed {landed}", rounds().div_ceil(2));
    assert!(killed > 0, "every repair was quicker than its killer");
}

#[test]
fn p1_a_purge_that_is_killed_is_done_again() {
    let mut place = Place::new();
    let a = place.mount("a");
    let (mut whole, mut killed) = (Duration::from_millis(200), 0);
    for round in 0..rounds().div_ceil(2) {
        place.change(&a);
        let secret = place.random.bytes(5000);
        a.write("secret", &secret);
        place.run("push", "a");
        place.change(&a);
        place.run("push", "a");
        let purge = ["purge", "work:secret", "--yes", "--exclusive", "--json"];
        killed += u64::from(kill(&mut place, &purge, whole));
        // Old or new, and whole.
        assert!(head_is_whole(&place), "round {round}");
        let mut code = None;
        whole = whole.max(time(|| code = lines(&place, &purge).0));
        if code == Some(10) {
            // It had come as far as that no snapshot has the path: what is left is for a collection.
            let (code, _) = lines(&place, &["gc", "--exclusive", "--json"]);
            assert_eq!(code, Some(0), "round {round}");
        } else {
            assert_eq!(code, Some(0), "round {round}");
        }
        for pack in std::fs::read_dir(place.path("store/packs")).unwrap() {
            let bytes = std::fs::read(pack.unwrap().path()).unwrap();
            assert!(!bytes.windows(64).any(|window| window == &secret[..64]), "round {round}");
        }
        std::fs::remove_file(a.at("secret")).unwrap();
        place.run("pull", "a");
        assert_eq!(ctxsync_tests::compare::list(&a.0), place.fresh(), "round {round}");
    }
    println!("{} rounds: killed in time {killed}", rounds().div_ceil(2));
    assert!(killed > 0, "every purge was quicker than its killer");
}
