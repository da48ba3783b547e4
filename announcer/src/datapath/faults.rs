//! Calls that fail: a test makes the kernel refuse any write, and sees what becomes of everything else.

use std::{
    fmt, io,
    sync::{Arc, Mutex, PoisonError},
};

use aya::{maps::MapError, sys::SyscallError};

/// Asked before each call that may fail for want of memory or room, with the map's name or another word for the call;
/// an error number is the call's answer then, and nothing is written.
pub type CallHook = Box<dyn FnMut(&'static str) -> Option<i32> + Send>;

/// The hook, if a test has set one; shared by all generations of a datapath.
#[derive(Clone, Default)]
pub(super) struct Faults {
    hook: Option<Arc<Mutex<CallHook>>>,
}

// === impl Faults ===

impl Faults {
    pub(super) fn set(&mut self, hook: CallHook) {
        self.hook = Some(Arc::new(Mutex::new(hook)));
    }

    /// Before a call that is not about a map's entry.
    pub(super) fn check(&self, call: &'static str) -> io::Result<()> {
        let Some(hook) = &self.hook else { return Ok(()) };
        let mut hook = hook.lock().unwrap_or_else(PoisonError::into_inner);
        hook(call).map_or(Ok(()), |errno| Err(io::Error::from_raw_os_error(errno)))
    }

    /// Before a write to the map.
    pub(super) fn write(&self, map: &'static str) -> Result<(), MapError> {
        self.check(map).map_err(|io_error| SyscallError { call: "injected", io_error }.into())
    }
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Faults").field("hook", &self.hook.is_some()).finish()
    }
}
