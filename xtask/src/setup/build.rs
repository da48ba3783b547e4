//! Packages from Debian, and the lab's programs from published Go modules.

use std::{fs, path::Path, process::Command};

use announcer_tests::{
    guest::{Kernel, PACKAGE_FILE},
    image, parts,
};
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

/// Fetches the newest kernel of a series for virtual machines, and unpacks it. Nothing is installed; apt checks what it
/// fetches against the archive's signature.
pub fn kernel(series: &str) -> Result<()> {
    let pattern = format!("^linux-image-{}[.][^-]+-cloud-amd64$", series.replace('.', "[.]"));
    let found =
        super::toolchain::output(Command::new("apt-cache").args(["search", "--names-only", &pattern]))?;
    let numbers = |name: &str| -> Vec<u64> {
        name.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse().ok()).collect()
    };
    let names = found.lines().filter_map(|line| line.split_whitespace().next());
    let package =
        names.max_by_key(|name| numbers(name)).context("this system's package sources have none")?;
    into_cache(&Kernel::series_dir(series)?.join(package), |draft| {
        run(Command::new("apt-get").current_dir(draft).args(["-qq", "download", package]))?;
        let deb = fs::read_dir(draft)?.next().context("apt-get has fetched nothing")??.path();
        run(Command::new("dpkg-deb").arg("--extract").arg(&deb).arg(draft))?;
        fs::remove_file(&deb)?;
        let release = package.trim_start_matches("linux-image-");
        run(Command::new("/sbin/depmod").arg("--basedir").arg(draft).arg(release))?;
        fs::write(draft.join(PACKAGE_FILE), format!("{package}\n")).context("write the package's name")
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
