//! Pull: from the store to the mount.

mod apply;
mod applying;
mod compare;
mod contents;
mod dir_times;
mod extracting;
mod fetch;
mod folder;
mod git;
mod item;
mod jobs;
mod ledger;
mod members;
mod place;
mod prove;
mod pull;
mod read;
mod recent;
mod removing;
mod restore;
mod resume;
mod trouble;
mod windows;
