//! What a shell shows when the user presses Tab.

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::world::{Machine, World, tree};

fn machine() -> (World, Machine) {
    let world = World::new();
    let machine = world.machine("a");
    machine.write("work/src/main.rs", "x");
    machine.write("work/src/more/deep.rs", "x");
    machine.write("work/start here.md", "x");
    machine.done(&["push", "my-project", "work"]);
    machine.done(&["push", "team/other", "work"]);
    machine.done(&["context", "tag", "my-project", "v1.0"]);
    (world, machine)
}

/// Returns what the script of bash offers for a line, the cursor at its end.
fn in_bash(machine: &Machine, words: &[&str], line: &str) -> Vec<String> {
    let call = machine.command([""; 0]);
    let bin = Path::new(env!("CARGO_BIN_EXE_ctxsync")).parent().unwrap();
    let mut shell = Command::new("bash");
    shell
        .args(["--norc", "-c", SCRIPT, "bash", line])
        .args(words)
        .current_dir(call.get_current_dir().unwrap());
    shell.env_clear().envs(call.get_envs().filter_map(|(name, value)| Some((name, value?))));
    shell.env("PATH", format!("{}:{}", bin.display(), std::env::var("PATH").unwrap()));
    let ended = machine.ended(shell.output().unwrap());
    assert_eq!((ended.code, ended.err.as_str()), (0, ""), "{line}: {}", ended.seen());
    ended.out.lines().map(str::to_owned).collect()
}

