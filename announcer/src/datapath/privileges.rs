//! Whether this process and this kernel can do it at all, asked before anything is tried.

use std::fs;

use super::{DatapathError, Mode};

/// What loading, attaching and pinning need, by bit number of `capabilities(7)`.
const NEEDED: [(u32, &str); 3] = [(39, "CAP_BPF"), (12, "CAP_NET_ADMIN"), (38, "CAP_PERFMON")];

pub(super) fn check(mode: Mode) -> Result<(), DatapathError> {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    if version(&release).is_some_and(|version| version < oldest(mode)) {
        return Err(DatapathError::KernelTooOld { release });
    }
    let status = fs::read_to_string("/proc/thread-self/status")
        .map_err(DatapathError::file("read", "/proc/thread-self/status"))?;
    let names = missing(&status);
    if names.is_empty() { Ok(()) } else { Err(DatapathError::MissingCapabilities { names }) }
}

/// The first kernel with TCX for a mode that has nothing else; for the others, the first that takes XDP with `frags`.
fn oldest(mode: Mode) -> (u32, u32) {
    match mode {
        Mode::Tcx => (6, 6),
        Mode::Auto | Mode::Native | Mode::Generic => (5, 18),
    }
}

/// Major and minor number of `uname -r`.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Names of needed capabilities that `CapEff` lacks; a line that can't be read lacks none, the kernel will tell.
fn missing(status: &str) -> Vec<&'static str> {
    let effective = status
        .lines()
        .find_map(|line| u64::from_str_radix(line.strip_prefix("CapEff:")?.trim(), 16).ok())
        .unwrap_or(u64::MAX);
    NEEDED.iter().filter(|(bit, _)| effective >> bit & 1 == 0).map(|(_, name)| *name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_with_a_suffix_has_its_two_numbers_read() {
        assert_eq!(version("6.18.44-fc-v657"), Some((6, 18)));
        assert!(version("5.15.0-105-generic") < Some(oldest(Mode::Auto)));
        assert!(version("6.1.0-13-amd64") < Some(oldest(Mode::Tcx)));
        assert!(version("6.1.0-13-amd64") > Some(oldest(Mode::Auto)));
    }

    #[test]
    fn what_is_missing_is_said_in_one_line_with_the_way_out() {
        let old = DatapathError::KernelTooOld { release: "5.15.0".to_owned() }.to_string();
        assert!(old.contains("5.18") && old.contains("6.6") && old.contains("boot a newer kernel"), "{old}");
        let missing = DatapathError::MissingCapabilities { names: vec!["CAP_BPF"] }.to_string();
        assert!(missing.contains("CAP_BPF") && missing.contains("securityContext.capabilities"), "{missing}");
        assert!(!old.contains('\n') && !missing.contains('\n'));
    }

    #[test]
    fn exactly_the_missing_capabilities_are_named() {
        let net_admin = "Name:\tx\nCapEff:\t0000000000001000\n";
        assert_eq!(missing(net_admin), ["CAP_BPF", "CAP_PERFMON"]);
        assert_eq!(missing("CapEff:\t000001ffffffffff\n"), [] as [&str; 0]);
    }
}
