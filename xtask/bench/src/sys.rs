//! System calls that neither std nor rustix offers: bpf(2), packet sockets, scheduling. All of the bench's unsafe code.

pub mod packet;

use std::{
    ffi::CString,
    io, mem,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
    time::Duration,
};

use rustix::{
    mount::{MountFlags, MountPropagationFlags, mount, mount_change},
    thread::{CpuSet, UnshareFlags, sched_setaffinity, unshare_unsafe},
    time::{ClockId, clock_gettime},
};

const BPF_MAP_CREATE: libc::c_int = 0;
const BPF_MAP_LOOKUP_ELEM: libc::c_int = 1;
const BPF_MAP_UPDATE_ELEM: libc::c_int = 2;
const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_OBJ_GET: libc::c_int = 7;
const BPF_PROG_TEST_RUN: libc::c_int = 10;
const BPF_LINK_CREATE: libc::c_int = 28;

const BPF_MAP_TYPE_ARRAY: u32 = 2;
const BPF_MAP_TYPE_PROG_ARRAY: u32 = 3;

const BPF_PROG_TYPE_SCHED_CLS: u32 = 3;
const BPF_PROG_TYPE_XDP: u32 = 6;
const BPF_XDP: u32 = 37;
const BPF_F_XDP_HAS_FRAGS: u32 = 1 << 5;
const BPF_F_TEST_XDP_LIVE_FRAMES: u32 = 1 << 1;
const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;

/// Where a program belongs.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Kind {
    /// `BPF_PROG_TYPE_XDP`, able to take frames in fragments, as the agent's is.
    Xdp,
    /// `BPF_PROG_TYPE_SCHED_CLS`.
    Tcx,
}

/// `union bpf_attr` as any command reads it.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Attribute([u32; 40]);

impl Attribute {
    fn new(words: &[(usize, u32)], pointers: &[(usize, u64)]) -> Self {
        let mut all = [0; 40];
        for (at, word) in words {
            all[*at] = *word;
        }
        for (at, pointer) in pointers {
            let (low, high) = if cfg!(target_endian = "little") { (*at, at + 1) } else { (at + 1, *at) };
            all[low] = *pointer as u32;
            all[high] = (*pointer >> 32) as u32;
        }
        Self(all)
    }

    /// bpf(2). Every pointer among the words must be valid for what `command` does with it.
    fn call(&mut self, command: libc::c_int) -> io::Result<libc::c_int> {
        // SAFETY: `self` is readable and writable for its length; this module's callers vouch for the pointers in it.
        let result = unsafe {
            libc::syscall(
                libc::SYS_bpf,
                command,
                std::ptr::from_mut(self),
                size_of::<Self>() as libc::c_ulong,
            )
        };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as libc::c_int) }
    }

    fn call_for_fd(mut self, command: libc::c_int) -> io::Result<OwnedFd> {
        owned(self.call(command)?)
    }
}

