//! Compiles a policy into a scope.

use super::expression::{Expression, Expressions, ListExpressions};
use super::path_set::{PathSet, resolve_each};
use super::patterns::Patterns;
use super::resolve::{Reading, Resolver, unfit};
use super::rules::Rules;
use super::warning::ScopeWarning;
use super::{Scope, ScopeList};
use crate::policy::{FaultKind, PolicyError, PolicyFault, WhiteList};
use crate::{SyncPolicy, TreePath};

impl Scope {
    /// Compiles the scope of `policy` for the mount with the absolute path `mount`. The path is only parsed,
    /// and need not exist.
    ///
    /// # Errors
    ///
    /// Lists every path that has `..`, a NUL character or a wildcard, and every expression and pattern that
    /// does not compile; or says that the mount path is not absolute. A policy that was read from a document
    /// was already checked, so only the mount path can be wrong.
    pub fn new(policy: &SyncPolicy, mount: &[u8]) -> Result<Self, PolicyError> {
        let mut faults = Vec::new();
        check_paths(policy, &mut faults);
        let patterns = Patterns::new(&policy.bw_list.ignore_patterns, &mut faults);
        let expressions = expressions(&policy.bw_list.white_lists, &mut faults);
        PolicyError::unless(faults, ())?;

        let resolver = Resolver::new(policy, mount)?;
        let mut warnings = Vec::new();
        let mut plain = Vec::new();
        let mut lists = Vec::new();
        for (index, list) in policy.bw_list.white_lists.iter().enumerate() {
            lists.push(read_list(index, list, &resolver, &mut plain, &mut warnings));
        }
        let has_excludes =
            |index| expressions.iter().any(|l| l.list == index && l.path.is_none() && !l.excludes.is_empty());
        let rules = Rules::new(plain, has_excludes);

        let mut set =
            |paths: &[String], pointer: &str| PathSet::new(paths, pointer, &resolver, &mut warnings);
        let archive_exclude_paths =
            set(&policy.upload_policy.archive_exclude_paths, "/uploadPolicy/archiveExcludePaths");
        let extract_paths =
            policy.extract_policy.as_ref().map(|p| set(&p.paths, "/extractPolicy/paths")).unwrap_or_default();
        let recycle_paths = set(&policy.recycle_policy.paths, "/recyclePolicy/paths");
        let required_paths = resolve_each(
            &policy.download_policy.required_paths,
            "/downloadPolicy/requiredPaths",
            &resolver,
            &mut warnings,
        );

        let mut scope = Self {
            lists,
            ignore_patterns: policy.bw_list.ignore_patterns.clone(),
            rules,
            expressions: Expressions { lists: expressions, resolver },
            patterns,
            archive_exclude_paths,
            extract_paths,
            recycle_paths,
            required_paths,
            warnings,
        };
        scope.warn_of_contradictions(policy);
        Ok(scope)
    }

    fn warn_of_contradictions(&mut self, policy: &SyncPolicy) {
        let mut warnings = Vec::new();
        let pointer = |list: usize| format!("/bwList/whiteLists/{list}/path");
        for rule in self.rules.iter() {
            let verdict = rule.verdict();
            for list in rule.lists().iter().filter_map(|&i| self.lists.get(i)).filter(|_| !verdict.in_scope())
            {
                warnings.push(ScopeWarning::Excluded {
                    pointer: pointer(list.index),
                    path: list.path.clone(),
                    by: self.rule(verdict).pointer(),
                });
            }
        }
        for list in &self.lists {
            let Some(resolved) = &list.resolved else { continue };
            if let Some(index) = self.patterns.ignoring(resolved.as_bytes(), true) {
                warnings.push(ScopeWarning::Ignored {
                    pointer: pointer(list.index),
                    path: list.path.clone(),
                    by: format!("/bwList/ignorePatterns/{index}"),
                    pattern: self.ignore_patterns.get(index).cloned().unwrap_or_default(),
                });
            }
        }
        let root = TreePath::root();
        if !self.contains(&root, true) && !self.may_hold(&root) {
            warnings.push(ScopeWarning::NothingInScope);
        }
        if policy.recycle_policy.lifecycle.days().is_some() && self.recycle_paths.is_empty() {
            warnings.push(ScopeWarning::NoPaths { pointer: "/recyclePolicy/paths" });
        }
        if policy.extract_policy.as_ref().is_some_and(|p| p.extract) && self.extract_paths.is_empty() {
            warnings.push(ScopeWarning::NoPaths { pointer: "/extractPolicy/paths" });
        }
        self.warnings.append(&mut warnings);
    }
}

/// Whether the list's path is an expression. `""` and `/` mean the whole mount even if the flag is set.
fn is_expression(list: &WhiteList) -> bool {
    list.is_path_regex && !matches!(list.path.as_str(), "" | "/")
}

