//! Tables, and the parts of documents that they are written to: each between `<!-- NAME: ... -->` and `<!--
//! end of NAME -->`, as in the documents that tests generate.

use std::fs;
use std::io::{Error, Result};
use std::path::Path;

/// Writes `content` into the part `name` of the document at `path`.
///
/// # Errors
/// If the document can't be read or written, or has no such part.
pub fn write_part(path: &Path, name: &str, content: &str) -> Result<()> {
    let text = fs::read_to_string(path).map_err(|e| Error::other(format!("{}: {e}", path.display())))?;
    let text = with_part(&text, name, content).ok_or_else(|| {
        let (path, end) = (path.display(), format!("<!-- end of {name} -->"));
        Error::other(format!("{path} has no part for this: write `<!-- {name}: ... -->` and `{end}` into it"))
    })?;
    fs::write(path, text)
}

/// Returns `text` with new content in the part `name`; `None` if it has no such part.
fn with_part(text: &str, name: &str, content: &str) -> Option<String> {
    let begin = text.find(&format!("<!-- {name}: "))?;
    let begin = begin + text[begin..].find("-->\n")? + "-->\n".len();
    let end = begin + text[begin..].find(&format!("<!-- end of {name} -->"))?;
    Some(format!("{}\n{}\n\n{}", &text[..begin], content.trim(), &text[end..]))
}

/// Describes the machine: `2 threads of AMD EPYC, Linux 6.18.44`.
///
/// # Errors
/// If the number of threads is unknown.
pub fn machine() -> Result<String> {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    Ok(format!(
        "{} threads of {}, Linux {}",
        std::thread::available_parallelism()?,
        model.map_or("an unknown CPU", |(_, model)| model.trim()),
        rustix::system::uname().release().to_string_lossy(),
    ))
}

/// Formats a number per second: `1.3 M/s`.
pub fn per_second(number: f64) -> String {
    scaled(number, 1000.0, &["", "k", "M", "G"], "/s")
}

/// Formats bytes per second: `1.3 GiB/s`.
pub fn bytes_per_second(bytes: f64) -> String {
    scaled(bytes, 1024.0, &["", "Ki", "Mi", "Gi"], "B/s")
}

/// Formats a time in nanoseconds: `1.30 ms`.
pub fn time(nanos: f64) -> String {
    let (value, unit) = match nanos {
        n if n < 1e3 => (n, "ns"),
        n if n < 1e6 => (n / 1e3, "µs"),
        n if n < 1e9 => (n / 1e6, "ms"),
        n => (n / 1e9, "s"),
    };
    format!("{} {unit}", three_digits(value))
}

fn scaled(mut value: f64, step: f64, prefixes: &[&str], unit: &str) -> String {
    let mut prefix = 0;
    while value >= step && prefix + 1 < prefixes.len() {
        value /= step;
        prefix += 1;
    }
    format!("{} {}{unit}", three_digits(value), prefixes[prefix])
}

fn three_digits(value: f64) -> String {
    match value {
        v if v < 9.995 => format!("{v:.2}"),
        v if v < 99.95 => format!("{v:.1}"),
        v => format!("{v:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_replaced_and_nothing_else() {
        let text = "a\n<!-- x: by a program -->\nold\n<!-- end of x -->\nb\n";
        let new = "a\n<!-- x: by a program -->\n\nnew\n\n<!-- end of x -->\nb\n";
        assert_eq!(with_part(text, "x", "new\n").as_deref(), Some(new));
        assert_eq!(with_part(new, "x", "new").as_deref(), Some(new));
        assert_eq!(with_part(text, "y", ""), None);
        assert_eq!(with_part("<!-- x: \n", "x", ""), None);
    }

    #[test]
    fn figures_have_three_digits() {
        let words = [time(999.0), time(1_234_567.0), time(2e10), per_second(99.96), per_second(1_250_000.0)];
        assert_eq!(words, ["999 ns", "1.23 ms", "20.0 s", "100 /s", "1.25 M/s"]);
        assert_eq!(bytes_per_second(1.5 * 1024.0 * 1024.0), "1.50 MiB/s");
    }
}
