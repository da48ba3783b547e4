//! The bench's own small programs: one that does nothing, one that asks anew before every run, generators and sinks.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

use crate::{
    asm::{
        Assembly,
        Op::{Add, And, Mov, Mul, Shl, Shr, Xor},
        Reg::{self, R0, R1, R2, R3, R6, R7, R8, R9},
        Size::{B2, B4, B8},
    },
    frames::{self, ARP_SENDER, ARP_TARGET},
    sys::{self, Kind},
};

const XDP_DROP: i32 = 1;
const XDP_PASS: i32 = 2;
const XDP_TX: i32 = 3;
const TCX_NEXT: i32 = -1;

const BPF_TAIL_CALL: i32 = 12;
const BPF_KTIME_GET_BOOT_NS: i32 = 125;

/// What a program asks, and for how many addresses.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Question {
    /// An ARP request for one of so many owned addresses, at random.
    Owned4(u16),
    /// An ARP request for one of so many addresses that nobody owns, at random.
    Unknown4(u16),
    /// A Neighbour Solicitation for one of so many owned addresses, at random.
    Owned6(u16),
}

/// A loaded program, with the maps that it uses.
#[derive(Debug)]
pub struct Program {
    fd: OwnedFd,
    /// What it counts, or its random numbers.
    number: OwnedFd,
    /// The array with the program that it goes on as: an array of programs is emptied with its last descriptor.
    _call_to: Option<OwnedFd>,
}

impl Question {
    /// How many addresses it asks for.
    pub fn addresses(self) -> u16 {
        let (Self::Owned4(addresses) | Self::Unknown4(addresses) | Self::Owned6(addresses)) = self;
        addresses
    }

    /// The frame without a number in it.
    pub fn frame(self) -> Vec<u8> {
        match self {
            Self::Owned4(_) => frames::arp_request(frames::CLIENT, frames::CLIENT4, frames::OWNED4),
            Self::Unknown4(_) => frames::arp_request(frames::CLIENT, frames::CLIENT4, frames::UNKNOWN4),
            Self::Owned6(_) => frames::solicitation(),
        }
    }
}

impl Program {
    fn load(kind: Kind, number: OwnedFd, instructions: &[u64]) -> io::Result<Self> {
        Ok(Self { fd: sys::load(kind, instructions)?, number, _call_to: None })
    }

    /// Passes every frame, and nothing else.
    pub fn empty(kind: Kind) -> io::Result<Self> {
        Self::load(kind, sys::create_number()?, &Assembly::default().finish(pass(kind)))
    }

    /// Reads the boot clock, as every answer does, and passes.
    pub fn clock(kind: Kind) -> io::Result<Self> {
        let instructions = Assembly::default().call(BPF_KTIME_GET_BOOT_NS).finish(pass(kind));
        Self::load(kind, sys::create_number()?, &instructions)
    }

    /// Counts every frame and drops it.
    pub fn sink() -> io::Result<Self> {
        let number = sys::create_number()?;
        let mut assembly = Assembly::default();
        assembly.map_value(R1, raw(&number)).load(B8, R2, R1, 0).with(Add, R2, 1).store(B8, R1, 0, R2);
        Self::load(Kind::Xdp, number, &assembly.finish(XDP_DROP))
    }

    /// Writes the question over whatever the last run left in the frame, its address at random, and goes on as
    /// `called`: what is measured of the two together less of the same with an empty `called` is the program's cost.
    pub fn asking(kind: Kind, question: Question, called: BorrowedFd<'_>) -> io::Result<Self> {
        let (number, call_to) = (sys::create_number()?, sys::create_call_to(called)?);
        let frame = question.frame();
        let mut assembly = Assembly::default();
        enter(&mut assembly, kind, frame.len());
        random(&mut assembly, &number, question.addresses());
        match question {
            Question::Owned4(_) | Question::Unknown4(_) => {
                write(&mut assembly, &frame);
                assembly.store(B2, R7, ARP_TARGET, R0);
            }
            Question::Owned6(_) => {
                write(&mut assembly, &frame);
                // The number ends the target, the group and the destination hardware address; the first two are in
                // the checksum.
                assembly.store(B2, R7, 76, R0).store(B2, R7, 52, R0).store(B2, R7, 4, R0);
                assembly.with(Shl, R0, 1).with(Add, R0, frames::solicitation_sum().cast_signed());
                for _ in 0..2 {
                    assembly.op(Mov, R1, R0).with(Shr, R1, 16).with(And, R0, 0xffff).op(Add, R0, R1);
                }
                assembly.with(Xor, R0, 0xffff).store(B2, R7, 56, R0);
            }
        }
        assembly.op(Mov, R1, R6).map(R2, raw(&call_to)).with(Mov, R3, 0).call(BPF_TAIL_CALL);
        let fd = sys::load(kind, &assembly.finish(pass(kind)))?;
        Ok(Self { fd, number, _call_to: Some(call_to) })
    }

