//! What lies below a place that is no replica itself: the names of what would be directories.
//!
//! A method of no backend, which knows its one replica and no other. For who looks at a whole bucket.

use super::Error;
use super::fs::Fs;
use super::retry::{Patience, try_again};
use super::s3::S3;
use crate::commit::Time;
use crate::config::Destination;
use std::thread;

/// The name of a place in which `doctor` tries a destination.
pub fn trial(now: Time) -> String {
    format!("{TRIAL}{:012x}", now.0)
}

const TRIAL: &str = "doctor-";

/// What is locked stays there, and so does what was cut short. A database may be called nearly so.
fn is_trial(name: &str) -> bool {
    let time = name.strip_prefix('.').unwrap_or(name).strip_prefix(TRIAL);
    time.is_some_and(|time| time.len() == 12 && time.bytes().all(|it| it.is_ascii_hexdigit()))
}

/// The names directly below, in order, but for those of trials.
pub fn below(place: &Destination) -> Result<Vec<String>, Error> {
    let mut names = match place {
        Destination::File { root } => Fs::open(root)?.below()?,
        Destination::S3(place) => {
            let s3 = S3::open(place)?;
            try_again(Patience::default(), thread::sleep, || s3.below())?
        }
    };
    names.retain(|name| !is_trial(name));
    names.sort_unstable();
    Ok(names)
}
