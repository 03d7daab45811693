//! How dense restore points are kept, by their age, and how much of them: the keys `keep`,
//! `compaction`, `replica_max` and `objects_max` as values.
//!
//! A point is kept if it is the last of its bucket: buckets are as long as the density, and aligned to
//! 1970. What is older than the last step is kept by nobody. Pure: the time is handed in.

use crate::commit::Time;
use crate::units;
use std::fmt;
use std::time::Duration;

/// Up to an age, one point for each density; every point without one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    pub density: Option<Duration>,
    pub age: Duration,
}

/// Steps of rising age and density. None: every point is kept for ever.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keep(Vec<Step>);

/// Objects and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    pub objects: u64,
    pub bytes: u64,
}

impl Sum {
    pub fn add(&mut self, bytes: u64) {
        self.objects += 1;
        self.bytes += bytes;
    }

    pub fn take(&mut self, bytes: u64) {
        self.objects -= 1;
        self.bytes -= bytes;
    }
}

impl std::ops::AddAssign for Sum {
    fn add_assign(&mut self, other: Self) {
        self.objects += other.objects;
        self.bytes += other.bytes;
    }
}

/// The most that one destination is to hold of a replica. The oldest points go first, whatever their
/// density; what the newest needs never goes, nor what is locked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cap {
    pub bytes: Option<u64>,
    pub objects: Option<u32>,
}

impl Cap {
    pub fn allows(self, held: Sum) -> bool {
        self.bytes.is_none_or(|most| held.bytes <= most)
            && self.objects.is_none_or(|most| held.objects <= most.into())
    }
}

/// As the configuration has it, for people.
impl fmt::Display for Cap {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let bytes = self.bytes.map(|most| format!("replica_max = {}", units::bytes(most)));
        let objects = self.objects.map(|most| format!("objects_max = {most}"));
        f.write_str(&bytes.into_iter().chain(objects).collect::<Vec<_>>().join(" and "))
    }
}

/// Where a point stands: those at the same place are one bucket, of which the last one is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// It is kept whatever comes after it.
    Apart,
    Bucket {
        step: usize,
        number: u64,
    },
    /// It is too old to be kept.
    Past,
}

/// Levels of change-sets that were merged: those of the same window become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    pub number: u8,
    pub window: Duration,
    /// How old a window is before it is merged.
    pub age: Duration,
    /// Made when points become fewer, not when objects become many.
    pub thins: bool,
}

/// More would not fit the digit that a name has for the level.
const MOST_LEVELS: usize = 15;
/// How many points a change-set has where points were thinned out, at most.
pub const POINTS: u32 = 24;

impl Default for Keep {
    fn default() -> Self {
        let days = |days: u64| Duration::from_secs(86_400 * days);
        let step = |density: u64, age| Step {
            density: (density > 0).then(|| Duration::from_secs(density)),
            age: days(age),
        };
        Self(vec![step(0, 1), step(300, 7), step(3600, 30), step(86_400, 365)])
    }
}

impl Keep {
    /// Reads `density:age` of each step. The error says what is wrong and how to write it.
    pub fn parse(steps: &[String]) -> Result<Self, (String, &'static str)> {
        const HINT: &str = "write density:age, such as \"all:24h\" or \"5m:7d\"";
        let mut keep: Vec<Step> = Vec::new();
        for text in steps {
            let wrong = |cause: &str| (format!("{text:?} {cause}"), HINT);
            let parts = text.split_once(':').ok_or_else(|| wrong("is no density and age"))?;
            let density = match parts.0 {
                "all" => None,
                density => Some(positive(density).ok_or_else(|| wrong("has no density"))?),
            };
            let age = positive(parts.1).ok_or_else(|| wrong("has no age"))?;
            if let Some(before) = keep.last() {
                let nests = match (before.density, density) {
                    (None, Some(_)) => true,
                    (Some(fine), Some(coarse)) => {
                        coarse > fine && coarse.as_millis().is_multiple_of(fine.as_millis())
                    }
                    (_, None) => false,
                };
                if age <= before.age || !nests {
                    let hint = "ages rise, and each density is a multiple of the one before";
                    return Err((format!("{text:?} does not go on from the step before it"), hint));
                }
            }
            keep.push(Step { density, age });
        }
        Ok(Self(keep))
    }

    /// Where a point of this time stands at `now`. One of the future is new.
    pub fn place(&self, time: Time, now: Time) -> Place {
        let age = u128::from(now.0.saturating_sub(time.0));
        match self.0.iter().enumerate().find(|(_, step)| age <= step.age.as_millis()) {
            None if self.0.is_empty() => Place::Apart,
            None => Place::Past,
            Some((_, Step { density: None, .. })) => Place::Apart,
            Some((step, Step { density: Some(density), .. })) => {
                Place::Bucket { step, number: bucket(time, *density) }
            }
        }
    }

