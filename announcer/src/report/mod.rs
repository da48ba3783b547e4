//! Logs, metrics, Kubernetes events and status.
