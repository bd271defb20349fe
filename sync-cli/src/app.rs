//! From arguments to an exit code.

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;

use clap::error::ErrorKind;
use clap::{ArgMatches, FromArgMatches};

use crate::args::{self, Cli, Color, Command};
use crate::commands::{self, Finished};
use crate::complete;
use crate::config::Settings;
use crate::errors::Failure;
use crate::exit::Exit;
use crate::output::json::Line;
use crate::output::summary::{Summary, sentence};
use crate::output::{Manner, Ui, advise, note_usage};
use crate::run::{self, Signals};
use crate::usage;

/// Runs the program.
pub(crate) fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<_> = args.into_iter().collect();
    if let Some(exit) = complete::answer(&args) {
        return exit.into();
    }
    say_panics();
    let parsed = args::command()
        .try_get_matches_from(&args)
        .and_then(|matches| Cli::from_arg_matches(&matches).map(|cli| (cli, matches)));
    let (cli, matches) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => return not_understood(usage::reworded(error, &args), &args).into(),
    };
    let name = name(&cli.command);
    let early_ui = Arc::new(Ui::new(early_manner(&cli)));
    // Signals are handled from here on, because reading the config file may already hang.
    run::raise_open_files();
    let signals = look_for_randomness().and_then(|()| Signals::listen());
    speak(&signals, &early_ui, name);
    let settings = match Settings::resolve(&cli.shared, &cli.command, innermost(&matches)) {
        Ok(settings) => settings,
        Err(failure) => return end(&early_ui, name, Err(failure), false).into(),
    };
    crate::text::show(settings.bytes.value, settings.utc.value);
    let ui = Arc::new(Ui::new(manner(&settings, &cli.command)));
    speak(&signals, &ui, name);
    if let (true, Ok(signals)) = (ui.is_paged(), &signals) {
        signals.leave_interrupts_to_the_pager();
    }
    for warning in usage::unknown_variables(std::env::vars_os().map(|(name, _)| name)) {
        ui.warning(&warning);
    }
    let outcome = match init_log(&settings) {
        Ok(()) => commands::execute(&cli.command, &settings, &ui, signals),
        Err(failure) => Err(failure),
    };
    let document = cli.command.is_document();
    end(&ui, name, outcome, document).into()
}

/// Checks that the system has random numbers. Hash tables and snapshots need them, and would fail later with
/// a worse message.
fn look_for_randomness() -> Result<(), Failure> {
    getrandom::fill(&mut [0; 16]).map_err(|error| {
        Failure::new(Exit::FAILED, "the system gives no random numbers")
            .caused_by(&error)
            .hint("getrandom(2) is blocked, for example by a sandbox's filter")
    })
}

/// Lets `ui` print the final message when the program is killed.
fn speak(signals: &Result<Signals, Failure>, ui: &Arc<Ui>, command: &'static str) {
    if let Ok(signals) = signals {
        let ui = Arc::clone(ui);
        signals.speak_through(Box::new(move |failure| last_words(&ui, command, failure)));
    }
}

/// Prints the failure, and the summary, of a program that has no time left.
fn last_words(ui: &Ui, command: &str, failure: &Failure) {
    ui.failure(failure);
    if ui.is_json() {
        let (context, report) = (ui.known().context(), ui.known().report());
        ui.last_object(&Line::Summary(&Summary::new(
            command,
            context,
            &report,
            false,
            ui.took(),
            failure.exit,
        )));
    }
    ui.flush();
}

/// Makes a panic end like any failure. This code should not panic, but the standard library does in rare
/// cases, for example when the system refuses a thread.
fn say_panics() {
    std::panic::set_hook(Box::new(|panic| {
        if run::is_refusal() {
            return;
        }
        let what = panic.payload_as_str().unwrap_or("it does not say what");
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let text = format!(
            "error: an internal error: {what}\ncaused by: {place}\nhint: no partial change remains; run the command again, and report the error if it persists\n"
        );
        let _ = std::io::stderr().write_all(text.as_bytes());
        if std::thread::current().name() == Some("main") {
            // Other threads may still run, and nobody would wait for them.
            std::process::exit(Exit::FAILED.0.into());
        }
    }));
}

/// Returns the matches of the innermost subcommand, which has the shared options too.
fn innermost(matches: &ArgMatches) -> &ArgMatches {
    let mut inner = matches;
    while let Some((_, below)) = inner.subcommand() {
        inner = below;
    }
    inner
}

