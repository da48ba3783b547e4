//! The pin directory: that it is on a bpffs, that only one agent works in it, and what its names mean.
//!
//! ```text
//! gen-7/        programs and maps of one agent: announcer_xdp, announcer_tcx, …, session, links, …
//! link-2-native the link of ifindex 2, which keeps its program running while no agent does
//! session …     the live generation's maps once more, at names that stay, for bpftool and `announcer status`
//! ```

use std::{
    fs, io,
    os::{fd::OwnedFd, unix::fs::DirBuilderExt},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use rustix::fs::{FlockOperation, Mode, OFlags};

use super::{DatapathError, links::Attachment, trust};
use crate::vocabulary::LinkId;

const BPF_FS_MAGIC: rustix::fs::FsWord = 0xcafe_4a11;

/// The pin directory, and the lock on it for as long as this lives.
#[derive(Debug)]
pub(super) struct PinRoot {
    path: PathBuf,
    /// Holds the flock.
    lock: OwnedFd,
}

/// A pinned link, by its name.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct LinkPin {
    pub(super) link: LinkId,
    pub(super) attachment: Attachment,
    pub(super) path: PathBuf,
}

// === impl PinRoot ===

impl PinRoot {
    /// Makes the directory if need be, and locks it, waiting for as long as `patience`. It is this user's alone then.
    pub(super) fn lock(path: &Path, patience: Duration) -> Result<Self, DatapathError> {
        check_bpffs(path)?;
        trust::parent(path)?;
        let until = Instant::now() + patience;
        loop {
            match fs::DirBuilder::new().mode(0o700).create(path) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(DatapathError::file("create the directory", path)(error));
                }
                _ => {}
            }
            if let Some(lock) = try_lock(path)? {
                return Ok(Self { path: path.to_owned(), lock });
            }
            if Instant::now() >= until {
                return Err(DatapathError::Busy { path: path.to_owned() });
            }
            // Nothing tells when another process's flock is free, short of blocking for good.
            thread::sleep(Duration::from_millis(20));
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the name still leads to the directory that is locked, on a bpffs.
    ///
    /// # Errors
    /// The name leads to it, but it was deleted where it was mounted from; or nobody can look.
    pub(super) fn is_there(&self) -> Result<bool, DatapathError> {
        let wrap = |error: rustix::io::Errno| DatapathError::file("look at", &self.path)(error.into());
        let locked = rustix::fs::fstat(&self.lock).map_err(wrap)?;
        let found = match rustix::fs::stat(&self.path) {
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Ok(false),
            found => found.map_err(wrap)?,
        };
        let same = is_same(&found, &locked);
        if same && locked.st_nlink == 0 {
            return Err(DatapathError::Deleted { path: self.path.clone() });
        }
        Ok(same)
    }

    pub(super) fn generation(&self, number: u64) -> PathBuf {
        generation(&self.path, number)
    }

    /// The numbers of all generations, in ascending order.
    pub(super) fn generations(&self) -> Result<Vec<u64>, DatapathError> {
        generations(&self.path)
    }
}

impl Drop for PinRoot {
    fn drop(&mut self) {
        // Closing would not do: a child that another thread has just forked may hold a copy until it executes.
        if let Err(error) = rustix::fs::flock(&self.lock, FlockOperation::Unlock) {
            tracing::warn!(%error, "The lock on the pin directory could not be given back");
        }
    }
}

/// A number beyond 32 bits was not counted up to by us.
fn generation_number(name: &str) -> Option<u64> {
    name.strip_prefix("gen-")?.parse::<u32>().ok().map(u64::from)
}

// === impl LinkPin ===

impl LinkPin {
    pub(super) fn new(root: &Path, link: LinkId, attachment: Attachment) -> Self {
        Self { link, attachment, path: root.join(format!("link-{link}-{attachment}")) }
    }

    /// All links pinned under `root`.
    pub(super) fn all(root: &Path) -> Result<Vec<Self>, DatapathError> {
        let parse = |name: &String| {
            let (link, attachment) = name.strip_prefix("link-")?.split_once('-')?;
            Some(Self::new(root, LinkId(link.parse().ok()?), attachment.parse().ok()?))
        };
        Ok(names(root)?.iter().filter_map(parse).collect())
    }
}

/// The folder of a generation.
pub(super) fn generation(root: &Path, number: u64) -> PathBuf {
    root.join(format!("gen-{number}"))
}

/// The numbers of all generations under `root`, in ascending order.
pub(super) fn generations(root: &Path) -> Result<Vec<u64>, DatapathError> {
    let mut numbers: Vec<u64> = names(root)?.iter().filter_map(|name| generation_number(name)).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// The names in a directory, sorted.
pub(super) fn names(path: &Path) -> Result<Vec<String>, DatapathError> {
    let read = || -> io::Result<Vec<String>> {
        fs::read_dir(path)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    };
    let mut names = read().map_err(DatapathError::file("read the directory", path))?;
    names.sort_unstable();
    Ok(names)
}

/// Removes a pin; one that is not there is as good as removed.
pub(super) fn unpin(path: &Path) -> Result<(), DatapathError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(DatapathError::file("unpin", path)(error))
        }
        _ => Ok(()),
    }
}

/// Removes a folder of pins.
pub(super) fn remove_folder(path: &Path) -> Result<(), DatapathError> {
    for name in names(path)? {
        unpin(&path.join(name))?;
    }
    fs::remove_dir(path).map_err(DatapathError::file("remove the folder", path))
}

/// Whether there is something of that name. Unlike `Path::exists`, it does not take "you may not look" for a no.
pub(super) fn is_present(path: &Path) -> Result<bool, DatapathError> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(DatapathError::file("look at", path)(error)),
    }
}

/// `path`, or else its parent, must lie on a bpffs: pins are possible nowhere else.
pub(super) fn check_bpffs(path: &Path) -> Result<(), DatapathError> {
    let parent = if is_present(path)? { None } else { path.parent() };
    let existing = parent.unwrap_or(path);
    match rustix::fs::statfs(existing) {
        Ok(found) if i128::from(found.f_type) == i128::from(BPF_FS_MAGIC) => Ok(()),
        Ok(_) | Err(rustix::io::Errno::NOENT) => {
            Err(DatapathError::NotBpffs { path: path.to_owned(), parent: parent.map(ToOwned::to_owned) })
        }
        Err(error) => Err(DatapathError::file("look at", existing)(error.into())),
    }
}

/// The lock; `None` if another process has it, or has removed the directory meanwhile.
fn try_lock(path: &Path) -> Result<Option<OwnedFd>, DatapathError> {
    let wrap = |error: rustix::io::Errno| DatapathError::file("lock", path)(error.into());
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = match rustix::fs::open(path, flags, Mode::empty()) {
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        opened => opened.map_err(wrap)?,
    };
    trust::possess(&directory, path)?;
    match rustix::fs::flock(&directory, FlockOperation::NonBlockingLockExclusive) {
        Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
        locked => locked.map_err(wrap)?,
    }
    // An uninstall may have removed the directory between the two calls: then this lock guards nothing.
    let locked = rustix::fs::fstat(&directory).map_err(wrap)?;
    let same = rustix::fs::stat(path).is_ok_and(|now| is_same(&now, &locked));
    Ok(same.then_some(directory))
}

fn is_same(one: &rustix::fs::Stat, other: &rustix::fs::Stat) -> bool {
    (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)
}
