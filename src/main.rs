//! The program `bakelite`. All of it is in the library, where the harness runs it on other clocks.

use std::process::ExitCode;

fn main() -> ExitCode {
    bakelite::program::main(std::env::args_os().skip(1).collect())
}
