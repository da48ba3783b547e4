//! One question to the driver: does the NIC take VLAN tags out of received frames?

use std::{
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

const SIOCETHTOOL: libc::Ioctl = 0x8946;
const ETHTOOL_GFLAGS: u32 = 0x25;
const ETH_FLAG_RXVLAN: u32 = 1 << 8;

#[repr(C)]
struct EthtoolValue {
    command: u32,
    data: u32,
}

#[repr(C)]
struct InterfaceRequest {
    name: [u8; 16],
    data: *mut EthtoolValue,
    /// `struct ifreq` is 40 bytes long.
    rest: [u64; 2],
}

/// Whether rx-vlan-offload is on for the interface, so that XDP never sees a tag.
///
/// # Errors
/// No such interface, or the driver does not know (`EOPNOTSUPP`).
pub(in super::super) fn rx_vlan_offload(name: &str) -> io::Result<bool> {
    // SAFETY: a system call without pointers.
    let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor, for us alone.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    let mut value = EthtoolValue { command: ETHTOOL_GFLAGS, data: 0 };
    let mut request = InterfaceRequest { name: [0; 16], data: &raw mut value, rest: [0; 2] };
    // One byte less than the field: the kernel wants a terminated string.
    for (to, from) in request.name[..15].iter_mut().zip(name.bytes()) {
        *to = from;
    }
    // SAFETY: `request` has the size of `struct ifreq`, and its pointer is to a live value that the kernel may write.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL, &raw mut request) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(value.data & ETH_FLAG_RXVLAN != 0) }
}
