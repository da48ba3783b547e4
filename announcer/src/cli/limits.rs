//! What the process may use.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::warn;

/// Raises the soft limit of open files to the hard one: container runtimes leave it at 1 024, which is meant for programs
/// that use select(2).
pub(super) fn raise_open_files() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    // `None` is without a limit.
    if current == maximum || current.is_none() {
        return;
    }
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        warn!(%error, "Cannot raise the limit of open files to the hard one (see `ulimit -Hn`)");
    }
}
