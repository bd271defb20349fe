//! A failure in the background of a session is reported, with its cause.

use crate::world::{World, objects};

#[test]
fn case_19_why_files_could_not_be_brought_is_said() {
    let world = World::new();
    let first = world.machine("first");
    first.write("work/data/f", "x");
    first.done(&["push", "c", "work"]);
    let machine = world.machine("a");
    machine.write(
        "p.json",
        r#"{"bwList": {"whiteLists": [{"path": "data"}]}, "uploadPolicy": {"autoUpload": false}}"#,
    );
    // Nothing can be created in this directory, and none of its files is in scope.
    let run = ["run", "-p", "p.json", "-c", "c", "/proc/tty"];
    for _ in 0..2 {
        let ended = machine.call(&[&run[..], &["--", "sleep", "2"]].concat());
        assert_eq!(ended.code, 3, "{}", ended.seen());
        assert_eq!(ended.err.matches("error:").count(), 1, "{}", ended.seen());
        assert!(
            ended.err.contains("error: cannot make a staging directory in /proc/tty"),
            "{}",
            ended.seen()
        );
        assert!(ended.err.contains("caused by: "), "{}", ended.seen());
    }
    // A command that ends at once may end before the failure.
    let ended = machine.call(&[&run[..], &["--json", "--", "sleep", "2"]].concat());
    let errors: Vec<_> = objects(&ended.err).into_iter().filter(|o| o["message_type"] == "error").collect();
    assert_eq!(errors.len(), 1, "{}", ended.seen());
    assert!(!errors[0]["causes"][0].as_str().unwrap().is_empty(), "{}", ended.seen());
    // With `--wait` the error is still reported only once.
    let ended = machine.call(&[&run[..], &["--wait", "--", "true"]].concat());
    assert_eq!(ended.err.matches("error:").count(), 1, "{}", ended.seen());
}
