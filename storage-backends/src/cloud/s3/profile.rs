//! Reads one profile from the texts of AWS's shared credentials and config files.

use std::collections::BTreeMap;

use crate::error::ProfileError;

/// Settings for credentials that come from another program or service.
const UNSUPPORTED: [&str; 5] =
    ["credential_process", "sso_session", "sso_start_url", "role_arn", "web_identity_token_file"];

/// Returns a profile's settings by their lower-case names. The credentials file takes precedence over the
/// config file, as in AWS's own tools.
///
/// # Errors
/// [`ProfileError::Unsupported`] if the profile has no static keys, but another source of credentials;
/// [`ProfileError::Missing`] if neither text has the profile.
pub(crate) fn read(
    name: &str,
    credentials: Option<&str>,
    config: Option<&str>,
) -> Result<BTreeMap<String, String>, ProfileError> {
    let in_config = section(config.unwrap_or_default(), |header| {
        header == name && name == "default"
            || header
                .strip_prefix("profile")
                .is_some_and(|rest| rest.starts_with([' ', '\t']) && rest.trim() == name)
    });
    let in_credentials = section(credentials.unwrap_or_default(), |header| header == name);
    if in_config.is_none() && in_credentials.is_none() {
        return Err(ProfileError::Missing { name: name.to_owned() });
    }
    let mut settings = in_config.unwrap_or_default();
    settings.extend(in_credentials.unwrap_or_default());
    if !settings.contains_key("aws_access_key_id")
        && let Some(key) = UNSUPPORTED.iter().find(|key| settings.contains_key(**key))
    {
        return Err(ProfileError::Unsupported { name: name.to_owned(), key });
    }
    Ok(settings)
}

/// Returns the settings of all sections whose header matches; a later setting replaces an earlier one.
/// Indented lines belong to nested settings (`s3 =`), and are ignored.
fn section(text: &str, fits: impl Fn(&str) -> bool) -> Option<BTreeMap<String, String>> {
    let mut found: Option<BTreeMap<String, String>> = None;
    let mut inside = false;
    for line in text.lines() {
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with(['#', ';']) {
            continue;
        }
        if let Some(header) = trimmed.strip_prefix('[') {
            let header = header.split(']').next().unwrap_or_default().trim();
            inside = fits(header);
            if inside {
                found.get_or_insert_default();
            }
        } else if inside
            && !line.starts_with([' ', '\t'])
            && let Some((key, value)) = trimmed.split_once('=')
        {
            // A comment may follow the value, after a space.
            let value = value.split(" #").next().unwrap_or_default().trim();
            found.get_or_insert_default().insert(key.trim().to_ascii_lowercase(), value.to_owned());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const CREDENTIALS: &str = "# mine\n[default]\naws_access_key_id = A0\naws_secret_access_key=S0\n\n\
                               [work]\naws_access_key_id=A1\naws_secret_access_key = S=1/+ # old\n";
    const CONFIG: &str = "[default]\nregion = eu-west-1\n[profile work]\nregion=eu-north-1\n\
                          s3 =\n  endpoint_url = http://nested\nendpoint_url = http://127.0.0.1:1\n\
                          [profile corp]\nsso_session = corp\n[work]\nregion = wrong\n";

    #[test]
    fn both_files_make_one_profile() {
        let work = read("work", Some(CREDENTIALS), Some(CONFIG)).unwrap();
        assert_eq!(work["aws_access_key_id"], "A1");
        assert_eq!(work["aws_secret_access_key"], "S=1/+");
        assert_eq!(work["region"], "eu-north-1");
        assert_eq!(work["endpoint_url"], "http://127.0.0.1:1");
        let default = read("default", Some(CREDENTIALS), Some(CONFIG)).unwrap();
        assert_eq!((default["aws_access_key_id"].as_str(), default["region"].as_str()), ("A0", "eu-west-1"));
    }

    #[test]
    fn missing_and_unsupported_are_told_apart() {
        let missing = read("none", Some(CREDENTIALS), Some(CONFIG)).unwrap_err();
        assert_eq!(missing, ProfileError::Missing { name: "none".into() });
        let sso = read("corp", Some(CREDENTIALS), Some(CONFIG)).unwrap_err();
        assert_eq!(sso, ProfileError::Unsupported { name: "corp".into(), key: "sso_session" });
    }
}
