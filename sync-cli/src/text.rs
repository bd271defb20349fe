//! Formats sizes, times and counts for people, and reads keys of the store in messages.

use std::borrow::Cow;
use std::sync::OnceLock;
use std::time::Duration;

use jiff::tz::TimeZone;
use policy_core::Timestamp;
use transfer_engine::format::StoreKey;

/// How sizes and times are shown to people: the same everywhere, from the beginning.
#[derive(Debug)]
struct Shown {
    exact: bool,
    /// `None` for UTC.
    zone: Option<TimeZone>,
}

static SHOWN: OnceLock<Shown> = OnceLock::new();

/// Decides how sizes and times are shown: in bytes, in UTC. It counts once; before that, they are shown in units and in
/// UTC.
pub(crate) fn show(exact: bool, utc: bool) {
    let zone = (!utc).then(TimeZone::system);
    SHOWN.get_or_init(|| Shown { exact, zone });
}

/// Formats a size: `310 MiB`, `1.2 MiB`, `17 B`.
pub(crate) fn bytes(n: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if n < 1024 || SHOWN.get().is_some_and(|shown| shown.exact) {
        return format!("{n} B");
    }
    #[expect(clippy::cast_precision_loss, reason = "two or three digits are shown")]
    let mut value = n as f64 / 1024.0;
    let mut unit = 0;
    // A value from 1023.5 on would be shown as 1024.
    while value >= 1023.5 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    // At least two digits; 9.96 must not become `10.0`.
    let digits = usize::from(value < 9.95);
    format!("{value:.digits$} {}", UNITS[unit])
}

/// Formats a time span: `0.8 s`, `12 s`, `3 min 20 s`, `2 h 5 min`.
pub(crate) fn span(time: Duration) -> String {
    let secs = time.as_secs();
    match secs {
        0..10 => format!("{:.1} s", time.as_secs_f64()),
        10..60 => format!("{secs} s"),
        60..3600 => format!("{} min {} s", secs / 60, secs % 60),
        _ => format!("{} h {} min", secs / 3600, secs % 3600 / 60),
    }
}

/// Writes a word of a command that a hint names, so that a shell reads it as one word.
pub(crate) fn shell(word: &str) -> Cow<'_, str> {
    let is_plain = |c: char| c.is_alphanumeric() || "-_./:@%+,".contains(c);
    match !word.is_empty() && word.chars().all(is_plain) {
        true => word.into(),
        false => format!("'{}'", word.replace('\'', r"'\''")).into(),
    }
}

/// Says what an object of the store is, by its key.
pub(crate) fn store_key(key: &str) -> Option<StoreKey> {
    object_store::path::Path::parse(key).ok().and_then(|key| StoreKey::parse(&key))
}

/// Formats a count with its noun: `1 file`, `2 files`.
pub(crate) fn count(n: u64, noun: &str) -> String {
    if n == 1 { format!("1 {noun}") } else { format!("{n} {noun}s") }
}

/// Formats a time in UTC as RFC 3339 requires.
pub(crate) fn time(at: Timestamp) -> String {
    match i32::try_from(at.nanos).ok().and_then(|nanos| jiff::Timestamp::new(at.secs, nanos).ok()) {
        Some(at) => at.to_string(),
        // A file may have any time, even one outside of any calendar.
        None => format!("@{}", at.secs),
    }
}

/// Formats a time for people, to the second: in local time, as in `2026-11-29 18:38:13`, or as [`time`] does.
pub(crate) fn moment(at: Timestamp) -> String {
    let zone = SHOWN.get().and_then(|shown| shown.zone.clone());
    match zone.zip(jiff::Timestamp::from_second(at.secs).ok()) {
        Some((zone, at)) => at.to_zoned(zone).strftime("%Y-%m-%d %H:%M:%S").to_string(),
        None => time(Timestamp { nanos: 0, ..at }),
    }
}

/// Formats a time that another process wrote as RFC 3339, for people.
pub(crate) fn read_moment(text: &str) -> Cow<'_, str> {
    match text.parse::<jiff::Timestamp>() {
        Ok(at) => moment(Timestamp { secs: at.as_second(), nanos: 0 }).into(),
        Err(_) => policy_core::escape_text(text),
    }
}

/// Returns the snapshot that a context was forked from, as people write it.
pub(crate) fn forked_from(snapshot: &transfer_engine::format::Snapshot) -> Option<String> {
    snapshot.forked_from().as_ref().map(ancestor)
}

/// Returns a snapshot that another one contains, as people write it.
pub(crate) fn ancestor(ancestor: &transfer_engine::format::Ancestor) -> String {
    format!("{}@{}", ancestor.context, ancestor.number)
}

/// Returns a snapshot of a context, as people write it.
pub(crate) fn origin((context, number): &(transfer_engine::ContextName, u64)) -> String {
    format!("{context}@{number}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        let shown = [0, 17, 1023, 1024, 1_258_291, 310 << 20, 1_048_575, 10_480_000, u64::MAX].map(bytes);
        assert_eq!(
            shown,
            ["0 B", "17 B", "1023 B", "1.0 KiB", "1.2 MiB", "310 MiB", "1.0 MiB", "10 MiB", "16 EiB"]
        );
    }

    #[test]
    fn spans() {
        let shown = [0, 820, 12_000, 200_000, 7_500_000].map(|ms| span(Duration::from_millis(ms)));
        assert_eq!(shown, ["0.0 s", "0.8 s", "12 s", "3 min 20 s", "2 h 5 min"]);
    }

    #[test]
    fn times() {
        let at = |secs, nanos| time(Timestamp { secs, nanos });
        assert_eq!(at(0, 500_000_000), "1970-01-01T00:00:00.5Z");
        assert_eq!(at(i64::MAX, 0), format!("@{}", i64::MAX));
        assert_eq!(moment(Timestamp { secs: -1, nanos: 7 }), "1969-12-31T23:59:59Z");
        let read = ["1970-01-01T00:00:01.5Z", "soon", "\u{1b}"].map(read_moment);
        assert_eq!(read, ["1970-01-01T00:00:01Z", "soon", "\\u{1b}"]);
    }

    #[test]
    fn a_shell_reads_a_word_as_it_was() {
        let all: String = (1..=127_u8).map(char::from).collect();
        let singles = (1..=127_u8).map(|c| char::from(c).to_string());
        let words: Vec<String> = singles
            .chain(
                ["", "/home/my dir", "it's", "''", "-n", "~/x", "a=b", "$(x)`y`", "größe"].map(str::to_owned),
            )
            .chain([all])
            .collect();
        let script: Vec<_> = words.iter().map(|word| format!("printf '%s\\0' {}", shell(word))).collect();
        let read = std::process::Command::new("sh").arg("-c").arg(script.join("\n")).output().unwrap();
        let expected: String = words.iter().map(|word| format!("{word}\0")).collect();
        assert_eq!(String::from_utf8(read.stdout).unwrap(), expected);
        assert_eq!(shell("/a/plain-path_1.txt"), "/a/plain-path_1.txt");
    }

    #[test]
    fn counts() {
        assert_eq!([count(0, "file"), count(1, "file")], ["0 files", "1 file"]);
    }
}
