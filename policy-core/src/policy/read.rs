//! Makes a policy of a document that was checked; what the document leaves out has its default.

use super::value::Value;
use super::{
    BwList, ConflictPolicy, DeletePolicy, DownloadPolicy, DownloadStrategy, ExtractPolicy, Lifecycle,
    MappingPolicy, RecyclePolicy, SyncPolicy, UploadMode, UploadPolicy, UploadStrategy, WhiteList,
};

/// An object with canonical names.
struct Object<'v>(&'v [(String, Value)]);

impl<'v> Object<'v> {
    fn new(value: &'v Value) -> Self {
        match value {
            Value::Map(entries) => Self(entries),
            _ => Self(&[]),
        }
    }

    fn get(&self, name: &str) -> Option<&'v Value> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value)
    }

    fn part<T: Default>(&self, name: &str, read: impl Fn(Object<'v>) -> T) -> T {
        self.get(name).map(|v| read(Object::new(v))).unwrap_or_default()
    }

    fn bool(&self, name: &str, default: bool) -> bool {
        match self.get(name) {
            Some(Value::Bool(b)) => *b,
            _ => default,
        }
    }

    fn number(&self, name: &str) -> Option<u32> {
        match self.get(name) {
            Some(Value::Int(n)) => u32::try_from(*n).ok(),
            _ => None,
        }
    }

    fn text(&self, name: &str) -> Option<&'v str> {
        match self.get(name) {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }

    fn list<T>(&self, name: &str, default: Vec<T>, item: impl Fn(&'v Value) -> Option<T>) -> Vec<T> {
        match self.get(name) {
            Some(Value::List(items)) => items.iter().filter_map(item).collect(),
            _ => default,
        }
    }

    fn texts(&self, name: &str, default: Vec<String>) -> Vec<String> {
        self.list(name, default, |v| match v {
            Value::Text(text) => Some(text.clone()),
            _ => None,
        })
    }
}

/// Returns the policy that `value` is.
pub(crate) fn policy(value: &Value) -> SyncPolicy {
    let o = Object::new(value);
    SyncPolicy {
        upload_policy: o.part("uploadPolicy", upload),
        download_policy: o.part("downloadPolicy", download),
        delete_policy: o.part("deletePolicy", delete),
        extract_policy: o.get("extractPolicy").map(|v| extract(Object::new(v))),
        recycle_policy: o.part("recyclePolicy", recycle),
        bw_list: o.part("bwList", bw_list),
        mapping_policy: o
            .part("mappingPolicy", |o| MappingPolicy { path: o.text("path").unwrap_or_default().to_owned() }),
        conflict_policy: match o.text("conflictPolicy") {
            Some("PreferLocal") => ConflictPolicy::PreferLocal,
            Some("PreferRemote") => ConflictPolicy::PreferRemote,
            Some("Fail") => ConflictPolicy::Fail,
            _ => ConflictPolicy::KeepBoth,
        },
    }
}

fn upload(o: Object<'_>) -> UploadPolicy {
    let default = UploadPolicy::default();
    let strategy = match o.get("uploadStrategy") {
        Some(Value::Map(entries)) => entries.first().and_then(|(name, payload)| {
            let payload = Object::new(payload);
            match name.as_str() {
                "UploadPeriodically" => {
                    Some(UploadStrategy::UploadPeriodically { seconds: payload.number("seconds")? })
                }
                "UploadOnChange" => {
                    Some(UploadStrategy::UploadOnChange { debounce_ms: payload.number("debounceMs")? })
                }
                _ => None,
            }
        }),
        _ => None,
    };
    UploadPolicy {
        auto_upload: o.bool("autoUpload", default.auto_upload),
        upload_strategy: strategy.unwrap_or_default(),
        upload_mode: match o.text("uploadMode") {
            Some("Archive") => UploadMode::Archive,
            _ => UploadMode::File,
        },
        archive_exclude_paths: o.texts("archiveExcludePaths", default.archive_exclude_paths),
        period: o.number("period"),
    }
}

fn download(o: Object<'_>) -> DownloadPolicy {
    let default = DownloadPolicy::default();
    DownloadPolicy {
        auto_download: o.bool("autoDownload", default.auto_download),
        download_strategy: match o.text("downloadStrategy") {
            Some("DownloadBeforeStart") => DownloadStrategy::DownloadBeforeStart,
            _ => DownloadStrategy::DownloadAsync,
        },
    }
}

fn delete(o: Object<'_>) -> DeletePolicy {
    let default = DeletePolicy::default();
    DeletePolicy {
        sync_local_file: o.bool("syncLocalFile", default.sync_local_file),
        max_delete_percent: o.number("maxDeletePercent").and_then(|n| u8::try_from(n).ok()),
    }
}

fn extract(o: Object<'_>) -> ExtractPolicy {
    let default = ExtractPolicy::default();
    ExtractPolicy {
        extract: o.bool("extract", default.extract),
        delete_src_file: o.bool("deleteSrcFile", default.delete_src_file),
        extract_to_current_folder: o.bool("extractToCurrentFolder", default.extract_to_current_folder),
        paths: o.texts("paths", default.paths),
    }
}

fn recycle(o: Object<'_>) -> RecyclePolicy {
    let default = RecyclePolicy::default();
    RecyclePolicy {
        lifecycle: match o.text("lifecycle") {
            Some("Lifecycle_1Day") => Lifecycle::Days1,
            Some("Lifecycle_3Days") => Lifecycle::Days3,
            Some("Lifecycle_5Days") => Lifecycle::Days5,
            Some("Lifecycle_10Days") => Lifecycle::Days10,
            Some("Lifecycle_15Days") => Lifecycle::Days15,
            Some("Lifecycle_30Days") => Lifecycle::Days30,
            Some("Lifecycle_90Days") => Lifecycle::Days90,
            Some("Lifecycle_180Days") => Lifecycle::Days180,
            Some("Lifecycle_360Days") => Lifecycle::Days360,
            _ => Lifecycle::Forever,
        },
        paths: o.texts("paths", default.paths),
    }
}

fn bw_list(o: Object<'_>) -> BwList {
    let default = BwList::default();
    BwList {
        white_lists: o.list("whiteLists", default.white_lists, |v| Some(white_list(Object::new(v)))),
        ignore_patterns: o.texts("ignorePatterns", default.ignore_patterns),
    }
}

fn white_list(o: Object<'_>) -> WhiteList {
    let default = WhiteList::default();
    WhiteList {
        path: o.text("path").unwrap_or_default().to_owned(),
        exclude_paths: o.texts("excludePaths", default.exclude_paths),
        is_path_regex: o.bool("isPathRegex", default.is_path_regex),
        is_exclude_regex: o.bool("isExcludeRegex", default.is_exclude_regex),
    }
}
