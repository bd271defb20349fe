//! What is left where something can't be cleared up, or where a session was killed; and settings that can't be read.

use ctxsync_tests::trace::{Act, Errno, may_trace, trace};
use serde_json::Value;

use crate::place::Place;

/// Returns the warnings of an output in JSON.
fn warnings(out: &str) -> Vec<String> {
    let lines = out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let warnings = lines.filter(|line| line["message_type"] == "warning");
    warnings.map(|line| line["message"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn p6_a_restore_that_cannot_clear_its_staging_says_so_and_the_next_clears_it() {
    if !may_trace() {
        return;
    }
    let place = Place::new(0);
    place.mount("a").write("file", "content");
    place.run("push", "a");
    let is_staged = |name: &String| name.contains(".ctxsync-stage-");
    for verb in ["restore", "pull"] {
        let (mount, mut has_failed) = (place.mount("b"), false);
        let ran = trace(&place.command(verb, "b"), |call| {
            let is_ours = |path: &std::path::PathBuf| path.to_string_lossy().contains(".ctxsync-stage-");
            let fails = call.name() == "getdents64" && call.objects().iter().any(is_ours);
            if has_failed || !fails || !mount.has("file") {
                return Act::Go;
            }
            has_failed = true;
            Act::Fail(Errno::ENOMEM)
        });
        assert_eq!(ran.code(), Some(0), "{ran:?}");
        let told = warnings(&ran.out);
        assert!(told.iter().any(|told| told.contains("left behind: Cannot allocate memory")), "{ran:?}");
        assert!(mount.files().iter().any(is_staged));
        let again = place.command(verb, "b").output().unwrap();
        assert!(again.status.success(), "{again:?}");
        assert_eq!(mount.files(), ["file"]);
        place.remove("b");
    }
}

#[test]
fn p1_the_socket_of_a_killed_session_is_removed_by_the_next_command() {
    if !may_trace() {
        return;
    }
    for name in ["socket.new", "socket"] {
        let place = Place::new(0);
        place.mount("a").write("file", "content");
        let mut is_there = false;
        // The call after the one that makes it.
        let ran = trace(&place.program("a", &["run", "-c", "work", "mount", "--", "sleep", "1"]), |_| {
            is_there |= state_has(&place, name);
            if is_there { Act::Kill } else { Act::Go }
        });
        assert!(ran.is_killed() && is_there, "{ran:?}");
        place.run("push", "a");
        assert!(!state_has(&place, "socket") && !state_has(&place, "socket.new"));
    }
}

/// Whether a mount's state has something of this name.
fn state_has(place: &Place, name: &str) -> bool {
    let mounts = std::fs::read_dir(place.path("a/state/mounts"));
    mounts
        .is_ok_and(|mounts| mounts.flatten().any(|mount| mount.path().join(name).symlink_metadata().is_ok()))
}

#[test]
fn p6_p8_settings_that_cannot_be_read_now_are_a_failure_and_wrong_ones_are_wrong_usage() {
    if !may_trace() {
        return;
    }
    let place = Place::new(0);
    let a = place.mount("a");
    a.write("file", "content");
    place.run("push", "a");
    a.write("config.toml", "").write("policy.json", "{}").write("retention.toml", "");
    let uses = [
        ("config.toml", vec!["push", "work", "mount", "--json", "--config"]),
        ("policy.json", vec!["push", "work", "mount", "--json", "--policy"]),
        ("retention.toml", vec!["gc", "--dry-run", "--json", "--retention"]),
    ];
    for (name, args) in uses {
        let file = a.at(name);
        let run = |call: &str, error: Option<Errno>| {
            let args = [args.as_slice(), &[file.to_str().unwrap()]].concat();
            trace(&place.program("a", &args), |met| match error {
                Some(error) if met.name() == call && met.objects().contains(&file) => Act::Fail(error),
                _ => Act::Go,
            })
        };
        for (call, error, code) in [
            ("openat", Errno::EIO, 1),
            ("openat", Errno::EMFILE, 1),
            ("read", Errno::ENOMEM, 1),
            ("openat", Errno::EACCES, 2),
            ("openat", Errno::ENOENT, 2),
            ("openat", Errno::ELOOP, 2),
        ] {
            let ran = run(call, Some(error));
            assert_eq!(ran.code(), Some(code), "{name} {call} {error}: {ran:?}");
            assert!(ran.out.contains("cannot read the"), "{ran:?}");
        }
        a.write(name, [0xff]);
        assert_eq!(run("", None).code(), Some(2), "{name}");
    }
}
