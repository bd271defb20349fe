//! Stores that vanish, lose objects, are in the wrong place, or have names that others chose.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;

use ctxsync_tests::s3::{PutFault, S3Server};

use crate::world::{World, tree};

/// Returns the first pack of a local store.
fn only_pack(store: &std::path::Path) -> std::path::PathBuf {
    let mut packs: Vec<_> =
        fs::read_dir(store.join("packs")).unwrap().map(|entry| entry.unwrap().path()).collect();
    packs.sort();
    packs.remove(0)
}

#[test]
fn a_run_whose_store_vanishes_ends_badly() {
    for stand_in in ["", "mkdir disk/store;"] {
        let world = World::new();
        let machine = world.machine("a");
        fs::create_dir(machine.path("disk")).unwrap();
        let store = machine.path("disk/store");
        let (disk, off) = (machine.path("disk"), machine.path("off"));
        let script = format!(
            "echo w >p; cd ..; mv {} {}; mkdir {}; {stand_in}",
            disk.display(),
            off.display(),
            disk.display()
        );
        let store = store.to_str().unwrap();
        let args = [
            "run",
            "--store",
            store,
            "--retry-time",
            "200ms",
            "-c",
            "new",
            "work",
            "--",
            "sh",
            "-c",
            &script,
        ];
        let ended = machine.call(&args);
        assert_eq!(ended.code, 1, "{}", ended.err);
        assert!(ended.err.contains("gone"), "{}", ended.err);
        // No new store was created in its place.
        assert!(!machine.has("disk/store/contexts"));
        fs::remove_dir_all(&disk).unwrap();
        fs::rename(&off, &disk).unwrap();
        machine.done(&["push", "--store", store, "new", "work"]);
        assert!(machine.done(&["ls", "--store", store, "new"]).out.contains('p'));
    }
}

/// What this machine remembers of the mount shows that there was a store, so none is made in its place.
#[test]
fn a_store_that_is_gone_is_not_made_anew_and_nothing_is_left_in_its_place() {
    let world = World::new();
    let machine = world.machine("a");
    machine.write("work/f", "x");
    machine.write("other/f", "x");
    let store = machine.path("disk/below/store");
    let store = store.to_str().unwrap();
    machine.done(&["push", "--store", store, "c", "work"]);
    fs::rename(machine.path("disk"), machine.path("off")).unwrap();
    // What is left of a disk that is not mounted.
    for left in ["disk", "disk/below/store"] {
        fs::create_dir_all(machine.path(left)).unwrap();
        let before = tree(&machine.path("disk"));
        for call in [
            &["push", "c", "work"][..],
            &["sync", "c", "work"],
            &["pull", "c", "work"],
            &["plan", "push", "c", "work"],
            &["push", "--dry-run", "c", "work"],
            &["run", "-c", "c", "work", "--", "touch", "ran"],
            &["watch", "c", "work"],
            // The mount knows the store by another context.
            &["push", "another", "work"],
            &["run", "-c", "another", "work", "--", "touch", "ran"],
            &["run", "-m", "c=other", "-m", "another=work", "--", "touch", "ran"],
        ] {
            let ended = machine.call(&[&["--store", store], call].concat());
            let case = format!("{call:?}: {}", ended.err);
            assert_eq!(ended.code, 1, "{case}");
            assert!(ended.err.contains(&format!("the store at {store} is gone")), "{case}");
            assert!(ended.err.contains("its disk is mounted") && ended.err.contains("--state-dir"), "{case}");
            assert_eq!(tree(&machine.path("disk")), before, "{case}");
        }
        assert!(!machine.has("work/ran"));
    }
    // A mount that knows no store makes one.
    fs::remove_dir_all(machine.path("disk")).unwrap();
    machine.done(&["push", "--store", store, "c", "other"]);
}

