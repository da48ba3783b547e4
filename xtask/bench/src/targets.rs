//! What was to be reached, beside what was measured in this run.

use crate::report::{Section, Target};

/// The targets that the measured parts say something of.
pub fn of(sections: &[Section]) -> Vec<Target> {
    let median = |id: &str, row: &str, key: &str| {
        let section = sections.iter().find(|section| section.id == id)?;
        Some(section.median(row, key)).filter(|median| median.is_finite())
    };
    let mut targets = Vec::new();
    let mut add = |wanted, found: Option<f64>, unit: &str, holds: &dyn Fn(f64) -> bool| {
        let target = |found: f64| Target { wanted, found: format!("{found:.2}{unit}"), holds: holds(found) };
        targets.extend(found.map(target));
    };
    let micro = |row| median("micro", row, "over_empty_ns");
    add("a non-ARP frame ≤ 1 ns over an empty program", micro("XDP: UDP over IPv4, passed"), " ns", &|ns| {
        ns <= 1.0
    });
    add(
        "an answered ARP, 10 000 VIPs at random, ≤ 100 ns",
        micro("XDP: ARP, answered, 10000 VIPs"),
        " ns",
        &|ns| ns <= 100.0,
    );
    let (native, packet) = ("ours, native", "AF_PACKET process");
    add(
        "native ≥ 4.5 × the kernel's answers on one CPU",
        median("flood", native, "over_kernel"),
        " ×",
        &|times| times >= 4.5,
    );
    add(
        "unmoved by 5000 senders: ≥ 0.9 of one sender's",
        median("flood", native, "of_one_sender"),
        "",
        &|of| of >= 0.9,
    );
    let tail = |row| median("wire_busy", row, "p999_us");
    let better = tail(packet).zip(tail(native)).map(|(packet, native)| packet / native);
    add("p99.9 at 4 busy loops per CPU ≥ 50 × better than AF_PACKET", better, " ×", &|times| {
        times >= 50.0
    });
    add(
        "a dead node's last of 1 000 VIPs answered ≤ 1 s after the fence",
        median("dead_node", "1000 VIPs", "last_s"),
        " s",
        &|seconds| seconds <= 1.0,
    );
    let writes = |vips: &str| median("api", &format!("3 nodes, {vips} VIPs"), "writes_per_s");
    add(
        "writes of 3 nodes at 5 000 VIPs ≤ 1.2 × those at 1",
        writes("5000").zip(writes("1")).map(|(many, one)| many / one),
        " ×",
        &|times| times <= 1.2,
    );
    // Renewals, and nothing for each VIP: R less a tenth is 0.22.
    let every: Vec<f64> = sections
        .iter()
        .filter(|section| section.id == "api")
        .flat_map(|section| section.rows.iter().map(|(row, _)| section.median(row, "per_node_per_s")))
        .collect();
    add(
        "writes per node ≤ 0.25/s with any number of nodes and VIPs",
        every.iter().copied().reduce(f64::max),
        "/s",
        &|most| most <= 0.25,
    );
    let tcp = sections.iter().find(|section| section.id == "tcp");
    let within = tcp.and_then(|tcp| tcp.spread("nothing", "gbit_s").zip(tcp.spread("ours, tcx", "gbit_s")));
    if let Some((none, tcx)) = within {
        targets.push(Target {
            wanted: "TCP through TCX within the spread of none",
            found: format!("{:.1} Gbit/s in {:.1}–{:.1}", tcx.median, none.p25, none.p75),
            holds: tcx.median >= none.p25,
        });
    }
    targets.extend(sections.iter().filter(|section| section.id == "failover").flat_map(failover));
    targets
}

/// Where a figure of the failover table is, what it may be at most, and its unit.
struct AtMost {
    wanted: &'static str,
    row: &'static str,
    key: &'static str,
    limit: f64,
    unit: &'static str,
}

/// A row with a run that has failed reaches nothing.
fn failover(section: &Section) -> Vec<Target> {
    let at_most = |wanted, row, key, limit, unit| AtMost { wanted, row, key, limit, unit };
    let keepalived = section.median("node crash, keepalived", "undelivered_ms");
    let all = [
        at_most("node crash: median ≤ 360 ms", "node crash", "undelivered_ms", 360.0, " ms"),
        at_most("node crash: median ≤ keepalived's", "node crash", "undelivered_ms", keepalived, " ms"),
        at_most("node crash: worst ≤ 600 ms", "node crash", "worst_ms", 600.0, " ms"),
        at_most("carrier lost: median ≤ 100 ms", "carrier lost", "undelivered_ms", 100.0, " ms"),
        at_most("carrier lost: worst ≤ 100 ms", "carrier lost", "worst_ms", 100.0, " ms"),
        at_most("planned handover: no packet lost", "planned handover", "lost", 0.0, " lost"),
        at_most("agent killed: no packet lost", "agent killed", "lost", 0.0, " lost"),
        at_most("agent upgraded: no packet lost", "agent upgraded", "lost", 0.0, " lost"),
        at_most("DaemonSet rolled out: no packet lost", "DaemonSet rolled out", "lost", 0.0, " lost"),
        at_most(
            "planned handover: ARP unanswered, median ≤ 30 ms",
            "planned handover",
            "arp_unanswered_ms",
            30.0,
            " ms",
        ),
        at_most(
            "planned handover: ARP unanswered, worst ≤ 100 ms",
            "planned handover",
            "arp_worst_ms",
            100.0,
            " ms",
        ),
        at_most("agent killed: every ARP answered", "agent killed", "arp_worst_ms", 0.0, " ms"),
        at_most("agent upgraded: every ARP answered", "agent upgraded", "arp_worst_ms", 0.0, " ms"),
        at_most(
            "DaemonSet rolled out: every ARP answered",
            "DaemonSet rolled out",
            "arp_worst_ms",
            0.0,
            " ms",
        ),
    ];
    let target = |AtMost { wanted, row, key, limit, unit }: AtMost| {
        let (found, failed) = (section.median(row, key), section.median(row, "failed"));
        let of_failed = if failed > 0.0 { format!(", {failed:.0} failed") } else { String::new() };
        Target {
            wanted,
            found: format!("{found:.1}{unit}{of_failed}"),
            holds: found <= limit && failed == 0.0,
        }
    };
    all.into_iter().map(target).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Cell;

    /// What is said of the writes of these rows.
    fn writes(rows: &[(&str, f64, f64)]) -> Vec<(String, bool)> {
        let rows = rows.iter().map(|(name, all, each)| {
            let cells = vec![Cell::number("writes_per_s", *all, 2), Cell::number("per_node_per_s", *each, 3)];
            ((*name).to_owned(), cells)
        });
        let section = Section {
            id: "api",
            title: String::new(),
            notes: Vec::new(),
            columns: Vec::new(),
            rows: rows.collect(),
        };
        of(&[section]).into_iter().map(|target| (target.found, target.holds)).collect()
    }

    #[test]
    fn writes_are_judged_at_every_row_and_not_only_with_three_nodes() {
        let few = [("3 nodes, 1 VIPs", 0.6, 0.2), ("3 nodes, 5000 VIPs", 0.6, 0.2)];
        assert_eq!(writes(&few), [("1.00 ×".to_owned(), true), ("0.20/s".to_owned(), true)]);
        let many = [few[0], few[1], ("30 nodes, 5000 VIPs", 9.0, 0.3)];
        assert_eq!(writes(&many), [("1.00 ×".to_owned(), true), ("0.30/s".to_owned(), false)]);
        assert_eq!(writes(&[]), []);
    }
}
