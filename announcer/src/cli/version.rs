//! `announcer version`: what this program was built from, and with.

use std::io::Write;

use crate::report::build::Build;

/// Flags of `announcer version`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// What is printed: `text` for people, `json` for programs.
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
enum Output {
    /// For people.
    Text,
    /// For programs: one object.
    Json,
}

/// Prints it.
pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let build = Build::this();
    let text = match args.output {
        Output::Text => build.to_string(),
        Output::Json => serde_json::to_string_pretty(build)? + "\n",
    };
    Ok(std::io::stdout().write_all(text.as_bytes())?)
}
