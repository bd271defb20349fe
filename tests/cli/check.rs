//! `check`, `repair` and `push --heal`: what they say, and how they end.

use ctxsync_tests::s3::S3Server;
use insta::assert_snapshot;

use crate::world::{Machine, World, noise};

fn with_two_contexts(world: &World) -> Machine {
    let machine = world.machine("a");
    machine.write("work/docs/one.md", "one");
    machine.write("work/docs/two.md", "two");
    machine.write("work/model", noise(300_000));
    machine.done(&["push", "c", "work"]);
    machine.write("work/docs/one.md", "one, changed");
    machine.done(&["push", "c", "work"]);
    machine.write("other/f", "f");
    machine.done(&["push", "other", "other"]);
    machine
}

/// Returns the pack with most bytes, which holds the files of the first push.
fn first_pack(world: &World) -> std::path::PathBuf {
    let packs = std::fs::read_dir(world.store().join("packs")).unwrap().map(|entry| entry.unwrap().path());
    packs.max_by_key(|path| path.metadata().unwrap().len()).unwrap()
}

/// Returns the text without what differs from one run to the next.
fn steady(text: &str) -> String {
    let digits = regex::Regex::new(r"packs/[0-9a-f]{32}").unwrap();
    let times = regex::Regex::new(r"; [0-9.]+ s\b").unwrap();
    times.replace_all(&digits.replace_all(text, "packs/PACK"), "; TIME").into_owned()
}

#[test]
fn a_whole_store_is_called_whole() {
    let world = World::new();
    let machine = with_two_contexts(&world);
    let said = machine.done(&["check"]);
    assert_snapshot!(steady(&said.out), @"checked 2 contexts, 5 snapshots, 3 packs (293 KiB): no damage found; TIME");
    let said = machine.done(&["check", "--read-data", "c", "-v"]);
    assert!(said.out.starts_with("c: 3 snapshots, no damage found\nchecked 1 context"), "{}", said.out);
    let summary = machine.done(&["check", "--read-data=100%", "--json"]).summary();
    let figures = ["contexts", "contexts_damaged", "snapshots", "packs", "packs_damaged", "packs_unused"];
    assert_eq!(figures.map(|f| summary[f].as_u64().unwrap()), [2, 0, 5, 3, 0, 0]);
    assert!(summary["bytes_read"].as_u64().unwrap() > 300_000 && summary["requests"].as_u64().unwrap() > 8);
    let none = machine.done(&["repair"]);
    assert!(none.out.starts_with("checked 2 contexts: no damage found"), "{}", none.out);
}

#[test]
fn what_is_damaged_is_named_repaired_and_healed() {
    let world = World::new();
    let machine = with_two_contexts(&world);
    std::fs::remove_file(first_pack(&world)).unwrap();
    let said = machine.call(&["check"]);
    assert_eq!(said.code, 1);
    assert_snapshot!("check_damaged", steady(&said.seen()));
    let json = machine.call(&["check", "--json", "c"]);
    assert_eq!((json.code, json.summary()["exit_code"].as_u64()), (1, Some(1)));
    let files: Vec<_> = json.of_type("damaged_file").iter().map(|f| f["path"].clone()).collect();
    assert_eq!(files, ["docs/one.md", "docs/two.md", "model"]);
    assert_eq!(machine.call(&["check", "other"]).code, 0);
    // Without --yes nothing is written.
    let dry = machine.call(&["repair"]);
    assert_eq!(dry.code, 3);
    assert_eq!(machine.done(&["log", "c", "--json"]).of_type("snapshot").len(), 3);
    let wet = machine.call(&["repair", "--yes"]);
    assert_eq!(wet.code, 3);
    assert_snapshot!("repair_damaged", steady(&wet.seen()));
    let gone = machine.call(&["cat", "c:model"]);
    assert_eq!(gone.code, 10);
    assert!(gone.err.contains("recycled or lost"), "{}", gone.err);
    // The machine still has everything, and heals it.
    let pulled = machine.done(&["pull", "c", "work", "--json"]).summary();
    assert_eq!(pulled["deleted"], 0);
    let healed = machine.done(&["push", "c", "work", "--json"]).summary();
    assert_eq!((&healed["added"], &healed["withheld"]), (&2.into(), &0.into()));
    machine.done(&["repair", "--yes", "--forget-damaged"]);
    machine.done(&["check", "--read-data"]);
    world.machine("b").done(&["pull", "c", "work"]);
    assert_eq!(
        std::fs::read(world.machine("b").path("work/model")).unwrap(),
        std::fs::read(machine.path("work/model")).unwrap()
    );
}

