//! Every text that the program can show, in one list, so that a change of wording is one diff.
//!
//! The list is read from the sources of the four crates, without their tests. A string literal is in it
//!
//! - if it has a letter and a space, wherever it is in the code: an error, a hint, a warning, a note, a
//!   reason, a line of progress or of a summary, the description of a policy field, a message of the log;
//! - if it has a letter and is in `#[error(...)]`, in an implementation of `Display`, or among the arguments
//!   of a function whose arguments are shown ([`SHOWS`]);
//! - if it is a word, and in a file that prints ([`PRINTS`]).
//!
//! Placeholders have no letters. Assertions and attributes do not count. The help texts of the command line,
//! which are in doc comments and attributes, are in the snapshots of `--help` (tests/cli/help.rs). Names of
//! options, variables and JSON fields are one word, and are in the list only if a file that prints has them.
//!
//! A second test checks that the rules miss nothing: each error, cause, warning, hint and note in the
//! program's snapshots must come from a text of the list.
#![expect(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use proc_macro2::{TokenStream, TokenTree};
use regex::Regex;
use syn::visit::{self, Visit};
use syn::{Attribute, Expr, Item, ItemImpl, LitStr, Macro};
use walkdir::WalkDir;

const CRATES: [&str; 4] = ["policy-core", "transfer-engine", "storage-backends", "sync-cli"];

/// Functions whose arguments are shown, even those of one word. `Error::local` and `Error::store` take the verb of
/// "cannot read FILE", `count` the noun of "3 files".
const SHOWS: [&str; 8] = ["count", "hint", "local", "note", "problem", "store", "warn", "warning"];

/// The files that print.
const PRINTS: [&str; 3] = ["sync-cli/src/commands/", "sync-cli/src/output/", "sync-cli/src/text.rs"];

/// The texts of one file, in order.
#[derive(Default)]
struct Texts {
    found: Vec<String>,
    /// Whether anything with a letter is a text here.
    is_shown: bool,
    /// Whether any word is a text in this file.
    prints: bool,
}

impl Texts {
    fn of(source: &str, prints: bool) -> Vec<String> {
        let mut texts = Self { prints, ..Self::default() };
        texts.visit_file(&syn::parse_file(source).unwrap());
        texts.found
    }

    fn add(&mut self, text: &str) {
        let words = PLACEHOLDER.replace_all(text, "");
        let is_word = || words.chars().all(|c| c.is_ascii_lowercase());
        let counts = self.is_shown || words.contains(' ') || self.prints && is_word();
        if words.contains(char::is_alphabetic) && counts {
            self.found.push(text.replace('\n', "\\n").replace('\t', "\\t"));
        }
    }

    /// Adds the literals of a macro, at any depth.
    fn add_all(&mut self, tokens: TokenStream) {
        for token in tokens {
            match token {
                TokenTree::Group(group) => self.add_all(group.stream()),
                TokenTree::Literal(literal) => {
                    if let Ok(text) = syn::parse_str::<LitStr>(&literal.to_string()) {
                        self.add(&text.value());
                    }
                }
                TokenTree::Ident(_) | TokenTree::Punct(_) => {}
            }
        }
    }

    fn shown(&mut self, is_shown: bool, visit: impl FnOnce(&mut Self)) {
        let before = self.is_shown;
        self.is_shown |= is_shown;
        visit(self);
        self.is_shown = before;
    }
}

static PLACEHOLDER: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\{[^{} ]*\}").unwrap());

fn is_test(attributes: &[Attribute]) -> bool {
    let is_cfg_test = |a: &Attribute| {
        a.path().is_ident("test")
            || a.path().is_ident("cfg") && a.parse_args::<syn::Path>().is_ok_and(|path| path.is_ident("test"))
    };
    attributes.iter().any(is_cfg_test)
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        _ => &[],
    }
}

