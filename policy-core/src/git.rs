//! Objects of git repositories. They mean something only together with the refs that lead to them, so whether one may be
//! deleted does not depend on its own path alone.

use std::collections::BTreeSet;

use crate::decide::{Decision, Local, Reason, Towards, Verdict};
use crate::reconcile::{LocalRow, Step, TreeRow};
use crate::{Entry, TreePath};

/// Which git repositories each side has changed since both agreed last.
///
/// If one side deletes an object and the other side has changed the object's repository, the deletion is not carried
/// out: a new ref may lead to the object. One object too many does no harm, and the next `git gc` removes it.
///
/// Repositories are known by the names in them. So this may list directories that are none. No path in such a directory
/// looks like that of an object, so nothing follows from that.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GitChanges {
    here: BTreeSet<TreePath>,
    there: BTreeSet<TreePath>,
    deletes_here: bool,
}

impl GitChanges {
    /// Notes what each side has changed at the path of a step.
    pub fn note<B: TreeRow, L: LocalRow, R: TreeRow>(&mut self, step: &Step<B, L, R>) {
        let base = step.base.as_ref().map(B::entry);
        if let Some(row) = &step.local {
            self.note_here(&step.path, base, row.local());
        }
        let there = step.remote.as_ref().map(R::entry);
        let is_same = match (base, there) {
            (Some(base), Some(there)) => base.agrees_with(there),
            (base, there) => base.is_none() && there.is_none(),
        };
        if !is_same {
            self.there.extend(repositories(&step.path));
        }
    }

    /// Notes what the mount has changed at a path.
    pub fn note_here(&mut self, path: &TreePath, base: Option<&Entry>, local: Local<'_>) {
        let is_change = match local {
            Local::Present(entry) => base.is_none_or(|base| !base.agrees_with(entry)),
            Local::Absent => true,
            Local::Pending | Local::Unreadable | Local::Unmounted => false,
        };
        self.deletes_here |= local == Local::Absent && repository_of(path).is_some();
        if is_change {
            self.here.extend(repositories(path));
        }
    }

    /// Whether the mount has deleted an object, so that it matters what the context has changed.
    pub fn deletes_here(&self) -> bool {
        self.deletes_here
    }

    /// Whether a step deletes an object on one side, so that what is done depends on what the other side has changed.
    pub fn concerns<B, L, R>(step: &Step<B, L, R>) -> bool {
        matches!(step.decision.reason, Reason::DeletedHere | Reason::DeletedThere)
            && repository_of(&step.path).is_some()
    }

    /// Returns what is done with the object at the path of a step instead, if it has to be kept.
    pub fn keeps<B, L, R>(&self, step: &Step<B, L, R>, towards: Towards) -> Option<Decision> {
        let changed = match step.decision.reason {
            Reason::DeletedHere => &self.there,
            Reason::DeletedThere => &self.here,
            _ => return None,
        };
        if changed.is_empty() || !changed.contains(&repository_of(&step.path)?) {
            return None;
        }
        let (verdict, reason) = match (step.decision.reason, towards) {
            (Reason::DeletedHere, Towards::Store) => (Verdict::Keep, Reason::ObjectKeptThere),
            (Reason::DeletedHere, Towards::Mount) => (Verdict::Write, Reason::ObjectKeptThere),
            (_, Towards::Store) => (Verdict::Write, Reason::ObjectKeptHere),
            (_, Towards::Mount) => (Verdict::Keep, Reason::ObjectKeptHere),
        };
        Some(Decision::new(verdict, reason))
    }
}

/// Returns the repository of which a path is an object, a pack, or a list of these, by the shape of the path.
fn repository_of(path: &TreePath) -> Option<TreePath> {
    let is_hex = |name: &[u8]| name.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let bytes = path.as_bytes();
    heads(path).filter(|(_, name)| *name == b"objects").find_map(|(dir, name)| {
        // The path goes on after `objects/`.
        let rest = bytes.get(dir.len() + usize::from(!dir.is_empty()) + name.len() + 1..)?;
        let slash = rest.iter().position(|&b| b == b'/')?;
        let (fan_out, name) = (&rest[..slash], &rest[slash + 1..]);
        let is_object = match fan_out {
            b"pack" => name.starts_with(b"pack-") || name.starts_with(b"multi-pack-index"),
            b"info" => true,
            _ => fan_out.len() == 2 && matches!(name.len(), 38 | 62) && is_hex(fan_out) && is_hex(name),
        };
        is_object.then(|| TreePath::new(dir).ok()).flatten()
    })
}

