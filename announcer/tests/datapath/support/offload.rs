//! What `ethtool -K … rxvlan … txvlan …` does, without ethtool.

use std::os::fd::AsRawFd;

use socket2::{Domain, Socket, Type};

#[repr(C)]
struct Value {
    command: u32,
    data: u32,
}

#[repr(C)]
struct Request {
    name: [u8; 16],
    value: *mut Value,
    /// `struct ifreq` is 40 bytes long.
    rest: [u64; 2],
}

/// Whether the device keeps 802.1Q tags out of the data of frames, both ways.
pub fn set_vlan_offload(name: &str, on: bool) {
    const SIOCETHTOOL: libc::Ioctl = 0x8946;
    const GET_FLAGS: u32 = 0x25;
    const SET_FLAGS: u32 = 0x26;
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).expect("a socket");
    let flags = 1 << 7 | 1 << 8;
    let call = |command, data| {
        let mut value = Value { command, data };
        let mut request = Request { name: [0; 16], value: &raw mut value, rest: [0; 2] };
        request.name[..name.len()].copy_from_slice(name.as_bytes());
        // SAFETY: `request` has the size of `struct ifreq`, and its pointer is to a live value.
        let result = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL, &raw mut request) };
        assert_eq!(result, 0, "{name}: {}", std::io::Error::last_os_error());
        value.data
    };
    let before = call(GET_FLAGS, 0);
    call(SET_FLAGS, if on { before | flags } else { before & !flags });
}
