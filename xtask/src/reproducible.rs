//! Whether the same sources make the same bytes: everything is built twice, from copies in two folders, for two homes.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use announcer_tests::parts;
use anyhow::{Context as _, Result, bail, ensure};
use sha2::{Digest as _, Sha256};

use crate::{image::workspace, setup::build};

/// Builds the kernel object twice; it is the same for every target of the agent.
pub fn object() -> Result<()> {
    let built = |copy: &Copy| {
        copy.cargo(&[
            "build",
            "--quiet",
            "--locked",
            "--release",
            "--package",
            "announcer-ebpf",
            "--features",
            "object",
        ])?;
        copy.find("announcer-kernel")
    };
    same("kernel object", built)
}

/// Builds program and image twice.
pub fn image() -> Result<()> {
    let built = |copy: &Copy| {
        let image = copy.sources.join("target/image/announcer.tar");
        copy.cargo(&["xtask", "image", "--name", "localhost/announcer:reproducible"])?;
        Ok(image)
    };
    same("image", built)
}

/// Builds in two copies, one after the other, and compares what came of it.
fn same(what: &str, build: impl Fn(&Copy) -> Result<PathBuf>) -> Result<()> {
    let start = Instant::now();
    let mut hashes = Vec::new();
    for name in ["a", "another-one"] {
        let copy = Copy::make(name)?;
        let file = build(&copy)?;
        let bytes = fs::read(&file).with_context(|| format!("read {}", file.display()))?;
        // Nothing of this machine is in it.
        for folder in [&copy.root, &rustup_home()?] {
            let name = folder.display().to_string();
            ensure!(!contains(&bytes, name.as_bytes()), "{what}: {} names the folder {name}", file.display());
        }
        hashes.push(parts::hex(&Sha256::digest(&bytes)));
    }
    let seconds = start.elapsed().as_secs_f64();
    match &hashes[..] {
        [first, second] if first == second => {
            println!("{what}: sha256:{first} from both folders ({seconds:.0} s)");
            Ok(())
        }
        hashes => bail!("{what} is not reproducible: {}", hashes.join(" and ")),
    }
}

fn contains(bytes: &[u8], name: &[u8]) -> bool {
    bytes.windows(name.len()).any(|window| window == name)
}

/// The sources as they are in the working tree, with a home of their own. Both end with it.
struct Copy {
    root: PathBuf,
    sources: PathBuf,
    home: PathBuf,
}

impl Copy {
    fn make(name: &str) -> Result<Self> {
        let root = env::temp_dir().join(format!("announcer-{}-{name}", std::process::id()));
        let copy = Self { sources: root.join("sources"), home: root.join("home"), root };
        copy.copy_sources()?;
        copy.make_home()?;
        Ok(copy)
    }

    fn copy_sources(&self) -> Result<()> {
        let listed = Command::new("git")
            .current_dir(workspace())
            .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
            .output()
            .context("run git")?;
        ensure!(listed.status.success(), "{} is no git working tree", workspace().display());
        for file in String::from_utf8(listed.stdout)?.split_terminator('\0') {
            let (from, to) = (workspace().join(file), self.sources.join(file));
            if !from.exists() {
                continue; // Deleted, and not committed yet.
            }
            fs::create_dir_all(to.parent().unwrap_or(&self.sources))?;
            fs::copy(&from, &to).with_context(|| format!("copy {}", from.display()))?;
        }
        Ok(())
    }

    /// What cargo has fetched is there as well: nothing is fetched again.
    fn make_home(&self) -> Result<()> {
        let registry = self.cargo_home().join("registry");
        fs::create_dir_all(&registry)?;
        for folder in ["index", "cache"] {
            let from = cargo_home()?.join("registry").join(folder);
            build::run(Command::new("cp").arg("-a").arg(from).arg(&registry))?;
        }
        Ok(())
    }

    fn cargo_home(&self) -> PathBuf {
        self.home.join(".cargo")
    }

    fn cargo(&self, arguments: &[&str]) -> Result<()> {
        let mut cargo = Command::new("cargo");
        cargo.current_dir(&self.sources).args(arguments);
        // What an outer cargo says of its own package and target is none of its business.
        for (name, _) in env::vars_os() {
            if ["CARGO", "RUSTFLAGS", "RUSTC"].iter().any(|start| name.to_string_lossy().starts_with(start)) {
                cargo.env_remove(name);
            }
        }
        build::run(
            cargo
                .env("HOME", &self.home)
                .env("CARGO_HOME", self.cargo_home())
                .env("CARGO_NET_OFFLINE", "true")
                .env("RUSTUP_HOME", rustup_home()?)
                .env("XDG_CACHE_HOME", parts::cache_dir()?.parent().unwrap_or(Path::new("/")))
                // The copy has no history.
                .env("ANNOUNCER_COMMIT", head()?),
        )
    }

    /// The one file of this name that a build script has left.
    fn find(&self, name: &str) -> Result<PathBuf> {
        let scripts = self.sources.join("target/release/build");
        let outputs = fs::read_dir(&scripts).with_context(|| format!("read {}", scripts.display()))?;
        let found =
            outputs.flatten().map(|output| output.path().join("out").join(name)).find(|file| file.is_file());
        found.with_context(|| format!("{name} was not built in {}", scripts.display()))
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.root);
    }
}

/// The commit that is built.
fn head() -> Result<String> {
    let head = Command::new("git")
        .current_dir(workspace())
        .args(["rev-parse", "HEAD"])
        .output()
        .context("run git")?;
    Ok(String::from_utf8_lossy(&head.stdout).trim().to_owned())
}

fn cargo_home() -> Result<PathBuf> {
    home("CARGO_HOME", ".cargo")
}

fn rustup_home() -> Result<PathBuf> {
    home("RUSTUP_HOME", ".rustup")
}

/// A tool's folder: as the variable says, or that one in the home.
fn home(variable: &str, folder: &str) -> Result<PathBuf> {
    if let Some(given) = env::var_os(variable).filter(|given| !given.is_empty()) {
        return Ok(PathBuf::from(given));
    }
    Ok(PathBuf::from(env::var_os("HOME").context("HOME is not set")?).join(folder))
}
