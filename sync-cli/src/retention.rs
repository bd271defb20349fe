//! The snapshots that `gc` keeps: the rules of `--retention FILE` and `--keep-*`.

use std::num::NonZeroU64;
use std::ops::Range;
use std::path::Path;

use policy_core::{NamePattern, Retention, RetentionRules};
use serde::Deserialize;
use toml::Spanned;

use crate::args::{GcArgs, KeepArgs};
use crate::errors::Failure;
use crate::input::read_text;
use crate::values::Span;

/// The retention file. Of its rules, the first one with a pattern that matches a context applies to it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default)]
    rules: Vec<Spanned<Rule>>,
}

/// A rule. Its fields have the names of the options.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Rule {
    contexts: Spanned<Vec<Spanned<String>>>,
    #[serde(default)]
    keep_all: bool,
    keep_last: Option<NonZeroU64>,
    keep_within: Option<Span>,
    keep_hourly: Option<NonZeroU64>,
    keep_daily: Option<NonZeroU64>,
    keep_weekly: Option<NonZeroU64>,
    keep_monthly: Option<NonZeroU64>,
    keep_yearly: Option<NonZeroU64>,
}

impl Rule {
    fn retention(&self) -> Retention {
        Retention {
            last: self.keep_last,
            within: self.keep_within.map(|span| span.0),
            hourly: self.keep_hourly,
            daily: self.keep_daily,
            weekly: self.keep_weekly,
            monthly: self.keep_monthly,
            yearly: self.keep_yearly,
        }
    }
}

/// Returns the rules from the arguments of `gc` and from the file that they name. Options for named contexts
/// take precedence over the file, and those for all contexts come after it.
pub(crate) fn chosen(args: &GcArgs) -> Result<RetentionRules, Failure> {
    let retention = retention(&args.keep);
    let mut rules = RetentionRules::default();
    if !args.names.is_empty() {
        rules.push(named(&args.names, &retention)?, retention);
    }
    if let Some(path) = &args.retention {
        read(path, &mut rules)?;
    }
    Ok(if args.names.is_empty() { rules.otherwise(retention) } else { rules })
}

fn named(names: &[String], retention: &Retention) -> Result<Vec<NamePattern>, Failure> {
    if retention.keeps_all() {
        return Err(Failure::usage(
            "NAME says which contexts --keep-* apply to, and there is no such option",
        )
        .hint("add what is to be kept, as in --keep-daily 7; without NAME, gc forgets nothing by itself"));
    }
    let patterns = names.iter().map(|name| NamePattern::new(name)).collect::<Result<_, _>>();
    patterns.map_err(|error| Failure::usage(error.to_string()))
}

fn retention(keep: &KeepArgs) -> Retention {
    Retention {
        last: keep.keep_last,
        within: keep.keep_within.map(|span| span.0),
        hourly: keep.keep_hourly,
        daily: keep.keep_daily,
        weekly: keep.keep_weekly,
        monthly: keep.keep_monthly,
        yearly: keep.keep_yearly,
    }
}

/// Adds the rules of a file.
fn read(path: &Path, rules: &mut RetentionRules) -> Result<(), Failure> {
    let text = read_text(path).map_err(|error| Failure::unreadable("retention file", path, &error))?;
    parse(&text, rules).map_err(|wrong| {
        let failure = Failure::usage(format!("the retention file {} is not valid", path.display()));
        let failure = match wrong {
            Wrong::Syntax(error) => failure.caused_by(&*error),
            Wrong::Rule { line, what } => failure.because(format!("line {line}: {what}")),
        };
        failure.hint(
            "it is a list of [[rules]], each with `contexts`, names or globs, and one or more of keep-last, keep-within, \
             keep-hourly, keep-daily, keep-weekly, keep-monthly and keep-yearly, or with keep-all = true",
        )
    })
}

enum Wrong {
    Syntax(Box<toml::de::Error>),
    Rule { line: usize, what: String },
}

