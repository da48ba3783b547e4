//! Who this node is.

use std::{fs, path::Path};

use anyhow::{Context as _, ensure};

use crate::election::lease::Holder;

/// Where a machine says which one it is, best first. A container sees the second: the first is the host's.
const MACHINE_IDS: [&str; 3] =
    ["/etc/machine-id", "/sys/class/dmi/id/product_uuid", "/sys/firmware/devicetree/base/serial-number"];

/// Node, boot and machine, as sessions name them.
pub(super) fn holder(node: &str, boot_id_file: &Path) -> anyhow::Result<Holder> {
    let boot_id = fs::read_to_string(boot_id_file)
        .with_context(|| format!("cannot read the boot id from {}", boot_id_file.display()))?;
    let boot_id = boot_id.trim().to_owned();
    ensure!(!boot_id.is_empty() && !boot_id.contains('/'), "{} holds no boot id", boot_id_file.display());
    let machine_id = MACHINE_IDS
        .iter()
        .filter_map(|path| fs::read_to_string(path).ok())
        .map(|text| text.trim_matches(|c: char| c.is_whitespace() || c == '\0').replace('/', "-"))
        .find(|text| !text.is_empty())
        // Then only the boot id tells two machines of one name apart, which it does unless one is a live clone.
        .unwrap_or_else(|| "unknown".to_owned());
    Ok(Holder { node: node.to_owned(), boot_id, machine_id })
}
