//! Every format with all switches, both delete policies, and three sessions: what happens to an archive and
//! its members, as in `docs/extraction.md`.
#![expect(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use std::fmt::Write;

use ctxsync_tests::archive::{FORMATS, SINGLES, archive};
use ctxsync_tests::document;
use ctxsync_tests::machine::{Machine, World};
use ctxsync_tests::tree::Tree;

const FILES: [(&str, &str); 3] = [("one", "1"), ("sub/two", "22"), ("sub/three", "333")];

/// One combination of the switches.
#[derive(Clone, Copy)]
struct Switches {
    extract: bool,
    drop: bool,
    current: bool,
    deletes: bool,
}

impl Switches {
    fn all() -> impl Iterator<Item = Self> {
        let on = |bits: u8, bit: u8| bits & bit == 0;
        (0..16).map(move |bits| Self {
            extract: on(bits, 8),
            drop: on(bits, 4),
            current: on(bits, 2),
            deletes: on(bits, 1),
        })
    }

    fn machine(self, world: &World, name: &str) -> Machine {
        let Self { extract, drop, current, deletes } = self;
        world.machine(name).with_policy(&format!(
            r#"{{"extractPolicy":
                {{"extract": {extract}, "deleteSrcFile": {drop}, "extractToCurrentFolder": {current}}},
                "deletePolicy": {{"syncLocalFile": {deletes}}}}}"#
        ))
    }
}

/// An archive at `in/data.SUFFIX`, and the directory of its members.
struct Cell {
    suffix: &'static str,
    members: &'static [(&'static str, &'static str)],
    folder: &'static str,
}

impl Cell {
    fn new(suffix: &'static str, current: bool) -> Self {
        const SINGLE: [(&str, &str); 1] = [("data", "one file")];
        let members: &[_] = if SINGLES.contains(&suffix) { &SINGLE } else { &FILES };
        Self { suffix, members, folder: if current { "in" } else { "in/data" } }
    }

    fn source(&self) -> String {
        format!("in/data.{}", self.suffix)
    }

    /// A user works on the members: edits one, deletes one and renames one.
    fn work(&self, mount: &Tree) {
        let at = |name: &str| format!("{}/{name}", self.folder);
        mount.write(at(self.members[0].0), "edited");
        if let [_, deleted, renamed] = self.members {
            mount.remove(at(deleted.0)).rename(at(renamed.0), at("renamed"));
        }
    }

    /// Describes what a mount has of the archive, and fails if it has any other file.
    fn look(&self, mount: &Tree) -> String {
        let mut files = mount.files();
        let mut take =
            |path: String| files.iter().position(|f| *f == path).map(|i| files.remove(i)).is_some();
        assert!(take("plain".to_owned()));
        let source = take(self.source());
        let at = |name: &str| format!("{}/{name}", self.folder);
        let as_they_were = self
            .members
            .iter()
            .all(|(name, content)| mount.has(at(name)) && mount.read(at(name)) == *content);
        let as_worked_on = mount.has(at(self.members[0].0)) && mount.read(at(self.members[0].0)) == "edited";
        let members = if as_they_were {
            self.members.iter().for_each(|(name, _)| assert!(take(at(name))));
            "members"
        } else if as_worked_on {
            assert!(take(at(self.members[0].0)));
            // If deletions stay local, the next pull restores the deleted members.
            let again = self.members.iter().skip(1).filter(|(name, _)| take(at(name))).count();
            assert!(again == 0 || again == 2);
            assert!(self.members.len() == 1 || take(at("renamed")));
            "edited members"
        } else {
            ""
        };
        assert!(files.is_empty(), "{}: {files:?}", self.suffix);
        match (source, members) {
            (true, "") => "archive".to_owned(),
            (true, members) => format!("archive, {members}"),
            (false, "") => "neither".to_owned(),
            (false, members) => members.to_owned(),
        }
    }
}

/// Runs three sessions and describes the results: in the mount, in the context, in the mount after more work,
/// and on another machine.
async fn run(suffix: &'static str, switches: Switches) -> [String; 4] {
    let world = World::memory().await;
    let cell = Cell::new(suffix, switches.current);
    let maker = world.machine("maker");
    maker.mount.write(cell.source(), archive(suffix, cell.members)).write("plain", "x");
    maker.push().await.clean();

    let a = switches.machine(&world, "a");
    let pulled = a.pull().await;
    assert_eq!(pulled.clean().extracted, u64::from(switches.extract), "{suffix} {:?}", pulled.noted);
    let first = cell.look(&a.mount);
    assert_eq!(a.pull().await.clean().extracted, 0);
    assert_eq!(cell.look(&a.mount), first, "a pull with nothing to do");
    a.push().await.clean();
    let looker = world.machine("looker");
    looker.pull().await.clean();
    let context = cell.look(&looker.mount);

    if switches.extract {
        cell.work(&a.mount);
    }
    assert_eq!(a.pull().await.clean().extracted, 0);
    a.push().await.clean();
    assert_eq!(a.pull().await.clean().extracted, 0);
    let second = cell.look(&a.mount);

    let b = switches.machine(&world, "b");
    let pulled = b.pull().await;
    assert_eq!(pulled.clean().extracted, 0, "{suffix} {:?}", pulled.noted);
    b.push().await.clean();
    let third = cell.look(&b.mount);
    [first, context, second, third]
}

/// Returns the table of results, which must be the same for all formats.
async fn table(suffix: &'static str) -> String {
    let mut table = String::from(
        "| extract | deleteSrcFile | extractToCurrentFolder | syncLocalFile | mount after the first session | context after it | mount after the second | another machine |\n|---|---|---|---|---|---|---|---|\n",
    );
    for switches in Switches::all() {
        let [first, context, second, third] = run(suffix, switches).await;
        let Switches { extract, drop, current, deletes } = switches;
        writeln!(
            table,
            "| {extract} | {drop} | {current} | {deletes} | {first} | {context} | {second} | {third} |"
        )
        .unwrap();
    }
    table
}

macro_rules! formats {
    ($($name:ident $suffix:literal),*) => {
        $(#[tokio::test]
        async fn $name() {
            document::check("docs/extraction.md", "the table of sessions", &table($suffix).await);
        })*

        #[test]
        fn no_format_is_left_out() {
            let here = [$($suffix),*];
            assert_eq!(here.as_slice(), [FORMATS.as_slice(), SINGLES.as_slice()].concat());
        }
    };
}

formats! {
    zip "zip", tar "tar", tar_gz "tar.gz", tgz "tgz", tar_bz2 "tar.bz2", tbz2 "tbz2", tar_xz "tar.xz", txz "txz",
    tar_zst "tar.zst", seven_zip "7z", gz "gz", bz2 "bz2", xz "xz", zst "zst"
}
