//! Packet sockets that keep what they have taken up until somebody reads it, with the kernel's time of each frame.

use std::{
    io, mem,
    os::fd::{AsRawFd, BorrowedFd, OwnedFd},
    time::Duration,
};

use super::owned;

/// Room for a second of what any of the bench's sockets takes up, read or not.
const ROOM: libc::c_int = 16 << 20;
const PACKET_IGNORE_OUTGOING: libc::c_int = 23;

/// What a frame has to hold at a place.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Bytes from the start of the frame.
    pub at: u32,
    /// So many bytes: 1, 2 or 4.
    pub width: u32,
    /// In the wire's order.
    pub value: u32,
}

/// A socket for frames of one EtherType that come in by one link of the calling thread's namespace, addressed to it
/// alone, with all of `fields`. It stays there when the thread moves on, and never blocks.
pub fn listen(ifindex: u32, ethertype: libc::c_int, fields: &[Field]) -> io::Result<OwnedFd> {
    let protocol = (ethertype as u16).to_be();
    // Of no protocol until it is bound: nothing passes before the filter is there.
    // SAFETY: a system call without pointers.
    let socket = owned(unsafe {
        libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK, 0)
    })?;
    let mut filter = filter(fields);
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    set(&socket, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)?;
    set(&socket, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, &1_i32)?;
    set(&socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &ROOM)?;
    set(&socket, libc::SOL_PACKET, PACKET_IGNORE_OUTGOING, &1_i32)?;
    // SAFETY: all zeroes is a `sockaddr_ll`.
    let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = protocol;
    address.sll_ifindex = ifindex.cast_signed();
    // SAFETY: the pointer is to a `sockaddr_ll`, and the length that of one.
    let bound = unsafe {
        let length = size_of_val(&address) as libc::socklen_t;
        libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length)
    };
    if bound < 0 { Err(io::Error::last_os_error()) } else { Ok(socket) }
}

/// The next frame and the wall clock's time at which the kernel took it up; `None` if there is none yet.
pub fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Option<(usize, Duration)>> {
    let mut control = [0_u64; 8];
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: all zeroes is a `msghdr`.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    loop {
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = size_of_val(&control) as _;
        // SAFETY: `message` points to `part` and `control`, `part` to `buffer`, each with its length; all outlive the call.
        let length = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_DONTWAIT) };
        let Ok(length) = usize::try_from(length) else {
            let error = io::Error::last_os_error();
            match error.raw_os_error() {
                Some(libc::EAGAIN) => return Ok(None),
                // The link has gone, which is said once; what came in before can still be read.
                Some(libc::ENETDOWN | libc::EINTR) => continue,
                _ => return Err(error),
            }
        };
        return Ok(Some((length, stamp(&message).unwrap_or_default())));
    }
}

/// How many frames found no room since this was asked last.
pub fn dropped(socket: BorrowedFd<'_>) -> io::Result<u32> {
    let mut statistics = [0_u32; 2];
    let mut length = size_of_val(&statistics) as libc::socklen_t;
    // SAFETY: the option is a `tpacket_stats`, two 32-bit numbers, and the length that of two.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_STATISTICS,
            statistics.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(statistics[1]) }
}

/// The kernel's time among a message's control data.
fn stamp(message: &libc::msghdr) -> Option<Duration> {
    // SAFETY: the kernel has filled `message`; the first header lies within its control buffer, or is null.
    let header = unsafe { libc::CMSG_FIRSTHDR(message).as_ref()? };
    if header.cmsg_level != libc::SOL_SOCKET || header.cmsg_type != libc::SCM_TIMESTAMPNS {
        return None;
    }
    // SAFETY: a control message of this type holds one timespec, at no particular alignment.
    let stamp: libc::timespec = unsafe { libc::CMSG_DATA(header).cast::<libc::timespec>().read_unaligned() };
    Some(Duration::new(u64::try_from(stamp.tv_sec).ok()?, u32::try_from(stamp.tv_nsec).ok()?))
}

/// Classic BPF: all of the frame if its type is `PACKET_HOST` and every field matches, else none of it.
fn filter(fields: &[Field]) -> Vec<libc::sock_filter> {
    const KIND: u32 = (libc::SKF_AD_OFF + libc::SKF_AD_PKTTYPE).cast_unsigned();
    let instruction = |code: u32, jump: usize, k: u32| libc::sock_filter {
        code: code as u16,
        jt: 0,
        jf: u8::try_from(jump).unwrap_or_default(),
        k,
    };
    let load = |width: u32| {
        let size = match width {
            1 => libc::BPF_B,
            2 => libc::BPF_H,
            _ => libc::BPF_W,
        };
        libc::BPF_LD | size | libc::BPF_ABS
    };
    let kind = Field { at: KIND, width: 1, value: u32::from(libc::PACKET_HOST) };
    let mut all = Vec::new();
    for (done, field) in std::iter::once(&kind).chain(fields).enumerate() {
        // Past the pairs that are left, and past the first return.
        let away = 2 * (fields.len() - done) + 1;
        all.push(instruction(load(field.width), 0, field.at));
        all.push(instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, away, field.value));
    }
    all.push(instruction(libc::BPF_RET | libc::BPF_K, 0, u32::MAX));
    all.push(instruction(libc::BPF_RET | libc::BPF_K, 0, 0));
    all
}

fn set<T>(socket: &OwnedFd, level: libc::c_int, option: libc::c_int, value: &T) -> io::Result<()> {
    // SAFETY: the pointer is to a value of this option's type, and the length that of one; what a filter points to
    // outlives the call.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            std::ptr::from_ref(value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mismatch_jumps_to_the_instruction_that_takes_nothing() {
        let field = Field { at: 23, width: 1, value: 17 };
        let filter = filter(&[field, field]);
        let nothing = filter.len() - 1;
        for (at, instruction) in filter.iter().enumerate().filter(|(_, one)| one.jf > 0) {
            assert_eq!(at + 1 + usize::from(instruction.jf), nothing);
        }
        assert_eq!(filter[nothing].k, 0);
    }
}
