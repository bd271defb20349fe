//! A context, mounts that are synced with it, and the laws for every sync.

use std::collections::BTreeSet;

use policy_core::{
    ConflictPolicy, Entry, Local, LocalRow, Reason, Rules, Towards, TreePath, Verdict, numbered_copy_path,
};

use super::edit::put;
use super::{
    Difference, PlanStep, State, Tree, ancestors, canonical, differences, dir, expanded, has_below, is_leaf,
    plan, plan_rows, rows, same, without_implied,
};

#[derive(Debug, Clone, Default)]
pub struct Mount {
    /// With every directory listed.
    pub files: Tree,
    pub base: Tree,
    pub unreadable: BTreeSet<TreePath>,
}

impl Mount {
    pub fn differences(&self) -> Vec<Difference> {
        differences(&self.base, &self.files, &self.unreadable)
    }
}

/// Returns what the mount has, according to the step.
pub fn local_entry(step: &PlanStep) -> Option<&Entry> {
    match &step.local {
        Some(row) => match &row.state {
            State::Present(entry) => Some(entry),
            _ => None,
        },
        None => step.base.as_ref().map(|b| &b.entry),
    }
}

/// Updates the base as if the step were carried out.
fn update_base(base: &mut Tree, step: &PlanStep, towards: Towards) {
    let local = local_entry(step).cloned();
    let remote = step.remote.as_ref().map(|r| r.entry.clone());
    let next = match (step.decision.verdict, step.decision.reason, towards) {
        (Verdict::Write | Verdict::KeepBoth, _, Towards::Store) => local,
        (Verdict::Write | Verdict::KeepBoth, _, Towards::Mount) => remote,
        (Verdict::Nothing, Reason::SameChange, _) => local,
        // An implied directory of the base that the context dropped: the entries that implied it leave the
        // base.
        (_, Reason::DeletedThere | Reason::ChangedThere | Reason::DeletedThereHeld, Towards::Store)
        | (Verdict::HoldBack, Reason::DeletedThereHeld, Towards::Mount)
            if step.base.is_none() && local.is_some() =>
        {
            local
        }
        (Verdict::Keep, Reason::Modes, Towards::Mount) if remote.as_ref().is_some_and(is_leaf) => remote,
        (Verdict::Delete, ..) | (Verdict::Nothing, Reason::DeletedOnBoth, _) => None,
        _ => return,
    };
    match next {
        Some(entry) => base.insert(step.path.clone(), entry),
        None => base.remove(&step.path),
    };
}

/// Puts a conflict copy at the first of its names that is free or already has the same content.
fn place(tree: &mut Tree, path: &TreePath, copy: &TreePath, entry: &Entry) {
    let fits = |p: &TreePath| {
        ancestors(p).all(|a| tree.get(&a).is_none_or(Entry::is_dir))
            && match tree.get(p) {
                // Other permission bits are not another version.
                Some(there) => there.node == entry.node,
                None => entry.is_dir() || !has_below(tree, p),
            }
    };
    let mut names = std::iter::once(copy.clone()).chain((2..).map(|n| numbered_copy_path(path, copy, n)));
    let at = names.find(fits).unwrap();
    tree.entry(at).or_insert_with(|| entry.clone());
}

/// Returns the next snapshot's tree.
pub fn apply_to_store(steps: &[PlanStep], store: &Tree) -> Result<Tree, String> {
    let mut next = store.clone();
    for step in steps {
        match step.decision.verdict {
            Verdict::Write | Verdict::KeepBoth => {
                next.remove(&step.path);
                let local = local_entry(step);
                if local.is_none() && step.decision.verdict == Verdict::Write {
                    return Err(format!("{}: nothing to write", step.path));
                }
                next.extend(local.map(|e| (step.path.clone(), e.clone())));
            }
            Verdict::Delete => drop(next.remove(&step.path)),
            _ => {}
        }
    }
    copies(steps, &mut next);
    canonical(&next)
}

fn copies(steps: &[PlanStep], tree: &mut Tree) {
    for step in steps {
        if let (Some(copy), Some(remote)) = (&step.copy, &step.remote) {
            place(tree, &step.path, copy, &remote.entry);
        }
    }
}

