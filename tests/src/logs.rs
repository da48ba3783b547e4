//! What the lab's programs have printed: shown when something fails, kept if somebody asks for it.

use std::{env, fs, path::Path, process::Command};

/// The last lines of a log.
pub(crate) fn tail(log: &Path) -> String {
    const LINES: usize = 15;
    let text = fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(LINES);
    format!("the end of {}:\n  {}", log.display(), lines[from..].join("\n  "))
}

/// Copies a cluster's logs to the folder `$ANNOUNCER_LAB_LOGS`, if that is set, before they go with it.
pub(crate) fn keep(cluster: &str, dir: &Path) {
    let Some(folder) = env::var_os("ANNOUNCER_LAB_LOGS") else { return };
    let kept = Path::new(&folder).join(cluster);
    let copied = fs::create_dir_all(&kept)
        .and_then(|()| Command::new("cp").arg("-r").arg(dir.join("logs/.")).arg(&kept).status());
    match copied {
        Ok(status) if status.success() => eprintln!("lab: the logs of {cluster} are in {}", kept.display()),
        _ => eprintln!("lab: the logs of {cluster} could not be copied to {}", kept.display()),
    }
}
