//! What a daemon takes while it runs, third by third, and whether it takes more and more.

use crate::rig::{Failure, Result, violation};
use std::fmt;
use std::fs;
use std::path::Path;

/// What is looked at. Of the others only what they were is told.
pub const MEASURES: [Measure; 6] = [
    Measure { name: "resident memory", unit: "KiB", bound: Bound::Growth(4096) },
    Measure { name: "descriptors", unit: "", bound: Bound::Growth(0) },
    Measure { name: "threads", unit: "", bound: Bound::Growth(0) },
    // The page index takes 16 bytes for each page that the database grows by.
    Measure { name: "state directory", unit: "KiB", bound: Bound::Growth(1024) },
    // It fills up, and then the oldest makes room.
    Measure { name: "recent change-sets", unit: "KiB", bound: Bound::Most(33 << 10) },
    Measure { name: "WAL", unit: "KiB", bound: Bound::None },
];
/// Fewer tell nothing of a third.
const LEAST: usize = 20;

#[derive(Clone, Copy, Debug)]
pub struct Measure {
    pub name: &'static str,
    pub unit: &'static str,
    pub bound: Bound,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// By how much the median of the last third may lie above that of the middle third.
    Growth(u64),
    /// What it may never be above.
    Most(u64),
    None,
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Growth(by) => write!(f, "+{by}"),
            Self::Most(most) => write!(f, "{most} in all"),
            Self::None => f.write_str("none"),
        }
    }
}

/// Of each third, one row a look.
#[derive(Clone, Debug, Default)]
pub struct Samples {
    thirds: [Vec<[u64; MEASURES.len()]>; 3],
}

impl Samples {
    pub fn take(&mut self, third: usize, pid: u32, state: &Path, wal: &Path) -> Result<()> {
        let proc = format!("/proc/{pid}");
        let status = fs::read_to_string(format!("{proc}/status"))?;
        let number = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key))?;
            line.split_whitespace().next()?.parse::<u64>().ok()
        };
        let told = number("VmRSS:").zip(number("Threads:"));
        let Some((rss, threads)) = told else {
            return Err(Failure::Harness(format!("{proc}/status tells nothing of it")));
        };
        let descriptors = fs::read_dir(format!("{proc}/fd"))?.count() as u64;
        let wal = fs::metadata(wal).map_or(0, |wal| wal.len());
        let recent = bytes_below(&state.join("recent"));
        let others = bytes_below(state).saturating_sub(recent);
        let row = [rss, descriptors, threads, others / 1024, recent / 1024, wal / 1024];
        self.thirds[third].push(row);
        Ok(())
    }

    pub fn count(&self) -> usize {
        self.thirds.iter().map(Vec::len).sum()
    }

    /// Of one measure in one third.
    pub fn median(&self, measure: usize, third: usize) -> u64 {
        let mut values: Vec<u64> = self.thirds[third].iter().map(|row| row[measure]).collect();
        values.sort_unstable();
        values.get(values.len() / 2).copied().unwrap_or_default()
    }

    pub fn most(&self, measure: usize) -> u64 {
        self.thirds.iter().flatten().map(|row| row[measure]).max().unwrap_or_default()
    }

    /// In the last third no more than in the middle one, but for what is allowed.
    pub fn are_flat(&self) -> Result<()> {
        for third in [1, 2] {
            let looks = self.thirds[third].len();
            if looks < LEAST {
                let short = format!("{looks} looks in a third tell nothing: take more minutes");
                return Err(Failure::Harness(short));
            }
        }
        for (at, Measure { name, unit, bound }) in MEASURES.iter().enumerate() {
            let (middle, last, most) = (self.median(at, 1), self.median(at, 2), self.most(at));
            match *bound {
                Bound::Growth(by) if last > middle + by => {
                    return violation(format!("{name} grew from {middle} {unit} to {last} {unit}"));
                }
                Bound::Most(bound) if most > bound => {
                    return violation(format!("{name}: {most} {unit}, {bound} at most"));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

impl fmt::Display for Samples {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let third = self.thirds.iter().rposition(|rows| !rows.is_empty()).unwrap_or(0);
        let one = |(at, Measure { name, unit, .. }): (usize, &Measure)| {
            format!("{name} {} {unit}", self.median(at, third)).trim_end().to_owned()
        };
        f.write_str(&MEASURES.iter().enumerate().map(one).collect::<Vec<_>>().join(", "))
    }
}

/// What comes and goes meanwhile counts or does not.
fn bytes_below(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let bytes = |entry: fs::DirEntry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => bytes_below(&entry.path()),
        Ok(meta) => meta.len(),
        Err(_) => 0,
    };
    entries.map(bytes).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(of: impl Fn(usize) -> [u64; 6]) -> Samples {
        Samples { thirds: [0, 1, 2].map(|third| vec![of(third); LEAST]) }
    }

    #[test]
    fn what_grows_in_the_last_third_is_no_longer_flat() {
        let flat = samples(|third| {
            let third = third as u64;
            [4096 * third, 9, 5, 1024 * third, 16_000 * third, 1_000_000 * third]
        });
        assert_eq!(flat.are_flat(), Ok(()));
        for (at, Measure { bound, .. }) in MEASURES.iter().enumerate() {
            let (Bound::Growth(bound) | Bound::Most(bound)) = *bound else { continue };
            let grown = samples(|third| {
                let mut row = [100; 6];
                row[at] += if third == 2 { bound + 1 } else { 0 };
                row
            });
            assert!(matches!(grown.are_flat(), Err(Failure::Violation(_))), "{at}");
        }
    }

    #[test]
    fn a_moment_is_no_growth_and_a_few_looks_are_no_proof() {
        let mut samples = samples(|_| [100; 6]);
        samples.thirds[2][0] = [9999; 6];
        assert_eq!((samples.are_flat(), samples.most(1)), (Ok(()), 9999));
        samples.thirds[1].pop();
        assert!(matches!(samples.are_flat(), Err(Failure::Harness(_))));
    }

    #[test]
    fn a_process_is_looked_at() {
        let dir = tempfile::tempdir().unwrap();
        for (folder, bytes) in [("spool", 3000), ("recent", 9000)] {
            fs::create_dir(dir.path().join(folder)).unwrap();
            fs::write(dir.path().join(folder).join("file"), vec![7; bytes]).unwrap();
        }
        fs::write(dir.path().join("wal"), [7; 5000]).unwrap();
        let mut samples = Samples::default();
        samples.take(0, std::process::id(), dir.path(), &dir.path().join("wal")).unwrap();
        let [rss, descriptors, threads, state, recent, wal] = samples.thirds[0][0];
        assert!(rss > 100 && descriptors > 2 && threads > 0);
        assert_eq!((state, recent, wal), (7, 8, 4));
    }
}
