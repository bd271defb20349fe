//! Files that are too old, as a person sees them.

use std::sync::Arc;
use std::time::Duration;

use ctxsync_tests::clock::{Clocked, HandClock};
use object_store::local::LocalFileSystem;
use policy_core::SyncPolicy;
use transfer_engine::{ContextSync, Env, Mount, Silent, Store, SyncOptions};

use crate::world::{Machine, World};

const POLICY: &str = r#"{"recyclePolicy": {"lifecycle": "Lifecycle_30Days", "paths": ["logs"]}}"#;

/// A machine with a mount of a context that was pushed years ago.
fn after_years() -> (World, Machine) {
    let world = World::new();
    let machine = world.machine("a");
    let clock = HandClock::default();
    std::fs::create_dir_all(world.store()).unwrap();
    let objects = LocalFileSystem::new_with_prefix(world.store()).unwrap();
    let env = Env::real().with_clock(Arc::new(clock.clone()));
    let store = Store::new(Clocked::new(Arc::new(objects), &clock), "seed:", env);
    machine.write("seed/logs/old.log", "long ago");
    machine.write("seed/src/main.rs", "fn main() {}");
    let sync =
        ContextSync::new("c".parse().unwrap(), machine.path("seed"), SyncPolicy::from_json(POLICY).unwrap());
    let options = SyncOptions { create: true, ..SyncOptions::default() };
    let push = async {
        // The grace period must be longer than those years.
        store.init(Duration::from_secs(1 << 30)).await.unwrap();
        let mut mount = Mount::open(&store, sync, &machine.path("seed-state")).unwrap();
        mount.push(&options, &Silent).await.unwrap();
    };
    tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(push);
    machine.write("policy.json", POLICY);
    machine.done(&["pull", "c", "work"]);
    (world, machine)
}

#[test]
fn what_is_recycled_is_announced_kept_here_and_not_found_there() {
    let (world, machine) = after_years();
    machine.write("work/src/lib.rs", "");
    let mut seen = Vec::new();
    let mut call = |machine: &Machine, args: &[&str]| {
        let shown = machine.call(args).seen();
        let shown = regex::Regex::new(r"\d+ days ago").unwrap().replace_all(&shown, "N days ago");
        seen.push(format!("$ ctxsync {}\n{shown}", args.join(" ")));
    };
    let push = ["push", "c", "work", "-p", "policy.json"];
    call(&machine, &["plan", "push", "c", "work", "-p", "policy.json"]);
    call(&machine, &push);
    call(&machine, &push);
    call(&machine, &["plan", "pull", "c", "work"]);
    call(&machine, &["status", "work"]);
    call(&machine, &["ls", "c"]);
    call(&machine, &["ls", "c:logs/old.log"]);
    call(&machine, &["cat", "c:logs/old.log"]);
    call(&machine, &["rm", "c:logs/old.log"]);
    call(&machine, &["restore", "c", "restored", "logs/old.log"]);
    call(&machine, &["log", "c"]);
    let fresh = world.machine("b");
    call(&fresh, &["pull", "c", "work"]);
    call(&fresh, &["fetch", "logs/old.log", "--mount", "work"]);
    insta::assert_snapshot!("recycling", seen.join("\n\n"));
    assert!(machine.has("work/logs/old.log") && !fresh.has("work/logs"));
}

#[test]
fn programs_are_told_how_many() {
    let (_world, machine) = after_years();
    let planned = machine.done(&["plan", "push", "c", "work", "-p", "policy.json", "--json"]).objects();
    let told = planned.iter().find(|line| line["message_type"] == "path").unwrap();
    assert_eq!((&told["path"], &told["action"]), (&"logs/old.log".into(), &"delete".into()));
    let summary = planned.last().unwrap();
    assert_eq!((&summary["recycled"], &summary["withheld"]), (&1.into(), &0.into()));
    let pushed = machine.done(&["push", "c", "work", "-p", "policy.json", "--json"]).objects();
    let summary = pushed.last().unwrap();
    assert_eq!((&summary["recycled"], &summary["snapshot"]), (&1.into(), &3.into()));
    let again = machine.done(&["push", "c", "work", "-p", "policy.json", "--json"]).objects();
    assert_eq!(again.last().unwrap()["withheld"], 1);
}
