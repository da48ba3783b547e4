//! The tables: columns as wide as what is in them.

use std::time::Duration;

use super::{Shown, Table, role, tables};
use crate::{report::printable, vocabulary::BootNs};

/// Wider tables are set closer.
const WIDTH: usize = 100;

/// Where the text of a column stands.
#[derive(Clone, Copy)]
enum Side {
    Left,
    Right,
}

pub(super) fn text(shown: &Shown<'_>) -> String {
    let Shown { status, now, names: _ } = shown;
    let session = &status.session;
    let state = if status.links.is_empty() {
        "silent: no interface carries the program".to_owned()
    } else if status.deadline > *now {
        format!("answering for {:.1} s more, unless renewed", status.deadline.until(*now).as_secs_f64())
    } else {
        "silent: the lease has run out".to_owned()
    };
    let head = format!("{state} (session {}, epoch {})", session.uid_text(), session.epoch);
    let name = |id| shown.name(id).map_or_else(|| format!("ifindex {id}"), ToOwned::to_owned);

    let links = status.links.iter().map(|(id, link)| {
        let mac = link.mac.map_or_else(|| "-".to_owned(), |mac| mac.to_string());
        [name(*id), link.attachment.to_string(), mac, left(link.deadline, *now)]
    });
    let links = set(["INTERFACE", "MODE", "MAC", "DEADLINE"], [Side::Left; 4], links.collect());

    let vips = status.vips.iter().map(|((vip, id), entry)| {
        let counted = &entry.counters;
        let counts =
            [counted.requests, counted.replies, counted.fenced, counted.suppressed, counted.conflicts];
        let [requests, replies, fenced, suppressed, conflicts] = counts.map(|count| count.to_string());
        let seen = age(BootNs(counted.last_seen_boot_ns), *now);
        [
            vip.to_string(),
            name(*id),
            role(entry.role).to_owned(),
            requests,
            replies,
            fenced,
            suppressed,
            conflicts,
            seen,
        ]
    });
    let titles =
        ["VIP", "INTERFACE", "ROLE", "REQUESTS", "REPLIES", "FENCED", "SUPPRESSED", "CONFLICTS", "LAST SEEN"];
    let (l, r) = (Side::Left, Side::Right);
    let vips = set(titles, [l, l, l, r, r, r, r, r, r], vips.collect());
    let full = full(shown);
    format!("{head}\n{full}\n{links}\n{vips}")
}

/// A line for each family whose table has no room left.
fn full(shown: &Shown<'_>) -> String {
    let line = |Table { family, entries, capacity }: Table| {
        format!(
            "the kernel's table for {family} is full: {entries} of {capacity} entries; no other has room\n"
        )
    };
    tables(shown.status).into_iter().filter(|table| table.entries >= table.capacity).map(line).collect()
}

/// A table of the rows under their titles.
fn set<const N: usize>(titles: [&str; N], sides: [Side; N], mut rows: Vec<[String; N]>) -> String {
    // A link may be called anything that has no blank, no slash and no colon.
    let fit = |cell: String| printable(&cell).into_owned();
    rows = rows.into_iter().map(|row| row.map(fit)).collect();
    rows.insert(0, titles.map(ToOwned::to_owned));
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let wide = widths.iter().sum::<usize>() + 2 * (N - 1) > WIDTH;
    let gap = if wide { " " } else { "  " };
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(widths).zip(sides).map(|((text, width), side)| match side {
            Side::Left => format!("{text:width$}"),
            Side::Right => format!("{text:>width$}"),
        });
        format!("{}\n", cells.collect::<Vec<_>>().join(gap).trim_end())
    };
    rows.iter().map(line).collect()
}

/// What is left of a deadline.
fn left(deadline: Option<BootNs>, now: BootNs) -> String {
    match deadline {
        None => "unknown".to_owned(),
        Some(deadline) if deadline > now => format!("in {:.1} s", deadline.until(now).as_secs_f64()),
        Some(_) => "passed".to_owned(),
    }
}

/// How long ago; `-` for never.
fn age(then: BootNs, now: BootNs) -> String {
    const MINUTE: u64 = 60;
    const HOUR: u64 = 60 * MINUTE;
    const DAY: u64 = 24 * HOUR;
    if then == BootNs::NONE {
        return "-".to_owned();
    }
    let age: Duration = now.until(then);
    match age.as_secs() {
        0..100 => format!("{:.1} s ago", age.as_secs_f64()),
        seconds @ ..6000 => format!("{} min ago", seconds / MINUTE),
        seconds if seconds < 2 * DAY => format!("{} h ago", seconds / HOUR),
        seconds => format!("{} d ago", seconds / DAY),
    }
}
