//! The flags that change who may announce what: two of MetalLB's speaker, and one that takes back what is ours.

use super::admit::MOST_VIPS;
use crate::kube::Service;

/// What policy is told on the command line. Every agent of a cluster must be told the same.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Options {
    /// `--lb-class`: announce exactly the Services of this `loadBalancerClass`; `None`: exactly those without one.
    pub lb_class: Option<String>,
    /// `--ignore-exclude-lb`: let nodes with the exclude label announce, too.
    pub ignore_exclude_lb: bool,
    /// `--node-health`: whether a healthy node is a better choice.
    pub node_health: NodeHealth,
    /// How many addresses of each family are announced at most.
    pub most_vips: MostVips,
}

/// How many addresses of each family a cluster announces: [`MOST_VIPS`], but in tests.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct MostVips(pub usize);

impl Default for MostVips {
    fn default() -> Self {
        Self(MOST_VIPS)
    }
}

/// What a Node's Ready condition and a cordon mean for the choice.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, clap::ValueEnum)]
pub enum NodeHealth {
    /// Ready nodes first, then cordoned ones, then those that are not ready.
    #[default]
    Prefer,
    /// All nodes alike, but for NetworkUnavailable, as in MetalLB: a drained node keeps its addresses.
    Ignore,
}

impl Options {
    /// Whether the Service is ours (MetalLB `internal/k8s/controllers/service_controller.go`, `filterByLoadBalancerClass`).
    pub fn want(&self, service: &Service) -> bool {
        self.lb_class == service.class
    }
}
