//! Wrong arguments and variables, as people can correct them.

use std::collections::BTreeSet;
use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::args::{self, variable};

/// Variables that no option stands for.
const WITHOUT_OPTION: [&str; 1] = ["CTXSYNC_SESSION"];
/// With so many wrong characters, a name may still be the one that was meant.
const NEAR: usize = 2;

/// Returns the error with the typed text escaped, so that it can't pass for text of the program. A value that
/// comes from a variable is blamed on the variable.
pub(crate) fn reworded(mut error: clap::Error, args: &[OsString]) -> clap::Error {
    if let Some(variable) = blamed(&error, args) {
        error.insert(ContextKind::InvalidArg, ContextValue::String(variable));
    }
    let typed: Vec<_> = error
        .context()
        .filter_map(|(kind, value)| match value {
            ContextValue::String(text) => Some((kind, text.clone())),
            _ => None,
        })
        .collect();
    for (kind, text) in typed {
        error.insert(kind, ContextValue::String(policy_core::escape_text(&text).into_owned()));
    }
    // Clap's tip to pass an unknown option as a value does not help here.
    if let Some(ContextValue::StyledStrs(mut tips)) = error.remove(ContextKind::Suggested) {
        tips.retain(|tip| !tip.to_string().contains("as a value"));
        if !tips.is_empty() {
            error.insert(ContextKind::Suggested, ContextValue::StyledStrs(tips));
        }
    }
    with_plain_usage(error, args)
}

/// Returns the variable that an invalid value comes from, if it was not typed.
fn blamed(error: &clap::Error, args: &[OsString]) -> Option<String> {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    let (arg, value) = (text(ContextKind::InvalidArg)?, text(ContextKind::InvalidValue)?);
    // `--max-delete <N|N%>`
    let long = arg.strip_prefix("--")?.split([' ', '=', '[']).next()?;
    let variable = variable(long);
    let is_typed = before_command(args).any(|arg| {
        let arg = arg.to_string_lossy();
        arg.strip_prefix("--").is_some_and(|arg| arg.split('=').next() == Some(long))
    });
    (!is_typed && std::env::var(&variable).is_ok_and(|set| set.contains(value))).then_some(variable)
}

/// Returns what to do about wrong arguments, if that is not obvious.
pub(crate) fn hint(error: &clap::Error, args: &[OsString]) -> Option<String> {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    let mut typed = before_command(args);
    let has_command = args.iter().any(|arg| arg == "--");
    let is_run = typed.any(|arg| arg == "run");
    match error.kind() {
        ErrorKind::MissingRequiredArgument if is_run && has_command && lacks(error, "--context") => {
            Some("the context is given with -c: `ctxsync run -c CONTEXT [DIR] -- COMMAND`".to_owned())
        }
        ErrorKind::MissingRequiredArgument | ErrorKind::UnknownArgument if is_run && !has_command => {
            Some("put `--` before the command: `ctxsync run -c CONTEXT -- COMMAND`".to_owned())
        }
        ErrorKind::UnknownArgument => {
            let option = text(ContextKind::InvalidArg)?.strip_prefix("--")?.split('=').next()?.to_owned();
            let having = paths(|command| command.get_arguments().any(|arg| arg.get_long() == Some(&option)));
            (!having.is_empty()).then(|| format!("--{option} is an option of {}", listed(&having)))
        }
        ErrorKind::InvalidSubcommand => {
            let name = text(ContextKind::InvalidSubcommand)?;
            let below = paths(|command| command.get_name() == name);
            (!below.is_empty()).then(|| format!("the command is {}", listed(&below)))
        }
        ErrorKind::ValueValidation => {
            let is_context = text(ContextKind::InvalidArg)?.starts_with("<CONTEXT");
            let is_dir = text(ContextKind::InvalidValue)?.starts_with(['.', '/', '~']);
            let takes_dir = command_of(args).get_positionals().any(|arg| arg.get_id() == "dir");
            (is_context && is_dir && takes_dir)
                .then(|| "the context comes first, and then the directory".to_owned())
        }
        _ => None,
    }
}

/// Whether an argument is among those that are missing.
fn lacks(error: &clap::Error, argument: &str) -> bool {
    match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::Strings(missing)) => missing.iter().any(|missing| missing.starts_with(argument)),
        _ => false,
    }
}

