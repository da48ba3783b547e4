//! TCX ingress, at the head of the chain: for drivers without XDP, and beside somebody else's XDP program.

use announcer_ebpf::{
    layout::PROOF_CB,
    packet::{Frame, Ingress, Verdict, handle},
};
use aya_ebpf::{
    bindings::{__sk_buff, bpf_hdr_start_off::BPF_HDR_START_MAC},
    helpers::{
        bpf_redirect, bpf_skb_change_head, bpf_skb_change_tail, bpf_skb_load_bytes_relative,
        bpf_skb_pull_data, bpf_skb_store_bytes,
    },
    macros::classifier,
    programs::TcContext,
};

use super::maps::Maps;

/// `enum tcx_action_base`: the next program of the chain runs. `TC_ACT_OK` would end the chain.
const TCX_NEXT: i32 = -1;
const TCX_DROP: i32 = 2;

const ETHERTYPE_8021Q: u32 = (0x8100_u16).to_be() as u32;
const ETHERTYPE_ARP: u32 = (0x0806_u16).to_be() as u32;
const ETHERTYPE_IPV6: u32 = (0x86dd_u16).to_be() as u32;
/// Ethernet and an ARP packet.
const ARP: usize = 14 + 28;
/// Ethernet, tag, IPv6 and the type of the ICMPv6 message; also a whole ARP packet with a tag.
const HEADERS: u32 = 14 + 4 + 40 + 1;
/// All that is ever read.
const LONGEST: u32 = 14 + 4 + 40 + announcer_ebpf::packet::MAX_NDP_BYTES as u32;

/// Answers for owned VIPs; the answer leaves by `bpf_redirect` to the device it came in by.
#[classifier]
pub fn announcer_tcx(context: TcContext) -> i32 {
    let skb = context.skb.skb;
    // SAFETY: the context is the kernel's, valid throughout the run.
    let protocol = unsafe { (*skb).protocol };
    if protocol != ETHERTYPE_ARP && protocol != ETHERTYPE_IPV6 && protocol != ETHERTYPE_8021Q {
        return TCX_NEXT;
    }
    // SAFETY: as above.
    let (ifindex, vlan_present, vlan_proto, vlan_tci) =
        unsafe { ((*skb).ifindex, (*skb).vlan_present, (*skb).vlan_proto, (*skb).vlan_tci) };
    if vlan_present != 0 && vlan_proto != ETHERTYPE_8021Q {
        return TCX_NEXT;
    }
    let vlan_id = (vlan_present != 0).then_some((vlan_tci & 0x0fff) as u16);
    let mut frame = SkbFrame { skb };
    frame.put_header_back(protocol);
    frame.make_linear(protocol);
    let mut maps = Maps { ingress: || Ingress { ifindex, vlan_id }, is_proof: || is_proof(skb) };
    match handle(&mut frame, &mut maps) {
        Verdict::Pass => TCX_NEXT,
        Verdict::Drop => TCX_DROP,
        // SAFETY: a helper that takes an ifindex; the tag, if one was taken out, goes back in on the way out.
        Verdict::Answer => unsafe { bpf_redirect(ifindex, 0) as i32 },
    }
}

#[inline(always)]
fn is_proof(skb: *const __sk_buff) -> bool {
    let [a, b, c, d, e] = PROOF_CB;
    // SAFETY: the context is the kernel's. Word by word and volatile: it may be read in words at constant offsets
    // only, and the compiler would make one `memcmp` of it.
    let word = |n: usize| unsafe { (&raw const (*skb).cb[n]).read_volatile() };
    word(0) == a && word(1) == b && word(2) == c && word(3) == d && word(4) == e
}

struct SkbFrame {
    skb: *mut __sk_buff,
}