/// It has the same id, so what this machine remembers of the mount holds.
#[test]
fn a_store_that_was_moved_is_the_same_store() {
    let world = World::new();
    let machine = world.machine("a");
    let path = |name: &str| machine.path(name).to_str().unwrap().to_owned();
    let (first, second) = (path("first"), path("second"));
    for name in ["edited", "removed", "same"] {
        machine.write(&format!("work/{name}"), "1");
    }
    machine.done(&["push", "--store", &first, "c", "work"]);
    fs::rename(&first, &second).unwrap();
    machine.write("work/edited", "2");
    fs::remove_file(machine.path("work/removed")).unwrap();
    let ended = machine.done(&["push", "--store", &second, "c", "work"]);
    assert!(ended.out.starts_with("pushed snapshot 3: 0 added, 1 changed, 1 deleted;"), "{}", ended.seen());
    // What was remembered at the first address is older now.
    machine.write("work/late", "x");
    machine.done(&["push", "--store", &second, "c", "work"]);
    fs::rename(&second, &first).unwrap();
    machine.done(&["rm", "--store", &first, "c:late"]);
    let ended = machine.done(&["sync", "--store", &first, "c", "work"]);
    assert!(ended.out.starts_with("synced snapshot 5: 0 added, 0 changed, 1 deleted;"), "{}", ended.seen());
    assert!(!machine.has("work/late"));
    // Another store at the address of a known one still is another one.
    fs::rename(&first, &second).unwrap();
    machine.done(&["store", "init", "--store", &first]);
    let ended = machine.call(&["push", "--store", &first, "c", "work"]);
    assert!(ended.code == 1 && ended.err.contains("is not the store"), "{}", ended.seen());
}

/// A copy of a store has its id. If its history is another one since, what this machine remembers does not hold there.
#[test]
fn a_copy_of_a_store_that_went_its_own_way_deletes_nothing() {
    let world = World::new();
    let (machine, other) = (world.machine("a"), world.machine("b"));
    let path = |name: &str| machine.path(name).to_str().unwrap().to_owned();
    let (first, copy) = (path("first"), path("copy"));
    machine.write("work/f", "1");
    machine.done(&["push", "--store", &first, "c", "work"]);
    let copied = std::process::Command::new("cp").args(["-r", &first, &copy]).status().unwrap();
    assert!(copied.success());
    machine.write("work/mine", "x");
    machine.done(&["push", "--store", &first, "c", "work"]);
    for name in ["one", "two"] {
        other.write(&format!("work/{name}"), name);
        other.done(&["sync", "--store", &copy, "c", "work"]);
    }
    machine.done(&["sync", "--store", &copy, "c", "work"]);
    assert!(machine.has("work/mine") && machine.has("work/two"));
    other.done(&["pull", "--store", &copy, "c", "work"]);
    assert!(other.has("work/mine"));
}

