//! The command line `meridian`.

use std::process::ExitCode;

fn main() -> ExitCode {
    meridian::cli::main()
}
