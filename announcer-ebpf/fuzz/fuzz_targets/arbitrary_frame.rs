//! Any bytes as a frame: no length, no type and no field is taken for granted.
#![no_main]

use announcer_fuzz::{Entropy, check, node};
use libfuzzer_sys::fuzz_target;

/// Bytes that choose the node; the others are the frame.
const NODE: usize = 16;

fuzz_target!(|bytes: &[u8]| {
    let (choices, frame) = bytes.split_at(bytes.len().min(NODE));
    check(node(&mut Entropy(choices)), frame);
});
