//! Metrics as Prometheus reads them: text, one line a value, made of samples that the daemon takes.
//!
//! The two tables are all there is; bakelite.5 lists them, and a test holds the two together. Counters
//! begin anew with the daemon. What is not known is left out: a zero would be an answer.

use crate::commit::Time;
use crate::error::Status;
use crate::fanout::StandingKind;
use crate::object;
use crate::status::Counts;
use crate::verified::{Depths, Verified};
use std::fmt::Write;
use std::path::PathBuf;
use std::time::Duration;

/// How one database stands.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sample {
    pub database: String,
    pub state_dir: PathBuf,
    pub watched: bool,
    /// Something is tried again.
    pub failing: bool,
    /// The last commit that was captured.
    pub commit: u64,
    pub wal_frames: u64,
    pub counts: Counts,
    pub tally: Tally,
    /// What is stored from now on is sealed.
    pub sealed: bool,
    /// When the last snapshot was finished.
    pub snapshot: Option<Time>,
    /// When its watch was last seen to go on.
    pub moved: Time,
    pub destinations: Vec<Lane>,
}

impl Sample {
    /// Looks up what `verify` has left, on the disk, which the daemon's loop does not wait for.
    pub fn look_up(&mut self) {
        let verified = Verified::load(&self.state_dir);
        self.destinations.iter_mut().for_each(|it| it.verified = verified.of(&it.url));
    }

    /// Whether it is watched, goes on, and every destination holds what is older than `age`: what
    /// `check` asks too.
    pub fn is_well(&self, age: Duration, now: Time) -> bool {
        let young = |since: Time| u128::from(now.0.saturating_sub(since.0)) <= age.as_millis();
        let owed = self.destinations.iter().filter_map(|lane| lane.owed_since);
        self.watched && young(self.moved) && owed.into_iter().all(young)
    }
}

/// How one of its destinations stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Lane {
    pub url: String,
    pub mirror: bool,
    /// `None` before it is known.
    pub standing: Option<StandingKind>,
    pub floor: Option<(u64, Time)>,
    /// Since when it lacks something that was published.
    pub owed_since: Option<Time>,
    pub spooled: u64,
    /// When it was last found whole.
    pub verified: Depths,
    /// Until when all that the last snapshot needs is locked at least.
    pub locked_until: Option<Time>,
}

/// What was counted since the daemon was started, besides what `status` shows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tally {
    /// By exit status.
    pub errors: [u64; STATUSES],
    /// When the last round of upkeep ended.
    pub upkeep: Option<Time>,
    pub merged: u64,
    pub deleted: u64,
}

/// One more than the largest exit status.
const STATUSES: usize = Status::Newer as usize + 1;

impl Tally {
    pub fn count(&mut self, status: Status) {
        self.errors[status as usize] += 1;
    }
}

/// One metric: its name, its kind, what it is, and where it comes from.
#[derive(Debug)]
pub struct Metric<V> {
    pub name: &'static str,
    kind: &'static str,
    help: &'static str,
    value: V,
}

type OfDatabase = fn(&Sample) -> Option<f64>;
/// Of a destination, the last commit captured, and the time.
type OfDestination = fn(&Lane, u64, Time) -> Option<f64>;

const fn gauge<V>(name: &'static str, help: &'static str, value: V) -> Metric<V> {
    Metric { name, kind: "gauge", help, value }
}

const fn counter<V>(name: &'static str, help: &'static str, value: V) -> Metric<V> {
    Metric { name, kind: "counter", help, value }
}

