//! The generated parts of a text: between `<!-- peers:begin NAME -->` and `<!-- peers:end -->`, each on a
//! line of its own.

use crate::Result;

const END: &str = "<!-- peers:end -->";

/// Returns `text` with `content` in the part `name`.
pub(crate) fn fill(text: &str, name: &str, content: &str) -> Result<String> {
    let begin = format!("<!-- peers:begin {name} -->");
    let (before, rest) = text.split_once(&begin).ok_or_else(|| format!("there is no {begin}"))?;
    let (old, after) = rest.split_once(END).ok_or_else(|| format!("{begin} has no {END}"))?;
    if old.contains("<!-- peers:begin") {
        return Err(format!("{begin} has no {END} of its own").into());
    }
    Ok(format!("{before}{begin}\n{}\n{END}{after}", content.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_between_markers_is_replaced_and_nothing_else() {
        let text = "a\n<!-- peers:begin one -->\nold\n<!-- peers:end -->\nb\n<!-- peers:begin two -->\n<!-- peers:end -->\nc\n";
        let filled = fill(text, "two", "| x |\n\n").unwrap();
        assert_eq!(
            filled,
            "a\n<!-- peers:begin one -->\nold\n<!-- peers:end -->\nb\n<!-- peers:begin two -->\n| x |\n<!-- peers:end -->\nc\n"
        );
        assert_eq!(fill(&filled, "two", "| x |").unwrap(), filled, "again is the same");
    }

    #[test]
    fn a_missing_marker_is_an_error() {
        assert!(fill("text", "one", "").is_err());
        assert!(fill("<!-- peers:begin one -->", "one", "").is_err());
        let open = "<!-- peers:begin one -->\n<!-- peers:begin two -->\n<!-- peers:end -->";
        assert!(fill(open, "one", "").is_err());
    }
}
