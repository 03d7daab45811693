//! CORRECTNESS.md: made from the inventory and the figures of the last run, and held against both.
//!
//! Only the figures may differ between two runs: the cells of the table's last columns and the
//! lines that begin with `Run:` and `All:`. `check` compares everything else.

use crate::fuzz;
use crate::mutants;
use crate::points;
use crate::run::Summary;
use crate::saboteurs;
use crate::scenarios::{INVENTORY, Scenario};
use crate::soak;
use crate::tally::Tally;
use std::collections::BTreeMap;
use std::fmt::Write;

const BAR: &str = "\
# What was tried, and what came of it

This page is written by `make matrix` from the inventory of scenarios and the figures of the last
`make torture`. A test fails when inventory and page disagree. Do not edit it.

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

The file is opened read-only and immutable, so that grading cannot heal it. A restore that fails
where one is possible, a daemon that ends by itself and an error that the application sees are
violations like a wrong file. A scenario that graded nothing, or whose fault never happened, fails.

## The matrix
";

const NOTES: &str = "
Kills are SIGKILLs of running processes: the daemon, writers, `sync`, `restore`. Restores are files
that the oracle judged; targets are those among them that asked for a commit or a time. Rejected are
damaged replicas and lying ledgers that were refused.

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
- A store that damages what it holds, or gives back other bytes than it took, beneath a running daemon.
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
pub fn page(summary: &Summary) -> String {
    let mut page = BAR.to_owned();
    let Summary { seed, seconds, jobs, commit, date, .. } = summary;
    let minutes = seconds / 60.0;
    let total = summary.total();
    let Tally { kills, restores, targets, rejected, commits, violations, .. } = &total;
    let wrong = violations.len();
    let _ = writeln!(
        page,
        "\nRun: {date}, commit {commit}, seed {seed}, {minutes:.1} minutes, {jobs} at a time.  \n\
         All: {commits} commits, {kills} kills of the daemon, {restores} restores graded, {targets} targets, \
         {rejected} rejected, {wrong} violations.\n"
    );
    page.push_str(&table(&summary.tallies));
    page.push_str(NOTES);
    page.push('\n');
    page.push_str(&points::section());
    page.push_str(&fuzz::section());
    page.push_str(&soak::section());
    page.push_str(&mutants::section());
    page.push_str(&saboteurs::section());
    page
}

/// A page with a section in place of the one of its title; one that is new goes before the last.
pub fn renewed(page: &str, section: &str) -> String {
    let section = section.trim().trim_start_matches("## ").to_owned() + "\n";
    let title = |section: &str| section.lines().next().map(str::to_owned);
    let mut sections: Vec<&str> = page.split("\n## ").collect();
    match sections.iter().position(|it| title(it) == title(&section)) {
        Some(at) => sections[at] = &section,
        None => sections.insert(sections.len() - 1, &section),
    }
    sections.join("\n## ")
}

const README_FROM: &str = "<!-- written by make matrix -->\n";
const README_TO: &str = "<!-- until here -->\n";