fn manner(settings: &Settings, command: &Command) -> Manner {
    Manner {
        json: settings.json.value,
        quiet: settings.quiet.value,
        verbose: settings.verbose.value,
        progress: !settings.no_progress.value,
        color: settings.color.value,
        paged: !settings.no_pager.value && command.is_paged(),
        stderr_only: matches!(command, Command::Run(_)),
        // A session has signals, deadlines and checkpoints to keep. Any other command may wait for its reader.
        droppable: matches!(command, Command::Run(_) | Command::Watch(_)),
    }
}

/// Returns how to print if the settings are invalid.
fn early_manner(cli: &Cli) -> Manner {
    Manner {
        json: cli.shared.json,
        quiet: cli.shared.quiet,
        verbose: cli.shared.verbose,
        progress: false,
        color: cli.shared.color.unwrap_or(Color::Auto),
        paged: false,
        stderr_only: matches!(cli.command, Command::Run(_)),
        droppable: false,
    }
}

/// Reports invalid arguments. Also prints what `--help` and `--version` ask for.
fn not_understood(error: clap::Error, args: &[OsString]) -> Exit {
    if error.exit_code() == 0 {
        return shown(&error);
    }
    let harmless = |text: &str| text.lines().map(policy_core::escape_text).collect::<Vec<_>>().join("\n");
    let text = harmless(&error.to_string());
    // If the reader is gone, there is nothing left to do.
    let _ = writeln!(std::io::stderr(), "{text}");
    if let Some(hint) = usage::hint(&error, args) {
        let _ = writeln!(std::io::stderr(), "hint: {hint}");
    }
    // The flags could not be parsed, but a caller that reads JSON still needs the last line.
    let before_command = args.iter().skip(1).take_while(|arg| *arg != "--");
    let json = before_command.clone().any(|arg| arg == "--json")
        || std::env::var("CTXSYNC_JSON").is_ok_and(|v| matches!(v.as_str(), "1" | "true" | "yes" | "on"));
    if json && error.kind() != ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let command = meant(args);
        let stderr_only = command == "run";
        let manner = Manner {
            json: true,
            quiet: true,
            verbose: 0,
            progress: false,
            color: Color::Never,
            paged: false,
            stderr_only,
            droppable: false,
        };
        let text = error.to_string();
        // Clap lists missing arguments on lines of their own.
        let lines: Vec<_> = text.lines().take_while(|line| !line.is_empty()).map(str::trim).collect();
        let message = lines.join(" ");
        let message = message.trim_start_matches("error: ");
        let failure = Failure::usage(message);
        let failure = match usage::hint(&error, args) {
            Some(hint) => failure.hint(hint),
            None => failure,
        };
        return end(&Ui::new(manner), &command, Err(failure), false);
    }
    Exit::USAGE
}

/// Prints what `--help` or `--version` asks for.
fn shown(error: &clap::Error) -> Exit {
    match error.print().and_then(|()| std::io::stdout().flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            let manner = Manner {
                json: false,
                quiet: true,
                verbose: 0,
                progress: false,
                color: Color::Auto,
                paged: false,
                stderr_only: true,
                droppable: false,
            };
            Ui::new(manner).failure(&no_output(&error));
            Exit::FAILED
        }
        _ => Exit::DONE,
    }
}

fn no_output(error: &std::io::Error) -> Failure {
    Failure::new(Exit::FAILED, "cannot write the output").caused_by(error)
}

/// Returns the name of the command, as far as it can be told from invalid arguments.
fn meant(args: &[OsString]) -> String {
    let Ok(matches) = args::command().ignore_errors(true).try_get_matches_from(args) else {
        return String::new();
    };
    let mut names = Vec::new();
    let mut inner = &matches;
    while let Some((name, below)) = inner.subcommand() {
        names.push(name);
        inner = below;
    }
    names.join(" ")
}

