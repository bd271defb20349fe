//! The parts of a policy, one by one, and their JSON.

#![expect(clippy::print_stdout, reason = "an example is a program of its own")]

use std::error::Error;

use policy_core::{
    BwList, DeletePolicy, DownloadPolicy, DownloadStrategy, ExtractPolicy, Scope, SyncPolicy, TreePath,
    UploadPolicy, UploadStrategy, WhiteList,
};

fn main() -> Result<(), Box<dyn Error>> {
    upload()?;
    download()?;
    delete()?;
    extract()?;
    lists()
}

fn upload() -> Result<(), Box<dyn Error>> {
    println!("== upload");
    // ANCHOR: upload
    let upload_policy = UploadPolicy {
        auto_upload: true, // off: only a manual sync uploads
        upload_strategy: UploadStrategy::UploadBeforeResourceRelease,
        ..UploadPolicy::default()
    };
    println!("{}", serde_json::to_string(&upload_policy)?);
    // ANCHOR_END: upload
    let policy = SyncPolicy { upload_policy, ..SyncPolicy::default() };
    same(&policy, include_str!("upload.json"))
}

fn download() -> Result<(), Box<dyn Error>> {
    println!("== download");
    // ANCHOR: download
    let download_policy = DownloadPolicy {
        auto_download: true, // off: files are pulled when they are asked for
        download_strategy: DownloadStrategy::DownloadAsync,
        ..DownloadPolicy::default()
    };
    println!("{}", serde_json::to_string(&download_policy)?);
    // ANCHOR_END: download
    let policy = SyncPolicy { download_policy, ..SyncPolicy::default() };
    same(&policy, include_str!("download.json"))
}

fn delete() -> Result<(), Box<dyn Error>> {
    println!("== delete");
    // ANCHOR: delete
    let delete_policy = DeletePolicy {
        sync_local_file: true, // off: the context keeps files that are deleted here
        ..DeletePolicy::default()
    };
    println!("{}", serde_json::to_string(&delete_policy)?);
    // ANCHOR_END: delete
    let policy = SyncPolicy { delete_policy, ..SyncPolicy::default() };
    same(&policy, include_str!("delete.json"))
}

fn extract() -> Result<(), Box<dyn Error>> {
    println!("== extract");
    // ANCHOR: extract
    let extract_policy = ExtractPolicy {
        extract: true,
        delete_src_file: true,            // deletes the archive after that
        extract_to_current_folder: false, // into a new directory beside it
        ..ExtractPolicy::default()
    };
    println!("{}", serde_json::to_string(&extract_policy)?);
    // ANCHOR_END: extract
    let policy = SyncPolicy { extract_policy: Some(extract_policy), ..SyncPolicy::default() };
    same(&policy, include_str!("extract.json"))
}

fn lists() -> Result<(), Box<dyn Error>> {
    println!("== lists");
    // ANCHOR: lists
    let white_list = WhiteList {
        path: "/home/wuying/data".into(),
        exclude_paths: vec!["/home/wuying/data/temp".into(), "/home/wuying/data/cache".into()],
        ..WhiteList::default()
    };
    let bw_list = BwList { white_lists: vec![white_list], ..BwList::default() };

    // The result for a mount at /home/wuying:
    let policy = SyncPolicy { bw_list, ..SyncPolicy::default() };
    let scope = Scope::new(&policy, b"/home/wuying")?;
    for path in ["data/train.csv", "data/temp/x", "data/temperature.csv", "notes.txt"] {
        let decision = scope.decide(&path.parse::<TreePath>()?, false);
        println!("{:<5} {path}  ({})", decision.in_scope, decision.rule);
    }
    // ANCHOR_END: lists
    same(&policy, include_str!("lists.json"))
}

/// Checks that a policy equals its JSON file beside this one.
fn same(policy: &SyncPolicy, json: &str) -> Result<(), Box<dyn Error>> {
    if *policy == SyncPolicy::from_json(json)? { Ok(()) } else { Err("the JSON says something else".into()) }
}
