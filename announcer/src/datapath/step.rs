//! The steps of taking over, so that a test can stop after any of them as if the agent had been killed there.

use std::{fmt, ops::ControlFlow};

use super::DatapathError;
use crate::vocabulary::LinkId;

/// What has just been done by [`super::Datapath::establish`], in this order.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Step {
    /// Programs and maps are in the kernel, not pinned yet.
    Loaded,
    /// The new generation's folder exists.
    FolderMade,
    /// One more object is pinned in it.
    Pinned(&'static str),
    /// The new maps hold session, deadline and entries of the old ones.
    Copied,
    /// An inherited link runs the new program.
    Swapped(LinkId),
    /// A link has a program that had none, or has another mode.
    Attached(LinkId),
    /// A link that can't be swapped, or is not wanted any more, is detached.
    Detached(LinkId),
    /// No run of an old program is under way any more.
    GracePassed,
    /// The old generation with this number is silent.
    Silenced(u64),
    /// An inspection pin points at the new map.
    Shown(&'static str),
    /// The folder of the old generation with this number is gone.
    Deleted(u64),
}

/// Called after each step; `Break` stops the work there.
pub type StepHook = Box<dyn FnMut(Step) -> ControlFlow<()> + Send>;

/// The hook, if a test has set one.
#[derive(Default)]
pub(super) struct Steps {
    hook: Option<StepHook>,
}

// === impl Steps ===

impl Steps {
    pub(super) fn set(&mut self, hook: StepHook) {
        self.hook = Some(hook);
    }

    pub(super) fn done(&mut self, step: Step) -> Result<(), DatapathError> {
        tracing::trace!(?step, "Datapath step done");
        match self.hook.as_mut().map(|hook| hook(step)) {
            Some(ControlFlow::Break(())) => Err(DatapathError::Stopped(step)),
            Some(ControlFlow::Continue(())) | None => Ok(()),
        }
    }
}

impl fmt::Debug for Steps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Steps").field("hook", &self.hook.is_some()).finish()
    }
}
