//! bpf(2): the call itself, pins and information.

use std::{
    ffi::CString,
    io,
    os::{
        fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

use super::super::refusal::Harmless;

const BPF_OBJ_PIN: libc::c_int = 6;
const BPF_OBJ_GET: libc::c_int = 7;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_int = 15;

/// An argument of bpf(2), or what `BPF_OBJ_GET_INFO_BY_FD` fills in.
///
/// # Safety
/// `repr(C)` without padding, of integers only, so that the kernel may read every byte and write any value; its
/// pointers, if it has any, must be valid when it is passed to [`call`].
pub(super) unsafe trait Attribute {}

#[repr(C)]
struct Pin {
    pathname: u64,
    bpf_fd: u32,
    file_flags: u32,
}
// SAFETY: see the struct; the pathname is a C string that outlives the call.
unsafe impl Attribute for Pin {}

#[repr(C)]
struct InfoByFd {
    bpf_fd: u32,
    info_len: u32,
    info: u64,
}
// SAFETY: see the struct; `info` points to `info_len` writable bytes of an `Attribute`.
unsafe impl Attribute for InfoByFd {}

/// `struct bpf_map_info` up to the flags.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(in super::super) struct MapInfo {
    /// `enum bpf_map_type`.
    pub kind: u32,
    /// Kernel-wide id.
    pub id: u32,
    /// Bytes.
    pub key_size: u32,
    /// Bytes.
    pub value_size: u32,
    /// Capacity.
    pub max_entries: u32,
    /// `BPF_F_*`.
    pub map_flags: u32,
}
// SAFETY: six integers of one size.
unsafe impl Attribute for MapInfo {}

/// `struct bpf_prog_info` up to the id.
#[repr(C)]
#[derive(Default)]
pub(super) struct ProgramInfo {
    kind: u32,
    pub(super) id: u32,
}
// SAFETY: two integers of one size.
unsafe impl Attribute for ProgramInfo {}

/// `struct bpf_link_info` of an XDP or TCX link.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(in super::super) struct LinkInfo {
    /// `enum bpf_link_type`: 6 is XDP, 11 is TCX.
    pub kind: u32,
    /// Kernel-wide id.
    pub id: u32,
    /// The program that it runs.
    pub prog_id: u32,
    padding: u32,
    /// The device; 0 once that is gone.
    pub ifindex: u32,
    /// TCX: `enum bpf_attach_type`.
    attach_type: u32,
}
// SAFETY: six integers of one size.
unsafe impl Attribute for LinkInfo {}

/// bpf(2). The result is a descriptor, or 0.
pub(super) fn call<A: Attribute>(command: libc::c_int, attribute: &mut A) -> io::Result<libc::c_int> {
    // SAFETY: `attribute` is readable and writable for the length given, and an `Attribute` vouches for its pointers.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attribute), size_of::<A>() as libc::c_ulong)
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as libc::c_int) }
}

/// A call that returns a descriptor.
pub(super) fn call_for_fd<A: Attribute>(command: libc::c_int, attribute: &mut A) -> io::Result<OwnedFd> {
    let fd = call(command, attribute)?;
    // SAFETY: the kernel has just made this descriptor, for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// How bpf(2) answers a command that does not exist: nothing is done by it.
pub(in super::super) fn harmless_command() -> Harmless {
    const NO_COMMAND: libc::c_int = libc::c_int::MAX;
    let refused = call(NO_COMMAND, &mut ProgramInfo::default()).err().and_then(|error| error.raw_os_error());
    match refused {
        Some(libc::EPERM | libc::EACCES) => Harmless::Refused,
        Some(libc::ENOSYS) => Harmless::Missing,
        _ => Harmless::Reached,
    }
}

/// Opens the map, program or link pinned at `path`.
pub(in super::super) fn get_pinned(path: &Path) -> io::Result<OwnedFd> {
    let pathname = CString::new(path.as_os_str().as_bytes())?;
    call_for_fd(BPF_OBJ_GET, &mut Pin { pathname: pathname.as_ptr() as u64, bpf_fd: 0, file_flags: 0 })
}

/// Pins a map, program or link at `path`, which must be on a bpffs and not exist.
pub(in super::super) fn pin(object: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let pathname = CString::new(path.as_os_str().as_bytes())?;
    let mut attribute =
        Pin { pathname: pathname.as_ptr() as u64, bpf_fd: object.as_raw_fd() as u32, file_flags: 0 };
    call(BPF_OBJ_PIN, &mut attribute).map(drop)
}

/// How the description of any program, map or link begins.
#[repr(C)]
#[derive(Default, Eq, PartialEq)]
struct Beginning {
    kind: u32,
    id: u32,
    /// A program's tag, a map's sizes, a link's program: what tells one sort from another of the same kind and id.
    more: [u32; 2],
}
// SAFETY: four integers of one size.
unsafe impl Attribute for Beginning {}

/// Whether two descriptors are of one program, one map or one link.
pub(in super::super) fn is_same_object(one: BorrowedFd<'_>, other: BorrowedFd<'_>) -> io::Result<bool> {
    Ok(info::<Beginning>(one)? == info::<Beginning>(other)?)
}

/// What the kernel says of an object. The descriptor must be of the kind that `Info` describes.
pub(super) fn info<Info: Attribute + Default>(object: BorrowedFd<'_>) -> io::Result<Info> {
    let mut info = Info::default();
    let mut attribute = InfoByFd {
        bpf_fd: object.as_raw_fd() as u32,
        info_len: size_of::<Info>() as u32,
        info: (&raw mut info) as u64,
    };
    call(BPF_OBJ_GET_INFO_BY_FD, &mut attribute)?;
    Ok(info)
}