    /// The time before which no point is kept.
    pub fn horizon(&self, now: Time) -> Option<Time> {
        let age = self.0.last()?.age.as_millis();
        Some(Time(now.0.saturating_sub(u64::try_from(age).unwrap_or(u64::MAX))))
    }

    /// How far apart snapshots may be at this age: as far as one change-set of thinned out points.
    pub fn snapshot_window(&self, time: Time, now: Time) -> Option<Duration> {
        match self.place(time, now) {
            Place::Bucket { step, .. } => self.0[step].density.map(|density| density * POINTS),
            Place::Apart | Place::Past => None,
        }
    }

    /// The levels: one for each window of `compaction`, then one for each density.
    pub fn levels(&self, compaction: &[Duration]) -> Vec<Level> {
        let early = compaction.iter().map(|window| (*window, Duration::ZERO, false));
        let ages = std::iter::once(Duration::ZERO).chain(self.0.iter().map(|step| step.age));
        let late = self.0.iter().zip(ages);
        let late = late.filter_map(|(step, age)| Some((step.density? * POINTS, age, true)));
        let numbered = (1..).zip(early.chain(late));
        let level = |(number, (window, age, thins))| Level { number, window, age, thins };
        numbered.map(level).take(MOST_LEVELS).collect()
    }

    /// Whether all levels fit the names of objects.
    pub fn fits(&self, compaction: &[Duration]) -> bool {
        compaction.len() + self.0.iter().filter(|step| step.density.is_some()).count()
            <= MOST_LEVELS
    }
}

fn positive(text: &str) -> Option<Duration> {
    units::duration(text).filter(|duration| !duration.is_zero())
}

/// The number of the window of that length that a time lies in.
pub fn bucket(time: Time, window: Duration) -> u64 {
    let window = u64::try_from(window.as_millis()).unwrap_or(u64::MAX);
    time.0 / window.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: u64 = 60_000;
    const DAY: u64 = 1440 * MINUTE;

    fn parse(steps: &[&str]) -> Result<Keep, (String, &'static str)> {
        Keep::parse(&steps.iter().map(|step| (*step).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn the_default_is_what_is_documented() {
        assert_eq!(parse(&["all:24h", "5m:7d", "1h:30d", "1d:1y"]).unwrap(), Keep::default());
    }

    #[test]
    fn a_step_is_a_density_and_an_age_and_goes_on_from_the_one_before() {
        for bad in [
            &["all"][..],
            &["5m"],
            &["x:1d"],
            &["5m:0s"],
            &["0s:1d"],
            &["5m:7d", "all:24h"],
            &["all:7d", "5m:7d"],
            &["5m:1d", "7m:7d"],
            &["5m:1d", "5m:7d"],
        ] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
        assert_eq!(parse(&[]).unwrap().horizon(Time(DAY)), None);
    }

    #[test]
    fn a_point_stands_by_its_age() {
        let now = Time(400 * DAY);
        let keep = Keep::default();
        let at = |age: u64| keep.place(Time(now.0 - age), now);
        let step = |age| match at(age) {
            Place::Bucket { step, .. } => step,
            other => panic!("{other:?}"),
        };
        assert_eq!([at(0), at(DAY)], [Place::Apart; 2]);
        assert_eq!((step(DAY + 1), step(7 * DAY), step(7 * DAY + 1)), (1, 1, 2));
        assert_eq!((step(30 * DAY + 1), step(365 * DAY)), (3, 3));
        assert_eq!(at(365 * DAY + 1), Place::Past);
        assert_eq!(keep.place(Time(now.0 + DAY), now), Place::Apart, "of the future");
        assert_eq!(parse(&[]).unwrap().place(Time(0), now), Place::Apart);
    }

    #[test]
    fn levels_are_numbered_through() {
        let minutes = |minutes: u64| Duration::from_millis(minutes * MINUTE);
        let levels = Keep::default().levels(&[minutes(1), minutes(60)]);
        let all: Vec<_> = levels.iter().map(|it| (it.number, it.window, it.age)).collect();
        let (day, zero) = (minutes(1440), Duration::ZERO);
        let late = [(3, minutes(120), day), (4, day, 7 * day), (5, 24 * day, 30 * day)];
        assert_eq!(all[..2], [(1, minutes(1), zero), (2, minutes(60), zero)]);
        assert_eq!(all[2..], late);
    }
}