fn parse(text: &str, rules: &mut RetentionRules) -> Result<(), Wrong> {
    let document: Document = toml::from_str(text).map_err(|error| Wrong::Syntax(Box::new(error)))?;
    let wrong = |span: Range<usize>, what: &str| {
        let before = text.as_bytes().iter().take(span.start);
        let line = 1 + before.filter(|byte| **byte == b'\n').count();
        Wrong::Rule { line, what: what.to_owned() }
    };
    if document.rules.is_empty() {
        return Err(wrong(0..0, "it has no rule"));
    }
    for spanned in document.rules {
        let span = spanned.span();
        let rule = spanned.into_inner();
        let retention = rule.retention();
        match (rule.keep_all, retention.keeps_all()) {
            (false, true) => return Err(wrong(span, "the rule does not say what is kept")),
            (true, false) => return Err(wrong(span, "the rule keeps all, and has another keep-* as well")),
            _ => {}
        }
        if rule.contexts.as_ref().is_empty() {
            return Err(wrong(rule.contexts.span(), "the rule is for no context"));
        }
        let mut names = Vec::new();
        for name in rule.contexts.into_inner() {
            let span = name.span();
            let pattern = NamePattern::new(name.as_ref());
            names.push(pattern.map_err(|error| wrong(span, &error.to_string()))?);
        }
        rules.push(names, retention);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the error's message, in one line.
    fn wrong(text: &str) -> String {
        match parse(text, &mut RetentionRules::default()).err().unwrap() {
            Wrong::Syntax(error) => {
                error.to_string().lines().next().unwrap().to_owned() + ": " + error.message()
            }
            Wrong::Rule { line, what } => format!("line {line}: {what}"),
        }
    }

    #[test]
    fn each_mistake_is_told_with_its_line() {
        let rule = "[[rules]]\ncontexts = ['a']\n";
        for (text, told) in [
            ("", "line 1: it has no rule"),
            ("# nothing\n", "line 1: it has no rule"),
            (rule, "line 1: the rule does not say what is kept"),
            ("\n\n[[rules]]\nkeep-all = false\ncontexts = ['a']\n", "line 3: the rule does not say"),
            ("[[rules]]\nkeep-last = 1\ncontexts = []\n", "line 3: the rule is for no context"),
            ("[[rules]]\nkeep-last = 1\n", "line 1, column 1: missing field `contexts`"),
            ("[[rules]]\nkeep-last = 1\ncontexts = [\n 'a',\n 'b c']\n", "line 5: `b c` is not a pattern"),
            ("[[rules]]\nkeep-last = 1\ncontexts = ['[']\n", "line 3: `[` is not a pattern"),
            ("[[rules]]\nkeep-last = 1\ncontexts = 'a'\n", "line 3, column 12"),
            (&format!("{rule}keep-dayly = 3\n"), "line 3, column 1: unknown field `keep-dayly`"),
            (&format!("{rule}keep-tag = 'x'\n"), "line 3, column 1: unknown field `keep-tag`"),
            (&format!("{rule}keep-daily = -3\n"), "line 3, column 14: invalid value: integer `-3`"),
            (&format!("{rule}keep-daily = 0\n"), "line 3, column 14: invalid value: integer `0`"),
            (&format!("{rule}keep-daily = 1.5\n"), "line 3, column 14"),
            (&format!("{rule}keep-within = '30 moons'\n"), "line 3, column 15"),
            (&format!("{rule}keep-all = true\nkeep-last = 1\n"), "line 1: the rule keeps all, and has"),
            ("[[rule]]\n", "line 1, column 3: unknown field `rule`"),
            ("[[rules]\n", "line 1, column 9"),
        ] {
            let said = wrong(text);
            assert!(said.contains(told), "{text:?}: {said}");
        }
    }

    #[test]
    fn a_rule_has_the_names_of_the_options() {
        let text = "[[rules]]\ncontexts = ['ci/*']\nkeep-last = 1\nkeep-within = '2d'\nkeep-hourly = 3\nkeep-daily = 4\n\
                    keep-weekly = 5\nkeep-monthly = 6\nkeep-yearly = 7\n[[rules]]\ncontexts = ['**']\nkeep-all = true\n";
        let mut rules = RetentionRules::default();
        parse(text, &mut rules).ok().unwrap();
        let n = |n: u64| NonZeroU64::new(n);
        let expected = Retention {
            last: n(1),
            within: Some(std::time::Duration::from_secs(2 * 86_400)),
            hourly: n(3),
            daily: n(4),
            weekly: n(5),
            monthly: n(6),
            yearly: n(7),
        };
        assert_eq!(*rules.of("ci/x"), expected);
        assert!(rules.of("other").keeps_all());
    }

    #[test]
    fn the_file_of_the_documents_is_one() {
        let text = include_str!("../../docs/collecting.md");
        let (_, text) = text.split_once("```toml\n").unwrap();
        let mut rules = RetentionRules::default();
        parse(text.split_once("```").unwrap().0, &mut rules).ok().unwrap();
        assert!(rules.of("releases/1.0").keeps_all());
        assert_eq!(rules.of("ci/main").last, NonZeroU64::new(3));
        assert_eq!(rules.of("my-project").monthly, NonZeroU64::new(12));
    }
}
