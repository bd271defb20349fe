//! Commands that are killed, at one system call after another.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;

use ctxsync_tests::trace::{Act, Call, Ran, may_trace, trace, without_numbers};
use ctxsync_tests::tree::Tree;

use crate::place::Place;

/// A command, what comes before it, and what must hold when it was killed.
pub(crate) trait Scenario {
    /// Makes sure that the command has something to do.
    fn prepare(&mut self, place: &mut Place);

    /// The command.
    fn command(&self, place: &Place) -> Command;

    /// Is called before each system call of the command that changes something.
    fn meanwhile(&mut self, _: &Place, _: &Call) {}

    /// Whether what the scenario is about happened in a run that nothing disturbed.
    fn is_met(&self) -> bool {
        true
    }

    /// Fails unless what is there after a kill is old or new, and whole. Returns whether it is new.
    fn look(&mut self, place: &mut Place) -> bool;

    /// Fails unless what is there is whole, although the command did only a part of it: some paths failed, and
    /// it said so.
    fn look_at_part(&mut self, place: &mut Place) {
        self.look(place);
    }

    /// The command that goes on after a kill.
    fn again(&self, place: &Place) -> Command {
        self.command(place)
    }

    /// The exit codes that both may end with.
    fn codes(&self) -> &'static [i32] {
        &[0]
    }

    /// The exit codes that the command may end with if a system call fails.
    fn failing_codes(&self) -> &'static [i32] {
        &[1, 3]
    }

    /// Fails unless everything is as if nothing had been killed.
    fn settled(&mut self, place: &mut Place);
}

/// Returns in how many rounds a scenario is disturbed, and at which of so many calls: from the first to the
/// last, and round again. The variable says how often, or `all` for once at each call.
pub(crate) fn rounds(variable: &str, calls: usize) -> impl Iterator<Item = (usize, usize)> + use<> {
    let rounds = match std::env::var(variable) {
        Ok(all) if all == "all" => calls,
        Ok(count) => count.parse().unwrap(),
        Err(_) => 6,
    };
    (0..rounds)
        .map(move |round| (round, 1 + if rounds < calls { round * calls / rounds } else { round % calls }))
}

/// The rounds that failed. The others go on, so that a long run shows all of them.
#[derive(Default)]
pub(crate) struct Failed(Vec<String>);

impl Failed {
    /// Runs a round, and returns whether it went well. The round notes what it does to the program.
    pub(crate) fn round(&mut self, title: String, round: impl FnOnce(&mut String)) -> bool {
        let mut done = title;
        let ended = catch_unwind(AssertUnwindSafe(|| round(&mut done)));
        let Err(panic) = ended else { return true };
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or_default();
        self.0.push(format!("{done}\n{text}"));
        false
    }

    /// Fails if a round failed.
    pub(crate) fn tell(self) {
        assert!(self.0.is_empty(), "{} rounds failed:\n\n{}", self.0.len(), self.0.join("\n\n"));
    }
}

/// Runs a command, and kills it before the call with this number of those that change something.
fn run(
    scenario: &mut impl Scenario,
    place: &Place,
    command: &Command,
    number: Option<usize>,
    mut note: impl FnMut(&Call),
) -> Ran {
    let mut count = 0;
    trace(command, |call| {
        if !call.changes() {
            return Act::Go;
        }
        count += 1;
        note(call);
        scenario.meanwhile(place, call);
        if Some(count) == number { Act::Kill } else { Act::Go }
    })
}

/// What was reached.
#[derive(Default)]
struct Tally {
    kills: usize,
    new: usize,
}

impl Tally {
    /// Kills a command, unless it ends before, and looks at what is there.
    fn kill(
        &mut self,
        scenario: &mut impl Scenario,
        place: &mut Place,
        command: &Command,
        number: usize,
        at: &mut String,
    ) {
        let mut last = String::new();
        let ran = run(scenario, place, command, Some(number), |call| last = call.to_string());
        *at += &format!("\n{} {number}: {last}", if ran.is_killed() { "killed at" } else { "ended before" });
        // A command with several threads does not make the same calls each time.
        assert!(ran.is_killed() || scenario.codes().contains(&ran.code().unwrap()), "{ran:?}");
        self.kills += usize::from(ran.is_killed());
        self.new += usize::from(scenario.look(place) && ran.is_killed());
    }
}

