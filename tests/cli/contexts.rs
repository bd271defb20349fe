//! `context`, `ls`, `cat`, `log`, `restore`, `status`, `store`.

use std::os::unix::ffi::OsStrExt;

use crate::world::{Machine, World, tree};

/// Returns a machine whose context `c` has two snapshots after its empty first one.
fn with_history(world: &World) -> Machine {
    let machine = world.machine("a");
    machine.write("work/dir/file", "0123456789");
    std::os::unix::fs::symlink("dir/file", machine.path("work/link")).unwrap();
    machine.done(&["push", "c", "work"]);
    machine.write("work/dir/file", "changed");
    machine.write("work/more", "more");
    machine.done(&["push", "c", "work"]);
    machine
}

#[test]
fn contexts_come_and_go() {
    let machine = World::new().machine("a");
    let mut seen = Vec::new();
    let calls: &[&[&str]] = &[
        &["context", "create", "team/project"],
        &["context", "create", "team/project"],
        &["context", "create", "other"],
        &["context", "list"],
        &["context", "show", "other"],
        &["context", "delete", "other"],
        &["context", "delete", "other", "--yes"],
        &["context", "list"],
        &["context", "show", "other"],
        &["context", "delete", "other", "--yes"],
    ];
    for args in calls {
        seen.push(format!("$ ctxsync {}\n{}", args.join(" "), machine.call(args).seen()));
    }
    insta::assert_snapshot!("contexts", seen.join("\n\n"));
}

#[test]
fn listing_and_history() {
    let world = World::new();
    let machine = with_history(&world);
    let log = machine.done(&["--json", "log", "c"]);
    let numbers: Vec<_> =
        log.of_type("snapshot").iter().map(|row| row["snapshot"].as_u64().unwrap()).collect();
    assert!(numbers.is_sorted_by(|a, b| a > b) && numbers.len() >= 2, "{numbers:?}");
    let names = |args: &[&str]| -> Vec<String> {
        let rows = machine.done(&[&["--json", "ls"], args].concat()).of_type("entry");
        rows.iter()
            .map(|row| format!("{} {}", row["kind"].as_str().unwrap(), row["path"].as_str().unwrap()))
            .collect()
    };
    assert_eq!(names(&["c"]), ["dir dir", "file dir/file", "symlink link", "file more"]);
    assert_eq!(names(&["c@-1"]), ["dir dir", "file dir/file", "symlink link"]);
    assert_eq!(names(&["c:dir/"]), ["dir dir", "file dir/file"]);
    assert_eq!(names(&["c:more"]), ["file more"]);
    assert_eq!(names(&[&format!("c@{}", numbers[0])]).len(), 4);
    let people = machine.done(&["ls", "c"]);
    assert!(people.out.contains("symlink 0777"), "{}", people.out);
    assert!(people.out.lines().any(|line| line.ends_with("link -> dir/file")), "{}", people.out);
}

#[test]
fn cat_whole_and_in_part() {
    let world = World::new();
    let machine = with_history(&world);
    let cat = |args: &[&str]| machine.done(&[&["cat"], args].concat()).out;
    assert_eq!(cat(&["c:dir/file"]), "changed");
    assert_eq!(cat(&["c@-1:dir/file"]), "0123456789");
    assert_eq!(cat(&["c@-1:dir/file", "--range", "2-4"]), "234");
    assert_eq!(cat(&["c@-1:dir/file", "--range", "7-"]), "789");
    assert_eq!(cat(&["c@-1:dir/file", "--range", "-2"]), "89");
    assert_eq!(cat(&["c@-1:dir/file", "--range", "20-30"]), "");
    assert_eq!(cat(&["--json", "c:more"]), "more", "a document is itself");
    assert_eq!(machine.call(&["cat", "c:dir"]).code, 1);
    assert_eq!(machine.call(&["cat", "c:link"]).code, 1);
}

#[test]
fn exit_code_10() {
    let world = World::new();
    let machine = with_history(&world);
    let texts = [
        &["ls", "nobody"][..],
        &["ls", "c@99"],
        &["ls", "c@-99"],
        &["ls", "c:nothing"],
        &["cat", "c:nothing"],
        &["log", "nobody"],
        &["context", "show", "nobody"],
        &["restore", "nobody", "out"],
        &["restore", "c", "out", "nothing"],
        &["context", "list", "--store", "nowhere"],
    ]
    .map(|args| {
        let ended = machine.call(args);
        assert_eq!(ended.code, 10, "{args:?}\n{}", ended.seen());
        format!("$ ctxsync {}\n{}", args.join(" "), ended.seen())
    });
    insta::assert_snapshot!("exit-code-10", texts.join("\n\n"));
}

