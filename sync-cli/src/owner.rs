//! The owner to set on files: `USER[:GROUP]`, by name or number.

use std::fmt;
use std::str::FromStr;

use nix::unistd::{Gid, Group, Uid, User};
use serde::{Deserialize, Deserializer, de::Error as _};

/// A user and a group, known to this system or given by number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Owner {
    text: String,
    user: u32,
    group: u32,
}

impl Owner {
    /// Returns the ids of the user and the group.
    pub(crate) fn ids(&self) -> (u32, u32) {
        (self.user, self.group)
    }
}

impl FromStr for Owner {
    type Err = String;

    /// The default group is the user's primary group. A user given by number has one only if the system knows
    /// the user.
    fn from_str(text: &str) -> Result<Self, String> {
        let (user, group) = match text.split_once(':') {
            None => (text, None),
            Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
        };
        let (user, own_group) = find_user(user)?;
        let group = match group {
            Some(group) => find_group(group)?,
            None => own_group.ok_or_else(|| {
                format!("user {user} is not known here, and has no group of its own: give one, as in `{user}:{user}`")
            })?,
        };
        Ok(Self { text: text.to_owned(), user, group })
    }
}

/// Returns the ids of a user and of its primary group.
fn find_user(name: &str) -> Result<(u32, Option<u32>), String> {
    // A name may look like a number. As in chown, the name takes precedence.
    let by_name = if name.is_empty() { None } else { User::from_name(name).map_err(unreadable)? };
    if let Some(user) = by_name {
        return Ok((user.uid.as_raw(), Some(user.gid.as_raw())));
    }
    let Some(number) = number(name) else { return Err(format!("there is no user `{name}` here")) };
    let known = User::from_uid(Uid::from_raw(number)).map_err(unreadable)?;
    Ok((number, known.map(|user| user.gid.as_raw())))
}

fn find_group(name: &str) -> Result<u32, String> {
    match Group::from_name(name).map_err(unreadable)? {
        Some(group) => Ok(group.gid.as_raw()),
        None => number(name)
            .map(|number| Gid::from_raw(number).as_raw())
            .ok_or_else(|| format!("there is no group `{name}` here")),
    }
}

/// Parses an id. The largest number is not allowed: to the kernel it means "leave it as it is".
fn number(text: &str) -> Option<u32> {
    text.parse().ok().filter(|number| *number != u32::MAX)
}

fn unreadable(error: nix::errno::Errno) -> String {
    format!("the system does not say who its users are: {error}")
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Owner {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(text: &str) -> Result<(u32, u32), String> {
        text.parse::<Owner>().map(|owner| owner.ids())
    }

    #[test]
    fn names_and_numbers() {
        assert_eq!(ids("root"), Ok((0, 0)));
        assert_eq!(ids("0"), Ok((0, 0)));
        assert_eq!(ids("root:"), Ok((0, 0)));
        assert_eq!(ids("root:54321"), Ok((0, 54321)));
        assert_eq!(ids("54321:54322"), Ok((54321, 54322)));
    }

    #[test]
    fn nobody() {
        for bad in ["", ":", ":0", "no-such-user", "root:no-such-group", "54321", "-1:0", "4294967295:0"] {
            assert!(ids(bad).is_err(), "{bad:?}");
        }
        assert!(ids("54321").is_err_and(|why| why.contains("54321:54321")));
    }
}
