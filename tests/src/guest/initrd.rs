//! What a guest has: files, in the archive that the kernel unpacks into its memory.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};

/// A root file system in the making, in a folder that goes with it.
#[derive(Debug)]
pub struct Initrd {
    root: PathBuf,
}

// === impl Initrd ===

impl Initrd {
    /// With busybox and the folders that file systems are mounted on.
    ///
    /// # Errors
    /// Busybox is not installed, or the folder can't be written.
    pub fn new() -> Result<Self> {
        let root = std::env::temp_dir().join(format!("announcer-initrd-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        for folder in ["bin", "proc", "sys", "dev", "tmp", "modules"] {
            fs::create_dir_all(root.join(folder)).context("make the initrd's folders")?;
        }
        let initrd = Self { root };
        let busybox = initrd.program(Path::new("/bin/busybox"))?;
        let applets = Command::new(&busybox).arg("--list").output().context("start busybox")?;
        for applet in String::from_utf8_lossy(&applets.stdout).lines().filter(|applet| *applet != "busybox") {
            symlink("busybox", initrd.root.join("bin").join(applet)).context("link an applet")?;
        }
        Ok(initrd)
    }

    /// Puts a program into `/bin`, and what it is linked with where that belongs.
    ///
    /// # Errors
    /// It can't be read.
    pub fn program(&self, program: &Path) -> Result<PathBuf> {
        let name = program.file_name().with_context(|| format!("{} has no name", program.display()))?;
        let to = self.root.join("bin").join(name);
        let _ = fs::remove_file(&to);
        fs::copy(program, &to)
            .with_context(|| format!("copy {}: run `cargo xtask setup`", program.display()))?;
        // A static program is "not a dynamic executable".
        let libraries =
            Command::new("ldd").arg(program).stderr(Stdio::null()).output().context("start ldd")?;
        for word in
            String::from_utf8_lossy(&libraries.stdout).split_whitespace().filter(|word| word.starts_with('/'))
        {
            self.file(
                word.trim_start_matches('/'),
                fs::read(word).with_context(|| format!("read {word}"))?,
                0o755,
            )?;
        }
        Ok(to)
    }

    /// Puts a folder of text files into the place that it has on this machine.
    ///
    /// # Errors
    /// It can't be read.
    pub fn folder(&self, folder: &Path) -> Result<()> {
        for entry in fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))? {
            let path = entry?.path();
            if path.is_dir() {
                self.folder(&path)?;
            } else {
                let bytes = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
                self.file(&path.to_string_lossy()[1..], bytes, 0o644)?;
            }
        }
        Ok(())
    }

    /// Writes a file; `path` is relative to the root.
    ///
    /// # Errors
    /// It can't be written.
    pub fn file(&self, path: &str, contents: impl AsRef<[u8]>, mode: u32) -> Result<()> {
        let to = self.root.join(path);
        if let Some(folder) = to.parent() {
            fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
        }
        fs::write(&to, contents).with_context(|| format!("write {}", to.display()))?;
        fs::set_permissions(&to, fs::Permissions::from_mode(mode)).context("set a file's mode")
    }

    /// Writes the archive.
    pub(super) fn write(&self, archive: &Path) -> Result<()> {
        let file = fs::File::create(archive).with_context(|| format!("write {}", archive.display()))?;
        let status = Command::new("sh")
            .current_dir(&self.root)
            .args(["-ec", "find . | cpio --create --format=newc --quiet"])
            .stdout(file)
            .status()
            .context("start cpio")?;
        ensure!(status.success(), "cpio failed");
        Ok(())
    }
}

impl Drop for Initrd {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.root);
    }
}
