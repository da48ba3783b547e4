//! Whether this process may do it at all, asked before anything is tried; and whether an old kernel is why it failed.

use std::fs;

use super::{DatapathError, refusal::in_one_line};

/// What loading, attaching and pinning need, by bit number of `capabilities(7)`.
const NEEDED: [(u32, &str); 2] = [(39, "CAP_BPF"), (12, "CAP_NET_ADMIN")];
/// Stands for CAP_BPF, which is a part of it.
pub(super) const SYS_ADMIN: u32 = 21;
/// The first kernel that takes XDP programs with `frags`.
const OLDEST: (u32, u32) = (5, 18);

/// Names the capabilities that are missing.
pub(super) fn check() -> Result<(), DatapathError> {
    let status = fs::read_to_string("/proc/thread-self/status")
        .map_err(DatapathError::file("read", "/proc/thread-self/status"))?;
    let names = missing(&status);
    if names.is_empty() { Ok(()) } else { Err(DatapathError::MissingCapabilities { names }) }
}

/// The same error, or the kernel's age if that is why the object was not taken. Distributions carry eBPF of newer
/// kernels under old numbers (RHEL 9's 5.14): so it is tried first, and the number counts only for what failed.
pub(super) fn blame_age(error: DatapathError) -> DatapathError {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    too_old(error, &release)
}

fn too_old(error: DatapathError, release: &str) -> DatapathError {
    let is_of_the_object = matches!(error, DatapathError::Load(_) | DatapathError::LoadProgram { .. });
    if is_of_the_object && version(release).is_some_and(|version| version < OLDEST) {
        return DatapathError::KernelTooOld { release: release.to_owned(), why: in_one_line(&error) };
    }
    error
}

/// Major and minor number of `uname -r`.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Whether `CapEff` has this capability; a line that can't be read has all, the kernel will tell.
pub(super) fn has(status: &str, bit: u32) -> bool {
    let effective = status
        .lines()
        .find_map(|line| u64::from_str_radix(line.strip_prefix("CapEff:")?.trim(), 16).ok())
        .unwrap_or(u64::MAX);
    effective >> bit & 1 == 1
}

/// Names of needed capabilities that are missing.
fn missing(status: &str) -> Vec<&'static str> {
    let has = |bit: u32| has(status, bit);
    let stands_in = |name: &str| name == "CAP_BPF" && has(SYS_ADMIN);
    let lacks = |(bit, name): &&(u32, &str)| !has(*bit) && !stands_in(name);
    NEEDED.iter().filter(lacks).map(|(_, name)| *name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused() -> DatapathError {
        let error = std::io::Error::from_raw_os_error(libc::EINVAL);
        let source = aya::programs::ProgramError::IOError(error);
        DatapathError::LoadProgram { name: "announcer_xdp", source: Box::new(source) }
    }

    #[test]
    fn a_release_with_a_suffix_has_its_two_numbers_read() {
        assert_eq!(version("6.18.44-fc-v657"), Some((6, 18)));
        assert!(version("5.15.0-105-generic") < Some(OLDEST));
        assert!(version("6.1.0-13-amd64") > Some(OLDEST));
    }

    #[test]
    fn an_old_number_is_blamed_only_for_an_object_that_was_not_taken() {
        let release = "5.14.0-503.el9.x86_64";
        let line = too_old(refused(), release).to_string();
        assert!(
            line.contains("5.14.0-503.el9.x86_64 is too old") && line.contains("announcer_xdp"),
            "{line}"
        );
        let other = DatapathError::kernel("wait")(std::io::Error::from_raw_os_error(libc::EINVAL));
        assert!(matches!(too_old(other, release), DatapathError::Kernel { .. }));
        assert!(matches!(too_old(refused(), "6.1.0-13-amd64"), DatapathError::LoadProgram { .. }));
    }

    #[test]
    fn what_is_missing_is_said_in_one_line_with_the_way_out() {
        let old = too_old(refused(), "5.15.0").to_string();
        assert!(old.contains("5.18") && old.contains("6.6") && old.contains("boot a newer kernel"), "{old}");
        let missing = DatapathError::MissingCapabilities { names: vec!["CAP_BPF"] }.to_string();
        assert!(missing.contains("CAP_BPF") && missing.contains("securityContext.capabilities"), "{missing}");
        assert!(!old.contains('\n') && !missing.contains('\n'));
    }

    #[test]
    fn exactly_the_missing_capabilities_are_named() {
        let net_admin = "Name:\tx\nCapEff:\t0000000000001000\n";
        assert_eq!(missing(net_admin), ["CAP_BPF"]);
        assert_eq!(missing("CapEff:\t000001ffffffffff\n"), [] as [&str; 0]);
    }

    #[test]
    fn sys_admin_stands_for_its_parts() {
        assert_eq!(missing("CapEff:\t0000000000200000\n"), ["CAP_NET_ADMIN"]);
    }
}
