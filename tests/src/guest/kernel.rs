//! A distribution's kernel, unpacked and never installed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use super::Initrd;
use crate::parts::cache_dir;

/// In a kernel's folder: the name of the package that it is from.
pub const PACKAGE_FILE: &str = "package";

/// A kernel and its modules.
#[derive(Clone, Debug)]
pub struct Kernel {
    folder: PathBuf,
    release: String,
}

// === impl Kernel ===

impl Kernel {
    /// Where kernels of a series (`6.12`) are unpacked, each in a folder of its own.
    ///
    /// # Errors
    /// There is no home directory.
    pub fn series_dir(series: &str) -> Result<PathBuf> {
        Ok(cache_dir()?.join(format!("kernels-{series}")))
    }

    /// The kernel of a series that was fetched last.
    ///
    /// # Errors
    /// There is none.
    pub fn locate(series: &str) -> Result<Self> {
        let folder = Self::series_dir(series)?;
        let newest = fs::read_dir(&folder)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.join(PACKAGE_FILE).is_file())
            .filter_map(|path| Some((fs::metadata(path.join(PACKAGE_FILE)).ok()?.modified().ok()?, path)))
            .max();
        let (_, folder) = newest
            .with_context(|| format!("no Linux {series} in {}: run `cargo xtask setup`", folder.display()))?;
        let release = only_name_in(&folder.join("lib/modules"))?;
        Ok(Self { folder, release })
    }

    /// As `uname -r` will say it.
    pub fn release(&self) -> &str {
        &self.release
    }

    /// What boots.
    pub fn image(&self) -> PathBuf {
        self.folder.join("boot").join(format!("vmlinuz-{}", self.release))
    }

    /// Puts `wanted` and what they depend on into `initrd`, and says in which order they are to be loaded.
    pub(super) fn modules(&self, wanted: &[&str], initrd: &mut Initrd) -> Result<Vec<String>> {
        let tree = self.folder.join("lib/modules").join(&self.release);
        let dependencies = fs::read_to_string(tree.join("modules.dep")).context("read modules.dep")?;
        let mut order: Vec<&str> = Vec::new();
        for name in wanted {
            // What is not listed is built in.
            let found = dependencies
                .lines()
                .filter_map(|line| line.split_once(':'))
                .find(|(path, _)| module(path) == *name);
            let Some((path, needs)) = found else { continue };
            // The last one is needed first.
            for path in needs.split_whitespace().rev().chain([path]) {
                if !order.contains(&path) {
                    order.push(path);
                }
            }
        }
        order
            .iter()
            .map(|path| {
                let file = tree.join(path);
                let bytes = if path.ends_with(".xz") {
                    unxz(&file)?
                } else {
                    fs::read(&file).context("read a module")?
                };
                let name = format!("{}.ko", module(path));
                initrd.file(&format!("modules/{name}"), bytes, 0o644)?;
                Ok(name)
            })
            .collect()
    }
}

/// `kernel/drivers/net/virtio_net.ko.xz` is `virtio_net`.
fn module(path: &str) -> &str {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.split_once(".ko").map_or(name, |(name, _)| name)
}

/// Busybox's insmod takes no packed module.
fn unxz(file: &Path) -> Result<Vec<u8>> {
    let unpacked =
        Command::new("xz").args(["--decompress", "--stdout"]).arg(file).output().context("start xz")?;
    ensure!(unpacked.status.success(), "xz cannot unpack {}", file.display());
    Ok(unpacked.stdout)
}

fn only_name_in(folder: &Path) -> Result<String> {
    let mut names = fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))?;
    let name = names.next().with_context(|| format!("{} is empty", folder.display()))??.file_name();
    Ok(name.to_string_lossy().into_owned())
}
