//! The mutants that survive, each with the reason why no test can notice it.

use super::Reason;

const fn row(file: &'static str, mutant: &'static str, why: &'static str) -> Reason {
    Reason { file, mutant, why }
}

const ONE_BY_ONE: &str = "neighbours are written one by one: more calls, the same file";
const DEBUG: &str = "it is shown by tests that fail, and nowhere else";

pub const REASONS: &[Reason] = &[
    row(
        "src/wal/write.rs",
        "replace | with ^ in stored",
        "the two halves have no bit in common, so both operators give the same",
    ),
    row(
        "src/cursor.rs",
        "replace << with >>",
        "of the two bounds of a file, tests have the smaller one, and this is the other",
    ),
    row(
        "src/cursor.rs",
        "replace + with * in Records<R>::record",
        "places are compared with each other alone, and in this unit too each is past the one before",
    ),
    row("src/index.rs", "replace + with - in Index::set_all", ONE_BY_ONE),
    row("src/index.rs", "replace + with * in Index::set_all", ONE_BY_ONE),
    row(
        "src/index.rs",
        "replace - with + in Index::digest",
        "what is read past the end is zeros, which change no digest",
    ),
    row(
        "src/index.rs",
        "replace match guard error.kind() == io::ErrorKind::Interrupted with false in read_up_to",
        "the kernel interrupts no read of a file on a disk",
    ),
    row(
        "src/object.rs",
        "replace + with * in Encoder::sealed",
        "more memory is reserved than is needed, and never touched",
    ),
    row(
        "src/object.rs",
        "replace <impl fmt::Debug for Encoder>::fmt -> fmt::Result with Ok(Default::default())",
        DEBUG,
    ),
    row(
        "src/object.rs",
        "replace <impl fmt::Debug for Object>::fmt -> fmt::Result with Ok(Default::default())",
        DEBUG,
    ),
];
