//! The mutants that survive, each with the reason why no test can notice it.

use super::Reason;

const fn row(file: &'static str, mutant: &'static str, why: &'static str) -> Reason {
    Reason { file, mutant, why }
}

pub const REASONS: &[Reason] = &[];
