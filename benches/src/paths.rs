//! The paths of a project.

use policy_core::TreePath;

use crate::Random;

/// The top directories of a project, all of about the same size.
pub const PROJECT: [&str; 12] =
    ["api", "app", "assets", "build", "core", "data", "docs", "packages", "scripts", "tests", "tools", "web"];
/// The directories of a module's files.
const INNER: [&str; 6] = ["", "lib/", "lib/internal/", "dist/cjs/", "dist/esm/", "node_modules/.cache/"];
const ENDINGS: [&str; 8] = [".js", ".js", ".d.ts", ".js.map", ".json", ".md", ".log", ".rs"];
/// Files of one module, as in an installed npm package.
const MODULE: usize = 25;

/// Returns `count` different paths of files, in tree order.
pub fn paths(count: usize) -> Vec<TreePath> {
    let mut random = Random::new(1);
    let mut paths: Vec<TreePath> = (0..count)
        .map(|n| {
            let module = n / MODULE;
            let top = PROJECT[module % PROJECT.len()];
            let inner = INNER[random.below(6) as usize];
            let ending = ENDINGS[random.below(8) as usize];
            let file = random.below(1000);
            format!("{top}/module-{module:04}/{inner}part-{file:03}-{n}{ending}").parse().unwrap()
        })
        .collect();
    paths.sort();
    paths
}