/// Prints the result, and returns the exit code.
fn end(ui: &Ui, command: &str, outcome: Result<Finished, Failure>, document: bool) -> Exit {
    let (mut exit, outcome) = match outcome {
        Ok(outcome) => (outcome.exit, outcome),
        Err(failure) => {
            tracing::error!("{}", failure.headline());
            ui.failure(&failure);
            let report = failure.report.map(|report| *report).unwrap_or_else(|| ui.known().report());
            (
                failure.exit,
                Finished { exit: failure.exit, report: Some(report), failed: true, ..Finished::default() },
            )
        }
    };
    let took = ui.took();
    ui.tell_dropped();
    if ui.is_json() {
        // A document needs no summary, unless it failed.
        if !document || outcome.failed {
            let context = outcome.context.clone().or_else(|| ui.known().context());
            let mut report = outcome.report.clone().unwrap_or_default();
            if outcome.deed.is_none() {
                // Commands other than syncs do not count requests themselves.
                note_usage(&mut report, ui.known().usage());
            }
            let mut summary = Summary::new(command, context, &report, outcome.dry_run, took, exit);
            summary.collected = outcome.collected;
            summary.checked = outcome.checked;
            summary.repaired = outcome.repaired;
            summary.copied = outcome.copied;
            summary.compared = outcome.compared;
            ui.last_object(&Line::Summary(&summary));
        }
    } else if let (Some(deed), Some(report)) = (outcome.deed, &outcome.report) {
        let line = sentence(deed, report, outcome.dry_run, took, ui.columns());
        ui.line(&line);
        advise(ui, report);
    }
    if let Err(error) = ui.finish()
        && exit == Exit::DONE
    {
        ui.failure(&no_output(&error));
        ui.flush();
        exit = Exit::FAILED;
    }
    exit
}

/// Writes the log to the file that the settings name, if any. Without one nothing is logged; the user sees
/// warnings and errors anyway.
fn init_log(settings: &Settings) -> Result<(), Failure> {
    let Some(path) = &settings.log_file.value else { return Ok(()) };
    let mut options = std::fs::OpenOptions::new();
    // A log has names of files and keys of objects, so only the user may read it.
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.create(true).append(true).open(path).map_err(|error| {
        Failure::usage(format!("cannot write the log {}", path.display())).caused_by(&error)
    })?;
    let level = match settings.verbose.value {
        0 => "info",
        1 => "debug",
        _ => "trace",
    };
    // The HTTP libraries log too much to be useful, and maybe headers with secrets.
    let filter =
        format!("warn,ctxsync={level},transfer_engine={level},storage_backends={level},policy_core={level}");
    let log = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_env_filter(tracing_subscriber::EnvFilter::new(filter))
        .with_writer(std::sync::Mutex::new(file))
        .finish();
    // Only a test can have set a subscriber already.
    let _ = tracing::subscriber::set_global_default(log);
    Ok(())
}

/// Returns the name of the command for the summary.
fn name(command: &Command) -> &'static str {
    use crate::args::{
        ContextCommand as Context, PlanDirection, PolicyCommand as Policy, StoreCommand as Store,
    };
    match command {
        Command::Run(_) => "run",
        Command::Watch(_) => "watch",
        Command::Fetch(_) => "fetch",
        Command::Pull(_) => "pull",
        Command::Push(_) => "push",
        Command::Sync(_) => "sync",
        Command::Plan(plan) if plan.direction == PlanDirection::Push => "plan push",
        Command::Plan(_) => "plan pull",
        Command::Status(_) => "status",
        Command::Explain(_) => "explain",
        Command::Context(Context::Create(_)) => "context create",
        Command::Context(Context::List(_)) => "context list",
        Command::Context(Context::Show(_)) => "context show",
        Command::Context(Context::Fork(_)) => "context fork",
        Command::Context(Context::Merge(_)) => "context merge",
        Command::Context(Context::Revert(_)) => "context revert",
        Command::Context(Context::Rename(_)) => "context rename",
        Command::Context(Context::Clear(_)) => "context clear",
        Command::Context(Context::Delete(_)) => "context delete",
        Command::Context(Context::Tag(_)) => "context tag",
        Command::Context(Context::Untag(_)) => "context untag",
        Command::Ls(_) => "ls",
        Command::Cat(_) => "cat",
        Command::Put(_) => "put",
        Command::Rm(_) => "rm",
        Command::Log(_) => "log",
        Command::Diff(_) => "diff",
        Command::Stats(_) => "stats",
        Command::Restore(_) => "restore",
        Command::Gc(_) => "gc",
        Command::Check(_) => "check",
        Command::Repair(_) => "repair",
        Command::Purge(_) => "purge",
        Command::Copy(_) => "copy",
        Command::Store(Store::Init(_)) => "store init",
        Command::Store(Store::Check) => "store check",
        Command::Policy(Policy::Default) => "policy default",
        Command::Policy(Policy::Preset { .. }) => "policy preset",
        Command::Policy(Policy::Check(_)) => "policy check",
        Command::Policy(Policy::Show(_)) => "policy show",
        Command::Policy(Policy::Schema) => "policy schema",
        Command::Config => "config",
        Command::Completions { .. } => "completions",
        Command::Man(_) => "man",
    }
}
