//! `announcer answer` as people run it: the binary, in namespaces of its own, asked over real links. Needs root.

mod announcing;
mod live_links;
mod process;
mod restart;
mod sessions;
#[path = "../datapath/support/mod.rs"]
mod support;
mod usage;
