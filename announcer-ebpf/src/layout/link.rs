//! `LINKS`, `LINKS_BEYOND` and `MACS`: which announcing link a frame came in by, and which hardware addresses are ours.

/// Ingress ifindexes below this are looked up in the array `LINKS`; higher ones and VLANs in the hash `LINKS_BEYOND`.
pub const LINKS_ARRAY_ENTRIES: u32 = 64;

/// Capacity that `LINKS_BEYOND` and `MACS` begin with. User space makes larger ones when it needs them.
pub const LINKS_HASH_ENTRIES: u32 = 1024;

/// Key of `LINKS_BEYOND`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct LinkKey {
    /// ifindex of the device that the program runs on.
    pub ingress_ifindex: u32,
    /// 802.1Q VLAN id of the frame, 0 for none.
    pub vlan_id: u32,
}

/// Value of `LINKS` and `LINKS_BEYOND`: the link that announces for what comes in here.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct LinkEntry {
    /// ifindex of the announcing netdev (a bond for its slaves, a VLAN device for its tag); 0: nothing is announced.
    pub link_id: u32,
    /// The hardware address that answers name.
    pub mac: [u8; 6],
    /// None is defined yet: 0.
    pub flags: u16,
}

/// Key of `MACS`, the hardware addresses of this node's announcing links; the value is the link id.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct MacKey {
    /// The hardware address.
    pub mac: [u8; 6],
    /// Always 0.
    pub zero: [u8; 2],
}

const _: () = assert!(size_of::<LinkKey>() == 8 && align_of::<LinkKey>() == 4);
const _: () = assert!(size_of::<LinkEntry>() == 12 && align_of::<LinkEntry>() == 4);
const _: () = assert!(size_of::<MacKey>() == 8 && align_of::<MacKey>() == 1);
