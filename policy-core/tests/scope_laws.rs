//! Laws of scope, checked against a second matcher that is slow and follows the text of the rules.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use policy_core::{ListMarks, Scope, SyncPolicy, TreePath, WhiteList};
use proptest::prelude::*;

const MOUNT: &[u8] = b"/m/n";

/// Names that rules use, and one that none uses.
const NAMES: [&str; 4] = ["a", "b", "m", "z"];

/// Returns every path of at most four components from `NAMES`.
fn all_paths() -> Vec<TreePath> {
    let mut all = vec![TreePath::root()];
    let mut from = 0;
    for _ in 0..4 {
        let to = all.len();
        for i in from..to {
            all.extend(NAMES.map(|name| all[i].join(name.as_bytes()).unwrap()));
        }
        from = to;
    }
    all
}

fn any_path() -> impl Strategy<Value = String> {
    let relative = proptest::collection::vec(prop_oneof![Just("a"), Just("b"), Just("m")], 0..4);
    (prop_oneof![Just(""), Just("/"), Just("/m/n/")], relative, prop_oneof![Just(""), Just("/")])
        .prop_map(|(head, parts, tail)| format!("{head}{}{tail}", parts.join("/")))
}

fn any_lists() -> impl Strategy<Value = Vec<WhiteList>> {
    let list = (any_path(), proptest::collection::vec(any_path(), 0..3))
        .prop_map(|(path, exclude_paths)| WhiteList { path, exclude_paths, ..Default::default() });
    proptest::collection::vec(list, 0..5)
}

/// White lists, some of which are expressions or have expressions as excludes.
fn lists_with_expressions() -> impl Strategy<Value = Vec<WhiteList>> {
    let source = || {
        prop_oneof![
            Just(".*"),
            Just("a/.*"),
            Just("[ab]/[^/]*"),
            Just(".*/b"),
            Just("/m/n/a.*"),
            Just("a|a/b/m"),
            Just("(a/)*b"),
        ]
    };
    let list =
        (any_path(), source(), proptest::collection::vec(any_path(), 0..2), source(), any::<[bool; 2]>())
            .prop_map(|(path, by_path, excludes, by_exclude, flags)| WhiteList {
                path: if flags[0] { by_path.into() } else { path },
                exclude_paths: if flags[1] { vec![by_exclude.into()] } else { excludes },
                is_path_regex: flags[0],
                is_exclude_regex: flags[1],
            });
    proptest::collection::vec(list, 0..4)
}

fn patterns() -> impl Strategy<Value = Vec<String>> {
    let pattern = prop_oneof![
        Just("a"),
        Just("a/"),
        Just("/b"),
        Just("b/m"),
        Just("!a"),
        Just("!b/a"),
        Just("*"),
        Just("m/**"),
        Just("**/z"),
        Just("a*/b"),
    ];
    proptest::collection::vec(pattern.prop_map(String::from), 0..4)
}

fn scope(lists: Vec<WhiteList>, patterns: Vec<String>) -> Scope {
    let mut policy = SyncPolicy::default();
    policy.bw_list.white_lists = lists;
    policy.bw_list.ignore_patterns = patterns;
    Scope::new(&policy, MOUNT).unwrap()
}

fn read(text: &str) -> TreePath {
    let text = text.trim_end_matches('/');
    let below = match text.strip_prefix("/m/n") {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => rest,
        _ => text,
    };
    below.trim_start_matches('/').parse().unwrap()
}

/// Rules 1 to 5, literally: the longest rule that matches the path decides; if two are equally long, the
/// exclude.
fn by_the_words(lists: &[WhiteList], path: &TreePath) -> bool {
    let mut rules = Vec::new();
    for list in lists {
        let place = read(&list.path);
        for exclude in &list.exclude_paths {
            let own = read(exclude);
            let exclude =
                if own.is_within(&place) { own } else { own.rebase(&TreePath::root(), &place).unwrap() };
            rules.push((exclude, false));
        }
        rules.push((place, true));
    }
    if lists.is_empty() {
        return true;
    }
    let holding = rules.into_iter().filter(|(rule, _)| path.is_within(rule));
    let longest = holding.max_by_key(|(rule, includes)| (rule.as_bytes().len(), !includes));
    longest.is_some_and(|(_, includes)| includes)
}

fn holds_something(scope: &Scope, all: &[TreePath], dir: &TreePath) -> bool {
    all.iter().any(|p| p.is_below(dir) && (scope.contains(p, false) || scope.contains(p, true)))
}

