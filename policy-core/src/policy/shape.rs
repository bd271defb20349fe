//! The shape of a policy as a table, by which documents are checked, and the schema is made.
//!
//! The types beside it say what a field is called on the wire, what its default is, and how it is read and written.
//! `tests/policy_fields.rs` fails if a field or a choice is in only one of the two.

/// What a value may be.
pub(super) enum Shape {
    Bool,
    Text,
    /// A path that is taken literally.
    Path,
    /// A path that is taken literally unless this flag of the same object is set.
    PathUnless(&'static str),
    /// A pattern of one line.
    Pattern,
    /// A whole number.
    Number {
        min: u32,
        max: u32,
    },
    Choice(&'static [Choice]),
    List(&'static Shape),
    Object(&'static Struct),
}

impl Shape {
    /// Returns what an error says is expected.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Bool => "true or false".into(),
            Self::Text | Self::Path | Self::PathUnless(_) | Self::Pattern => "a string".into(),
            Self::Number { min, max, .. } => format!("a whole number from {min} to {max}"),
            Self::Choice(choices) => {
                let forms: Vec<_> = choices.iter().map(Choice::form).collect();
                format!("one of {}", forms.join(", "))
            }
            Self::List(_) => "a list".into(),
            Self::Object(_) => "an object".into(),
        }
    }
}

/// One value of an enumeration.
pub(super) struct Choice {
    /// Its name on the wire.
    pub(super) name: &'static str,
    /// Its name in the guide.
    pub(super) alias: &'static str,
    /// What comes with it: `{"name": {...}}` instead of `"name"`.
    pub(super) payload: Option<&'static Struct>,
}

impl Choice {
    /// Returns how it is written.
    pub(super) fn form(&self) -> String {
        match self.payload {
            None => format!("\"{}\"", self.name),
            Some(payload) => {
                let fields: Vec<_> = payload.fields.iter().map(|f| format!("\"{}\": N", f.name)).collect();
                format!("{{\"{}\": {{{}}}}}", self.name, fields.join(", "))
            }
        }
    }
}

/// An object with its fields.
pub(super) struct Struct {
    /// Where it stands, for errors.
    pub(super) place: &'static str,
    /// What it means.
    pub(super) doc: &'static str,
    /// Its fields, in the order of the normalised form.
    pub(super) fields: &'static [Field],
}

/// A field of an object.
pub(super) struct Field {
    /// Its name on the wire.
    pub(super) name: &'static str,
    /// Further names, beside the snake_case form of `name` and of these.
    aliases: &'static [&'static str],
    pub(super) shape: Shape,
    pub(super) required: bool,
    /// What it means.
    pub(super) doc: &'static str,
}

impl Field {
    /// Returns every name but the canonical one.
    pub(super) fn aliases(&self) -> Vec<String> {
        let mut names = Vec::new();
        for name in std::iter::once(&self.name).chain(self.aliases) {
            for name in [(*name).to_owned(), snake(name)] {
                if name != self.name && !names.contains(&name) {
                    names.push(name);
                }
            }
        }
        names
    }

    /// Whether `null` means that the field is left out. SDKs write unset fields this way.
    pub(super) fn takes_null(&self) -> bool {
        !self.required
    }

