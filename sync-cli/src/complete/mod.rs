//! What a shell asks for when the user presses Tab: contexts, tags and paths of the store, beside commands and options.
//!
//! A shell's script calls the program with a variable set and the words of the line; `clap_complete` finds out which
//! argument is meant, and asks [`look`] for those that are in the store. That must not disturb anyone: it takes at most
//! a second (`look::TIME`), prints no error, and can't write to the store.

mod bash;
mod look;

use std::ffi::{OsStr, OsString};
use std::path::Path;

use clap::builder::ValueHint;
use clap::{Arg, Command};
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate, PathCompleter, ValueCompleter};
use clap_complete::env::{Elvish, EnvCompleter, Fish, Powershell, Shells, Zsh};
use clap_complete::{CompleteEnv, Shell};

use crate::args;
use crate::exit::Exit;

/// The variable with the shell's name that tells a call by a shell's script from one by a user.
const VARIABLE: &str = "_CTXSYNC_COMPLETE";
const SHELLS: [&dyn EnvCompleter; 5] = [&bash::Bash, &Elvish, &Fish, &Powershell, &Zsh];

/// Completes a line, if a shell asks for it.
pub(crate) fn answer(args: &[OsString]) -> Option<Exit> {
    std::env::var_os(VARIABLE)?;
    // Whatever happens, nothing may appear in the line that is being typed.
    std::panic::set_hook(Box::new(|_| {}));
    let words: Vec<_> = args.iter().skip_while(|arg| *arg != "--").skip(1).cloned().collect();
    let here = std::env::current_dir().ok();
    let completer = CompleteEnv::with_factory(|| with_completers(args::command(), &words));
    let answered = completer.var(VARIABLE).shells(Shells(&SHELLS)).try_complete(args, here.as_deref());
    Some(if answered.is_ok() { Exit::DONE } else { Exit::FAILED })
}

/// Returns the script that a shell reads once.
pub(crate) fn script(shell: Shell) -> std::io::Result<Vec<u8>> {
    let mut script = Vec::new();
    let name = shell.to_string();
    let known = SHELLS.iter().find(|known| known.is(&name));
    let known = known.ok_or_else(|| std::io::Error::other(format!("no completions for {name}")))?;
    known.write_registration(VARIABLE, "ctxsync", "ctxsync", "ctxsync", &mut script)?;
    Ok(script)
}

/// What of a store an argument may name.
#[derive(Debug, Clone, Copy)]
struct Kind {
    /// Snapshots: `NAME@TAG`.
    tags: bool,
    /// Paths: `NAME:PATH`.
    paths: bool,
    /// Local files and directories as well.
    local: bool,
}

impl Kind {
    /// Returns what an argument of a command may name, if it names contexts that exist.
    fn of(command: &str, arg: &Arg) -> Option<Self> {
        let names = arg.get_value_names().unwrap_or_default();
        let id = arg.get_id().as_str();
        match (command, id) {
            ("create" | "preset", _) | (_, "profile" | "new_name" | "to") => return None,
            ("diff", "a" | "b") => return Some(Self { tags: true, paths: true, local: true }),
            ("explain", "subject") => return Some(Self { tags: false, paths: false, local: true }),
            _ => {}
        }
        let name = names.first()?.as_str();
        let is_context = ["NAME", "CONTEXT", "FROM", "INTO"].iter().any(|begin| {
            name.strip_prefix(begin).is_some_and(|rest| rest.is_empty() || rest.starts_with(['[', '@', ':']))
        });
        is_context.then(|| Self { tags: name.contains('@'), paths: name.contains(":PATH"), local: false })
    }
}

fn with_completers(command: Command, words: &[OsString]) -> Command {
    let name = command.get_name().to_owned();
    // Options are hidden behind what is in the store, unless one is being typed.
    let hides = !words.last().is_some_and(|word| word.as_encoded_bytes().starts_with(b"-"));
    let command = command.disable_help_flag(hides).mut_args(|arg| {
        let arg = if hides && arg.get_long().is_some() { arg.hide(true) } else { arg };
        if let Some(kind) = Kind::of(&name, &arg) {
            return arg.add(ArgValueCompleter::new(OfStore { kind, words: words.to_vec() }));
        }
        match arg.get_value_names().unwrap_or_default() {
            [only] if only.as_str() == "PATH" && arg.get_value_hint() == ValueHint::Unknown => {
                arg.value_hint(ValueHint::AnyPath)
            }
            _ => arg,
        }
    });
    command.mut_subcommands(|below| with_completers(below, words))
}

struct OfStore {
    kind: Kind,
    /// The words of the line, which may name the store.
    words: Vec<OsString>,
}

impl ValueCompleter for OfStore {
    fn complete(&self, current: &OsStr) -> Vec<CompletionCandidate> {
        let mut found: Vec<_> = match current.to_str() {
            Some(current) if !(self.kind.local && Path::new(current).is_absolute()) => {
                look::found(self.kind, current, &self.words)
                    .into_iter()
                    .map(CompletionCandidate::new)
                    .collect()
            }
            _ => Vec::new(),
        };
        if self.kind.local {
            found.extend(PathCompleter::any().complete(current));
        }
        found
    }
}
