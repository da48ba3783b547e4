//! Logs, metrics, Kubernetes events and status.
//!
//! [`changes`] words what is logged, [`log`] how a line looks; [`metrics`] and [`health`] are what [`http`] serves.

pub mod changes;
pub mod health;
pub mod http;
pub mod log;
pub mod metrics;
