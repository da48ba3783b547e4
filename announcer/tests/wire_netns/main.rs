//! The wire room against a real kernel: each test makes network namespaces of its own, which vanish with it. Needs root.
//!
//! Judges are not ours: the kernel's neighbour table, `/proc/net/igmp6`, `ip`, `tcpdump`.

mod announcing;
mod detecting;
mod groups;
mod lan;
mod links;
mod probing;
mod segments;
