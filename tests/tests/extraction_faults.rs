//! A failure at any change of a pull with archives: nothing is lost, and the next sync finishes the work.
#![expect(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use std::sync::Arc;

use ctxsync_tests::archive::archive;
use ctxsync_tests::compare::assert_same;
use ctxsync_tests::faults::{Death, FailsOnce, Killed};
use ctxsync_tests::machine::{Ended, Machine, World};
use rustix::io::Errno;
use transfer_engine::{Env, FileFaults};

const FILES: [(&str, &str); 3] = [("one", "1"), ("sub/two", "22"), ("sub/three", "333")];

/// How archives are extracted, and where their members end up.
struct Case {
    drop: bool,
    current: bool,
    deletes: bool,
    /// The folder of each archive: the first one's name is free, the second one's is taken.
    folders: [(&'static str, &'static str); 2],
}

impl Case {
    /// A context with two archives, and a machine with local files.
    async fn begin(&self) -> (World, Machine) {
        let world = World::quick().await;
        let maker = world.machine("maker");
        for (source, _) in self.folders {
            maker.mount.write(source, Self::bytes(source));
        }
        maker.mount.write("b", "in the way");
        maker.push().await.clean();
        let Self { drop, current, deletes, .. } = self;
        let machine = world.machine("machine").with_policy(&format!(
            r#"{{"extractPolicy": {{"deleteSrcFile": {drop}, "extractToCurrentFolder": {current}}},
                "deletePolicy": {{"syncLocalFile": {deletes}}}}}"#
        ));
        machine.mount.write("in/mine", "mine").write("b.tar.mine", "mine");
        (world, machine)
    }

    fn bytes(source: &str) -> Vec<u8> {
        archive(source.split_once('.').unwrap().1, &FILES)
    }

    /// Fails unless every file at its real path is whole, and each archive is extracted as a whole or not at
    /// all.
    fn check_whole(&self, machine: &Machine, at: &str) {
        let mount = &machine.mount;
        assert_eq!((mount.read("in/mine"), mount.read("b.tar.mine")), ("mine".into(), "mine".into()), "{at}");
        for (source, folder) in self.folders {
            let place = mount.at(source);
            if place.is_file() {
                assert_eq!(std::fs::read(place).unwrap(), Self::bytes(source), "{at}: {source}");
            }
            let members = FILES.map(|(name, content)| (format!("{folder}/{name}"), content));
            let out = members.iter().filter(|(path, content)| {
                let path = path.trim_start_matches('/');
                let is_out = mount.at(path).is_file();
                assert!(!is_out || mount.read(path) == *content, "{at}: {path}");
                is_out
            });
            let out = out.count();
            assert!(self.current || out == 0 || out == FILES.len(), "{at}: {out} members of {source}");
        }
    }

    /// Syncs, and fails unless the result is the same as without the failure.
    async fn check_end(&self, world: &World, machine: &Machine, at: &str) {
        let synced = machine.sync().await;
        assert!(synced.result.is_ok(), "{at}: {synced:?}");
        synced.clean();
        let mut expected = vec!["b".to_owned(), "b.tar.mine".to_owned(), "in/mine".to_owned()];
        for (source, folder) in self.folders {
            let members =
                FILES.map(|(name, _)| format!("{folder}/{name}").trim_start_matches('/').to_owned());
            expected.extend(members);
            expected.extend((!self.drop).then(|| source.to_owned()));
        }
        expected.sort();
        let mut found = machine.mount.files();
        found.sort();
        assert_eq!(found, expected, "{at}: {synced:?}");
        self.check_whole(machine, at);
        let again = machine.push().await;
        assert_eq!((again.clean().requests, again.clean().parent), (1, None), "{at}");
        let left: Vec<_> =
            std::fs::read_dir(&machine.mount.0).unwrap().flatten().map(|e| e.file_name()).collect();
        assert!(left.iter().all(|name| !name.to_string_lossy().starts_with('.')), "{at}: {left:?}");

        let fresh = world.machine("fresh");
        fresh.pull().await.clean();
        if self.drop && !self.deletes {
            for (source, _) in self.folders {
                assert_eq!(std::fs::read(fresh.mount.at(source)).unwrap(), Self::bytes(source), "{at}");
                fresh.mount.remove(source);
            }
        }
        assert_same(&fresh.mount.0, &machine.mount.0);
    }
}

async fn pull(machine: &Machine, faults: Arc<dyn FileFaults>) -> Ended {
    let machine = Machine { env: Env::real().with_file_faults(faults), ..machine.clone() };
    machine.pull().await
}

