//! Errors as a person sees them, in three parts.

use std::os::unix::fs::PermissionsExt;

use crate::world::World;

#[test]
fn a_store_that_cannot_be_written_is_found_before_the_work() {
    if nix_is_root() {
        // Permissions do not stop root, so a file in the place of the store is the obstacle.
        let machine = World::new().machine("a");
        machine.write("place", "");
        insta::assert_snapshot!(machine.call(&["push", "c", "work", "--store", "place"]).seen());
        return;
    }
    let machine = World::new().machine("a");
    let dir = machine.path("store");
    std::fs::create_dir(&dir).unwrap();
    std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o555)).unwrap();
    let ended = machine.call(&["push", "c", "work", "--store", "store"]);
    assert_eq!(ended.code, 1, "{}", ended.seen());
    assert!(ended.err.contains("hint: correct the credentials"), "{}", ended.seen());
}

fn nix_is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|found| std::os::unix::fs::MetadataExt::uid(&found) == 0)
}

#[test]
fn p14_a_mount_in_use_names_who_uses_it() {
    let world = World::new();
    let machine = world.machine("a");
    let mut child = machine
        .command(["run", "-c", "c", "work", "--", "sh", "-c", "touch started; sleep 30"])
        .spawn()
        .unwrap();
    let begun = std::time::Instant::now();
    while !machine.has("work/started") {
        assert!(begun.elapsed().as_secs() < 30);
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    for second in [&["run", "-c", "c", "work", "--", "true"][..], &["watch", "c", "work"]] {
        let ended = machine.call(second);
        assert_eq!(ended.code, 1, "{}", ended.seen());
        assert!(ended.err.contains(&child.id().to_string()), "{}", ended.seen());
        assert!(ended.err.contains("hint:"), "{}", ended.seen());
    }
    let pid = nix::unistd::Pid::from_raw(child.id().cast_signed());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(143));
}

#[test]
fn a_damaged_snapshot_is_named() {
    let world = World::new();
    let machine = world.machine("a");
    machine.write("work/a", "x");
    machine.done(&["push", "c", "work"]);
    let contexts = world.store().join("contexts/c");
    for entry in std::fs::read_dir(contexts).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    }
    let ended = world.machine("b").call(&["pull", "c", "work"]);
    assert_eq!(ended.code, 1, "{}", ended.seen());
    assert!(ended.err.starts_with("error: ") && ended.err.contains("contexts/c/"), "{}", ended.seen());
    assert!(ended.err.contains("hint: "), "{}", ended.seen());
}

/// A base that can't be read now does not make a new mount: the sync fails, and a later one works as before.
#[test]
fn s17_a_base_that_cannot_be_read_now_fails_the_push() {
    let world = World::new();
    let machine = world.machine("a");
    machine.write("work/f1", "1");
    machine.write("work/f2", "2");
    machine.done(&["push", "c", "work"]);
    let base = machine.state_file("base");
    let aside = base.with_file_name("aside");
    std::fs::rename(&base, &aside).unwrap();
    // A link to itself can't be opened, not even by root.
    std::os::unix::fs::symlink("base", &base).unwrap();
    std::fs::remove_file(machine.path("work/f2")).unwrap();
    insta::assert_snapshot!("s17_push", machine.call(&["push", "c", "work"]).seen());
    for command in ["pull", "sync"] {
        let ended = machine.call(&[command, "c", "work"]);
        assert_eq!(ended.code, 1, "{}", ended.seen());
    }
    std::fs::rename(&aside, &base).unwrap();
    let pushed = machine.done(&["push", "c", "work", "--json"]).summary();
    assert_eq!((&pushed["deleted"], &pushed["snapshot"]), (&1.into(), &3.into()), "{pushed}");
}

/// A damaged base is reported. Only the knowledge of what was deleted is lost.
#[test]
fn s17_a_damaged_base_is_told() {
    let world = World::new();
    let machine = world.machine("a");
    machine.write("work/f1", "1");
    machine.write("work/f2", "2");
    machine.done(&["push", "c", "work"]);
    let base = machine.state_file("base");
    let mut bytes = std::fs::read(&base).unwrap();
    bytes[40] ^= 1;
    std::fs::write(&base, bytes).unwrap();
    std::fs::remove_file(machine.path("work/f2")).unwrap();
    insta::assert_snapshot!("s17_damaged", machine.call(&["push", "c", "work"]).seen());
}

#[test]
fn many_failed_paths_are_summed_up_after_five() {
    let world = World::new();
    let one = world.machine("one");
    for n in 0..30 {
        one.write(&format!("work/f{n}"), format!("content {n}"));
    }
    one.done(&["push", "c", "work"]);
    for pack in std::fs::read_dir(world.store().join("packs")).unwrap() {
        std::fs::remove_file(pack.unwrap().path()).unwrap();
    }
    let two = world.machine("two");
    let ended = two.call(&["pull", "c", "work"]);
    let named = |text: &str| text.lines().filter(|line| line.starts_with("error: f")).count();
    assert_eq!((ended.code, named(&ended.err)), (3, 5), "{}", ended.err);
    assert!(ended.err.contains("warning: 25 more paths failed; -v names each\n"), "{}", ended.err);
    let all = two.call(&["pull", "c", "work", "-v"]);
    assert!(named(&all.err) == 30 && !all.err.contains("more paths"), "{}", all.err);
    assert_eq!(two.call(&["pull", "c", "work", "--json"]).of_type("error").len(), 30);
}

#[test]
fn a_store_that_refuses_connections_is_named_once_with_what_to_check() {
    let machine = World::new().machine("a");
    machine.write("work/f", "x");
    // A port that was just free.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let endpoint = format!("http://127.0.0.1:{port}");
    let set = [
        ("AWS_ENDPOINT_URL", endpoint.as_str()),
        ("AWS_ALLOW_HTTP", "true"),
        ("AWS_ACCESS_KEY_ID", "a"),
        ("AWS_SECRET_ACCESS_KEY", "b"),
        ("AWS_REGION", "r"),
    ];
    let ended =
        machine.call_with(&set, &["push", "c", "work", "--store", "s3://b/p", "--retry-time", "10ms"]);
    assert_eq!(ended.code, 1);
    let cause = format!("caused by: GET {endpoint}/b: Connection refused (os error 111)\n");
    assert!(ended.err.contains(&cause), "{}", ended.err);
    assert!(ended.err.contains("hint: nothing accepts connections there"), "{}", ended.err);
}

#[test]
fn a_state_directory_that_can_not_be_used_is_said_to_be_that() {
    let machine = World::new().machine("a");
    machine.write("work/f", "x");
    machine.write("file", "x");
    for state in ["file", "/proc/nowhere"] {
        let ended = machine.call(&["push", "c", "work", "--state-dir", state]);
        assert_eq!(ended.code, 1);
        assert!(ended.err.contains("cannot use the state"), "{}", ended.err);
        assert!(
            ended.err.contains("hint: choose a directory that you may write with --state-dir"),
            "{}",
            ended.err
        );
    }
}
