//! The datapath against the kernel: live programs on whole frames, real links, restarts, pins. Needs root; every test
//! lives in namespaces and a bpffs of its own, and leaves nothing behind.

mod adoption;
mod arp;
mod beside;
mod conflicts;
mod failing;
mod filter;
mod kernel_log;
mod links;
mod modes;
mod ndp;
mod pins;
mod restart;
mod rules;
mod support;
mod tables;
mod wire;
