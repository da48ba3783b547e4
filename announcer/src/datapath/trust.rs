//! Whose the pin directory is. Who may write in it owns what the node answers, and who may open it can hold its lock: so
//! it belongs to this user, and to nobody else.

use std::{os::fd::OwnedFd, path::Path};

use rustix::fs::{Mode, Stat};

use super::DatapathError;

const WRITABLE_BY_OTHERS: u32 = 0o022;
const OPEN_TO_OTHERS: u32 = 0o077;
const STICKY: u32 = 0o1000;

/// What is wrong with a directory, in words, and the command that mends it.
#[derive(Debug, Eq, PartialEq)]
struct Fault {
    why: String,
    remedy: String,
}

/// Refuses a directory that is another's or that others may write. One that others may merely open, as older releases
/// made it, is closed to them.
pub(super) fn possess(directory: &OwnedFd, path: &Path) -> Result<(), DatapathError> {
    let stat = rustix::fs::fstat(directory).map_err(looking_at(path))?;
    if stat.st_uid == 0 && user() != 0 {
        // Older releases let everybody open it; to take root's place is no way out.
        return Err(DatapathError::file("lock", path)(rustix::io::Errno::ACCESS.into()));
    }
    refuse(fault(&stat, user(), path), path)?;
    if stat.st_mode & OPEN_TO_OTHERS != 0 {
        rustix::fs::fchmod(directory, Mode::RWXU)
            .map_err(|error| DatapathError::file("close to other users", path)(error.into()))?;
        tracing::info!(path = %path.display(), "The pin directory was open to other users; it is closed to them now");
    }
    Ok(())
}

/// Refuses a directory as [`possess`] does, and changes nothing. Root's is everybody's to read who can.
pub(super) fn check(path: &Path) -> Result<(), DatapathError> {
    let stat = rustix::fs::lstat(path).map_err(looking_at(path))?;
    refuse(fault(&stat, if stat.st_uid == 0 { 0 } else { user() }, path), path)
}

/// Refuses a place in which somebody else could put another directory under this name.
pub(super) fn parent(path: &Path) -> Result<(), DatapathError> {
    let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) else { return Ok(()) };
    let stat = rustix::fs::stat(parent).map_err(looking_at(parent))?;
    refuse(fault_of_parent(&stat, user(), parent), parent)
}

fn fault(stat: &Stat, user: u32, path: &Path) -> Option<Fault> {
    if stat.st_uid != user {
        let why = format!("belongs to user {}", stat.st_uid);
        return Some(Fault { why, remedy: format!("rm -r {}", path.display()) });
    }
    let mode = stat.st_mode & 0o7777;
    (mode & WRITABLE_BY_OTHERS != 0).then(|| Fault {
        why: format!("may be written by others (mode {mode:04o})"),
        remedy: format!("chmod 0700 {}", path.display()),
    })
}

fn fault_of_parent(stat: &Stat, user: u32, path: &Path) -> Option<Fault> {
    if stat.st_uid != user && stat.st_uid != 0 {
        let why = format!("belongs to user {}", stat.st_uid);
        return Some(Fault { why, remedy: format!("chown root {}", path.display()) });
    }
    let mode = stat.st_mode & 0o7777;
    // In a sticky directory nobody renames or removes what is not theirs.
    (mode & WRITABLE_BY_OTHERS != 0 && mode & STICKY == 0).then(|| Fault {
        why: format!("may be written by others (mode {mode:04o})"),
        remedy: format!("chmod 0700 {}", path.display()),
    })
}

fn refuse(fault: Option<Fault>, path: &Path) -> Result<(), DatapathError> {
    let Some(Fault { why, remedy }) = fault else { return Ok(()) };
    Err(DatapathError::Untrusted { path: path.to_owned(), why, remedy })
}

fn user() -> u32 {
    rustix::process::geteuid().as_raw()
}

fn looking_at(path: &Path) -> impl FnOnce(rustix::io::Errno) -> DatapathError {
    let wrap = DatapathError::file("look at", path);
    move |error| wrap(error.into())
}
