//! The subcommands, nothing else.
