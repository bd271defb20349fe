//! The bugs below `tests/planted`, which `just planted` plants one after another, fit the sources: their
//! patches can be applied, and the tests that should catch them exist. `docs/reliability.md` lists them.
#![expect(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use std::collections::BTreeMap;
use std::path::PathBuf;

use ctxsync_tests::document;
use ctxsync_tests::guide::root;

/// Returns all patches by their name.
fn patches() -> BTreeMap<String, String> {
    let files = std::fs::read_dir(root().join("tests/planted")).unwrap().map(|file| file.unwrap().path());
    let patches = files.filter(|path| path.extension().is_some_and(|ending| ending == "patch"));
    let read = |path: PathBuf| {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        (name, std::fs::read_to_string(path).unwrap())
    };
    patches.map(read).collect()
}

/// Returns what a line at the head of a patch says: `Bug: ...`, `Test: ...`.
fn said<'p>(patch: &'p str, key: &str) -> &'p str {
    patch.lines().find_map(|line| line.strip_prefix(key)).unwrap()
}

/// Returns the lines that each hunk expects, with the path of its file.
fn expected(patch: &str) -> Vec<(String, String)> {
    let (mut hunks, mut path) = (Vec::<(String, String)>::new(), "");
    for line in patch.lines() {
        if let Some(old) = line.strip_prefix("--- a/") {
            path = old;
        } else if line.starts_with("@@ ") {
            hunks.push((path.to_owned(), String::new()));
        } else if let (Some((_, lines)), Some(' ' | '-') | None) = (hunks.last_mut(), line.chars().next()) {
            *lines += line.get(1..).unwrap_or_default();
            lines.push('\n');
        }
    }
    hunks
}

#[test]
fn planted_bugs_fit_the_sources_and_have_a_test() {
    for (name, patch) in patches() {
        let hunks = expected(&patch);
        assert!(!hunks.is_empty(), "{name}");
        for (path, lines) in hunks {
            let source = std::fs::read_to_string(root().join(&path)).unwrap();
            assert!(
                source.contains(lines.trim_end()),
                "{name}: {path} has changed; make the patch anew\n{lines}"
            );
        }
        let (target, test) = said(&patch, "Test: ").split_once(' ').unwrap();
        let places = ["tests/tests", "policy-core/tests"].map(|dir| root().join(dir));
        let files = places.iter().flat_map(|dir| walkdir::WalkDir::new(dir).into_iter().flatten());
        let mut files = files.filter(|file| {
            let path = file.path().to_string_lossy().into_owned();
            path.ends_with(&format!("/{target}.rs")) || path.contains(&format!("/{target}/"))
        });
        let has =
            |path| std::fs::read_to_string(path).is_ok_and(|code| code.contains(&format!("fn {test}(")));
        assert!(files.any(|file| has(file.into_path())), "{name}: no test {test} in {target}");
    }
}

#[test]
fn planted_bugs_are_listed() {
    let mut table = "| bug | the test that catches it |\n|---|---|\n".to_owned();
    for (name, patch) in patches() {
        let (_, test) = said(&patch, "Test: ").split_once(' ').unwrap();
        table += &format!("| {} (`{name}`) | `{test}` |\n", said(&patch, "Bug: "));
    }
    document::check("docs/reliability.md", "planted bugs", &table);
}
