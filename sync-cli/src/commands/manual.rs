//! `man`: the manual pages.

use std::fmt::Write as _;
use std::io;
use std::path::Path;

use clap_mangen::Man;

use super::Finished;
use crate::args::{self, ManArgs, variable};
use crate::errors::Failure;
use crate::means::Means;

/// Calls for the pages of commands: what each does, and the call.
const EXAMPLES: [(&str, &[(&str, &str)]); 14] = [
    (
        "run",
        &[
            (
                "An agent in a container, with thirty seconds to live after SIGTERM",
                "ctxsync run -c user-42 --release-timeout 25s -- agent",
            ),
            (
                "A job that needs its files before it begins",
                "ctxsync run -c models --wait --read-only /data -- python train.py",
            ),
            (
                "An attempt that is thrown away unless it succeeds",
                "ctxsync run -c try-7 --fork-from base --ephemeral --keep-if-ok -- make test",
            ),
        ],
    ),
    ("watch", &[("Save a directory while other programs work in it", "ctxsync watch notes ~/notes")]),
    (
        "push",
        &[
            ("Save this directory", "ctxsync push project ."),
            ("Show what would be saved, and why", "ctxsync push project . -n -v"),
            ("Leave files out", "ctxsync push project . --exclude node_modules/ --exclude '*.log'"),
        ],
    ),
    (
        "pull",
        &[
            ("Fill a directory", "ctxsync pull project ./project"),
            ("Only a part of it", "ctxsync pull project ./project --only docs"),
        ],
    ),
    ("sync", &[("Pull, then push", "ctxsync sync project .")]),
    ("log", &[("What has changed", "ctxsync log project")]),
    ("restore", &[("The files of yesterday, beside those of today", "ctxsync restore project@-1 ./before")]),
    (
        "diff",
        &[
            ("What the last push has changed", "ctxsync diff project@-1 project"),
            ("What is not saved yet", "ctxsync diff project ."),
        ],
    ),
    ("cat", &[("One file of an older snapshot", "ctxsync cat project@7:src/main.rs")]),
    ("fork", &[("A new context that begins as another", "ctxsync context fork base try-1")]),
    ("merge", &[("Take over what an attempt has changed", "ctxsync context merge try-1 base")]),
    ("gc", &[("Keep a week of days, and delete what is not needed", "ctxsync gc --keep-daily 7")]),
    ("check", &[("Read and verify a tenth of all data", "ctxsync check --read-data=10%")]),
    ("copy", &[("To another bucket", "ctxsync copy s3://work/ctx gs://backup/ctx")]),
];

/// The exit codes, as in `docs/cli.md`.
const EXITS: [(&str, &str); 9] = [
    ("0", "Done."),
    ("1", "Failed."),
    ("2", "Wrong usage, or a bad policy or config."),
    ("3", "Done, but incomplete: some paths failed, or a deadline left a partial snapshot."),
    ("4", "Done, with conflicts that were kept; or stopped by --conflict fail."),
    ("8", "Done, but deletions were held back."),
    ("10", "No such store, context, snapshot or path."),
    ("11", "Other writers kept winning; nothing was written."),
    ("130, 143", "Stopped by SIGINT or SIGTERM; what could be pushed was pushed."),
];

pub(super) fn man(args: &ManArgs, means: Means<'_>) -> Result<Finished, Failure> {
    let mut command = args::command().disable_help_subcommand(true);
    command.build();
    std::fs::create_dir_all(&args.dir)
        .and_then(|()| write_below(&command, &args.dir))
        .map_err(|error| Failure::local("write the manual into", &args.dir, &error))?;
    means.ui.note(&format!("wrote the manual pages to {}", args.dir.display()));
    Ok(Finished::default())
}

/// Writes the page of a command, and those of its subcommands.
fn write_below(command: &clap::Command, dir: &Path) -> io::Result<()> {
    let man = Man::new(command.clone());
    let mut page = Vec::new();
    man.render(&mut page)?;
    page.extend(sections(command).into_bytes());
    std::fs::write(dir.join(man.get_filename()), page)?;
    command
        .get_subcommands()
        .filter(|below| !below.is_hide_set())
        .try_for_each(|below| write_below(below, dir))
}

/// Returns the sections that the generator does not know, in the language of man(7).
fn sections(command: &clap::Command) -> String {
    let mut text = String::new();
    if let Some((_, examples)) = EXAMPLES.iter().find(|(name, _)| *name == command.get_name()) {
        text.push_str(".SH EXAMPLES\n");
        for (what, call) in *examples {
            entry(&mut text, call, &format!("{what}."));
        }
    }
    let long = command.get_arguments().filter_map(|arg| Some((arg.get_long()?, arg)));
    text.push_str(".SH ENVIRONMENT\n");
    for (long, arg) in long.filter(|(long, _)| !matches!(*long, "help" | "version")) {
        let default: Vec<_> = arg.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
        let default = match default.join(", ") {
            default if default.is_empty() || !arg.get_action().takes_values() => String::new(),
            default => format!(" The default is {default}."),
        };
        entry(&mut text, &variable(long), &format!("Stands for --{long}.{default}"));
    }
    text.push_str(".SH EXIT STATUS\n");
    EXITS.iter().for_each(|(code, what)| entry(&mut text, code, what));
    text
}

/// Adds a term and what it means.
fn entry(text: &mut String, term: &str, what: &str) {
    // Writing to a string does not fail.
    let _ = writeln!(text, ".TP\n\\fB{}\\fR\n{}", escaped(term), escaped(what));
}

/// A backslash, a hyphen, and a dot or quote in front have meanings in man(7).
fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\\\").replace('-', "\\-");
    if text.starts_with(['.', '\'']) { format!("\\&{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_are_understood() {
        for (name, examples) in EXAMPLES {
            for (_, call) in examples {
                let words = call.replace('\'', "");
                let matches = args::command().try_get_matches_from(words.split(' '));
                let matches = matches.unwrap_or_else(|e| panic!("{call}: {e}"));
                let (first, below) = matches.subcommand().unwrap();
                let second = below.subcommand_name();
                assert!(first == name || second == Some(name), "{call}");
            }
        }
    }

    #[test]
    fn what_has_a_meaning_in_a_page_is_escaped() {
        assert_eq!(escaped("a-b\\c"), "a\\-b\\\\c");
        assert_eq!([escaped(".x"), escaped("'x")], ["\\&.x", "\\&'x"]);
    }
}
