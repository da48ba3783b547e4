//! What lies in the BPF maps, byte for byte: a public interface between the kernel programs, every agent that adopts
//! them and everyone who looks with `bpftool`.
//!
//! Named `repr(C)` fields, units in their names, plain integers where any bit pattern may be read. Addresses are in
//! network order, all else in host order. Any change of a size, an order or a meaning raises [`LAYOUT_VERSION`].

mod filter;
mod link;
mod session;
pub mod shown;
#[cfg(feature = "user")]
mod user;
mod vip;

pub use self::{
    filter::{FILTER_WORDS, FilterBit},
    link::{LINKS_ARRAY_ENTRIES, LINKS_HASH_ENTRIES, LinkEntry, LinkKey, MacKey},
    session::{LAYOUT_VERSION, Session, elsewhere},
    vip::{
        BETWEEN_EVENTS_NS, COUNTER_SLOTS, Conflict, Counters, EVENTS_BYTES, NODE_SLOT, TOLD_ENTRIES,
        VIPS_ENTRIES, Vip4Key, Vip6Key, VipEntry, claim, role,
    },
};

/// Eight bytes of XDP metadata that mark a test run as a proof (`BPF_PROG_TEST_RUN` with `ctx_in`): counters and
/// events are left alone. No remote host can set metadata, and no driver makes these.
pub const PROOF_METADATA: u64 = 0xa220_07ce_5eed_0001;

/// The same mark in `__sk_buff.cb` for the TCX program. All five words: `cb` of a received packet holds what driver
/// and GRO left there.
pub const PROOF_CB: [u32; 5] = [0xa220_07ce, 0x5eed_0001, 0x70c0_ffee, 0x0dd5_e1f5, 0x1a7e_57a1];
