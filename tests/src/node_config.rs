//! The files that a node's containerd, kubelet and CNI read.

use std::net::Ipv4Addr;

use crate::addresses::LanAddress;

/// The image of every pod's sandbox.
pub(crate) const PAUSE_IMAGE: &str = "localhost/pause:lab";

/// containerd's socket, at its usual place.
pub(crate) const CONTAINERD_SOCKET: &str = "/run/containerd/containerd.sock";

/// `/etc/containerd/config.toml`
pub(crate) fn containerd() -> String {
    format!(
        r#"version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.internal.v1.opt"]

[grpc]
  address = "{CONTAINERD_SOCKET}"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE_IMAGE}"
  # Without CAP_SYS_RESOURCE (a container, a sandbox) runc fails when it lowers an OOM score.
  restrict_oom_score_adj = true

[plugins."io.containerd.grpc.v1.cri".containerd]
  snapshotter = "overlayfs"
  default_runtime_name = "runc"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "/usr/lib/cni"
  conf_dir = "/etc/cni/net.d"
"#
    )
}

/// `/etc/cni/net.d/10-lab.conflist`: pods on a bridge, addresses from the node's own ranges.
pub(crate) fn cni(index: usize) -> String {
    let config = serde_json::json!({
        "cniVersion": "0.4.0",
        "name": "lab",
        "plugins": [
            {
                "type": "bridge",
                "bridge": "pods",
                "isGateway": true,
                "hairpinMode": true,
                "ipam": {
                    "type": "host-local",
                    "dataDir": "/var/lib/cni/networks",
                    "ranges": [
                        [{"subnet": pods_v4(index)}],
                        [{"subnet": pods_v6(index)}],
                    ],
                    "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": true}},
        ],
    });
    format!("{config:#}")
}

/// The IPv4 range of the `index`-th node's pods.
pub(crate) fn pods_v4(index: usize) -> String {
    format!("10.244.{index}.0/24")
}

/// The IPv6 range of the `index`-th node's pods.
pub(crate) fn pods_v6(index: usize) -> String {
    format!("fd00:244:{index:x}::/64")
}

/// `/etc/kubernetes/kubelet.json`
pub(crate) fn kubelet(address: LanAddress) -> String {
    let config = serde_json::json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": Ipv4Addr::UNSPECIFIED,
        "containerRuntimeEndpoint": format!("unix://{CONTAINERD_SOCKET}"),
        // The API server is the only one who can reach it, and the lab has no secrets.
        "authentication": {"anonymous": {"enabled": true}, "webhook": {"enabled": false}},
        "authorization": {"mode": "AlwaysAllow"},
        "cgroupDriver": "cgroupfs",
        "cgroupsPerQOS": false,
        "enforceNodeAllocatable": [],
        "failSwapOn": false,
        "failCgroupV1": false,
        "localStorageCapacityIsolation": false,
        "evictionHard": {
            "memory.available": "0%", "nodefs.available": "0%", "nodefs.inodesFree": "0%",
            "imagefs.available": "0%", "imagefs.inodesFree": "0%",
        },
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "podLogsDir": "/var/log/pods",
        "volumePluginDir": "/var/lib/kubelet/volume-plugins",
        "staticPodPath": "",
        "resolvConf": "",
        "maxPods": 200,
        "nodeStatusUpdateFrequency": "2s",
        "nodeStatusReportFrequency": "30s",
        "nodeLeaseDurationSeconds": 10,
        "syncFrequency": "10s",
        "registerNode": true,
        "shutdownGracePeriod": "0s",
        "healthzBindAddress": address.v4,
        "healthzPort": 10248,
    });
    format!("{config:#}")
}