/// The README with the figures of a page between its marks.
pub fn readme(readme: &str, page: &str) -> Result<String, String> {
    let (before, rest) =
        readme.split_once(README_FROM).ok_or("the README has no place for them")?;
    let (_, after) = rest.split_once(README_TO).ok_or("the README's figures have no end")?;
    let figures =
        page.lines().filter(|line| line.starts_with("Run: ") || line.starts_with("All: "));
    let figures: String = figures.map(|line| format!("> {line}\n")).collect();
    Ok(format!("{before}{README_FROM}{figures}{README_TO}{after}"))
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

/// Why `page` is not what the inventory gives, leaving the figures aside.
pub fn check(found: &str, summary: &Summary) -> Result<(), String> {
    let (found, expected) = (without_figures(found), without_figures(&page(summary)));
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

fn without_figures(page: &str) -> String {
    let mut lines = Vec::new();
    for line in page.lines() {
        let cells: Vec<&str> = line.split('|').collect();
        lines.push(match line {
            _ if line.starts_with("Run: ") || line.starts_with("All: ") => line[..4].to_owned(),
            _ if line.starts_with("| ") && cells.len() == 11 => cells[..4].join("|"),
            _ => line.to_owned(),
        });
    }
    lines.join("\n")
}

/// Every scenario has figures of a run in which all went right.
pub fn complete(summary: &Summary) -> Result<(), String> {
    for scenario in INVENTORY {
        let Some(tally) = summary.tallies.get(scenario.name) else {
            return Err(format!("the last run was without {}; run: make torture", scenario.name));
        };
        if let Some(idle) = scenario.idle(tally) {
            return Err(format!("{}: {idle:?}", scenario.name));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::Outcome;
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
        }
    }

    #[test]
    fn the_page_and_the_inventory_agree() {
        let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/CORRECTNESS.md"));
        let page = page.expect("run: make torture matrix");
        check(&page, &summary(1)).expect("run: make torture matrix");
    }

    #[test]
    fn a_section_takes_the_place_of_its_own() {
        let page = page(&summary(1));
        for section in
            [points::section(), fuzz::section(), mutants::section(), saboteurs::section()]
        {
            assert!(page.contains(section.trim()));
            assert_eq!(renewed(&page, &section), page);
            let other = format!("{section}more\n");
            assert_ne!(renewed(&page, &other), page);
            assert_eq!(renewed(&renewed(&page, &other), &section), page);
        }
        let found = renewed("before\n\n## A\na\n\n## Z\nz\n", "\n## New\nnew\n");
        assert_eq!(found, "before\n\n## A\na\n\n## New\nnew\n\n## Z\nz\n");
    }

    #[test]
    fn the_readme_has_the_figures_of_the_page() {
        let read = |name: &str| {
            std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
        };
        let found = read("../README.md");
        assert_eq!(readme(&found, &read("CORRECTNESS.md")), Ok(found));
    }

    #[test]
    fn figures_go_between_the_marks_of_the_readme() {
        let page = page(&summary(1));
        let text = format!("a\n{README_FROM}old\n{README_TO}b\n");
        let filled = readme(&text, &page).unwrap();
        assert!(filled.contains("\n> All: ") && filled.contains("\n> Run: "));
        assert!(filled.starts_with("a\n") && filled.ends_with("b\n") && !filled.contains("old"));
        assert_eq!(readme(&filled, &page), Ok(filled));
        assert!(readme("a\n", &page).is_err());
    }

    #[test]
    fn figures_may_differ_and_nothing_else() {
        let found = page(&summary(1));
        assert_eq!(check(&found, &summary(99)), Ok(()));
        for scenario in INVENTORY {
            for word in [scenario.name, scenario.adversity, scenario.how] {
                let other = found.replacen(word, "something else", 1);
                assert!(check(&other, &summary(1)).is_err(), "{word}");
            }
        }
        let row = found.lines().find(|line| line.starts_with("| drain")).unwrap();
        assert!(check(&found.replace(&format!("{row}\n"), ""), &summary(1)).is_err());
        assert!(check(&found.replace(row, &format!("{row}\n{row}")), &summary(1)).is_err());
    }

    #[test]
    fn figures_of_a_run_that_proves_nothing_are_refused() {
        assert_eq!(complete(&summary(1)), Ok(()));
        assert!(complete(&summary(0)).is_err());
        let mut part = summary(1);
        part.tallies.remove("drain");
        assert!(complete(&part).unwrap_err().contains("drain"));
    }

    #[test]
    fn what_may_not_be_tried_is_shown_as_such() {
        let mut summary = summary(1);
        let barred = Tally { not_permitted: 3, ..Tally::default() };
        summary.tallies.insert("power-loss".to_owned(), barred);
        let found = page(&summary);
        let row = found.lines().find(|line| line.starts_with("| power-loss")).unwrap();
        assert!(row.ends_with("| 0 | 0 | 0 | 0 | 0 | not permitted here |"), "{row}");
        assert_eq!((complete(&summary), check(&found, &summary)), (Ok(()), Ok(())));
    }
}
