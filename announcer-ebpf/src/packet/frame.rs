//! A received frame as the packet logic sees it: reads and writes of fixed sizes, each checked against the end.

/// A frame in a buffer that can be read, written and resized.
///
/// Every access has a constant size, so that the kernel's verifier can follow it. A read returns a copy, from which
/// the compiler loads no more than is used.
pub trait Frame {
    /// `N` bytes at `offset`; `None` where the frame is shorter.
    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]>;

    /// Writes `bytes` at `offset`; `None`, and nothing written, where the frame is shorter.
    fn write<const N: usize>(&mut self, offset: usize, bytes: &[u8; N]) -> Option<()>;

    /// The frame's length in bytes, without the frame check sequence.
    fn length(&self) -> usize;

    /// Cuts the frame, or lengthens it by bytes of any value; `None` where there is no room.
    fn resize(&mut self, length: usize) -> Option<()>;
}

/// A frame at the beginning of a buffer, for host code: tests, fuzzing, simulation.
#[derive(Debug)]
pub struct SliceFrame<'a> {
    buffer: &'a mut [u8],
    length: usize,
}

// === impl SliceFrame ===

impl<'a> SliceFrame<'a> {
    /// The first `length` bytes of `buffer`, which may grow to all of it. A length beyond the buffer is the buffer's.
    pub fn new(buffer: &'a mut [u8], length: usize) -> Self {
        let length = length.min(buffer.len());
        Self { buffer, length }
    }

    /// The frame's bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.buffer[..self.length]
    }
}

impl Frame for SliceFrame<'_> {
    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        self.bytes().get(offset..)?.first_chunk().copied()
    }

    fn write<const N: usize>(&mut self, offset: usize, bytes: &[u8; N]) -> Option<()> {
        *self.buffer[..self.length].get_mut(offset..)?.first_chunk_mut()? = *bytes;
        Some(())
    }

    fn length(&self) -> usize {
        self.length
    }

    fn resize(&mut self, length: usize) -> Option<()> {
        (length <= self.buffer.len()).then(|| self.length = length)
    }
}
