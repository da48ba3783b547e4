//! The programs' decisions in words, through aya-log, for people who look for a fault.
//!
//! The level lies in `.rodata`, which is frozen before the programs are loaded: the verifier knows it, and takes out
//! what it switches off, so that a silent program holds no call and no string of this.
//!
//! aya-log's own kernel crate declares `AYA_LOGS` as a legacy map, and one such map makes an object that libbpf (1.0 and
//! later) and bpftool refuse. So its macros, and the record format that [`aya-log`](https://docs.rs/aya-log) reads, are
//! used with a ring buffer declared here.

use core::{hint::black_box, mem::transmute, net::IpAddr};

use announcer_ebpf::{layout::Conflict, packet::Outcome};
use aya_log_ebpf_macros::{debug, trace};

use self::macro_support::{AYA_LOG_LEVEL, Level};

/// What aya-log's macros expect of the crate `aya_log_ebpf`, with a BTF map and silence as the default.
pub(crate) mod macro_support {
    use aya_ebpf::{Global, btf_maps::RingBuf, macros::btf_map};
    pub(crate) use aya_log_common::{
        Argument, DefaultFormatter, DisplayHint, Field, Header, IpFormatter, Level, LogValueLength,
        LowerMacFormatter,
    };

    /// Of 128 KiB while something is logged; the loader makes it as small as can be while nothing is.
    #[btf_map]
    pub(crate) static AYA_LOGS: RingBuf<(), { 128 << 10 }> = RingBuf::new();

    /// 0 is silence, else a [`Level`]. Set by the loader.
    #[unsafe(no_mangle)]
    pub(crate) static AYA_LOG_LEVEL: Global<u8> = Global::new(0);

    #[inline(always)]
    pub(crate) fn level_enabled(level: Level) -> bool {
        super::enabled(level)
    }
}

/// Whether anybody wants lines of this level.
#[inline(always)]
pub(super) fn enabled(level: Level) -> bool {
    level as u8 <= AYA_LOG_LEVEL.load()
}

/// Whether anybody wants to know of requests with this outcome.
#[inline(always)]
pub(super) fn tells(outcome: Outcome) -> bool {
    enabled(if outcome == Outcome::Passed { Level::Trace } else { Level::Debug })
}

#[inline(always)]
pub(super) fn request(outcome: Outcome, ifindex: u32, target: IpAddr, sender: [u8; 6]) {
    let sender = word(sender);
    match target {
        IpAddr::V4(target) => {
            let target = u32::from_ne_bytes(target.octets());
            match outcome {
                Outcome::Replied => answered4(ifindex, target, sender),
                Outcome::Fenced => fenced4(ifindex, target, sender),
                Outcome::Suppressed => suppressed4(ifindex, target, sender),
                Outcome::Passed => passed4(ifindex, target, sender),
            }
        }
        IpAddr::V6(target) => {
            let (high, low) = halves(target.octets());
            match outcome {
                Outcome::Replied => answered6(ifindex, high, low, sender),
                Outcome::Fenced => fenced6(ifindex, high, low, sender),
                Outcome::Suppressed => suppressed6(ifindex, high, low, sender),
                Outcome::Passed => passed6(ifindex, high, low, sender),
            }
        }
    }
}

/// The caller has seen to it that this is no proof.
#[inline(always)]
pub(super) fn conflict(ifindex: u32, conflict: &Conflict) {
    if enabled(Level::Debug) {
        let (high, low) = halves(conflict.vip);
        conflict_with(ifindex, high, low, word(conflict.mac));
    }
}

#[inline(always)]
pub(super) fn malformed(ifindex: u32, sender: [u8; 6]) {
    malformed_from(ifindex, word(sender));
}

// Each line costs the verifier some two thousand instructions: so they are functions of their own, which are checked
// only if something calls them. One line a function, and words as arguments, for all calls together have 512 bytes of
// stack, and the programs take most of it.
macro_rules! lines4 {
    ($($name:ident $level:ident $text:literal)+) => {$(
        #[inline(never)]
        fn $name(ifindex: u32, ip: u32, mac: u64) {
            $level!((), $text, ip.to_ne_bytes(), six(mac), ifindex);
        }
    )+};
}

macro_rules! lines6 {
    ($($name:ident $level:ident $text:literal)+) => {$(
        #[inline(never)]
        fn $name(ifindex: u32, high: u64, low: u64, mac: u64) {
            $level!((), $text, joined(high, low), six(mac), ifindex);
        }
    )+};
}

lines4! {
    answered4 debug "answered ip={:i} mac={:mac} ifindex={}"
    fenced4 debug "fenced ip={:i} mac={:mac} ifindex={}"
    suppressed4 debug "suppressed ip={:i} mac={:mac} ifindex={}"
    passed4 trace "passed ip={:i} mac={:mac} ifindex={}"
}

lines6! {
    answered6 debug "answered ip={:i} mac={:mac} ifindex={}"
    fenced6 debug "fenced ip={:i} mac={:mac} ifindex={}"
    suppressed6 debug "suppressed ip={:i} mac={:mac} ifindex={}"
    passed6 trace "passed ip={:i} mac={:mac} ifindex={}"
    conflict_with debug "conflict ip={:i} mac={:mac} ifindex={}"
}

#[inline(never)]
fn malformed_from(ifindex: u32, mac: u64) {
    debug!((), "malformed mac={:mac} ifindex={}", six(mac), ifindex);
}

#[inline(always)]
fn word([a, b, c, d, e, f]: [u8; 6]) -> u64 {
    u64::from_ne_bytes([a, b, c, d, e, f, 0, 0])
}

#[inline(always)]
fn six(word: u64) -> [u8; 6] {
    let [a, b, c, d, e, f, _, _] = word.to_ne_bytes();
    [a, b, c, d, e, f]
}

#[inline(always)]
fn halves(ip: [u8; 16]) -> (u64, u64) {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = ip;
    (u64::from_ne_bytes([a, b, c, d, e, f, g, h]), u64::from_ne_bytes([i, j, k, l, m, n, o, p]))
}

#[inline(always)]
fn joined(high: u64, low: u64) -> [u8; 16] {
    // In memory, for once: written byte by byte out of registers, it would take six times as much stack.
    let words = black_box([high, low]);
    // SAFETY: both are sixteen bytes of which any value is one.
    unsafe { transmute::<[u64; 2], [u8; 16]>(words) }
}
