//! Lists all snapshots, reads the roots, and plans what to do.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;

use futures::stream::{self, BoxStream};
use futures::{FutureExt, StreamExt, TryStreamExt};
use policy_core::{Keeper, KeptFor, RetentionRules, Taken};
use tokio::sync::Semaphore;

use super::clock::PassTime;
use super::roots::PackSet;
use super::tags::Tags;
use super::tidy::Known;
use super::witness::{Witness, is_passing};
use super::{CollectMonitor, CollectOptions, CollectReport, Forgotten, Kept, Unreadable, Why};
use crate::contexts::{ListedContext, RawListing};
use crate::error::Error;
use crate::format::{ContextName, FormatError, Kind, LineageId, PackId, StandsFor, StoreKey};
use crate::store::{Head, Store};
use crate::tags::{Listed, void};

/// A day, in seconds.
const DAY: i64 = 24 * 60 * 60;

/// The plan of a collection.
#[derive(Default)]
pub(super) struct Survey {
    /// The needed packs.
    pub(super) roots: PackSet,
    /// The snapshots to mark as forgotten; in a dry run, also those that the retention keeps.
    verdicts: Vec<Verdict>,
    /// Snapshots that were forgotten long enough ago to be erased.
    pub(super) erase: Vec<(ContextName, u64)>,
    /// What is left of numbers below a deletion, to be freed.
    pub(super) free: Vec<Remains>,
    /// Contexts with tags on snapshots below a deletion, and the number of that deletion.
    pub(super) untag: Vec<(ContextName, u64)>,
    /// The indices of the retention's patterns that match a live context.
    met: BTreeSet<usize>,
    contexts: u64,
    snapshots: u64,
    unreadable: u64,
    /// In a dry run: the contexts in which recycling would make a new head, and the packs that this would need.
    needed: BTreeMap<ContextName, BTreeSet<PackId>>,
}

/// The decision about a snapshot.
enum Verdict {
    Keep(Kept),
    Forget(Forgotten),
}

impl Verdict {
    fn context(&self) -> &ContextName {
        match self {
            Self::Keep(kept) => &kept.context,
            Self::Forget(forgotten) => &forgotten.context,
        }
    }

    fn number(&self) -> u64 {
        match self {
            Self::Keep(kept) => kept.number,
            Self::Forget(forgotten) => forgotten.number,
        }
    }
}

/// What is left of a snapshot that was erased long ago.
#[derive(Debug, Clone)]
pub(super) struct Remains {
    pub(super) context: ContextName,
    pub(super) number: u64,
    /// Whether there is an object without bytes.
    pub(super) has_tombstone: bool,
    /// Whether there is the mark that it is forgotten.
    pub(super) has_mark: bool,
}

/// The facts about a snapshot that was read.
struct Root {
    kind: Kind,
    lineage: LineageId,
    nonce: [u8; 16],
    /// The number of the snapshot whose place it takes, or its own.
    place: u64,
    taken: Taken,
    packs: Vec<PackId>,
}

impl Root {
    fn of(head: &Head) -> Self {
        let (landed, created) = (head.key.landed, head.snapshot.created.secs);
        let own = StandsFor { number: head.key.number, landed, created };
        let place = head.snapshot.stands_for().unwrap_or(own);
        // All copies that a rename makes land when that is done.
        let is_copy = landed.saturating_sub(created) > DAY;
        Self {
            kind: head.snapshot.kind.clone(),
            lineage: head.snapshot.lineage,
            nonce: head.snapshot.nonce,
            place: place.number,
            taken: Taken {
                landed: if is_copy { landed } else { place.landed },
                created: place.created,
                in_time: head.late_packs().is_empty(),
                is_tagged: false,
                is_merge_base: false,
                is_replaced: false,
            },
            packs: head.snapshot.packs.iter().map(|p| p.id).collect(),
        }
    }
}

/// Limits on what is read at once.
struct Limits {
    requests: Semaphore,
    /// Memory in KiB.
    memory: Semaphore,
    most: u32,
}

