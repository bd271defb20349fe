//! The modules of the libraries form layers, as ARCHITECTURE.md lists them: no module uses a higher layer,
//! and none is on a cycle.
#![expect(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Which modules each module uses, by name.
type Uses = BTreeMap<String, BTreeSet<String>>;

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Returns the names of the modules in a directory: its files and subdirectories.
fn modules(dir: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(dir).unwrap().map(Result::unwrap);
    let names = entries.filter_map(|entry| {
        let name = entry.file_name().into_string().unwrap();
        match name.strip_suffix(".rs") {
            Some(name) => Some(name.to_owned()),
            None => entry.path().is_dir().then_some(name),
        }
    });
    names.filter(|name| !matches!(name.as_str(), "lib" | "main" | "mod" | "tests")).collect()
}

/// Returns the code of a module and its submodules, without comments and tests. A file in a subdirectory
/// needs one more `super` for its neighbours, which is removed.
fn code(dir: &Path, module: &str) -> String {
    let file = dir.join(format!("{module}.rs"));
    if file.is_file() {
        return without_tests(&std::fs::read_to_string(file).unwrap());
    }
    let mut code = String::new();
    for inner in modules(&dir.join(module)) {
        code +=
            &self::code(&dir.join(module), &inner).replace("super::super::", "\u{0}").replace("super::", "");
    }
    let own = std::fs::read_to_string(dir.join(module).join("mod.rs")).unwrap_or_default();
    (code + &without_tests(&own)).replace('\u{0}', "super::")
}

fn without_tests(code: &str) -> String {
    let code = code.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    code.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// Returns the names that follow `from` in the code: `from::name`, or several in braces.
fn names_after(code: &str, from: &str) -> BTreeSet<String> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let name = |text: &str| text.chars().take_while(|c| is_name(*c)).collect::<String>();
    let mut names = BTreeSet::new();
    for (at, _) in code.match_indices(from) {
        let rest = &code[at + from.len()..];
        let Some(group) = rest.strip_prefix('{') else {
            names.insert(name(rest));
            continue;
        };
        let (mut depth, mut begins) = (0, true);
        for (at, c) in group.char_indices() {
            match c {
                '}' if depth == 0 => break,
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 0 => begins = true,
                c if begins && is_name(c) => {
                    names.insert(name(&group[at..]));
                    begins = false;
                }
                _ => {}
            }
        }
    }
    names
}

/// Returns which modules of a directory each of them uses, with paths that begin with `from`.
fn uses(dir: &Path, from: &str) -> Uses {
    let all = modules(dir);
    let used = |module: &String| {
        let names = names_after(&code(dir, module), from);
        names.intersection(&all).filter(|name| *name != module).cloned().collect()
    };
    all.iter().map(|module| (module.clone(), used(module))).collect()
}

/// Returns the modules on a cycle and those that use them: what is left after repeatedly removing all modules
/// that use none of the others.
fn circular(uses: &Uses) -> BTreeSet<&String> {
    let mut left: BTreeSet<&String> = uses.keys().collect();
    loop {
        let free = |module: &&String| !uses[*module].iter().any(|used| left.contains(used));
        let taken: Vec<&String> = left.iter().copied().filter(free).collect();
        if taken.is_empty() {
            return left;
        }
        taken.iter().for_each(|module| _ = left.remove(module));
    }
}

/// Returns the layers that ARCHITECTURE.md lists, from the highest down.
fn layers() -> Vec<BTreeSet<String>> {
    let text = std::fs::read_to_string(workspace().join("ARCHITECTURE.md")).unwrap();
    let table = text.split("<!-- layers -->").nth(1).unwrap();
    let rows = table.lines().filter(|line| line.starts_with("| `"));
    // The names are in backquotes, in the first column.
    let first = rows.map(|row| row.split('|').nth(1).unwrap_or_default());
    first.map(|cell| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()).collect()
}

#[test]
fn no_arrow_runs_up() {
    let uses = uses(&workspace().join("transfer-engine/src"), "crate::");
    let layers = layers();
    let listed: BTreeSet<String> = layers.iter().flatten().cloned().collect();
    let all: BTreeSet<String> = uses.keys().cloned().collect();
    assert_eq!(listed, all, "ARCHITECTURE.md lists each module once");
    let layer_of = |module: &String| layers.iter().position(|layer| layer.contains(module));
    let mut up = Vec::new();
    for (module, used) in &uses {
        up.extend(
            used.iter().filter(|u| layer_of(u) <= layer_of(module)).map(|u| format!("{module} -> {u}")),
        );
    }
    assert!(up.is_empty(), "these arrows run up, or within a layer: {up:#?}");
}

#[test]
fn no_modules_use_each_other_in_a_circle() {
    let mut found = BTreeMap::new();
    for krate in ["policy-core", "transfer-engine", "storage-backends", "sync-cli"] {
        let src = workspace().join(krate).join("src");
        let dirs = modules(&src).into_iter().filter(|name| src.join(name).is_dir());
        let inner = dirs.map(|name| (format!("{krate}/{name}"), uses(&src.join(name), "super::")));
        for (name, uses) in inner.chain([(krate.to_owned(), uses(&src, "crate::"))]) {
            let circle: BTreeMap<String, _> =
                circular(&uses).into_iter().map(|module| (module.clone(), uses[module].clone())).collect();
            if !circle.is_empty() {
                found.insert(name, circle);
            }
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn a_circle_and_an_arrow_are_seen() {
    let code = "use crate::a::X;\nuse crate::{b, c::{Y, d}};\nfn f() { crate::e::g() }";
    assert_eq!(names_after(code, "crate::"), ["a", "b", "c", "e"].map(str::to_owned).into());
    let uses = |pairs: &[(&str, &str)]| {
        let mut uses: Uses = BTreeMap::new();
        for (from, to) in pairs {
            uses.entry((*from).to_owned()).or_default().insert((*to).to_owned());
            uses.entry((*to).to_owned()).or_default();
        }
        uses
    };
    assert!(circular(&uses(&[("a", "b"), ("b", "c"), ("a", "c")])).is_empty());
    assert_eq!(circular(&uses(&[("a", "b"), ("b", "c"), ("c", "b")])).len(), 3);
    let engine = workspace().join("transfer-engine/src");
    assert!(self::uses(&engine, "crate::")["upload"].contains("mount"));
    assert!(self::uses(&engine.join("download"), "super::")["pull"].contains("apply"));
}
