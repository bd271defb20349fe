//! Full and read-only file systems below the store, the state and the mount (faults P5, P10).

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use ctxsync_tests::mounts::{may_mount, small_tmpfs};

use crate::world::{Ended, Machine, World, noise, tree};

/// What is wrong with a file system.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    /// So many bytes are free.
    Full(usize),
    ReadOnly,
}

impl Kind {
    fn begin(self, at: &Path) {
        let Self::Full(spare) = self else { return remount(at, "ro") };
        std::fs::write(at.join("spare"), vec![1; spare]).unwrap();
        let mut ballast = std::fs::File::create(at.join("ballast")).unwrap();
        while ballast.write_all(&[1; 4096]).is_ok() {}
        std::fs::remove_file(at.join("spare")).unwrap();
    }

    fn end(self, at: &Path) {
        match self {
            Self::Full(_) => std::fs::remove_file(at.join("ballast")).unwrap(),
            Self::ReadOnly => remount(at, "rw"),
        }
    }

    /// The system's words, and the first words of what to do.
    fn words(self) -> [&'static str; 2] {
        match self {
            Self::Full(_) => ["No space left on device", "free space on the disk"],
            Self::ReadOnly => ["Read-only file system", "remount it read-write"],
        }
    }
}

fn remount(at: &Path, how: &str) {
    let ran = Command::new("mount").args(["-o", &format!("remount,{how}")]).arg(at).status();
    assert!(ran.unwrap().success());
}

/// Two machines, of which the second has something to push, to pull and to collect.
struct Place {
    _world: World,
    a: Machine,
    b: Machine,
    /// The file systems of the store, of the second machine's state, and of its files.
    file_systems: [PathBuf; 3],
}

impl Place {
    fn new() -> Self {
        let world = World::new();
        let (a, b) = (world.machine("a"), world.machine("b"));
        let data = world.store().parent().unwrap().parent().unwrap().to_owned();
        let file_systems = [data, b.path("state"), b.path("disk")];
        for at in &file_systems {
            std::fs::create_dir_all(at).unwrap();
            small_tmpfs(at, "16m");
        }
        a.write("work/both", "1");
        a.write("work/there", "1");
        a.write("work/gone", "1");
        a.done(&["push", "c", "work"]);
        b.done(&["pull", "c", "disk/work"]);
        a.write("work/there", "two");
        a.write("work/new-there", noise(2_000_000));
        std::fs::remove_file(a.path("work/gone")).unwrap();
        a.done(&["push", "c", "work"]);
        b.write("disk/work/here", "h");
        b.write("disk/work/new-here", noise(1_000_000));
        Self { _world: world, a, b, file_systems }
    }

    fn run(&self, verb: &str) -> Ended {
        match verb {
            "gc" => self.b.call(&["gc", "--exclusive", "--keep-last", "1", "--json"]),
            "restore" => self.b.call(&["restore", "c", "disk/out", "--json"]),
            verb => self.b.call(&[verb, "c", "disk/work", "--json"]),
        }
    }
}

const VERBS: [&str; 5] = ["sync", "push", "pull", "gc", "restore"];

/// Runs all commands of a machine while something is wrong with one of its file systems, and then once more. Returns
/// the exit codes meanwhile.
fn codes(at: usize, kind: Kind) -> [i32; 5] {
    let place = Place::new();
    let disk = &place.file_systems[at];
    kind.begin(disk);
    let codes = VERBS.map(|verb| {
        let ended = place.run(verb);
        assert_eq!(ended.summary()["conflicts"], 0, "{verb}: {}", ended.out);
        if ended.code != 0 {
            let errors = ended.of_type("error");
            let text = errors.iter().map(ToString::to_string).collect::<String>();
            assert!(kind.words().iter().all(|word| text.contains(word)), "{verb}: {text}");
        }
        // Nothing is lost, and nothing is there by halves.
        assert_eq!(place.b.read("disk/work/here"), "h");
        for (dir, file, sizes) in [
            ("work", "both", [1, 1]),
            ("work", "there", [1, 3]),
            ("work", "new-here", [1_000_000; 2]),
            ("work", "new-there", [0, 2_000_000]),
            ("out", "new-there", [0, 2_000_000]),
        ] {
            let size = std::fs::metadata(place.b.path("disk").join(dir).join(file)).map_or(0, |f| f.len());
            assert!(sizes.contains(&size), "{verb}: {file} has {size} bytes");
        }
        ended.code
    });
    kind.end(disk);
    for verb in VERBS {
        let ended = place.run(verb);
        assert_eq!(ended.code, 0, "{verb}, after {kind:?}: {}{}", ended.out, ended.err);
    }
    place.a.done(&["pull", "c", "work"]);
    let (work, other, out) = (place.b.path("disk/work"), place.a.path("work"), place.b.path("disk/out"));
    assert_eq!(tree(&work), tree(&other));
    assert_eq!(tree(&work), tree(&out));
    let names: Vec<_> = tree(&work).iter().map(|row| row.split(' ').next().unwrap().to_owned()).collect();
    assert_eq!(names, ["both", "here", "new-here", "new-there", "there"]);
    place.a.done(&["check", "c", "--read-data"]);
    codes
}

