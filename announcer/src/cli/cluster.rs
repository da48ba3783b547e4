//! How to reach the cluster, and which of its Services are ours: what `agent` and `explain` are told alike.

use std::path::PathBuf;

use clap::builder::NonEmptyStringValueParser;

use crate::policy::{NodeHealth, Options};

/// The flags of it. Every agent of a cluster must be told the same.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Cluster {
    /// Namespace of the Leases, and of the IPAddressPools and L2Advertisements that are read.
    #[arg(long, env = "ANNOUNCER_NAMESPACE", value_name = "NS", default_value = "metallb", value_parser = NonEmptyStringValueParser::new())]
    pub(super) namespace: String,

    /// Kubeconfig to use; without it, the Pod's service account, or what `$KUBECONFIG` names.
    #[arg(long, env = "ANNOUNCER_KUBECONFIG", value_name = "FILE")]
    pub(super) kubeconfig: Option<PathBuf>,

    /// Announce only Services of this `spec.loadBalancerClass`; without it, only Services that have none.
    #[arg(long, env = "ANNOUNCER_LB_CLASS", value_name = "CLASS")]
    lb_class: Option<String>,

    /// Announce also from nodes labelled `node.kubernetes.io/exclude-from-external-load-balancers`.
    #[arg(long, env = "ANNOUNCER_IGNORE_EXCLUDE_LB", default_value_t = false, num_args = 0..=1, default_missing_value = "true", action = clap::ArgAction::Set)]
    ignore_exclude_lb: bool,

    /// Whether a Ready, uncordoned node is a better choice; `ignore` treats all alike, as MetalLB does.
    #[arg(long, env = "ANNOUNCER_NODE_HEALTH", value_enum, default_value_t = NodeHealth::Prefer)]
    node_health: NodeHealth,
}

impl Cluster {
    /// What policy is told.
    pub(super) fn options(&self) -> Options {
        Options {
            // As in MetalLB, an empty one is none.
            lb_class: self.lb_class.clone().filter(|class| !class.is_empty()),
            ignore_exclude_lb: self.ignore_exclude_lb,
            node_health: self.node_health,
            ..Options::default()
        }
    }
}
