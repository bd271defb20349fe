//! Real trees, fetched by the package clients as they are set up here.

use std::path::Path;
use std::process::Command;

use crate::Result;
use crate::measure::prepare;

/// A large framework with all that it needs.
const NPM_PACKAGE: &str = "react-scripts@5.0.1";
/// A source tree, and the version that came next.
const PYTHON_PACKAGES: [&str; 2] = ["Django==5.1.4", "Django==5.1.5"];

pub(super) fn npm_tree(tree: &Path) -> Result<()> {
    let mut npm = Command::new("npm");
    npm.args(["install", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix"]).arg(tree);
    npm.arg(NPM_PACKAGE);
    prepare(npm, &logs(tree))
}

pub(super) fn two_versions(tree: &Path, next: &Path) -> Result<()> {
    for (package, dir) in PYTHON_PACKAGES.iter().zip([tree, next]) {
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "install", "-q", "--no-deps", "--no-compile", "--only-binary", ":all:"]);
        pip.args(["--ignore-installed", "--target"]).arg(dir).arg(package);
        prepare(pip, &logs(tree))?;
    }
    Ok(())
}

fn logs(tree: &Path) -> std::path::PathBuf {
    tree.with_extension("logs")
}