    /// Whether `key` names this field.
    pub(super) fn is_named(&self, key: &str) -> bool {
        key == self.name || self.aliases().iter().any(|alias| alias == key)
    }
}

fn snake(name: &str) -> String {
    let mut out = String::new();
    for c in name.chars() {
        if c.is_ascii_uppercase() {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

const fn field(name: &'static str, shape: Shape, doc: &'static str) -> Field {
    Field { name, aliases: &[], shape, required: false, doc }
}

const fn plain(name: &'static str, alias: &'static str) -> Choice {
    Choice { name, alias, payload: None }
}

/// The policy itself.
pub(super) static ROOT: Struct = Struct {
    place: "the policy itself",
    doc: "How one mount is synced. Every part and every field may be left out.",
    fields: &[
        field("$schema", Shape::Text, "The schema of this document; it has no effect."),
        field("uploadPolicy", Shape::Object(&UPLOAD), "When and how local changes go to the store."),
        field("downloadPolicy", Shape::Object(&DOWNLOAD), "When the store's files come to the mount."),
        field("deletePolicy", Shape::Object(&DELETE), "What a deletion in the mount means for the context."),
        field(
            "extractPolicy",
            Shape::Object(&EXTRACT),
            "What becomes of archives that are downloaded. Left out, nothing is extracted.",
        ),
        field("recyclePolicy", Shape::Object(&RECYCLE), "What the context forgets by itself, and when."),
        field("bwList", Shape::Object(&BW_LIST), "Which paths take part."),
        field("mappingPolicy", Shape::Object(&MAPPING), "Another name of the mount in these paths."),
        field("conflictPolicy", Shape::Choice(CONFLICT), "What happens to a path that both sides changed."),
    ],
};

static UPLOAD: Struct = Struct {
    place: "uploadPolicy",
    doc: "When and how local changes go to the store.",
    fields: &[
        field("autoUpload", Shape::Bool, "Whether uploads happen by themselves."),
        field("uploadStrategy", Shape::Choice(UPLOAD_STRATEGY), "When an upload happens by itself."),
        field("uploadMode", Shape::Choice(UPLOAD_MODE), "How files are laid out in the store."),
        field(
            "archiveExcludePaths",
            Shape::List(&Shape::Path),
            "Path prefixes, read as white list paths, that `Archive` mode stores as `File` mode does.",
        ),
        field(
            "period",
            Shape::Number { min: 0, max: u32::MAX },
            "What SDKs of the guide send beside the strategy. It is kept and has no effect: `UploadPeriodically` has \
             an interval of its own.",
        ),
    ],
};

static UPLOAD_STRATEGY: &[Choice] = &[
    plain("UploadBeforeResourceRelease", "UPLOAD_BEFORE_RESOURCE_RELEASE"),
    Choice { name: "UploadPeriodically", alias: "UPLOAD_PERIODICALLY", payload: Some(&PERIODICALLY) },
    Choice { name: "UploadOnChange", alias: "UPLOAD_ON_CHANGE", payload: Some(&ON_CHANGE) },
];

static PERIODICALLY: Struct = Struct {
    place: "uploadPolicy.uploadStrategy.UploadPeriodically",
    doc: "Checkpoints at a fixed interval during the session as well.",
    fields: &[Field {
        name: "seconds",
        aliases: &[],
        shape: Shape::Number { min: 1, max: u32::MAX },
        required: true,
        doc: "The seconds from one checkpoint to the next.",
    }],
};

static ON_CHANGE: Struct = Struct {
    place: "uploadPolicy.uploadStrategy.UploadOnChange",
    doc: "A checkpoint whenever the mount was changed and has then been quiet for a while.",
    fields: &[Field {
        name: "debounceMs",
        aliases: &[],
        shape: Shape::Number { min: 1, max: u32::MAX },
        required: true,
        doc: "The quiet time in milliseconds.",
    }],
};

static UPLOAD_MODE: &[Choice] = &[plain("File", "FILE"), plain("Archive", "ARCHIVE")];

static DOWNLOAD: Struct = Struct {
    place: "downloadPolicy",
    doc: "When the store's files come to the mount.",
    fields: &[
        field("autoDownload", Shape::Bool, "Whether files come by themselves."),
        field("downloadStrategy", Shape::Choice(DOWNLOAD_STRATEGY), "When the session opens."),
        field(
            "requiredPaths",
            Shape::List(&Shape::Path),
            "Paths, read as white list paths, without which no session opens; they come first.",
        ),
    ],
};

static DOWNLOAD_STRATEGY: &[Choice] =
    &[plain("DownloadAsync", "DOWNLOAD_ASYNC"), plain("DownloadBeforeStart", "DOWNLOAD_BEFORE_START")];

static DELETE: Struct = Struct {
    place: "deletePolicy",
    doc: "What a deletion in the mount means for the context.",
    fields: &[
        field("syncLocalFile", Shape::Bool, "Whether a local deletion is uploaded."),
        field(
            "maxDeletePercent",
            Shape::Number { min: 0, max: 100 },
            "The share of the files above which an upload holds its deletions back.",
        ),
    ],
};

static EXTRACT: Struct = Struct {
    place: "extractPolicy",
    doc: "What becomes of archives that are downloaded.",
    fields: &[
        field("extract", Shape::Bool, "Whether archives are extracted."),
        field("deleteSrcFile", Shape::Bool, "Whether the archive is removed locally afterwards."),
        Field {
            name: "extractToCurrentFolder",
            aliases: &["extractCurrentFolder"],
            shape: Shape::Bool,
            required: false,
            doc: "Whether the members go into the archive's own folder, or into a new one beside it.",
        },
        field("paths", Shape::List(&Shape::Path), "Where archives are extracted; \"\" is everywhere."),
    ],
};

static RECYCLE: Struct = Struct {
    place: "recyclePolicy",
    doc: "What the context forgets by itself, and when.",
    fields: &[
        field("lifecycle", Shape::Choice(LIFECYCLE), "How long a file stays after its last upload."),
        field("paths", Shape::List(&Shape::Path), "Where this holds; \"\" is everywhere."),
    ],
};

static LIFECYCLE: &[Choice] = &[
    plain("Lifecycle_1Day", "LIFECYCLE_1DAY"),
    plain("Lifecycle_3Days", "LIFECYCLE_3DAYS"),
    plain("Lifecycle_5Days", "LIFECYCLE_5DAYS"),
    plain("Lifecycle_10Days", "LIFECYCLE_10DAYS"),
    plain("Lifecycle_15Days", "LIFECYCLE_15DAYS"),
    plain("Lifecycle_30Days", "LIFECYCLE_30DAYS"),
    plain("Lifecycle_90Days", "LIFECYCLE_90DAYS"),
    plain("Lifecycle_180Days", "LIFECYCLE_180DAYS"),
    plain("Lifecycle_360Days", "LIFECYCLE_360DAYS"),
    plain("Lifecycle_Forever", "LIFECYCLE_FOREVER"),
];

static BW_LIST: Struct = Struct {
    place: "bwList",
    doc: "Which paths take part.",
    fields: &[
        field(
            "whiteLists",
            Shape::List(&Shape::Object(&WHITE_LIST)),
            "The places that take part; none means the whole mount.",
        ),
        field(
            "ignorePatterns",
            Shape::List(&Shape::Pattern),
            "Patterns in gitignore syntax, relative to the mount, for what the lists hold and is left out.",
        ),
    ],
};

static WHITE_LIST: Struct = Struct {
    place: "bwList.whiteLists",
    doc: "A place that takes part, with what is left out of it.",
    fields: &[
        field(
            "path",
            Shape::PathUnless("isPathRegex"),
            "The place, a file or a directory; \"\" and \"/\" are the whole mount.",
        ),
        field("excludePaths", Shape::List(&Shape::PathUnless("isExcludeRegex")), "What of it is left out."),
        field("isPathRegex", Shape::Bool, "Whether `path` is an expression that must match in full."),
        field("isExcludeRegex", Shape::Bool, "Whether `excludePaths` are expressions."),
    ],
};

static MAPPING: Struct = Struct {
    place: "mappingPolicy",
    doc: "Another name of the mount in the paths of this policy.",
    fields: &[field("path", Shape::Path, "The directory that stands for the mount; \"\" is none.")],
};

static CONFLICT: &[Choice] = &[
    plain("KeepBoth", "KEEP_BOTH"),
    plain("PreferLocal", "PREFER_LOCAL"),
    plain("PreferRemote", "PREFER_REMOTE"),
    plain("Fail", "FAIL"),
];

/// Every object of a policy.
pub(super) static STRUCTS: &[&Struct] = &[
    &ROOT,
    &UPLOAD,
    &PERIODICALLY,
    &ON_CHANGE,
    &DOWNLOAD,
    &DELETE,
    &EXTRACT,
    &RECYCLE,
    &BW_LIST,
    &WHITE_LIST,
    &MAPPING,
];
