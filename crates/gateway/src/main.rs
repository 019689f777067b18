//! The program: reads the command line, does it, and says in one sentence what failed.

use std::process::ExitCode;

use clap::Parser;
use gateway::cli::{self, args::Cli};

/// What was asked could not be done. Wrong usage is 2, which `clap` says itself.
const FAILED: u8 = 1;

fn main() -> ExitCode {
    match cli::run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("trailgate: {failure}");
            ExitCode::from(FAILED)
        }
    }
}