/// Returns the mount's files after a pull. `base` is the new one, which lists the emptied directories
/// that stay.
pub fn apply_to_mount(steps: &[PlanStep], files: &Tree, base: &Tree) -> Result<Tree, String> {
    let mut next = files.clone();
    let deleted = || steps.iter().filter(|s| s.decision.verdict == Verdict::Delete).rev();
    for step in deleted() {
        if next.get(&step.path).is_some_and(is_leaf) || !has_below(&next, &step.path) {
            next.remove(&step.path);
        }
        for up in ancestors(&step.path) {
            let implied = next.get(&up).is_some_and(|e| e.agrees_with(&Entry::IMPLIED_DIR));
            if !implied || has_below(&next, &up) || base.contains_key(&up) {
                break;
            }
            next.remove(&up);
        }
    }
    for step in steps.iter().filter(|s| s.decision.verdict == Verdict::Write) {
        let entry = match &step.remote {
            Some(row) => row.entry.clone(),
            None if step.remote_implied => dir(0o755),
            None => return Err(format!("{}: nothing to write", step.path)),
        };
        if is_leaf(&entry) && has_below(&next, &step.path) {
            return Err(format!("{}: would replace a directory that is not empty", step.path));
        }
        if ancestors(&step.path).any(|a| next.get(&a).is_some_and(is_leaf)) {
            return Err(format!("{}: would be written below a file", step.path));
        }
        put(&mut next, &step.path, entry);
    }
    copies(steps, &mut next);
    canonical(&next)?;
    Ok(expanded(&next))
}

#[derive(Debug, Clone)]
pub struct World {
    pub rules: Rules,
    pub store: Tree,
    pub mounts: [Mount; 2],
}

impl World {
    pub fn plan(&self, mount: usize, towards: Towards) -> Vec<PlanStep> {
        let mount = &self.mounts[mount];
        plan(self.rules, towards, &mount.base, &mount.differences(), &self.store)
    }

    /// Syncs one mount, and checks every law for a single sync.
    pub fn sync(&mut self, mount: usize, towards: Towards) -> Result<Vec<PlanStep>, String> {
        let before = self.mounts[mount].clone();
        let steps = self.plan(mount, towards);
        if !steps.is_sorted_by(|a, b| a.path < b.path) {
            return Err("steps out of order".into());
        }
        let bulk = plan_rows(
            self.rules,
            towards,
            rows(&before.base),
            before.differences(),
            rows(&self.store),
            &[3, 1, 100, 2],
        );
        if bulk != steps {
            return Err("the plan depends on how rows are pushed".into());
        }
        if steps.iter().any(|s| s.decision.verdict == Verdict::Stop) {
            return Ok(steps);
        }
        let mut base = before.base.clone();
        steps.iter().for_each(|step| update_base(&mut base, step, towards));
        base = without_implied(&base);
        let laws = Laws { rules: self.rules, mount: &before, store: &self.store, steps: &steps };
        laws.of_both()?;
        match towards {
            Towards::Store => {
                let next = apply_to_store(&steps, &self.store)?;
                laws.of_upload(&next)?;
                self.store = next;
            }
            Towards::Mount => {
                let next = apply_to_mount(&steps, &before.files, &base)?;
                laws.of_download(&next)?;
                self.mounts[mount].files = next;
            }
        }
        self.mounts[mount].base = base;
        Ok(steps)
    }

    /// Returns an error with the plan unless both directions have nothing to do.
    pub fn expect_settled(&self, mount: usize) -> Result<(), String> {
        for towards in [Towards::Store, Towards::Mount] {
            let steps = self.plan(mount, towards);
            if let Some(step) = steps.iter().find(|s| s.decision.verdict != Verdict::Nothing) {
                return Err(format!("mount {mount}, towards {towards:?}, not settled: {step}"));
            }
        }
        Ok(())
    }

    pub fn expect_converged(&self) -> Result<(), String> {
        for (i, mount) in self.mounts.iter().enumerate() {
            self.expect_settled(i)?;
            if !same(&canonical(&mount.files)?, &self.store) {
                return Err(format!("mount {i} differs:\n{:#?}\n{:#?}", mount.files, self.store));
            }
        }
        Ok(())
    }
}

/// The laws of one sync, checked on the states before and after it.
struct Laws<'a> {
    rules: Rules,
    mount: &'a Mount,
    store: &'a Tree,
    steps: &'a [PlanStep],
}

