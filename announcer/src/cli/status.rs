//! `announcer status`: what this node's kernel answers for, from the pinned maps alone.

mod json;
mod table;

use std::{collections::BTreeMap, io::Write};

use anyhow::bail;
use serde::Serialize;

use super::Pins;
use crate::{
    datapath::{PerFamily, Role, Status},
    vocabulary::{BootNs, LinkId},
};

/// Flags of `announcer status`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// What is printed; `docs/inspection.md` has an example of each, and the meaning of every field.
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t = Output::Table)]
    output: Output,

    #[command(flatten)]
    pins: Pins,
}

/// What is printed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
enum Output {
    /// For people: a table of interfaces and one of addresses.
    Table,
    /// For programs: one object.
    Json,
}

/// What the kernel holds, with what it takes to show it.
struct Shown<'a> {
    status: &'a Status,
    /// When it was read.
    now: BootNs,
    /// Interface names by ifindex.
    names: BTreeMap<u32, String>,
}

/// Prints what the kernel holds.
pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let root = &args.pins.pin_root;
    let status = match Status::read(root)? {
        None => {
            bail!("nothing of Announcer is pinned under {}: no agent has run on this node", root.display())
        }
        Some(Err(unreadable)) => bail!("{}: {unreadable}", root.display()),
        Some(Ok(status)) => status,
    };
    let shown = Shown { status: &status, now: BootNs::now(), names: names() };
    let text = match args.output {
        Output::Table => table::text(&shown),
        Output::Json => json::text(&shown)?,
    };
    Ok(std::io::stdout().write_all(text.as_bytes())?)
}

// === impl Shown ===

impl Shown<'_> {
    fn name(&self, id: LinkId) -> Option<&str> {
        self.names.get(&id.0).map(String::as_str)
    }
}

/// The owner map of a family.
#[derive(Clone, Copy, Serialize)]
struct Table {
    family: &'static str,
    entries: usize,
    capacity: usize,
}

fn tables(status: &Status) -> [Table; 2] {
    let entries = PerFamily::count(status.vips.keys().map(|(vip, _)| vip));
    [
        Table { family: "IPv4", entries: entries.v4, capacity: status.capacity.v4 },
        Table { family: "IPv6", entries: entries.v6, capacity: status.capacity.v6 },
    ]
}

fn role(role: Role) -> &'static str {
    match role {
        Role::Owned => "owned",
        Role::Elsewhere => "elsewhere",
        Role::Unknown(_) => "unknown",
    }
}

/// Interface names by ifindex.
fn names() -> BTreeMap<u32, String> {
    let Ok(entries) = std::fs::read_dir("/sys/class/net") else { return BTreeMap::new() };
    let index = |name: &str| {
        std::fs::read_to_string(format!("/sys/class/net/{name}/ifindex")).ok()?.trim().parse().ok()
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter_map(|name| Some((index(&name)?, name)))
        .collect()
}

#[cfg(test)]
mod tests;