impl<'ast> Visit<'ast> for Texts {
    fn visit_item(&mut self, item: &'ast Item) {
        if !is_test(attributes(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_impl(&mut self, item: &'ast ItemImpl) {
        let of = item.trait_.as_ref().and_then(|(_, path, _)| path.segments.last());
        let is_display = of.is_some_and(|last| last.ident == "Display");
        self.shown(is_display, |texts| visit::visit_item_impl(texts, item));
    }

    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        if let (true, Ok(list)) = (attribute.path().is_ident("error"), attribute.meta.require_list()) {
            self.shown(true, |texts| texts.add_all(list.tokens.clone()));
        }
    }

    fn visit_expr(&mut self, expr: &'ast Expr) {
        let called = match expr {
            Expr::MethodCall(call) => Some(call.method.to_string()),
            Expr::Call(call) => match &*call.func {
                Expr::Path(path) => path.path.segments.last().map(|last| last.ident.to_string()),
                _ => None,
            },
            _ => None,
        };
        match expr {
            Expr::MethodCall(call) if called.as_deref().is_some_and(|name| SHOWS.contains(&name)) => {
                self.visit_expr(&call.receiver);
                self.shown(true, |texts| call.args.iter().for_each(|arg| texts.visit_expr(arg)));
            }
            _ => {
                let shows = called.is_some_and(|name| SHOWS.contains(&&*name));
                self.shown(shows, |texts| visit::visit_expr(texts, expr));
            }
        }
    }

    fn visit_macro(&mut self, called: &'ast Macro) {
        let name = called.path.segments.last().map(|last| last.ident.to_string()).unwrap_or_default();
        if !name.contains("assert") {
            self.add_all(called.tokens.clone());
        }
    }

    fn visit_lit_str(&mut self, text: &'ast LitStr) {
        self.add(&text.value());
    }
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Returns the texts of each file that has some, with its path in the workspace.
fn all_texts() -> Vec<(String, Vec<String>)> {
    let workspace = workspace();
    let mut all = Vec::new();
    for krate in CRATES {
        for entry in WalkDir::new(workspace.join(krate).join("src")).sort_by_file_name() {
            let entry = entry.unwrap();
            let path = entry.path().strip_prefix(&workspace).unwrap().display().to_string();
            if !path.ends_with(".rs")
                || path.ends_with("/tests.rs")
                || path.ends_with("/fixture.rs")
                || path.contains("/tests/")
            {
                continue;
            }
            let prints = PRINTS.iter().any(|place| path.starts_with(place));
            let texts = Texts::of(&std::fs::read_to_string(entry.path()).unwrap(), prints);
            if !texts.is_empty() {
                all.push((path, texts));
            }
        }
    }
    all
}

#[test]
fn every_text_is_in_one_list() {
    let mut list = String::new();
    for (path, texts) in all_texts() {
        writeln!(list, "\n# {path}\n{}", texts.join("\n")).unwrap();
    }
    insta::assert_snapshot!("texts", list.trim_start());
}

/// Returns the errors, causes, warnings, hints and notes in the program's snapshots.
fn lines_that_are_shown() -> BTreeSet<String> {
    let line = Regex::new(r"^\s*(?:err\| )?(?:error|caused by|warning|hint|note): (.*)$").unwrap();
    let mut shown = BTreeSet::new();
    for entry in WalkDir::new(workspace().join("tests/cli")) {
        let entry = entry.unwrap();
        if entry.path().extension().is_some_and(|e| e == "snap" || e == "rs") {
            let text = std::fs::read_to_string(entry.path()).unwrap();
            shown.extend(text.lines().filter_map(|text| Some(line.captures(text)?[1].to_owned())));
        }
    }
    shown
}

/// Whether a line is a text with its placeholders filled in, or contains such a text that is long enough.
fn comes_from(line: &str, text: &str) -> bool {
    let parts: Vec<&str> = PLACEHOLDER.split(text).collect();
    let letters = parts.iter().flat_map(|part| part.chars()).filter(|c| c.is_alphabetic()).count();
    let is_whole = line.starts_with(parts[0]) && line.ends_with(parts[parts.len() - 1]);
    let mut rest = line;
    let has_all = parts.iter().all(|part| rest.split_once(part).map(|(_, after)| rest = after).is_some());
    has_all && (letters >= 10 || letters >= 3 && is_whole)
}

#[test]
fn whatever_the_program_shows_is_in_the_list() {
    let texts: Vec<String> = all_texts().into_iter().flat_map(|(_, texts)| texts).collect();
    // Messages of the operating system and of the TOML reader.
    let is_of_others = |line: &str| line.contains("(os error ") || line.starts_with("TOML parse error");
    let shown = lines_that_are_shown();
    assert!(shown.len() > 50, "the snapshots show {} lines only", shown.len());
    let is_listed = |line: &str| texts.iter().any(|text| comes_from(line, text));
    let missing: Vec<&String> = shown.iter().filter(|line| !is_of_others(line) && !is_listed(line)).collect();
    assert!(missing.is_empty(), "no text of the list gives {missing:#?}");
}