impl Laws<'_> {
    fn deletes(&self) -> bool {
        self.rules.sync_local_file && !self.rules.hold_deletions
    }

    fn keeps_both(&self) -> bool {
        self.rules.conflict == ConflictPolicy::KeepBoth
    }

    fn step(&self, path: &TreePath) -> Option<&PlanStep> {
        self.steps.iter().find(|s| s.path == *path)
    }

    /// Whether the context's `entry` is still in `now`. If both sides changed it, the local permission bits
    /// win: they are no content that could be lost.
    fn stays(&self, path: &TreePath, now: &Entry, entry: &Entry) -> bool {
        let (here, base) = (self.mount.files.get(path), self.mount.base.get(path));
        let is_changed = here.is_some_and(|here| base.is_none_or(|base| !base.agrees_with(here)));
        now.agrees_with(entry) || now.node == entry.node && is_changed
    }

    /// Whether `tree` has a copy of the context's version of `path`.
    fn is_copied(&self, path: &TreePath, tree: &Tree) -> bool {
        let Some((copy, entry)) =
            self.step(path).and_then(|s| Some((s.copy.as_ref()?, &s.remote.as_ref()?.entry)))
        else {
            return false;
        };
        let mut names =
            std::iter::once(copy.clone()).chain((2..20).map(|n| numbered_copy_path(path, copy, n)));
        names.any(|p| tree.get(&p).is_some_and(|e| e.node == entry.node))
    }

    fn of_both(&self) -> Result<(), String> {
        let is = |row: &Difference, what| row.local() == what;
        let unknown: Vec<&TreePath> = self
            .steps
            .iter()
            .filter_map(|s| s.local.as_ref())
            .filter(|row| is(row, Local::Unreadable) || is(row, Local::Pending))
            .map(|row| &row.path)
            .collect();
        for step in self.steps {
            let verdict = step.decision.verdict;
            let below = |u: &&TreePath| step.path.is_below(u) && self.mount.unreadable.contains(*u);
            if verdict == Verdict::Delete && unknown.iter().any(|u| **u == step.path || below(u)) {
                return Err(format!("{step}: yet nobody knows what is there"));
            }
            if verdict == Verdict::KeepBoth {
                let within = |p: &&TreePath| p.is_within(&step.path) || step.path.is_below(p);
                let here = self
                    .mount
                    .files
                    .keys()
                    .chain(self.mount.base.keys())
                    .filter(within)
                    .any(|p| differs(self.mount.files.get(p), expanded(&self.mount.base).get(p)));
                let there = self
                    .store
                    .keys()
                    .chain(self.mount.base.keys())
                    .filter(within)
                    .any(|p| differs(expanded(self.store).get(p), expanded(&self.mount.base).get(p)));
                if !here || !there {
                    return Err(format!("{step}: but only one side changed it"));
                }
            }
        }
        Ok(())
    }

    fn of_upload(&self, next: &Tree) -> Result<(), String> {
        for (p, entry) in self.store.iter().filter(|(_, e)| is_leaf(e)) {
            let kept = next.get(p).is_some_and(|n| self.stays(p, n, entry)) || self.is_copied(p, next);
            let was_seen = self.mount.base.get(p).is_some_and(|b| b.agrees_with(entry));
            if self.keeps_both() && !kept && !was_seen {
                return Err(format!("{p}: lost from the context, and the mount had never seen it"));
            }
            let replaced = next.get(p).is_some_and(is_leaf);
            if !self.deletes() && !kept && !replaced {
                return Err(format!("{p}: deleted from the context against the rules"));
            }
        }
        for (p, entry) in self.mount.files.iter().filter(|(_, e)| is_leaf(e)) {
            let unreadable = self.mount.unreadable.iter().any(|u| p.is_within(u));
            let own = self.mount.base.get(p).is_none_or(|b| !b.agrees_with(entry));
            let sent = next.get(p).is_some_and(|n| n.agrees_with(entry));
            if self.keeps_both() && self.deletes() && own && !unreadable && !sent {
                let blocked = self.step(p).is_some_and(|s| s.decision.reason == Reason::NeedsDeletion);
                if !blocked || self.mount.unreadable.is_empty() {
                    return Err(format!("{p}: changed here, and not uploaded"));
                }
            }
        }
        Ok(())
    }

    fn of_download(&self, next: &Tree) -> Result<(), String> {
        for (p, entry) in &self.mount.files {
            let kept = next.get(p).is_some_and(|n| n.agrees_with(entry));
            if self.mount.unreadable.iter().any(|u| p.is_within(u)) && !kept {
                return Err(format!("{p}: touched, though it can't be read"));
            }
            if !is_leaf(entry) || kept {
                continue;
            }
            let in_history = self.mount.base.get(p).is_some_and(|b| b.agrees_with(entry));
            if self.rules.conflict != ConflictPolicy::PreferRemote && !in_history {
                return Err(format!("{p}: lost from the mount, and never uploaded"));
            }
            if self.rules.hold_deletions && !next.get(p).is_some_and(is_leaf) {
                return Err(format!("{p}: deleted from the mount though deletions are held"));
            }
        }
        for (p, entry) in self.store.iter().filter(|(_, e)| is_leaf(e)) {
            let new = self.mount.base.get(p).is_none_or(|b| !b.agrees_with(entry));
            let here = next.get(p).is_some_and(|n| self.stays(p, n, entry)) || self.is_copied(p, next);
            let frozen = !self.mount.unreadable.is_empty();
            if self.keeps_both() && self.deletes() && new && !here && !frozen {
                return Err(format!("{p}: changed in the context, and not brought"));
            }
        }
        Ok(())
    }
}

fn differs(a: Option<&Entry>, b: Option<&Entry>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => !a.agrees_with(b),
        (a, b) => a.is_some() != b.is_some(),
    }
}
