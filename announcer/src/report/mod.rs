//! Logs, metrics, Kubernetes events and status.
//!
//! [`build`] is what the program says of itself, [`changes`] words what is logged, [`log`] how a line looks; [`metrics`] and [`health`] are what [`http`] serves;
//! [`events`] and [`l2_status`] are what the cluster itself shows. [`printable`] keeps what others wrote from acting on a
//! terminal, everywhere.

pub mod build;
pub mod changes;
pub mod events;
pub mod health;
pub mod http;
pub mod l2_status;
pub mod log;
pub mod metrics;
mod printable;

pub use printable::{printable, printable_json};