/// Reads one list: adds its plain rules, and warns of what is odd about it.
fn read_list(
    index: usize,
    list: &WhiteList,
    resolver: &Resolver,
    plain: &mut Vec<(TreePath, usize, Option<usize>)>,
    warnings: &mut Vec<ScopeWarning>,
) -> ScopeList {
    let resolved = (!is_expression(list)).then(|| resolver.resolve(&list.path));
    if let Some(resolved) = &resolved {
        plain.push((resolved.path.clone(), index, None));
        if resolved.by == Reading::Outside {
            warnings.push(ScopeWarning::OutsideMount {
                pointer: format!("/bwList/whiteLists/{index}/path"),
                path: list.path.clone(),
                mount: resolver.mount(),
                read_as: resolved.path.clone(),
            });
        }
    }
    let listed_outside = resolved.as_ref().is_some_and(|r| r.by == Reading::Outside);
    let place = resolved.map(|r| r.path);
    if !list.is_exclude_regex {
        for (i, exclude) in list.exclude_paths.iter().enumerate() {
            let own = resolver.resolve(exclude);
            // A list whose path is an expression has no fixed path, so its excludes are relative to the
            // mount.
            let read = place.as_ref().map_or_else(|| own.clone(), |p| resolver.resolve_within(exclude, p));
            let pointer = format!("/bwList/whiteLists/{index}/excludePaths/{i}");
            let (path, read_as) = (exclude.clone(), read.path.clone());
            match own.by {
                Reading::Mount | Reading::Mapping if read.path != own.path => {
                    warnings.push(ScopeWarning::OutsideList {
                        pointer,
                        path,
                        list: list.path.clone(),
                        read_as,
                    });
                }
                // `/node_modules` is the usual way to write a path relative to the list. A warning is due
                // only if the path looks like one of this machine, and if the list's own path did not cause
                // the same warning.
                Reading::Outside if !listed_outside && resolver.looks_local(exclude) => {
                    let mount = resolver.mount();
                    warnings.push(ScopeWarning::OutsideMount { pointer, path, mount, read_as });
                }
                _ => {}
            }
            plain.push((read.path, index, Some(i)));
        }
    }
    ScopeList { index, path: list.path.clone(), excludes: list.exclude_paths.clone(), resolved: place }
}

/// Reports every path that is invalid.
fn check_paths(policy: &SyncPolicy, faults: &mut Vec<PolicyFault>) {
    let mut check = |pointer: String, path: &str, flag: Option<&'static str>| {
        if let Some(reason) = unfit(path, flag) {
            let kind = FaultKind::BadPath { path: path.to_owned(), reason };
            faults.push(PolicyFault { pointer, kind });
        }
    };
    let extract = policy.extract_policy.as_ref().map_or(&[][..], |p| &p.paths);
    for (pointer, paths) in [
        ("/uploadPolicy/archiveExcludePaths", &policy.upload_policy.archive_exclude_paths[..]),
        ("/downloadPolicy/requiredPaths", &policy.download_policy.required_paths),
        ("/extractPolicy/paths", extract),
        ("/recyclePolicy/paths", &policy.recycle_policy.paths),
    ] {
        for (i, path) in paths.iter().enumerate() {
            check(format!("{pointer}/{i}"), path, None);
        }
    }
    for (i, list) in policy.bw_list.white_lists.iter().enumerate() {
        let pointer = format!("/bwList/whiteLists/{i}");
        if !is_expression(list) {
            check(format!("{pointer}/path"), &list.path, Some("isPathRegex"));
        }
        if !list.is_exclude_regex {
            for (j, path) in list.exclude_paths.iter().enumerate() {
                check(format!("{pointer}/excludePaths/{j}"), path, Some("isExcludeRegex"));
            }
        }
    }
    check("/mappingPolicy/path".into(), &policy.mapping_policy.path, None);
}

fn expressions(lists: &[WhiteList], faults: &mut Vec<PolicyFault>) -> Vec<ListExpressions> {
    let mut compile = |pointer: String, source: &str| match Expression::new(source) {
        Ok(expression) => Some(expression),
        Err(message) => {
            let kind = FaultKind::BadRegex { regex: source.to_owned(), message };
            faults.push(PolicyFault { pointer, kind });
            None
        }
    };
    let mut out = Vec::new();
    for (i, list) in lists.iter().enumerate() {
        let pointer = format!("/bwList/whiteLists/{i}");
        let path = is_expression(list).then(|| compile(format!("{pointer}/path"), &list.path)).flatten();
        let excludes: Vec<_> = list
            .exclude_paths
            .iter()
            .enumerate()
            .filter(|_| list.is_exclude_regex)
            .filter_map(|(j, e)| Some((j, compile(format!("{pointer}/excludePaths/{j}"), e)?)))
            .collect();
        if path.is_some() || !excludes.is_empty() {
            out.push(ListExpressions { list: i, path, excludes });
        }
    }
    out
}
