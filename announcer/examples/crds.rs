//! Prints the definitions of the custom resources that the agent reads and writes: `cargo xtask crds`.

use std::io::Write as _;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut out = std::io::stdout().lock();
    for definition in announcer::kube::definitions()? {
        writeln!(out, "---\n{}", serde_saphyr::to_string(&definition)?)?;
    }
    Ok(())
}
