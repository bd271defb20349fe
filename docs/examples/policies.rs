//! A policy with all its parts, and three to start from. Each is also the JSON file with its name.

#![expect(clippy::print_stdout, reason = "an example is a program of its own")]

use std::error::Error;

// ANCHOR: uses
use policy_core::{
    BwList, DeletePolicy, DownloadPolicy, DownloadStrategy, ExtractPolicy, SyncPolicy, UploadPolicy,
    UploadStrategy, WhiteList,
};
// ANCHOR_END: uses
use policy_core::{Scope, TreePath};

fn main() -> Result<(), Box<dyn Error>> {
    let project = "/home/wuying/project";
    show(
        "complete",
        complete(),
        include_str!("guide-complete.json"),
        project,
        &["src/main.rs", "logs/today"],
    )?;
    let paths = ["src/main.rs", "node_modules/left-pad/index.js", ".git/HEAD", ".gitignore"];
    show("development", development(), include_str!("development.json"), project, &paths)?;
    show("production", production(), include_str!("production.json"), "/home/wuying/data", &["any/file"])?;
    let paths = ["cleaned/part-0.parquet", "raw/part-0.csv"];
    show("big_data", big_data(), include_str!("big-data.json"), "/home/wuying/datasets", &paths)
}

// ANCHOR: complete
fn complete() -> SyncPolicy {
    SyncPolicy {
        upload_policy: UploadPolicy {
            auto_upload: true,
            upload_strategy: UploadStrategy::UploadBeforeResourceRelease,
            ..UploadPolicy::default()
        },
        download_policy: DownloadPolicy {
            auto_download: true,
            download_strategy: DownloadStrategy::DownloadAsync,
            ..DownloadPolicy::default()
        },
        delete_policy: DeletePolicy { sync_local_file: true, ..DeletePolicy::default() },
        extract_policy: Some(ExtractPolicy {
            extract: true,
            delete_src_file: false, // the archive is kept
            extract_to_current_folder: true,
            ..ExtractPolicy::default()
        }),
        bw_list: BwList {
            white_lists: vec![WhiteList {
                path: "/home/wuying/project".into(),
                exclude_paths: vec![
                    "/home/wuying/project/temp".into(),
                    "/home/wuying/project/logs".into(),
                    "/home/wuying/project/.git".into(),
                ],
                ..WhiteList::default()
            }],
            ..BwList::default()
        },
        ..SyncPolicy::default()
    }
}
// ANCHOR_END: complete

// ANCHOR: development
fn development() -> SyncPolicy {
    SyncPolicy {
        upload_policy: UploadPolicy {
            auto_upload: true,
            upload_strategy: UploadStrategy::UploadBeforeResourceRelease,
            ..UploadPolicy::default()
        },
        download_policy: DownloadPolicy {
            auto_download: true,
            download_strategy: DownloadStrategy::DownloadAsync,
            ..DownloadPolicy::default()
        },
        delete_policy: DeletePolicy { sync_local_file: true, ..DeletePolicy::default() },
        extract_policy: Some(ExtractPolicy {
            extract: true,
            delete_src_file: false,
            extract_to_current_folder: true,
            ..ExtractPolicy::default()
        }),
        bw_list: BwList {
            white_lists: vec![WhiteList {
                path: "/home/wuying/project".into(),
                exclude_paths: vec![
                    "/home/wuying/project/node_modules".into(),
                    "/home/wuying/project/.git".into(),
                    "/home/wuying/project/temp".into(),
                ],
                ..WhiteList::default()
            }],
            ..BwList::default()
        },
        ..SyncPolicy::default()
    }
}
// ANCHOR_END: development

// ANCHOR: production
fn production() -> SyncPolicy {
    SyncPolicy {
        upload_policy: UploadPolicy {
            auto_upload: true,
            upload_strategy: UploadStrategy::UploadBeforeResourceRelease,
            ..UploadPolicy::default()
        },
        download_policy: DownloadPolicy {
            auto_download: true,
            download_strategy: DownloadStrategy::DownloadAsync,
            ..DownloadPolicy::default()
        },
        delete_policy: DeletePolicy { sync_local_file: false, ..DeletePolicy::default() },
        extract_policy: Some(ExtractPolicy {
            extract: true,
            delete_src_file: true,
            extract_to_current_folder: false,
            ..ExtractPolicy::default()
        }),
        bw_list: BwList {
            white_lists: vec![WhiteList {
                path: "/home/wuying/data".into(),
                exclude_paths: vec![], // excludes nothing
                ..WhiteList::default()
            }],
            ..BwList::default()
        },
        ..SyncPolicy::default()
    }
}
// ANCHOR_END: production

// ANCHOR: big_data
fn big_data() -> SyncPolicy {
    SyncPolicy {
        upload_policy: UploadPolicy {
            auto_upload: false, // pushed by a manual sync
            upload_strategy: UploadStrategy::UploadBeforeResourceRelease,
            ..UploadPolicy::default()
        },
        download_policy: DownloadPolicy {
            auto_download: false, // pulled when it is asked for
            download_strategy: DownloadStrategy::DownloadAsync,
            ..DownloadPolicy::default()
        },
        delete_policy: DeletePolicy { sync_local_file: true, ..DeletePolicy::default() },
        extract_policy: Some(ExtractPolicy {
            extract: true,
            delete_src_file: true,
            extract_to_current_folder: true,
            ..ExtractPolicy::default()
        }),
        bw_list: BwList {
            white_lists: vec![WhiteList {
                path: "/home/wuying/datasets".into(),
                exclude_paths: vec!["/home/wuying/datasets/raw".into(), "/home/wuying/datasets/temp".into()],
                ..WhiteList::default()
            }],
            ..BwList::default()
        },
        ..SyncPolicy::default()
    }
}
// ANCHOR_END: big_data

/// Checks that a policy equals its JSON file beside this one, and prints which paths are in scope.
fn show(
    name: &str,
    policy: SyncPolicy,
    json: &str,
    mount: &str,
    paths: &[&str],
) -> Result<(), Box<dyn Error>> {
    println!("== {name}");
    if policy != SyncPolicy::from_json(json)? {
        return Err(format!("the JSON of {name} says something else").into());
    }
    // ANCHOR: scope
    let scope = Scope::new(&policy, mount.as_bytes())?;
    for path in paths {
        let decision = scope.decide(&path.parse::<TreePath>()?, false);
        println!("{}  {path}: {}", if decision.in_scope { "in " } else { "out" }, decision.rule);
    }
    // ANCHOR_END: scope
    Ok(())
}
