//! A pull that extracts archives and is killed.

use std::process::Stdio;
use std::time::{Duration, Instant};

use ctxsync_tests::archive::archive;
use ctxsync_tests::compare::{differences, list};
use ctxsync_tests::tree::Tree;

use crate::place::{Place, end, rounds};

const FORMATS: [&str; 6] = ["zip", "tar", "tar.gz", "tar.zst", "7z", "tar.xz"];

/// For each archive of a context, by number, the paths and contents of its members.
struct Archives(Vec<Vec<(String, String)>>);

impl Archives {
    fn make(place: &mut Place) -> Self {
        let mut member = |n: usize| {
            let size = 100 + place.random.below(40_000);
            (format!("d{}/f{n}", n % 3), format!("{n} {}", "x".repeat(size)))
        };
        Self((0..FORMATS.len()).map(|_| (0..20).map(&mut member).collect()).collect())
    }

    fn write(&self, mount: &Tree) {
        for (n, members) in self.0.iter().enumerate() {
            let members: Vec<(&str, &str)> = members.iter().map(|(n, c)| (n.as_str(), c.as_str())).collect();
            mount.write(Self::source(n), archive(FORMATS[n], &members));
        }
        mount.write("plain", "x");
    }

    fn source(n: usize) -> String {
        format!("a{n}/data.{}", FORMATS[n])
    }

    /// Returns whether an archive's members are all there. Fails if one has the wrong content, or, unless
    /// `parts` is set, if only some of them are there.
    fn is_out(&self, n: usize, mount: &Tree, folder: &str, parts: bool) -> Result<bool, String> {
        let mut there = 0;
        for (name, content) in &self.0[n] {
            let path = format!("{folder}/{name}");
            if mount.has(&path) {
                there += 1;
                if mount.read(&path) != *content {
                    return Err(format!("{path} is not whole"));
                }
            }
        }
        match there {
            0 => Ok(false),
            _ if there == self.0[n].len() => Ok(true),
            _ if parts => Ok(false),
            _ => Err(format!("{there} of {} are in {folder}", self.0[n].len())),
        }
    }
}

/// After the kill each archive is either whole and unextracted, or fully extracted. The next pull extracts
/// the rest.
#[test]
fn p1_an_extracting_pull_that_is_killed_leaves_no_half_archive() {
    let mut place = Place::new();
    let archives = Archives::make(&mut place);
    let source = place.mount("a");
    archives.write(&source);
    let mut whole = Duration::from_millis(300);
    let (mut killed, mut out, mut left) = (0, 0, 0);
    for round in 0..rounds() {
        let machine = format!("m{round}");
        place.context = machine.clone();
        place.run("push", "a");
        let current = round % 3 == 2;
        let mount = place.mount(&machine);
        std::fs::write(
            place.path(&machine).join("policy.json"),
            format!(r#"{{"extractPolicy": {{"extractToCurrentFolder": {current}}}}}"#),
        )
        .unwrap();
        let mut program = match round % 3 {
            0 => place.session(&machine),
            _ => place.command("pull", &machine),
        };
        let began = Instant::now();
        let program = program.env("CTXSYNC_POLICY", "policy.json");
        let mut child = program.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_nanos(place.random.below(whole.as_nanos() as usize) as u64));
        killed += u64::from(child.try_wait().unwrap().is_none());
        end(&mut child);

        let folder = |n: usize| if current { format!("a{n}") } else { format!("a{n}/data") };
        for n in 0..FORMATS.len() {
            let is_out = archives.is_out(n, &mount, &folder(n), current);
            let is_out = is_out.unwrap_or_else(|e| panic!("round {round}: {e}"));
            let has_source = mount.has(Archives::source(n));
            if has_source {
                let (here, there) = (mount.at(Archives::source(n)), source.at(Archives::source(n)));
                assert_eq!(std::fs::read(here).unwrap(), std::fs::read(there).unwrap(), "round {round}");
            }
            out += u64::from(is_out);
            left += u64::from(has_source && !is_out);
        }
        let output = place.command("sync", &machine).env("CTXSYNC_POLICY", "policy.json").output().unwrap();
        assert_eq!(output.status.code(), Some(0), "round {round}: {output:?}");
        for n in 0..FORMATS.len() {
            assert_eq!(archives.is_out(n, &mount, &folder(n), false), Ok(true), "round {round}: {output:?}");
            assert!(!mount.has(Archives::source(n)), "round {round}");
        }
        let files = archives.0.iter().map(Vec::len).sum::<usize>() + 1;
        assert_eq!(mount.files().len(), files, "round {round}: {:?}", mount.files());
        whole = whole.max(began.elapsed() / 2);
        // The context has what the machine has, and none of the archives any more.
        let fresh = place.fresh();
        let text = differences(&list(&mount.0), &fresh);
        assert!(text.is_empty(), "round {round}: {text}");
        std::fs::remove_dir_all(place.path(&machine)).unwrap();
    }
    println!("{} rounds: killed in time {killed}; archives out {out}, unextracted {left}", rounds());
    assert!(killed > 0 && out > 0 && left > 0, "{killed} {out} {left}");
}
