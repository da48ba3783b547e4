//! Where the time goes when a node dies: what its clients missed, beside what the agents' logs say of the same moments.

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::trail::{Outage, milliseconds};
use crate::{
    report::{Cell, Section},
    stats::Spread,
};

/// The steps, in their order, and what ends each.
const NAMES: [&str; 7] = [
    "detect: the last of the others suspects it",
    "agree: the fence is sent",
    "fence: it is written",
    "claim: the heir is sure that it may answer",
    "program: its kernel answers",
    "announce: the first announcement is sent",
    "deliver: the client's packets arrive there",
];

const NOTE: &str = "Milliseconds, median and middle half of the runs of \"node crash\", from the first packet that was not delivered. The \
    agents' clocks and the client's are one; log lines are stamped to the millisecond, so that a step may seem a millisecond shorter or \
    longer. Claim: nothing is written; the heir asks the wire for the address three times, from its own suspicion on, and reads its own \
    session.";

/// How long each step took.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Steps([Duration; NAMES.len()]);

impl Steps {
    /// From a stretch in which packets were not delivered, and the logs of all agents that are left.
    pub fn of(dark: &Outage, logs: &[String]) -> Result<Self> {
        let lines: Vec<Line> = logs.iter().flat_map(|log| log.lines()).filter_map(Line::read).collect();
        let end = dark.since + dark.longest;
        // Their stamps are cut to the millisecond, and a line is written after what it tells.
        let during = |line: &&Line| line.at + MILLISECOND > dark.since && line.at < end + 2 * MILLISECOND;
        let lines: Vec<&Line> = lines.iter().filter(during).collect();
        let of = |text: &'static str| lines.iter().filter(move |line| line.msg.starts_with(text));
        let fenced = of("failover: silent node fenced")
            .min_by_key(|line| line.at)
            .context("nobody was fenced early")?;
        let (fence, fenced) = (format!("session-{}", fenced.from), fenced.at);
        let suspects = of("another node does not answer on the wire").map(|line| line.at);
        let suspected = suspects.filter(|at| *at <= fenced).max().context("nobody was suspected")?;
        let answered = of("API server answered a lease request")
            .filter(|line| line.done && line.write && line.lease == fence);
        let written = answered.max_by_key(|line| line.at).context("no fence was written")?;
        let sent = written.at.saturating_sub(written.took);
        // The heir may hear of the fence before the one that wrote it.
        let gained = of("kernel follows").filter(|line| line.moved > 0 && line.at + MILLISECOND > sent);
        let gained = gained.min_by_key(|line| line.at).context("no kernel gained the address")?;
        let announced = of("gratuitous ARP sent").map(|line| line.at).filter(|at| *at >= gained.at).min();
        let ends = [
            suspected,
            sent,
            written.at,
            gained.at.saturating_sub(gained.took),
            gained.at,
            announced.context("nothing was announced")?,
            end,
        ];
        let mut before = dark.since;
        Ok(Self(ends.map(|at| {
            let took = at.min(end).saturating_sub(before);
            before = before.max(at.min(end));
            took
        })))
    }
}

const MILLISECOND: Duration = Duration::from_millis(1);

/// What matters of a log line.
struct Line {
    at: Duration,
    msg: String,
    from: String,
    lease: String,
    write: bool,
    done: bool,
    moved: u64,
    took: Duration,
}

impl Line {
    fn read(line: &str) -> Option<Self> {
        let line: Value = serde_json::from_str(line).ok()?;
        let at: jiff::Timestamp = line["ts"].as_str()?.parse().ok()?;
        let text = |name| line[name].as_str().unwrap_or_default().to_owned();
        Some(Self {
            at: at.as_duration().try_into().ok()?,
            msg: line["msg"].as_str()?.to_owned(),
            from: text("from"),
            lease: text("lease"),
            done: line["done"].as_bool().unwrap_or_default(),
            write: line["write"].as_bool().unwrap_or_default(),
            moved: line["moved"].as_u64().unwrap_or_default(),
            took: Duration::from_micros(line["took_us"].as_u64().unwrap_or_default()),
        })
    }
}

