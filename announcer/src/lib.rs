//! Announcer's agent. One direction of flow, one folder per room:
//! `kube → policy → election → datapath + wire → report`; `cli` opens the doors.

pub mod cli;
pub mod datapath;
pub mod election;
pub mod kube;
pub mod policy;
pub mod report;
pub mod vocabulary;
pub mod wire;
