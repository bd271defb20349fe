//! Hard cases of the reconciler, by name and example.

use crate::model::edit::put;
use crate::model::world::{Mount, World};
use crate::model::{DEFAULT, Tree, canonical, dir, expanded, file, link, path};
use policy_core::{ConflictPolicy, Entry, Reason, Rules, Towards, Verdict};

const UP: Towards = Towards::Store;
const DOWN: Towards = Towards::Mount;

/// Returns a tree from text: `a/x=1` is a file with content 1, `s@1` a link, `d/` a directory, `d/:700` one
/// with another mode.
fn tree(words: &str) -> Tree {
    let mut tree = Tree::new();
    for word in words.split_whitespace() {
        let (name, entry): (&str, Entry) = if let Some((name, content)) = word.split_once('=') {
            (name, file(content.parse().unwrap(), 0o644))
        } else if let Some((name, target)) = word.split_once('@') {
            (name, link(target.parse().unwrap()))
        } else if let Some((name, mode)) = word.split_once("/:") {
            (name, dir(u16::from_str_radix(mode, 8).unwrap()))
        } else {
            (word.strip_suffix('/').unwrap(), dir(0o755))
        };
        put(&mut tree, &path(name), entry);
    }
    tree
}

fn world(base: &str, local: &str, remote: &str) -> World {
    let base = canonical(&tree(base)).unwrap();
    let mount = Mount { files: tree(local), base: base.clone(), ..Mount::default() };
    let other = Mount { files: expanded(&base), base, ..Mount::default() };
    World { rules: DEFAULT, store: canonical(&tree(remote)).unwrap(), mounts: [mount, other] }
}

fn lines(world: &World, towards: Towards) -> String {
    let steps = world.plan(0, towards).into_iter().filter(|s| s.decision.verdict != Verdict::Nothing);
    steps.map(|s| format!("{s}\n")).collect()
}

/// Syncs the first mount, the second, and the first again. Fails unless they agree.
fn converge(world: &mut World) -> String {
    for mount in [0, 1, 0] {
        for towards in [DOWN, UP] {
            world.sync(mount, towards).unwrap();
        }
    }
    world.expect_converged().unwrap();
    show(&world.store)
}

