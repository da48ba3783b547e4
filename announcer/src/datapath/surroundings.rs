//! What confines this process, read from `/proc` and `/sys`.

use std::fs;

use super::{privileges, refusal::Harmless, sys};

/// Everybody who can refuse what a process with the needed capabilities asks for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Surroundings {
    /// The effective user.
    pub(super) user: u32,
    /// The AppArmor profile that is enforced on this process.
    pub(super) apparmor: Option<String>,
    /// The SELinux context of this process, where SELinux enforces.
    pub(super) selinux: Option<String>,
    /// A seccomp filter is installed.
    pub(super) seccomp: bool,
    /// How bpf(2) answers a command that does not exist.
    pub(super) harmless: Harmless,
    /// This is not the host's user namespace.
    pub(super) user_namespace: bool,
    /// The kernel's lockdown level, unless it is `none`.
    pub(super) lockdown: Option<String>,
    /// CAP_PERFMON is there, or CAP_SYS_ADMIN, of which it is a part.
    pub(super) perfmon: bool,
}

// === impl Surroundings ===

impl Surroundings {
    /// Looks around. What can't be read does not confine.
    pub(super) fn look() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        // Where both modules run, AppArmor's own file says what the shared one may not.
        let own = read("/proc/thread-self/attr/apparmor/current");
        let shared = read("/proc/thread-self/attr/current");
        let status = read("/proc/thread-self/status");
        let apparmor = enforced_profile(if own.is_empty() { &shared } else { &own });
        Self {
            user: rustix::process::geteuid().as_raw(),
            apparmor,
            selinux: enforced_context(&shared, &read("/sys/fs/selinux/enforce")),
            seccomp: has_filter(&status),
            perfmon: privileges::has(&status, 38) || privileges::has(&status, privileges::SYS_ADMIN),
            harmless: sys::harmless_command(),
            user_namespace: is_a_part(&read("/proc/self/uid_map")),
            lockdown: lockdown(&read("/sys/kernel/security/lockdown")),
        }
    }
}

/// `name (mode)`: of the modes, `complain` and `unconfined` refuse nothing.
fn enforced_profile(label: &str) -> Option<String> {
    let (name, mode) = text(label).strip_suffix(')')?.rsplit_once(" (")?;
    (!matches!(mode, "complain" | "unconfined")).then(|| name.to_owned())
}

/// `user:role:type:level`, or without the level. The types `spc_t` and `unconfined_t` may do everything. A container
/// can't read `enforce`: then SELinux enforces.
fn enforced_context(label: &str, enforce: &str) -> Option<String> {
    let label = text(label);
    let mut parts = label.split(':');
    let kind = parts.nth(2).filter(|_| !label.contains(' '))?;
    let is_free = matches!(kind, "spc_t" | "unconfined_t" | "kernel_t" | "init_t");
    (!is_free && enforce.trim() != "0").then(|| label.to_owned())
}

/// `Seccomp: 2` is a filter.
fn has_filter(status: &str) -> bool {
    status.lines().any(|line| line.strip_prefix("Seccomp:").is_some_and(|mode| mode.trim() == "2"))
}

/// The host's user namespace maps all users to themselves; where there is no such file, there is no other one.
fn is_a_part(uid_map: &str) -> bool {
    let numbers: Vec<&str> = uid_map.split_whitespace().collect();
    !numbers.is_empty() && numbers != ["0", "0", "4294967295"]
}

/// `none [integrity] confidentiality`: the level in brackets.
fn lockdown(levels: &str) -> Option<String> {
    let level = levels.split_whitespace().find_map(|word| word.strip_prefix('[')?.strip_suffix(']'))?;
    (level != "none").then(|| level.to_owned())
}

/// The kernel ends some of these files with a newline, some with a zero.
fn text(label: &str) -> &str {
    label.trim_end_matches(['\0', '\n'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_confines_if_it_is_enforced() {
        let profile = |label: &str| enforced_profile(label);
        assert_eq!(
            profile("cri-containerd.apparmor.d (enforce)\n").as_deref(),
            Some("cri-containerd.apparmor.d")
        );
        assert_eq!(profile("a//&b (mixed)\n").as_deref(), Some("a//&b"));
        assert_eq!(profile("a (odd) name (kill)").as_deref(), Some("a (odd) name"));
        for free in ["unconfined\n", "", "docker-default (complain)\n", "crun (unconfined)\n"] {
            assert_eq!(profile(free), None, "{free}");
        }
        assert_eq!(profile("system_u:system_r:container_t:s0:c1,c2\0"), None, "a context of SELinux");
    }

    #[test]
    fn a_context_confines_unless_selinux_is_permissive_or_the_type_is_free() {
        let container = "system_u:system_r:container_t:s0:c12,c34\0";
        let context = Some("system_u:system_r:container_t:s0:c12,c34");
        assert_eq!(enforced_context(container, "1").as_deref(), context);
        assert_eq!(enforced_context(container, "").as_deref(), context, "a container can't see it");
        assert_eq!(enforced_context(container, "0\n"), None);
        assert_eq!(enforced_context("system_u:system_r:spc_t:s0\0", "1"), None);
        for none in ["", "unconfined\n", "kernel\0", ":ns://a:b//c (enforce)\n"] {
            assert_eq!(enforced_context(none, "1"), None, "{none}");
        }
    }

    #[test]
    fn only_a_filter_is_a_filter() {
        assert!(has_filter("Name:\tx\nSeccomp:\t2\nSeccomp_filters:\t1\n"));
        assert!(!has_filter("Name:\tx\nSeccomp:\t0\nSeccomp_filters:\t2\n"));
    }

    #[test]
    fn the_hosts_user_namespace_is_known_by_its_map() {
        assert!(!is_a_part("         0          0 4294967295\n"));
        assert!(!is_a_part(""));
        assert!(is_a_part("         0     100000      65536\n"));
    }

    #[test]
    fn lockdown_has_a_level_unless_it_is_off() {
        assert_eq!(lockdown("none [integrity] confidentiality\n").as_deref(), Some("integrity"));
        assert_eq!(lockdown("[none] integrity confidentiality\n"), None);
        assert_eq!(lockdown(""), None);
    }
}
