use bytes::Bytes;

use super::*;
use crate::wire::frames::{
    arp_probe, dad_solicitation, gratuitous_reply, gratuitous_request, unsolicited_na,
};

const MAC: Mac = Mac([2, 0, 0, 0, 0, 0xaa]);
const VIP4: Ipv4Addr = Ipv4Addr::new(10, 4, 11, 1);
const VIP6: Ipv6Addr = Ipv6Addr::new(0xfd00, 4, 0xb, 0, 0, 0, 0x12ab, 0xcdef);

fn heard4(frame: &[u8]) -> Option<Heard> {
    understand(frame).filter(|(vip, _)| *vip == Vip::from(VIP4)).map(|(_, heard)| heard)
}

fn heard6(frame: &[u8]) -> Option<Heard> {
    understand(frame).filter(|(vip, _)| *vip == Vip::from(VIP6)).map(|(_, heard)| heard)
}

fn changed(frame: &Bytes, at: usize, byte: u8) -> Vec<u8> {
    let mut frame = frame.to_vec();
    frame[at] = byte;
    frame
}

#[test]
fn arp_from_the_vip_is_an_answer() {
    assert_eq!(heard4(&gratuitous_request(MAC, VIP4)), Some(Heard::Answer(MAC)));
    assert_eq!(heard4(&gratuitous_reply(MAC, VIP4)), Some(Heard::Answer(MAC)));
}

#[test]
fn a_probe_for_the_vip_is_no_answer() {
    assert_eq!(heard4(&arp_probe(MAC, VIP4)), Some(Heard::Probe(MAC)));
    assert_eq!(heard6(&dad_solicitation(MAC, VIP6)), Some(Heard::Probe(MAC)));
}

#[test]
fn arp_of_other_addresses_says_nothing() {
    let other = Ipv4Addr::new(10, 4, 11, 2);
    assert_eq!(heard4(&gratuitous_request(MAC, other)), None);
    assert_eq!(heard4(&arp_probe(MAC, other)), None);
}

#[test]
fn an_advertisement_of_the_vip_is_an_answer_by_the_mac_it_names() {
    let na = unsolicited_na(MAC, VIP6, VIP6);
    assert_eq!(heard6(&na), Some(Heard::Answer(MAC)));
    assert_eq!(heard6(&changed(&na, 11, 0xbb)), Some(Heard::Answer(MAC)), "the Ethernet source is a relay's");
    let Some(Heard::Answer(mac)) = heard6(&na[..offset::ND_OPTIONS]) else {
        panic!("no option, still an answer")
    };
    assert_eq!(mac, MAC);
}

#[test]
fn an_advertisement_from_beyond_a_router_says_nothing() {
    assert_eq!(heard6(&changed(&unsolicited_na(MAC, VIP6, VIP6), offset::HOP_LIMIT, 254)), None);
}

#[test]
fn a_neighbours_question_for_the_vip_says_nothing() {
    let question = changed(&dad_solicitation(MAC, VIP6), offset::IPV6_SOURCE, 0xfe);
    assert_eq!(heard6(&question), None);
}

#[test]
fn a_frame_cut_anywhere_says_nothing() {
    let arp = gratuitous_request(MAC, VIP4);
    assert!((0..arp.len()).all(|length| heard4(&arp[..length]).is_none()));
    let na = unsolicited_na(MAC, VIP6, VIP6);
    assert!((0..offset::ND_OPTIONS).all(|length| heard6(&na[..length]).is_none()));
}

#[test]
fn the_other_familys_frames_say_nothing() {
    assert_eq!(heard4(&unsolicited_na(MAC, VIP6, VIP6)), None);
    assert_eq!(heard6(&gratuitous_request(MAC, VIP4)), None);
}
