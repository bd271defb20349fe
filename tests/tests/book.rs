//! The pages of docs/ form a book: each page is in its contents, each link leads somewhere, and what a page shows
//! of a file is in that file.
#![expect(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use ctxsync_tests::guide::{self, files_below, pages};
use policy_core::{Scope, SyncPolicy, TreePath};
use regex::Regex;

fn read(page: &str) -> String {
    fs::read_to_string(guide::root().join(page)).unwrap_or_else(|e| panic!("{page}: {e}"))
}

/// Returns the lines of a page that are not code, each with its number, and without code in the line.
fn prose(text: &str) -> Vec<(usize, String)> {
    let code = Regex::new(r"`[^`]*`").unwrap();
    let mut fenced = false;
    let mut lines = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        if !fenced && !fence {
            lines.push((index + 1, code.replace_all(line, "``").into_owned()));
        }
    }
    lines
}

/// Returns the targets of a page's links and pictures, each with its line.
fn links(text: &str) -> Vec<(usize, String)> {
    // A link may be cut by the end of a line, but its target is not.
    let target = Regex::new(r#"\]\(([^()\s]+)\)|(?:src|href)="([^"]+)""#).unwrap();
    let lines = prose(text);
    let found = lines.iter().flat_map(|(line, text)| target.captures_iter(text).map(move |c| (*line, c)));
    found.map(|(line, c)| (line, c.get(1).or(c.get(2)).unwrap().as_str().to_owned())).collect()
}

/// Returns the names by which links reach the headings of a page, on code hosts and in the book.
fn anchors(text: &str) -> BTreeSet<String> {
    let link = Regex::new(r"\[([^\]]*)\]\([^)]*\)").unwrap();
    let mut seen: HashMap<String, usize> = HashMap::new();
    let mut anchors = BTreeSet::new();
    let mut fenced = false;
    for line in text.lines() {
        fenced ^= line.starts_with("```");
        let title = line.trim_start_matches('#');
        if fenced || title == line || !title.starts_with(' ') {
            continue;
        }
        let title = link.replace_all(title.trim(), "$1").to_lowercase();
        let kept = title.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        let name: String = kept.map(|c| if c == ' ' { '-' } else { c }).collect();
        let before = seen.entry(name.clone()).or_default();
        anchors.insert(if *before == 0 { name } else { format!("{name}-{before}") });
        *before += 1;
    }
    anchors
}

/// Returns what is wrong with a link on a page.
fn mistake(page: &str, target: &str) -> Option<String> {
    let (path, anchor) = target.split_once('#').map_or((target, None), |(path, name)| (path, Some(name)));
    let root = guide::root();
    let file = match path {
        "" => root.join(page),
        path => root.join(page).parent().unwrap().join(path),
    };
    let Ok(file) = file.canonicalize() else { return Some("leads nowhere".to_owned()) };
    // A page of the book can link only to what is in the book.
    if page.starts_with("docs/") && !file.starts_with(root.join("docs")) {
        return Some("leaves docs/".to_owned());
    }
    // The book has no page for a directory without one.
    if page.starts_with("docs/") && file.is_dir() {
        return Some("leads to a directory: link to its README.md".to_owned());
    }
    let anchor = anchor?;
    let found = anchors(&fs::read_to_string(&file).unwrap());
    (!found.contains(anchor)).then(|| format!("no heading of {found:?}"))
}

#[test]
fn every_link_leads_somewhere() {
    let mut wrong = Vec::new();
    let mut followed = 0;
    for page in pages().into_iter().chain(["README.md", "ARCHITECTURE.md"].map(str::to_owned)) {
        for (line, target) in links(&read(&page)) {
            if target.contains("://") {
                continue;
            }
            followed += 1;
            wrong.extend(mistake(&page, &target).map(|what| format!("{page}:{line}: {target}: {what}")));
        }
    }
    assert!(followed > 100, "only {followed} links were found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_page_is_in_the_contents_once() {
    let listed: Vec<_> =
        links(&read("docs/SUMMARY.md")).into_iter().map(|(_, to)| format!("docs/{to}")).collect();
    let mut sorted = listed.clone();
    sorted.sort();
    let mut pages = pages();
    pages.retain(|page| page != "docs/SUMMARY.md");
    pages.sort();
    assert_eq!(sorted, pages);
}

/// A block whose fence names a file, as in "```yaml docs/examples/run/kubernetes.yaml", shows some lines of it, or
/// all. It may be indented less.
#[test]
fn every_excerpt_is_in_its_file() {
    let mut wrong = Vec::new();
    for page in pages() {
        // Those of the guide are parts of programs, and have a test of their own.
        if page == "docs/guide.md" {
            continue;
        }
        for block in guide::blocks_of(&page).iter().filter(|block| block.origin.starts_with("docs/")) {
            let text = read(&block.origin);
            let (lines, shown): (Vec<_>, Vec<_>) = (text.lines().collect(), block.body.lines().collect());
            let found = lines.windows(shown.len().max(1)).any(|some| outdented(some) == outdented(&shown));
            if !found {
                wrong.push(format!("{page}:{}: {} has no such lines", block.line, block.origin));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Returns lines without the indentation that they have in common.
fn outdented<'a>(lines: &[&'a str]) -> Vec<&'a str> {
    let indent = |line: &&str| line.len() - line.trim_start().len();
    let least = lines.iter().filter(|line| !line.trim().is_empty()).map(indent).min().unwrap_or(0);
    lines.iter().map(|line| line.get(least..).unwrap_or_default()).collect()
}

/// For each policy of docs/examples/presets: paths that it takes, and paths that it leaves out.
const PRESETS: [(&str, &[&str], &[&str]); 6] = [
    (
        "chromium.json",
        &[
            "Local State",
            "Default/Cookies",
            "Default/Local Storage/leveldb/000003.log",
            "Default/Preferences",
        ],
        &[
            "SingletonLock",
            "ShaderCache/index",
            "Default/Cache/data_0",
            "Default/Code Cache/js/index",
            "Default/GPUCache/a",
            "Default/Local Storage/leveldb/LOCK",
            "Crashpad/a",
        ],
    ),
    (
        "claude-code.json",
        &[
            ".claude.json",
            ".claude/settings.json",
            ".claude/projects/-workspace/1.jsonl",
            ".claude/skills/a/SKILL.md",
        ],
        &[
            ".claude/.credentials.json",
            ".claude/shell-snapshots/a",
            ".claude/debug/a",
            ".ssh/id_ed25519",
            ".claude.json.backup",
        ],
    ),
    (
        "codex.json",
        &[
            ".codex/config.toml",
            ".codex/sessions/2026/11/29/rollout-1.jsonl",
            ".codex/history.jsonl",
            ".codex/state_5.sqlite",
        ],
        &[".codex/auth.json", ".codex/log/codex-tui.log", ".codex/packages/a", ".bash_history"],
    ),
    (
        "firefox.json",
        &["cookies.sqlite", "logins.json", "key4.db", "storage/default/a/ls/data.sqlite", "prefs.js"],
        &["lock", ".parentlock", "cache2/entries/A", "startupCache/a", "datareporting/a"],
    ),
    (
        "training.json",
        &["checkpoint", "model/step-100.safetensors"],
        &["checkpoint.tmp", "wandb/run-1/a", "src/__pycache__/a.pyc"],
    ),
    (
        "workspace.json",
        &["src/main.rs", ".git/HEAD", ".env.example", "notes/a.md"],
        &[
            ".env",
            ".env.local",
            "app/.env",
            "app/node_modules/a.js",
            "target/debug/a",
            "id_ed25519",
            "run.log",
        ],
    ),
];

#[test]
fn every_preset_decides_as_its_page_says() {
    let presets = files_below("docs/examples/presets");
    assert_eq!(presets, PRESETS.map(|(name, ..)| format!("docs/examples/presets/{name}")));
    for (name, taken, left_out) in PRESETS {
        let policy = SyncPolicy::from_json(&read(&format!("docs/examples/presets/{name}"))).unwrap();
        let scope = Scope::new(&policy, b"/home/me").unwrap();
        let decide = |path: &&str| scope.decide(&path.parse::<TreePath>().unwrap(), false);
        for (path, expected) in
            taken.iter().map(|path| (path, true)).chain(left_out.iter().map(|path| (path, false)))
        {
            let decision = decide(path);
            assert_eq!(decision.in_scope, expected, "{name}: {path}: {}", decision.rule);
        }
    }
}

/// docs/why.md repeats some figures of docs/performance.md, which are measured anew now and then.
#[test]
fn the_figures_beside_other_tools_are_those_that_were_measured() {
    let why = read("docs/why.md");
    let (_, rest) = why.split_once("<!-- these figures").unwrap();
    let (table, _) = rest.split_once("<!-- end of figures -->").unwrap();
    let performance = read("docs/performance.md");
    let mut rows = 0;
    for row in table.lines().filter(|line| line.starts_with("| D")) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let (cell, what) = cells[0].split_once(':').unwrap_or((cells[0], ""));
        // What is stored and the requests are in the table of the same operation.
        let (heading, what) = match cell {
            "D1 stored" => ("D1 nothing changed, S3".to_owned(), "stored"),
            cell => (format!("{cell}, S3"), what.trim()),
        };
        let (_, section) =
            performance.split_once(&format!("### {heading}\n")).unwrap_or_else(|| panic!("{heading}"));
        let section = section.split("\n### ").next().unwrap();
        let head: Vec<&str> =
            section.lines().find(|line| line.starts_with("| | runs")).unwrap().split('|').collect();
        let column = if what.is_empty() { "wall s" } else { what };
        let column = head.iter().position(|name| name.trim() == column).unwrap();
        for (tool, figure) in ["ctxsync ", "restic ", "rclone ", "s5cmd "].into_iter().zip(&cells[1..]) {
            let line = section.lines().find(|line| line.starts_with(&format!("| {tool}")));
            let measured = line.map(|line| line.split('|').nth(column).unwrap().trim());
            let measured = measured.map(|cell| cell.split(" (").next().unwrap()).unwrap_or_default();
            assert_eq!(*figure, measured, "{}, {tool}", cells[0]);
            rows += 1;
        }
    }
    assert_eq!(rows, 32);
}

/// Who adds a file has to tell its readers of it.
#[test]
fn every_example_and_picture_is_on_a_page() {
    let linked: BTreeSet<PathBuf> = pages()
        .into_iter()
        .chain(["README.md".to_owned()])
        .flat_map(|page| {
            let dir = guide::root().join(&page).parent().unwrap().to_owned();
            links(&read(&page)).into_iter().filter_map(move |(_, to)| dir.join(to).canonicalize().ok())
        })
        .collect();
    let files = files_below("docs").into_iter().filter(|file| {
        let extension = Path::new(file).extension().unwrap_or_default();
        file.starts_with("docs/examples/") || extension == "svg"
    });
    let missing: Vec<_> =
        files.filter(|file| !linked.contains(&guide::root().join(file).canonicalize().unwrap())).collect();
    assert!(missing.is_empty(), "no page links to {missing:?}");
}

#[test]
fn links_and_headings_are_found() {
    let text =
        "# A `b`: c\n[x](y.md#z) `[no](no)`\n```sh\n# no\n[no](no)\n```\n## [D](e)-f\n![p](p.svg)\n# A b c\n";
    let found: Vec<_> = links(text).into_iter().map(|(line, to)| format!("{line} {to}")).collect();
    assert_eq!(found, ["2 y.md#z", "7 e", "8 p.svg"]);
    assert_eq!(anchors(text), ["a-b-c", "a-b-c-1", "d-f"].map(str::to_owned).into());
}
