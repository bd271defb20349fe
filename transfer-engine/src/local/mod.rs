//! The local file system. Everything that this crate does in a mount goes through this module, by handles
//! below the mount's own and never by joined paths.

mod absolute;
mod busy;
mod content;
mod file_systems;
mod fingerprint;
mod found;
mod git_dir;
mod holes;
mod listing;
mod look;
mod make_all;
mod mount_dir;
pub(crate) mod os;
mod page_cache;
mod recover;
mod scan;
mod shelf;
mod sparse;
mod special;
pub(crate) mod sqlite;
mod staged;
mod staging;
mod staging_dir;
mod staging_id;
mod stagings;

pub(crate) use absolute::absolute;
pub(crate) use busy::Busy;
pub(crate) use content::digest_of;
pub(crate) use file_systems::{FileSystems, Looked, prefix};
pub(crate) use fingerprint::Fingerprint;
pub(crate) use found::{Found, FoundKind, ScanFilter, ScanPlan};
pub(crate) use git_dir::{GitPart, Repositories, names_objects};
pub(crate) use holes::{data_from, is_sparse};
pub(crate) use look::Look;
pub(crate) use make_all::make_all;
#[cfg(feature = "watch")]
pub(crate) use mount_dir::identity;
pub(crate) use mount_dir::{
    Flush, MountDir, Writable, end_writable, open_dir, open_file_at, read_link_at, stat_at, writable,
};
pub(crate) use page_cache::CacheLife;
pub(crate) use recover::{recover, recover_below};
pub(crate) use scan::Scan;
pub(crate) use shelf::Shelf;
pub(crate) use sparse::{is_hole, write_sparse};
pub(crate) use special::Special;
pub(crate) use staged::{
    Expected, InstallError, NewFile, Staged, Unstaged, is_staging, is_staging_name, move_over, names,
    remove_tree, set_times, staged,
};
pub(crate) use staging::Staging;
pub(crate) use staging_dir::StagedDir;
pub(crate) use staging_id::StagingId;
pub(crate) use stagings::{Shelves, Stagings};
