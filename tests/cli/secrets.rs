//! K1: a canary key in every place for secrets must appear in no output.

use crate::world::{World, tree};

const CANARY: &str = "CANARYhx7Qz";

#[test]
fn k1_no_line_shows_a_key() {
    let world = World::new();
    let machine = world.machine("a");
    machine.write("work/f", "x");
    let variables = [
        ("AWS_ACCESS_KEY_ID", CANARY),
        ("AWS_SECRET_ACCESS_KEY", CANARY),
        ("AWS_SESSION_TOKEN", CANARY),
        // Nothing listens on this port, so the error comes from the HTTP client.
        ("AWS_ENDPOINT_URL", "http://127.0.0.1:9"),
        ("AWS_REGION", "eu-north-1"),
        ("CTXSYNC_RETRIES", "0"),
        ("CTXSYNC_LOG_FILE", "log"),
        ("CTXSYNC_VERBOSE", "2"),
    ];
    let options = [format!("access_key_id={CANARY}"), format!("secret_access_key={CANARY}")];
    for command in [&["push", "c", "work"][..], &["pull", "c", "work"], &["store", "check"], &["config"]] {
        for json in [&["--json"][..], &[]] {
            let args = [command, &["--store", "s3://bucket/prefix"], json].concat();
            let args = [&args[..], &["--store-option", &options[0], "--store-option", &options[1]]].concat();
            let ended = machine.call_with(&variables, &args);
            assert_eq!(ended.code, i32::from(command[0] != "config"), "{}", ended.seen());
            assert!(!ended.seen().contains(CANARY), "{}", ended.seen());
        }
    }
    for dir in ["state", "log"].map(|name| machine.path(name)).into_iter().filter(|path| path.exists()) {
        let text = if dir.is_dir() { tree(&dir).join("\n") } else { std::fs::read_to_string(&dir).unwrap() };
        assert!(!text.contains(CANARY), "{}", dir.display());
    }
}

#[test]
fn k1_the_command_sees_no_secret_that_was_given_by_an_option() {
    let machine = World::new().machine("a");
    machine.write("work/f", "x");
    let server = ctxsync_tests::s3::S3Server::start().unwrap();
    let endpoint = format!("endpoint={}", server.endpoint());
    let key = |name: &str| server.env().into_iter().find(|(n, _)| n == name).unwrap().1;
    let keys = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"].map(key);
    let secrets = [format!("access_key_id={}", keys[0]), format!("secret_access_key={}", keys[1])];
    let url = server.url("prefix");
    let mut args = vec!["--store", &url];
    for option in [&endpoint, "region=eu-north-1", "allow_http=true", &secrets[0], &secrets[1]] {
        args.extend(["--store-option", option]);
    }
    args.extend(["run", "-c", "c", "work", "--quiesce", "env >../seen.quiesce", "--", "sh", "-c"]);
    // Calls inside the session go through it, and need no secret.
    let script = "env >../seen.command; \"$PROGRAM\" push c . && \"$PROGRAM\" status .";
    args.push(script);
    let ended = machine.call(&args);
    assert_eq!(ended.code, 0, "{}", ended.seen());
    for seen in ["seen.command", "seen.quiesce"] {
        let seen = machine.read(seen);
        assert!(keys.iter().all(|key| !seen.contains(key)), "{seen}");
        // The command may know where the store is and how to reach it.
        assert!(seen.contains(&endpoint) && seen.contains("region=eu-north-1"), "{seen}");
    }
}