/// A session saves what the store has lost, although nothing changes in it.
#[test]
fn a_session_sends_what_a_repair_has_left_out() {
    let world = World::new();
    let machine = world.machine("a");
    machine.write("work/a", "v");
    machine.done(&["push", "c", "work"]);
    std::fs::remove_file(first_pack(&world)).unwrap();
    assert_eq!(machine.call(&["repair", "--yes", "c"]).code, 3);
    let planned = machine.done(&["plan", "push", "c", "work"]);
    assert!(planned.out.contains("lost in the store; sent again from here"), "{}", planned.seen());
    let ended = machine.done(&["run", "--wait", "-c", "c", "work", "--", "true"]);
    assert!(ended.err.contains("1 added"), "{}", ended.seen());
    assert_eq!(machine.done(&["cat", "c:a"]).out, "v");
    let again = machine.done(&["push", "c", "work"]);
    assert!(again.out.starts_with("nothing to push"), "{}", again.out);
}

#[test]
fn mistakes_are_told() {
    let world = World::new();
    let machine = world.machine("a");
    assert_eq!(machine.call(&["check"]).code, 10, "there is no store");
    with_two_contexts(&world);
    assert_eq!(machine.call(&["check", "nothing"]).code, 10);
    assert_eq!(machine.call(&["repair", "nothing"]).code, 10);
    for wrong in ["0%", "101%", "half%", "[a"] {
        let said = machine.call(&["check", &format!("--read-data={wrong}")]);
        assert_eq!(said.code, 2, "{wrong}: {}", said.err);
    }
    assert_eq!(machine.call(&["push", "--heal=a-bit", "c", "work"]).code, 2);
}

#[test]
fn a_store_that_lost_its_description_is_not_made_anew() {
    let world = World::new();
    let machine = with_two_contexts(&world);
    let description = world.store().join("ctxsync.json");
    let before = std::fs::read_to_string(&description).unwrap();
    for damaged in [None, Some("{}")] {
        match damaged {
            None => std::fs::remove_file(&description).unwrap(),
            Some(text) => std::fs::write(&description, text).unwrap(),
        }
        assert_eq!(machine.call(&["check"]).code, 1);
        // A machine that has never seen the store would otherwise begin another one in its place.
        let other = world.machine("fresh");
        other.write("work/x", "x");
        assert_eq!(other.call(&["push", "new", "work"]).code, 1);
        assert!(machine.done(&["repair"]).out.starts_with("would repair the store's description"));
        machine.done(&["repair", "--yes"]);
        machine.done(&["check"]);
        let field =
            |text: &str, name: &str| serde_json::from_str::<serde_json::Value>(text).unwrap()[name].clone();
        let now = std::fs::read_to_string(&description).unwrap();
        for name in ["storeId", "formatVersion"] {
            assert_eq!(field(&now, name), field(&before, name));
        }
        let grace = field(&now, "graceSeconds").as_u64().unwrap();
        assert!((86_400..86_500).contains(&grace), "{grace}");
    }
}

