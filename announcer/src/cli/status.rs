//! `announcer status`: what this node's kernel answers for, from the pinned maps alone.

use std::{collections::BTreeMap, io::Write};

use anyhow::bail;

use super::Pins;
use crate::{
    datapath::{Role, Status},
    vocabulary::BootNs,
};

/// Flags of `announcer status`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    pins: Pins,
}

/// Prints a table per link, and one per VIP.
pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let root = &args.pins.pin_root;
    let status = match Status::read(root)? {
        None => {
            bail!("nothing of Announcer is pinned under {}: no agent has run on this node", root.display())
        }
        Some(Err(unreadable)) => bail!("{}: {unreadable}", root.display()),
        Some(Ok(status)) => status,
    };
    let names: BTreeMap<u32, String> = names();
    let name = |id: u32| names.get(&id).cloned().unwrap_or_else(|| format!("ifindex {id}"));
    let mut out = std::io::stdout().lock();
    let left = status.deadline.until(BootNs::now());
    match status.deadline > BootNs::now() {
        true => writeln!(
            out,
            "answering for {:.1} s more, unless renewed (epoch {})",
            left.as_secs_f64(),
            status.session.epoch
        )?,
        false => writeln!(out, "silent: the lease has run out (epoch {})", status.session.epoch)?,
    }
    writeln!(out, "\n{:16} {:8} MAC", "INTERFACE", "MODE")?;
    for (id, link) in &status.links {
        let mac = link.mac.map_or_else(|| "-".to_owned(), |mac| mac.to_string());
        writeln!(out, "{:16} {:8} {mac}", name(id.0), link.attachment)?;
    }
    let widths = (39, 12, 9);
    writeln!(
        out,
        "\n{:w0$} {:w1$} {:w2$} {:>9} {:>9} {:>7} {:>10} {:>9}",
        "VIP",
        "INTERFACE",
        "ROLE",
        "REQUESTS",
        "REPLIES",
        "FENCED",
        "SUPPRESSED",
        "CONFLICTS",
        w0 = widths.0,
        w1 = widths.1,
        w2 = widths.2,
    )?;
    for ((vip, id), entry) in &status.vips {
        let role = match entry.role {
            Role::Owned => "owned",
            Role::Elsewhere => "elsewhere",
            Role::Unknown(_) => "unknown",
        };
        let counted = &entry.counters;
        writeln!(
            out,
            "{:w0$} {:w1$} {role:w2$} {:>9} {:>9} {:>7} {:>10} {:>9}",
            vip.to_string(),
            name(id.0),
            counted.requests,
            counted.replies,
            counted.fenced,
            counted.suppressed,
            counted.conflicts,
            w0 = widths.0,
            w1 = widths.1,
            w2 = widths.2,
        )?;
    }
    Ok(())
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
