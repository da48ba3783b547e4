//! What runs on a node of a whole cluster: containerd, kubelet, kube-proxy.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, Result, ensure};

use crate::{
    addresses::{LanAddress, POD_CIDRS},
    lan,
    machine::Machine,
    node_config,
    parts::Parts,
    process::Process,
    wait,
};

/// Starts containerd and imports `images`; the API server is not needed yet.
pub(crate) fn start_containerd(
    machine: &Machine,
    index: usize,
    lab_dir: &Path,
    images: &[std::path::PathBuf],
) -> Result<Process> {
    lan::write(machine, "/etc/containerd/config.toml", node_config::containerd())?;
    lan::write(machine, "/etc/cni/net.d/10-lab.conflist", node_config::cni(index))?;
    let log = lab_dir.join(format!("logs/{}-containerd.log", machine.name()));
    let containerd = Process::start(machine, "containerd", &["containerd"], &log)?;
    let socket = machine.path(node_config::CONTAINERD_SOCKET);
    wait::until("containerd's socket", Duration::from_secs(20), || {
        ensure!(containerd.is_running(), "containerd has ended");
        Ok(std::os::unix::net::UnixStream::connect(&socket).is_ok().then_some(()))
    })
    .with_context(|| containerd.log_tail())?;
    for image in images {
        import(machine, image)?;
    }
    Ok(containerd)
}

/// Imports an OCI archive into the machine's containerd.
pub(crate) fn import(machine: &Machine, archive: &Path) -> Result<()> {
    let archive = archive.to_str().context("the path of the image is not UTF-8")?;
    machine.run(&["ctr", "--namespace=k8s.io", "images", "import", "--no-unpack=false", archive]).map(drop)
}

/// Starts the kubelet and kube-proxy; needs the API server's kubeconfigs.
pub(crate) fn start_kubelet(
    machine: &Machine,
    address: LanAddress,
    parts: &Parts,
    lab_dir: &Path,
) -> Result<Vec<Process>> {
    let kubernetes = parts.kubernetes.to_str().context("the path of the lab's programs is not UTF-8")?;
    let node = machine.name();
    lan::write(machine, "/etc/kubernetes/kubelet.json", node_config::kubelet(address))?;
    let kubeconfig = |name: &str| format!("--kubeconfig={}", lab_dir.join(name).display());
    let log = |part: &str| lab_dir.join(format!("logs/{node}-{part}.log"));
    let kubelet = Process::start(
        machine,
        "kubelet",
        &[
            kubernetes,
            "kubelet",
            "--config=/etc/kubernetes/kubelet.json",
            &kubeconfig(&format!("kubeconfig-{node}")),
            "--root-dir=/var/lib/kubelet",
            &format!("--hostname-override={node}"),
            &format!("--node-ip={},{}", address.v4, address.v6()),
        ],
        &log("kubelet"),
    )?;
    let proxy = Process::start(
        machine,
        "kube-proxy",
        &[
            kubernetes,
            "kube-proxy",
            &kubeconfig("kubeconfig-proxy"),
            "--proxy-mode=nftables",
            &format!("--hostname-override={node}"),
            &format!("--cluster-cidr={POD_CIDRS}"),
            // These are the whole kernel's, and root in here may not set them.
            "--conntrack-max-per-core=0",
            "--conntrack-tcp-timeout-established=0",
            "--conntrack-tcp-timeout-close-wait=0",
        ],
        &log("kube-proxy"),
    )?;
    Ok(vec![kubelet, proxy])
}

/// Makes the machine a router of its pods, with routes to the other nodes' pods.
pub(crate) fn prepare_network(machine: &Machine, index: usize, count: usize) -> Result<()> {
    let mut script = String::from(
        "echo 1 >/proc/sys/net/ipv4/ip_forward
         echo 1 >/proc/sys/net/ipv6/conf/all/forwarding
         for file in /proc/sys/net/ipv4/conf/*/rp_filter; do echo 0 >$file; done
         ip -batch - <<END\n",
    );
    for other in (0..count).filter(|other| *other != index) {
        let via = LanAddress::node(other);
        script += &format!("route add {} via {}\n", node_config::pods_v4(other), via.v4);
        script += &format!("route add {} via {}\n", node_config::pods_v6(other), via.v6());
    }
    machine.shell(&(script + "END\n")).map(drop)
}
