//! Another host that has an owned VIP: user space is told, nothing is answered, and the stack gets the frame.

use std::collections::BTreeSet;

use announcer::datapath::{Claim, ConflictReader, ConflictSeen};

use crate::support::{
    bench::{VIP4, VIP6},
    let_time_pass,
    rig::{Rig, neighbour, send_datagram},
    sysctl, vip,
};

in_every_mode!(
    a_foreign_announcement_is_told_and_reaches_the_stack,
    a_foreign_answer_is_told_and_reaches_the_stack
);

/// The kinds of claim seen since last asked; all of one VIP, by the client.
fn claims(rig: &Rig, reader: &mut ConflictReader, of: &str) -> Vec<u32> {
    let kinds = reader.drain().into_iter().map(|seen| {
        let ConflictSeen { at: _, link, vip: claimed, mac, claim } = seen;
        assert_eq!((link, claimed, mac), (rig.left.id, vip(of), rig.right.mac));
        match claim {
            Claim::ArpRequest => 1,
            Claim::ArpReply => 2,
            Claim::NeighbourAdvertisement => 136,
            Claim::Unknown(code) => panic!("claim {code}"),
        }
    });
    kinds.collect::<BTreeSet<_>>().into_iter().collect()
}

fn a_foreign_announcement_is_told_and_reaches_the_stack(mut rig: Rig) {
    // The stack learns from announcements, so that its table tells whether it got them.
    sysctl("net/ipv4/conf/left/arp_accept", "1");
    let mut reader = rig.datapath.events().expect("a ring").expect("the first time");
    rig.client(&format!("ip addr add {VIP4}/32 dev right"));
    let mut tcpdump = rig.tcpdump();
    for (form, claim) in [("-U", 1), ("-A", 2)] {
        rig.client(&format!("arping {form} -c 1 -w 1 -I right -s {VIP4} {VIP4}"));
        let seen = rig.settled(&mut tcpdump);
        assert!(!seen.contains(&rig.is_at(VIP4)), "arping {form}: {seen}");
        assert_eq!(claims(&rig, &mut reader, VIP4), [claim], "arping {form}");
        let_time_pass();
        let learnt = neighbour("left", VIP4, &rig.right.mac.to_string());
        assert!(learnt.contains("STALE"), "arping {form}: {learnt}");
        crate::support::ip(&format!("neigh del {VIP4} dev left"));
    }
    assert_eq!((rig.count(VIP4).requests, rig.count(VIP4).conflicts), (0, 2));
}

fn a_foreign_answer_is_told_and_reaches_the_stack(mut rig: Rig) {
    let mut reader = rig.datapath.events().expect("a ring").expect("the first time");
    rig.client(&format!("ip addr add {VIP4}/32 dev right && ip addr add {VIP6}/128 dev right nodad"));
    for (address, claim) in [(VIP4, 2), (VIP6, 136)] {
        send_datagram(address);
        let learnt = neighbour("left", address, "REACHABLE");
        assert!(learnt.contains(&rig.right.mac.to_string()), "{learnt}");
        assert_eq!(claims(&rig, &mut reader, address), [claim], "{address}");
    }
}
