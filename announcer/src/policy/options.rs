//! The two flags of MetalLB's speaker that change who may announce what.

use crate::kube::Service;

/// What policy is told on the command line. Every agent of a cluster must be told the same.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Options {
    /// `--lb-class`: announce exactly the Services of this `loadBalancerClass`; `None`: exactly those without one.
    pub lb_class: Option<String>,
    /// `--ignore-exclude-lb`: let nodes with the exclude label announce, too.
    pub ignore_exclude_lb: bool,
}

impl Options {
    /// Whether the Service is ours (MetalLB `internal/k8s/controllers/service_controller.go`, `filterByLoadBalancerClass`).
    pub fn want(&self, service: &Service) -> bool {
        self.lb_class == service.class
    }
}
