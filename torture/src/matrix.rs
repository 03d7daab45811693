//! CORRECTNESS.md: made from the inventory of scenarios and from what campaigns have recorded, and held
//! against both: no figure on it has another source.

mod figures;

use crate::fuzz;
use crate::mutants;
use crate::points;
use crate::record;
use crate::run::{Outcome, Summary};
use crate::saboteurs;
use crate::scenarios::{INVENTORY, Scenario};
use crate::soak;
use crate::tally::Tally;
pub use figures::short_of;
use std::collections::BTreeMap;
use std::fmt::Write;

/// What every campaign has come to.
#[derive(Debug)]
pub struct Records {
    pub run: Summary,
    points: points::Record,
    fuzz: fuzz::Record,
    soak: Option<soak::Record>,
    mutants: Vec<mutants::Tried>,
    saboteurs: saboteurs::Record,
}

impl Records {
    pub fn read() -> Result<Self, String> {
        Ok(Self {
            run: record::read(record::RUN, Summary::from_json)?,
            points: points::Record::read()?,
            fuzz: fuzz::Record::read()?,
            soak: soak::Record::read()?,
            mutants: mutants::read()?,
            saboteurs: saboteurs::Record::read()?,
        })
    }
}

const BAR: &str = "\
# What was tried, and what came of it

This page is written by `make matrix` from the inventory of scenarios and from what each campaign has
recorded in torture/records; `make full` runs all of them but the mutants and the soak. A test fails when
page, inventory and records disagree. Do not edit it.

## What counts as right

A workload commits marked rows: each transaction takes the next number `seq`, stores it, appends a
row to a log, and changes other tables at random. Outside the database, in a ledger, it writes down
before each commit what state it is about to make (a BLAKE3 digest over every user table: schema,
rowids, type and length of each value) and after it that it was made. A restored file is right when

1. SQLite's `integrity_check` finds nothing;
2. marker and log are exactly `{1..=seq}`: no hole, no row from the future;
3. the digest over every user table is the one that the ledger has for `seq`;
4. `seq` is a commit that the workload really made;
5. it is not below the floor: exactly the last commit after a clean end, never below the last one
   that was acknowledged as durable after a crash;
6. targets in rising order land on commits that do not fall, and on nothing begun after the time
   asked for.

A history forks where a database goes on from less than was committed on it: power was lost, an older
copy took its place, a copy is written to on another host. The ledger says which branch a commit is
on, and what each branch began with. A file is then right when it is a commit of one of the branches
that the replica was made from, by marker, log and digest of that one branch; a floor is held to
until a later branch takes over, and no older one may come back after it.

Where points become fewer, what `keep` promises is reckoned from all that was ever shipped, with the
rules of bakelite(5) and not with the program's code: each promised commit comes back as it was shipped,
from a replica as small as upkeep has made it, and each other one comes back or is refused with the
nearest points named, which then come back.

Each destination is held to a floor of its own: what `sync`, a drain and `status` have claimed of it.
One that was wiped or set back behind the daemon's back has none until the next `sync`, which then has to
be true of it. A store is read through a door of its own that does not lie, so that what is graded is what
it holds. A listing behind the time is more than S3 ever does, and may cost a restart or a new snapshot;
it may never cost a commit that was acknowledged.

A destination that is being filled from another one gets the commits of a timeline before its snapshots.
Until there is one, a restore from it alone is refused, which is right where nothing was claimed of it.

The file is opened read-only and immutable, so that grading cannot heal it. A restore that fails
where one is possible, a daemon that ends by itself, an error that the application sees and a commit
that its own database has lost are violations like a wrong file. A scenario that graded nothing, or
whose fault never happened, fails; a run of which anything failed is not recorded. One restore in ten is
the program's, the others are calls of its library.
";

const NOTES: &str = "
Kills are SIGKILLs of running processes: the daemon, writers, `sync`, `restore`. Restores are files
that the oracle judged; targets are those among them that asked for a commit or a time. Rejected are
damaged replicas and lying ledgers that were refused.
";

const REPLAY: &str = "
## How to replay

Every choice comes from a seed. The first line of a run is its base seed, a failure prints the
command that repeats it and keeps its directory:

    torture run kill-daemon --seed 1234

`torture run --minutes 60` goes on with further seeds for an hour. Timing is the machine's, so a
seed repeats the choices and not the interleaving; a failure that hides is found by repeating it.

## Your own storage

    torture suite 's3://BUCKET/PREFIX?endpoint=...&region=...'

holds a directory or a bucket to what bakelite needs of it, each promise a line, and then backs up to it
while the program is killed. With credentials from the environment, below a new name of its own and nowhere
else; what it made it removes, but for a replica that was not right. Exit status 0 if all held, 1 if not.