/// For each change in turn: kills the process before it, fails it alone, and fails it and all later ones.
async fn at_any_change(case: &Case) {
    for nth in 0.. {
        let (world, machine) = case.begin().await;
        let (killed, grave) = Killed::at(nth);
        let survived = tokio::select! {
            biased;
            ended = pull(&machine, killed.clone()) => ended.result.is_ok(),
            () = killed.died() => false,
        };
        let at = format!("killed at change {nth}");
        case.check_whole(&machine, &at);
        case.check_end(&world, &machine, &at).await;
        // The killed process's threads go on now, when their world is gone.
        drop(world);
        drop(grave);

        let errno = [Errno::IO, Errno::NOSPC, Errno::MFILE][nth as usize % 3];
        let fails = FailsOnce::at(nth, errno);
        let (world, machine) = case.begin().await;
        let ended = pull(&machine, fails.clone()).await;
        let mut at = format!("{errno} at change {nth}, {ended:?}");
        case.check_whole(&machine, &at);
        if nth % 2 == 1 {
            // As at the end of a session.
            at += &format!(", then {:?}", machine.push().await);
            case.check_whole(&machine, &at);
        }
        case.check_end(&world, &machine, &at).await;

        let (world, machine) = case.begin().await;
        let ended = pull(&machine, Death::after(nth)).await;
        let at = format!("nothing goes from change {nth} on, {ended:?}");
        case.check_whole(&machine, &at);
        case.check_end(&world, &machine, &at).await;

        assert_eq!(survived, !fails.has_failed());
        if survived {
            ended.clean();
            assert!(nth > 20, "{nth} changes only");
            break;
        }
    }
}

#[tokio::test]
async fn p1_trouble_at_any_change_extracts_into_a_folder_wholly_and_once() {
    let folders = [("in/data.zip", "in/data"), ("b.tar.gz", "b.tar.gz")];
    at_any_change(&Case { drop: true, current: false, deletes: true, folders }).await;
}

#[tokio::test]
async fn p1_trouble_at_any_change_extracts_what_the_context_keeps_wholly_and_once() {
    let folders = [("in/data.zip", "in/data"), ("b.tar.gz", "b.tar.gz.extracted")];
    at_any_change(&Case { drop: true, current: false, deletes: false, folders }).await;
}

#[tokio::test]
async fn p1_trouble_at_any_change_extracts_what_stays_wholly_and_once() {
    let folders = [("in/data.zip", "in/data"), ("b.tar.gz", "b.tar.gz.extracted")];
    at_any_change(&Case { drop: false, current: false, deletes: true, folders }).await;
}

#[tokio::test]
async fn p1_trouble_at_any_change_extracts_among_other_files_in_the_end() {
    let folders = [("in/data.zip", "in"), ("b.tar.gz", "")];
    at_any_change(&Case { drop: true, current: true, deletes: true, folders }).await;
}

/// Another program that removes what came out of an archive before it is put in place.
struct Cleaner(std::path::PathBuf);

impl FileFaults for Cleaner {
    fn before(&self, operation: &'static str, _: &std::path::Path) -> std::io::Result<()> {
        let staging =
            |dir: &std::fs::DirEntry| dir.file_name().to_string_lossy().starts_with(".ctxsync-stage-");
        for staging in std::fs::read_dir(&self.0)?.flatten().filter(staging) {
            for extracted in std::fs::read_dir(staging.path())?.flatten().filter(|_| operation == "syncfs") {
                let _ = std::fs::remove_file(extracted.path().join("sub/two"));
            }
        }
        Ok(())
    }
}

#[tokio::test]
async fn an_archive_stays_if_something_removes_what_came_out_of_it() {
    for (current, folders) in [
        (false, [("in/data.zip", "in/data"), ("b.tar.gz", "b.tar.gz")]),
        (true, [("in/data.zip", "in"), ("b.tar.gz", "")]),
    ] {
        let case = Case { drop: true, current, deletes: true, folders };
        let (world, machine) = case.begin().await;
        let ended = pull(&machine, Arc::new(Cleaner(machine.mount.0.clone()))).await;
        assert_eq!((ended.report().extracted, ended.report().failed), (0, 2), "{ended:?}");
        for (source, _) in folders {
            assert_eq!(std::fs::read(machine.mount.at(source)).unwrap(), Case::bytes(source));
        }
        machine.push().await;
        case.check_end(&world, &machine, "afterwards").await;
    }
}
