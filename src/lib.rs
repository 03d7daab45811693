//! Continuous backup of SQLite databases, as a library behind the `bakelite` program.
//!
//! Data flows one way out: `source` reads commits from a database in use, `capture` makes change-sets
//! and snapshots of them, `daemon` ships those to every `backend`. And one way back: `replica` plans
//! from the names that a backend lists, `restore` writes a database file. `commit` is the waist
//! between the two.

pub mod commit;
pub mod error;

pub mod capture;
pub mod index;
pub mod source;
pub mod sqlite;
pub mod wal;

pub mod change;
pub mod name;
pub mod object;
pub mod seal;
pub mod snapshot;

pub mod backend;
pub mod cursor;
pub mod daemon;
pub mod fanout;
pub mod recent;
pub mod ship;
pub mod spool;

pub mod ahead;
pub mod compact;
pub mod copies;
pub mod keep;
pub mod list;
pub mod mend;
pub mod redo;
pub mod reencrypt;
pub mod repair;
pub mod replica;
pub mod restore;
pub mod retain;
pub mod upkeep;
pub mod usage;
pub mod verify;

pub mod check;
pub mod cli;
pub mod clock;
pub mod config;
pub mod doctor;
pub mod durable;
pub mod fleet;
pub mod init;
pub mod key;
pub mod log;
pub mod memory;
pub mod metrics;
pub mod notify;
pub mod place;
pub mod program;
pub mod progress;
pub mod report;
pub mod run;
pub mod sabotage;
pub mod status;
pub mod units;
pub mod verbs;
pub mod verified;

#[cfg(test)]
mod manual;
#[cfg(test)]
mod model;
#[cfg(test)]
mod structure;
#[cfg(test)]
mod testkit;
