//! `docs/guide.md` as a list of fenced blocks, whose content is checked:
//!
//! ```text
//! ```rust docs/examples/session.rs#create     a region of that file
//! ```text docs/examples/session.rs#create     what that region printed
//! ```json docs/examples/development.json      that file
//! ```json                                     a policy
//! ```console                                  a dialogue with the program
//! ```
//!
//! With `GUIDE_UPDATE=1` blocks that differ are rewritten instead of failing the test.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use walkdir::WalkDir;

/// One fenced block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// The language: the first word after the fence.
    pub language: String,
    /// The rest of the fence's line: the file that the block is from.
    pub origin: String,
    /// The line number in the guide at which the block begins, from 1.
    pub line: usize,
    /// The lines between the fences, each with its line end.
    pub body: String,
}

/// Returns the root of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

/// Returns the files below a directory of the repository, as paths from the root.
pub fn files_below(dir: &str) -> Vec<String> {
    let root = root();
    let entries = WalkDir::new(root.join(dir)).sort_by_file_name().into_iter().map(Result::unwrap);
    let files = entries.filter(|entry| entry.file_type().is_file());
    files.map(|entry| entry.path().strip_prefix(&root).unwrap().to_str().unwrap().to_owned()).collect()
}

/// Returns all pages of `docs`, as paths from the root.
pub fn pages() -> Vec<String> {
    files_below("docs").into_iter().filter(|file| file.ends_with(".md")).collect()
}

/// Returns the guide's blocks in order.
pub fn blocks() -> Vec<Block> {
    blocks_of("docs/guide.md")
}

/// The same for another page.
///
/// # Panics
/// If there is no such page, or a block of it does not end.
pub fn blocks_of(page: &str) -> Vec<Block> {
    parse(&fs::read_to_string(root().join(page)).unwrap_or_else(|e| panic!("{page}: {e}")))
}

/// Compares the guide's blocks of one language with what they should be. `expected` returns the body, or
/// `None` for a block that is not checked.
///
/// # Panics
/// If a block differs, and `GUIDE_UPDATE` is not set.
pub fn check(language: &str, expected: impl FnMut(&Block) -> Option<String>) {
    check_page("docs/guide.md", language, expected);
}

/// The same for another page.
///
/// # Panics
/// Likewise.
pub fn check_page(page: &str, language: &str, mut expected: impl FnMut(&Block) -> Option<String>) {
    let (update, place) = (std::env::var_os("GUIDE_UPDATE").is_some(), root().join(page));
    // Two test programs may write the page at the same time.
    let lock = update.then(|| File::open(&place).unwrap());
    lock.iter().for_each(|lock| lock.lock().unwrap());
    let mut text = fs::read_to_string(&place).unwrap();
    let blocks = parse(&text);
    let mut wrong = Vec::new();
    // From the end, so that the line numbers of earlier blocks stay valid.
    let mut news: Vec<_> = blocks.iter().filter(|block| block.language == language).collect();
    assert!(!news.is_empty(), "{page} has no block of {language}");
    let bodies: Vec<_> = news.iter().map(|block| expected(block)).collect();
    for (block, body) in news.drain(..).zip(bodies).rev() {
        let Some(body) = body.filter(|body| *body != block.body) else { continue };
        wrong.push(format!(
            "{page}:{}: {} {} is\n{}\nand should be\n{body}",
            block.line, block.language, block.origin, block.body
        ));
        text = with_body(&text, block, &body);
    }
    if update {
        fs::write(place, text).unwrap();
    } else {
        wrong.reverse();
        assert!(wrong.is_empty(), "{}\n(GUIDE_UPDATE=1 writes them anew)", wrong.join("\n"));
    }
}

/// Returns a region of an example: the lines between `// ANCHOR: name` and `// ANCHOR_END: name`, without the
/// indentation of the first line.
pub fn region(origin: &str) -> String {
    let (file, name) = origin.split_once('#').unwrap_or_else(|| panic!("{origin}: no region"));
    let text = fs::read_to_string(root().join(file)).unwrap_or_else(|e| panic!("{file}: {e}"));
    let (begin, end) = (format!("// ANCHOR: {name}"), format!("// ANCHOR_END: {name}"));
    let lines = text.lines().skip_while(|line| line.trim() != begin).skip(1);
    let lines: Vec<&str> = lines.take_while(|line| line.trim() != end).collect();
    let first = lines.first().unwrap_or_else(|| panic!("{origin}: no such region, or an empty one"));
    let indent = first.len() - first.trim_start().len();
    lines.iter().map(|line| format!("{}\n", line.get(indent..).unwrap_or_default())).collect()
}

/// Returns the part of a program's output under the heading `== name`.
pub fn part<'o>(output: &'o str, name: &str) -> &'o str {
    let head = format!("== {name}\n");
    let at = output.find(&head).unwrap_or_else(|| panic!("nothing is headed {head:?} in\n{output}"));
    let rest = &output[at + head.len()..];
    rest.find("\n== ").map_or(rest, |end| &rest[..=end])
}

fn parse(text: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    for (index, line) in text.lines().enumerate() {
        match (&mut open, line.strip_prefix("```")) {
            (Some(_), Some("")) => blocks.extend(open.take()),
            (Some(block), _) => block.body.push_str(&format!("{line}\n")),
            (None, Some(info)) => {
                let (language, origin) = info.split_once(' ').unwrap_or((info, ""));
                let (language, origin) = (language.to_owned(), origin.to_owned());
                open = Some(Block { language, origin, line: index + 1, body: String::new() });
            }
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a block does not end: {open:?}");
    blocks
}

fn with_body(text: &str, block: &Block, body: &str) -> String {
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let end = block.line + block.body.lines().count();
    [&lines[..block.line].concat(), body, &lines[end..].concat()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "a\n```rust x.rs#y\none\n  two\n```\nb\n```console\n$ c\n```\n";

    #[test]
    fn blocks_are_found_and_replaced() {
        let found = parse(TEXT);
        let shown: Vec<_> = found.iter().map(|b| (&*b.language, &*b.origin, b.line, &*b.body)).collect();
        assert_eq!(shown, [("rust", "x.rs#y", 2, "one\n  two\n"), ("console", "", 7, "$ c\n")]);
        assert_eq!(with_body(TEXT, &found[0], "1\n"), TEXT.replace("one\n  two\n", "1\n"));
        assert_eq!(with_body(TEXT, &found[0], &found[0].body), TEXT);
    }

    #[test]
    fn parts_end_where_the_next_begins() {
        assert_eq!(part("== a\n1\n2\n== b\n3\n", "a"), "1\n2\n");
        assert_eq!(part("== a\n1\n2\n== b\n3\n", "b"), "3\n");
    }
}