pub const OF_DATABASES: &[Metric<OfDatabase>] = &[
    gauge("bakelite_watched", "Whether the database is watched.", |it| whether(it.watched)),
    gauge("bakelite_failing", "Whether something failed and is tried again.", |it| {
        whether(it.failing)
    }),
    gauge("bakelite_captured_commit", "The last commit that was captured.", |it| number(it.commit)),
    gauge("bakelite_wal_frames", "Frames in the WAL.", |it| number(it.wal_frames)),
    gauge("bakelite_moved_timestamp_seconds", "When the watch was last seen to go on.", |it| {
        seconds(it.moved)
    }),
    gauge("bakelite_snapshot_timestamp_seconds", "When the last snapshot was finished.", |it| {
        it.snapshot.and_then(seconds)
    }),
    gauge("bakelite_sealed", "Whether what is stored is sealed.", |it| whether(it.sealed)),
    counter("bakelite_missed_total", "Times that commits went by unseen.", |it| {
        number(it.counts.missed)
    }),
    counter("bakelite_resyncs_total", "Times that the database was compared and healed.", |it| {
        number(it.counts.resyncs)
    }),
    counter("bakelite_resync_pages_total", "Pages that differed in resyncs.", |it| {
        number(it.counts.resync_pages)
    }),
    counter("bakelite_resync_bytes_total", "Bytes stored for resyncs.", |it| {
        number(it.counts.resync_bytes)
    }),
    counter("bakelite_divergences_total", "Times that a page was not as captured.", |it| {
        number(it.counts.divergences)
    }),
    counter("bakelite_timelines_total", "Timelines claimed.", |it| number(it.counts.timelines)),
    counter("bakelite_fences_total", "Times that another daemon had the replica.", |it| {
        number(it.counts.fences)
    }),
    gauge("bakelite_upkeep_timestamp_seconds", "When upkeep last ended without an error.", |it| {
        it.tally.upkeep.and_then(seconds)
    }),
    counter("bakelite_upkeep_merged_total", "Change-sets made by merging.", |it| {
        number(it.tally.merged)
    }),
    counter("bakelite_upkeep_deleted_total", "Objects deleted by upkeep.", |it| {
        number(it.tally.deleted)
    }),
];

pub const OF_DESTINATIONS: &[Metric<OfDestination>] = &[
    gauge("bakelite_durable_commit", "The last commit durable there.", |it, _, _| {
        it.floor.and_then(|(commit, _)| number(commit))
    }),
    gauge("bakelite_durable_timestamp_seconds", "When that was committed.", |it, _, _| {
        it.floor.and_then(|(_, time)| seconds(time))
    }),
    gauge("bakelite_backlog_commits", "Captured commits that it lacks.", |it, commit, _| {
        number(commit.saturating_sub(it.floor.map_or(0, |(floor, _)| floor)))
    }),
    gauge("bakelite_backlog_bytes", "Bytes that wait for it in the spool.", |it, _, _| {
        number(it.spooled)
    }),
    gauge("bakelite_lag_seconds", "Age of the oldest commit that it lacks.", |it, _, now| {
        Some(it.owed_since.map_or(0.0, |since| now.0.saturating_sub(since.0) as f64 / 1000.0))
    }),
    gauge("bakelite_current", "Whether it takes every commit at once.", |it, _, _| {
        it.standing.and_then(|it| whether(it == StandingKind::Current))
    }),
    gauge("bakelite_broken", "Whether the last try to reach it failed.", |it, _, _| {
        it.standing.and_then(|it| whether(it == StandingKind::Broken))
    }),
    gauge("bakelite_mirror", "Whether it is a mirror, which may trail.", |it, _, _| {
        whether(it.mirror)
    }),
    gauge("bakelite_locked_until_timestamp_seconds", "Locked until then at least.", |it, _, _| {
        it.locked_until.and_then(seconds)
    }),
    gauge("bakelite_verified_timestamp_seconds", "When it was last found whole.", |it, _, _| {
        it.verified.whole().and_then(seconds)
    }),
    gauge("bakelite_verified_deep_timestamp_seconds", "The same, by a restore.", |it, _, _| {
        it.verified.deep().and_then(seconds)
    }),
];

pub const ERRORS: &str = "bakelite_errors_total";
pub const OBSERVED: &str = "bakelite_observed_timestamp_seconds";
pub const BUILD: &str = "bakelite_build_info";

fn number(value: u64) -> Option<f64> {
    Some(value as f64)
}

fn whether(value: bool) -> Option<f64> {
    number(value.into())
}

