//! bpf(2): links made, swapped and detached; programs run on a frame of our own.

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd, OwnedFd},
};

use announcer_ebpf::layout::{PROOF_CB, PROOF_METADATA};

use super::bpf::{Attribute, LinkInfo, MapInfo, ProgramInfo, call, call_for_fd, info};

const BPF_PROG_TEST_RUN: libc::c_int = 10;
const BPF_LINK_CREATE: libc::c_int = 28;
const BPF_LINK_UPDATE: libc::c_int = 29;
const BPF_LINK_DETACH: libc::c_int = 34;

const BPF_XDP: u32 = 37;
const BPF_TCX_INGRESS: u32 = 46;
/// With no other program named: before all others.
const BPF_F_BEFORE: u32 = 1 << 3;

/// `XDP_FLAGS_*`: where XDP runs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u32)]
pub(in super::super) enum XdpFlags {
    /// In front of the stack, on any device.
    Generic = 1 << 1,
    /// In the driver.
    Native = 1 << 2,
}

#[repr(C)]
#[derive(Default)]
struct LinkCreate {
    prog_fd: u32,
    target_ifindex: u32,
    attach_type: u32,
    flags: u32,
    tcx_relative_fd: u32,
    padding: u32,
    tcx_expected_revision: u64,
}
// SAFETY: integers only, padded by hand.
unsafe impl Attribute for LinkCreate {}

#[repr(C)]
struct LinkUpdate {
    link_fd: u32,
    new_prog_fd: u32,
    flags: u32,
    old_prog_fd: u32,
}
// SAFETY: four integers of one size.
unsafe impl Attribute for LinkUpdate {}

#[repr(C)]
struct LinkDetach {
    link_fd: u32,
}
// SAFETY: one integer.
unsafe impl Attribute for LinkDetach {}

#[repr(C)]
#[derive(Default)]
struct RunAttribute {
    prog_fd: u32,
    retval: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    ctx_size_in: u32,
    ctx_size_out: u32,
    ctx_in: u64,
    ctx_out: u64,
}
// SAFETY: integers only, each at a multiple of its size; the pointers are to buffers that outlive the call.
unsafe impl Attribute for RunAttribute {}

/// What a program did with a frame.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in super::super) struct TestRun {
    /// The program's return value.
    pub verdict: u32,
    /// The frame afterwards.
    pub frame: Vec<u8>,
    /// Nanoseconds per run.
    pub duration_ns: u32,
}

/// The program's id.
pub(in super::super) fn program_id(program: BorrowedFd<'_>) -> io::Result<u32> {
    info::<ProgramInfo>(program).map(|info| info.id)
}

/// Kind, sizes and flags of a map. On a descriptor of something else the answer is meaningless.
pub(in super::super) fn map_info(map: BorrowedFd<'_>) -> io::Result<MapInfo> {
    info(map)
}

/// Program and device of a link. On a descriptor of something else the answer is meaningless.
pub(in super::super) fn link_info(link: BorrowedFd<'_>) -> io::Result<LinkInfo> {
    info(link)
}

/// Attaches an XDP program. EBUSY or EEXIST: the hook is taken.
pub(in super::super) fn create_xdp_link(
    program: BorrowedFd<'_>,
    ifindex: u32,
    flags: XdpFlags,
) -> io::Result<OwnedFd> {
    let prog_fd = program.as_raw_fd() as u32;
    let attribute =
        LinkCreate { prog_fd, target_ifindex: ifindex, attach_type: BPF_XDP, ..LinkCreate::default() };
    call_for_fd(BPF_LINK_CREATE, &mut LinkCreate { flags: flags as u32, ..attribute })
}

/// Attaches a classifier at the head of the device's TCX ingress chain (kernel 6.6).
pub(in super::super) fn create_tcx_link(program: BorrowedFd<'_>, ifindex: u32) -> io::Result<OwnedFd> {
    let prog_fd = program.as_raw_fd() as u32;
    let attribute = LinkCreate {
        prog_fd,
        target_ifindex: ifindex,
        attach_type: BPF_TCX_INGRESS,
        ..LinkCreate::default()
    };
    call_for_fd(BPF_LINK_CREATE, &mut LinkCreate { flags: BPF_F_BEFORE, ..attribute })
}

/// Swaps the link's program in one step. ENOLINK: the device is gone.
pub(in super::super) fn update_link(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attribute = LinkUpdate {
        link_fd: link.as_raw_fd() as u32,
        new_prog_fd: program.as_raw_fd() as u32,
        flags: 0,
        old_prog_fd: 0,
    };
    call(BPF_LINK_UPDATE, &mut attribute).map(drop)
}

/// Detaches at once, whoever else holds the link.
pub(in super::super) fn detach_link(link: BorrowedFd<'_>) -> io::Result<()> {
    call(BPF_LINK_DETACH, &mut LinkDetach { link_fd: link.as_raw_fd() as u32 }).map(drop)
}

/// Runs an XDP program on `frame` as if it came in by `ifindex` (ENODEV if there is none), marked as a proof if so.
pub(in super::super) fn test_run_xdp(
    program: BorrowedFd<'_>,
    ifindex: u32,
    frame: &[u8],
    proof: bool,
) -> io::Result<TestRun> {
    let mut data = Vec::with_capacity(frame.len() + 8);
    if proof {
        data.extend_from_slice(&PROOF_METADATA.to_ne_bytes());
    }
    let metadata = data.len() as u32;
    data.extend_from_slice(frame);
    // `struct xdp_md`: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
    let context = [metadata, data.len() as u32, 0, ifindex, 0, 0];
    let mut run = test_run(program, &data, &context)?;
    // The kernel gives back the metadata before the frame.
    run.frame.drain(..(metadata as usize).min(run.frame.len()));
    Ok(run)
}

/// Runs a classifier on `frame` as if it came in by `ifindex`, marked as a proof if so.
pub(in super::super) fn test_run_skb(
    program: BorrowedFd<'_>,
    ifindex: u32,
    frame: &[u8],
    proof: bool,
) -> io::Result<TestRun> {
    // `struct __sk_buff` in words: `ifindex` is the eleventh, `cb` the thirteenth to seventeenth.
    let mut context = [0; 48];
    context[10] = ifindex;
    if proof {
        context[12..17].copy_from_slice(&PROOF_CB);
    }
    test_run(program, frame, &context)
}

fn test_run(program: BorrowedFd<'_>, data: &[u8], context: &[u32]) -> io::Result<TestRun> {
    // Room for the longest answer, which may be longer than the frame.
    let mut out = vec![0; data.len() + 64];
    let mut attribute = RunAttribute {
        prog_fd: program.as_raw_fd() as u32,
        data_size_in: data.len() as u32,
        data_size_out: out.len() as u32,
        data_in: data.as_ptr() as u64,
        data_out: out.as_mut_ptr() as u64,
        repeat: 1,
        ctx_size_in: size_of_val(context) as u32,
        ctx_in: context.as_ptr() as u64,
        ..RunAttribute::default()
    };
    call(BPF_PROG_TEST_RUN, &mut attribute)?;
    out.truncate(attribute.data_size_out as usize);
    Ok(TestRun { verdict: attribute.retval, frame: out, duration_ns: attribute.duration })
}
