//! The command line. Made of clap and std only: `cargo xtask package` reads this file too, for man
//! pages and completions.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// What this program calls itself: the version that a package was built as, else the source's.
pub(crate) const VERSION: &str = match option_env!("PALISADE_VERSION") {
    Some(packaged) => packaged,
    None => env!("CARGO_PKG_VERSION"),
};

const EXIT_CODES: &str = "\
Exit codes: 0 done, 1 failed, 2 usage, 4 AWS not reachable, 5 refused by policy.

ENV is a file of infra/params without its ending. STACK is a name of infra/stacks.yaml.";

/// Checks, plans, applies and destroys the stacks of infra/templates.
#[derive(Debug, Parser)]
#[command(name = "palisade-infra", version = VERSION, max_term_width = 100, after_help = EXIT_CODES)]
#[command(arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// Options of every verb.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Common {
    /// Directory of stacks.yaml; by default `infra` here or above
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// Home region instead of the environment's; plan, apply and destroy refuse another
    #[arg(long, global = true, help_heading = "AWS")]
    pub(crate) region: Option<String>,
    /// AWS profile
    #[arg(long, global = true, help_heading = "AWS")]
    pub(crate) profile: Option<String>,
    /// Send every AWS request to this URL
    #[arg(long, global = true, value_name = "URL", help_heading = "AWS")]
    pub(crate) endpoint_url: Option<String>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Render every stack and verify all invariants
    #[command(after_help = "Example:\n  palisade-infra check\n  palisade-infra check prod --json")]
    Check(Check),
    /// Say whether one thing may reach another, and by which rules
    #[command(after_help = "Example:\n  palisade-infra reach internet origin:443 prod\n  \
                            palisade-infra reach origin aurora:3306")]
    Reach(Reach),
    /// Say what apply would change; changes nothing
    #[command(after_help = "Example:\n  palisade-infra plan prod\n  \
                            palisade-infra plan prod --stack network")]
    Plan(Plan),
    /// Create or update the stacks in order; run again, it continues
    #[command(after_help = "Example:\n  palisade-infra apply prod\n  \
                            palisade-infra apply dev --yes")]
    Apply(Apply),
    /// Delete the stacks in reverse order
    #[command(after_help = "Example:\n  palisade-infra destroy dev\n  \
                            palisade-infra destroy dev --allow-data-loss database,cache")]
    Destroy(Destroy),
    /// Draw what is rendered
    #[command(after_help = "Example:\n  palisade-infra diagram prod > prod.mmd\n  \
                            palisade-infra diagram prod --format svg > prod.svg")]
    Diagram(Diagram),
}

/// `check`.
#[derive(Debug, Args)]
pub(crate) struct Check {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Environment; all when left out
    #[arg(value_name = "ENV")]
    pub(crate) env: Option<String>,
}

/// `reach`.
#[derive(Debug, Args)]
pub(crate) struct Reach {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// internet, admins, cloudfront, bastion, load-balancer, origin, aurora, redis, endpoints, ...
    #[arg(value_name = "FROM")]
    pub(crate) from: String,
    #[arg(help = "The same, with a port or without", value_name = "TO[:PORT]")]
    pub(crate) to: String,
    /// Environment; all when left out
    #[arg(value_name = "ENV")]
    pub(crate) env: Option<String>,
}

/// Which stacks.
#[derive(Clone, Debug, Args)]
pub(crate) struct Which {
    /// Only this stack; may be given again
    #[arg(long = "stack", value_name = "STACK", value_delimiter = ',')]
    pub(crate) stacks: Vec<String>,
    /// Environment
    #[arg(value_name = "ENV")]
    pub(crate) env: String,
}

/// `plan`.
#[derive(Debug, Args)]
pub(crate) struct Plan {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Let this resource be replaced or removed with what it holds; may be given again
    #[arg(long, value_name = "STACK.RESOURCE", value_delimiter = ',')]
    pub(crate) allow_data_loss: Vec<String>,
    #[command(flatten)]
    pub(crate) which: Which,
}

/// `apply`.
#[derive(Debug, Args)]
pub(crate) struct Apply {
    /// Do not ask
    #[arg(long)]
    pub(crate) yes: bool,
    /// Let this resource be replaced or removed with what it holds; may be given again
    #[arg(long, value_name = "STACK.RESOURCE", value_delimiter = ',')]
    pub(crate) allow_data_loss: Vec<String>,
    #[command(flatten)]
    pub(crate) which: Which,
}

/// `destroy`.
#[derive(Debug, Args)]
pub(crate) struct Destroy {
    /// Do not ask
    #[arg(long)]
    pub(crate) yes: bool,
    /// Delete this stack or resource with what it holds; may be given again
    #[arg(long, value_name = "STACK[.RESOURCE]", value_delimiter = ',')]
    pub(crate) allow_data_loss: Vec<String>,
    /// Turn termination protection off where it is on
    #[arg(long)]
    pub(crate) disable_termination_protection: bool,
    #[command(flatten)]
    pub(crate) which: Which,
}

/// `diagram`.
#[derive(Debug, Args)]
pub(crate) struct Diagram {
    /// As what
    #[arg(long, value_enum, default_value_t = Picture::Mermaid)]
    pub(crate) format: Picture,
    /// Environment; the largest when left out
    #[arg(value_name = "ENV")]
    pub(crate) env: Option<String>,
}

/// What `diagram` makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Picture {
    /// A flowchart for Markdown
    Mermaid,
    /// A picture
    Svg,
    /// Security groups as a Markdown table
    Groups,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definition_is_sound_and_every_verb_has_an_example() {
        let command = Cli::command();
        command.clone().debug_assert();
        for verb in command.get_subcommands() {
            let help = verb.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.starts_with("Example:"), "{}", verb.get_name());
        }
    }
}
