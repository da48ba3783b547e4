//! Waiting until every program run that was under way has ended: one RCU grace period.

use std::{
    io,
    os::fd::{AsRawFd, OwnedFd},
};

use super::bpf::{Attribute, call, call_for_fd};

const MEMBARRIER_CMD_GLOBAL: libc::c_int = 1;

const BPF_MAP_CREATE: libc::c_int = 0;
const BPF_MAP_UPDATE_ELEM: libc::c_int = 2;
const BPF_MAP_TYPE_ARRAY: u32 = 2;
const BPF_MAP_TYPE_ARRAY_OF_MAPS: u32 = 12;

#[repr(C)]
#[derive(Default)]
struct MapCreate {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
    inner_map_fd: u32,
}
// SAFETY: six integers of one size.
unsafe impl Attribute for MapCreate {}

#[repr(C)]
struct MapUpdate {
    map_fd: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}
// SAFETY: integers only, padded by hand; key and value point to four bytes each that outlive the call.
unsafe impl Attribute for MapUpdate {}

/// Returns after every run of a program that had begun before the call has ended (4-20 ms).
///
/// `membarrier(MEMBARRIER_CMD_GLOBAL)` is one `synchronize_rcu()` and needs no capability. Where the kernel has it
/// not (`nohz_full`: EINVAL; seccomp: EPERM), the update of a map of maps waits likewise.
///
/// # Errors
/// Neither way works; the caller must not assume that anything has ended.
pub(in super::super) fn grace_period() -> io::Result<()> {
    // SAFETY: a system call without pointers.
    let result = unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) };
    if result == 0 { Ok(()) } else { by_map_of_maps() }
}

/// `maybe_wait_bpf_programs()` in `kernel/bpf/syscall.c`, since 4.20.
fn by_map_of_maps() -> io::Result<()> {
    let inner = create(BPF_MAP_TYPE_ARRAY, 0)?;
    let outer = create(BPF_MAP_TYPE_ARRAY_OF_MAPS, inner.as_raw_fd() as u32)?;
    let (key, value) = (0_u32, inner.as_raw_fd() as u32);
    let mut attribute = MapUpdate {
        map_fd: outer.as_raw_fd() as u32,
        padding: 0,
        key: (&raw const key) as u64,
        value: (&raw const value) as u64,
        flags: 0,
    };
    call(BPF_MAP_UPDATE_ELEM, &mut attribute).map(drop)
}

fn create(map_type: u32, inner_map_fd: u32) -> io::Result<OwnedFd> {
    let attribute =
        MapCreate { map_type, key_size: 4, value_size: 4, max_entries: 1, ..MapCreate::default() };
    call_for_fd(BPF_MAP_CREATE, &mut MapCreate { inner_map_fd, ..attribute })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_around_membarrier_waits_too() {
        // Without privileges there are no maps to wait with.
        match by_map_of_maps() {
            Ok(()) => {}
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::PermissionDenied),
        }
    }
}
