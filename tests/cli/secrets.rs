//! K1: a canary key in every place where one can stand, and in no line that is written.

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
        // A port that nobody listens at: the error comes from below.
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
