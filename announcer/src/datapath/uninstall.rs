//! Leaving nothing behind: no program on any link, no pin.

use std::{collections::BTreeSet, fs, io, os::fd::AsFd, path::Path, time::Duration};

use super::{
    DatapathError,
    attach::detach,
    pin_root::{LinkPin, PinRoot, check_bpffs, is_present, names, remove_folder, unpin},
    shape::MapName,
    sys,
};
use crate::vocabulary::LinkId;

/// What is pinned under a directory, and the lock on it: nobody starts while it is removed.
#[derive(Debug)]
pub struct Remains(PinRoot);

/// Detaches every program of ours and removes the pin directory. The links that carried a program are returned.
///
/// # Errors
/// [`DatapathError::Busy`] while an agent runs; or a pin can't be removed.
pub fn uninstall(pin_root: &Path) -> Result<Vec<LinkId>, DatapathError> {
    Remains::lock(pin_root)?.map_or(Ok(Vec::new()), Remains::remove)
}

// === impl Remains ===

impl Remains {
    /// `None` if there is no such directory.
    ///
    /// # Errors
    /// [`DatapathError::Busy`] while an agent runs; no bpffs; no right to look.
    pub fn lock(pin_root: &Path) -> Result<Option<Self>, DatapathError> {
        let lock = || {
            check_bpffs(pin_root)?;
            let there = is_present(pin_root)?;
            there.then(|| PinRoot::lock(pin_root, Duration::ZERO)).transpose()
        };
        Ok(lock().map_err(DatapathError::explained)?.map(Self))
    }

    /// Of a datapath that ends, with its lock.
    pub(super) fn of(root: PinRoot) -> Self {
        Self(root)
    }

    /// The links that a program is pinned for.
    ///
    /// # Errors
    /// The directory can't be read.
    pub fn links(&self) -> Result<BTreeSet<LinkId>, DatapathError> {
        Ok(LinkPin::all(self.0.path())?.into_iter().map(|pin| pin.link).collect())
    }

    /// Detaches every program of ours, removes our pins, and the directory unless somebody else has put something into
    /// it or it is a mount point. The links that carried a program are returned.
    ///
    /// # Errors
    /// A pin can't be removed; all others are.
    pub fn remove(self) -> Result<Vec<LinkId>, DatapathError> {
        let root = self.0;
        let (mut links, mut failed) = (Vec::new(), Ok(()));
        let mut done =
            |result: Result<(), DatapathError>| failed = std::mem::replace(&mut failed, Ok(())).and(result);
        for pin in LinkPin::all(root.path())? {
            match sys::get_pinned(&pin.path).map_err(DatapathError::file("open the pin", &pin.path)) {
                Ok(fd) => {
                    if sys::link_info(fd.as_fd()).is_ok_and(|info| info.ifindex != 0) {
                        links.push(pin.link);
                    }
                    done(detach(&pin, fd));
                }
                Err(error) => done(Err(error)),
            }
        }
        for number in root.generations()? {
            done(remove_folder(&root.generation(number)));
        }
        for name in MapName::ALL {
            done(unpin(&root.path().join(name.pin())));
        }
        let foreign = names(root.path())?;
        match foreign.is_empty() {
            true => done(remove_root(root.path())),
            false => {
                let (path, foreign) = (root.path().display(), foreign.join(", "));
                tracing::warn!(%path, foreign, "The pin directory holds what is not ours; it is left alone");
            }
        }
        failed?;
        links.dedup();
        Ok(links)
    }
}

/// In a container the directory is where the host's is mounted, in a root that may be read-only: it stays then, empty.
fn remove_root(path: &Path) -> Result<(), DatapathError> {
    use io::ErrorKind::{ReadOnlyFilesystem, ResourceBusy};
    match fs::remove_dir(path) {
        Err(error) if !matches!(error.kind(), ResourceBusy | ReadOnlyFilesystem) => {
            Err(DatapathError::file("remove the folder", path)(error))
        }
        _ => Ok(()),
    }
}
