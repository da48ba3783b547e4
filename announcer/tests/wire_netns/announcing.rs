//! Announcements, as a Linux client's neighbour table takes them.

use std::{
    collections::BTreeMap,
    num::NonZeroU32,
    sync::mpsc,
    time::{Duration, Instant},
};

use announcer::{
    vocabulary::{Link, Vip},
    wire::{
        announcements::Schedule,
        frames,
        sender::{Sender, Transmit, send_due},
    },
};
use bytes::Bytes;
use futures::StreamExt;
use rtnetlink::{
    MulticastGroup, new_multicast_connection,
    packet_core::NetlinkPayload,
    packet_route::{
        RouteNetlinkMessage,
        neighbour::{NeighbourAddress, NeighbourAttribute},
    },
};

use crate::lan::Lan;

const OLD: &str = "02:00:00:00:00:aa";

fn vip(text: &str) -> Vip {
    text.parse().expect("an address")
}

/// Gives the client an entry for `vip` with the MAC of another node, sends `frames` from the node, and returns what the
/// neighbour table says of `vip` at the first news of it.
fn neighbour_after(lan: &Lan, vip: Vip, frames: Vec<Bytes>) -> String {
    let (listening, ready) = mpsc::channel();
    lan.client.ip(&format!("neigh replace {vip} lladdr {OLD} dev eth0 nud stale"));
    let table = lan.client.start_async(move || async move {
        let (connection, _, mut news) = new_multicast_connection(&[MulticastGroup::Neigh]).expect("netlink");
        let connection = tokio::spawn(connection);
        listening.send(()).expect("a sender");
        loop {
            let (message, _) = news.next().await.expect("news");
            if let NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewNeighbour(entry)) = message.payload
                && entry.attributes.iter().any(|attribute| destination(attribute) == Some(vip))
            {
                connection.abort();
                return crate::lan::ip(&format!("neigh show {vip}"));
            }
        }
    });
    ready.recv().expect("a listener");
    let link = lan.node.link("eth0");
    lan.node.run(move || {
        let sender = Sender::new().expect("CAP_NET_RAW");
        frames.iter().for_each(|frame| sender.send(link.id, frame).expect("sent"));
    });
    table.wait()
}

fn destination(attribute: &NeighbourAttribute) -> Option<Vip> {
    match attribute {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(ip)) => Some((*ip).into()),
        NeighbourAttribute::Destination(NeighbourAddress::Inet6(ip)) => Some((*ip).into()),
        _ => None,
    }
}

#[test]
fn a_stale_entry_moves_at_the_first_frame_of_an_announcement() {
    let lan = Lan::new();
    let link = lan.node.link("eth0");
    for vip in ["10.4.11.1", "fd00:4::b:1"].map(vip) {
        let mut frames = frames::announcement(vip, &link);
        frames.truncate(1);
        let entry = neighbour_after(&lan, vip, frames);
        assert!(entry.contains(&format!("lladdr {} ", link.mac)), "{entry}");
    }
}

#[test]
fn each_arp_form_alone_moves_an_entry_that_was_changed_this_second() {
    let lan = Lan::new();
    let link = lan.node.link("eth0");
    let vip = vip("10.4.11.1");
    for form in frames::announcement(vip, &link) {
        let entry = neighbour_after(&lan, vip, vec![form]);
        assert!(entry.contains(&format!("lladdr {} ", link.mac)), "{entry}");
    }
}

#[test]
fn an_advertisement_from_a_link_without_ipv6_moves_an_entry_too() {
    let lan = Lan::new();
    let link = Link { ipv6_source: None, ..lan.node.link("eth0") };
    let vip = vip("fd00:4::b:1");
    let entry = neighbour_after(&lan, vip, frames::announcement(vip, &link));
    assert!(entry.contains(&format!("lladdr {} ", link.mac)), "{entry}");
}

#[test]
fn what_is_due_is_sent_on_a_live_link_and_kept_for_a_dead_one() {
    let lan = Lan::new();
    let link = lan.node.link("eth0");
    let (id, vip, now) = (link.id, vip("10.4.11.1"), Instant::now());
    let mut schedule = Schedule::new(NonZeroU32::new(1000).expect("a rate"), Duration::ZERO, 1);
    schedule.announce(vip, id, now);
    // The view is behind: it says carrier while the link is down already.
    lan.node.ip("link set eth0 down");
    let (mut schedule, first) = lan.node.run(move || {
        let links = BTreeMap::from([(id, link)]);
        let sender = Sender::new().expect("CAP_NET_RAW");
        let sent = send_due(&sender, &mut schedule, now, &links, |_, _| true);
        assert_eq!(sent.postponed, [(vip, id)], "{sent:?}");
        (schedule, links)
    });
    lan.node.ip("link set eth0 up");
    schedule.link_up(id, now);
    let sent = lan.node.run(move || {
        let sender = Sender::new().expect("CAP_NET_RAW");
        send_due(&sender, &mut schedule, now + Duration::from_secs(1), &first, |_, _| true)
    });
    assert_eq!((sent.frames.get(&vip), sent.first), (Some(&2), vec![(vip, id)]));
}
