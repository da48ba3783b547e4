//! BPF instructions, put together by hand: the few that the bench's own small programs need.

/// A register; `R1` is the context at entry, `R10` the frame pointer.
#[derive(Clone, Copy, Debug)]
pub enum Reg {
    R0 = 0,
    R1 = 1,
    R2 = 2,
    R3 = 3,
    R6 = 6,
    R7 = 7,
    R8 = 8,
    R9 = 9,
}

/// How much a load or store moves.
#[derive(Clone, Copy, Debug)]
pub enum Size {
    B2 = 0x08,
    B4 = 0x00,
    B8 = 0x18,
}

/// What is done to the left register with the right one or a number.
#[derive(Clone, Copy, Debug)]
pub enum Op {
    Add = 0x00,
    Mul = 0x20,
    And = 0x50,
    Shl = 0x60,
    Shr = 0x70,
    Xor = 0xa0,
    Mov = 0xb0,
}

/// A program under construction.
#[derive(Clone, Debug, Default)]
pub struct Assembly {
    words: Vec<u64>,
    /// Jumps to the end, which is not known yet.
    to_end: Vec<usize>,
}

const LOAD_IMMEDIATE_64: u64 = 0x18;
const LOAD: u64 = 0x61;
const STORE: u64 = 0x63;
const ALU64: u64 = 0x07;
const BY_REGISTER: u64 = 0x08;
const TO_BIG_ENDIAN: u64 = 0xdc;
const JUMP_IF_GREATER: u64 = 0x2d;
const CALL: u64 = 0x85;
const EXIT: u64 = 0x95;
const PSEUDO_MAP_FD: u64 = 1;
const PSEUDO_MAP_VALUE: u64 = 2;

impl Assembly {
    fn push(&mut self, code: u64, left: u64, right: u64, offset: i16, number: i32) -> &mut Self {
        let offset = u64::from(offset.cast_unsigned());
        let number = u64::from(number.cast_unsigned());
        self.words.push(code | left << 8 | right << 12 | offset << 16 | number << 32);
        self
    }

    /// `left = op(left, number)`.
    pub fn with(&mut self, op: Op, left: Reg, number: i32) -> &mut Self {
        self.push(ALU64 | op as u64, left as u64, 0, 0, number)
    }

    /// `left = op(left, right)`.
    pub fn op(&mut self, op: Op, left: Reg, right: Reg) -> &mut Self {
        self.push(ALU64 | BY_REGISTER | op as u64, left as u64, right as u64, 0, 0)
    }

    /// `to = number`, all 64 bits.
    pub fn number(&mut self, to: Reg, number: u64) -> &mut Self {
        self.wide(to, 0, number as u32, (number >> 32) as u32)
    }

    /// `to = map`, as helpers take it.
    pub fn map(&mut self, to: Reg, map: u32) -> &mut Self {
        self.wide(to, PSEUDO_MAP_FD, map, 0)
    }

    /// `to = &value of the one element of the array`.
    pub fn map_value(&mut self, to: Reg, map: u32) -> &mut Self {
        self.wide(to, PSEUDO_MAP_VALUE, map, 0)
    }

    fn wide(&mut self, to: Reg, what: u64, low: u32, high: u32) -> &mut Self {
        self.push(LOAD_IMMEDIATE_64, to as u64, what, 0, low.cast_signed()).push(
            0,
            0,
            0,
            0,
            high.cast_signed(),
        )
    }

    /// `to = *(from + offset)`.
    pub fn load(&mut self, size: Size, to: Reg, from: Reg, offset: i16) -> &mut Self {
        self.push(LOAD | size as u64, to as u64, from as u64, offset, 0)
    }

    /// `*(to + offset) = from`.
    pub fn store(&mut self, size: Size, to: Reg, offset: i16, from: Reg) -> &mut Self {
        self.push(STORE | size as u64, to as u64, from as u64, offset, 0)
    }

    /// The low 16 bits of `what` in network order, the others cleared.
    pub fn network_order_16(&mut self, what: Reg) -> &mut Self {
        self.push(TO_BIG_ENDIAN, what as u64, 0, 0, 16)
    }

    /// Calls a helper by its number.
    pub fn call(&mut self, helper: i32) -> &mut Self {
        self.push(CALL, 0, 0, 0, helper)
    }

    /// Jumps to the last `mov r0; exit` if `left > right`.
    pub fn end_if_greater(&mut self, left: Reg, right: Reg) -> &mut Self {
        self.to_end.push(self.words.len());
        self.push(JUMP_IF_GREATER, left as u64, right as u64, 0, 0)
    }

    /// Ends here with what is in `R0`.
    pub fn exit(&mut self) -> &mut Self {
        self.push(EXIT, 0, 0, 0, 0)
    }

    /// The program, which ends with `verdict`.
    pub fn finish(&mut self, verdict: i32) -> Vec<u64> {
        let end = self.words.len();
        for jump in self.to_end.drain(..) {
            let distance = i16::try_from(end - jump - 1).unwrap_or(i16::MAX);
            self.words[jump] |= u64::from(distance.cast_unsigned()) << 16;
        }
        self.with(Op::Mov, Reg::R0, verdict).exit();
        std::mem::take(&mut self.words)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_are_encoded_as_the_kernel_s_documentation_prints_them() {
        let mut assembly = Assembly::default();
        assembly
            .load(Size::B4, Reg::R2, Reg::R1, 4)
            .end_if_greater(Reg::R2, Reg::R3)
            .number(Reg::R1, 1 << 32);
        let program = assembly.finish(2);
        assert_eq!(
            program,
            [
                0x0000_0000_0004_1261, // r2 = *(u32 *)(r1 + 4)
                0x0000_0000_0002_322d, // if r2 > r3 goto +2
                0x0000_0000_0000_0118, // r1 = 1 << 32
                0x0000_0001_0000_0000,
                0x0000_0002_0000_00b7, // r0 = 2
                0x0000_0000_0000_0095, // exit
            ]
        );
    }
}
