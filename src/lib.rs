//! Continuous backup of SQLite databases, as a library behind the `bakelite` program.
//!
//! Data flows one way out: `source` reads commits from a database in use, `object` makes bytes of
//! them, `daemon` ships those to every `backend`. And one way back: `restore` lists a backend, plans
//! with the names alone, and writes a database file. `commit` is the waist between the two.

pub mod commit;
pub mod error;

pub mod durable;

pub mod backend;
pub mod name;

pub mod restore;
