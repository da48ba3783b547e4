//! The kernel: load, attach, pin, adopt; owner maps as the election's result; proofs; kernel events out.
