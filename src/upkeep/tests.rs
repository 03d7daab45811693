//! Rounds of upkeep that are stopped anywhere, and a year of them.

mod crash;
mod year;
