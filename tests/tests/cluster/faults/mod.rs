//! Everything that can change or break around four nodes, one at a time, on the real API server and etcd, with the
//! real programs in the kernel. A judge asks all the time who answers: never two at once, again within the bound that
//! the design gives, and what had no reason to move did not.
//!
//! Each test has a cluster of its own, so they can run side by side: `cargo xtask test cluster` runs three at a time.

mod agents;
mod api;
mod configuration;
mod leases;
mod nodes;
mod policy;
mod selectors;
