//! docs/guide.md shows the code of its examples, and what they really print.
#![expect(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use ctxsync_tests::guide;
use policy_core::SyncPolicy;
use regex::Regex;

/// Every example: its file in `docs/examples` and its program.
const PROGRAMS: [(&str, &str); 8] = [
    ("policy_parts.rs", env!("CARGO_BIN_EXE_guide-policy-parts")),
    ("policies.rs", env!("CARGO_BIN_EXE_guide-policies")),
    ("contexts.rs", env!("CARGO_BIN_EXE_guide-contexts")),
    ("session.rs", env!("CARGO_BIN_EXE_guide-session")),
    ("monitoring.rs", env!("CARGO_BIN_EXE_guide-monitoring")),
    ("manual_sync.rs", env!("CARGO_BIN_EXE_guide-manual-sync")),
    ("on_demand.rs", env!("CARGO_BIN_EXE_guide-on-demand")),
    ("troubleshooting.rs", env!("CARGO_BIN_EXE_guide-troubleshooting")),
];

const EXAMPLES: &str = "docs/examples/";

/// Returns what an example prints, with placeholders for what differs from run to run.
fn output(program: &str) -> String {
    let ended = Command::new(program).output().unwrap();
    let err = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "{program} failed:\n{err}");
    let mut text = String::from_utf8(ended.stdout).unwrap();
    for (pattern, stand_in) in [
        (r"(/[^/\s]+)*/\.tmp\w{6}", "<dir>"),
        (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "<time>"),
        (r"s-[0-9a-f]{16}\b", "<session>"),
    ] {
        text = Regex::new(pattern).unwrap().replace_all(&text, stand_in).into_owned();
    }
    text
}

#[test]
fn every_rust_block_is_a_region_of_its_example() {
    guide::check("rust", |block| Some(guide::region(&block.origin)));
}

#[test]
fn every_output_is_what_the_example_prints() {
    // Examples without an output in the guide are run, too.
    let outputs: BTreeMap<&str, String> =
        PROGRAMS.iter().map(|(file, program)| (*file, output(program))).collect();
    guide::check("text", |block| {
        let (file, name) = block.origin.strip_prefix(EXAMPLES).unwrap().split_once('#').unwrap();
        Some(guide::part(&outputs[file], name).to_owned())
    });
}

#[test]
fn every_json_block_is_a_policy() {
    guide::check("json", |block| {
        let from = (!block.origin.is_empty())
            .then(|| fs::read_to_string(guide::root().join(&block.origin)).unwrap());
        let text = from.as_ref().unwrap_or(&block.body);
        SyncPolicy::from_json(text).unwrap_or_else(|e| panic!("docs/guide.md:{}: {e}", block.line));
        from
    });
    guide::check("toml", |block| {
        SyncPolicy::from_toml(&block.body).unwrap_or_else(|e| panic!("docs/guide.md:{}: {e}", block.line));
        None
    });
}

/// Every block of the guide is tested, and every Python block is followed by its Rust counterpart.
#[test]
fn every_block_is_tested_and_has_its_counterpart() {
    let blocks = guide::blocks();
    for block in &blocks {
        let known = ["python", "rust", "text", "json", "toml", "console"];
        assert!(known.contains(&&*block.language), "docs/guide.md:{}: {}", block.line, block.language);
    }
    for pair in blocks.windows(2).filter(|pair| pair[0].language == "python") {
        assert_eq!(pair[1].language, "rust", "docs/guide.md:{}", pair[1].line);
    }
}

#[test]
fn every_example_is_run_and_every_policy_file_loads() {
    for file in fs::read_dir(guide::root().join(EXAMPLES)).unwrap() {
        let file = file.unwrap();
        let name = file.file_name().into_string().unwrap();
        // Directories have the files of other pages.
        if name == "README.md" || file.path().is_dir() {
            continue;
        }
        match name.rsplit_once('.').unwrap() {
            (_, "rs") => assert!(PROGRAMS.iter().any(|(known, _)| *known == name), "{name} is not run"),
            (_, "json") => {
                let text = fs::read_to_string(file.path()).unwrap();
                SyncPolicy::from_json(&text).unwrap_or_else(|e| panic!("{name}: {e}"));
            }
            _ => panic!("{name}: what is it?"),
        }
    }
}