/// Returns the directories above a path that are repositories if the path is what its name says: a file that names
/// objects, or an object.
fn repositories(path: &TreePath) -> impl Iterator<Item = TreePath> {
    heads(path).filter(|(_, name)| tells_of_objects(name)).filter_map(|(dir, _)| TreePath::new(dir).ok())
}

/// Returns each directory above a path, with the next name on the way to the path.
fn heads(path: &TreePath) -> impl Iterator<Item = (&[u8], &[u8])> {
    let (bytes, mut at) = (path.as_bytes(), 0);
    path.components().map(move |name| {
        let dir = &bytes[..at];
        at += usize::from(at > 0) + name.len();
        (dir, name)
    })
}

/// Whether git keeps objects, or names of objects, in what has this name in a git directory.
fn tells_of_objects(name: &[u8]) -> bool {
    matches!(
        name,
        b"HEAD"
            | b"refs"
            | b"reftable"
            | b"packed-refs"
            | b"logs"
            | b"index"
            | b"objects"
            | b"shallow"
            | b"worktrees"
            | b"rebase-merge"
            | b"rebase-apply"
            | b"sequencer"
            | b"AUTO_MERGE"
    ) || name.ends_with(b"_HEAD")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ConflictPolicy, Digest, Node, Rules, Timestamp, decide, plan};

    /// A loose object.
    const OBJECT: &str = "objects/ab/0123456789abcdef0123456789abcdef012345";

    fn path(s: &str) -> TreePath {
        s.parse().unwrap()
    }

    #[test]
    fn objects_are_known_by_the_shape_of_their_paths() {
        let sha256 = format!("r/objects/00/{}", "0".repeat(62));
        for (object, repository) in [
            (&*format!("r/.git/{OBJECT}"), "r/.git"),
            (OBJECT, ""),
            (&*sha256, "r"),
            (&*format!("objects/x.git/{OBJECT}"), "objects/x.git"),
            ("r/.git/modules/m/objects/pack/pack-12.idx", "r/.git/modules/m"),
            ("bare/objects/pack/multi-pack-index", "bare"),
            ("bare/objects/info/commit-graphs/commit-graph-chain", "bare"),
        ] {
            assert_eq!(repository_of(&path(object)), Some(path(repository)), "{object}");
        }
        for other in [
            "",
            "objects",
            "r/objects/ab",
            "r/objects/ab/short",
            "r/objects/zz/0123456789abcdef0123456789abcdef012345",
            "r/objects/ab/0123456789abcdef0123456789abcdef01234X",
            "r/objects/pack/tree.obj",
            "r/objects/pack",
            "r/refs/heads/main",
        ] {
            assert_eq!(repository_of(&path(other)), None, "{other}");
        }
    }

    #[test]
    fn what_names_objects_tells_of_its_repository() {
        let found = |s: &str| repositories(&path(s)).map(|dir| dir.to_string()).collect::<Vec<_>>();
        for names in ["HEAD", "FETCH_HEAD", "refs/heads/x", "logs/HEAD", "packed-refs", "index", OBJECT] {
            assert!(found(&format!("r/.git/{names}")).contains(&"r/.git".to_owned()), "{names}");
            assert!(found(names).contains(&String::new()), "{names}");
        }
        assert_eq!(found(".git/worktrees/w/HEAD"), [".git", ".git/worktrees/w"]);
        assert_eq!(found(".git/config"), [""; 0]);
        assert_eq!(found("src/main.rs"), [""; 0]);
    }

    struct Row(TreePath, Option<Entry>);

    impl TreeRow for Row {
        fn path(&self) -> &TreePath {
            &self.0
        }

        fn entry(&self) -> &Entry {
            self.1.as_ref().unwrap()
        }
    }

    impl LocalRow for Row {
        fn path(&self) -> &TreePath {
            &self.0
        }

        fn local(&self) -> Local<'_> {
            self.1.as_ref().map_or(Local::Absent, Local::Present)
        }
    }

    /// Returns a plan's step for contents of base, mount and context; 0 is no file.
    fn step(
        at: &str,
        [base, local, remote]: [u8; 3],
        rules: &Rules,
        towards: Towards,
    ) -> Step<Row, Row, Row> {
        let file = |content: u8| {
            let node = Node::File { size: 1, digest: Digest([content; 32]) };
            (content > 0).then(|| Entry { node, mode: 0o644, mtime: Timestamp::default(), uploaded: 0 })
        };
        let (base, local, remote) = (file(base), file(local), file(remote));
        let here = local.as_ref().map_or(Local::Absent, Local::Present);
        let decision = decide(base.as_ref(), here, remote.as_ref(), rules, towards);
        let row = |entry: &Option<Entry>| entry.clone().map(|entry| Row(path(at), Some(entry)));
        Step {
            path: path(at),
            base: row(&base),
            local: (base != local).then(|| Row(path(at), local.clone())),
            remote: row(&remote),
            recycled: false,
            heals: false,
            remote_implied: false,
            decision,
            copy: None,
        }
    }

    const RULES: Rules =
        Rules { sync_local_file: true, conflict: ConflictPolicy::KeepBoth, hold_deletions: false };

    /// Returns what is done with an object, if a ref of the repository has these contents.
    fn decided(object: [u8; 3], reference: [u8; 3], rules: &Rules, towards: Towards) -> Decision {
        let mut changes = GitChanges::default();
        changes.note(&step("r/refs/heads/x", reference, rules, towards));
        changes.note(&step("other/refs/heads/x", [1, 2, 2], rules, towards));
        let object = step(&format!("r/{OBJECT}"), object, rules, towards);
        changes.note(&object);
        changes.keeps(&object, towards).unwrap_or(object.decision)
    }

    #[test]
    fn the_deletion_of_an_object_loses_against_a_change_of_its_repository() {
        use {Reason::*, Towards::*, Verdict::*};
        let (here, there, both) = ([1, 0, 1], [1, 1, 0], [1, 0, 0]);
        for (object, reference, towards, verdict, reason) in [
            // The other side changed nothing, or this repository is as before.
            (here, [1, 1, 1], Store, Delete, DeletedHere),
            (here, [1, 2, 1], Store, Delete, DeletedHere),
            (there, [1, 1, 1], Mount, Delete, DeletedThere),
            (there, [1, 1, 2], Mount, Delete, DeletedThere),
            (both, [1, 2, 3], Store, Nothing, DeletedOnBoth),
            // The other side has a new ref, has changed one, or has deleted one.
            (here, [0, 0, 1], Store, Keep, ObjectKeptThere),
            (here, [1, 1, 2], Store, Keep, ObjectKeptThere),
            (here, [1, 1, 0], Mount, Write, ObjectKeptThere),
            (here, [1, 2, 3], Mount, Write, ObjectKeptThere),
            (there, [0, 1, 0], Store, Write, ObjectKeptHere),
            (there, [1, 2, 1], Mount, Keep, ObjectKeptHere),
            (there, [1, 0, 1], Mount, Keep, ObjectKeptHere),
        ] {
            let decision = decided(object, reference, &RULES, towards);
            assert_eq!(decision, Decision::new(verdict, reason), "{object:?} {reference:?} {towards:?}");
        }
    }

    #[test]
    fn a_plan_of_whole_trees_keeps_objects_whatever_comes_after_them() {
        let file = |at: &str| {
            let node = Node::File { size: 1, digest: Digest([1; 32]) };
            (path(at), Entry { node, mode: 0o644, mtime: Timestamp::default(), uploaded: 0 })
        };
        let object = format!("r/{OBJECT}");
        let (base, without) = ([file(&object), file("r/refs/x")], [file("r/refs/x")]);
        let with = [file(&object), file("r/refs/new"), file("r/refs/x")];
        for (local, remote, towards, verdict) in [
            (&without[..], &with[..], Towards::Store, Verdict::Keep),
            (&without, &with, Towards::Mount, Verdict::Write),
            (&with, &without, Towards::Store, Verdict::Write),
            (&with, &without, Towards::Mount, Verdict::Keep),
            (&base, &without, Towards::Mount, Verdict::Delete),
        ] {
            let plan = plan(&base, local, remote, RULES, towards).unwrap();
            assert_eq!((plan[0].path.to_string(), plan[0].decision.verdict), (object.clone(), verdict));
        }
        assert_eq!(plan(&base, &base, &without, RULES, Towards::Store), Ok(Vec::new()));
    }

    #[test]
    fn deletions_that_are_not_carried_out_anyway_stay_as_they_are() {
        let kept = Rules { sync_local_file: false, ..RULES };
        let held = Rules { hold_deletions: true, ..RULES };
        for (rules, object, towards) in [
            (kept, [1, 0, 1], Towards::Store),
            (kept, [1, 0, 1], Towards::Mount),
            (held, [1, 0, 1], Towards::Store),
            (held, [1, 1, 0], Towards::Mount),
        ] {
            let same = decided(object, [1, 1, 1], &rules, towards);
            assert_eq!(decided(object, [1, 2, 3], &rules, towards), same);
            assert!(!matches!(same.verdict, Verdict::Delete), "{same:?}");
        }
    }
}
