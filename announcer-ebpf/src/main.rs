//! The eBPF binary: entry points and maps. Everything else is the library's, and tested on the host.
//!
//! On any target but BPF this is an empty program, so that the workspace builds, lints and tests as one.

#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(target_arch = "bpf")]
mod kernel;

// What aya-log's macros expand to begins with `::aya_log_ebpf::macro_support`: it is ours.
#[cfg(target_arch = "bpf")]
extern crate self as aya_log_ebpf;
#[cfg(target_arch = "bpf")]
use kernel::log::macro_support;

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // Never linked in: the programs have no panicking path, and the verifier would refuse a loop without an end.
    loop {}
}

#[cfg(not(target_arch = "bpf"))]
fn main() {}
