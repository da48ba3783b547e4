//! Plain tar archives (ustar): no owner, no times, so that equal content gives equal bytes.

use anyhow::{Result, ensure};

const BLOCK: usize = 512;

/// An archive in the making.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    bytes: Vec<u8>,
    folders: std::collections::BTreeSet<String>,
}

impl Writer {
    /// Adds a file, and the folders above it.
    pub(crate) fn add(&mut self, path: &str, mode: u32, content: &[u8]) -> Result<()> {
        let path = path.trim_start_matches('/');
        let mut above = String::new();
        for part in path.split('/').rev().skip(1).collect::<Vec<_>>().into_iter().rev() {
            above += part;
            above.push('/');
            if self.folders.insert(above.clone()) {
                self.header(&above, 0o755, 0, b'5')?;
            }
        }
        self.header(path, mode, content.len(), b'0')?;
        self.bytes.extend_from_slice(content);
        self.bytes.resize(self.bytes.len().next_multiple_of(BLOCK), 0);
        Ok(())
    }

    /// The whole archive.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.bytes.resize(self.bytes.len() + 2 * BLOCK, 0);
        self.bytes
    }

    fn header(&mut self, name: &str, mode: u32, size: usize, kind: u8) -> Result<()> {
        ensure!(name.len() <= 100, "`{name}` is too long for a plain tar header");
        let mut header = [0_u8; BLOCK];
        header[..name.len()].copy_from_slice(name.as_bytes());
        octal(&mut header[100..108], u64::from(mode));
        octal(&mut header[108..116], 0);
        octal(&mut header[116..124], 0);
        octal(&mut header[124..136], size as u64);
        octal(&mut header[136..148], 0);
        header[156] = kind;
        header[257..265].copy_from_slice(b"ustar\x0000");
        // The checksum is taken with its own field full of spaces.
        header[148..156].fill(b' ');
        let sum: u64 = header.iter().map(|byte| u64::from(*byte)).sum();
        octal(&mut header[148..155], sum);
        self.bytes.extend_from_slice(&header);
        Ok(())
    }
}

/// An octal number with leading zeros, ended by NUL.
fn octal(field: &mut [u8], value: u64) {
    let digits = field.len() - 1;
    let text = format!("{value:0digits$o}");
    field[..digits].copy_from_slice(text.as_bytes());
    field[digits] = 0;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_is_read_by_tar() {
        let mut writer = Writer::default();
        writer.add("blobs/sha256/aa", 0o644, b"hello").expect("fits");
        writer.add("top", 0o755, &[7; 513]).expect("fits");
        let bytes = writer.finish();
        let path = std::env::temp_dir().join(format!("lab-tar-{}", std::process::id()));
        std::fs::write(&path, &bytes).expect("written");
        let listed = std::process::Command::new("tar").arg("tvf").arg(&path).output().expect("tar runs");
        std::fs::remove_file(&path).expect("removed");
        let text = String::from_utf8_lossy(&listed.stdout).into_owned();
        let names: Vec<_> = text.lines().filter_map(|line| line.split_whitespace().last()).collect();
        assert_eq!(names, ["blobs/", "blobs/sha256/", "blobs/sha256/aa", "top"]);
        assert!(listed.stderr.is_empty(), "{}", String::from_utf8_lossy(&listed.stderr));
    }
}
