//! Files that are recycled because of their age leave the context and its history, and stay where they are.

use std::path::Path;

use ctxsync_tests::machine::Machine;
use policy_core::TreePath;
use transfer_engine::ContextName;
use transfer_engine::format::Snapshot;

use crate::archives::parts;
use crate::coverage::met;
use crate::edits::contents;
use crate::history::Files;
use crate::run::Run;
use crate::schedule::{Deed, GRACE, Step, What};

/// A recycled file that a machine still has: its path, and what is in it.
pub(crate) type Held = (TreePath, Vec<String>);

impl Run {
    /// Notes what a snapshot has recycled, which must be expired by the policy of some machine. Nothing that is recycled
    /// may be pushed again.
    pub(crate) fn check_recycled(
        &self,
        name: &ContextName,
        snapshot: &Snapshot,
        before: &Files,
        is_merged: bool,
        now: i64,
    ) {
        let mut history = self.history.borrow_mut();
        let files = history.files.clone();
        for (path, seen) in &files {
            if !seen.recycled {
                let parts = history.parts.get(&seen.digest).cloned().unwrap_or_default();
                let back = parts.into_iter().filter(|part| history.recycled_parts.contains(part));
                let back: Vec<String> = back.collect();
                history.returned.extend(back);
            }
            // After a rename, the snapshot that had the file may be forgotten before anybody has looked.
            let begun = || history.begun.get(path).filter(|_| seen.recycled);
            let old = before.get(path).or_else(begun).cloned();
            let Some(old) = old.filter(|old| old.digest == seen.digest) else { continue };
            if old.recycled && !seen.recycled {
                let again = is_merged || self.is_spoiled;
                assert!(again, "{name}@{}: {path} was recycled, and is pushed again", snapshot.number);
            }
            if old.recycled || !seen.recycled {
                continue;
            }
            let since = history.since[&(path.clone(), old.digest, old.mode)];
            let may_be = self.players.iter().any(|player| {
                let rule = &player.machine.policy.recycle_policy;
                let is_below = rule.paths.iter().any(|place| path.is_within(&place.parse().unwrap()));
                let days = rule.lifecycle.days().map(u64::from);
                is_below && days.is_some_and(|days| since + (days * GRACE).cast_signed() <= now)
            });
            assert!(may_be, "{name}@{}: {path} is recycled too early: {since}, {now}", snapshot.number);
            met("recycled: a file");
            self.trace.note(|| format!("      {path} is recycled"));
            let gone = history.parts.get(&old.digest).cloned().unwrap_or_default();
            self.ledger.borrow_mut().given_up.extend(gone.iter().cloned());
            history.returned.retain(|part| !gone.contains(part));
            history.recycled_parts.extend(gone);
            history.recycled.insert((path.clone(), old.digest));
        }
    }

    /// Returns the files that a machine still has, and that the context has recycled.
    fn held_though_recycled(&self, who: usize) -> Vec<Held> {
        let history = self.history.borrow();
        let recycled = history.files.iter().filter(|(_, seen)| seen.recycled);
        let held = recycled.filter_map(|(path, seen)| {
            let gone = history.parts.get(&seen.digest)?;
            let place = self.players[who].machine.mount.at(path.to_string());
            let is_file = place.symlink_metadata().ok()?.is_file();
            let here = std::fs::read(place).ok().filter(|_| is_file)?;
            (parts(&here) == *gone).then(|| (path.clone(), gone.clone()))
        });
        held.collect()
    }

    /// The same of all machines.
    pub(crate) fn held_though_recycled_everywhere(&self) -> Vec<Vec<Held>> {
        (0..self.players.len()).map(|who| self.held_though_recycled(who)).collect()
    }

    /// Fails unless all machines still have what they had though it was recycled.
    pub(crate) fn check_held(&self, step: &Step, before: &[Vec<Held>]) {
        let is_sync =
            matches!(step.deed, Deed::Sync(_) | Deed::Both(..) | Deed::Collect { .. } | Deed::Damage);
        let loses_power = step.files.iter().any(|trouble| trouble.what == What::PowerLoss);
        if is_sync && !step.reverts() && !loses_power && !self.careless {
            self.check_kept(before);
        }
    }

    /// The same, whatever was done.
    pub(crate) fn check_kept(&self, before: &[Vec<Held>]) {
        for (who, held) in before.iter().enumerate() {
            let (here, history) = (self.contents_of(who), self.history.borrow());
            // What the context has again, somebody may have replaced since.
            let may_go = |content: &String| here.contains(content) || history.returned.contains(content);
            for (path, gone) in held {
                let lost: Vec<_> = gone.iter().filter(|content| !may_go(content)).collect();
                assert!(lost.is_empty(), "m{who} has lost {lost:?} of {path}, which was recycled");
                met("recycled: a machine keeps what it has");
            }
        }
    }

    /// Whether a content may be missing because it was recycled.
    pub(crate) fn was_recycled(&self, content: &str) -> bool {
        self.history.borrow().recycled_parts.contains(content)
    }

    /// Whether a machine may have a path that the context does not list: it has recycled a file at it or below it. Its
    /// placeholder may be gone, because something else was written in the place of its directory. Or it has recycled this
    /// content, or one below, elsewhere, so that the machine may have the last copy.
    pub(crate) fn may_keep(&self, machine: &Machine, path: &Path) -> bool {
        let Some(at) = path.to_str().and_then(|path| path.parse::<TreePath>().ok()) else { return false };
        let history = self.history.borrow();
        history.recycled.iter().any(|(recycled, _)| recycled.is_within(&at))
            || contents(&machine.mount, path).iter().any(|part| history.recycled_parts.contains(part))
    }
}
