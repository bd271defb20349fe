//! Option over variable over profile over config file over default, and `ctxsync config`.

use crate::world::{Machine, World};

const FILE: &str = "bwlimit = '1M'\nretries = 1\nmax-delete = 5\n\
                    [profiles.work]\nbwlimit = '2M'\nretries = 2\npolicy = 'p.json'\n\
                    [profiles.work.store-option]\naws_secret_access_key = 'canary-in-the-file'\n";

fn value(machine: &Machine, variables: &[(&str, &str)], args: &[&str], name: &str) -> (String, String) {
    let args = [&["--json", "config"][..], args].concat();
    let ended = machine.call_with(variables, &args);
    assert_eq!(ended.code, 0, "{}", ended.seen());
    let row = ended.of_type("setting").into_iter().find(|row| row["name"] == name).unwrap();
    (row["value"].as_str().unwrap_or("-").to_owned(), row["origin"].as_str().unwrap().to_owned())
}

#[test]
fn precedence() {
    let machine = World::new().machine("a");
    machine.write("config/ctxsync/config.toml", FILE);
    let variable = [("CTXSYNC_RETRIES", "3"), ("CTXSYNC_PROFILE", "work")];
    let pair = |value: &str, origin: &str| (value.to_owned(), origin.to_owned());
    assert_eq!(value(&machine, &[], &[], "retries"), pair("1", "config file"));
    assert_eq!(value(&machine, &[], &["--profile", "work"], "retries"), pair("2", "profile work"));
    assert_eq!(value(&machine, &variable, &[], "retries"), pair("3", "variable CTXSYNC_RETRIES"));
    assert_eq!(value(&machine, &variable, &["--retries", "4"], "retries"), pair("4", "option"));
    assert_eq!(value(&machine, &variable, &[], "max-delete"), pair("5", "config file"));
    assert_eq!(value(&machine, &variable, &[], "bwlimit"), pair("2.0 MiB/s", "profile work"));
    assert_eq!(value(&machine, &variable, &[], "memory"), pair("256 MiB", "default"));
    assert_eq!(value(&machine, &variable, &[], "profile"), pair("work", "variable CTXSYNC_PROFILE"));
    let policy = machine.path("config/ctxsync/p.json").display().to_string();
    assert_eq!(value(&machine, &variable, &[], "policy"), (policy, "profile work".to_owned()));
}

#[test]
fn switches_by_variable() {
    let machine = World::new().machine("a");
    for (text, on) in [("1", "true"), ("0", "false"), ("yes", "true"), ("off", "false")] {
        assert_eq!(value(&machine, &[("CTXSYNC_CHECKSUM", text)], &[], "checksum").0, on, "{text}");
    }
    assert_eq!(machine.call_with(&[("CTXSYNC_CHECKSUM", "maybe")], &["config"]).code, 2);
    assert_eq!(value(&machine, &[("CTXSYNC_KILL_AFTER", "9s")], &[], "kill-after").0, "9s");
}

#[test]
fn every_option_has_a_variable() {
    let machine = World::new().machine("a");
    let variables = [
        ("store", "/s"),
        ("state-dir", "/t"),
        ("policy", "/p"),
        ("dry-run", "true"),
        ("checksum", "true"),
        ("conflict", "fail"),
        ("max-delete", "7%"),
        ("exclude", "*.log,/tmp"),
        ("allow-empty-mount", "true"),
        ("max-upload", "1 GiB"),
        ("extract-limits", "bytes=1 GiB,members=5,levels=6,ratio=7"),
        ("concurrency", "3"),
        ("memory", "64 MiB"),
        ("retries", "0"),
        ("timeout", "9s"),
        ("quiet", "true"),
        ("verbose", "2"),
        ("no-progress", "true"),
        ("no-pager", "true"),
        ("color", "never"),
        ("log-file", "log"),
    ];
    for (name, text) in variables {
        let variable = format!("CTXSYNC_{}", name.replace('-', "_").to_uppercase());
        let text = text.replace("1 GiB", "1.0 GiB");
        let (value, origin) = value(&machine, &[(&variable, &text)], &[], name);
        assert_eq!((value, origin), (text.clone(), format!("variable {variable}")));
    }
}

#[test]
fn store_options_are_named_and_not_shown() {
    let machine = World::new().machine("a");
    machine.write("config/ctxsync/config.toml", FILE);
    let variables =
        [("CTXSYNC_STORE_OPTION", "aws_session_token=canary-var,region=eu"), ("CTXSYNC_PROFILE", "work")];
    for args in [&["config"][..], &["--json", "config"]] {
        let ended = machine.call_with(&variables, args);
        assert_eq!(ended.code, 0);
        for name in ["aws_session_token", "region", "aws_secret_access_key"] {
            assert!(ended.out.contains(name), "{}", ended.out);
        }
        assert!(!ended.out.contains("canary"), "{}", ended.out);
    }
}

#[test]
fn the_table() {
    let machine = World::new().machine("a");
    let seen = machine.call(&["config", "--bwlimit", "10M"]).seen();
    // The column widths depend on the length of the temporary directory's name.
    let seen = regex::Regex::new(" {2,}").unwrap().replace_all(&seen, "  ").into_owned();
    insta::assert_snapshot!("config-table", seen);
}

#[test]
fn mistakes_in_the_file() {
    let machine = World::new().machine("a");
    machine.write("one.toml", "bwlimt = '1M'\n");
    machine.write("two.toml", "[profiles.a]\ntimeout = 'soon'\n");
    machine.write("three.toml", "[profiles.home]\n[profiles.work]\n");
    let texts = [
        machine.call(&["--config", "one.toml", "config"]).seen(),
        machine.call(&["--config", "two.toml", "config"]).seen(),
        machine.call(&["--config", "three.toml", "--profile", "play", "config"]).seen(),
    ];
    insta::assert_snapshot!("config-mistakes", texts.join("\n\n"));
}

#[test]
fn no_home_at_all() {
    let machine = World::new().machine("a");
    let mut command = machine.command(["status"]);
    for variable in ["HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_DATA_HOME"] {
        command.env_remove(variable);
    }
    let ended = machine.ended(command.output().unwrap());
    assert_eq!(ended.code, 2);
    assert!(ended.err.contains("hint: name a directory with --state-dir"), "{}", ended.err);
}
