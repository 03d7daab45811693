//! Faults, kills and an oracle: the proof that what bakelite restores is right.

#![allow(dead_code)]

mod digest;
mod ledger;
mod oracle;
mod rng;
mod workload;

fn main() {}
