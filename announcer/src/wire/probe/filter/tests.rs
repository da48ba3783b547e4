use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::{prelude::*, sample::Index};

use super::*;
use crate::{
    vocabulary::Mac,
    wire::{
        frames::{arp_probe, dad_solicitation, gratuitous_reply, gratuitous_request, unsolicited_na},
        probe::ear::understand,
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn the_filter_passes_exactly_what_is_understood(v4: [u8; 4], v6: [u8; 16], change: Option<(Index, u8)>) {
        for mut frame in frames(v4.into(), v6.into()) {
            if let Some((at, byte)) = change {
                let at = at.index(frame.len());
                frame[at] = byte;
            }
            for vip in [Vip::from(Ipv4Addr::from(v4)), Vip::from(Ipv6Addr::from(v6))] {
                let passed = accepts(&program(alternatives(vip).into_iter()), &frame, 0);
                prop_assert_eq!(passed, understand(&frame).is_some_and(|(of, _)| of == vip), "{} {:02x?}", vip, frame);
            }
        }
    }

    #[test]
    fn the_filter_keeps_nothing_back_that_is_understood_although_cut(v4: [u8; 4], v6: [u8; 16], cut: Index) {
        for mut frame in frames(v4.into(), v6.into()) {
            frame.truncate(cut.index(frame.len()));
            for vip in [Vip::from(Ipv4Addr::from(v4)), Vip::from(Ipv6Addr::from(v6))] {
                prop_assert!(accepts(&program(alternatives(vip).into_iter()), &frame, 0) || understand(&frame).is_none_or(|(of, _)| of != vip));
            }
        }
    }

    #[test]
    fn frames_about_another_vip_never_pass(v4: [u8; 4], v6: [u8; 16], other4: [u8; 4], other6: [u8; 16]) {
        prop_assume!(v4 != other4 && v6 != other6 && v4 != [0; 4]);
        for frame in frames(other4.into(), other6.into()) {
            prop_assert!(!accepts(&program(alternatives(Ipv4Addr::from(v4).into()).into_iter()), &frame, 0));
            prop_assert!(!accepts(&program(alternatives(Vip::from(Ipv6Addr::from(v6))).into_iter()), &frame, 0));
        }
    }
}

#[test]
fn a_frame_of_another_vlan_or_for_another_host_does_not_pass() {
    let vip = Ipv4Addr::new(10, 4, 11, 1);
    let frame = gratuitous_request(MAC, vip);
    assert!(accepts(&program(alternatives(vip.into()).into_iter()), &frame, libc::PACKET_BROADCAST));
    assert!(!accepts(&program(alternatives(vip.into()).into_iter()), &frame, libc::PACKET_OTHERHOST));
}
