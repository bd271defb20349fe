//! The differences found so far, and the renamed files among them.

use std::collections::{HashMap, VecDeque};

use policy_core::{Digest, Entry, Node, TreePath};

use super::{DiffReport, DifferenceKind, PathDifference};

/// Renamed files are looked for among at most so many differences. All of them have to be kept for that.
const MOST: usize = 200_000;

/// Collects differences in tree order.
pub(super) struct Found<F> {
    each: F,
    /// What is not yet reported.
    kept: Vec<PathDifference>,
    /// A directory that only one side lists, until it is known whether it is implied on the other.
    pending: Option<PathDifference>,
    /// Whether there were too many to look for renamed files.
    full: bool,
    pub(super) report: DiffReport,
}

impl<F: FnMut(PathDifference) + Send> Found<F> {
    pub(super) fn new(each: F) -> Self {
        Self { each, kept: Vec::new(), pending: None, full: false, report: DiffReport::default() }
    }

    /// Notes what two sides have at a path. If they agree, nothing happens.
    pub(super) fn note(&mut self, path: TreePath, before: Option<Entry>, after: Option<Entry>) {
        // A directory that is no longer listed may only have got something into it; one that is listed now may only
        // have been emptied.
        if let Some(dir) = self.pending.take() {
            let holds = if dir.after.is_none() { after.is_some() } else { before.is_some() };
            if !(holds && path.is_below(&dir.path)) {
                self.keep(dir);
            }
        }
        let kind = match (&before, &after) {
            (None, None) => return,
            (None, Some(_)) => DifferenceKind::Added,
            (Some(_), None) => DifferenceKind::Deleted,
            (Some(before), Some(after)) if before.agrees_with(after) => return,
            (Some(_), Some(_)) => DifferenceKind::Changed,
        };
        let is_plain_dir = |entry: &Option<Entry>| {
            entry.as_ref().is_some_and(|entry| entry.agrees_with(&Entry::IMPLIED_DIR))
        };
        let may_be_implied =
            kind != DifferenceKind::Changed && (is_plain_dir(&before) || is_plain_dir(&after));
        let difference = PathDifference { path, kind, from: None, before, after };
        match may_be_implied {
            true => self.pending = Some(difference),
            false => self.keep(difference),
        }
    }

    fn keep(&mut self, difference: PathDifference) {
        if self.full {
            return self.tell(difference);
        }
        self.kept.push(difference);
        if self.kept.len() > MOST {
            self.full = true;
            self.report.renames_skipped = true;
            std::mem::take(&mut self.kept).into_iter().for_each(|kept| self.tell(kept));
        }
    }

    fn tell(&mut self, difference: PathDifference) {
        let report = &mut self.report;
        let size = |entry: &Option<Entry>| entry.as_ref().map_or(0, Entry::size);
        match difference.kind {
            DifferenceKind::Added => report.added += 1,
            DifferenceKind::Changed => report.changed += 1,
            DifferenceKind::Deleted => report.deleted += 1,
            DifferenceKind::Renamed => report.renamed += 1,
        }
        if difference.kind != DifferenceKind::Renamed {
            report.bytes_added += size(&difference.after);
            report.bytes_deleted += size(&difference.before);
        }
        (self.each)(difference);
    }

    /// Returns the added files that may be renamed ones, because a deleted file has the same size. Their digests may
    /// not be known yet.
    pub(super) fn maybe_renamed(&mut self) -> impl Iterator<Item = (&TreePath, &mut Digest)> {
        let deleted = self.kept.iter().filter(|one| one.kind == DifferenceKind::Deleted);
        let sizes: std::collections::HashSet<u64> =
            deleted.filter_map(|one| file(&one.before)).map(|(size, _)| size).collect();
        let added = self.kept.iter_mut().filter(|one| one.kind == DifferenceKind::Added);
        added.filter_map(move |one| match &mut one.after.as_mut()?.node {
            Node::File { size, digest } if sizes.contains(size) => Some((&one.path, digest)),
            _ => None,
        })
    }

    /// Reports everything, with renamed files as such.
    pub(super) fn finish(mut self) -> DiffReport {
        if let Some(dir) = self.pending.take() {
            self.keep(dir);
        }
        let mut kept = std::mem::take(&mut self.kept);
        pair(&mut kept);
        kept.into_iter().for_each(|one| self.tell(one));
        self.report
    }
}

fn file(entry: &Option<Entry>) -> Option<(u64, Digest)> {
    match entry.as_ref()?.node {
        Node::File { size, digest } if size > 0 => Some((size, digest)),
        _ => None,
    }
}

/// Makes one difference of a deleted and an added file with the same content. Of several, a file with the same name is
/// taken first.
fn pair(kept: &mut Vec<PathDifference>) {
    let mut deleted: HashMap<(u64, Digest), VecDeque<usize>> = HashMap::new();
    for (at, one) in kept.iter().enumerate().filter(|(_, one)| one.kind == DifferenceKind::Deleted) {
        if let Some(content) = file(&one.before) {
            deleted.entry(content).or_default().push_back(at);
        }
    }
    let mut gone = vec![false; kept.len()];
    for at in 0..kept.len() {
        let one = &kept[at];
        if one.kind != DifferenceKind::Added {
            continue;
        }
        let Some(origins) = file(&one.after).and_then(|content| deleted.get_mut(&content)) else { continue };
        let named = origins.iter().position(|origin| kept[*origin].path.name() == one.path.name());
        let Some(origin) = origins.remove(named.unwrap_or_default()) else { continue };
        gone[origin] = true;
        let (from, before) = (kept[origin].path.clone(), kept[origin].before.clone());
        let one = &mut kept[at];
        (one.kind, one.from, one.before) = (DifferenceKind::Renamed, Some(from), before);
    }
    let mut gone = gone.into_iter();
    kept.retain(|_| !gone.next().unwrap_or_default());
}
