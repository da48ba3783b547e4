//! The object for programs. Its names are an interface: fields come, none goes or changes its meaning.

use serde::Serialize;

use super::{Shown, Table, role, tables};
use crate::{
    datapath::{Counters, LinkStatus, VipStatus},
    report::printable_json,
    vocabulary::{BootNs, LinkId, Vip},
};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Node {
    answering: bool,
    /// 0 once it has passed.
    deadline_seconds: f64,
    session_uid: String,
    epoch: u64,
    boot_id: String,
    suppress: bool,
    malformed: u64,
    tables: [Table; 2],
    interfaces: Vec<Interface>,
    vips: Vec<Address>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Interface {
    interface: Option<String>,
    ifindex: u32,
    mode: String,
    mac: Option<String>,
    /// `null`: its generation can't be read.
    deadline_seconds: Option<f64>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Address {
    ip: String,
    interface: Option<String>,
    ifindex: u32,
    role: &'static str,
    epoch: u64,
    requests: u64,
    replies: u64,
    fenced: u64,
    suppressed: u64,
    conflicts: u64,
    events_lost: u64,
    /// `null`: never.
    last_seen_seconds: Option<f64>,
}

pub(super) fn text(shown: &Shown<'_>) -> serde_json::Result<String> {
    let Shown { status, now, names: _ } = shown;
    let node = Node {
        answering: status.deadline > *now && !status.links.is_empty(),
        deadline_seconds: status.deadline.until(*now).as_secs_f64(),
        session_uid: status.session.uid_text(),
        epoch: status.session.epoch,
        boot_id: status.session.boot_id_text(),
        suppress: status.suppress,
        malformed: status.node.malformed,
        tables: tables(status),
        interfaces: status.links.iter().map(|(id, link)| interface(shown, *id, link)).collect(),
        vips: status.vips.iter().map(|((vip, id), entry)| address(shown, *vip, *id, entry)).collect(),
    };
    Ok(printable_json(serde_json::to_string_pretty(&node)?) + "\n")
}

fn interface(shown: &Shown<'_>, id: LinkId, link: &LinkStatus) -> Interface {
    let &LinkStatus { attachment, mac, deadline } = link;
    Interface {
        interface: shown.name(id).map(ToOwned::to_owned),
        ifindex: id.0,
        mode: attachment.to_string(),
        mac: mac.map(|mac| mac.to_string()),
        deadline_seconds: deadline.map(|deadline| deadline.until(shown.now).as_secs_f64()),
    }
}

fn address(shown: &Shown<'_>, vip: Vip, id: LinkId, entry: &VipStatus) -> Address {
    let &VipStatus { role: of, epoch, counters } = entry;
    // Malformed messages are of no address: the node counts them.
    let Counters {
        requests,
        replies,
        fenced,
        suppressed,
        conflicts,
        events_lost,
        malformed: _,
        last_seen_boot_ns,
    } = counters;
    let seen = Some(BootNs(last_seen_boot_ns)).filter(|seen| *seen != BootNs::NONE);
    Address {
        ip: vip.to_string(),
        interface: shown.name(id).map(ToOwned::to_owned),
        ifindex: id.0,
        role: role(of),
        epoch,
        requests,
        replies,
        fenced,
        suppressed,
        conflicts,
        events_lost,
        last_seen_seconds: seen.map(|seen| shown.now.until(seen).as_secs_f64()),
    }
}
