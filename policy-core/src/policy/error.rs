//! PolicyError: what is wrong with a policy, and where.

use std::collections::BTreeMap;
use std::fmt;

/// What is wrong with a policy: at least one fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyError {
    faults: Vec<PolicyFault>,
}

impl PolicyError {
    /// Returns `value` unless there are faults.
    pub(crate) fn unless<T>(faults: Vec<PolicyFault>, value: T) -> Result<T, Self> {
        if faults.is_empty() { Ok(value) } else { Err(Self { faults }) }
    }

    pub(crate) fn one(pointer: impl Into<String>, kind: FaultKind) -> Self {
        Self { faults: vec![PolicyFault { pointer: pointer.into(), kind }] }
    }

    /// Replaces canonical pointers by those of the document as it was written.
    pub(crate) fn relocated(mut self, written: &BTreeMap<String, String>) -> Self {
        for fault in &mut self.faults {
            if let Some(pointer) = written.get(&fault.pointer) {
                fault.pointer.clone_from(pointer);
            }
        }
        self
    }

    /// Returns the faults in the order of the document; there is at least one.
    pub fn faults(&self) -> &[PolicyFault] {
        &self.faults
    }
}

/// How many faults a person is shown at once.
const SHOWN: usize = 20;

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.faults.as_slice() {
            [fault] => write!(f, "{fault}"),
            faults => {
                write!(f, "the policy has {} faults:", faults.len())?;
                faults.iter().take(SHOWN).try_for_each(|fault| write!(f, "\n  {fault}"))?;
                match faults.len().saturating_sub(SHOWN) {
                    0 => Ok(()),
                    more => write!(f, "\n  and {more} more"),
                }
            }
        }
    }
}

impl std::error::Error for PolicyError {}

/// One thing that is wrong with a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PolicyFault {
    /// The JSON pointer (RFC 6901) of the place; `""` is the document as a whole.
    pub pointer: String,
    /// What is wrong there.
    pub kind: FaultKind,
}

impl fmt::Display for PolicyFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.pointer.is_empty() {
            write!(f, "{}: ", crate::escape(self.pointer.as_bytes()))?;
        }
        write!(f, "{}", self.kind)
    }
}

/// The kinds of faults. Text from the document is shown escaped.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum FaultKind {
    /// The document holds nothing at all.
    Empty,
    /// The document is not JSON or not TOML.
    Syntax {
        /// The format that was expected.
        format: &'static str,
        /// The line, from 1.
        line: usize,
        /// The column, from 1.
        column: usize,
        /// What the parser says.
        message: String,
    },
    /// A field that does not exist.
    UnknownField {
        /// Its name.
        found: String,
        /// The fields that exist there.
        allowed: Vec<&'static str>,
        /// The one of these that comes nearest, where one comes near.
        nearest: Option<&'static str>,
        /// The place where a field of that name does exist.
        belongs: Option<&'static str>,
    },
    /// A value of another type.
    WrongType {
        /// What was found.
        found: String,
        /// What is allowed.
        expected: String,
    },
    /// A text that is none of the values of the field.
    UnknownValue {
        /// The text.
        found: String,
        /// The values of the field.
        allowed: Vec<&'static str>,
        /// The one of these that comes nearest, where one comes near.
        nearest: Option<&'static str>,
    },
    /// A field that is given twice, be it under two names.
    Duplicate {
        /// The field's canonical name.
        field: String,
        /// The name of the one before, where that differs.
        also: Option<String>,
    },
    /// A field that must be given.
    Missing {
        /// The field's name.
        field: &'static str,
    },
    /// A number outside its range.
    OutOfRange {
        /// The number.
        found: String,
        /// The smallest that is allowed.
        min: u32,
        /// The largest that is allowed.
        max: u32,
    },
    /// A path with something that a path may not have.
    BadPath {
        /// The path.
        path: String,
        /// What it has.
        reason: PathReason,
    },
    /// An expression that is malformed or too large.
    BadRegex {
        /// The expression.
        regex: String,
        /// What the compiler says.
        message: String,
    },
    /// An ignore pattern that is malformed.
    BadPattern {
        /// The pattern; empty where all of them together are too large.
        pattern: String,
        /// What the compiler says.
        message: String,
    },
    /// The mount path is not an absolute one.
    BadMount {
        /// The mount path.
        mount: String,
        /// What it has.
        reason: &'static str,
    },
}

