//! The command line. Made of clap and std only: `cargo xtask package` reads this file too, for man
//! pages and completions.

use clap::Parser;

/// What this program calls itself: the version that a package was built as, else the source's.
pub(crate) const VERSION: &str = match option_env!("PALISADE_VERSION") {
    Some(packaged) => packaged,
    None => env!("CARGO_PKG_VERSION"),
};

/// Short-lived SSH, SFTP and tunnels to Palisade hosts through SSM.
///
/// This version of bastionctl prints this help only: it has no commands yet.
#[derive(Debug, Parser)]
#[command(name = "bastionctl", version = VERSION, max_term_width = 100)]
pub(crate) struct Cli {}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_help_says_that_there_are_no_commands() {
        let help = Cli::command().render_long_help().to_string();
        assert!(help.contains("it has no commands yet"), "{help}");
    }
}
