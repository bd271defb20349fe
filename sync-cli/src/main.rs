//! The `ctxsync` program.
fn main() {}
