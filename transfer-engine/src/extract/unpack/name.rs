//! Converts a member's name to a path below the target directory.

use policy_core::TreePath;

use super::ExtractError;
use super::ExtractLimits;

/// Parses a member's name: a relative path in which `.` and doubled slashes are ignored. The root (`./`) is a
/// valid result.
pub(super) fn parse(name: &[u8], limits: &ExtractLimits) -> Result<TreePath, ExtractError> {
    if name.is_empty() {
        return Err(ExtractError::damaged("a member has no name"));
    }
    if name.contains(&0) {
        return Err(ExtractError::hostile(name, "has a NUL byte in its name"));
    }
    if name.starts_with(b"/") {
        return Err(ExtractError::hostile(name, "has an absolute path"));
    }
    let mut path = Vec::with_capacity(name.len());
    let mut levels = 0;
    for part in name.split(|&b| b == b'/') {
        match part {
            b"" | b"." => continue,
            b".." => return Err(ExtractError::hostile(name, "leads outside with `..`")),
            // No common file system allows it, and this message is clearer than a later error.
            part if part.len() > 255 => {
                return Err(ExtractError::unsupported(format!(
                    "`{}…` is longer than the 255 bytes that a name may have",
                    policy_core::escape(&part[..40])
                )));
            }
            part => {
                if levels > 0 {
                    path.push(b'/');
                }
                path.extend_from_slice(part);
                levels += 1;
            }
        }
    }
    if levels > limits.levels {
        return Err(ExtractError::Limit { what: "folders nested too deeply", limit: limits.levels.into() });
    }
    TreePath::new(path).map_err(|e| ExtractError::hostile(name, format!("has no usable name: {e}")))
}

/// Decodes the name of a zip member that is not marked as UTF-8. Programs on Unix write UTF-8 without the
/// mark, and text in CP437 is hardly ever valid UTF-8 by chance. A name that is not UTF-8 is CP437, as the
/// format says.
pub(super) fn decode_zip(raw: &[u8]) -> Vec<u8> {
    if std::str::from_utf8(raw).is_ok() {
        return raw.to_vec();
    }
    let text: String =
        raw.iter().map(|&b| if b < 0x80 { char::from(b) } else { CP437[usize::from(b - 0x80)] }).collect();
    text.into_bytes()
}

/// The upper half of code page 437.
const CP437: [char; 128] = [
    'Ç', 'ü', 'é', 'â', 'ä', 'à', 'å', 'ç', 'ê', 'ë', 'è', 'ï', 'î', 'ì', 'Ä', 'Å', 'É', 'æ', 'Æ', 'ô', 'ö',
    'ò', 'û', 'ù', 'ÿ', 'Ö', 'Ü', '¢', '£', '¥', '₧', 'ƒ', 'á', 'í', 'ó', 'ú', 'ñ', 'Ñ', 'ª', 'º', '¿', '⌐',
    '¬', '½', '¼', '¡', '«', '»', '░', '▒', '▓', '│', '┤', '╡', '╢', '╖', '╕', '╣', '║', '╗', '╝', '╜', '╛',
    '┐', '└', '┴', '┬', '├', '─', '┼', '╞', '╟', '╚', '╔', '╩', '╦', '╠', '═', '╬', '╧', '╨', '╤', '╥', '╙',
    '╘', '╒', '╓', '╫', '╪', '┘', '┌', '█', '▄', '▌', '▐', '▀', 'α', 'ß', 'Γ', 'π', 'Σ', 'σ', 'µ', 'τ', 'Φ',
    'Θ', 'Ω', 'δ', '∞', 'φ', 'ε', '∩', '≡', '±', '≥', '≤', '⌠', '⌡', '÷', '≈', '°', '∙', '·', '√', 'ⁿ', '²',
    '■', '\u{a0}',
];
