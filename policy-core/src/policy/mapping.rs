//! MappingPolicy: another name of the mount.

use serde::{Deserialize, Serialize};

/// Another name of the mount in the paths of a policy, such as the directory that the files have on the
/// user's own machine.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct MappingPolicy {
    /// The directory that stands for the mount, in Unix or Windows form; `""` is none.
    pub path: String,
}