/// Returns the command that is meant, as far as it can be told from wrong arguments.
fn command_of(args: &[OsString]) -> clap::Command {
    let mut command = args::command();
    command.build();
    let mut typed = before_command(args).filter_map(|arg| arg.to_str());
    while let Some(arg) = typed.next() {
        let is_it = |option: &&clap::Arg| match arg.strip_prefix("--") {
            Some(long) => option.get_long() == Some(long),
            None => arg.strip_prefix('-').is_some_and(|short| short.chars().eq(option.get_short())),
        };
        if command.get_arguments().find(is_it).is_some_and(|option| option.get_action().takes_values()) {
            typed.next();
        } else if let Some(below) = command.find_subcommand(arg) {
            command = below.clone();
        }
    }
    command
}

/// Returns the commands that have something, as they are typed.
fn paths(has: impl Fn(&clap::Command) -> bool) -> Vec<String> {
    fn add(
        command: &clap::Command,
        path: &str,
        has: &dyn Fn(&clap::Command) -> bool,
        found: &mut Vec<String>,
    ) {
        for command in command.get_subcommands().filter(|command| !command.is_hide_set()) {
            let path = format!("{path} {}", command.get_name());
            if has(command) {
                found.push(format!("`{path}`"));
            }
            add(command, &path, has, found);
        }
    }
    let mut found = Vec::new();
    add(&args::command(), "ctxsync", &has, &mut found);
    found
}

fn listed(names: &[String]) -> String {
    match names {
        [] => String::new(),
        [name] => name.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

/// Leaves the settings that come from variables out of the usage of a command: they look as if they had to be typed.
fn with_plain_usage(mut error: clap::Error, args: &[OsString]) -> clap::Error {
    if error.get(ContextKind::Usage).is_some() {
        error.insert(ContextKind::Usage, ContextValue::StyledStr(command_of(args).render_usage()));
    }
    error
}

/// Returns the arguments of the program itself.
fn before_command(args: &[OsString]) -> impl Iterator<Item = &OsString> {
    args.iter().skip(1).take_while(|arg| *arg != "--")
}

/// Returns a warning for each variable that begins like one of the program's and is none.
pub(crate) fn unknown_variables(set: impl Iterator<Item = OsString>) -> Vec<String> {
    let mut strange =
        set.filter_map(|name| name.into_string().ok()).filter(|name| name.starts_with("CTXSYNC_")).peekable();
    if strange.peek().is_none() {
        return Vec::new();
    }
    let known = known_variables();
    let strange: BTreeSet<String> = strange.filter(|name| !known.contains(name)).collect();
    let warning = |name: &String| {
        let near = known.iter().map(|known| (strsim::osa_distance(name, known), known));
        let nearest = near.min().filter(|(distance, _)| *distance <= NEAR);
        let meant = nearest.map(|(_, known)| format!("; is `{known}` meant?")).unwrap_or_default();
        format!("the variable `{name}` sets nothing{meant}")
    };
    strange.iter().map(warning).collect()
}

/// Returns the variables of all options of all commands, and the others that the program reads.
fn known_variables() -> BTreeSet<String> {
    fn add(command: &clap::Command, names: &mut BTreeSet<String>) {
        names.extend(command.get_arguments().filter_map(|arg| arg.get_long()).map(variable));
        command.get_subcommands().for_each(|command| add(command, names));
    }
    let mut names = WITHOUT_OPTION.iter().map(ToString::to_string).collect();
    add(&args::command(), &mut names);
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_that_sets_nothing_is_named_with_the_nearest_one() {
        let set = [
            "CTXSYNC_STOR",
            "CTXSYNC_STORE",
            "CTXSYNC_SESSION",
            "CTXSYNC_COLOUR_BLIND",
            "PATH",
            "CTXSYNC_KEEP_LAST",
        ];
        assert_eq!(
            unknown_variables(set.map(OsString::from).into_iter()),
            [
                "the variable `CTXSYNC_COLOUR_BLIND` sets nothing",
                "the variable `CTXSYNC_STOR` sets nothing; is `CTXSYNC_STORE` meant?",
            ]
        );
    }
}
