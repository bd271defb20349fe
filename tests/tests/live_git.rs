//! Git repositories that are written while they are pushed (fault L28): what the context has passes `git
//! fsck`.
//!
//! `CTXSYNC_CHECKPOINTS=300` sets how many snapshots are made of a repository that keeps committing and
//! repacking.
#![expect(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use ctxsync_tests::compare::paths;
use ctxsync_tests::git::{check, command, git};
use ctxsync_tests::machine::World;

/// A shell loop that runs until it is dropped. It is a process of its own, because a child forked from this
/// one would hold this one's locks for a moment.
struct Loop(Child, PathBuf);

impl Loop {
    fn start(dir: &Path, name: &str, body: &str) -> Self {
        let end = dir.with_file_name(format!("{name}.end"));
        // If the test is killed, the file never appears, so the loop also checks that the process still
        // exists.
        let going_on = format!("[ ! -e '{}' ] && kill -0 {}", end.display(), std::process::id());
        let script = format!("n=0; while {going_on}; do n=$((n+1)); {body}; done");
        let shell =
            command("sh").current_dir(dir).args(["-c", &script]).stderr(Stdio::null()).spawn().unwrap();
        Self(shell, end)
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        std::fs::write(&self.1, "").unwrap();
        self.0.wait().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l28_a_repository_that_commits_and_repacks_is_sound_in_each_snapshot() {
    let count = std::env::var("CTXSYNC_CHECKPOINTS").map_or(4, |count| count.parse().unwrap());
    let world = World::quick().await;
    let machine = world.machine("m");
    let tree = machine.mount.0.clone();
    for i in 0..200 {
        machine.mount.write(format!("src/{}/{i}", i % 20), format!("line {i}\n"));
    }
    git(&tree, &["init", "-q", "-b", "main"]);
    git(&tree, &["add", "-A"]);
    git(&tree, &["commit", "-qm", "first"]);
    let edit = "echo changed $n >src/$((n%20))/$((n%20)); git commit -qam $n; sleep 0.05";
    let commits = Loop::start(&tree, "commits", edit);
    let repacks = Loop::start(&tree, "repacks", "git repack -adq; sleep 0.06");
    let (mut kept, mut unsettled) = (0, 0);
    for checkpoint in 0..count {
        let head = git(&tree, &["rev-parse", "HEAD"]);
        let ended = machine.push().await;
        let report = ended.report();
        let whole = report.failed == 0;
        assert!(ended.noted.problems.iter().all(|problem| problem.starts_with(".git: ")), "{ended:?}");
        (kept, unsettled) = (kept + u32::from(!whole), unsettled + u32::from(report.mount_unsettled));
        let fresh = world.machine("fresh");
        fresh.pull().await.report();
        if !fresh.mount.has(".git") {
            assert!(!whole, "{checkpoint}: {ended:?}");
            continue;
        }
        check(&fresh.mount.0);
        git(&fresh.mount.0, &["status", "--porcelain"]);
        if whole {
            git(&fresh.mount.0, &["merge-base", "--is-ancestor", head.trim(), "HEAD"]);
        }
        assert!(!paths(&fresh.mount.0).iter().any(|path| path.ends_with(".lock")));
        fresh.mount.clear();
        fresh.lose_state();
    }
    eprintln!(
        "{count} checkpoints: all sound, {kept} kept the repository of the one before, {unsettled} unsettled"
    );
    drop((commits, repacks));
    machine.push().await.clean();
}