/// Directories that are short enough: a rule has at most three components below its mount, or six with its
/// exclude.
fn dirs(all: &[TreePath]) -> impl Iterator<Item = &TreePath> {
    all.iter().filter(|p| p.components().count() < 4)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..Default::default() })]

    #[test]
    fn decides_by_the_words_of_the_rules(lists in any_lists()) {
        let scope = scope(lists.clone(), vec![]);
        for path in all_paths() {
            let decision = scope.decide(&path, false);
            prop_assert_eq!(decision.in_scope, by_the_words(&lists, &path), "{:?} {}", path, decision.rule);
            prop_assert_eq!(decision.in_scope, scope.contains(&path, false));
        }
    }

    #[test]
    fn the_order_of_lists_and_excludes_never_matters(
        lists in lists_with_expressions(), patterns in patterns(), turn in 0usize..4,
    ) {
        let mut turned = lists.clone();
        turned.reverse();
        let by = turn % turned.len().max(1);
        turned.rotate_left(by);
        turned.iter_mut().for_each(|l| l.exclude_paths.reverse());
        let (one, other) = (scope(lists, patterns.clone()), scope(turned, patterns));
        for path in all_paths() {
            prop_assert_eq!(one.contains(&path, true), other.contains(&path, true), "{:?}", path);
            prop_assert_eq!(one.may_hold(&path), other.may_hold(&path), "{:?}", path);
        }
    }

    #[test]
    fn may_hold_is_exact_for_plain_lists(lists in any_lists()) {
        // Rules with more components than the tested paths have no effect here.
        let short = |l: &WhiteList| {
            let place = read(&l.path).components().count();
            place < 4 && l.exclude_paths.iter().all(|e| place + read(e).components().count() < 4)
        };
        prop_assume!(lists.iter().all(short));
        let scope = scope(lists, vec![]);
        let all = all_paths();
        for dir in dirs(&all) {
            prop_assert_eq!(scope.may_hold(dir), holds_something(&scope, &all, dir), "{:?}", dir);
        }
    }

    #[test]
    fn may_hold_never_prunes_what_is_in_scope(lists in lists_with_expressions(), patterns in patterns()) {
        let scope = scope(lists, patterns);
        let all = all_paths();
        for dir in dirs(&all) {
            prop_assert!(scope.may_hold(dir) || !holds_something(&scope, &all, dir), "{:?}", dir);
        }
    }

    #[test]
    fn patterns_only_take_away(lists in lists_with_expressions(), patterns in patterns()) {
        let (without, with) = (scope(lists.clone(), vec![]), scope(lists, patterns));
        for path in all_paths() {
            prop_assert!(!with.contains(&path, true) || without.contains(&path, true), "{:?}", path);
        }
    }

    #[test]
    fn what_a_list_holds_marks_it(lists in lists_with_expressions(), picks in proptest::collection::vec(0usize..341, 0..6)) {
        let scope = scope(lists, vec![]);
        let all = all_paths();
        let mut marks = ListMarks::new(&scope);
        picks.iter().for_each(|&i| marks.note(&scope, &all[i]));
        let unmatched: Vec<_> = marks.unmatched(&scope).iter().map(|l| l.index()).collect();
        for list in scope.lists().iter().filter(|l| l.resolved().is_some()) {
            let holds = picks.iter().any(|&i| all[i].is_within(list.resolved().unwrap()));
            prop_assert_eq!(holds, !unmatched.contains(&list.index()));
        }
    }

    #[test]
    fn nothing_makes_it_panic(
        path in "[a-z/\\\\:.*{}\\[\\]() ]{0,20}", exclude in "\\PC{0,12}", mapping in "\\PC{0,12}",
        pattern in "\\PC{0,12}", mount in proptest::collection::vec(any::<u8>(), 0..8), flags in any::<[bool; 2]>(),
        subject in proptest::collection::vec(any::<u8>(), 0..12),
    ) {
        let mut policy = SyncPolicy::default();
        policy.bw_list.white_lists = vec![WhiteList {
            path, exclude_paths: vec![exclude], is_path_regex: flags[0], is_exclude_regex: flags[1],
        }];
        policy.bw_list.ignore_patterns = vec![pattern];
        policy.mapping_policy.path = mapping;
        for mount in [[b"/", mount.as_slice()].concat(), mount] {
            if let (Ok(scope), Ok(path)) = (Scope::new(&policy, &mount), TreePath::new(subject.clone())) {
                let decision = scope.decide(&path, flags[0]);
                let _ = (decision.rule.to_string(), scope.may_hold(&path), scope.list_matching(&path));
            }
        }
    }
}
