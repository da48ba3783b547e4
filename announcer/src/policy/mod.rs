//! Who may announce what, where: pure functions of the Snapshot.
