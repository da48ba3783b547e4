//! Who refused: the kernel says "permission denied" and never by whom, so that is told from what confines this process.

use std::{error::Error, fmt, io};

use aya::programs::ProgramError;

use super::{DatapathError, surroundings::Surroundings};

/// What was refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Asked {
    /// A directory, its lock or a pin: a path.
    Path,
    /// A map, a program or a link: a command of bpf(2).
    Command,
}

/// Who refused, as far as can be seen from inside, with what the operator can do. Its text is one line.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Refuser {
    /// The file's mode: this process is of that user.
    Mode(u32),
    /// AppArmor, by the profile of this name.
    AppArmor(String),
    /// SELinux, to processes of this context.
    SeLinux(String),
    /// A seccomp filter, to everybody who calls bpf(2).
    Seccomp,
    /// The kernel: capabilities of a user namespace are none for eBPF.
    UserNamespace,
    /// The kernel's lockdown, which has this level; a guess, for it refuses some commands only.
    Lockdown(String),
    /// The kernel has no bpf(2).
    NoBpf,
    /// The verifier, which is stricter with those who lack CAP_PERFMON.
    Verifier,
    /// Nobody who can be seen.
    Unseen,
}

/// How bpf(2) answers a command that does not exist, which no rule about a known command meets.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Harmless {
    /// The call reached the kernel's own code (EINVAL).
    Reached,
    /// It was refused before that (EPERM, EACCES).
    Refused,
    /// There is no such system call (ENOSYS).
    Missing,
}

/// Who refused, if `error` is a refusal at all.
pub(super) fn who(asked: Asked, error: &io::Error, seen: &Surroundings) -> Option<Refuser> {
    let missing = match (asked, error.raw_os_error()?) {
        (_, libc::EPERM | libc::EACCES) => false,
        (Asked::Command, libc::ENOSYS) => true,
        _ => return None,
    };
    let stopped_at_the_door = missing || seen.harmless != Harmless::Reached;
    Some(match asked {
        Asked::Path if seen.user != 0 => Refuser::Mode(seen.user),
        Asked::Command if stopped_at_the_door && seen.seccomp => Refuser::Seccomp,
        Asked::Command if missing => Refuser::NoBpf,
        Asked::Command if seen.user_namespace => Refuser::UserNamespace,
        _ => match seen {
            Surroundings { apparmor: Some(profile), .. } => Refuser::AppArmor(profile.clone()),
            Surroundings { selinux: Some(context), .. } => Refuser::SeLinux(context.clone()),
            Surroundings { lockdown: Some(level), .. } if asked == Asked::Command => {
                Refuser::Lockdown(level.clone())
            }
            _ => Refuser::Unseen,
        },
    })
}

/// Whether the verifier has said in its log why it does not take a program: then nobody else refused it.
fn is_the_verifiers(error: &ProgramError) -> bool {
    matches!(error, ProgramError::LoadError { verifier_log, .. } if !verifier_log.to_string().trim().is_empty())
}

/// The refusal at the bottom of an error.
fn refusal<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a io::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return Some(error);
        }
        next = error.source();
    }
    None
}

/// An error and all its causes, in one line, each said once.
pub(super) fn in_one_line(error: &(dyn Error + 'static)) -> String {
    let mut line = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let text = cause.to_string();
        if !line.contains(&text) {
            line = format!("{line}: {text}");
        }
        next = cause.source();
    }
    line
}

// === impl DatapathError ===

impl DatapathError {
    /// The same, with the name of who refused, if this is a refusal.
    pub(super) fn explained(self) -> Self {
        let asked = match &self {
            Self::File { .. } => Asked::Path,
            Self::Load(_) | Self::LoadProgram { .. } | Self::Map { .. } | Self::Kernel { .. } => {
                Asked::Command
            }
            _ => return self,
        };
        let seen = Surroundings::look();
        let by = match &self {
            Self::LoadProgram { source, .. } if is_the_verifiers(source) => {
                (!seen.perfmon).then_some(Refuser::Verifier)
            }
            _ => refusal(&self).and_then(|error| who(asked, error, &seen)),
        };
        match by {
            Some(by) => Self::Refused { what: Box::new(self), by },
            None => self,
        }
    }
}

// === impl Refuser ===