fn seconds(time: Time) -> Option<f64> {
    (time > Time(0)).then(|| time.0 as f64 / 1000.0)
}

/// All that there is to say, as of `now`.
pub fn render(samples: &[Sample], now: Time) -> String {
    let mut out = String::new();
    head(&mut out, BUILD, "gauge", "The program's versions.");
    let versions = [
        ("version", env!("CARGO_PKG_VERSION").to_owned()),
        ("format", object::VERSION.to_string()),
        ("sqlite", rusqlite::version().to_owned()),
    ];
    line(&mut out, BUILD, &versions.each_ref().map(|(key, value)| (*key, &**value)), 1.0);
    head(&mut out, OBSERVED, "gauge", "When these values were taken.");
    line(&mut out, OBSERVED, &[], now.0 as f64 / 1000.0);
    for metric in OF_DATABASES {
        head(&mut out, metric.name, metric.kind, metric.help);
        for sample in samples {
            if let Some(value) = (metric.value)(sample) {
                line(&mut out, metric.name, &[("database", &sample.database)], value);
            }
        }
    }
    head(&mut out, ERRORS, "counter", "Errors by kind.");
    for sample in samples {
        for kind in Status::ALL {
            let labels = [("database", &*sample.database), ("kind", kind.kind())];
            line(&mut out, ERRORS, &labels, sample.tally.errors[kind as usize] as f64);
        }
    }
    for metric in OF_DESTINATIONS {
        head(&mut out, metric.name, metric.kind, metric.help);
        for sample in samples {
            for lane in &sample.destinations {
                let value = (metric.value)(lane, sample.commit, now);
                let labels = [("database", &*sample.database), ("destination", &*lane.url)];
                value.iter().for_each(|value| line(&mut out, metric.name, &labels, *value));
            }
        }
    }
    out
}

fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}").expect("a string takes all");
}

