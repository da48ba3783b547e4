//! Messages that are right, with a right checksum, or nearly: what reaches the rules behind the parsers.
#![no_main]

use announcer_fuzz::{Entropy, check, frame, node};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut entropy = Entropy(bytes);
    let node = node(&mut entropy);
    check(node, &frame(&mut entropy));
});