impl Refuser {
    /// Of a link that could not be made, pinned or swapped.
    pub(super) fn of(asked: Asked, error: &io::Error) -> Option<Self> {
        // Most links that fail are not refused, and then nothing is looked at.
        error.raw_os_error().filter(|number| [libc::EPERM, libc::EACCES].contains(number))?;
        who(asked, error, &Surroundings::look())
    }
}

impl fmt::Display for Refuser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mode(user) => write!(f, "this is user {user}, and only root may: run it as root"),
            Self::AppArmor(profile) => write!(
                f,
                "AppArmor refused it, by the profile {profile}: set `appArmorProfile: {{type: Unconfined}}` in the \
                 container's securityContext (before Kubernetes 1.30: the annotation \
                 `container.apparmor.security.beta.kubernetes.io/announcer: unconfined` on the pod)"
            ),
            Self::SeLinux(context) => write!(
                f,
                "SELinux refused it to the context {context}: set `seLinuxOptions: {{type: spc_t}}` in the container's \
                 securityContext"
            ),
            Self::Seccomp => f.write_str(
                "a seccomp filter refused bpf(2), whatever capabilities are there: set \
                 `seccompProfile: {type: Unconfined}` in the securityContext, or update the container runtime (since \
                 August 2022 the default profiles allow bpf(2) to containers with CAP_BPF)",
            ),
            Self::UserNamespace => f.write_str(
                "this process is in a user namespace, whose capabilities count for nothing in bpf(2): set \
                 `hostUsers: true` in the pod's spec, or run it as the host's root",
            ),
            Self::Lockdown(level) => write!(
                f,
                "the kernel's lockdown ({level}) may be why: /sys/kernel/security/lockdown, and `dmesg` on the host"
            ),
            Self::Verifier => f.write_str(
                "the verifier of this kernel wants CAP_PERFMON for it (before Linux 6.16): add `PERFMON` to the container's \
                 securityContext.capabilities",
            ),
            Self::NoBpf => f.write_str("the kernel has no bpf(2): boot one with CONFIG_BPF_SYSCALL=y"),
            Self::Unseen => f.write_str(
                "a security module may have refused it: `dmesg` on the host says which, or its audit log \
                 (`ausearch -m avc`)",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errno(number: i32) -> io::Error {
        io::Error::from_raw_os_error(number)
    }

    fn free() -> Surroundings {
        Surroundings {
            user: 0,
            apparmor: None,
            selinux: None,
            seccomp: false,
            harmless: Harmless::Reached,
            user_namespace: false,
            lockdown: None,
            perfmon: true,
        }
    }

    fn some(is: bool, text: &str) -> Option<String> {
        is.then(|| text.to_owned())
    }

    /// Every combination of what can confine a process.
    fn all() -> Vec<Surroundings> {
        let mut all = Vec::new();
        for bits in 0_u32..1 << 6 {
            let has = |bit: u32| bits >> bit & 1 == 1;
            for harmless in [Harmless::Reached, Harmless::Refused, Harmless::Missing] {
                all.push(Surroundings {
                    user: if has(0) { 65_534 } else { 0 },
                    apparmor: some(has(1), "cri-containerd.apparmor.d"),
                    selinux: some(has(2), "system_u:system_r:container_t:s0:c1,c2"),
                    seccomp: has(3),
                    user_namespace: has(4),
                    lockdown: some(has(5), "integrity"),
                    harmless,
                    perfmon: true,
                });
            }
        }
        all
    }

    #[test]
    fn what_is_no_refusal_has_no_refuser() {
        for seen in all() {
            for number in [libc::ENOENT, libc::EEXIST, libc::EINVAL, libc::ENOMEM, libc::E2BIG, libc::EBUSY] {
                assert_eq!(who(Asked::Path, &errno(number), &seen), None, "{number} {seen:?}");
                assert_eq!(who(Asked::Command, &errno(number), &seen), None, "{number} {seen:?}");
            }
            assert_eq!(who(Asked::Path, &errno(libc::ENOSYS), &seen), None);
            let not_of_the_kernel = io::Error::from(io::ErrorKind::PermissionDenied);
            assert_eq!(who(Asked::Path, &not_of_the_kernel, &seen), None);
        }
    }

    #[test]
    fn a_path_is_refused_by_its_mode_then_by_apparmor_then_by_selinux() {
        for seen in all() {
            for number in [libc::EPERM, libc::EACCES] {
                let expected = match &seen {
                    Surroundings { user: 65_534, .. } => Refuser::Mode(65_534),
                    Surroundings { apparmor: Some(profile), .. } => Refuser::AppArmor(profile.clone()),
                    Surroundings { selinux: Some(context), .. } => Refuser::SeLinux(context.clone()),
                    _ => Refuser::Unseen,
                };
                assert_eq!(who(Asked::Path, &errno(number), &seen), Some(expected), "{seen:?}");
            }
        }
    }

    #[test]
    fn a_command_is_refused_by_whoever_stands_nearest_to_the_call() {
        for seen in all() {
            for number in [libc::EPERM, libc::EACCES] {
                let reached = seen.harmless == Harmless::Reached;
                let expected = match &seen {
                    Surroundings { seccomp: true, .. } if !reached => Refuser::Seccomp,
                    Surroundings { user_namespace: true, .. } => Refuser::UserNamespace,
                    Surroundings { apparmor: Some(profile), .. } => Refuser::AppArmor(profile.clone()),
                    Surroundings { selinux: Some(context), .. } => Refuser::SeLinux(context.clone()),
                    Surroundings { lockdown: Some(level), .. } => Refuser::Lockdown(level.clone()),
                    _ => Refuser::Unseen,
                };
                assert_eq!(who(Asked::Command, &errno(number), &seen), Some(expected), "{seen:?}");
            }
            let expected = if seen.seccomp { Refuser::Seccomp } else { Refuser::NoBpf };
            assert_eq!(who(Asked::Command, &errno(libc::ENOSYS), &seen), Some(expected), "{seen:?}");
        }
    }

    #[test]
    fn what_the_verifier_has_explained_is_nobody_elses_refusal() {
        let error = |log: &str| ProgramError::LoadError {
            io_error: errno(libc::EACCES),
            verifier_log: aya_obj::VerifierLog::new(log.to_owned()),
        };
        assert!(is_the_verifiers(&error("R0 pointer arithmetic prohibited")));
        assert!(!is_the_verifiers(&error("\n")));
    }

    #[test]
    fn a_filter_that_lets_bpf_through_is_not_to_blame() {
        let seen = Surroundings { seccomp: true, ..free() };
        assert_eq!(who(Asked::Command, &errno(libc::EPERM), &seen), Some(Refuser::Unseen));
    }

    #[test]
    fn each_refuser_is_named_in_one_line_with_the_line_to_add() {
        for (by, words) in [
            (Refuser::Mode(65_534), ["user 65534", "run it as root"]),
            (
                Refuser::AppArmor("cri-containerd.apparmor.d".to_owned()),
                ["profile cri-containerd.apparmor.d", "`appArmorProfile: {type: Unconfined}`"],
            ),
            (
                Refuser::SeLinux("system_u:system_r:container_t:s0:c1,c2".to_owned()),
                ["container_t:s0:c1,c2", "`seLinuxOptions: {type: spc_t}`"],
            ),
            (Refuser::Seccomp, ["seccomp", "`seccompProfile: {type: Unconfined}`"]),
            (Refuser::UserNamespace, ["user namespace", "`hostUsers: true`"]),
            (Refuser::Lockdown("integrity".to_owned()), ["lockdown (integrity)", "dmesg"]),
            (Refuser::Verifier, ["CAP_PERFMON", "add `PERFMON`"]),
            (Refuser::NoBpf, ["no bpf(2)", "CONFIG_BPF_SYSCALL=y"]),
            (Refuser::Unseen, ["security module", "ausearch"]),
        ] {
            let what = DatapathError::file("create the directory", "/pins")(errno(libc::EACCES));
            let line = in_one_line(&DatapathError::Refused { what: Box::new(what), by });
            let cause = "could not create the directory /pins: Permission denied (os error 13); ";
            assert!(line.starts_with(cause) && !line.contains('\n'), "{line}");
            assert!(words.iter().all(|word| line.contains(word)), "{line}");
            assert_eq!(line.matches("Permission denied").count(), 1, "{line}");
        }
    }
}
