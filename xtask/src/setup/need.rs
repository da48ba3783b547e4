//! The list of needs: how each is recognised, what it is for, what to do without it.

use std::{env, fs, path::Path};

use announcer_tests::{guest::Kernel, parts};
use anyhow::{Context as _, Result, bail, ensure};

use super::{build, toolchain};

/// Something that a verb cannot do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Root's rights.
    Root,
    /// Linux 6.6 or newer.
    Kernel,
    /// A kernel that knows the file system in which eBPF objects are pinned.
    Bpffs,
    /// The kernel's own type information.
    Btf,
    /// A Debian package.
    Package(&'static Package),
    /// Another kernel, unpacked.
    OtherKernel,
    /// A Go toolchain.
    Go,
    /// The lab's Kubernetes.
    Kubernetes,
    /// The lab's own small programs and images.
    Images,
    /// The standard library's source.
    RustSource,
    /// The linker for eBPF.
    BpfLinker,
    /// The driver of libFuzzer.
    CargoFuzz,
    /// What checks dependencies.
    CargoDeny,
    /// rustfmt and clippy.
    Linters,
    /// The standard library for static programs.
    StaticTarget,
}

/// The series of the kernel that is booted in QEMU: of Debian's, the newest with AppArmor.
const OTHER_KERNEL: &str = "6.12";

/// A Debian package, recognised by a program or plugin of it.
#[derive(Debug, PartialEq, Eq)]
pub struct Package {
    program: &'static str,
    name: &'static str,
    why: &'static str,
}

macro_rules! packages {
    ($($program:literal $name:literal $why:literal;)*) => {
        [$(Need::Package(&Package { program: $program, name: $name, why: $why })),*]
    };
}

/// What a static program needs of C.
const MUSL: [Need; 1] = packages! {
    "musl-gcc" "musl-tools" "compiles the C parts of the static agent for the image";
};

/// What libFuzzer is compiled with.
const CXX: [Need; 1] = packages! {
    "c++" "g++" "compiles libFuzzer, which is C++";
};

/// What failover is measured beside.
const KEEPALIVED: [Need; 1] = packages! {
    "keepalived" "keepalived" "the bench measures failover beside it";
};

/// What other kernels are booted with.
const GUEST: [Need; 7] = packages! {
    "qemu-system-x86_64" "qemu-system-x86" "boots other kernels, which have AppArmor";
    "/bin/busybox" "busybox-static" "the shell of those kernels";
    "apparmor_parser" "apparmor" "loads containerd's profile there";
    "setpriv" "util-linux" "starts the agent with the DaemonSet's capabilities";
    "cpio" "cpio" "packs what those kernels start with";
    "depmod" "kmod" "tells which of their modules need which";
    "xz" "xz-utils" "unpacks their modules";
};

/// In the order in which they are listed.
const PACKAGES: [Need; 13] = packages! {
    "nsenter" "util-linux" "makes and enters the lab's namespaces";
    "ip" "iproute2" "makes the lab's links and routes";
    "containerd" "containerd" "runs the lab's pods";
    "runc" "runc" "runs the lab's containers";
    "/usr/lib/cni/bridge" "containernetworking-plugins" "connects the lab's pods";
    "nft" "nftables" "kube-proxy's rules on the lab's nodes";
    "iptables" "iptables" "host ports of the lab's pods";
    "conntrack" "conntrack" "kube-proxy clears stale connections with it";
    "curl" "curl" "the lab's client";
    "arping" "iputils-arping" "asks for IPv4 addresses in tests and the demo";
    "ndisc6" "ndisc6" "asks for IPv6 addresses in tests and the demo";
    "tcpdump" "tcpdump" "shows frames on the lab's wire";
    "bpftool" "bpftool" "shows programs and maps as an operator sees them";
};

impl Need {
    /// What building the eBPF programs needs.
    pub const EBPF: [Self; 2] = [Self::RustSource, Self::BpfLinker];

    /// What the agent's image needs.
    pub fn image() -> Vec<Self> {
        [&Self::EBPF[..], &MUSL, &[Self::StaticTarget]].concat()
    }

    /// What fuzzing needs.
    pub fn fuzz() -> Vec<Self> {
        [&CXX[..], &[Self::CargoFuzz]].concat()
    }

    /// What the bench needs besides.
    pub fn bench() -> Vec<Self> {
        let ip = PACKAGES.iter().filter(|need| need.name() == "iproute2").copied();
        [Self::Root, Self::Kernel, Self::Bpffs].into_iter().chain(ip).collect()
    }

    /// What the bench's failover needs besides a cluster: the agent's image, and what it is compared with.
    pub fn failover() -> Vec<Self> {
        [&Self::image()[..], &KEEPALIVED].concat()
    }

