//! `SESSION`: under which lease this node answers, and until when.

/// The version of everything in [`crate::layout`]. An agent that finds another one never reads the rest.
pub const LAYOUT_VERSION: u32 = 2;

/// The one value of `SESSION`, a memory-mappable array: user space stores the deadline with one atomic write.
///
/// `layout_version` keeps its place in every future layout.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Session {
    /// Nanoseconds of `CLOCK_BOOTTIME` until which owned VIPs are answered; 0 is silence.
    pub deadline_boot_ns: u64,
    /// [`LAYOUT_VERSION`] of the agent that made this map.
    pub layout_version: u32,
    /// What becomes of requests for a VIP that another node owns: one of [`elsewhere`].
    pub elsewhere: u32,
    /// The session's epoch. An entry is answered for only under the same epoch.
    pub epoch: u64,
    /// UID of the session Lease, all zero for a standalone agent. User space's; the programs don't read it.
    pub uid: [u8; 16],
    /// This boot of this machine (`/proc/sys/kernel/random/boot_id`). User space's; the programs don't read it.
    pub boot_id: [u8; 16],
}

/// Values of [`Session::elsewhere`]; anything else counts as [`PASSED`](elsewhere::PASSED).
pub mod elsewhere {
    /// The request goes on to this node's own stack.
    pub const PASSED: u32 = 0;
    /// The request is dropped, so that this node's stack stays silent although the VIP may be on a local device.
    pub const DROPPED: u32 = 1;
}

const _: () = assert!(size_of::<Session>() == 56 && align_of::<Session>() == 8);
