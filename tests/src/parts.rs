//! The programs the lab is made of, and where `cargo xtask setup` leaves them.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};
use sha2::{Digest as _, Sha256};

/// The Kubernetes version of `tests/kubernetes/go.mod`.
pub const KUBERNETES_VERSION: &str = "v1.34.4";

/// Where the lab's own programs are.
#[derive(Clone, Debug)]
pub struct Parts {
    /// The multi-call binary: etcd, kube-apiserver, kubelet, kubectl, …
    pub kubernetes: PathBuf,
    /// Holds namespaces open: a machine's first process, and a pod's sandbox.
    pub pause: PathBuf,
    /// `pause` as an image, `localhost/pause:lab`.
    pub pause_image: PathBuf,
    /// The small HTTP server behind the lab's Services, as the image `localhost/web:lab`.
    pub web_image: PathBuf,
}

impl Parts {
    /// Finds what `cargo xtask setup` has built.
    pub fn locate() -> Result<Self> {
        let (kubernetes, images) = (kubernetes_dir()?, images_dir()?);
        let parts = Self {
            kubernetes: kubernetes.join("kubernetes"),
            pause: images.join("pause"),
            pause_image: images.join("pause.tar"),
            web_image: images.join("web.tar"),
        };
        for part in [&parts.kubernetes, &parts.pause, &parts.pause_image, &parts.web_image] {
            ensure!(
                part.is_file(),
                "the lab's programs are not built ({}): run `cargo xtask setup`",
                part.display()
            );
        }
        Ok(parts)
    }
}

/// The Go module that the parts are built from.
pub fn module_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("kubernetes")
}

/// The folder for everything that is built or fetched once a machine: `$XDG_CACHE_HOME` or `~/.cache`.
pub fn cache_dir() -> Result<PathBuf> {
    let base = match env::var_os("XDG_CACHE_HOME").filter(|value| !value.is_empty()) {
        Some(path) => PathBuf::from(path),
        None => PathBuf::from(env::var_os("HOME").context("HOME is not set, so there is no ~/.cache")?)
            .join(".cache"),
    };
    Ok(base.join("announcer"))
}

/// The folder of the Kubernetes build that belongs to the present sources and Go version.
pub fn kubernetes_dir() -> Result<PathBuf> {
    let module = module_dir();
    let key = key(&[
        &module.join("go.mod"),
        &module.join("go.sum"),
        &module.join("main.go"),
        &module.join("etcd.go"),
    ])?;
    Ok(cache_dir()?.join(format!("kubernetes-{KUBERNETES_VERSION}-{key}")))
}

/// The folder of the `pause` and `web` builds that belong to the present sources and Go version.
pub fn images_dir() -> Result<PathBuf> {
    let module = module_dir();
    let key = key(&[&module.join("pause/main.go"), &module.join("web/main.go")])?;
    Ok(cache_dir()?.join(format!("lab-images-{key}")))
}

/// The version of the Go toolchain on PATH, such as `go1.26.1`.
pub fn go_version() -> Result<String> {
    let output = Command::new("go").arg("version").output().context("run `go`: install Go 1.24 or newer")?;
    let text = String::from_utf8_lossy(&output.stdout);
    match text.split_whitespace().nth(2) {
        Some(version) if output.status.success() => Ok(version.to_owned()),
        _ => bail!("`go version` says `{}`: install Go 1.24 or newer", text.trim()),
    }
}

/// A build is as good as what it was made of: the sources and the compiler.
fn key(sources: &[&Path]) -> Result<String> {
    let mut hash = Sha256::new();
    hash.update(go_version()?);
    for source in sources {
        hash.update(fs::read(source).with_context(|| format!("read {}", source.display()))?);
    }
    Ok(hex(&hash.finalize()[..8]))
}

/// Bytes as lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
