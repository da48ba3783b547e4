//! 802.1Q tags. This kernel may have no VLAN devices: a bridge plays one, which to the program is a number and a
//! hardware address. Frames are tagged for real, and tcpdump reads the tags.

use announcer::{
    datapath::{Attachment, Mode},
    vocabulary::Link,
};

use crate::support::{
    bench::{VIP4, VIP6},
    foreign::Foreign,
    frames::{Arp, CLIENT, Ndp, tagged},
    ip, link,
    offload::set_vlan_offload,
    owning,
    rig::Rig,
};

#[test]
fn a_tag_comes_back_only_where_its_vlan_is_announced_tcx() {
    tags(Rig::new(Mode::Tcx), Attachment::Tcx);
}

#[test]
fn a_tag_comes_back_only_where_its_vlan_is_announced_generic() {
    tags(Rig::new(Mode::Generic), Attachment::Generic);
}

#[test]
fn a_tag_comes_back_only_where_its_vlan_is_announced_native() {
    // `auto`: the VLAN device itself has no native XDP, and needs none while the device below it carries the program.
    tags(Rig::auto_on_a_nic(), Attachment::Native);
}

/// VLAN 5 of `left`, up.
fn vlan_of(left: &Link) -> Link {
    ip("link add left.5 type bridge");
    ip("link set left.5 up");
    Link { vlan: Some((left.id, 5)), ..link("left.5") }
}

fn tags(mut rig: Rig, attachment: Attachment) {
    let vlan = vlan_of(&rig.left);
    assert_eq!(rig.datapath.attachments()[&rig.left.id].0, attachment);
    let behind = Foreign::counting_tcx(rig.left.id.0, CLIENT);
    let (arp, ndp) = (Arp::request(VIP4).bytes(), Ndp::solicitation(VIP6).bytes());
    let mut tcpdump = rig.tcpdump();
    let (untagged, with_tag) = (rig.is_at(VIP4), format!("Reply {VIP4} is-at {}", vlan.mac));

    // Not announced: tagged requests are passed, also when the VLAN device has come and gone.
    for announced in [false, true, false] {
        let links = [vec![rig.left.clone()], if announced { vec![vlan.clone()] } else { vec![] }].concat();
        rig.datapath.set_links(&links).expect("followed");
        let on = if announced { vlan.id } else { rig.left.id };
        rig.datapath.apply(&owning(&[VIP4, VIP6], &[on])).expect("applied");
        for offload in [true, false] {
            // A tag in the data of the frame, or beside it: answers must carry it either way.
            set_vlan_offload("left", offload);
            let before = behind.count();
            for vlan_id in [5, 5 | 0x6000, 6] {
                let wanted = announced && vlan_id & 0xfff == 5;
                let what = format!("announced {announced}, offload {offload}, tag {vlan_id:#x}");
                let tag = format!("vlan {}, p {}", vlan_id & 0xfff, vlan_id >> 13);
                rig.send([tagged(&arp, vlan_id), tagged(&ndp, vlan_id)]);
                if wanted {
                    tcpdump.until(&format!("who-has {VIP4}"));
                    let seen = tcpdump.until(&with_tag) + &tcpdump.until(&Rig::target_option(vlan.mac));
                    let heads = seen.lines().filter(|line| line.starts_with(&vlan.mac.to_string()));
                    let heads: Vec<_> = heads.collect();
                    assert_eq!(heads.len(), 2, "{what}: {seen}");
                    assert!(heads.iter().all(|line| line.contains(&tag)), "{what}: {seen}");
                }
                let seen = rig.settled(&mut tcpdump);
                assert!(wanted || !seen.contains(&format!("Reply {VIP4} is-at")), "{what}: {seen}");
                assert!(wanted || !seen.contains("neighbor advertisement"), "{what}: {seen}");
            }
            let passed = if announced { 2 } else { 6 };
            // The two questions with which each of the three rounds settled are passed, too.
            assert_eq!(behind.count() - before, passed + 6, "announced {announced}, offload {offload}");
        }
        if !announced {
            rig.send([arp.clone()]);
            tcpdump.until(&untagged);
        }
    }
}

in_every_mode!(a_priority_tag_belongs_to_the_device_itself);

fn a_priority_tag_belongs_to_the_device_itself(rig: Rig) {
    let mut tcpdump = rig.tcpdump();
    rig.send([tagged(&Arp::request(VIP4).bytes(), 3 << 13)]);
    let answer = tcpdump.until(&rig.is_at(VIP4));
    let answer = answer.lines().next_back().expect("the answer");
    assert!(answer.contains("vlan 0, p 3"), "{answer}");
    rig.send([tagged(&Ndp::solicitation(VIP6).bytes(), 3 << 13)]);
    tcpdump.until(&Rig::target_option(rig.left.mac));
    assert_eq!((rig.count(VIP4).replies, rig.count(VIP6).replies), (1, 1));
}