## What is not covered

- Power loss on other file systems than ext4, and disks that lie about what they have written.
  Where the harness may not mount a file system it is not tried at all, and the matrix says so; nor is
  a real S3 server where none is installed, nor are faults of the kernel where strace may not trace.
- A full disk under the database itself, devices that fail for good.
- Soaks of hours: `torture soak` runs for minutes so far. One thing that it has found is open: what is stored
  on one of two destinations at a kill, and was not acknowledged yet, becomes a branch if only the other one
  is there at the next start.
- Databases overwritten in place, or replaced while an application has them open.
- A machine put back to a snapshot of its memory: the daemon in there has to be started again, as
  bakelite-recovery(7) says.
- Upkeep and locks of sealed replicas.
- A year: the harness makes days seconds, in upkeep, locks and snapshots alike, and a simulated year is a
  test of the library (`upkeep/tests/year.rs`). So are crashes at every point, which come below; in the
  matrix they are sampled.
- Locks on any other store than SeaweedFS, and thieves who may lift a governance lock or remove a bucket.
- Applications with another SQLite than the one linked here; other operating systems than Linux.
- Forgery: a replica that is not sealed, altered by somebody who also mends its checksums. A sealed one
  refuses that: the tests of `src/seal.rs` try more than ten thousand objects so.
";

/// What stands in place of the number of violations where nothing could be tried.
pub const NOT_PERMITTED: &str = "not permitted here";

/// The whole page.
pub fn page(records: &Records) -> String {
    let Records { run, points, fuzz, soak, mutants, saboteurs } = records;
    let mut page = BAR.to_owned();
    page.push_str(&figures::section(records));
    page.push_str("\n## The matrix\n\n");
    lines(run).into_iter().for_each(|line| page += &(line + "  \n"));
    page.push('\n');
    page.push_str(&table(&run.tallies));
    page.push_str(NOTES);
    page.push_str(&figures::faults(&run.total()));
    page.push_str(REPLAY);
    page.push('\n');
    page.push_str(&points.section());
    page.push_str(&fuzz.section());
    page.push_str(&soak.as_ref().map(soak::Record::section).unwrap_or_default());
    page.push_str(&mutants::section(mutants));
    page.push_str(&saboteurs.section());
    page
}

/// A run in two lines.
fn lines(run: &Summary) -> [String; 2] {
    let Summary { seed, seconds, jobs, commit, date, .. } = run;
    let minutes = seconds / 60.0;
    let total = run.total();
    let Tally { kills, restores, targets, rejected, commits, violations, .. } = &total;
    let wrong = violations.len();
    [
        format!(
            "Run: {date}, commit {commit}, seed {seed}, {minutes:.1} minutes, {jobs} at a time."
        ),
        format!(
            "All: {commits} commits, {kills} kills of the daemon, {restores} restores graded, {targets} \
             targets, {rejected} rejected, {wrong} violations."
        ),
    ]
}

const README_FROM: &str = "<!-- written by make matrix -->\n";
const README_TO: &str = "<!-- until here -->\n";

/// The README with the figures of a run between its marks.
pub fn readme(readme: &str, run: &Summary) -> Result<String, String> {
    let (before, rest) =
        readme.split_once(README_FROM).ok_or("the README has no place for them")?;
    let (_, after) = rest.split_once(README_TO).ok_or("the README's figures have no end")?;
    let [first, second] = lines(run);
    Ok(format!("{before}{README_FROM}> {first}  \n> {second}\n{README_TO}{after}"))
}

fn table(tallies: &BTreeMap<String, Tally>) -> String {
    let mut table = "| scenario | adversity | how it is exercised | seeds | kills | restores | \
                     targets | rejected | violations |\n|---|---|---|--:|--:|--:|--:|--:|--:|\n"
        .to_owned();
    for Scenario { name, adversity, how, .. } in INVENTORY {
        let none = Tally::default();
        let tally = tallies.get(*name).unwrap_or(&none);
        let Tally { seeds, restores, targets, rejected, violations, .. } = tally;
        let kills = tally.all_kills();
        let wrong = match tally.is_barred() {
            true => NOT_PERMITTED.to_owned(),
            false => violations.len().to_string(),
        };
        let _ = writeln!(
            table,
            "| {name} | {adversity} | {how} | {seeds} | {kills} | {restores} | {targets} | \
             {rejected} | {wrong} |"
        );
    }
    table
}

/// Where a page is another one than it should be.
pub fn same(found: &str, expected: &str) -> Result<(), String> {
    if found == expected {
        return Ok(());
    }
    let mut lines = expected.lines().zip(found.lines()).enumerate();
    match lines.find(|(_, (expected, found))| expected != found) {
        Some((at, (expected, found))) => {
            Err(format!("line {}: is `{found}`, should be `{expected}`", at + 1))
        }
        None => Err("the page ends at another place".to_owned()),
    }
}

