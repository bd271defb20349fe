//! The dialogues of docs/guide.md, docs/start.md and docs/branches.md show what the program really prints.

mod pages;

use std::fs;
use std::process::Command;

use ctxsync_tests::guide::{self, Block};
use regex::Regex;

use crate::world::{Machine, World};

/// Printed after each command, to separate its output from the next one's.
const END: &str = "== end of output ==";

/// What the guide shows instead of values that differ from run to run, and of the home directory.
const STAND_INS: [(&str, &str); 6] = [
    (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?Z?", "<time>"),
    (r"; \d+(\.\d)? s\b", "; <time>"),
    (r"\b\d+(\.\d)? (B|KiB|MiB) (sent|received)\b", "<size> $3"),
    (r"\b\d+(\.\d)? (B|KiB|MiB)/s", "<rate>"),
    (r"s-[0-9a-f]{16}\b", "<session>"),
    (r"\b[0-9a-f]{32}\b", "<id>"),
];

#[test]
fn every_dialogue_is_real() {
    let machine = World::new().machine("me");
    // The guide's reader has the policy files at hand.
    for file in fs::read_dir(guide::root().join("docs/examples")).unwrap() {
        let file = file.unwrap().path();
        if file.extension().is_some_and(|extension| extension == "json") {
            fs::copy(&file, machine.path(file.file_name().unwrap().to_str().unwrap())).unwrap();
        }
    }
    fs::remove_dir(machine.path("work")).unwrap();
    // The dialogues run in the order of the guide, because later ones rely on earlier ones.
    guide::check("console", |block| Some(dialogue(&machine, block)));
}

#[test]
fn the_dialogues_of_branches_are_real() {
    let machine = World::new().machine("me");
    fs::remove_dir(machine.path("work")).unwrap();
    guide::check_page("docs/branches.md", "console", |block| Some(dialogue(&machine, block)));
}

#[test]
fn the_first_five_minutes_are_real() {
    let machine = World::new().machine("me");
    fs::remove_dir(machine.path("work")).unwrap();
    guide::check_page("docs/start.md", "console", |block| Some(dialogue(&machine, block)));
}

#[test]
fn the_recording_of_the_first_minute_is_real() {
    let machine = World::new().machine("me");
    fs::remove_dir(machine.path("work")).unwrap();
    let script = fs::read_to_string(guide::root().join("docs/pictures/record.py")).unwrap();
    let (_, rest) = script.split_once("SETUP = \"\"\"\n").unwrap();
    let (setup, _) = rest.split_once("\"\"\"").unwrap();
    assert_eq!(shell(&machine, &setup.replace("\\\\", "\\")), "");

    let svg = fs::read_to_string(guide::root().join("docs/pictures/first-minute.svg")).unwrap();
    let drawn = svg.lines().filter(|line| line.starts_with("<text"));
    let lines: String = drawn.map(|line| format!("{line}\n")).collect();
    let body = Regex::new("<[^>]*>").unwrap().replace_all(&lines, "").into_owned();
    let body = body.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&");
    let block = Block { language: "console".to_owned(), origin: String::new(), line: 1, body };
    let real = dialogue(&machine, &block);
    assert_eq!(without_values(block.body), real, "docs/pictures/record.py draws it again");
}

/// Returns the dialogue with the same commands and their real output.
fn dialogue(machine: &Machine, block: &Block) -> String {
    let mut commands: Vec<String> = Vec::new();
    for line in block.body.lines() {
        match (line.strip_prefix("$ "), line.strip_prefix("> "), commands.last_mut()) {
            (Some(command), _, _) => commands.push(command.to_owned()),
            (_, Some(more), Some(command)) => command.push_str(&format!("\n{more}")),
            _ => {}
        }
    }
    assert!(!commands.is_empty(), "line {}: no line begins with `$ `", block.line);
    let script: String = commands
        .iter()
        .map(|command| format!("{command}\ncode=$?; printf '%s\\n' '{END}'; (exit $code)\n"))
        .collect();
    let text = shell(machine, &script);
    let outputs: Vec<&str> = text.split(&format!("{END}\n")).collect();
    assert_eq!(outputs.len(), commands.len() + 1, "line {}:\n{text}", block.line);
    let shown = commands.iter().zip(outputs);
    shown.map(|(command, output)| format!("$ {}\n{output}", command.replace('\n', "\n> "))).collect()
}

/// Runs a script in the home directory, with both output streams in one and a clean environment.
fn shell(machine: &Machine, script: &str) -> String {
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_ctxsync"));
    let path = std::env::var("PATH").unwrap_or_default();
    let home = machine.path("");
    let output = Command::new("bash")
        .args(["-c", &format!("exec 2>&1 </dev/null\n{script}")])
        .current_dir(&home)
        .env_clear()
        .env("PATH", format!("{}:{path}", program.parent().unwrap().display()))
        .env("HOME", &home)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    without_values(text.replace(home.to_str().unwrap().trim_end_matches('/'), "/home/me"))
}

/// Returns a text with names for the values that differ from run to run.
fn without_values(mut text: String) -> String {
    for (pattern, stand_in) in STAND_INS {
        text = Regex::new(pattern).unwrap().replace_all(&text, stand_in).into_owned();
    }
    text
}