/// Does what bash does with a line that is completed: `COMP_WORDS` has the words as bash splits them, and `$2` is what a
/// candidate replaces. It begins after a `:`, but with an `@`.
const SCRIPT: &str = r#"
eval "$(ctxsync completions bash)"
complete -p ctxsync > /dev/null
COMP_LINE=$1 COMP_POINT=${#1}
shift
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
last=${!#}
case $last in [:=]) last= ;; esac
[[ ${COMP_WORDS[COMP_CWORD - 1]} == @ ]] && last=@$last
_ctxsync ctxsync "$last" "${COMP_WORDS[COMP_CWORD - 1]}"
[[ ${#COMPREPLY[@]} -eq 0 ]] || printf '%s\n' "${COMPREPLY[@]}"
"#;

#[test]
fn bash_completes_contexts_tags_and_paths() {
    let (_world, machine) = machine();
    let of = |words: &[&str], line: &str| in_bash(&machine, words, line);
    assert_eq!(of(&["ctxsync", "log", ""], "ctxsync log "), ["my-project", "team/other"]);
    assert_eq!(of(&["ctxsync", "log", "te"], "ctxsync log te"), ["team/other"]);
    assert_eq!(of(&["ctxsync", "run", "-c", "my"], "ctxsync run -c my"), ["my-project"]);
    assert_eq!(
        of(&["ctxsync", "context", "merge", "my-project", "t"], "ctxsync context merge my-project t"),
        ["team/other"]
    );
    // To bash, a context, its tag and a path are several words.
    assert_eq!(of(&["ctxsync", "ls", "my-project", "@"], "ctxsync ls my-project@"), ["@v1.0"]);
    assert_eq!(of(&["ctxsync", "ls", "my-project", "@", "v"], "ctxsync ls my-project@v"), ["@v1.0"]);
    assert_eq!(
        of(&["ctxsync", "cat", "my-project", ":"], "ctxsync cat my-project:"),
        ["src/", r"start\ here.md"]
    );
    assert_eq!(
        of(&["ctxsync", "cat", "my-project", ":", "src/"], "ctxsync cat my-project:src/"),
        ["src/main.rs", "src/more/"]
    );
    let words = ["ctxsync", "cat", "my-project", "@", "v1.0", ":", "src/ma"];
    assert_eq!(of(&words, "ctxsync cat my-project@v1.0:src/ma"), ["src/main.rs"]);
    // Names that are new, and what is no context.
    assert_eq!(of(&["ctxsync", "context", "create", "my"], "ctxsync context create my"), [""; 0]);
    assert_eq!(
        of(&["ctxsync", "context", "rename", "team/other", "m"], "ctxsync context rename team/other m"),
        [""; 0]
    );
    assert_eq!(of(&["ctxsync", "pus"], "ctxsync pus"), ["push"]);
    assert!(of(&["ctxsync", "push", "--allow-e"], "ctxsync push --allow-e") == ["--allow-empty-mount"]);
    let to = of(&["ctxsync", "diff", "my"], "ctxsync diff my");
    assert_eq!(to, ["my-project"]);
}

/// Calls the program as the script of another shell does.
fn asked(machine: &Machine, shell: &str, words: &[&str]) -> String {
    let index = (words.len() - 1).to_string();
    let mut call = machine.command(["--", "ctxsync"].iter().chain(&words[1..]));
    call.env("_CTXSYNC_COMPLETE", shell).env("_CLAP_COMPLETE_INDEX", index).env("_CLAP_IFS", "\n");
    let ended = machine.ended(call.output().unwrap());
    assert_eq!((ended.code, ended.err.as_str()), (0, ""), "{words:?}: {}", ended.seen());
    // Options are offered where there is nothing else.
    ended.out.lines().filter(|line| !line.starts_with('-')).collect::<Vec<_>>().join("\n")
}

#[test]
fn other_shells_ask_alike() {
    let (_world, machine) = machine();
    assert!(asked(&machine, "zsh", &["ctxsync", "log", "my"]).contains("my-project"));
    assert_eq!(
        asked(&machine, "fish", &["ctxsync", "cat", "my-project:sta"]).trim(),
        "my-project:start here.md"
    );
    for shell in ["zsh", "fish", "elvish", "powershell"] {
        let script = machine.done(&["completions", shell]).out;
        assert!(script.contains("_CTXSYNC_COMPLETE") && script.contains("ctxsync"), "{shell}: {script}");
    }
}

#[test]
fn a_completion_writes_nothing_and_is_silent_without_a_store() {
    let (world, machine) = machine();
    let (store, here) = (tree(&world.store()), tree(&machine.path("")));
    for words in [["ctxsync", "log", ""], ["ctxsync", "ls", "my-project:"], ["ctxsync", "ls", "my-project@"]]
    {
        assert!(!asked(&machine, "bash", &words).is_empty(), "{words:?}");
    }
    assert_eq!((tree(&world.store()), tree(&machine.path(""))), (store, here.clone()));
    machine.write("bad.toml", "x = [");
    for store in ["--store=none", "--store=s3://", "--store=ftp://x", "--config=bad.toml", "--profile=none"] {
        assert_eq!(asked(&machine, "bash", &["ctxsync", "log", store, ""]), "", "{store}");
    }
    for odd in ["none:", "@", ":", "my-project@7:", "my-project:../x", "my-project@none:x", "\u{1b}"] {
        assert_eq!(asked(&machine, "bash", &["ctxsync", "ls", odd]), "", "{odd}");
    }
    std::fs::remove_file(machine.path("bad.toml")).unwrap();
    assert_eq!(tree(&machine.path("")), here);
}

#[test]
fn a_store_that_does_not_answer_is_not_waited_for() {
    let (_world, machine) = machine();
    let silent = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let mut call = machine.command(["--", "ctxsync", "log", "--store", "s3://bucket/p", ""]);
    call.env("_CTXSYNC_COMPLETE", "bash").env("_CLAP_COMPLETE_INDEX", "4");
    call.env("AWS_ENDPOINT_URL", format!("http://{}", silent.local_addr().unwrap()));
    call.env("AWS_ACCESS_KEY_ID", "a").env("AWS_SECRET_ACCESS_KEY", "b").env("AWS_REGION", "r");
    let begun = Instant::now();
    let ended = machine.ended(call.output().unwrap());
    assert_eq!((ended.code, ended.err.as_str()), (0, ""));
    assert!(ended.out.lines().all(|line| line.starts_with("--")), "{}", ended.out);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}
