//! Commands that are killed, at one system call after another.

use std::collections::{BTreeMap, BTreeSet};
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

    /// Fails unless what is there after a kill is old or new, and whole. Returns whether it is new.
    fn look(&mut self, place: &mut Place) -> bool;

    /// The command that goes on after a kill.
    fn again(&self, place: &Place) -> Command {
        self.command(place)
    }

    /// The exit codes that both may end with.
    fn codes(&self) -> &'static [i32] {
        &[0]
    }

    /// Fails unless everything is as if nothing had been killed.
    fn settled(&mut self, place: &mut Place);
}

/// Returns how many kills there are, of a scenario with so many calls that change something.
fn rounds(calls: usize) -> usize {
    match std::env::var("CTXSYNC_KILLS") {
        Ok(all) if all == "all" => calls,
        Ok(count) => count.parse().unwrap(),
        Err(_) => 10,
    }
}

/// Where the program was killed: it is printed if the test then fails.
struct Where(String);

impl Drop for Where {
    #[expect(clippy::print_stderr, reason = "a failure has to say where the kill was")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.0);
        }
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
        at: &mut Where,
    ) {
        let mut last = String::new();
        let ran = run(scenario, place, command, Some(number), |call| last = call.to_string());
        at.0 += &format!("\n{} {number}: {last}", if ran.is_killed() { "killed at" } else { "ended before" });
        // A command with several threads does not make the same calls each time.
        assert!(ran.is_killed() || scenario.codes().contains(&ran.code().unwrap()), "{ran:?}");
        assert!(ran.is_killed() || number > 1, "the first call was not made: {ran:?}");
        self.kills += usize::from(ran.is_killed());
        self.new += usize::from(scenario.look(place) && ran.is_killed());
    }
}

/// Runs a scenario once as it is, and then kills its command again and again: at calls from the first to the
/// last. After every other kill, the command that goes on is killed as well.
#[expect(clippy::print_stdout, reason = "with --nocapture, it shows what was reached")]
pub(crate) fn kill(title: &str, mut scenario: impl Scenario) {
    if !may_trace() {
        return;
    }
    let mut place = Place::new();
    scenario.prepare(&mut place);
    let mut sites = BTreeMap::<String, usize>::new();
    let (root, command) = (place.path(""), scenario.command(&place));
    let ran =
        run(&mut scenario, &place, &command, None, |call| *sites.entry(call.site(&root)).or_default() += 1);
    assert!(ran.code().is_some_and(|code| scenario.codes().contains(&code)), "{ran:?}");
    scenario.settled(&mut place);
    let (calls, usual) = (sites.values().sum::<usize>(), own_names(&place));

    let (rounds, mut tally) = (rounds(calls), Tally::default());
    for round in 0..rounds {
        scenario.prepare(&mut place);
        let mut at = Where(format!("{title}, round {round}"));
        let number = 1 + if rounds < calls { round * calls / rounds } else { round % calls };
        let command = scenario.command(&place);
        tally.kill(&mut scenario, &mut place, &command, number, &mut at);
        if round % 2 == 1 {
            let (command, number) = (scenario.again(&place), 1 + place.random.below(number));
            tally.kill(&mut scenario, &mut place, &command, number, &mut at);
        }
        let output = scenario.again(&place).output().unwrap();
        assert!(output.status.code().is_some_and(|code| scenario.codes().contains(&code)), "{output:?}");
        scenario.settled(&mut place);
        let left: Vec<String> = own_names(&place).difference(&usual).cloned().collect();
        assert!(left.is_empty(), "left behind: {left:?}");
    }
    // What was sent and not committed, too.
    place.good("a", &["gc", "--exclusive", "--json"]);
    let unfinished = Tree(place.path("store")).files().into_iter().filter(|name| name.contains('#'));
    assert_eq!(unfinished.collect::<Vec<_>>(), [""; 0], "{title}");
    println!(
        "{title}: {calls} calls change something; {} kills, {} after the effect",
        tally.kills, tally.new
    );
    for (site, count) in sites {
        println!("  {count:>4} {site}");
    }
}

/// Returns the files of the program outside of the store, without the numbers in their names: state, and what
/// is staged in mounts.
fn own_names(place: &Place) -> BTreeSet<String> {
    let all = Tree(place.path("")).files().into_iter().filter(|name| !name.starts_with("store/"));
    let own = all.filter(|name| !name.contains("/mount/") || name.contains(".ctxsync-stage-"));
    own.map(|name| without_numbers(&name)).collect()
}