fn show(tree: &Tree) -> String {
    tree.keys().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

#[test]
fn a_small_plan_in_words() {
    let world = world(
        "gone=1 kept=1 edited=1 both=1 theirs=1 dir/x=1 removed=1",
        "kept=1 edited=2 both=2 theirs=1 dir=3 new=4 removed=1",
        "gone=1 kept=1 edited=1 both=3 theirs=2 dir/x=1 dir/y=1 far=9",
    );
    insta::assert_snapshot!(format!("up:\n{}\ndown:\n{}", lines(&world, UP), lines(&world, DOWN)));
}

/// A file on one side and a directory on the other, with every conflict policy, with and without deletions.
#[test]
fn file_against_directory() {
    let mut out = String::new();
    for (name, base, local, remote) in [
        ("both new, file here", "", "p=1", "p/x=2 p/y/z=3"),
        ("both new, directory here", "", "p/x=2 p/y/z=3", "p=1"),
        ("directory becomes a file here, changes there", "p/x=1 p/k=1", "p=5", "p/x=2 p/k=1 p/y=3"),
        ("directory becomes a file there, changes here", "p/x=1 p/k=1", "p/x=2 p/k=1 p/y=3", "p=5"),
        ("file becomes a directory here, changes there", "p=1", "p/x=2", "p=3"),
        ("file becomes a directory there, changes here", "p=1", "p=3", "p/x=2"),
        ("file becomes a directory here alone", "p=1", "p/x=2", "p=1"),
        ("file becomes a directory there alone", "p=1", "p=1", "p/x=2"),
        ("directory becomes a link here alone", "p/x=1", "p@1", "p/x=1"),
        ("directory becomes a link there alone", "p/x=1", "p/x=1", "p@1"),
    ] {
        out += &format!("# {name}\n");
        for (policy, rules) in [
            ("KeepBoth", DEFAULT),
            ("PreferLocal", Rules { conflict: ConflictPolicy::PreferLocal, ..DEFAULT }),
            ("PreferRemote", Rules { conflict: ConflictPolicy::PreferRemote, ..DEFAULT }),
            ("Fail", Rules { conflict: ConflictPolicy::Fail, ..DEFAULT }),
            ("KeepBoth, deletions held", Rules { hold_deletions: true, ..DEFAULT }),
            (
                "PreferLocal, syncLocalFile false",
                Rules { conflict: ConflictPolicy::PreferLocal, sync_local_file: false, ..DEFAULT },
            ),
        ] {
            let mut world = world(base, local, remote);
            world.rules = rules;
            for (way, towards) in [("up", UP), ("down", DOWN)] {
                for line in lines(&world, towards).lines() {
                    out += &format!("{policy}, {way}: {line}\n");
                }
                world.clone().sync(0, towards).unwrap();
            }
        }
        out.push('\n');
    }
    insta::assert_snapshot!(out);
}

#[test]
fn w7_edit_against_delete_the_edit_stays() {
    assert_eq!(converge(&mut world("f=1 g=1", "g=2", "f=2")), "f g");
    for towards in [UP, DOWN] {
        let plan = world("f=1 g=1", "g=2", "f=2").plan(0, towards);
        assert_eq!(plan[0].decision.reason, Reason::ChangeThereBeatsDeletion);
        assert_eq!(plan[1].decision.reason, Reason::ChangeHereBeatsDeletion);
    }
}

#[test]
fn w8_edit_against_edit_both_stay() {
    assert_eq!(converge(&mut world("f.txt=1", "f.txt=2", "f.txt=3")), "f.conflict-00000003.txt f.txt");
}

#[test]
fn w9_directory_deleted_against_file_added_in_it_the_addition_stays() {
    assert_eq!(converge(&mut world("d/x=1 d/y=1", "", "d/x=1 d/y=1 d/new=2")), "d/new");
    assert_eq!(converge(&mut world("d/x=1 d/y=1", "d/x=1 d/y=1 d/new=2", "")), "d/new");
    assert_eq!(converge(&mut world("d/:700 d/x=1", "d/:700 d/x=1 d/new=2", "")), "d d/new");
}

#[test]
fn w10_rename_against_rename() {
    // Renamed to different names: both names stay.
    assert_eq!(converge(&mut world("f=1", "g=1", "h=1")), "g h");
    // Renamed to the same name: the same change on both sides.
    assert_eq!(converge(&mut world("f=1", "g=1", "g=1")), "g");
    // A directory renamed into another one, and that one renamed on the other side.
    assert_eq!(converge(&mut world("a/x=1 b/y=1", "b/a/x=1 b/y=1", "a/x=1 c/y=1")), "b/a/x c/y");
}

#[test]
fn w16_a_file_put_where_one_has_not_arrived_is_a_conflict() {
    let world = world("", "log=9", "log=1");
    for towards in [UP, DOWN] {
        assert_eq!(world.plan(0, towards)[0].decision.verdict, Verdict::KeepBoth);
    }
}

#[test]
fn an_emptied_directory_stays_as_an_entry() {
    for (base, local, remote, end) in [
        ("d/x=1", "d/", "d/x=1", "d"),
        ("d/e/x=1 d/y=1", "d/e/ d/y=1", "d/e/x=1 d/y=1", "d/e d/y"),
        // The other side's new file implies the directory.
        ("d/x=1", "d/", "d/x=1 d/new=2", "d/new"),
        ("d/x=1", "d/", "d/x=2", "d/x"),
        // The other side removed the directory: it stays as it is here, where a killed pull may have left
        // it.
        ("d/x=1", "d/", "", ""),
        ("d/e/x=1", "d/e/", "", ""),
        ("d/e/x=1", "d/e/", "d=2", "d"),
        // The other side emptied it, too.
        ("d/x=1", "d/", "d/", "d"),
        ("d/x=1", "d/", "d/:700", "d"),
        // Only the other side emptied it.
        ("d/x=1", "d/x=1", "d/", "d"),
        ("d/x=1", "d/x=1 d/mine=2", "d/", "d/mine"),
        // Removed, not emptied.
        ("d/x=1", "", "d/x=1", ""),
    ] {
        assert_eq!(converge(&mut world(base, local, remote)), end, "{base} | {local} | {remote}");
    }
}

#[test]
fn modes_of_directories_never_make_a_copy() {
    for (base, local, remote, mode) in [
        ("d/:700 d/x=1", "d/:711 d/x=1", "d/:750 d/x=1", 0o711),
        ("d/x=1", "d/:711 d/x=1", "d/:750 d/x=1", 0o711),
        ("d/:700 d/x=1", "d/x=1", "d/:750 d/x=1", 0o755),
        ("d/:700 d/x=1", "d/:711 d/x=1", "d/x=1", 0o711),
        ("d/:700 d/x=1", "d/:700 d/x=1", "d/x=1", 0o755),
        ("d/:700 d/x=1", "d/x=1", "d/:700 d/x=1", 0o755),
    ] {
        let mut world = world(base, local, remote);
        let end = converge(&mut world);
        assert_eq!(end, if mode == 0o755 { "d/x" } else { "d d/x" });
        assert_eq!(world.mounts[1].files[&path("d")].mode, mode, "{base} | {local} | {remote}");
    }
}

#[test]
fn a_new_directory_of_the_usual_mode_takes_the_contexts() {
    for words in ["d/", "d/mine=1"] {
        let mut world = world("", words, "d/:700 d/x=1");
        for towards in [DOWN, UP] {
            world.sync(0, towards).unwrap();
        }
        world.expect_settled(0).unwrap();
        assert_eq!(world.mounts[0].files[&path("d")].mode, 0o700, "{words}");
    }
}

#[test]
fn a_mode_does_not_beat_a_directorys_deletion() {
    assert_eq!(converge(&mut world("d/:700 d/x=1", "", "d/x=1")), "");
    assert_eq!(world("d/:700 d/x=1", "", "d/x=1").plan(0, DOWN)[0].decision.reason, Reason::DeletedHere);
}

/// Nothing is below a file, whatever the base implies.
#[test]
fn a_directory_emptied_there_and_replaced_here_is_a_conflict() {
    for towards in [UP, DOWN] {
        let plan = world("c/x/x=1", "c=1", "c/x/").plan(0, towards);
        let lines: Vec<_> = plan.iter().map(|s| (s.path.to_string(), s.decision.verdict)).collect();
        assert_eq!(lines[1], ("c/x".to_owned(), Verdict::KeepBoth), "{towards:?}");
    }
}

#[test]
fn half_a_directory_is_no_copy() {
    let mut world = world("c/x=1", "c=2", "c/:700 c/x=1");
    world.rules = Rules { sync_local_file: false, ..DEFAULT };
    for towards in [DOWN, UP] {
        assert!(world.sync(0, towards).unwrap().iter().all(|s| s.copy.is_none()));
    }
    assert_eq!(show(&world.store), "c c/x");
    assert_eq!(show(&world.mounts[0].files), "c");
}

#[test]
fn modes_of_directories_are_no_conflict_whatever_the_strategy() {
    for conflict in [ConflictPolicy::PreferLocal, ConflictPolicy::PreferRemote, ConflictPolicy::Fail] {
        let mut world = world("d/:700", "d/:711", "d/:750");
        world.rules = Rules { conflict, ..DEFAULT };
        assert_eq!(world.plan(0, UP)[0].decision.verdict, Verdict::Write);
        assert_eq!(world.plan(0, DOWN)[0].decision.verdict, Verdict::Keep);
    }
}

#[test]
fn nothing_is_written_below_what_cannot_be_read() {
    // A directory that can't be listed, or a FIFO: the scan only knows that something is there.
    let mut world = world("p/x=1", "p/x=1", "p/x=2 p/new=3");
    world.mounts[0].unreadable.insert(path("p"));
    for towards in [UP, DOWN] {
        let verdicts: Vec<_> = world.plan(0, towards).iter().map(|s| s.decision.verdict).collect();
        assert_eq!(verdicts, [Verdict::Withhold; 3]);
    }
}
