//! Decisions of scope: how many paths a second a policy checks.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group};
use ctxsync_benches::{PROJECT, paths};
use policy_core::{BwList, Scope, SyncPolicy, WhiteList};

use super::config;

const MOUNT: &[u8] = b"/home/user/project";
const PATHS: usize = 100_000;

/// White lists of ten directories, each with two excluded paths.
fn plain_lists() -> BwList {
    let list = |(n, dir): (usize, &&str)| WhiteList {
        path: format!("/home/user/project/{dir}"),
        exclude_paths: vec![
            format!("/module-{n:04}"),
            format!("/home/user/project/{dir}/module-{:04}/dist", n + 12),
        ],
        ..WhiteList::default()
    };
    BwList { white_lists: PROJECT.iter().take(10).enumerate().map(list).collect(), ignore_patterns: vec![] }
}

/// White lists of ten expressions, each with an excluded expression.
fn expressions() -> BwList {
    let list = |dir: &&str| WhiteList {
        path: format!(r"{dir}/.*\.(js|rs|json)"),
        exclude_paths: vec![format!(r"{dir}/module-\d*7/.*")],
        is_path_regex: true,
        is_exclude_regex: true,
    };
    BwList { white_lists: PROJECT.iter().take(10).map(list).collect(), ignore_patterns: vec![] }
}

/// The whole mount, except what ten patterns ignore.
fn patterns() -> BwList {
    let patterns = [
        "*.log",
        "node_modules/",
        "/build",
        "dist/cjs",
        "**/internal/*.map",
        "!keep.log",
        "*.tmp",
        "target/",
        ".cache",
        "*~",
    ];
    BwList { ignore_patterns: patterns.map(str::to_owned).to_vec(), ..BwList::default() }
}

/// Ten white lists and ten patterns.
fn lists_and_patterns() -> BwList {
    BwList { ignore_patterns: patterns().ignore_patterns, ..plain_lists() }
}

fn scope(c: &mut Criterion) {
    let paths = paths(PATHS);
    let mut group = c.benchmark_group("scope");
    group.throughput(Throughput::Elements(PATHS as u64));
    let cases = [
        ("default", BwList::default()),
        ("ten_lists", plain_lists()),
        ("ten_expressions", expressions()),
        ("ten_patterns", patterns()),
        ("ten_lists_ten_patterns", lists_and_patterns()),
    ];
    for (name, bw_list) in cases {
        let policy = SyncPolicy { bw_list, ..SyncPolicy::default() };
        let scope = Scope::new(&policy, MOUNT).unwrap();
        let inside = paths.iter().filter(|p| scope.contains(p, false)).count();
        // If nearly everything or nothing is in scope, the benchmark measures something else than its name
        // says.
        assert!(name == "default" || (PATHS / 20..PATHS * 19 / 20).contains(&inside), "{name}: {inside}");
        group.bench_function(name, |b| {
            b.iter(|| paths.iter().filter(|p| scope.contains(black_box(p), false)).count());
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = config();
    targets = scope
}
