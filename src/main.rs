//! The `spillway` binary: parse, run, exit code.

use std::process::ExitCode;

use clap::Parser;
use spillway::cli::Cli;

fn main() -> ExitCode {
    spillway::cli::run(Cli::parse())
}
