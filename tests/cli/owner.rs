//! `--chown`: the owner of pulled files.

use std::os::unix::fs::MetadataExt;

use crate::world::{Machine, World};

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

fn owner(machine: &Machine, path: &str) -> (u32, u32) {
    let found = machine.path(path).symlink_metadata().unwrap();
    (found.uid(), found.gid())
}

#[test]
fn what_is_brought_belongs_to_them() {
    if !is_root() {
        eprintln!("skipped: only root may give files away");
        return;
    }
    let world = World::new();
    let source = world.machine("source");
    source.write("work/dir/f", "x");
    std::os::unix::fs::symlink("dir/f", source.path("work/link")).unwrap();
    source.done(&["push", "c", "work"]);
    let one = world.machine("one");
    one.done(&["pull", "c", "work", "--chown", "54321:54322"]);
    for path in ["work/dir/f", "work/link", "work/dir"] {
        assert_eq!(owner(&one, path), (54321, 54322), "{path}");
    }
    let two = world.machine("two");
    let args = ["run", "-c", "c", "--wait", "--chown", "54321:54322", "work", "--", "sh", "-c"];
    two.done(&[&args[..], &["echo mine > mine; test -z \"$CTXSYNC_CHOWN\""]].concat());
    assert_eq!((owner(&two, "work/dir/f"), owner(&two, "work/mine")), ((54321, 54322), (0, 0)));
    // What existed before keeps its owner.
    assert_eq!((owner(&two, "work"), owner(&one, "work")), ((0, 0), (0, 0)));
    one.done(&["pull", "c", "elsewhere", "--chown", "54321:54322"]);
    assert_eq!(owner(&one, "elsewhere"), (54321, 54322));
    for args in [["run", "-c", "new", "new/mount"], ["run", "-c", "c", "known/mount"]] {
        two.done(&[&args[..], &["--chown", "54321:54322", "--", "true"]].concat());
        let made = std::path::Path::new(args[3]);
        assert_eq!(owner(&two, args[3]), (54321, 54322), "{args:?}");
        assert_eq!(owner(&two, made.parent().unwrap().to_str().unwrap()), (54321, 54322), "{args:?}");
    }
    two.done(&["restore", "c", "restored", "--chown", "54321:54322"]);
    assert_eq!(owner(&two, "restored"), (54321, 54322));
}

#[test]
fn a_user_that_is_not_there() {
    let machine = World::new().machine("a");
    for wrong in ["no-such-user", "0:no-such-group", "54321", ""] {
        let ended = machine.call(&["pull", "c", "work", "--chown", wrong]);
        assert_eq!(ended.code, 2, "{wrong}: {}", ended.seen());
    }
}

#[test]
fn for_root_only() {
    use std::os::unix::process::CommandExt;
    let machine = World::new().machine("a");
    let mut command = machine.command(["pull", "c", "work", "--chown", "0:0"]);
    if is_root() {
        // The other user has no access to root's temporary directory, so it starts in `/`.
        command.current_dir("/").uid(65534).gid(65534);
    }
    let Ok(output) = command.output() else {
        eprintln!("skipped: another user can't reach the program here");
        return;
    };
    let ended = machine.ended(output);
    assert_eq!(ended.code, 2, "{}", ended.seen());
    assert!(ended.err.contains("needs root"), "{}", ended.seen());
}
