//! Real trees, fetched by the package clients as they are set up here.

use std::fs::File;
use std::path::Path;
use std::process::Command;

use crate::Result;
use crate::measure::prepare;
use crate::tree;

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

pub(super) fn two_versions(first: &Path, next: &Path) -> Result<()> {
    for (package, dir) in PYTHON_PACKAGES.iter().zip([first, next]) {
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "install", "-q", "--no-deps", "--no-compile", "--only-binary", ":all:"]);
        pip.args(["--ignore-installed", "--target"]).arg(dir).arg(package);
        prepare(pip, &logs(first))?;
    }
    // Some files are written as they are installed. A time alone is no change, and is not kept as one.
    for path in tree::files(next)? {
        let old = first.join(path.strip_prefix(next)?);
        if old.is_file() && tree::expect_same(&old, &path).is_ok() {
            File::options().write(true).open(&path)?.set_modified(old.metadata()?.modified()?)?;
        }
    }
    Ok(())
}

fn logs(tree: &Path) -> std::path::PathBuf {
    tree.with_extension("logs")
}
