//! From a fuzzer's bytes to a node and a frame, and the one question that all targets ask: does the packet logic say what
//! the oracle of the property tests says?

#[path = "../../tests/oracle/mod.rs"]
pub mod oracle;
mod world;

pub use world::{Entropy, frame, node};

use announcer_ebpf::packet::Verdict;
use oracle::FakeNode;

/// The verdict and the node's books afterwards. Panics if packet logic and oracle differ in verdict, bytes or books.
pub fn check(node: FakeNode, frame: &[u8]) -> (Verdict, FakeNode) {
    let (mut ours, mut theirs) = (node.clone(), node);
    let wanted = oracle::judge(&mut theirs, frame);
    let got = oracle::run(&mut ours, frame, 64);
    assert_eq!(got, wanted, "verdict and bytes");
    assert_eq!(ours, theirs, "books");
    (got.0, ours)
}
