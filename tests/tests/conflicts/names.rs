//! Names of conflict copies: taken ones, long ones, and those of a scope that is a single file.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use ctxsync_tests::compare::{assert_same_but_times, list, paths};
use ctxsync_tests::machine::{Machine, World};
use ctxsync_tests::tree::Tree;

/// Whether the second machine pulls, or pushes, when it meets a conflict.
const PULL_FIRST: [bool; 2] = [false, true];

async fn agreed(policy: &str, make: impl Fn(&Tree)) -> (World, Machine, Machine) {
    let world = World::quick().await;
    let (a, b) = (world.machine("a").with_policy(policy), world.machine("b").with_policy(policy));
    make(&a.mount);
    if policy == "{}" {
        a.mount.write("keep", "keep");
    }
    a.push().await.report();
    b.pull().await.clean();
    (world, a, b)
}

/// Pushes from `a`, lets `b` meet the conflict, and syncs both. Fails unless both end up the same.
async fn meet(a: &Machine, b: &Machine, pull: bool) {
    a.push().await.clean();
    let met = if pull { b.pull().await } else { b.push().await };
    assert_eq!(met.report().failed, 0, "{:?}", met.noted);
    for machine in [b, a, b] {
        let ended = machine.sync().await;
        assert!(!ended.report().is_incomplete(), "{:?} {:?}", ended.report(), ended.noted);
    }
    for machine in [a, b] {
        let ended = machine.sync().await;
        let report = ended.clean();
        assert_eq!((report.added, report.changed, report.deleted), (0, 0, 0), "{:?}", ended.noted);
    }
    assert_same_but_times(&a.mount.0, &b.mount.0);
}

fn copies(tree: &Tree) -> Vec<String> {
    paths(&tree.0).into_iter().filter(|path| path.contains(".conflict-")).collect()
}

/// Returns the name that the conflict copy of "from a" gets, by trying.
async fn copy_name() -> String {
    let (_world, a, b) = agreed("{}", |t| _ = t.write("doc.txt", "base")).await;
    a.mount.write("doc.txt", "from a");
    b.mount.write("doc.txt", "from b");
    meet(&a, &b, false).await;
    copies(&a.mount).pop().unwrap()
}

/// A path that already has the copy's name on either side stays, and the copy gets the next name.
#[tokio::test]
async fn a_name_that_is_taken_is_left_alone() {
    let name = copy_name().await;
    type Take = fn(&Tree, &str);
    let takes: [(&str, Take); 4] = [
        ("a file", |t, name| _ = t.write(name, "mine")),
        ("a link", |t, name| _ = t.link(name, "somewhere")),
        ("an empty directory", |t, name| _ = t.dir(name)),
        ("a directory", |t, name| _ = t.write(format!("{name}/x"), "mine")),
    ];
    for (what, take) in takes {
        // The name is taken on both sides from the start, on the side that committed, or on the side that
        // meets the conflict.
        for place in 0..3 {
            for pull in PULL_FIRST {
                let before = |t: &Tree| {
                    t.write("doc.txt", "base");
                    if place == 0 {
                        take(t, &name);
                    }
                };
                let (_world, a, b) = agreed("{}", before).await;
                a.mount.write("doc.txt", "from a");
                b.mount.write("doc.txt", "from b");
                match place {
                    1 => take(&a.mount, &name),
                    2 => take(&b.mount, &name),
                    _ => {}
                }
                let taken = if place == 1 { list(&a.mount.at(&name)) } else { list(&b.mount.at(&name)) };
                meet(&a, &b, pull).await;
                let second = name.replace(".txt", "-2.txt");
                let told = format!("{what}, {place}, {pull}: {:?}", paths(&a.mount.0));
                assert_eq!(a.mount.read("doc.txt"), "from b", "{told}");
                assert_eq!(a.mount.read(&second), "from a", "{told}");
                assert!(a.mount.has(&name) && list(&a.mount.at(&name)) == taken, "{told}");
            }
        }
    }
}

