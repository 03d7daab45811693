//! What lies below a place that is no replica itself: the names of what would be directories.
//!
//! A method of no backend, which knows its one replica and no other. For who looks at a whole bucket.

use super::Error;
use super::fs::Fs;
use super::retry::{Patience, try_again};
use super::s3::S3;
use crate::config::Destination;
use std::thread;

/// The names directly below, in order.
pub fn below(place: &Destination) -> Result<Vec<String>, Error> {
    let mut names = match place {
        Destination::File { root } => Fs::open(root)?.below()?,
        Destination::S3(place) => {
            let s3 = S3::open(place)?;
            try_again(Patience::default(), thread::sleep, || s3.below())?
        }
    };
    names.sort_unstable();
    Ok(names)
}
