//! The story for people, in at most 100 columns.

use jiff::Timestamp;

use super::story::{NodeStory, Owner, Role, Story};
use crate::report::printable;

const WIDTH: usize = 100;

pub(super) fn text(story: &Story, now: Timestamp) -> String {
    let story = &fit(story.clone());
    let head = match &story.owner {
        Some(owner) => {
            let since = owner.since.map(|at| format!(", since {at:.0} ({})", age(at, now)));
            let head = format!("{}{}, epoch {}", owner.node, since.unwrap_or_default(), owner.epoch);
            match owner.silent_seconds {
                None => format!("{} is announced by {head}", story.ip),
                Some(seconds) => format!(
                    "{} is claimed by {head}, but that has been silent for {seconds} s, longer than its lease, and nobody has \
                     fenced it yet: unless it holds on (--on-api-loss), nobody answers",
                    story.ip
                ),
            }
        }
        None => {
            let because = story.not_announced_because.as_deref().unwrap_or("nobody may");
            format!("{} is not announced: {because}", story.ip)
        }
    };
    let mut text = wrapped(&head, 0, 2);
    text.push('\n');
    let none = || "-".to_owned();
    let list = |items: &[String]| if items.is_empty() { none() } else { items.join(", ") };
    for (title, value) in [
        ("Service", list(&story.services)),
        ("IPAddressPool", story.pool.clone().unwrap_or_else(none)),
        ("L2Advertisement", list(&story.advertisements)),
    ] {
        text += &wrapped(&format!("{title:17}{value}"), 0, 17);
    }
    if !story.nodes.is_empty() {
        text += "\n";
        text += &table(&story.nodes);
    }
    for note in &story.notes {
        text += "\n";
        text += &wrapped(&format!("Note: {note}"), 0, 6);
    }
    text
}

/// With nothing in it that acts on a terminal: names come from Leases and objects, which others write.
fn fit(story: Story) -> Story {
    let one = |text: String| printable(&text).into_owned();
    let all = |texts: Vec<String>| texts.into_iter().map(one).collect();
    let Story { ip, owner, not_announced_because, pool, advertisements, services, nodes, notes } = story;
    Story {
        ip: one(ip),
        owner: owner.map(|owner| Owner { node: one(owner.node), ..owner }),
        not_announced_because: not_announced_because.map(one),
        pool: pool.map(one),
        advertisements: all(advertisements),
        services: all(services),
        nodes: nodes
            .into_iter()
            .map(|node| NodeStory { node: one(node.node), why: one(node.why), ..node })
            .collect(),
        notes: all(notes),
    }
}

fn table(nodes: &[NodeStory]) -> String {
    let wide = |title: &str, texts: &dyn Fn(&NodeStory) -> String| {
        nodes.iter().map(|node| texts(node).chars().count()).chain([title.len()]).max().unwrap_or(0) + 2
    };
    let role = |node: &NodeStory| match (node.role, node.rank) {
        (Role::Owner, _) => "owner".to_owned(),
        (Role::Could, Some(rank)) => format!("could, {rank}."),
        (Role::Could, None) => "could, later".to_owned(),
        (Role::Cannot, _) => "cannot".to_owned(),
    };
    let (first, second) = (wide("NODE", &|node| node.node.clone()), wide("ROLE", &role));
    let weighted = nodes.iter().any(|node| node.weight.is_some_and(|weight| weight > 0));
    let mut text = format!("{:first$}{:second$}WHY\n", "NODE", "ROLE");
    for node in nodes {
        let weight = node.weight.filter(|_| weighted).map(|weight| format!("; preference {weight}"));
        let why = format!("{}{}", node.why, weight.unwrap_or_default());
        let line = format!("{:first$}{:second$}{why}", node.node, role(node));
        // Beside long names there is no room for a column.
        let indent = if first + second > WIDTH / 2 { 4 } else { first + second };
        text += &wrapped(&line, first + second, indent);
    }
    text
}

/// Broken before [`WIDTH`], at blanks beyond column `from`; further lines are indented.
fn wrapped(text: &str, from: usize, indent: usize) -> String {
    let mut lines = String::new();
    let (head, rest) = text.split_at(text.char_indices().nth(from).map_or(text.len(), |(at, _)| at));
    let mut line = head.to_owned();
    let mut width = line.chars().count();
    for word in rest.split_inclusive(' ') {
        let next = word.trim_end().chars().count();
        if width + next > WIDTH && width > indent {
            lines += line.trim_end();
            lines.push('\n');
            line = " ".repeat(indent);
            width = indent;
        }
        line += word;
        width += word.chars().count();
    }
    lines + line.trim_end() + "\n"
}

fn age(then: Timestamp, now: Timestamp) -> String {
    match now.duration_since(then).as_secs().max(0) {
        seconds @ ..100 => format!("{seconds} s ago"),
        seconds @ ..6000 => format!("{} min ago", seconds / 60),
        seconds @ ..172_800 => format!("{} h ago", seconds / 3600),
        seconds => format!("{} d ago", seconds / 86_400),
    }
}