    /// Writes an ARP request from `from` for one of `addresses` owned addresses and sends it back out; its sender is
    /// one of `senders` addresses. Both at random.
    pub fn generator(from: [u8; 6], addresses: u16, senders: u16) -> io::Result<Self> {
        let number = sys::create_number()?;
        let frame = frames::arp_request(from, frames::CLIENT4, frames::OWNED4);
        let mut assembly = Assembly::default();
        enter(&mut assembly, Kind::Xdp, frame.len());
        random(&mut assembly, &number, addresses);
        write(&mut assembly, &frame);
        assembly.store(B2, R7, ARP_TARGET, R0);
        if senders > 1 {
            // Never number 0, 1 or 2 of its network: that is nobody, the other end and the plain sender.
            random(&mut assembly, &number, senders);
            assembly.network_order_16(R0).with(Add, R0, 2).network_order_16(R0);
            assembly.store(B2, R7, ARP_SENDER, R0);
        }
        Self::load(Kind::Xdp, number, &assembly.finish(XDP_TX))
    }

    /// What a [`sink`](Self::sink) has counted.
    pub fn number(&self) -> io::Result<u64> {
        sys::read_number(self.number.as_fd())
    }
}

impl AsFd for Program {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The verdict that lets a frame go on.
fn pass(kind: Kind) -> i32 {
    match kind {
        Kind::Xdp => XDP_PASS,
        Kind::Tcx => TCX_NEXT,
    }
}

/// `R6` = context, `R7` = frame, which has `length` writable bytes.
fn enter(assembly: &mut Assembly, kind: Kind, length: usize) {
    let (data, end) = match kind {
        Kind::Xdp => (0, 4),
        Kind::Tcx => (76, 80),
    };
    assembly.op(Mov, R6, R1).load(B4, R7, R6, data).load(B4, R8, R6, end);
    assembly.op(Mov, R2, R7).with(Add, R2, i32::try_from(length).unwrap_or(i32::MAX)).end_if_greater(R2, R8);
}

/// `R0` = a random number from 1 to `below`, in network order (Knuth's MMIX generator).
fn random(assembly: &mut Assembly, state: &OwnedFd, below: u16) {
    assembly.map_value(R9, raw(state)).load(B8, R0, R9, 0);
    assembly.number(R1, 6_364_136_223_846_793_005).op(Mul, R0, R1);
    assembly.number(R1, 1_442_695_040_888_963_407).op(Add, R0, R1).store(B8, R9, 0, R0);
    assembly.with(Shr, R0, 32).with(Mul, R0, i32::from(below)).with(Shr, R0, 32).with(Add, R0, 1);
    assembly.network_order_16(R0);
}

/// Writes `frame` at `R7`.
fn write(assembly: &mut Assembly, frame: &[u8]) {
    let (words, rest) = frame.as_chunks::<8>();
    let mut at = 0;
    for word in words {
        assembly.number(R2, u64::from_ne_bytes(*word)).store(B8, R7, at, R2);
        at += 8;
    }
    for pair in rest.chunks_exact(2) {
        let value = u16::from_ne_bytes([pair[0], pair[1]]);
        assembly.with(Mov, Reg::R2, i32::from(value)).store(B2, R7, at, R2);
        at += 2;
    }
}

fn raw(fd: &OwnedFd) -> u32 {
    fd.as_raw_fd().cast_unsigned()
}