/// A file with the copy's name and the copy's content is the copy.
#[tokio::test]
async fn a_copy_that_is_there_already_is_not_made_again() {
    let name = copy_name().await;
    for at_a in [false, true] {
        for pull in PULL_FIRST {
            let (_world, a, b) = agreed("{}", |t| _ = t.write("doc.txt", "base")).await;
            a.mount.write("doc.txt", "from a");
            b.mount.write("doc.txt", "from b");
            (if at_a { &a } else { &b }).mount.write(&name, "from a");
            meet(&a, &b, pull).await;
            assert_eq!(copies(&a.mount), std::slice::from_ref(&name), "{at_a} {pull}");
        }
    }
}

/// A directory that makes room for a file is renamed as a whole, even if a file has the name of its copy.
#[tokio::test]
async fn a_directory_moves_past_a_name_that_is_taken() {
    let mut name = String::new();
    for round in 0..2 {
        for pull in PULL_FIRST {
            let (_world, a, b) = agreed("{}", |_| {}).await;
            a.mount.write("d/x", "x of a").write("d/sub/y", "y of a");
            b.mount.write("d", "file of b");
            if round == 1 {
                b.mount.write(&name, "taken");
            }
            meet(&a, &b, pull).await;
            let found = copies(&a.mount);
            let dir = |path: &&String| path.ends_with(if round == 0 { "" } else { "-2" });
            let top = found.iter().filter(|path| !path.contains('/')).find(dir).unwrap().clone();
            assert_eq!(a.mount.read("d"), "file of b");
            assert_eq!(a.mount.read(format!("{top}/x")), "x of a", "{found:?}");
            assert_eq!(a.mount.read(format!("{top}/sub/y")), "y of a", "{found:?}");
            name = if round == 0 { top } else { name };
        }
    }
}

/// Both sides change a conflict copy: the new copy is another one of the original.
#[tokio::test]
async fn a_copy_in_conflict_is_copied_beside_the_original() {
    let name = copy_name().await;
    for pull in PULL_FIRST {
        let (_world, a, b) = agreed("{}", |t| _ = t.write(&name, "from a")).await;
        a.mount.write(&name, "edited by a");
        b.mount.write(&name, "edited by b");
        meet(&a, &b, pull).await;
        let found = copies(&a.mount);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found.iter().all(|path| path.matches(".conflict-").count() == 1), "{found:?}");
        assert_eq!(a.mount.read(&name), "edited by b");
    }
}

/// Names of every shape: all copies fit the length limit, and both machines find them.
#[tokio::test]
async fn copies_of_names_of_every_shape_fit() {
    let names: Vec<Vec<u8>> = vec![
        b".env".to_vec(),
        b"x.tar.gz".to_vec(),
        b"a.b.c.d.e".to_vec(),
        b"trailing.".to_vec(),
        b"...".to_vec(),
        b"not\xffutf8\x80.bin".to_vec(),
        vec![b'n'; 255],
        "日".repeat(85).into_bytes(),
        [&vec![b'm'; 250][..], b".tar"].concat(),
        [b"s.", &vec![b'e'; 253][..]].concat(),
        vec![0x80; 255],
        b"user.conflict-notours.txt".to_vec(),
    ];
    for pull in PULL_FIRST {
        let (_world, a, b) = agreed("{}", |t| {
            names.iter().for_each(|name| _ = t.write(OsStr::from_bytes(name), "base"));
        })
        .await;
        for name in &names {
            a.mount.write(OsStr::from_bytes(name), [b"a ", &name[..]].concat());
            b.mount.write(OsStr::from_bytes(name), [b"b ", &name[..]].concat());
        }
        meet(&a, &b, pull).await;
        let all = list(&a.mount.0);
        assert_eq!(all.len(), 2 * names.len() + 1, "{:?}", all.keys());
        assert!(all.keys().all(|path| path.as_os_str().len() <= 255));
    }
}

