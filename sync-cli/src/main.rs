//! The `ctxsync` program.

mod app;
mod args;
mod commands;
mod complete;
mod config;
mod errors;
mod exit;
mod extract_limits;
mod input;
mod means;
mod metrics;
mod open_store;
mod output;
mod owner;
mod place;
mod policy;
mod retention;
mod run;
mod text;
mod usage;
mod values;

use std::process::ExitCode;

#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    app::main(std::env::args_os())
}