impl SkbFrame {
    /// A packet that somebody's generic XDP program has copied comes without its Ethernet header in the data: the
    /// copy's `mac_len` is 0 (Linux 6.18, programs with `frags`). Neighbour messages get it back, for us and for
    /// whoever comes behind us.
    #[inline(always)]
    fn put_header_back(&mut self, protocol: u32) {
        let is_protocol = |bytes: [u8; 2]| u32::from(u16::from_ne_bytes(bytes)) == protocol;
        if self.read::<2>(12).is_none_or(is_protocol) {
            return;
        }
        // Where the header is missing, an IPv6 packet begins at 0.
        if protocol == ETHERTYPE_IPV6 && self.read::<1>(6) != Some([58]) {
            return;
        }
        let mut header = [0_u8; 14];
        // SAFETY: the context is the kernel's, and `header` has room for 14 bytes; pointers into the packet are made
        // after this only.
        unsafe {
            let to = header.as_mut_ptr().cast();
            if bpf_skb_load_bytes_relative(self.skb.cast(), 0, to, 14, BPF_HDR_START_MAC) != 0 {
                return;
            }
            let [.., high, low] = header;
            if !is_protocol([high, low]) || bpf_skb_change_head(self.skb, 14, 0) != 0 {
                return;
            }
        }
        // The kernel has zeroed the 14 bytes, which can be written then.
        self.write(0, &header);
    }

    /// Moves the headers into linear memory, where a driver has left them in fragments, and all of a neighbour message,
    /// whose checksum needs it. Only constant lengths are compared: without CAP_PERFMON a program may not learn how far
    /// one pointer is from another.
    #[inline(always)]
    fn make_linear(&mut self, protocol: u32) {
        // SAFETY: the context is the kernel's; pointers into the packet are made after this only.
        unsafe {
            let (data, end) = ((*self.skb).data as usize, (*self.skb).data_end as usize);
            let length = (*self.skb).len;
            if length < HEADERS {
                if data + ARP > end {
                    bpf_skb_pull_data(self.skb, length);
                }
            } else if data + HEADERS as usize > end {
                bpf_skb_pull_data(self.skb, HEADERS);
            }
            let is_neighbours = match protocol {
                ETHERTYPE_IPV6 => self.is_neighbour_message::<14>(),
                ETHERTYPE_8021Q => self.is_neighbour_message::<18>(),
                _ => false,
            };
            if is_neighbours && length < LONGEST {
                bpf_skb_pull_data(self.skb, length);
            }
        }
    }

    /// Whether an IPv6 header at `AT` is followed by a Neighbour Solicitation or Advertisement.
    #[inline(always)]
    fn is_neighbour_message<const AT: usize>(&self) -> bool {
        self.read::<1>(AT + 6) == Some([58]) && matches!(self.read::<1>(AT + 40), Some([135 | 136]))
    }
}

/// Bytes at an even address: packet data begins at one, and every offset read here is even or a single byte.
#[repr(C, align(2))]
struct Even<const N: usize>([u8; N]);

impl Frame for SkbFrame {
    #[inline(always)]
    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        // SAFETY: the context is the kernel's, and the end is checked before the packet is read.
        unsafe {
            let (data, end) = ((*self.skb).data as usize, (*self.skb).data_end as usize);
            if data + offset + N > end {
                return None;
            }
            let at = data + offset;
            Some(if N.is_multiple_of(2) { (*(at as *const Even<N>)).0 } else { *(at as *const [u8; N]) })
        }
    }

    #[inline(always)]
    fn write<const N: usize>(&mut self, offset: usize, bytes: &[u8; N]) -> Option<()> {
        // By helper and not through the pointer: a program that writes directly gets a prologue that copies every
        // cloned packet of the device, answered or not.
        // SAFETY: `bytes` is `N` readable bytes.
        let result =
            unsafe { bpf_skb_store_bytes(self.skb, offset as u32, bytes.as_ptr().cast(), N as u32, 0) };
        (result == 0).then_some(())
    }

    #[inline(always)]
    fn length(&self) -> usize {
        // SAFETY: the context is the kernel's.
        unsafe { (*self.skb).len as usize }
    }

    #[inline(always)]
    fn resize(&mut self, length: usize) -> Option<()> {
        if self.length() == length {
            return Some(());
        }
        // SAFETY: the context is the kernel's; every pointer into the packet is made anew after this.
        (unsafe { bpf_skb_change_tail(self.skb, length as u32, 0) } == 0).then_some(())
    }
}