/// What makes a path unfit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PathReason {
    /// A `..` component.
    Parent,
    /// A NUL character.
    Nul,
    /// A wildcard, in a white list's path or its excludes.
    ListWildcard {
        /// Which.
        found: char,
        /// The flag that turns this field into an expression.
        flag: &'static str,
    },
    /// A wildcard in any other path.
    Wildcard {
        /// Which.
        found: char,
    },
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => write!(f, "the policy is empty; `{{}}` is the policy of all defaults"),
            Self::Syntax { format, line, column, message } => {
                write!(f, "not valid {format} at line {line}, column {column}: {message}")
            }
            Self::UnknownField { found, allowed, nearest, belongs } => {
                write!(f, "unknown field `{}`", show(found))?;
                if let Some(nearest) = nearest {
                    write!(f, "; did you mean `{nearest}`?")?;
                } else if let Some(belongs) = belongs {
                    write!(f, "; it belongs in `{belongs}`")?;
                }
                write!(f, " (allowed: {})", allowed.join(", "))
            }
            Self::WrongType { found, expected } => write!(f, "found {}, expected {expected}", show(found)),
            Self::UnknownValue { found, allowed, nearest } => {
                write!(f, "unknown value \"{}\"", show(found))?;
                if let Some(nearest) = nearest {
                    write!(f, "; did you mean \"{nearest}\"?")?;
                }
                write!(f, " (allowed: {})", allowed.join(", "))
            }
            Self::Duplicate { field, also: None } => write!(f, "`{}` is given twice", show(field)),
            Self::Duplicate { field, also: Some(also) } => {
                write!(f, "`{}` is given twice: `{}` is the same field", show(field), show(also))
            }
            Self::Missing { field } => write!(f, "`{field}` is missing"),
            Self::OutOfRange { found, min, max } => {
                write!(f, "found {found}, expected a whole number from {min} to {max}")
            }
            Self::BadPath { path, reason } => write!(f, "the path \"{}\" {reason}", show(path)),
            Self::BadRegex { regex, message } => {
                write!(f, "the expression \"{}\" can't be used: {message}", show(regex))
            }
            Self::BadPattern { pattern, message } if pattern.is_empty() => {
                write!(f, "the patterns can't be used together: {message}")
            }
            Self::BadPattern { pattern, message } => {
                write!(f, "the pattern \"{}\" can't be used: {message}", show(pattern))
            }
            Self::BadMount { mount, reason } => write!(f, "the mount \"{mount}\" {reason}"),
        }
    }
}

impl fmt::Display for PathReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Parent => write!(f, "has a component `..`; write the place that it leads to"),
            Self::Nul => write!(f, "has a NUL character, which no file name has"),
            Self::ListWildcard { found, flag } => write!(
                f,
                "has the wildcard `{found}`, but is taken literally; patterns go to \
                 `bwList.ignorePatterns`, and `{flag}` makes it a regular expression"
            ),
            Self::Wildcard { found } => write!(
                f,
                "has the wildcard `{found}`, but is taken literally; patterns go to `bwList.ignorePatterns`"
            ),
        }
    }
}

/// Returns `text` escaped, and cut where it is too long to read.
fn show(text: &str) -> String {
    const MOST: usize = 200;
    match text.char_indices().nth(MOST) {
        None => crate::escape(text.as_bytes()),
        Some((end, _)) => format!("{}...", crate::escape(&text.as_bytes()[..end])),
    }
}