impl Limits {
    fn new(options: &CollectOptions) -> Self {
        let most = u32::try_from(options.memory >> 10).unwrap_or(u32::MAX >> 3).clamp(1, u32::MAX >> 3);
        Self {
            requests: Semaphore::new(options.concurrency.get()),
            memory: Semaphore::new(most as usize),
            most,
        }
    }
}

struct Surveyor<'a> {
    store: &'a Store,
    time: &'a PassTime,
    options: &'a CollectOptions,
    monitor: &'a dyn CollectMonitor,
    limits: Limits,
    known: &'a Known,
}

impl Survey {
    pub(super) async fn make(
        store: &Store,
        time: &PassTime,
        options: &CollectOptions,
        known: &Known,
        monitor: &dyn CollectMonitor,
    ) -> Result<Self, Error> {
        let surveyor = Surveyor { store, time, options, monitor, limits: Limits::new(options), known };
        // This must come after files were recycled, which moves data: without a grace period, a new pack must not be missed.
        let witness = Witness::take(store, time).await?;
        let mut names = store.names().await?;
        names.sort_unstable();
        witness.agrees_on(store, &known.names, &names)?;
        let (surveyor, witness) = (&surveyor, &witness);
        // A second listing: by pages, or for each context where that costs no more or nothing is in order.
        let listings = match witness.keys() {
            Some(keys) if store.place().is_none() => store.raw_listings(keys),
            _ => surveyor.listings_by_name(names.clone()),
        };
        let contexts = listings
            .map(|listed| {
                async move {
                    let (name, listing) = listed?;
                    Ok::<_, Error>((name.clone(), surveyor.context(name, listing, witness).await?))
                }
                .boxed()
            })
            .buffered(options.concurrency.get());
        let mut contexts = pin!(contexts);
        let (mut all, mut listed) = (Self::default(), Vec::new());
        while let Some((name, one)) = contexts.try_next().await? {
            listed.push(name);
            all.contexts += 1;
            all.snapshots += one.snapshots;
            all.unreadable += one.unreadable;
            all.verdicts.extend(one.verdicts);
            all.free.extend(one.free);
            all.untag.extend(one.untag);
            all.met.extend(one.met);
            all.erase.extend(one.erase);
            all.roots.extend(one.roots.into_ids());
        }
        witness.agrees_on(store, &known.names, &listed)?;
        all.verdicts.sort_by(|a, b| (a.context(), b.number()).cmp(&(b.context(), a.number())));
        all.needed.clone_from(&known.needed);
        all.roots.sort();
        Ok(all)
    }

    pub(super) fn describe(&self, rules: &RetentionRules, report: &mut CollectReport) {
        let unmatched = rules.patterns().enumerate().filter(|(at, _)| !self.met.contains(at));
        report.unmatched = unmatched.map(|(_, pattern)| pattern.as_str().to_owned()).collect();
        report.contexts = self.contexts;
        report.snapshots = self.snapshots;
        report.unreadable = self.unreadable;
        if self.unreadable == 0 {
            report.forgotten += self.forgotten().count() as u64;
            report.erased = self.erase.len() as u64;
            report.freed = self.free.len() as u64;
        }
    }

    /// Returns the snapshots to mark as forgotten. Recycling has marked its own.
    pub(super) fn forgotten(&self) -> impl Iterator<Item = &Forgotten> {
        self.all_forgotten().filter(|forgotten| forgotten.why != Why::Recycled)
    }

    fn all_forgotten(&self) -> impl Iterator<Item = &Forgotten> {
        self.verdicts.iter().filter_map(|verdict| match verdict {
            Verdict::Forget(forgotten) => Some(forgotten),
            Verdict::Keep(_) => None,
        })
    }

    /// Returns which snapshots no longer need their packs, or would not after a real run.
    pub(super) fn leaving(&self) -> BTreeSet<(&ContextName, u64)> {
        self.all_forgotten().map(|forgotten| (&forgotten.context, forgotten.number)).collect()
    }