#[test]
fn restore_writes_an_older_state() {
    let world = World::new();
    let machine = with_history(&world);
    machine.done(&["restore", "c@-1", "before"]);
    assert_eq!(machine.read("before/dir/file"), "0123456789");
    assert!(!machine.has("before/more") && machine.has("before/link"));
    machine.done(&["restore", "c", "part", "dir"]);
    assert_eq!(tree(&machine.path("part")).len(), 2);
    let again = machine.call(&["restore", "c", "before"]);
    assert_eq!(again.code, 3, "{}", again.seen());
    assert_eq!(machine.read("before/dir/file"), "0123456789", "what is there stays");
    assert_eq!(machine.read("before/more"), "more");
}

#[test]
fn names_that_are_not_utf8() {
    let world = World::new();
    let (one, two) = (world.machine("one"), world.machine("two"));
    let name = std::ffi::OsStr::from_bytes(b"odd\xff\nname");
    std::fs::write(one.path("work").join(name), "x").unwrap();
    let pushed = one.done(&["--json", "push", "c", "work"]);
    assert_eq!(pushed.of_type("path")[0]["path_bytes"], "b2Rk/wpuYW1l");
    two.done(&["pull", "c", "work"]);
    assert!(two.path("work").join(name).exists());
    let listed = one.done(&["ls", "c"]).out;
    assert!(listed.contains(r"odd\xff\nname"), "{listed}");
    let mut args = vec!["cat".into()];
    args.push(std::ffi::OsStr::from_bytes(b"c:odd\xff\nname").to_owned());
    assert_eq!(one.ended(one.command(args).output().unwrap()).out, "x");
}

#[test]
fn status_after_a_sync() {
    let world = World::new();
    let machine = with_history(&world);
    let rows = machine.done(&["--json", "status"]).of_type("task");
    let upload = rows.iter().find(|row| row["task_type"] == "upload").unwrap();
    assert_eq!((&upload["status"], &upload["context"]), (&"Success".into(), &"c".into()));
    assert_eq!(upload["path"].as_str().unwrap(), machine.path("work").to_str().unwrap());
    for field in ["start_time", "finish_time"] {
        assert!(upload[field].as_str().unwrap().ends_with('Z'), "{upload}");
    }
    let people = machine.done(&["status", "work"]).out;
    assert!(people.contains("Success") && people.contains("upload"), "{people}");
    assert_eq!(machine.done(&["status", "elsewhere"]).out, "");
}

#[test]
fn a_store_is_made_once_and_checked() {
    let world = World::new();
    let machine = world.machine("a");
    let made = machine.done(&["store", "init", "--grace", "48h"]);
    let again = machine.done(&["store", "init", "--grace", "1h"]);
    insta::assert_snapshot!([made.seen(), again.seen()].join("\n"));
    assert!(again.out.contains("grace period 2d"), "{}", again.out);
    let checked = machine.done(&["--json", "store", "check"]);
    assert_eq!(checked.of_type("store")[0]["deletes"], true);
    assert_eq!(machine.call(&["store", "check", "--store", "nowhere"]).code, 10);
    assert!(tree(&world.store()).iter().all(|row| !row.starts_with("probe/") || row.starts_with("probe/ ")));
}

#[test]
fn a_store_named_like_a_bucket_without_its_scheme_is_said_to_be_a_directory() {
    let machine = World::new().machine("a");
    machine.write("work/f", "x");
    let hint = "hint: it is a directory here; a bucket is given as s3://mine, gs://mine or az://mine\n";
    let ended = machine.done(&["push", "c", "work", "--store", "mine"]);
    assert!(ended.err.contains(hint), "{}", ended.err);
    assert!(!machine.done(&["push", "c", "work", "--store", "mine"]).err.contains("hint"));
    assert!(!machine.done(&["push", "c", "work", "--store", "deep/mine"]).err.contains("hint"));
}

#[test]
fn a_list_tells_which_session_wrote_last() {
    let machine = World::new().machine("a");
    machine.write("work/f", "1");
    let session = || {
        let listed = machine.done(&["context", "list", "--long", "--json"]).of_type("context");
        listed[0]["session"].as_str().unwrap().to_owned()
    };
    machine.done(&["run", "--wait", "-c", "c", "work", "--", "sh", "-c", "echo 2 > f"]);
    let of_run = session();
    assert!(of_run.starts_with("s-"), "{of_run}");
    assert!(machine.done(&["context", "list", "--long"]).out.contains(&format!("  {of_run}  c\n")));
    machine.write("work/f", "3");
    machine.done(&["push", "c", "work"]);
    assert_eq!(session(), "");
    assert!(machine.done(&["context", "list", "--long"]).out.contains("  -                   c\n"));
}
