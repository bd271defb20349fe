//! Real archives, compared with bsdtar: `just archives` downloads them and runs this test.

use std::path::Path;
use std::process::Command;

use super::{Case, Node, Tree, read_tree};

/// Extracts each archive in the directory `CTXSYNC_ARCHIVES` with bsdtar and here, and compares the results.
#[test]
fn real_archives_come_out_as_bsdtar_extracts_them() {
    let Some(dir) = std::env::var_os("CTXSYNC_ARCHIVES") else { return };
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut archives: Vec<_> = entries.filter(|path| !path.to_string_lossy().contains("/.")).collect();
    archives.sort();
    assert!(archives.len() >= 10, "only {} archives were fetched", archives.len());
    let mut wrong = Vec::new();
    for archive in archives {
        let name = archive.file_name().unwrap().to_str().unwrap();
        let out = tempfile::tempdir().unwrap();
        let (extracted, ours) =
            match Case::new(name).run_in(out.path(), &std::fs::File::open(&archive).unwrap()) {
                Ok(done) => done,
                Err(e) => {
                    wrong.push(format!("{name}: {e}"));
                    continue;
                }
            };
        let ours: Tree = ours.into_iter().map(|(path, node)| (path, by_umask(node))).collect();
        let theirs = by_bsdtar(&archive, &out.path().join("theirs"));
        let links = ours.values().filter(|node| matches!(node, Node::Link { .. })).count();
        println!(
            "{name}: {} members, {links} links, {} bytes {:?}",
            ours.len(),
            extracted.bytes,
            extracted.warnings
        );
        for path in ours.keys().chain(theirs.keys()) {
            let (here, there) = (ours.get(path), theirs.get(path));
            if here != there {
                let path = policy_core::escape(path);
                wrong.push(format!("{name}: {path}: {} here, {} by bsdtar", shown(here), shown(there)));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn by_bsdtar(archive: &Path, target: &Path) -> Tree {
    std::fs::create_dir(target).unwrap();
    // The umask decides the modes that an archive does not give; 022 is the usual one.
    let status = Command::new("sh")
        .args(["-c", "umask 022 && exec bsdtar -x --no-same-permissions -f \"$1\" -C \"$2\"", "sh"])
        .args([archive, target])
        .env("TZ", "UTC")
        .env("LC_ALL", "C.UTF-8")
        .status()
        .expect("bsdtar runs (Debian's libarchive-tools)");
    assert!(status.success(), "bsdtar failed for {}", archive.display());
    read_tree(target)
}

fn by_umask(node: Node) -> Node {
    match node {
        Node::File { content, mode, mtime } => Node::File { content, mode: mode & !0o022, mtime },
        Node::Dir { mode } => Node::Dir { mode: mode & !0o022 },
        link => link,
    }
}

fn shown(node: Option<&Node>) -> String {
    match node {
        None => "nothing".into(),
        Some(Node::File { content, mode, mtime }) => {
            format!("a file of {} bytes, {mode:o}, time {mtime}", content.len())
        }
        Some(Node::Dir { mode }) => format!("a folder, {mode:o}"),
        Some(Node::Link { target }) => format!("a link to `{}`", policy_core::escape(target)),
    }
}