    /// Returns the packs that the head would need that recycling would make, in a dry run.
    pub(super) fn needed(&self, name: &ContextName) -> Option<&BTreeSet<PackId>> {
        self.needed.get(name)
    }

    /// Reports what is forgotten, and what is kept if that is known, newest first in each context.
    pub(super) fn tell(&self, monitor: &dyn CollectMonitor) {
        for verdict in &self.verdicts {
            match verdict {
                Verdict::Forget(forgotten) => monitor.forgotten(forgotten),
                Verdict::Keep(kept) => monitor.kept(kept),
            }
        }
    }
}

impl Surveyor<'_> {
    /// Lists each context by itself.
    fn listings_by_name(&self, names: Vec<ContextName>) -> BoxStream<'_, Result<ListedContext, Error>> {
        let listings = stream::iter(names).map(move |name| async move {
            let listing = self.store.raw_listing(&name).await?;
            Ok((name, listing))
        });
        listings.buffered(self.options.concurrency.get()).boxed()
    }

    async fn context(
        &self,
        name: ContextName,
        (mut listed, tags): RawListing,
        witness: &Witness,
    ) -> Result<Survey, Error> {
        let mut survey = Survey::default();
        witness.confirms(self.store, &name, &listed, self.time).await?;
        for object in listed.values() {
            let times = object.snapshot.as_ref().map(|key| key.landed).into_iter().chain(object.gone);
            times.into_iter().try_for_each(|put| self.time.check(put, self.store))?;
        }
        let tags = Tags::read(self.store, &name, tags, witness).await?;
        let grace = self.store.grace().await?;
        tags.known.iter().for_each(|(tag, number)| void(&mut listed, tag, *number, grace));
        let (mut numbers, mut zeroed) = (Vec::new(), Vec::new());
        let newest = listed.iter().rev().find(|(_, object)| object.snapshot.is_some()).map(|(n, _)| *n);
        for (number, object) in listed.iter().rev() {
            match self.fate(*number, object, newest, &tags) {
                Fate::Root => numbers.push(*number),
                Fate::Erase => survey.erase.push((name.clone(), *number)),
                Fate::Nothing => {}
                Fate::Zeroed => zeroed.push(*number),
            }
        }
        let (name, listed) = (&name, &listed);
        survey.verdicts.extend(self.recycled(name, listed));
        let judge = self.judge_all(&mut survey, name, listed, numbers, &tags).await?;
        // Below a deletion nothing is needed, whoever erased it.
        zeroed.retain(|number| judge.deletion.is_none_or(|deletion| *number > deletion));
        zeroed.iter().for_each(|number| self.unreadable(&mut survey, name, *number, None));
        let untag = judge.deletion.filter(|deletion| tags.are_left_below(*deletion));
        survey.untag.extend(untag.map(|deletion| (name.clone(), deletion)));
        for (key, error) in tags.damaged_of(name, judge.live) {
            survey.unreadable += 1;
            self.monitor.unreadable(&Unreadable { key, error: Some(error) });
        }
        if let Some(deletion) = judge.deletion {
            let below = listed.range(..deletion);
            survey.free = below.filter_map(|(number, object)| self.remains(name, *number, object)).collect();
        }
        if judge.live.is_some() {
            let patterns = self.options.retention.patterns().enumerate();
            survey.met = patterns.filter(|(_, p)| p.matches(name.as_str())).map(|(at, _)| at).collect();
        }
        Ok(survey)
    }

    /// Returns the verdicts on the snapshots that recycling has forgotten, or would forget.
    fn recycled<'s>(
        &'s self,
        name: &'s ContextName,
        listed: &'s BTreeMap<u64, Listed>,
    ) -> impl Iterator<Item = Verdict> + 's {
        let numbers = self.known.recycled.get(name).into_iter().flatten();
        numbers.filter_map(|number| {
            let landed = listed.get(number)?.snapshot.as_ref()?.landed;
            let (context, number, why) = (name.clone(), *number, Why::Recycled);
            Some(Verdict::Forget(Forgotten { context, number, landed, why }))
        })
    }

    /// Reads the roots of a context, the newest first, and judges them.
    async fn judge_all(
        &self,
        survey: &mut Survey,
        name: &ContextName,
        listed: &BTreeMap<u64, Listed>,
        numbers: Vec<u64>,
        tags: &Tags,
    ) -> Result<Judge, Error> {
        let newest = numbers.first().copied();
        let read = stream::iter(numbers)
            .map(|number| async move { (number, self.read(name, number, listed).await) }.boxed())
            .buffered(self.options.concurrency.get());
        let mut read = pin!(read);
        let retention = self.options.retention.of(name.as_str());
        let tells_kept = self.options.dry_run && !retention.keeps_all();
        let mut judge = Judge::new(Keeper::new(retention, self.time.now()), tags.tagged());
        while let Some((number, root)) = read.next().await {
            let root = match root {
                Ok(Some(root)) => root,
                Ok(None) => {
                    self.unreadable(survey, name, number, None);
                    continue;
                }
                Err(error) if is_passing(&error) => return Err(error),
                Err(error) => {
                    self.unreadable(survey, name, number, Some(error));
                    continue;
                }
            };
            let Some(object) = listed.get(&number) else { continue };
            // From the listing, which is the same in every pass.
            let landed = object.snapshot.as_ref().map_or(0, |key| key.landed);
            let is_merge_base = self.known.merge_bases.have(root.nonce, name);
            let root = Root { taken: Taken { is_merge_base, ..root.taken }, ..root };
            if let Some(needed) = self.known.needed.get(name).filter(|_| Some(number) == newest) {
                // In a real run, there would be a new head in the place of this one.
                judge.fate(number, &root, false);
                survey.snapshots += 1;
                survey.roots.extend(needed.iter().copied());
            }
            let is_recycled = self.known.recycled.get(name).is_some_and(|all| all.contains(&number));
            match judge.fate(number, &root, is_recycled || object.gone.is_some()) {
                _ if is_recycled && self.options.dry_run => {
                    if self.options.exclusive {
                        survey.erase.push((name.clone(), number));
                        continue;
                    }
                }
                Judged::Kept(reasons) if tells_kept && !reasons.is_empty() => {
                    let context = name.clone();
                    survey.verdicts.push(Verdict::Keep(Kept { context, number, landed, reasons }));
                }
                Judged::Kept(_) => {}
                Judged::Forgotten(why) => {
                    let context = name.clone();
                    survey.verdicts.push(Verdict::Forget(Forgotten { context, number, landed, why }));
                    if self.options.exclusive {
                        survey.erase.push((name.clone(), number));
                        continue;
                    }
                }
            }
            survey.snapshots += 1;
            survey.roots.extend(root.packs);
        }
        Ok(judge)
    }

    /// Returns what is left of a number below a deletion, if it may go: a tombstone and its mark, or one of the
    /// two, which a collector leaves that died or slept. A writer that slept and puts a snapshot under the number finds
    /// the deletion above it.
    fn remains(&self, name: &ContextName, number: u64, object: &Listed) -> Option<Remains> {
        let mut times = object.snapshot.iter().map(|key| key.landed).chain(object.gone);
        let is_erased = object.snapshot.as_ref().is_none_or(|key| key.size == 0);
        let is_old = times.all(|put| self.time.outlasted_grace(put));
        (is_erased && is_old).then(|| Remains {
            context: name.clone(),
            number,
            has_tombstone: object.snapshot.is_some(),
            has_mark: object.gone.is_some(),
        })
    }

    /// Returns what to do with a snapshot, judging by the listing. The newest snapshot of a context is always
    /// a root: without it, a writer that slept for long could commit under its number.
    fn fate(&self, number: u64, object: &Listed, newest: Option<u64>, tags: &Tags) -> Fate {
        let Some(key) = &object.snapshot else { return Fate::Nothing };
        match object.gone {
            _ if Some(number) == newest => {
                if key.size == 0 {
                    Fate::Zeroed
                } else {
                    Fate::Root
                }
            }
            None if key.size == 0 => Fate::Zeroed,
            None => Fate::Root,
            // It was erased before this collection began. So it was forgotten long enough before that, or the
            // erasing collection was exclusive.
            Some(_) if key.size == 0 && self.time.is_past(key.landed) => Fate::Nothing,
            Some(gone) if !self.time.is_old(gone) || tags.may_have_outdone(gone) => {
                if key.size == 0 {
                    Fate::Zeroed
                } else {
                    Fate::Root
                }
            }
            Some(_) if key.size == 0 => Fate::Nothing,
            Some(_) => Fate::Erase,
        }
    }

    /// Reads a root; `None` if it was erased after it was listed.
    async fn read(
        &self,
        name: &ContextName,
        number: u64,
        listed: &BTreeMap<u64, Listed>,
    ) -> Result<Option<Root>, Error> {
        let size = listed.get(&number).and_then(|l| l.snapshot.as_ref()).map_or(0, |key| key.size);
        // A decoded snapshot takes a few times as much memory as its bytes.
        let weight = u32::try_from(size >> 8).unwrap_or(u32::MAX).clamp(1, self.limits.most);
        let _memory = self.limits.memory.acquire_many(weight).await;
        let _request = self.limits.requests.acquire().await;
        match self.store.read_snapshot(name, number).await {
            Ok(head) => Ok(Some(Root::of(&head))),
            Err(Error::Format { source: FormatError::Truncated { offset: 0, .. }, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn unreadable(&self, survey: &mut Survey, name: &ContextName, number: u64, error: Option<Error>) {
        let key = StoreKey::Snapshot { context: name.clone(), number }.path().to_string();
        survey.unreadable += 1;
        self.monitor.unreadable(&Unreadable { key, error });
    }
}

/// What to do with a snapshot that was listed.
enum Fate {
    Root,
    Erase,
    Nothing,
    Zeroed,
}

/// Judges the snapshots of a context, newest first.
struct Judge {
    keeper: Keeper,
    /// The lineage of the head, if the context is live.
    live: Option<LineageId>,
    begun: bool,
    /// The number of the newest deletion that was seen: everything older is forgotten.
    deletion: Option<u64>,
    /// The place of the last snapshot that landed in time.
    place: Option<u64>,
    /// The snapshots with a tag.
    tagged: BTreeSet<(LineageId, u64)>,
}

/// The judgement of a snapshot.
enum Judged {
    /// Kept for these reasons. Without a reason, the retention does not apply to it.
    Kept(Vec<KeptFor>),
    Forgotten(Why),
}

impl Judge {
    fn new(keeper: Keeper, tagged: BTreeSet<(LineageId, u64)>) -> Self {
        Self { keeper, live: None, begun: false, deletion: None, place: None, tagged }
    }

    fn fate(&mut self, number: u64, root: &Root, is_gone: bool) -> Judged {
        let is_newest = !std::mem::replace(&mut self.begun, true);
        let not_judged = Judged::Kept(Vec::new());
        if is_gone && !is_newest {
            return not_judged;
        }
        if self.deletion.is_some() {
            return Judged::Forgotten(Why::Deleted);
        }
        match &root.kind {
            Kind::Terminal { moved_to: None } => {
                self.deletion = Some(number);
                return not_judged;
            }
            // The remains of a rename are left to the rename.
            Kind::Terminal { moved_to: Some(_) } => return not_judged,
            Kind::Normal => {}
        }
        if is_newest {
            self.live = Some(root.lineage);
        }
        if self.live != Some(root.lineage) {
            return not_judged;
        }
        let is_tagged = self.tagged.contains(&(root.lineage, number));
        let is_replaced = self.place == Some(root.place);
        if root.taken.in_time {
            self.place = Some(root.place);
        }
        let reasons = self.keeper.reasons(&Taken { is_tagged, is_replaced, ..root.taken });
        if reasons.is_empty() { Judged::Forgotten(Why::Retention) } else { Judged::Kept(reasons) }
    }
}
