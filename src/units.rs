//! Durations, sizes, near misses and words of a shell: how people write them, and how they are told of them.
//!
//! One spelling each: a whole number and a unit, nothing between. No clock is read here.

use std::path::Path;
use std::time::Duration;

const DURATIONS: [(&str, u64); 6] = [
    ("ms", 1),
    ("s", 1_000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
    ("y", 365 * 86_400_000),
];

const SIZES: [(&str, u64); 11] = [
    ("", 1),
    ("B", 1),
    ("kB", 1_000),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

pub const DURATION_HINT: &str =
    "write a whole number and one of ms, s, m, h, d, y, such as 200ms or 30d";
pub const SIZE_HINT: &str =
    "write a whole number and one of B, kB, MB, GB, TB, KiB, MiB, GiB, TiB, such as 256MiB";

/// `10ms`, `5m`, `30d`; a year has 365 days.
pub fn duration(text: &str) -> Option<Duration> {
    scaled(text, &DURATIONS).map(Duration::from_millis)
}

/// `256MiB`, `1GB`, `4096`.
pub fn size(text: &str) -> Option<u64> {
    scaled(text, &SIZES)
}

fn scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let (_, scale) = units.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*scale)
}

/// Bytes for people: three digits or so, in powers of 1024.
pub fn bytes(count: u64) -> String {
    let mut value = count as f64;
    let mut unit = "B";
    for next in ["KiB", "MiB", "GiB", "TiB", "PiB"] {
        if value < 1000.0 {
            break;
        }
        (value, unit) = (value / 1024.0, next);
    }
    let digits = usize::from(unit != "B" && value < 99.95);
    format!("{value:.digits$} {unit}")
}

/// A stretch of time for people, to the second: `7s`, `1m05s`, `3h20m`.
pub fn stretch(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
    }
}

/// A path as one word of a shell, whatever is in it.
pub fn word(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', r"'\''"))
}

/// What was probably meant by a word that is not known.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let near = (word.chars().count() / 3).clamp(1, 3);
    let scored = known.into_iter().map(|candidate| {
        let begins = word.len() >= 4 && candidate.starts_with(word);
        (if begins { 1 } else { distance(word, candidate) }, candidate)
    });
    scored.filter(|(score, _)| *score <= near).min_by_key(|(score, _)| *score).map(|(_, it)| it)
}

/// Insertions, deletions, substitutions and swaps of neighbours from one word to the other.
fn distance(from: &str, to: &str) -> usize {
    let (from, to): (Vec<char>, Vec<char>) = (from.chars().collect(), to.chars().collect());
    let mut cost = vec![vec![0; to.len() + 1]; from.len() + 1];
    (0..=from.len()).for_each(|at| cost[at][0] = at);
    (0..=to.len()).for_each(|at| cost[0][at] = at);
    for i in 1..=from.len() {
        for j in 1..=to.len() {
            let replaced = cost[i - 1][j - 1] + usize::from(from[i - 1] != to[j - 1]);
            cost[i][j] = replaced.min(cost[i - 1][j] + 1).min(cost[i][j - 1] + 1);
            let swapped = i > 1 && j > 1 && from[i - 1] == to[j - 2] && from[i - 2] == to[j - 1];
            if swapped {
                cost[i][j] = cost[i][j].min(cost[i - 2][j - 2] + 1);
            }
        }
    }
    cost[from.len()][to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_a_number_and_a_unit() {
        let check = |text, ms: Option<u64>| {
            assert_eq!(duration(text), ms.map(Duration::from_millis), "{text:?}");
        };
        check("10ms", Some(10));
        check("0s", Some(0));
        check("5m", Some(300_000));
        check("30d", Some(2_592_000_000));
        check("1y", Some(31_536_000_000));
        for bad in ["", "5", "ms", "5 m", "-5m", "+5m", "1.5h", "5M", "1h30m", "99999999999999999y"]
        {
            check(bad, None);
        }
    }

    #[test]
    fn sizes_are_a_number_and_a_unit() {
        let check = |text, bytes| assert_eq!(size(text), bytes, "{text:?}");
        check("4096", Some(4096));
        check("256MiB", Some(256 << 20));
        check("1MB", Some(1_000_000));
        for bad in ["", "MiB", "1 GiB", "1gib", "-1", "1.5GiB", "99999999999TiB"] {
            check(bad, None);
        }
    }

    #[test]
    fn figures_are_short() {
        let check = |count, text: &str| assert_eq!(bytes(count), text);
        check(0, "0 B");
        check(999, "999 B");
        check(1000, "1.0 KiB");
        check(3 << 20, "3.0 MiB");
        check(300 << 20, "300 MiB");
        check(u64::MAX, "16384 PiB");
        assert_eq!(stretch(Duration::from_millis(7_900)), "7s");
        assert_eq!(stretch(Duration::from_secs(65)), "1m05s");
        assert_eq!(stretch(Duration::from_secs(12_000)), "3h20m");
    }

    #[test]
    fn a_near_miss_is_understood() {
        let known = ["poll_interval", "ship_interval", "snapshot_interval", "spool_max", "sync"];
        let check = |word, meant| assert_eq!(nearest(word, known), meant, "{word:?}");
        check("pol_interval", Some("poll_interval"));
        check("shipinterval", Some("ship_interval"));
        check("snapshot", Some("snapshot_interval"));
        check("spool-max", Some("spool_max"));
        check("snyc", Some("sync"));
        check("synk", Some("sync"));
        check("colour", None);
        check("", None);
    }
}