fn line(out: &mut String, name: &str, labels: &[(&str, &str)], value: f64) {
    out.push_str(name);
    for (at, (key, text)) in labels.iter().enumerate() {
        out.push(if at == 0 { '{' } else { ',' });
        write!(out, "{key}=\"").expect("a string takes all");
        text.chars().for_each(|c| match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        });
        out.push('"');
    }
    out.push_str(if labels.is_empty() { " " } else { "} " });
    writeln!(out, "{value}").expect("a string takes all");
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn sample(database: &str) -> Sample {
        let lane = Lane {
            url: "file:///m/a \"b\"\\c\nd".to_owned(),
            mirror: false,
            standing: Some(StandingKind::Broken),
            floor: Some((5, Time(2000))),
            owed_since: Some(Time(7500)),
            spooled: 9,
            verified: Depths::default(),
            locked_until: None,
        };
        let mut tally = Tally::default();
        tally.count(Status::Unreachable);
        let destinations = vec![lane];
        let database = database.to_owned();
        Sample { database, watched: true, commit: 7, tally, destinations, ..Sample::default() }
    }

    /// Name, labels and value of each line, held to the text format of Prometheus: every metric has one
    /// HELP and one TYPE, its lines follow those, and no line stands twice.
    fn parse(text: &str) -> Vec<(String, String, f64)> {
        assert!(text.ends_with('\n') && !text.contains("\n\n"));
        let (mut lines, mut known) = (text.lines().peekable(), BTreeSet::new());
        let mut parsed = Vec::new();
        let mut seen = BTreeSet::new();
        while let Some(line) = lines.next() {
            let (name, help) = line.strip_prefix("# HELP ").unwrap().split_once(' ').unwrap();
            assert!(help.ends_with('.') && known.insert(name.to_owned()), "{line}");
            let plain = |c: char| c.is_ascii_lowercase() || c == '_';
            assert!(name.starts_with("bakelite_") && name.chars().all(plain), "{name}");
            let kind = lines.next().unwrap().strip_prefix(&format!("# TYPE {name} ")).unwrap();
            assert_eq!(kind == "counter", name.ends_with("_total"), "{name}");
            assert!(["counter", "gauge"].contains(&kind), "{kind}");
            while let Some(line) = lines.next_if(|line| !line.starts_with('#')) {
                let rest = line.strip_prefix(name).unwrap();
                let (labels, value) = rest.rsplit_once(' ').unwrap();
                assert!(seen.insert((name.to_owned(), labels.to_owned())), "{line}");
                if !labels.is_empty() {
                    labels_of(labels);
                }
                parsed.push((name.to_owned(), labels.to_owned(), value.parse().unwrap()));
            }
        }
        parsed
    }

    fn labels_of(text: &str) {
        let mut rest = text.strip_prefix('{').unwrap().strip_suffix('}').unwrap();
        loop {
            let (key, value) = rest.split_once("=\"").unwrap();
            assert!(key.chars().all(|c| c.is_ascii_lowercase()), "{key}");
            let mut chars = value.char_indices();
            let end = loop {
                match chars.next().unwrap() {
                    (_, '\\') => assert!("\\\"n".contains(chars.next().unwrap().1), "{text}"),
                    (at, '"') => break at,
                    (_, c) => assert!(c != '\n', "{text}"),
                }
            };
            match value[end + 1..].strip_prefix(',') {
                Some(next) => rest = next,
                None => return assert_eq!(&value[end + 1..], ""),
            }
        }
    }

    #[test]
    fn what_is_rendered_is_what_prometheus_reads() {
        let text = render(&[sample("a"), sample("b")], Time(10_000));
        let lines = parse(&text);
        let value = |name: &str, label: &str| {
            let mut found = lines.iter().filter(|it| it.0 == name && it.1.contains(label));
            let value = found.next().map(|it| it.2);
            assert!(found.next().is_none(), "{name}{label} stands twice");
            value
        };
        let a = "database=\"a\"";
        assert_eq!(value("bakelite_watched", a), Some(1.0));
        assert_eq!(value("bakelite_captured_commit", a), Some(7.0));
        assert_eq!(value("bakelite_durable_commit", a), Some(5.0));
        assert_eq!(value("bakelite_durable_timestamp_seconds", a), Some(2.0));
        assert_eq!(value("bakelite_backlog_commits", a), Some(2.0));
        assert_eq!(value("bakelite_backlog_bytes", a), Some(9.0));
        assert_eq!(value("bakelite_lag_seconds", a), Some(2.5));
        assert_eq!(value("bakelite_broken", a), Some(1.0));
        assert_eq!(value("bakelite_errors_total", "\"a\",kind=\"unreachable\""), Some(1.0));
        assert_eq!(value("bakelite_errors_total", "\"a\",kind=\"locked\""), Some(0.0));
        assert_eq!(value("bakelite_snapshot_timestamp_seconds", a), None, "there is none");
        assert_eq!(value("bakelite_observed_timestamp_seconds", ""), Some(10.0));
        assert!(text.contains(r#"destination="file:///m/a \"b\"\\c\nd"} "#), "{text}");
        assert_eq!(value("bakelite_build_info", "sqlite=\"3."), Some(1.0));
    }

    #[test]
    fn a_page_without_a_database_is_one_too() {
        let names: Vec<_> = parse(&render(&[], Time(1))).into_iter().map(|it| it.0).collect();
        assert_eq!(names, [BUILD, OBSERVED]);
    }

    #[test]
    fn all_is_well_while_what_is_lacking_is_young_and_the_watch_goes_on() {
        let minute = Duration::from_secs(60);
        let well = |change: fn(&mut Sample)| {
            let mut sample = Sample { moved: Time(100_000), ..sample("a") };
            sample.destinations[0].owed_since = Some(Time(41_000));
            change(&mut sample);
            sample.is_well(minute, Time(101_000))
        };
        assert!(well(|_| ()));
        assert!(well(|it| it.destinations[0].owed_since = None));
        assert!(!well(|it| it.destinations[0].owed_since = Some(Time(40_999))));
        assert!(!well(|it| it.watched = false));
        assert!(!well(|it| it.moved = Time(40_000)));
    }
}