/// Every scenario has figures of a run in which all went right, the harness too.
pub fn complete(summary: &Summary) -> Result<(), String> {
    if summary.outcome != Outcome::Right {
        return Err("the last run did not end well; see what it has printed".to_owned());
    }
    for scenario in INVENTORY {
        let Some(tally) = summary.tallies.get(scenario.name) else {
            return Err(format!("the last run was without {}; run: make torture", scenario.name));
        };
        if let Some(idle) = scenario.idle(tally) {
            return Err(format!("{}: {idle:?}", scenario.name));
        }
        if let Some(violation) = tally.violations.first() {
            return Err(format!("{}: {violation}", scenario.name));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn summary(seed: u64) -> Summary {
        let tallies = INVENTORY.iter().map(|scenario| {
            let mut tally = Tally { seeds: seed, restores: 2 * seed, ..Tally::default() };
            scenario.faults.iter().for_each(|fault| tally.fault(fault));
            (scenario.name.to_owned(), tally)
        });
        Summary {
            seed,
            seconds: seed as f64,
            jobs: 2,
            commit: format!("{seed:x}"),
            date: "2025-01-01".to_owned(),
            tallies: tallies.collect(),
            outcome: Outcome::Right,
            failures: Vec::new(),
        }
    }

    fn read(name: &str) -> String {
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
    }

    #[test]
    fn the_page_is_made_from_inventory_and_records() {
        let records = Records::read().unwrap();
        complete(&records.run).expect("run: make torture matrix");
        same(&read("CORRECTNESS.md"), &page(&records)).expect("run: make torture matrix");
    }

    #[test]
    fn the_page_shows_each_scenario_and_each_record() {
        let records = Records { run: summary(7), ..Records::read().unwrap() };
        let page = page(&records);
        for Scenario { name, adversity, how, .. } in INVENTORY {
            let row = format!("| {name} | {adversity} | {how} | 7 | ");
            assert!(page.contains(&row), "{row}");
        }
        let sections = [
            records.points.section(),
            records.fuzz.section(),
            mutants::section(&records.mutants),
            records.saboteurs.section(),
        ];
        assert!(sections.iter().all(|section| page.contains(section)));
    }

    #[test]
    fn what_is_not_the_same_is_told_by_its_line() {
        assert_eq!(same("a\nb\n", "a\nb\n"), Ok(()));
        assert_eq!(same("a\nc\n", "a\nb\n"), Err("line 2: is `c`, should be `b`".to_owned()));
        assert!(same("a\n", "a\nb\n").is_err());
    }

    #[test]
    fn the_readme_has_the_figures_of_the_page() {
        let found = read("../README.md");
        assert_eq!(readme(&found, &Records::read().unwrap().run), Ok(found));
    }

    #[test]
    fn figures_go_between_the_marks_of_the_readme() {
        let text = format!("a\n{README_FROM}old\n{README_TO}b\n");
        let filled = readme(&text, &summary(1)).unwrap();
        assert!(filled.contains("\n> All: ") && filled.contains("\n> Run: "));
        assert!(filled.starts_with("a\n") && filled.ends_with("b\n") && !filled.contains("old"));
        assert_eq!(readme(&filled, &summary(1)), Ok(filled));
        assert!(readme("a\n", &summary(1)).is_err());
    }

    #[test]
    fn figures_of_a_run_that_proves_nothing_are_refused() {
        assert_eq!(complete(&summary(1)), Ok(()));
        assert!(complete(&summary(0)).is_err());
        let broken = Summary { outcome: Outcome::Broken, ..summary(1) };
        assert!(complete(&broken).is_err(), "a seed in which the harness failed proves nothing");
        let mut part = summary(1);
        part.tallies.remove("drain");
        assert!(complete(&part).unwrap_err().contains("drain"));
        let mut wrong = summary(1);
        wrong.tallies.get_mut("drain").unwrap().violations.push("seed 1: lost".to_owned());
        assert!(complete(&wrong).unwrap_err().contains("seed 1: lost"));
    }

    #[test]
    fn what_may_not_be_tried_is_shown_as_such() {
        let mut summary = summary(1);
        let barred = Tally { not_permitted: 3, ..Tally::default() };
        summary.tallies.insert("power-loss".to_owned(), barred);
        assert_eq!(complete(&summary), Ok(()));
        let table = table(&summary.tallies);
        let row = table.lines().find(|line| line.starts_with("| power-loss")).unwrap();
        assert!(row.ends_with("| 0 | 0 | 0 | 0 | 0 | not permitted here |"), "{row}");
    }
}
