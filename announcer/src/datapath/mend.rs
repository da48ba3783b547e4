//! Pins that were deleted under a running agent, or went with a bpffs that was unmounted. The kernel does not miss them:
//! this process holds all that they hold. The next agent would: so they are looked at, and made again, while it is time.

use std::{
    fs, io,
    os::fd::{AsFd, BorrowedFd},
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    Datapath, DatapathError,
    pin_root::{PinRoot, check_bpffs, unpin},
    sys,
};

/// What was found missing, or pinned to something else.
#[derive(Debug, Default)]
pub struct Mended {
    /// What is pinned again.
    pub pins: Vec<PathBuf>,
    /// Why the rest is not.
    pub failed: Option<DatapathError>,
}

// === impl Datapath ===

impl Datapath {
    /// Looks whether everything is pinned that an agent after this one needs, and pins again what is not. Takes some
    /// dozens of system calls.
    pub fn mend_pins(&mut self) -> Mended {
        let mut mended = Mended::default();
        if let Err(error) = self.mend_into(&mut mended.pins) {
            mended.failed = Some(error.explained());
        }
        mended
    }

    fn mend_into(&mut self, mended: &mut Vec<PathBuf>) -> Result<(), DatapathError> {
        let Some(active) = &self.active else { return Ok(()) };
        check_bpffs(self.root.path())?;
        if !self.root.is_there()? {
            // The old lock guards what no name leads to.
            self.root = PinRoot::lock(self.root.path(), Duration::ZERO)?;
        }
        let folder = self.root.generation(active.number);
        match fs::create_dir(&folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(DatapathError::file("create the folder", folder)(error));
            }
            _ => {}
        }
        let generation = active.generation.pins().map(|(name, object)| (folder.join(name), object));
        let shown = active.generation.shown().map(|(name, object)| (self.root.path().join(name), object));
        let links = active.links.iter().map(|attached| (attached.pin.path.clone(), attached.fd.as_fd()));
        for (path, object) in generation.chain(shown).chain(links) {
            if !is_pinned(object, &path) {
                unpin(&path)?;
                sys::pin(object, &path).map_err(DatapathError::file("pin", &path))?;
                mended.push(path);
            }
        }
        Ok(())
    }
}

/// Whether the pin is there, and of that very object.
fn is_pinned(object: BorrowedFd<'_>, path: &Path) -> bool {
    sys::get_pinned(path).is_ok_and(|pinned| sys::is_same_object(pinned.as_fd(), object).unwrap_or(false))
}