fn owned(fd: libc::c_int) -> io::Result<OwnedFd> {
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor, for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// An array of one eight-byte value, or of one program.
fn create_map(kind: u32, value_size: u32) -> io::Result<OwnedFd> {
    Attribute::new(&[(0, kind), (1, 4), (2, value_size), (3, 1)], &[]).call_for_fd(BPF_MAP_CREATE)
}

/// An array of one number, which programs read and write through [`crate::asm::Assembly::map_value`].
pub fn create_number() -> io::Result<OwnedFd> {
    create_map(BPF_MAP_TYPE_ARRAY, 8)
}

/// The number in such an array.
pub fn read_number(map: BorrowedFd<'_>) -> io::Result<u64> {
    let (key, mut value) = (0_u32, 0_u64);
    let pointers = [(2, (&raw const key) as u64), (4, (&raw mut value) as u64)];
    Attribute::new(&[(0, raw(map))], &pointers).call(BPF_MAP_LOOKUP_ELEM)?;
    Ok(value)
}

/// An array that holds `program`, to be called by `bpf_tail_call` with index 0.
pub fn create_call_to(program: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let map = create_map(BPF_MAP_TYPE_PROG_ARRAY, 4)?;
    let (key, value) = (0_u32, raw(program));
    let pointers = [(2, (&raw const key) as u64), (4, (&raw const value) as u64)];
    Attribute::new(&[(0, raw(map.as_fd()))], &pointers).call(BPF_MAP_UPDATE_ELEM)?;
    Ok(map)
}

/// Loads a program. The error has what the verifier said.
pub fn load(kind: Kind, instructions: &[u64]) -> io::Result<OwnedFd> {
    let (program_type, flags, attach_type) = match kind {
        Kind::Xdp => (BPF_PROG_TYPE_XDP, BPF_F_XDP_HAS_FRAGS, BPF_XDP),
        Kind::Tcx => (BPF_PROG_TYPE_SCHED_CLS, 0, 0),
    };
    let mut log = vec![0_u8; 1 << 16];
    let license = c"GPL";
    let words = [
        (0, program_type),
        (1, instructions.len() as u32),
        (6, 1),
        (7, log.len() as u32),
        (11, flags),
        (17, attach_type),
    ];
    let pointers =
        [(2, instructions.as_ptr() as u64), (4, license.as_ptr() as u64), (8, log.as_mut_ptr() as u64)];
    Attribute::new(&words, &pointers).call_for_fd(BPF_PROG_LOAD).map_err(|error| {
        let said = String::from_utf8_lossy(&log);
        io::Error::new(error.kind(), format!("{error}: {}", said.trim_end_matches('\0')))
    })
}

/// Opens a pinned object.
pub fn open_pin(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    Attribute::new(&[], &[(0, path.as_ptr() as u64)]).call_for_fd(BPF_OBJ_GET)
}

/// Attaches native XDP; it ends with the descriptor.
pub fn attach_native(program: BorrowedFd<'_>, ifindex: u32) -> io::Result<OwnedFd> {
    let words = [(0, raw(program)), (1, ifindex), (2, BPF_XDP), (3, XDP_FLAGS_DRV_MODE)];
    Attribute::new(&words, &[]).call_for_fd(BPF_LINK_CREATE)
}

/// Runs a program `repeat` times on one buffer that holds `frame` at first, as if it came in by `ifindex`. The last
/// run's return value, and what the buffer holds in the end.
pub fn test_run(
    kind: Kind,
    program: BorrowedFd<'_>,
    ifindex: u32,
    frame: &[u8],
    repeat: u32,
) -> io::Result<(u32, Vec<u8>)> {
    let mut context = [0_u32; 48];
    let context_words = match kind {
        Kind::Xdp => {
            (context[1], context[3]) = (frame.len() as u32, ifindex);
            6
        }
        Kind::Tcx => {
            context[10] = ifindex;
            48
        }
    };
    let mut out = vec![0_u8; frame.len() + 64];
    let words = [
        (0, raw(program)),
        (2, frame.len() as u32),
        (3, out.len() as u32),
        (8, repeat),
        (10, context_words * 4),
    ];
    let pointers = [(4, frame.as_ptr() as u64), (6, out.as_mut_ptr() as u64), (12, context.as_ptr() as u64)];
    let mut attribute = Attribute::new(&words, &pointers);
    attribute.call(BPF_PROG_TEST_RUN)?;
    out.truncate(attribute.0[3] as usize);
    Ok((attribute.0[1], out))
}

/// Runs an XDP program on `count` frames whose verdicts are carried out: `XDP_TX` sends them by `ifindex`.
pub fn send_live(program: BorrowedFd<'_>, ifindex: u32, frame: &[u8], count: u32) -> io::Result<()> {
    let context = [0, frame.len() as u32, 0, ifindex, 0, 0];
    let words = [
        (0, raw(program)),
        (2, frame.len() as u32),
        (8, count),
        (10, size_of_val(&context) as u32),
        (16, BPF_F_TEST_XDP_LIVE_FRAMES),
    ];
    let pointers = [(4, frame.as_ptr() as u64), (12, context.as_ptr() as u64)];
    Attribute::new(&words, &pointers).call(BPF_PROG_TEST_RUN).map(drop)
}

fn raw(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().cast_unsigned()
}

/// This thread, and those it starts, in new network and mount namespaces with a sysfs of their own, and a bpffs if
/// wanted. They vanish with the last thread in them.
pub fn enter_namespaces(bpffs: bool) -> io::Result<()> {
    // SAFETY: namespaces only; no descriptor table is unshared.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS | UnshareFlags::NEWNET) }?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    mount("sysfs", "/sys", "sysfs", MountFlags::empty(), None)?;
    if bpffs {
        mount("bpf", "/sys/fs/bpf", "bpf", MountFlags::empty(), None)?;
    }
    Ok(())
}

/// Pins a thread to one CPU; `None` is the caller.
pub fn pin_to_cpu(thread: Option<i32>, cpu: usize) -> io::Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu);
    let thread = thread.and_then(rustix::thread::Pid::from_raw);
    Ok(sched_setaffinity(thread, &set)?)
}

/// Runs the calling thread before all others of its CPU, or as any other again.
pub fn set_first(first: bool) -> io::Result<()> {
    let (policy, priority) = if first { (libc::SCHED_FIFO, 50) } else { (libc::SCHED_OTHER, 0) };
    let parameter = libc::sched_param { sched_priority: priority };
    // SAFETY: the parameter is readable; 0 is the calling thread.
    let result = unsafe { libc::sched_setscheduler(0, policy, &raw const parameter) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// CPU time of the calling thread.
pub fn thread_time() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or_default())
}

/// A packet socket for ARP on one link of the calling thread's namespace. Reading blocks for at most `patience`.
pub fn arp_socket(ifindex: u32, patience: Duration) -> io::Result<OwnedFd> {
    let protocol = (libc::ETH_P_ARP as u16).to_be();
    // SAFETY: a system call without pointers.
    let socket =
        unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, i32::from(protocol)) };
    let socket = owned(socket)?;
    // SAFETY: all zeroes is a `sockaddr_ll`.
    let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = protocol;
    address.sll_ifindex = ifindex.cast_signed();
    // SAFETY: the pointer is to a `sockaddr_ll`, and the length that of one.
    let result = unsafe {
        let length = size_of_val(&address) as libc::socklen_t;
        libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length)
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    rustix::net::sockopt::set_socket_timeout(&socket, rustix::net::sockopt::Timeout::Recv, Some(patience))?;
    Ok(socket)
}

/// Turns generic receive offload of a device on: a veth without it takes up frames one by one in its sender's context,
/// and none that XDP sends.
pub fn enable_gro(name: &str) -> io::Result<()> {
    const ETHTOOL_SGRO: u32 = 0x2c;
    let mut value = [ETHTOOL_SGRO, 1];
    // SAFETY: all zeroes is an `ifreq`.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes().take(libc::IFNAMSIZ - 1)) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_data = value.as_mut_ptr().cast();
    let socket = rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::DGRAM, None)?;
    // SAFETY: `request` names a device and points to an `ethtool_value`; both outlive the call.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL as _, &raw mut request) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
