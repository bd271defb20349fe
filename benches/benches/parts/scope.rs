//! Scope decisions: of how many paths a second a policy says whether they take part.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group};
use ctxsync_benches::{PROJECT, paths};
use policy_core::{BwList, Scope, SyncPolicy, WhiteList};

use super::config;

const MOUNT: &[u8] = b"/home/user/project";
const PATHS: usize = 100_000;

/// Ten directories, each without two of its places.
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

/// Ten expressions, each with an expression of what is left out.
fn expressions() -> BwList {
    let list = |dir: &&str| WhiteList {
        path: format!(r"{dir}/.*\.(js|rs|json)"),
        exclude_paths: vec![format!(r"{dir}/module-\d*7/.*")],
        is_path_regex: true,
        is_exclude_regex: true,
    };
    BwList { white_lists: PROJECT.iter().take(10).map(list).collect(), ignore_patterns: vec![] }
}

/// The whole mount, without what ten patterns ignore.
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

/// Ten lists and ten patterns.
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
        // A policy that holds everything or nothing would measure another thing than its name says.
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