    /// What other kernels need, the agent's program aside.
    pub fn guest() -> Vec<Self> {
        [&GUEST[..], &[Self::OtherKernel]].concat()
    }

    /// What a cluster of the lab needs, each before those that depend on it.
    pub fn lab() -> Vec<Self> {
        [&[Self::Root, Self::Kernel, Self::Bpffs][..], &PACKAGES, &[Self::Go, Self::Kubernetes, Self::Images]]
            .concat()
    }

    /// Every need there is.
    pub fn all() -> Vec<Self> {
        [&Self::lab()[..], &Self::guest(), &[Self::Btf], &Self::image(), &[Self::Linters, Self::CargoDeny]]
            .concat()
    }

    /// What it is called.
    pub fn name(&self) -> String {
        match self {
            Self::Root => "root".into(),
            Self::Kernel => "Linux >= 6.6".into(),
            Self::Bpffs => "bpffs".into(),
            Self::Btf => "kernel BTF".into(),
            Self::Package(package) => package.name.into(),
            Self::OtherKernel => format!("Linux {OTHER_KERNEL}, for QEMU"),
            Self::Go => "Go >= 1.24".into(),
            Self::Kubernetes => format!("Kubernetes {}", parts::KUBERNETES_VERSION),
            Self::Images => "lab images".into(),
            Self::RustSource => "rust-src".into(),
            Self::BpfLinker => format!("bpf-linker {}", toolchain::BPF_LINKER_VERSION),
            Self::CargoFuzz => format!("cargo-fuzz {}", toolchain::CARGO_FUZZ_VERSION),
            Self::CargoDeny => format!("cargo-deny {}", toolchain::CARGO_DENY_VERSION),
            Self::Linters => "rustfmt, clippy".into(),
            Self::StaticTarget => toolchain::static_target(),
        }
    }

