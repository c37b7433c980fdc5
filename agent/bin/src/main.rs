//! `palisade`: see the library.

use std::process::ExitCode;

/// What this program calls itself: the version that a package was built as, else the source's.
const VERSION: &str = match option_env!("PALISADE_VERSION") {
    Some(packaged) => packaged,
    None => env!("CARGO_PKG_VERSION"),
};

fn main() -> ExitCode {
    palisade::main(VERSION)
}
