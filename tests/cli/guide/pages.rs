//! Every command that a page of docs/ or the README shows exists, and has the options that it is shown with.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use ctxsync_tests::guide;
use regex::Regex;

/// The help of each command that was asked for; `None` if there is no such command.
#[derive(Default)]
struct Helps(BTreeMap<Vec<String>, Option<String>>);

impl Helps {
    fn of(&mut self, command: &[&str]) -> Option<&str> {
        let key = command.iter().map(|word| (*word).to_owned()).collect();
        let help = self.0.entry(key).or_insert_with(|| {
            let asked =
                Command::new(env!("CARGO_BIN_EXE_ctxsync")).arg("help").args(command).output().unwrap();
            asked.status.success().then(|| String::from_utf8(asked.stdout).unwrap())
        });
        help.as_deref()
    }
}

/// Returns what a page has as code: the lines of its blocks, and what is between backticks.
fn code(text: &str) -> Vec<String> {
    let joined = Regex::new(r"\\\n\s*").unwrap().replace_all(text, " ");
    let (mut code, mut prose, mut fenced) = (Vec::new(), String::new(), false);
    for line in joined.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            prose += &format!("{line}\n");
        } else if !line.trim_start().starts_with('#') {
            code.push(line.to_owned());
        }
    }
    let spans = Regex::new("`([^`]+)`").unwrap();
    code.extend(spans.captures_iter(&prose).map(|span| span[1].replace('\n', " ")));
    code
}

/// Returns what is wrong with a command, given without the program's name.
fn mistake(helps: &mut Helps, command: &str) -> Option<String> {
    let quoted = Regex::new("'[^']*'|\"[^\"]*\"").unwrap().replace_all(command, "QUOTED");
    let words: Vec<&str> = quoted.split_whitespace().collect();
    let name = *words.first()?;
    // Others are placeholders, or options of the program itself.
    if !name.bytes().all(|byte| byte.is_ascii_lowercase()) {
        return None;
    }
    let Some(help) = helps.of(&[name]) else { return Some(format!("there is no command {name}")) };
    let has_inner = help.contains("\nCommands:");
    let mut path = vec![name];
    // Alternatives are written `policy default|schema`, and a placeholder stands for any of them.
    let inner = words.get(1).filter(|word| word.bytes().all(|byte| byte.is_ascii_lowercase()));
    path.extend(inner.filter(|_| has_inner));
    let Some(help) = helps.of(&path) else { return Some(format!("there is no command {}", path.join(" "))) };
    let option = Regex::new(r"^\[?(--?[a-zA-Z][a-z-]*)").unwrap();
    let options =
        words.iter().skip(1).take_while(|word| **word != "--").filter_map(|word| option.captures(word));
    let names: Vec<&str> = options.map(|found| found.get(1).unwrap().as_str()).collect();
    let known = |name: &&str| Regex::new(&format!(r"(^|[\s,]){name}($|[\s,=.\[])")).unwrap().is_match(help);
    let unknown = names.into_iter().find(|name| !known(name))?;
    Some(format!("{} has no option {unknown}", path.join(" ")))
}

#[test]
fn every_command_of_a_page_exists() {
    // Up to what ends a command in a shell. `|` ends it too, but is also between alternatives.
    let call = Regex::new(r"(?:^|[\s(`$])ctxsync ([^;&)]*)").unwrap();
    let (mut helps, mut seen, mut wrong) = (Helps::default(), 0, Vec::new());
    for page in guide::pages().into_iter().chain(["README.md".to_owned()]) {
        for line in code(&fs::read_to_string(guide::root().join(&page)).unwrap()) {
            for found in call.captures_iter(&line) {
                seen += 1;
                let command = found[1].split(" | ").next().unwrap_or_default();
                let what = mistake(&mut helps, command);
                wrong.extend(what.map(|what| format!("{}: {what}: ctxsync {command}", page)));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(seen > 200, "only {seen} commands were found");
}

#[test]
fn commands_that_do_not_exist_are_found() {
    let mut helps = Helps::default();
    assert_eq!(mistake(&mut helps, "push NAME --exclude '-x --y' --heal=quick -- --whatever"), None);
    assert_eq!(mistake(&mut helps, "pusch NAME").unwrap(), "there is no command pusch");
    assert_eq!(mistake(&mut helps, "context list --short").unwrap(), "context list has no option --short");
    assert_eq!(mistake(&mut helps, "context lst").unwrap(), "there is no command context lst");
    assert_eq!(code("a `b\nc`\n```sh\n# no\nd \\\n  e\n```\n"), ["d  e", "b c"]);
}
