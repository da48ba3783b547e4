//! The runs as a table, with every single one of them in the JSON.

use super::{Runs, trail::milliseconds, watch::Seen};
use crate::{
    report::{Cell, Section},
    stats::Spread,
};

/// The table's name in JSON.
pub const ID: &str = "failover";

/// Notes, a line each.
const NOTES: [&str; 3] = [
    "Milliseconds, median and middle half of the runs. A client sends one UDP packet a millisecond to the VIP, from an ordinary \
     socket, by its kernel's own neighbour table; packet sockets on all nodes hear which arrive, addressed to that node. \
     Undelivered: the longest stretch of a run, from the first packet that no node got within 50 ms of its sending to the next \
     one that arrived. The client's entry is 1.5 s old or a little more when it happens, and nothing but an announcement would \
     change it within 15 s.",
    "Packets lost: in all runs together. ARP unanswered: the longest stretch without an answer to anybody; another host asks by \
     broadcast every 2 ms. Sender's gap: the longest time between two packets of any run, by the sender's own delay; nothing \
     shorter is sure to be seen. A run that did not come to its end within its time is a failed one, and in no other figure.",
    "Node crash: the node's port leaves the switch, so nobody sees a carrier change, and all its processes are killed. Carrier \
     lost: of a link of its own for announcing; the API server is reached by another. Planned handover: `kubectl cordon`. Agent \
     killed: kill -9, and another after a second. Agent upgraded: SIGTERM, and another a second after its end. DaemonSet rolled out: `kubectl rollout restart`, two nodes with kubelets, one \
     after the other. keepalived: two \
     nodes, VRRP version 3, an advert every 100 ms. Every run begins when each agent has a live session and the VIP an heir.",
];

/// A figure of one run.
type Figure = fn(&Seen) -> f64;

/// What is told of each run.
const SERIES: [(&str, Figure); 6] = [
    ("runs_undelivered_ms", |seen| milliseconds(seen.packets.longest)),
    ("runs_lost", |seen| seen.packets.lost as f64),
    ("runs_late", |seen| seen.packets.late as f64),
    ("runs_gap_ms", |seen| milliseconds(seen.packets.resolution)),
    ("runs_arp_unanswered_ms", |seen| milliseconds(seen.questions.longest)),
    ("runs_arp_gap_ms", |seen| milliseconds(seen.questions.resolution)),
];

/// All scenarios in one table.
pub fn section(all: &[Runs]) -> Section {
    let heads = [
        "",
        "runs",
        "failed",
        "undelivered",
        "worst",
        "packets lost",
        "ARP unanswered",
        "worst",
        "sender's gap",
    ];
    Section {
        id: ID,
        title: "Failover: how long a client's packets are undelivered".to_owned(),
        notes: NOTES.map(str::to_owned).to_vec(),
        columns: heads.map(str::to_owned).to_vec(),
        rows: all.iter().map(|runs| (runs.name.to_owned(), row(runs))).collect(),
    }
}

fn row(runs: &Runs) -> Vec<Cell> {
    let count = |key, count: usize| Cell::number(key, count as f64, 0);
    let of = |value: Figure| runs.seen.iter().map(value);
    let worst = |value: Figure| of(value).fold(0.0, f64::max);
    let undelivered: Figure = |seen| milliseconds(seen.packets.longest);
    let unanswered: Figure = |seen| milliseconds(seen.questions.longest);
    let figures = [
        Cell::spread("undelivered_ms", Spread::of(of(undelivered)), 1),
        Cell::number("worst_ms", worst(undelivered), 1),
        count("lost", runs.seen.iter().map(|seen| seen.packets.lost).sum()),
        Cell::spread("arp_unanswered_ms", Spread::of(of(unanswered)), 1),
        Cell::number("arp_worst_ms", worst(unanswered), 1),
        Cell::number("gap_ms", worst(|seen| milliseconds(seen.packets.resolution)), 1),
    ];
    let none =
        ["undelivered_ms", "worst_ms", "lost", "arp_unanswered_ms", "arp_worst_ms", "gap_ms"].map(Cell::none);
    let figures = if runs.seen.is_empty() { none } else { figures };
    let series = SERIES.iter().map(|(key, value)| Cell::series(key, of(*value)));
    [count("runs", runs.seen.len() + runs.failures.len()), count("failed", runs.failures.len())]
        .into_iter()
        .chain(figures)
        .chain(series)
        .chain([Cell::words("failures", &runs.failures)])
        .collect()
}