/// How many writes of Leases were on their way at once since then, at most, by the logs of all agents. Their ends are told to the
/// millisecond: each counts as that much shorter, or two that follow upon each other would be taken for two at once.
pub fn writes_at_once(logs: &[String], since: Duration) -> usize {
    let lines = logs.iter().flat_map(|log| log.lines()).filter_map(Line::read);
    let writes = lines.filter(|line| line.write && line.at >= since);
    // Of the same moment, an end comes first.
    let mut changes: Vec<(Duration, i32)> = writes
        .flat_map(|line| [(line.at.saturating_sub(line.took) + MILLISECOND, 1), (line.at, -1)])
        .collect();
    changes.sort_unstable();
    let running = changes.iter().scan(0, |running, (_, change)| {
        *running += change;
        Some(*running)
    });
    running.max().and_then(|most| usize::try_from(most).ok()).unwrap_or_default()
}

/// All runs in one table.
pub fn section(all: &[Steps]) -> Section {
    let row = |values: Vec<f64>| {
        let worst = values.iter().copied().fold(0.0, f64::max);
        vec![
            Cell::spread("ms", Spread::of(values.iter().copied()), 1),
            Cell::number("worst_ms", worst, 1),
            Cell::series("runs_ms", values),
        ]
    };
    let rows = NAMES.iter().enumerate().map(|(step, name)| {
        ((*name).to_owned(), row(all.iter().map(|steps| milliseconds(steps.0[step])).collect()))
    });
    Section {
        id: "failover_steps",
        title: "Failover: where the time goes when a node dies".to_owned(),
        notes: vec![NOTE.to_owned()],
        columns: ["", "ms", "worst"].map(str::to_owned).to_vec(),
        rows: rows.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_at_once_are_those_whose_times_overlap() {
        let write = |end: u64, took: u64| {
            format!(
                "{{\"ts\":\"1970-01-01T00:00:01.{end:03}Z\",\"msg\":\"API server answered a lease request\",\"write\":true,\
                 \"took_us\":{}}}",
                took * 1000
            )
        };
        let logs = [[write(10, 10), write(20, 11), write(19, 5)].join("\n"), write(18, 3)];
        assert_eq!(writes_at_once(&logs, Duration::ZERO), 3);
        assert_eq!(writes_at_once(&logs, Duration::from_millis(1019)), 2);
    }

    #[test]
    fn every_step_ends_where_the_logs_say_and_together_they_are_the_whole() -> Result<()> {
        let line = |ms: u64, rest: &str| format!("{{\"ts\":\"1970-01-01T00:00:01.{ms:03}Z\",{rest}}}");
        let heir = [
            line(90, "\"msg\":\"kernel follows the election\",\"moved\":1,\"took_us\":100"),
            line(210, "\"msg\":\"another node does not answer on the wire: asking\""),
            line(303, "\"msg\":\"kernel follows the election\",\"moved\":1,\"took_us\":1000"),
            line(305, "\"msg\":\"gratuitous ARP sent\""),
        ];
        let fencer = [
            line(220, "\"msg\":\"another node does not answer on the wire: asking\""),
            line(234, "\"msg\":\"API server answered a lease request\",\"write\":false,\"took_us\":3000"),
            line(
                240,
                "\"msg\":\"API server answered a lease request\",\"lease\":\"session-b\",\"write\":true,\"done\":true,\"took_us\":4000",
            ),
            line(240, "\"msg\":\"failover: silent node fenced\",\"from\":\"b\""),
        ];
        let since = Duration::from_millis(1100);
        let dark = Outage { longest: Duration::from_millis(210), since, ..Outage::default() };
        let steps = Steps::of(&dark, &[heir.join("\n"), fencer.join("\n")])?;
        assert_eq!(steps.0.map(|step| step.as_millis()), [120, 16, 4, 62, 1, 2, 5]);
        Ok(())
    }
}
