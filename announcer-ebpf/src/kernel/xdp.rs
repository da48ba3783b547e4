//! XDP: native in the driver, or generic in front of the stack. The answer leaves by `XDP_TX`.

use announcer_ebpf::{
    layout::PROOF_METADATA,
    packet::{Frame, Ingress, Verdict, handle},
};
use aya_ebpf::{
    bindings::{xdp_action, xdp_md},
    helpers::{bpf_xdp_adjust_tail, bpf_xdp_get_buff_len},
    macros::xdp,
    programs::XdpContext,
};

use super::maps::Maps;

/// Answers for owned VIPs in the driver (`frags`: with jumbo frames, drivers demand it; an ARP or ND message is never in
/// fragments).
#[xdp(frags)]
pub fn announcer_xdp(context: XdpContext) -> u32 {
    run(context)
}

/// The same as generic XDP, without `frags`: for those the kernel copies packets, and forgets in the copy where the
/// Ethernet header is (Linux 6.18). Programs in TCX and clsact would find none.
#[xdp]
pub fn announcer_xdp_generic(context: XdpContext) -> u32 {
    run(context)
}

#[inline(always)]
fn run(context: XdpContext) -> u32 {
    let ingress = Ingress { ifindex: context.ingress_ifindex() as u32, vlan_id: None };
    let mut maps = Maps { ingress, is_proof: || is_proof(&context) };
    match handle(&mut XdpFrame { md: context.ctx }, &mut maps) {
        Verdict::Pass => xdp_action::XDP_PASS,
        Verdict::Drop => xdp_action::XDP_DROP,
        Verdict::Answer => xdp_action::XDP_TX,
    }
}

#[inline(always)]
fn is_proof(context: &XdpContext) -> bool {
    let metadata = context.metadata();
    if metadata + size_of::<u64>() > context.metadata_end() {
        return false;
    }
    // SAFETY: checked against the metadata's end in the line above; metadata is aligned to 4 bytes, which this read
    // does not rely on.
    unsafe { (metadata as *const u64).read_unaligned() == PROOF_METADATA }
}

/// Bytes at an even address: packet data begins at one, and every offset read here is even or a single byte.
#[repr(C, align(2))]
struct Even<const N: usize>([u8; N]);

struct XdpFrame {
    md: *mut xdp_md,
}

impl XdpFrame {
    /// A pointer to `N` readable bytes at `offset`.
    #[inline(always)]
    fn at<const N: usize>(&self, offset: usize) -> Option<usize> {
        // SAFETY: the context is the kernel's, valid throughout the run.
        let (data, end) = unsafe { ((*self.md).data as usize, (*self.md).data_end as usize) };
        (data + offset + N <= end).then_some(data + offset)
    }
}

impl Frame for XdpFrame {
    #[inline(always)]
    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        let at = self.at::<N>(offset)?;
        // SAFETY: `at` checked the end; a packet's bytes have any value, and nothing else writes them meanwhile.
        Some(unsafe {
            if N.is_multiple_of(2) { (*(at as *const Even<N>)).0 } else { *(at as *const [u8; N]) }
        })
    }

    #[inline(always)]
    fn write<const N: usize>(&mut self, offset: usize, bytes: &[u8; N]) -> Option<()> {
        let at = self.at::<N>(offset)?;
        // SAFETY: as for `read`; XDP owns the packet.
        unsafe {
            if N.is_multiple_of(2) {
                (*(at as *mut Even<N>)).0 = *bytes
            } else {
                *(at as *mut [u8; N]) = *bytes
            }
        }
        Some(())
    }

    #[inline(always)]
    fn length(&self) -> usize {
        // SAFETY: the context is the kernel's.
        unsafe { bpf_xdp_get_buff_len(self.md) as usize }
    }

    #[inline(always)]
    fn resize(&mut self, length: usize) -> Option<()> {
        let now = self.length();
        if now == length {
            return Some(());
        }
        // SAFETY: the context is the kernel's; every pointer into the packet is made anew after this.
        let result = unsafe { bpf_xdp_adjust_tail(self.md, (length as i32) - (now as i32)) };
        (result == 0).then_some(())
    }
}
