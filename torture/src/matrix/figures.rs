//! What all campaigns come to together, beside what was asked of them; and which faults have happened.

use super::Records;
use crate::mutants::Tried;
use crate::saboteurs;
use crate::tally::Tally;
use std::collections::BTreeMap;
use std::fmt::Write;

/// A figure, how much of it a full run has to show, and what counts it.
struct Row {
    figure: &'static str,
    least: u64,
    counted: u64,
    by: &'static str,
}

const fn row(figure: &'static str, least: u64, counted: u64, by: &'static str) -> Row {
    Row { figure, least, counted, by }
}

fn rows(records: &Records) -> Vec<Row> {
    let Records { run, points, fuzz, mutants, saboteurs, .. } = records;
    let all = run.total();
    let writers = all.faults.get("writer killed").copied().unwrap_or(0);
    let (torture, enumerated, inputs) = ("make torture", "make points", "make fuzz");
    vec![
        row("runs of a scenario, each with its seed", 0, all.seeds, torture),
        row("kills of the daemon", 5000, all.kills, torture),
        row("kills of the application", 1000, writers, torture),
        row("restores graded", 50_000, all.restores, torture),
        row("of these, points in time and commits asked for", 20_000, all.targets, torture),
        row(
            "restores of damaged replicas, and lying ledgers, refused",
            10_000,
            all.rejected,
            torture,
        ),
        row(
            "crash points and settings of the clock, all that there are",
            30_000,
            points.all("points"),
            enumerated,
        ),
        row("power-loss images", 500, points.all("images"), enumerated),
        row("inputs to parsers, nearly all of them wrong", 100_000_000, fuzz.runs(), inputs),
        row("WALs recovered by SQLite and by the parser", 1_000_000, fuzz.logs(), inputs),
        row(
            "wrong programs caught",
            saboteurs::TABLE.len() as u64,
            saboteurs.caught() as u64,
            "make saboteurs",
        ),
        row("mutants noticed", 0, mutants.iter().map(Tried::noticed).sum(), "make mutants"),
    ]
}

/// Violations of all that judges restores. What else records has nothing to record after one.
fn violations(Records { run, soak, .. }: &Records) -> usize {
    run.total().violations.len() + soak.as_ref().map_or(0, |soak| soak.violations())
}

/// What does not come to what is asked of it.
pub fn short_of(records: &Records) -> Vec<String> {
    let rows = rows(records).into_iter().filter(|row| row.counted < row.least);
    let told = |Row { figure, least, counted, by }: Row| {
        format!("{figure}: {counted} of {least}; run: {by}")
    };
    let mut short: Vec<String> = rows.map(told).collect();
    let wrong = violations(records);
    short.extend((wrong > 0).then(|| format!("violations: {wrong}")));
    short
}

pub(super) fn section(records: &Records) -> String {
    let Records { run, points, fuzz, saboteurs, .. } = records;
    let minutes = run.seconds / 60.0 + points.minutes + fuzz.minutes + saboteurs.minutes;
    let mut text = TEXT.to_owned();
    for Row { figure, least, counted, by } in rows(records) {
        let least = if least == 0 { String::new() } else { least.to_string() };
        let _ = writeln!(text, "| {figure} | {least} | {counted} | `{by}` |");
    }
    let _ = writeln!(
        text,
        "| violations | 0 at most | {} | |\n\n\
         On two cores `make torture points fuzz saboteurs` took {minutes:.0} minutes, builds aside.",
        violations(records)
    );
    text
}

const TEXT: &str = "
## In figures

What the last campaigns have counted, beside the least that is asked of them. Each has a section below,
with its date and commit.

| figure | least | counted | by |
|---|--:|--:|---|
";

/// Faults of one kind, by how the names of those begin and end that the harness has noted.
struct Class {
    name: &'static str,
    of: &'static [(&'static str, &'static str)],
}

const fn class(name: &'static str, of: &'static [(&'static str, &'static str)]) -> Class {
    Class { name, of }
}

/// The first one that takes a name has it.
static CLASSES: [Class; 17] = [
    class(
        "a system call fails, writes nothing or is the last one",
        &[
            ("", ": EIO"),
            ("", ": ENOSPC"),
            ("", ": EMFILE"),
            ("", ": EINTR"),
            ("", ": nothing written"),
            ("", ": killed"),
        ],
    ),
    class("SIGKILL", &[("", " killed"), ("killed mid-rewrite", "")]),
    class("SIGSTOP for long", &[("stopped for ", "")]),
    class(
        "stopped in the middle of something, then killed or let go on",
        &[
            ("daemon stopped", ""),
            ("compact stopped", ""),
            ("prune stopped", ""),
            ("merge stopped", ""),
            ("before a ", ""),
            ("between a ", ""),
            ("after a ", ""),
            ("killed at sight", ""),
            ("gone meanwhile", ""),
        ],
    ),
    class("power lost", &[("power lost", ""), ("", " on the disk")]),
    class("a disk is full", &[("", " on a full disk"), ("", " to a full disk"), ("full", "")]),
    class(
        "the application checkpoints or vacuums, and its WAL is reset",
        &[("checkpoint-", ""), ("autocheckpoint-", ""), ("wal reset", ""), ("vacuum", "")],
    ),
    class(
        "the daemon is away meanwhile",
        &[
            ("away", ""),
            ("appended", ""),
            ("reset twice", ""),
            ("restarted with fewer frames", ""),
            ("truncated", ""),
            ("removed by the last close", ""),
            ("page-size-changed", ""),
            ("wal-", ""),
        ],
    ),
    class(
        "another file takes the database's place",
        &[("replaced by ", ""), ("deleted and made anew", ""), ("old WAL removed ", "")],
    ),
    class(
        "another host, or one that has lost its state",
        &[
            ("new host", ""),
            ("old database again", ""),
            ("first host again", ""),
            ("state lost", ""),
            ("fenced", ""),
            ("forked", ""),
        ],
    ),
    class(
        "a destination is away, wiped, set back, read-only or takes nothing",
        &[
            ("refused", "refused"),
            ("hung", ""),
            ("started in an outage", ""),
            ("moved away", ""),
            ("read-only", ""),
            ("wiped", "wiped"),
            ("rolled back", ""),
            ("part wiped ", ""),
            ("removal denied", ""),
            ("put dropped", ""),
            ("put damaged", ""),
        ],
    ),
    class("a store lies", &[("lie ", "")]),
    class(
        "a thief with the daemon's keys",
        &[("", " by a thief"), ("lock withstood a thief", ""), ("version without a lock", "")],
    ),
    class("a clock is wrong or set", &[("clock ", "")]),
    class("keys", &[("wrong key", ""), ("refused for lack of a key", "")]),
    class("an object is damaged", &[("damage ", "")]),
    class("the ledger lies", &[("lie: ", "")]),
];