#[test]
fn n14_credentials_that_may_only_read_are_found_before_the_command_runs() {
    let (world, server) = (World::new(), S3Server::start().unwrap());
    let machine = world.machine("a");
    let (store, env) = (server.url("p"), server.env());
    let env: Vec<_> = env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let run = |more: &[&str]| {
        let args = ["run", "--store", &store, "-c", "c", "work"];
        let args: Vec<_> = args.iter().chain(more).chain(&["--", "touch", "ran"]).copied().collect();
        machine.call_with(&env, &args)
    };
    assert_eq!(run(&[]).code, 0);
    fs::remove_file(machine.path("work/ran")).unwrap();
    server.fail_put(PutFault::Answered(403));
    let ended = run(&[]);
    assert_eq!(ended.code, 1, "{}", ended.err);
    assert!(ended.err.contains("can't be written") && !machine.has("work/ran"), "{}", ended.err);
    // A session that pushes nothing needs no write permission.
    let policy = machine.write("none.json", r#"{"uploadPolicy": {"autoUpload": false}}"#);
    server.fail_put(PutFault::Answered(403));
    let ended = run(&["-p", policy.to_str().unwrap()]);
    assert_eq!((ended.code, machine.has("work/ran")), (0, true), "{}", ended.err);
}

#[test]
fn s15_a_lost_pack_is_named_with_what_to_do() {
    let world = World::new();
    let machine = world.machine("a");
    machine.write("work/f", "content");
    machine.done(&["push", "c", "work"]);
    let lost = only_pack(&world.store());
    fs::remove_file(&lost).unwrap();
    let name = lost.file_name().unwrap().to_str().unwrap().to_owned();
    let ended = machine.call(&["gc"]);
    assert_eq!(ended.code, 1, "{}", ended.err);
    assert!(ended.err.contains(&name) && ended.err.contains("c needs it") && ended.err.contains("hint:"));
    assert!(ended.err.contains("`ctxsync check c` names the files"), "{}", ended.err);
    assert!(machine.call(&["gc", "--json"]).summary()["packs_lost"] == 1);
    machine.write("work/g", "more");
    let ended = machine.call(&["push", "c", "work"]);
    assert_eq!(ended.code, 3, "{}", ended.err);
    assert!(ended.err.contains(&name) && ended.err.contains("`ctxsync check c` names"), "{}", ended.err);
}

#[test]
fn n18_gc_without_a_context_deletes_nothing() {
    let world = World::new();
    let machine = world.machine("a");
    machine.write("work/f", "content");
    machine.done(&["push", "c", "work"]);
    let pack = only_pack(&world.store());
    fs::rename(world.store().join("contexts"), world.store().join("elsewhere")).unwrap();
    let ended = machine.call(&["gc", "--exclusive"]);
    assert_eq!(ended.code, 1, "{}", ended.err);
    assert!(pack.exists());
}

#[test]
fn s16_names_that_are_not_ours_are_ignored_and_not_shown() {
    let world = World::new();
    let (machine, other) = (world.machine("a"), world.machine("b"));
    machine.write("work/f", "1");
    machine.done(&["push", "c", "work"]);
    let store = world.store();
    let strays: [&[u8]; 9] = [
        b"\x1b[31mred",
        b"\xff\xfe",
        b"new\nline",
        b"ctxsync.json~",
        b".ctxsync.json.swp",
        b"#ctxsync.json#",
        b".DS_Store",
        b"lost+found",
        b"back\\slash",
    ];
    for (n, stray) in strays.into_iter().enumerate() {
        let stray = OsStr::from_bytes(stray);
        for below in ["", "contexts", "contexts/c", "packs"] {
            let place = store.join(below).join(stray);
            if n % 2 == 0 && below != "packs" {
                fs::create_dir_all(place.join("x")).unwrap();
            } else {
                fs::write(place, "x").unwrap();
            }
        }
    }
    machine.write("work/f", "2");
    for (machine, args) in [
        (&machine, &["push", "c", "work"][..]),
        (&other, &["pull", "c", "work"]),
        (&machine, &["context", "list"]),
        (&machine, &["log", "c"]),
        (&machine, &["gc"]),
        (&machine, &["gc", "--exclusive", "--keep-last", "1"]),
        (&other, &["push", "c", "work"]),
    ] {
        let ended = machine.done(args);
        assert!(
            !ended.out.contains('\x1b') && !ended.err.contains('\x1b'),
            "{args:?} {}{}",
            ended.out,
            ended.err
        );
    }
    assert_eq!(other.read("work/f"), "2");
    for stray in strays {
        assert!(store.join(OsStr::from_bytes(stray)).symlink_metadata().is_ok());
    }
}

#[test]
fn a_store_below_the_mount_is_never_saved_into_itself() {
    // The path must not go through its display form, which differs from the real name.
    for name in ["tab\there", "caf\u{e9} \u{202e}x", "plain"] {
        for linked in [false, true] {
            let world = World::new();
            let machine = world.machine("a");
            machine.write("work/f", "1");
            let place = machine.path("work/in").join(name);
            fs::create_dir_all(&place).unwrap();
            let mut store = place.clone();
            if linked {
                store = machine.path("link");
                std::os::unix::fs::symlink(&place, &store).unwrap();
            }
            for _ in 0..3 {
                machine.done(&["push", "--store", store.to_str().unwrap(), "c", "work"]);
            }
            let listed = machine.done(&["ls", "--store", store.to_str().unwrap(), "c", "--json"]);
            assert!(!listed.out.contains("packs") && !listed.out.contains("ctxsync.json"), "{}", listed.out);
            let log = machine.done(&["log", "--store", store.to_str().unwrap(), "c", "--json"]);
            assert!(log.of_type("snapshot").len() <= 2, "{}", log.out);
        }
    }
}
