//! Parts of documents that tests generate, each between `<!-- NAME: ... -->` and `<!-- end of NAME -->`.

use std::fs::{self, File};

use crate::guide::root;

/// Compares a part of a document with the expected text. `document` is a path from the root of the
/// repository.
///
/// With `DOCS_UPDATE=1` the part is rewritten instead.
///
/// # Panics
/// If the part differs.
pub fn check(document: &str, name: &str, expected: &str) {
    let place = root().join(document);
    let update = std::env::var_os("DOCS_UPDATE").is_some();
    // Several test programs may write one document at the same time.
    let lock = update.then(|| File::open(&place).unwrap());
    lock.iter().for_each(|lock| lock.lock().unwrap());
    let text = fs::read_to_string(&place).unwrap();
    let (before, found, after) = cut(&text, name).unwrap_or_else(|| panic!("{document}: no part {name}"));
    let expected = format!("\n{}\n", expected.trim_end());
    if update {
        fs::write(&place, [before, &expected, after].concat()).unwrap();
    } else {
        assert!(
            found == expected,
            "{document}: the part {name} is\n{found}\nand should be\n{expected}\n(DOCS_UPDATE=1 writes it anew)"
        );
    }
}

/// Returns a part of a document.
///
/// # Panics
/// If there is no such part.
pub fn part(document: &str, name: &str) -> String {
    let text = fs::read_to_string(root().join(document)).unwrap();
    let (_, found, _) = cut(&text, name).unwrap_or_else(|| panic!("{document}: no part {name}"));
    found.to_owned()
}

/// Splits a document into the text before a part, the part, and the text after it.
fn cut<'t>(text: &'t str, name: &str) -> Option<(&'t str, &'t str, &'t str)> {
    let begin = text.find(&format!("<!-- {name}: "))?;
    let begin = begin + text[begin..].find("-->\n")? + "-->\n".len();
    let end = begin + text[begin..].find(&format!("<!-- end of {name} -->"))?;
    Some((&text[..begin], &text[begin..end], &text[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_found_by_its_name() {
        let text = "a\n<!-- x: by a test -->\nold\n<!-- end of x -->\nb\n";
        let parts = ("a\n<!-- x: by a test -->\n", "old\n", "<!-- end of x -->\nb\n");
        assert_eq!(cut(text, "x"), Some(parts));
        assert_eq!(cut(text, "y"), None);
    }
}