impl Class {
    fn takes(&self, name: &str) -> bool {
        self.of.iter().any(|(begin, end)| name.starts_with(begin) && name.ends_with(end))
    }
}

fn class_of(name: &str) -> Option<&'static Class> {
    CLASSES.iter().find(|class| class.takes(name))
}

/// What a fault is called in its class: of a system call, only what became of it.
fn short(name: &str) -> &str {
    let call = name.contains(" at ").then(|| name.rsplit_once(": ")).flatten();
    call.map_or(name, |(_, effect)| effect)
}

/// The table of those that have happened.
pub(super) fn faults(all: &Tally) -> String {
    let mut text = FAULTS.to_owned();
    for class in &CLASSES {
        let mut fired: BTreeMap<&str, u64> = BTreeMap::new();
        let its = all
            .faults
            .iter()
            .filter(|(name, _)| class_of(name).is_some_and(|found| std::ptr::eq(found, class)));
        its.for_each(|(name, times)| *fired.entry(short(name)).or_default() += times);
        let total: u64 = fired.values().sum();
        let each: Vec<_> = fired.iter().map(|(name, times)| format!("{name} {times}")).collect();
        let _ = writeln!(text, "| {} | {total} | {} |", class.name, each.join(", "));
    }
    text
}

const FAULTS: &str = "
### Faults that happened

Each is counted where it is seen to have had its effect, in the run above.

| class | all | each |
|---|--:|---|
";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::Records;
    use crate::scenarios::INVENTORY;

    /// What scenarios note that is no fault: what they saw, and what they asked for.
    const SEEN: &[&str] = &[
        "claim held",
        "commit lost by the source",
        "compact done",
        "compared",
        "drained",
        "left",
        "listed",
        "lock held",
        "locked in governance mode",
        "locked in compliance mode",
        "locked object there",
        "merged beside reencrypt",
        "old point refused",
        "other went on",
        "part made again",
        "planned anew",
        "promised point",
        "prune done",
        "refused for its clock",
        "repair done",
        "removed once its lock had ended",
        "rewritten",
        "right without it",
        "rollback",
        "scanned",
        "seen where it is plain",
        "several writers",
        "snapshot after the clock was set",
        "snapshot asked for",
        "synced",
        "target",
        "thinned point refused",
        "under the daemon",
        "wiped part noticed",
        "without a daemon",
    ];

    #[test]
    fn every_fault_that_a_scenario_demands_has_its_class() {
        let demanded = INVENTORY.iter().flat_map(|scenario| scenario.faults);
        let without: Vec<_> = demanded
            .filter(|fault| !SEEN.iter().any(|seen| fault.starts_with(seen)))
            .filter(|fault| {
                let begins = |class: &Class| {
                    class.of.iter().any(|(begin, _)| {
                        !begin.is_empty() && (begin.starts_with(*fault) || fault.starts_with(begin))
                    })
                };
                class_of(fault).is_none() && !fault.contains(" at ") && !CLASSES.iter().any(begins)
            })
            .collect();
        assert!(without.is_empty(), "{without:?}");
    }

    #[test]
    fn every_class_has_happened_in_the_recorded_run() {
        let all = Records::read().unwrap().run.total();
        for class in &CLASSES {
            let fired = all
                .faults
                .keys()
                .any(|name| class_of(name).is_some_and(|found| std::ptr::eq(found, class)));
            assert!(fired, "{}", class.name);
        }
    }

    #[test]
    fn faults_are_counted_by_class() {
        let mut tally = Tally::default();
        tally.faults("daemon at write: EIO", 2);
        tally.faults("sync at rename: EIO", 3);
        tally.faults("lie 503", 4);
        tally.faults("lie: the state is another one", 5);
        tally.faults("synced", 6);
        let text = faults(&tally);
        assert!(text.contains("is the last one | 5 | EIO 5 |\n"), "{text}");
        assert!(text.contains("| a store lies | 4 | lie 503 4 |\n"), "{text}");
        assert!(text.contains("| the ledger lies | 5 | lie: the state is another one 5 |\n"));
        assert!(!text.contains("synced"));
    }

    #[test]
    fn what_falls_short_is_named() {
        let mut records = Records::read().unwrap();
        records.run.tallies.clear();
        let short = short_of(&records);
        assert!(
            short.iter().any(|it| it.starts_with("kills of the daemon: 0 of 5000")),
            "{short:?}"
        );
        let wrong = Tally { violations: vec!["lost".to_owned()], ..Tally::default() };
        records.run.tallies.insert("drain".to_owned(), wrong);
        assert!(short_of(&records).contains(&"violations: 1".to_owned()));
    }
}
