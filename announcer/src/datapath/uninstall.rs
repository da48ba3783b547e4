//! Leaving nothing behind: no program on any link, no pin.

use std::{fs, os::fd::AsFd, path::Path, time::Duration};

use super::{
    DatapathError,
    attach::detach,
    pin_root::{LinkPin, PinRoot, check_bpffs, names, remove_folder, unpin},
    sys,
};
use crate::vocabulary::LinkId;

/// Detaches every program of ours and removes the pin directory. The links that carried a program are returned.
///
/// # Errors
/// [`DatapathError::Busy`] while an agent runs; or a pin can't be removed.
pub fn uninstall(pin_root: &Path) -> Result<Vec<LinkId>, DatapathError> {
    check_bpffs(pin_root)?;
    if !pin_root.exists() {
        return Ok(Vec::new());
    }
    let root = PinRoot::lock(pin_root, Duration::ZERO)?;
    let mut links = Vec::new();
    for pin in LinkPin::all(root.path())? {
        let fd = sys::get_pinned(&pin.path).map_err(DatapathError::file("open the pin", &pin.path))?;
        if sys::link_info(fd.as_fd()).is_ok_and(|info| info.ifindex != 0) {
            links.push(pin.link);
        }
        detach(&pin, fd)?;
    }
    for number in root.generations()? {
        remove_folder(&root.generation(number))?;
    }
    for name in names(root.path())? {
        unpin(&root.path().join(name))?;
    }
    fs::remove_dir(root.path()).map_err(DatapathError::file("remove the folder", root.path()))?;
    links.dedup();
    Ok(links)
}
