//! Announcer on a cluster of the lab, installed and used as its users do.

use std::{
    env,
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Map, Value, json};

use crate::{cluster::Cluster, machine::Machine, wait};

/// The namespace of `deploy/base`, which is the scenario's.
pub const NAMESPACE: &str = "metallb";
/// The DaemonSet.
pub const DAEMON_SET: &str = "daemonset/announcer";
/// Where each node's programs, links and maps are pinned.
pub const PINS: &str = "/sys/fs/bpf/announcer";
/// The first address of the scenario's pool.
pub const FIRST_VIP: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 4, 11, 1));

/// The scenario's pool.
pub const POOL_YAML: &str = "
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata:
  name: primary
  namespace: metallb
spec:
  addresses:
  - 10.4.11.0/24
";

/// The scenario's state before the new router: the pool is announced by BGP, that is, not by us.
pub const BGP_YAML: &str = "
apiVersion: metallb.io/v1beta1
kind: BGPAdvertisement
metadata:
  name: primary
  namespace: metallb
spec:
  ipAddressPools:
  - primary
";

/// The scenario's `tmp.yaml`.
pub const BARE_ADVERTISEMENT_YAML: &str = "
apiVersion: metallb.io/v1beta1
kind: L2Advertisement
metadata:
  name: primary
  namespace: metallb
";

/// The scenario's L2Advertisement in full.
pub const ADVERTISEMENT_YAML: &str = "
apiVersion: metallb.io/v1beta1
kind: L2Advertisement
metadata:
  name: primary
  namespace: metallb
spec:
  ipAddressPools:
  - primary
  nodeSelectors:
  - matchLabels:
      kubernetes.io/hostname: \"*\"
  interfaces:
  - eth0
";

/// The project's `deploy` folder.
pub fn deploy_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy")
}

/// The agent's image, as `cargo xtask image` makes it; `cargo xtask test` says where it is.
pub fn image() -> Result<PathBuf> {
    from_environment("ANNOUNCER_IMAGE")
}

/// The agent's program, for nodes without kubelets.
pub fn program() -> Result<PathBuf> {
    from_environment("ANNOUNCER_PROGRAM")
}

/// The image that `deploy/base` names.
pub fn base_image() -> Result<String> {
    let manifests = std::fs::read_to_string(deploy_dir().join("base/daemonset.yaml"))?;
    let line = manifests.lines().find_map(|line| line.trim().strip_prefix("image: ")).context("an image")?;
    Ok(format!("docker.io/library/{}", line.trim()))
}

fn from_environment(name: &str) -> Result<PathBuf> {
    let path =
        env::var_os(name).with_context(|| format!("{name} is not set: run `cargo xtask test cluster`"))?;
    let path = PathBuf::from(path);
    ensure!(path.is_file(), "{name} names {}, which is no file", path.display());
    Ok(path)
}

impl Cluster {
    /// MetalLB's CRDs and namespace, as its own installation would have left them, with the BGPAdvertisement that is not ours.
    pub fn install_metallb_crds(&self) -> Result<()> {
        self.make_metallb_namespace()?;
        self.install_crds(&deploy_dir().join("crds"))
    }

    /// MetalLB's namespace, with the labels of its own manifests, unless it is there.
    pub fn make_metallb_namespace(&self) -> Result<()> {
        let level = |of: &str| (format!("pod-security.kubernetes.io/{of}"), json!("privileged"));
        let labels: Map<String, Value> = ["enforce", "audit", "warn"].map(level).into_iter().collect();
        let namespace = json!({
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": NAMESPACE, "labels": labels},
        });
        match self.api("POST", "/api/v1/namespaces", Some(&namespace)) {
            Err(error) if !error.to_string().contains("AlreadyExists") => Err(error),
            _ => Ok(()),
        }
    }

    /// `kubectl apply -k deploy/<folder>`, and waits until an agent runs on every node.
    pub fn install_announcer(&self, folder: &str) -> Result<()> {
        self.apply_kustomize(&deploy_dir().join(folder))?;
        self.wait_rollout(NAMESPACE, DAEMON_SET, Duration::from_secs(60))
    }

    /// What the user's `kubectl -n metallb logs -l component=speaker …` prints.
    pub fn speaker_logs(&self, more: &[&str]) -> Result<String> {
        self.kubectl(&[&["-n", NAMESPACE, "logs", "-l", "component=speaker"], more].concat())
    }

    /// Waits until `curl` of the VIP works from `host`; what it said.
    pub fn wait_curl(&self, host: &Machine, vip: IpAddr, limit: Duration) -> Result<String> {
        let url = format!("http://{vip}/");
        wait::until(&format!("curl {url} from {}", host.name()), limit, || Ok(self.curl(host, &url).ok()))
    }

    /// Name of the node that the API says owns a VIP, from its claim; `None` if nobody does.
    pub fn owner(&self, vip: IpAddr) -> Result<Option<String>> {
        let path = format!("/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases/vip-{vip}");
        let Ok(lease) = self.api("GET", &path, None) else { return Ok(None) };
        Ok(lease["spec"]["holderIdentity"].as_str().filter(|node| !node.is_empty()).map(str::to_owned))
    }

    /// Waits until a node other than `not` owns the VIP.
    pub fn wait_owner(&self, vip: IpAddr, not: Option<&str>, limit: Duration) -> Result<String> {
        wait::until(&format!("an owner of {vip}"), limit, || {
            Ok(self.owner(vip)?.filter(|owner| Some(owner.as_str()) != not))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, process::Command};

    use super::*;
    use crate::parts::Parts;

    /// `KIND NAME` of all objects of a folder, as kubectl reads it.
    fn objects(folder: &str) -> Result<BTreeSet<String>> {
        let mut kubectl = Command::new(Parts::locate()?.kubernetes);
        kubectl.args(["kubectl", "kustomize"]).arg(deploy_dir().join(folder));
        let output = kubectl.output().context("run kubectl")?;
        ensure!(output.status.success(), "{folder}: {}", String::from_utf8_lossy(&output.stderr));
        let rendered = String::from_utf8(output.stdout)?;
        let object = |text: &str| {
            let after = |start: &str| text.lines().find_map(|line| line.strip_prefix(start));
            let (kind, name) = (after("kind: ")?, after("  name: ")?);
            Some(format!("{kind} {name}"))
        };
        rendered.split("\n---\n").map(|text| object(text).context(format!("no object: {text}"))).collect()
    }

    #[test]
    fn the_base_brings_nothing_whose_deletion_takes_away_what_others_brought() -> Result<()> {
        let base = objects("base")?;
        let cascading = ["Namespace", "CustomResourceDefinition", "APIService"];
        let has = |object: &&String| cascading.iter().any(|kind| object.starts_with(&format!("{kind} ")));
        assert_eq!(base.iter().find(has), None, "{base:?}");
        for overlay in ["overlays/uninstall", "overlays/lab", "overlays/lab-tcx", "overlays/lab-generic"] {
            assert_eq!(objects(overlay)?, base, "{overlay} brings what the base does not");
        }
        Ok(())
    }

    #[test]
    fn a_cluster_without_metallb_gets_the_namespace_and_the_kinds_beside_the_base() -> Result<()> {
        let more = &objects("overlays/standalone")? - &objects("base")?;
        let kinds = ["ipaddresspools", "l2advertisements", "servicel2statuses"];
        let kinds = kinds.map(|kind| format!("CustomResourceDefinition {kind}.metallb.io"));
        let expected: BTreeSet<String> =
            kinds.into_iter().chain([format!("Namespace {NAMESPACE}")]).collect();
        assert_eq!(more, expected);
        Ok(())
    }
}
