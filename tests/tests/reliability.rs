//! `docs/reliability.md` lists every fault that the tests know by number, with the tests that inject it or the
//! reason why there are none. Tests are named after their faults: `l26_...`, `n7_n10_...`.
//!
//! `DOCS_UPDATE=1` adds new tests to the table, and removes those that no longer exist.
#![expect(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use ctxsync_tests::document;
use ctxsync_tests::guide::root;

const DOCUMENT: &str = "docs/reliability.md";

/// The groups of faults, with how many there are in each.
const FAULTS: [(char, u32); 9] =
    [('N', 20), ('P', 18), ('L', 31), ('W', 16), ('S', 17), ('A', 21), ('Y', 13), ('D', 7), ('K', 3)];

fn sources() -> Vec<PathBuf> {
    let crates = ["policy-core", "storage-backends", "sync-cli", "tests", "transfer-engine"];
    let files = crates.into_iter().flat_map(|name| walkdir::WalkDir::new(root().join(name)));
    let files = files.map(|file| file.unwrap().into_path());
    files.filter(|path| path.extension().is_some_and(|ending| ending == "rs")).collect()
}

/// Returns the names of the tests in a source file.
fn tests_in(source: &str) -> BTreeSet<String> {
    let (mut tests, mut is_test) = (BTreeSet::new(), false);
    for line in source.lines().map(str::trim_start) {
        if line.starts_with("#[") {
            is_test |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
        } else if !line.starts_with("//") {
            let function = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ");
            let name = function.and_then(|function| function.split(['(', '<']).next());
            tests.extend(name.filter(|_| is_test).map(str::to_owned));
            is_test = false;
        }
    }
    tests
}

/// Returns the faults in the name of a test: `N7` and `N10` of `n7_n10_...`.
fn faults_of(test: &str) -> Vec<String> {
    let is_fault = |part: &&str| {
        let group = FAULTS.iter().find_map(|(group, _)| part.strip_prefix(group.to_ascii_lowercase()));
        group.is_some_and(|number| number.parse::<u32>().is_ok())
    };
    test.split('_').take_while(is_fault).map(str::to_uppercase).collect()
}

/// Returns the row of a fault with the tests that exist: those that are named after it, and others that the
/// row has already. A reason stays.
fn row(fault: &str, what: &str, cell: &str, tests: &BTreeSet<String>) -> String {
    let named = tests.iter().filter(|test| faults_of(test).iter().any(|of| of == fault));
    let mut listed: BTreeSet<&str> = named.map(String::as_str).collect();
    if !listed.is_empty() || !cell.starts_with("none: ") {
        listed.extend(cell.split('`').skip(1).step_by(2).filter(|name| tests.contains(*name)));
        let listed: Vec<String> = listed.iter().map(|test| format!("`{test}`")).collect();
        return format!("| {fault} | {what} | {} |", listed.join(", "));
    }
    format!("| {fault} | {what} | {cell} |")
}

#[test]
fn every_fault_has_a_test_or_a_reason_and_every_test_of_a_fault_is_listed() {
    let tests: BTreeSet<String> =
        sources().iter().flat_map(|path| tests_in(&std::fs::read_to_string(path).unwrap())).collect();
    let (mut expected, mut rows) = (String::new(), BTreeMap::new());
    for line in document::part(DOCUMENT, "faults").trim().lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let fault = cells.get(1).filter(|cell| !faults_of(&cell.to_lowercase()).is_empty());
        if let Some(fault) = fault {
            assert_eq!(cells.len(), 5, "{line}");
            let row = row(fault, cells[2], cells[3], &tests);
            assert!(rows.insert((*fault).to_owned(), row.clone()).is_none(), "{fault} is there twice");
            expected += &row;
        } else {
            expected += line;
        }
        expected.push('\n');
    }
    document::check(DOCUMENT, "faults", &expected);

    let known: BTreeSet<String> =
        FAULTS.iter().flat_map(|(group, most)| (1..=*most).map(move |n| format!("{group}{n}"))).collect();
    let listed: BTreeSet<String> = rows.keys().cloned().collect();
    assert_eq!(listed, known, "the table must have each fault");
    let bare: Vec<&String> = rows.values().filter(|row| row.ends_with("|  |")).collect();
    assert!(bare.is_empty(), "these have neither a test nor a reason (`none: ...`): {bare:#?}");
    for test in &tests {
        let unknown: Vec<String> = faults_of(test).into_iter().filter(|f| !known.contains(f)).collect();
        assert!(unknown.is_empty(), "`{test}` is named after faults that do not exist: {unknown:?}");
    }
}

#[test]
fn tests_and_their_faults_are_found_in_sources() {
    let source = "#[test]\nfn n7_n10_a() {}\nfn n1_helper() {}\n    /// Text.\n    #[tokio::test(x)]\n    \
                  #[ignore = \"y\"]\n    async fn l26_b() {}\n#[derive(Debug)]\nfn p1_no() {}\n";
    assert_eq!(tests_in(source), BTreeSet::from(["l26_b".to_owned(), "n7_n10_a".to_owned()]));
    assert_eq!(faults_of("n7_n10_a"), ["N7", "N10"]);
    assert!(faults_of("a_commit").is_empty() && faults_of("i21_of_an_issue").is_empty());
}
