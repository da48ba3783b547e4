//! The kernel side of Announcer as a library: the maps' layout and the packet logic, `no_std`, the same code in
//! the eBPF programs, in the agent and in host tests.
//!
//! The eBPF binary (`src/main.rs`) holds entry points and maps only. With the feature `object` this library carries
//! that binary, compiled for the BPF target by `build.rs`, so that an agent is one file.

#![cfg_attr(not(test), no_std)]

pub mod layout;
pub mod packet;

/// The compiled eBPF object: an ELF file, aligned for parsers that read it in place.
#[cfg(feature = "object")]
pub static OBJECT: &[u8] = &ALIGNED_OBJECT.bytes;

#[cfg(feature = "object")]
#[repr(C, align(32))]
struct Aligned<Bytes: ?Sized> {
    bytes: Bytes,
}

#[cfg(feature = "object")]
static ALIGNED_OBJECT: &Aligned<[u8]> =
    &Aligned { bytes: *include_bytes!(concat!(env!("OUT_DIR"), "/announcer-kernel")) };

/// The linker that made the object, and its release.
#[cfg(feature = "object")]
pub const LINKER: &str = env!("ANNOUNCER_EBPF_LINKER");

#[cfg(feature = "object")]
/// Where the same object lies as a file, for tools such as `bpftool prog loadall`. It is the build machine's path.
pub const OBJECT_PATH: &str = concat!(env!("OUT_DIR"), "/announcer-kernel");
