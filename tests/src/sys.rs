//! System calls that neither std nor rustix offers: bpf(2) for one program, and packet sockets.
//!
//! All unsafe code of the lab is here.

use std::{
    ffi::CString,
    io, mem,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    os::unix::ffi::OsStrExt as _,
    path::Path,
    time::Duration,
};

const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_OBJ_PIN: libc::c_long = 6;
const BPF_PROG_TYPE_XDP: u32 = 6;

/// `union bpf_attr` as BPF_PROG_LOAD reads it, up to `expected_attach_type`.
#[repr(C)]
#[derive(Default)]
struct ProgLoad {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
    prog_ifindex: u32,
    expected_attach_type: u32,
}

/// `union bpf_attr` as BPF_OBJ_PIN reads it.
#[repr(C)]
struct ObjPin {
    pathname: u64,
    bpf_fd: u32,
    file_flags: u32,
}

/// Stops one thread of another process, and that one alone, until the calling thread lets it go or ends.
pub(crate) fn stop_thread(thread: libc::pid_t) -> io::Result<()> {
    ptrace(libc::PTRACE_SEIZE, thread)?;
    ptrace(libc::PTRACE_INTERRUPT, thread)?;
    // SAFETY: without a place for the status nothing is written.
    let stopped = unsafe { libc::waitpid(thread, std::ptr::null_mut(), libc::__WALL) };
    if stopped == thread { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Ends [`stop_thread`], from the same thread.
pub(crate) fn let_go(thread: libc::pid_t) -> io::Result<()> {
    ptrace(libc::PTRACE_DETACH, thread)
}

fn ptrace(request: libc::c_uint, thread: libc::pid_t) -> io::Result<()> {
    // SAFETY: none of the three requests above reads or writes memory of this process.
    let result = unsafe { libc::ptrace(request, thread, 0_usize, 0_usize) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Loads an XDP program of two instructions: `r0 = XDP_PASS; exit`.
pub(crate) fn load_pass_program() -> io::Result<OwnedFd> {
    const INSTRUCTIONS: [u64; 2] = [0x0000_0002_0000_00b7_u64.to_le(), 0x0000_0000_0000_0095_u64.to_le()];
    const { assert!(cfg!(target_endian = "little"), "the instructions are written for little-endian machines") };
    let mut attributes = ProgLoad {
        prog_type: BPF_PROG_TYPE_XDP,
        insn_cnt: INSTRUCTIONS.len() as u32,
        insns: INSTRUCTIONS.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
        ..ProgLoad::default()
    };
    attributes.prog_name[..4].copy_from_slice(b"pass");
    // SAFETY: `attributes` is laid out as the kernel reads it for this command, its size is passed along,
    // and the memory that it points to (two constants) outlives the call.
    let fd = unsafe {
        libc::syscall(libc::SYS_bpf, BPF_PROG_LOAD, &raw const attributes, mem::size_of::<ProgLoad>())
    };
    owned(fd)
}

/// Pins a program at a path of some bpffs.
pub(crate) fn pin(program: &OwnedFd, path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let attributes =
        ObjPin { pathname: path.as_ptr() as u64, bpf_fd: program.as_raw_fd().unsigned_abs(), file_flags: 0 };
    // SAFETY: as above; `path` is NUL-terminated and outlives the call.
    let done =
        unsafe { libc::syscall(libc::SYS_bpf, BPF_OBJ_PIN, &raw const attributes, mem::size_of::<ObjPin>()) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A packet socket for all frames of one Ethernet type on the link `ifindex` of the calling thread's
/// network namespace. Reading blocks for at most 5 ms.
pub(crate) fn packet_socket(ethertype: u16, ifindex: u32) -> io::Result<OwnedFd> {
    // SAFETY: socket(2) has no memory to get wrong; the result is checked before it is owned.
    let fd = unsafe {
        libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, i32::from(ethertype.to_be()))
    };
    let socket = owned(libc::c_long::from(fd))?;
    // SAFETY: all-zero is a valid sockaddr_ll.
    let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = ethertype.to_be();
    address.sll_ifindex = ifindex as i32;
    // SAFETY: the pointer is to a sockaddr_ll and the length is that of one.
    let bound = unsafe {
        libc::bind(
            socket.as_raw_fd(),
            (&raw const address).cast(),
            mem::size_of::<libc::sockaddr_ll>() as libc::socklen_t,
        )
    };
    if bound < 0 {
        return Err(io::Error::last_os_error());
    }
    rustix::net::sockopt::set_socket_timeout(
        &socket,
        rustix::net::sockopt::Timeout::Recv,
        Some(Duration::from_millis(5)),
    )?;
    set_option(&socket, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, 1)?;
    Ok(socket)
}

/// Room for half a million small frames that come in, and none for those that go out.
pub(crate) fn make_room(packet_socket: &OwnedFd) -> io::Result<()> {
    const PACKET_IGNORE_OUTGOING: libc::c_int = 23;
    set_option(packet_socket, libc::SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)?;
    set_option(packet_socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, 256 << 20)
}

/// Takes one frame, with the time that has passed since the kernel received it; `None` if none came
/// before the socket's time-out. A busy machine wakes its readers late, so the kernel's stamp counts.
pub(crate) fn receive(socket: &OwnedFd, buffer: &mut [u8]) -> io::Result<Option<(usize, Duration)>> {
    let mut control = [0_u64; 8];
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: all-zero is a valid msghdr.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = mem::size_of_val(&control);
    // SAFETY: `message` points to `part` and `control`, and `part` to `buffer`, each with its length, and
    // all of them outlive the call.
    let length = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, 0) };
    let Ok(length) = usize::try_from(length) else {
        let error = io::Error::last_os_error();
        return match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(None),
            _ => Err(error),
        };
    };
    Ok(Some((length, time_stamp(&message).map_or(Duration::ZERO, age))))
}

/// The kernel's time stamp (of the real-time clock) among a message's control data.
fn time_stamp(message: &libc::msghdr) -> Option<Duration> {
    // SAFETY: the kernel has filled `message`; the first header lies within its control buffer, or is null.
    let header = unsafe { libc::CMSG_FIRSTHDR(message).as_ref()? };
    if header.cmsg_level != libc::SOL_SOCKET || header.cmsg_type != libc::SCM_TIMESTAMPNS {
        return None;
    }
    // SAFETY: a control message of this type holds one timespec, at no particular alignment.
    let stamp: libc::timespec = unsafe { libc::CMSG_DATA(header).cast::<libc::timespec>().read_unaligned() };
    Some(Duration::new(u64::try_from(stamp.tv_sec).ok()?, u32::try_from(stamp.tv_nsec).ok()?))
}

/// How long ago that was. A step of the real-time clock in between is not seen; none is made in a lab.
fn age(stamp: Duration) -> Duration {
    let now = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
    now.saturating_sub(stamp)
}

fn set_option(
    socket: &OwnedFd,
    level: libc::c_int,
    option: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    // SAFETY: the pointer is to an int and the length is that of one.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            mem::size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn owned(fd: libc::c_long) -> io::Result<OwnedFd> {
    match i32::try_from(fd) {
        // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}