#[test]
fn p5_p10_a_store_that_is_full_or_read_only_is_still_read() {
    if !may_mount("full::p5_p10_a_store_that_is_full_or_read_only_is_still_read") {
        return;
    }
    // A collection puts a small object first.
    assert_eq!(codes(0, Kind::Full(0)), [1, 1, 0, 1, 0]);
    assert_eq!(codes(0, Kind::Full(300_000)), [1, 1, 0, 0, 0]);
    assert_eq!(codes(0, Kind::ReadOnly), [1, 1, 0, 1, 0]);
}

#[test]
fn p5_p10_a_state_that_is_full_or_read_only_stops_syncs_alone() {
    if !may_mount("full::p5_p10_a_state_that_is_full_or_read_only_stops_syncs_alone") {
        return;
    }
    // What was pushed can't be noted, which is no reason not to save it.
    assert_eq!(codes(1, Kind::Full(0)), [1, 0, 1, 0, 0]);
    assert_eq!(codes(1, Kind::ReadOnly), [1, 1, 1, 0, 0]);
    // Somewhere on the way there is no more space.
    for pages in [1, 2, 4] {
        let [sync, push, pull, gc, restore] = codes(1, Kind::Full(pages * 4096));
        assert!([sync, push, pull].iter().all(|code| [0, 1].contains(code)), "{pages}");
        assert_eq!([gc, restore], [0, 0], "{pages}");
    }
}

/// The machine's only warning must be that it could not note what it pushed.
fn assert_saved_unnoted(ended: &Ended) {
    assert_eq!(ended.code, 0, "{}", ended.err);
    let warnings: Vec<_> = ended.err.lines().filter(|line| line.starts_with("warning:")).collect();
    assert!(warnings.len() == 1 && warnings[0].contains("could not note what was pushed"), "{}", ended.err);
}

#[test]
fn p5_a_session_that_filled_its_own_disk_is_saved() {
    if !may_mount("full::p5_a_session_that_filled_its_own_disk_is_saved") {
        return;
    }
    let world = World::new();
    let machine = world.machine("a");
    let disk = machine.path("disk");
    std::fs::create_dir_all(&disk).unwrap();
    small_tmpfs(&disk, "8m");
    for file in 0..300 {
        machine.write(&format!("disk/work/f{file}"), noise(2000));
    }
    let call = |args: &[&str]| machine.call(&[&["--state-dir", "disk/state"], args].concat());
    assert_eq!(call(&["push", "c", "disk/work"]).code, 0);
    let script = "echo precious >result; rm f1; cat /dev/zero >ballast 2>../../err; true";
    assert_saved_unnoted(&call(&["run", "--wait", "-c", "c", "disk/work", "--", "sh", "-c", script]));
    assert!(machine.read("err").contains("No space left"));
    assert_eq!(machine.done(&["cat", "c:result"]).out, "precious\n");
    assert!(!machine.done(&["ls", "c"]).out.contains(" f1\n"));
    // There is room again.
    std::fs::remove_file(machine.path("disk/work/ballast")).unwrap();
    machine.write("disk/work/later", "x");
    let pushed = call(&["sync", "c", "disk/work", "--json"]);
    assert_eq!((pushed.code, &pushed.summary()["conflicts"]), (0, &0.into()), "{}", pushed.out);
    let other = world.machine("b");
    other.done(&["pull", "c", "work"]);
    assert_eq!(tree(&other.path("work")), tree(&machine.path("disk/work")));
}

#[test]
fn p15_a_session_whose_state_was_removed_is_saved() {
    let machine = World::new().machine("a");
    machine.write("work/f", "x");
    machine.done(&["push", "c", "work"]);
    let script = "rm -r ../state; echo new >new; rm f";
    let ended = machine.call(&["run", "--wait", "-c", "c", "work", "--", "sh", "-c", script]);
    assert_eq!(ended.code, 0, "{}", ended.err);
    assert_eq!(machine.done(&["cat", "c:new"]).out, "new\n");
    // The next sync compares what is there.
    let pushed = machine.call(&["sync", "c", "work", "--json"]);
    assert_eq!((pushed.code, &pushed.summary()["conflicts"]), (0, &0.into()), "{}", pushed.out);
}

#[test]
fn p5_p10_a_mount_that_is_full_or_read_only_is_still_pushed() {
    if !may_mount("full::p5_p10_a_mount_that_is_full_or_read_only_is_still_pushed") {
        return;
    }
    for kind in [Kind::Full(0), Kind::Full(300_000), Kind::ReadOnly] {
        assert_eq!(codes(2, kind), [1, 0, 1, 0, 1], "{kind:?}");
    }
}
