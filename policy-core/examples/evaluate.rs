//! Prints for each path on stdin whether it is in the scope of a policy, and why.
//!
//! ```text
//! printf 'src/\nsrc/main.rs\n' | cargo run --example evaluate -- POLICY.json [MOUNT]
//! ```
//!
//! A path is relative to the mount; one that ends in `/` is a directory.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "an example is a program of its own")]
#![expect(clippy::disallowed_methods, reason = "the library does no I/O; a program has to")]

use std::error::Error;
use std::io::BufRead;

use policy_core::{Scope, SyncPolicy, TreePath};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let file = args.next().ok_or("usage: evaluate POLICY.json [MOUNT] < PATHS")?;
    let mount = args.next().unwrap_or_else(|| "/".to_owned());

    let text = std::fs::read_to_string(&file)?;
    let policy =
        if file.ends_with(".toml") { SyncPolicy::from_toml(&text)? } else { SyncPolicy::from_json(&text)? };
    let scope = Scope::new(&policy, mount.as_bytes())?;
    for warning in scope.warnings() {
        eprintln!("warning: {warning}");
    }

    // As bytes, because a name need not be UTF-8.
    for line in std::io::stdin().lock().split(b'\n') {
        let line = line?;
        let is_dir = line.ends_with(b"/");
        let path = line.strip_suffix(b"/").unwrap_or(&line);
        match TreePath::new(path) {
            Ok(path) => {
                let decision = scope.decide(&path, is_dir);
                let word = if decision.in_scope { "in " } else { "out" };
                println!("{word} {path}  ({})", decision.rule);
            }
            Err(error) => eprintln!("skipped: {error}"),
        }
    }
    Ok(())
}
