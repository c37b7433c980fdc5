//! `bastionctl`: see the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    bastionctl::main()
}
