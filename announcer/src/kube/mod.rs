//! What the cluster says: custom resources, watches → one immutable Snapshot.
