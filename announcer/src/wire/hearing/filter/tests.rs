use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::{prelude::*, sample::Index};

use super::*;
use crate::{
    vocabulary::Mac,
    wire::{
        frames::{arp_probe, dad_solicitation, gratuitous_reply, gratuitous_request, unsolicited_na},
        hearing::frame::understand,
    },
};

const MAC: Mac = Mac([2, 0, 0, 0, 0, 0xaa]);

/// What the kernel's interpreter does with these few instructions: a load beyond the frame rejects it.
fn accepts(program: &[Instruction], frame: &[u8], packet_type: u8) -> bool {
    let (mut next, mut accumulator) = (0, 0);
    loop {
        let Instruction { code, if_equal, if_not, operand } = program[next];
        next += 1;
        match code & 7 {
            libc::BPF_LD if operand.cast_signed() == libc::SKF_AD_OFF + libc::SKF_AD_PKTTYPE => {
                accumulator = packet_type.into();
            }
            libc::BPF_LD => {
                let bytes = match code & 0x18 {
                    libc::BPF_B => 1,
                    libc::BPF_H => 2,
                    _ => 4,
                };
                let Some(field) = frame.get(operand as usize..operand as usize + bytes) else { return false };
                accumulator = field.iter().fold(0, |value, byte| value << 8 | u32::from(*byte));
            }
            libc::BPF_JMP => next += usize::from(if accumulator == operand { if_equal } else { if_not }),
            _ => return operand != 0,
        }
    }
}

/// Frames that speak of `v4` or `v6`.
fn frames(v4: Ipv4Addr, v6: Ipv6Addr) -> [Vec<u8>; 5] {
    [
        gratuitous_request(MAC, v4),
        gratuitous_reply(MAC, v4),
        arp_probe(MAC, v4),
        unsolicited_na(MAC, v6, v6),
        dad_solicitation(MAC, v6),
    ]
    .map(|frame| frame.to_vec())
}

fn passes(interest: Interest, frame: &[u8]) -> bool {
    accepts(&program(alternatives(interest)), frame, 0)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn uses_are_exactly_what_is_understood(v4: [u8; 4], v6: [u8; 16], change: Option<(Index, u8)>) {
        prop_assume!(Ipv6Addr::from(v6).to_ipv4_mapped().is_none());
        for mut frame in frames(v4.into(), v6.into()) {
            if let Some((at, byte)) = change {
                let at = at.index(frame.len());
                frame[at] = byte;
            }
            prop_assert_eq!(passes(Interest::Uses, &frame), understand(&frame).is_some(), "{:02x?}", frame);
        }
    }

    #[test]
    fn nothing_is_kept_back_that_is_understood_although_cut(v4: [u8; 4], v6: [u8; 16], cut: Index) {
        for mut frame in frames(v4.into(), v6.into()) {
            frame.truncate(cut.index(frame.len()));
            prop_assert!(passes(Interest::Uses, &frame) || understand(&frame).is_none());
        }
    }

    #[test]
    fn answers_are_arp_replies_and_advertisements(v4: [u8; 4], v6: [u8; 16]) {
        let passed = frames(v4.into(), v6.into()).map(|frame| passes(Interest::Answers, &frame));
        prop_assert_eq!(passed, [false, true, false, true, false]);
    }
}

#[test]
fn a_filter_is_as_long_for_any_number_of_addresses() {
    // What 20 480 bytes of `optmem_max` hold, with much to spare: each load becomes a dozen instructions of 8 bytes.
    assert!(program(alternatives(Interest::Uses)).len() < 40);
    assert!(program(alternatives(Interest::Answers)).len() < 40);
}

#[test]
fn a_frame_of_another_vlan_or_for_another_host_does_not_pass() {
    let frame = gratuitous_reply(MAC, Ipv4Addr::new(10, 4, 11, 1));
    for interest in [Interest::Uses, Interest::Answers] {
        let program = program(alternatives(interest));
        assert!(accepts(&program, &frame, libc::PACKET_BROADCAST));
        assert!(!accepts(&program, &frame, libc::PACKET_OTHERHOST));
    }
}
