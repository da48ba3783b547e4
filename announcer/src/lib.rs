//! Announcer's agent. One direction of flow, one folder per room:
//! `kube → policy → election → datapath + wire → report`; `cli` opens the doors.

pub mod vocabulary;