/// A conflict copy is in scope if and only if its original is.
#[tokio::test]
async fn a_copy_is_in_scope_where_its_original_is() {
    let long = "n".repeat(251) + ".txt";
    let policies = [
        (r#"{"bwList": {"whiteLists": [{"path": "d/NAME"}]}}"#, "doc.txt"),
        (r#"{"bwList": {"whiteLists": [{"path": "d/NAME"}]}}"#, long.as_str()),
        (r#"{"bwList": {"whiteLists": [{"path": "d/[a-z]+\\.txt", "isPathRegex": true}]}}"#, "doc.txt"),
        (r#"{"bwList": {"ignorePatterns": ["d/*", "!d/NAME"]}}"#, "doc.txt"),
        (r#"{"bwList": {"whiteLists": [{"path": "d", "excludePaths": ["d/other"]}]}}"#, "doc.txt"),
    ];
    for (policy, name) in policies {
        let policy = policy.replace("NAME", name);
        for pull in PULL_FIRST {
            let path = format!("d/{name}");
            let (_world, a, b) = agreed(&policy, |t| _ = t.write(&path, "base")).await;
            a.mount.write(&path, "from a");
            b.mount.write(&path, "from b");
            meet(&a, &b, pull).await;
            let found = copies(&a.mount);
            assert_eq!(found.len(), 1, "{policy}: {found:?}");
            assert_eq!(a.mount.read(&found[0]), "from a");
            // The copy can be deleted like any other file.
            b.mount.remove(&found[0]);
            b.push().await.clean();
            a.pull().await.clean();
            assert!(copies(&a.mount).is_empty());
        }
    }
}

/// The scope is one directory with a very long name.
#[tokio::test]
async fn a_cut_directory_is_in_scope_as_well() {
    let long = "n".repeat(255);
    let policy = format!(r#"{{"bwList": {{"whiteLists": [{{"path": "{long}"}}]}}}}"#);
    for pull in PULL_FIRST {
        let (_world, a, b) = agreed(&policy, |_| {}).await;
        a.mount.write(format!("{long}/x/y"), "of a");
        b.mount.write(&long, "of b");
        meet(&a, &b, pull).await;
        let found = copies(&a.mount);
        assert_eq!(a.mount.read(found.last().unwrap()), "of a", "{found:?}");
    }
}

/// A conflict at a path that is itself a numbered copy. The names of its copies are those of the original's
/// copies, except its own name.
#[tokio::test]
async fn w8_a_conflict_at_a_numbered_copy_ends() {
    let name = copy_name().await;
    let numbered = |number: u32| name.replace(".txt", &format!("-{number}.txt"));
    for own in 2..5 {
        for pull in PULL_FIRST {
            let (_world, a, b) = agreed("{}", |t| {
                t.write(&name, "taken");
                (2..=own).for_each(|number| _ = t.write(numbered(number), "taken as well"));
            })
            .await;
            a.mount.write(numbered(own), "from a");
            b.mount.write(numbered(own), "from b");
            meet(&a, &b, pull).await;
            let told = format!("{own} {pull}: {:?}", paths(&a.mount.0));
            assert_eq!(a.mount.read(numbered(own)), "from b", "{told}");
            assert_eq!(a.mount.read(numbered(own + 1)), "from a", "{told}");
            assert_eq!(copies(&a.mount).len(), own as usize + 1, "{told}");
        }
    }
}

/// If every name for a copy is taken, the path waits, and the sync ends and reports it.
#[tokio::test]
async fn w8_a_copy_for_which_every_name_is_taken_waits() {
    let name = copy_name().await;
    for pull in PULL_FIRST {
        let (_world, a, b) = agreed("{}", |t| {
            t.write("doc.txt", "base").write(&name, "taken");
            (2..=1001)
                .for_each(|number| _ = t.write(name.replace(".txt", &format!("-{number}.txt")), "taken"));
        })
        .await;
        a.mount.write("doc.txt", "from a");
        b.mount.write("doc.txt", "from b");
        a.push().await.clean();
        let met = if pull { b.pull().await } else { b.push().await };
        assert_eq!(met.report().failed, 1, "{:?}", met.noted);
        let problem = &met.noted.problems[0];
        assert!(problem.contains("every name of"), "{problem:?}");
        assert_eq!(b.mount.read("doc.txt"), "from b");
        // The other version stays in the context.
        a.pull().await.report();
        assert_eq!(a.mount.read("doc.txt"), "from a");
    }
}