/// After so many rounds, a scenario begins anew in another place: its history stays short.
pub(crate) const ROUNDS_IN_A_PLACE: usize = 20;

/// Runs a scenario once as it is, and then kills its command again and again: at calls from the first to the
/// last. After every other kill, the command that goes on is killed as well.
#[expect(clippy::print_stdout, reason = "with --nocapture, it shows what was reached")]
pub(crate) fn kill<S: Scenario>(title: &str, new: impl Fn() -> S) {
    if !may_trace() {
        return;
    }
    let (mut place, mut scenario) = (Place::new(0), new());
    scenario.prepare(&mut place);
    let mut sites = BTreeMap::<String, usize>::new();
    let (root, command) = (place.path(""), scenario.command(&place));
    let ran =
        run(&mut scenario, &place, &command, None, |call| *sites.entry(call.site(&root)).or_default() += 1);
    let usual = undisturbed(&mut scenario, &mut place, &ran);
    let calls = sites.values().sum();

    let (mut tally, mut failed) = (Tally::default(), Failed::default());
    for (round, number) in rounds("CTXSYNC_KILLS", calls) {
        if round % ROUNDS_IN_A_PLACE == ROUNDS_IN_A_PLACE - 1 {
            collect(&place);
            (place, scenario) = (Place::new(round), new());
        }
        let went_well = failed.round(format!("{title}, round {round}"), |at| {
            scenario.prepare(&mut place);
            let command = scenario.command(&place);
            tally.kill(&mut scenario, &mut place, &command, number, at);
            if round % 2 == 1 {
                let (command, number) = (scenario.again(&place), 1 + place.random.below(number));
                tally.kill(&mut scenario, &mut place, &command, number, at);
            }
            go_on(&mut scenario, &mut place, &usual);
        });
        if !went_well {
            (place, scenario) = (Place::new(round), new());
        }
    }
    collect(&place);
    println!(
        "{title}: {calls} calls change something; {} kills, {} after the effect",
        tally.kills, tally.new
    );
    for (site, count) in sites {
        println!("  {count:>4} {site}");
    }
    failed.tell();
}

/// Fails unless a run that nothing disturbed ended well. Returns the names that it leaves.
pub(crate) fn undisturbed(scenario: &mut impl Scenario, place: &mut Place, ran: &Ran) -> BTreeSet<String> {
    assert!(ran.code().is_some_and(|code| scenario.codes().contains(&code)), "{ran:?}");
    assert!(scenario.is_met());
    scenario.settled(place);
    own_names(place)
}

/// Runs the command that goes on, and fails if something is not as usual then.
pub(crate) fn go_on(scenario: &mut impl Scenario, place: &mut Place, usual: &BTreeSet<String>) {
    let output = scenario.again(place).output().unwrap();
    assert!(output.status.code().is_some_and(|code| scenario.codes().contains(&code)), "{output:?}");
    scenario.settled(place);
    let left: Vec<String> = own_names(place).difference(usual).cloned().collect();
    assert!(left.is_empty(), "left behind: {left:?}");
}

/// Fails unless a collection leaves nothing of what was not finished.
pub(crate) fn collect(place: &Place) {
    // After a round that failed, the place is new.
    if !place.path("store").is_dir() {
        return;
    }
    place.good("a", &["gc", "--exclusive", "--json"]);
    let unfinished = Tree(place.path("store")).files().into_iter().filter(|name| name.contains('#'));
    assert_eq!(unfinished.collect::<Vec<_>>(), [""; 0]);
}

/// Returns the files of the program outside of stores, without the numbers in their names: state, and what
/// is staged in mounts.
fn own_names(place: &Place) -> BTreeSet<String> {
    let is_stored = |name: &String| name.starts_with("store/") || name.starts_with("other/");
    let all = Tree(place.path("")).files().into_iter().filter(|name| !is_stored(name));
    let own = all.filter(|name| !name.contains("/mount/") || name.contains(".ctxsync-stage-"));
    own.map(|name| without_numbers(&name)).collect()
}
