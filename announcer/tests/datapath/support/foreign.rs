//! Programs of somebody else's, as another product on the node would load them.

use std::{
    ffi::CString,
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

const PROGRAM_TYPE_CLASSIFIER: u32 = 3;
const PROGRAM_TYPE_XDP: u32 = 6;
const ATTACH_TYPE_XDP: u32 = 37;
const ATTACH_TYPE_TCX_INGRESS: u32 = 46;
const XDP_PASS: i32 = 2;
const TCX_NEXT: i32 = -1;
const TCX_DROP: i32 = 2;
const XDP_HAS_FRAGS: u32 = 1 << 5;

/// In which mode a foreign XDP program is attached.
#[derive(Clone, Copy, Debug)]
pub enum Hook {
    Generic = 2,
    Native = 4,
}

/// A program, attached until dropped.
#[derive(Debug)]
pub struct Foreign {
    program: OwnedFd,
    link: Option<OwnedFd>,
    /// A counting program's one count.
    count: Option<OwnedFd>,
}

impl Foreign {
    /// Native XDP that passes everything: what the far end of a veth needs to take up what native XDP sends.
    pub fn passing_xdp(ifindex: u32) -> Self {
        Self::xdp(ifindex, Hook::Native, true).expect("attached")
    }

    /// XDP that passes everything, with or without support for frames in several fragments.
    pub fn xdp(ifindex: u32, hook: Hook, frags: bool) -> io::Result<Self> {
        let flags = if frags { XDP_HAS_FRAGS } else { 0 };
        Self::saying(PROGRAM_TYPE_XDP, XDP_PASS, flags).attached(ifindex, ATTACH_TYPE_XDP, hook as u32)
    }

    /// XDP that passes everything, attached to nothing yet.
    pub fn loose_xdp() -> Self {
        Self::saying(PROGRAM_TYPE_XDP, XDP_PASS, 0)
    }

    /// At the end of the TCX ingress chain; it drops all that comes so far.
    pub fn dropping_tcx(ifindex: u32) -> Self {
        let program = Self::loose_dropping();
        program.attached(ifindex, ATTACH_TYPE_TCX_INGRESS, 0).expect("attached")
    }

    /// A classifier that drops everything, attached to nothing yet.
    pub fn loose_dropping() -> Self {
        Self::saying(PROGRAM_TYPE_CLASSIFIER, TCX_DROP, 0)
    }

    /// At the end of the TCX ingress chain; it counts frames from `source` and passes all on.
    pub fn counting_tcx(ifindex: u32, source: [u8; 6]) -> Self {
        Self::loose_counting(source).attached(ifindex, ATTACH_TYPE_TCX_INGRESS, 0).expect("attached")
    }

    /// A classifier that counts frames from `source` and passes all on, attached to nothing yet.
    pub fn loose_counting(source: [u8; 6]) -> Self {
        let [_, _, a, b, c, d] = source;
        let (kind_array, key_bytes, value_bytes, entries) = (2, 4, 8, 1);
        let count = bpf(0, &mut [kind_array, key_bytes, value_bytes, entries]).expect("a map");
        let instructions = [
            instruction(0xbf, 6, 1, 0, 0), // r6 = r1, the packet
            instruction(0x20, 0, 0, 0, 8), // r0 = the source's last four bytes
            instruction(0x55, 0, 0, 9, i32::from_be_bytes([a, b, c, d])), // if r0 != … goto pass
            instruction(0x62, 10, 0, -4, 0), // key = 0
            instruction(0xbf, 2, 10, 0, 0), // r2 = &key
            instruction(0x07, 2, 0, 0, -4),
            instruction(0x18, 1, 1, 0, count.as_raw_fd()), // r1 = the map
            0,
            instruction(0x85, 0, 0, 0, 1), // r0 = bpf_map_lookup_elem(r1, r2)
            instruction(0x15, 0, 0, 2, 0), // if r0 == 0 goto pass
            instruction(0xb7, 1, 0, 0, 1),
            instruction(0xdb, 0, 1, 0, 0),        // *r0 += 1, atomically
            instruction(0xb7, 0, 0, 0, TCX_NEXT), // pass: r0 = …
            instruction(0x95, 0, 0, 0, 0),        // exit
        ];
        Self { count: Some(count), ..Self::load(PROGRAM_TYPE_CLASSIFIER, &instructions, 0) }
    }

    /// How many frames a counting program has seen.
    pub fn count(&self) -> u64 {
        let (key, mut value) = (0_u32, 0_u64);
        let mut lookup = [self.count.as_ref().expect("a counting program").as_raw_fd() as u32, 0, 0, 0, 0, 0];
        put(&mut lookup, 2, (&raw const key) as u64);
        put(&mut lookup, 4, (&raw mut value) as u64);
        call(1, &mut lookup).expect("a count");
        value
    }

    /// Pins the program, so that `ip` and `tc` can attach it.
    pub fn pin(&self, path: &str) {
        let path = CString::new(path).expect("a path");
        let mut pin = [0, 0, self.program.as_raw_fd() as u32, 0];
        put(&mut pin, 0, path.as_ptr() as u64);
        call(6, &mut pin).expect("pinned");
    }

    fn saying(kind: u32, verdict: i32, flags: u32) -> Self {
        Self::load(kind, &[instruction(0xb7, 0, 0, 0, verdict), instruction(0x95, 0, 0, 0, 0)], flags)
    }

    fn load(kind: u32, instructions: &[u64], flags: u32) -> Self {
        let license = c"GPL";
        let mut load = [0_u32; 32];
        (load[0], load[1], load[11]) = (kind, instructions.len() as u32, flags);
        put(&mut load, 2, instructions.as_ptr() as u64);
        put(&mut load, 4, license.as_ptr() as u64);
        Self { program: bpf(5, &mut load).expect("a program"), link: None, count: None }
    }

    fn attached(self, ifindex: u32, attach_type: u32, flags: u32) -> io::Result<Self> {
        let mut create = [self.program.as_raw_fd() as u32, ifindex, attach_type, flags, 0, 0, 0, 0];
        Ok(Self { link: Some(bpf(28, &mut create)?), ..self })
    }
}

/// `struct bpf_insn`.
fn instruction(code: u8, to: u8, from: u8, offset: i16, constant: i32) -> u64 {
    let [low, high] = offset.to_le_bytes();
    let [a, b, c, d] = constant.to_le_bytes();
    u64::from_le_bytes([code, from << 4 | to, low, high, a, b, c, d])
}

fn put(words: &mut [u32], at: usize, value: u64) {
    words[at] = value as u32;
    words[at + 1] = (value >> 32) as u32;
}

/// A call of bpf(2) that makes a descriptor.
fn bpf(command: libc::c_int, attribute: &mut [u32]) -> io::Result<OwnedFd> {
    let fd = call(command, attribute)?;
    // SAFETY: the kernel has just made this descriptor, for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn call(command: libc::c_int, attribute: &mut [u32]) -> io::Result<i32> {
    let bytes = size_of_val(attribute) as libc::c_ulong;
    // SAFETY: the attribute is readable for its length, and the pointers in it outlive the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attribute.as_mut_ptr(), bytes) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as i32) }
}