#[test]
fn a_purge_asks_first_and_leaves_nothing_behind() {
    let world = World::new();
    let machine = world.machine("a");
    let secret = noise(4000);
    machine.write("work/keys/secret", &secret);
    machine.write("work/plain", "plain");
    machine.done(&["push", "c", "work"]);
    machine.write("work/plain", "changed");
    machine.done(&["push", "c", "work"]);
    let holds = || {
        let packs = std::fs::read_dir(world.store().join("packs")).unwrap();
        packs
            .map(|pack| std::fs::read(pack.unwrap().path()).unwrap())
            .any(|pack| pack.windows(64).any(|window| window == &secret[..64]))
    };
    let asked = machine.call(&["purge", "c:keys"]);
    assert_eq!(asked.code, 2);
    assert!(asked.err.contains("purged only by consent"), "{}", asked.err);
    let dry = machine.done(&["purge", "c:keys", "--dry-run"]);
    assert_snapshot!(steady(&dry.out), @r"
    c:keys/secret
    forget of c: @3, @2 (they have the paths, or need packs that hold, or may hold, their content)
    would purge 1 path from c: 2 snapshots forgotten, 1 pack given up; TIME
    ");
    assert!(holds());
    let done = machine.done(&["purge", "c:keys", "--yes", "--exclusive", "--json"]);
    let line = &done.of_type("purged")[0];
    assert_eq!((&line["snapshot"], &line["packs_deleted"]), (&4.into(), &1.into()));
    assert!(!holds());
    assert_eq!(machine.call(&["cat", "c:keys/secret"]).code, 10);
    assert_eq!(machine.done(&["cat", "c:plain"]).out, "changed");
    machine.done(&["check", "--read-data"]);
    assert_eq!(machine.call(&["purge", "c:keys", "--yes"]).code, 10, "it is gone");
    for wrong in ["c", "c@2:keys"] {
        assert_eq!(machine.call(&["purge", wrong, "--yes"]).code, 2, "{wrong}");
    }
}

/// Over a store that takes its time, so that requests are under way at once.
#[test]
fn a_check_over_s3_comes_to_its_end_with_any_concurrency() {
    let world = World::new();
    let root = world.store().join("../s3");
    std::fs::create_dir_all(&root).unwrap();
    let server = S3Server::start_at(&root, std::time::Duration::from_millis(2)).unwrap();
    let machine = world.machine("a");
    let env = server.env();
    let variables: Vec<_> = env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let url = server.url("store");
    let store = ["--store", url.as_str()];
    let call = |args: &[&str]| machine.call_with(&variables, &[args, &store].concat());
    for context in ["c1", "c2", "c3"] {
        for round in 0..3 {
            machine.write("work/f", noise(2000 + round));
            assert_eq!(call(&["push", context, "work"]).code, 0);
        }
    }
    for concurrency in ["1", "2", "16"] {
        for more in [&[][..], &["--read-data"][..], &["--read-data=f"][..]] {
            let args = [&["check", "--concurrency", concurrency][..], more].concat();
            let said = call(&args);
            assert!(said.code == 0 && said.out.contains("no damage found"), "{} {}", said.out, said.err);
        }
    }
    // Much is damaged at once.
    let bucket = server.bucket_dir().join("store/packs");
    for pack in std::fs::read_dir(&bucket).unwrap() {
        let path = pack.unwrap().path();
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[10] ^= 1;
        std::fs::write(&path, bytes).unwrap();
    }
    assert_eq!(call(&["check", "--concurrency", "1"]).code, 0, "without contents it is not seen");
    assert_eq!(call(&["check", "--concurrency", "1", "--read-data"]).code, 1);
    assert_eq!(call(&["repair", "--concurrency", "1", "--yes"]).code, 3);
    assert_eq!(call(&["push", "--heal", "c3", "work"]).code, 0);
}

/// Returns the arguments of the last command that a hint names.
fn command_of(said: &str) -> Vec<String> {
    let commands = regex::Regex::new(r"`ctxsync ([^`]+)`").unwrap();
    let last = commands.captures_iter(said).last().unwrap_or_else(|| panic!("no command in {said}"));
    last[1].split(' ').map(str::to_owned).collect()
}

#[test]
fn the_command_that_a_check_or_gc_names_is_the_one_that_works() {
    for damaged in ["fffffffffffffffc", "fffffffffffffffd", "tag"] {
        let world = World::new();
        let machine = with_two_contexts(&world);
        if damaged == "tag" {
            machine.done(&["context", "tag", "c@3", "good"]);
        }
        let objects = std::fs::read_dir(world.store().join("contexts/c")).unwrap();
        let mut paths = objects.map(|entry| entry.unwrap().path());
        let path = paths.find(|path| path.to_str().unwrap().contains(damaged)).unwrap();
        // The head, the one before, and a tag.
        std::fs::write(&path, "").unwrap();
        let said = machine.call(&["check"]);
        assert_eq!(said.code, 1);
        if damaged == "tag" {
            let of_gc = machine.call(&["gc"]);
            assert_eq!((of_gc.code, command_of(&of_gc.err)), (1, command_of(&said.err)));
        }
        let command = command_of(&said.err);
        let command: Vec<&str> = command.iter().map(String::as_str).collect();
        let mended = machine.done(&command);
        if damaged == "tag" {
            assert_eq!(mended.out, "deleted the damaged tag good of c\n");
        }
        let again = machine.call(&["check"]);
        if damaged == "fffffffffffffffc" {
            // The new head is whole, and the old one can be forgotten now.
            let command = command_of(&again.err);
            machine.done(&command.iter().map(String::as_str).collect::<Vec<_>>());
        }
        machine.done(&["check"]);
    }
}

#[test]
fn s3_a_damaged_head_is_named_with_what_can_be_done() {
    let world = World::new();
    let machine = with_two_contexts(&world);
    let head = world.store().join("contexts/c/fffffffffffffffc");
    let whole = std::fs::read(&head).unwrap();
    std::fs::write(&head, [&whole[..], b"junk"].concat()).unwrap();
    machine.done(&["restore", "c@2", "out"]);
    assert_eq!(std::fs::read(machine.path("out/docs/one.md")).unwrap(), b"one");
    assert_eq!(machine.done(&["cat", "c@-1:docs/two.md"]).out, "two");
    machine.done(&["ls", "c@2"]);
    machine.done(&["context", "fork", "c@2", "fork"]);
    for command in [&["ls", "c"][..], &["push", "c", "work"], &["context", "revert", "c@2"]] {
        let said = machine.call(command);
        assert_eq!(said.code, 1, "{command:?}");
        assert!(said.err.contains("hint: `c@2` is the newest that can be read"), "{}", said.err);
        assert_eq!(command_of(&said.err), ["repair", "--yes", "c"]);
    }
    let listed = machine.call(&["context", "list"]);
    assert_eq!((listed.code, &listed.out[..]), (3, "fork\nother\n"));
    assert!(listed.err.contains("error: the newest snapshot of c can't be read"), "{}", listed.err);
    let stats = machine.call(&["stats"]);
    assert!(
        stats.code == 3 && stats.out.contains("  other\n") && stats.out.contains("  fork\n"),
        "{}",
        stats.seen()
    );
    assert!(stats.err.contains("error: c is not counted"), "{}", stats.err);
    let log = machine.call(&["log", "c", "--json"]);
    let shown: Vec<_> = log.of_type("snapshot").iter().map(|s| s["snapshot"].as_u64().unwrap()).collect();
    assert_eq!((log.code, shown), (3, vec![2, 1]));
    machine.done(&["context", "delete", "c", "--yes"]);
    assert_eq!(machine.done(&["context", "list"]).out, "fork\nother\n");
    machine.done(&["check"]);
}

#[test]
fn a_path_in_a_hint_is_quoted_for_a_shell() {
    let world = World::new();
    let machine = world.machine("a");
    machine.write("it's mine/f", "f");
    machine.done(&["push", "c", "it's mine"]);
    std::fs::remove_file(first_pack(&world)).unwrap();
    let said = machine.call(&["check"]);
    let dir = machine.path("it's mine").display().to_string().replace('\'', r"'\''");
    assert!(said.err.contains(&format!("`ctxsync push --heal c '{dir}'`")), "{}", said.err);
    let never = machine.call(&["restore", "--in-place", "c@1", "never synced"]);
    assert!(!never.err.contains("never synced`"), "{}", never.err);
}