    /// What it is for.
    pub fn why(&self) -> &'static str {
        match self {
            Self::Root => "namespaces, bpffs and eBPF programs are made by root",
            Self::Kernel => "TCX, with which programs attach to any link, came with 6.6",
            Self::Bpffs => "programs and maps are pinned there, so that they outlive the agent",
            Self::Btf => "bpftool prints maps with named fields by it",
            Self::Package(package) => package.why,
            Self::OtherKernel => "the agent is tried where AppArmor is on (fetched once: 35 MB)",
            Self::Go => "compiles the lab's Kubernetes",
            Self::Kubernetes => {
                "the lab runs a real control plane and real kubelets (compiled once: 4 to 10 minutes)"
            }
            Self::Images => "the sandbox of every pod, and the web server behind the lab's Services",
            Self::RustSource => "the eBPF target has no precompiled core library",
            Self::Linters => "cargo xtask test checks format and lints",
            Self::StaticTarget => "the image holds one static program and nothing else",
            Self::BpfLinker => "links the eBPF programs (compiled once: 2 to 4 minutes)",
            Self::CargoFuzz => "runs the fuzz targets (compiled once: about 2 minutes)",
            Self::CargoDeny => {
                "checks dependencies: advisories, licences, sources (compiled once: 2 to 3 minutes)"
            }
        }
    }

    /// What to do if it is missing.
    pub fn remedy(&self) -> String {
        match self {
            Self::Root => "run it with sudo".into(),
            Self::Kernel => "boot a newer kernel".into(),
            Self::Bpffs => "boot a kernel with CONFIG_BPF_SYSCALL=y, as distributions build it".into(),
            Self::Btf => "boot a kernel with CONFIG_DEBUG_INFO_BTF=y, as distributions build it".into(),
            Self::Package(package) if build::has_apt() => format!("apt-get install {}", package.name),
            Self::Package(package) => {
                format!(
                    "install `{}` (Debian's package {}) with this system's package manager",
                    package.program, package.name
                )
            }
            Self::OtherKernel => {
                format!("have a package source with Debian's linux-image-{OTHER_KERNEL}.*-cloud-amd64")
            }
            Self::Go => "install Go 1.24 or newer (https://go.dev/dl), and have it on PATH".into(),
            Self::Kubernetes | Self::Images => {
                "cargo xtask setup compiles it from published Go modules".into()
            }
            Self::RustSource => toolchain::RUST_SOURCE_REMEDY.into(),
            Self::BpfLinker => "cargo xtask setup compiles it from crates.io".into(),
            Self::CargoFuzz => "cargo xtask fuzz compiles it from crates.io".into(),
            Self::CargoDeny => "cargo xtask setup compiles it from crates.io".into(),
            Self::Linters => "rustup component add rustfmt clippy".into(),
            Self::StaticTarget => format!("rustup target add {}", toolchain::static_target()),
        }
    }

    /// Whether `cargo xtask setup` can see to it.
    pub fn can_be_provided(&self) -> bool {
        match self {
            Self::Root | Self::Kernel | Self::Bpffs | Self::Btf | Self::Go => false,
            Self::Package(_) | Self::OtherKernel => build::has_apt(),
            Self::Kubernetes
            | Self::Images
            | Self::RustSource
            | Self::BpfLinker
            | Self::CargoFuzz
            | Self::CargoDeny
            | Self::Linters
            | Self::StaticTarget => true,
        }
    }

    /// Its Debian package, if it is one.
    pub fn package(&self) -> Option<&'static str> {
        match self {
            Self::Package(package) => Some(package.name),
            _ => None,
        }
    }

    /// What was found, or what is wrong.
    pub fn present(&self) -> Result<String> {
        match self {
            Self::Root => {
                let owner = std::os::unix::fs::MetadataExt::uid(&fs::metadata("/proc/self")?);
                ensure!(owner == 0, "this is user {owner}");
                Ok("yes".into())
            }
            Self::Kernel => {
                let release = fs::read_to_string("/proc/sys/kernel/osrelease").context("not Linux")?;
                let mut numbers = release.split(['.', '-']).map_while(|part| part.trim().parse::<u32>().ok());
                let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
                ensure!(version >= (6, 6), "this is {}", release.trim());
                Ok(release.trim().into())
            }
            Self::Bpffs => {
                let known = fs::read_to_string("/proc/filesystems").context("not Linux")?;
                ensure!(known.lines().any(|line| line.ends_with("\tbpf")), "the kernel has none");
                Ok("yes".into())
            }
            Self::Btf => {
                ensure!(Path::new("/sys/kernel/btf/vmlinux").exists(), "no /sys/kernel/btf/vmlinux");
                Ok("yes".into())
            }
            Self::Package(package) => find(package.program),
            Self::OtherKernel => Ok(Kernel::locate(OTHER_KERNEL)?.release().to_owned()),
            Self::Go => {
                let version = parts::go_version()?;
                let minor =
                    version.trim_start_matches("go1.").split('.').next().and_then(|part| part.parse().ok());
                ensure!(minor.is_some_and(|minor: u32| minor >= 24), "this is {version}");
                Ok(version)
            }
            Self::Kubernetes => {
                let program = parts::kubernetes_dir()?.join("kubernetes");
                ensure!(program.is_file(), "not built");
                Ok(program.display().to_string())
            }
            Self::Images => {
                let dir = parts::images_dir()?;
                for file in ["pause", "pause.tar", "web.tar"] {
                    ensure!(dir.join(file).is_file(), "not built");
                }
                Ok(dir.display().to_string())
            }
            Self::RustSource => toolchain::rust_source(),
            Self::BpfLinker => toolchain::bpf_linker().map(|path| path.display().to_string()),
            Self::CargoFuzz => toolchain::cargo_fuzz().map(|path| path.display().to_string()),
            Self::CargoDeny => toolchain::cargo_deny().map(|path| path.display().to_string()),
            Self::Linters => find("cargo-fmt").and_then(|_| toolchain::linters()),
            Self::StaticTarget => toolchain::static_library(&toolchain::static_target()),
        }
    }

    /// Sees to it.
    pub fn provide(&self) -> Result<()> {
        match self {
            Self::OtherKernel => build::kernel(OTHER_KERNEL),
            Self::Kubernetes => build::kubernetes(),
            Self::Images => build::images(),
            Self::RustSource => toolchain::install_rust_source(),
            Self::BpfLinker => toolchain::install_bpf_linker(),
            Self::CargoFuzz => toolchain::install_cargo_fuzz(),
            Self::CargoDeny => toolchain::install_cargo_deny(),
            Self::Linters => toolchain::rustup(&["component", "add", "rustfmt", "clippy"]),
            Self::StaticTarget => toolchain::rustup(&["target", "add", &toolchain::static_target()]),
            Self::Root | Self::Kernel | Self::Bpffs | Self::Btf | Self::Package(_) | Self::Go => {
                bail!("{}", self.remedy())
            }
        }
    }
}

/// Finds a program on PATH, or in the folders that root's PATH may lack.
fn find(program: &str) -> Result<String> {
    if program.starts_with('/') {
        ensure!(Path::new(program).exists(), "no {program}");
        return Ok(program.into());
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    let found = folders.map(|folder| folder.join(program)).find(|candidate| candidate.is_file());
    found.map(|found| found.display().to_string()).with_context(|| format!("no `{program}` on PATH"))
}
