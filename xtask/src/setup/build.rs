//! Packages from Debian, and the lab's programs from published Go modules.

use std::{fs, path::Path, process::Command};

use announcer_tests::{image, parts};
use anyhow::{Context as _, Result, ensure};

/// Whether this system has Debian's package manager.
pub fn has_apt() -> bool {
    Path::new("/usr/bin/apt-get").exists()
}

/// Installs Debian packages without asking anything.
pub fn install_packages(packages: &[&str]) -> Result<()> {
    let apt = || {
        let mut command = Command::new("apt-get");
        // Waits for another apt; keeps configuration files as they are.
        command.env("DEBIAN_FRONTEND", "noninteractive");
        command.args(["-qq", "-o", "DPkg::Lock::Timeout=300", "-o", "Dpkg::Use-Pty=0"]);
        command
    };
    run(apt().arg("update"))?;
    run(apt().args(["install", "-y", "--no-install-recommends"]).args(packages))
}

/// Compiles every Kubernetes part into one program.
pub fn kubernetes() -> Result<()> {
    let version = parts::KUBERNETES_VERSION;
    let mut numbers = version.trim_start_matches('v').split('.');
    let (major, minor) = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
    // Without these the server calls itself v0.0.0-master+$Format…, which clients fail to parse.
    let stamps = ["k8s.io/component-base/version", "k8s.io/client-go/pkg/version"].map(|package| {
        format!(
            "-X {package}.gitVersion={version} -X {package}.gitMajor={major} -X {package}.gitMinor={minor}"
        )
    });
    into_cache(&parts::kubernetes_dir()?, |draft| {
        go_build(".", &draft.join("kubernetes"), &format!("-s -w {}", stamps.join(" ")))
    })
}

/// Compiles `pause` and `web`, and makes an image of each.
pub fn images() -> Result<()> {
    into_cache(&parts::images_dir()?, |draft| {
        for name in ["pause", "web"] {
            let program = draft.join(name);
            go_build(&format!("./{name}"), &program, "-s -w")?;
            image::write_program(
                &format!("localhost/{name}:lab"),
                &program,
                &draft.join(format!("{name}.tar")),
            )?;
        }
        Ok(())
    })
}

/// Fills a folder of the cache; it appears in one step, when all is in it.
fn into_cache(folder: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let draft = folder.with_extension(format!("{}.draft", std::process::id()));
    fs::create_dir_all(&draft).with_context(|| format!("make {}", draft.display()))?;
    let done = fill(&draft).and_then(|()| {
        let _ = fs::remove_dir_all(folder);
        fs::rename(&draft, folder).with_context(|| format!("make {}", folder.display()))
    });
    let _ = fs::remove_dir_all(&draft);
    done
}

fn go_build(package: &str, program: &Path, ldflags: &str) -> Result<()> {
    run(Command::new("go")
        .current_dir(parts::module_dir())
        .env("CGO_ENABLED", "0")
        .env("GOTOOLCHAIN", "local")
        .args(["build", "-trimpath", "-buildvcs=false", "-ldflags", ldflags, "-o"])
        .args([program.as_os_str(), package.as_ref()]))
}

/// Runs a command to its successful end, with its output shown.
pub fn run(command: &mut Command) -> Result<()> {
    let shown = command.get_program().display().to_string();
    let arguments: Vec<_> = command.get_args().map(|argument| argument.display().to_string()).collect();
    let status = command.status().with_context(|| format!("run {shown}"))?;
    ensure!(status.success(), "`{shown} {}` ended with {status}", arguments.join(" "));
    Ok(())
}
