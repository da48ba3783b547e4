//! MetalLB's custom resources (`metallb.io/v1beta1`) as they are written, before any judgement of their content.
//!
//! Reading is lenient: every field has a default, unknown fields are ignored, and [`RawSpec::read`] treats `null` as
//! absent and an absent `spec` as an empty one (the bare `L2Advertisement`), as MetalLB's own schemas allow.
//!
//! `cfg_attr(all(), serde(default))` is how a kind says that its `spec` may be absent: kube's derive refuses the plain
//! attribute.

use k8s_openapi::{
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};
use kube::{CustomResource, CustomResourceExt};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use super::{
    invalid::{Fault, Problem},
    raw::Metadata,
};

/// Addresses that MetalLB's controller may give out. Announcer reads `addresses`; the rest is allocation's.
#[derive(CustomResource, Clone, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq)]
#[kube(
    group = "metallb.io",
    version = "v1beta1",
    kind = "IPAddressPool",
    namespaced,
    status = "IpAddressPoolStatus",
    doc = "Addresses that MetalLB's controller may give out to Services of type LoadBalancer.",
    derive = "PartialEq",
    printcolumn = r#"{"name": "Auto Assign", "type": "boolean", "jsonPath": ".spec.autoAssign"}"#,
    printcolumn = r#"{"name": "Avoid Buggy IPs", "type": "boolean", "jsonPath": ".spec.avoidBuggyIPs"}"#,
    printcolumn = r#"{"name": "Addresses", "type": "string", "jsonPath": ".spec.addresses"}"#
)]
#[serde(rename_all = "camelCase", default)]
pub struct IpAddressPoolSpec {
    /// CIDR prefixes, or ranges written `first-last`.
    #[schemars(required)]
    pub addresses: Vec<String>,
    /// Whether the controller may give these out unasked; `None` means yes.
    pub auto_assign: Option<bool>,
    /// Whether the controller skips addresses that end in .0 and .255.
    #[serde(rename = "avoidBuggyIPs")]
    pub avoid_buggy_ips: bool,
    /// Which namespaces and services the controller may give these to.
    pub service_allocation: Option<ServiceAllocation>,
}

/// Which namespaces and services a pool is for: allocation's business only.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceAllocation {
    /// Lower goes first; 0 goes last.
    pub priority: Option<i64>,
    /// Namespaces by name.
    pub namespaces: Vec<String>,
    /// Namespaces by label.
    pub namespace_selectors: Vec<LabelSelector>,
    /// Services by label.
    pub service_selectors: Vec<LabelSelector>,
}

/// How full a pool is; written by MetalLB's controller.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct IpAddressPoolStatus {
    /// IPv4 addresses given out.
    #[serde(rename = "assignedIPv4")]
    pub assigned_ipv4: i64,
    /// IPv6 addresses given out.
    #[serde(rename = "assignedIPv6")]
    pub assigned_ipv6: i64,
    /// IPv4 addresses left.
    #[serde(rename = "availableIPv4")]
    pub available_ipv4: i64,
    /// IPv6 addresses left.
    #[serde(rename = "availableIPv6")]
    pub available_ipv6: i64,
}

/// Which pools are announced on Layer 2, where. All lists empty: every pool, every node, every interface.
#[derive(CustomResource, Clone, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq)]
#[kube(
    group = "metallb.io",
    version = "v1beta1",
    kind = "L2Advertisement",
    namespaced,
    status = "L2AdvertisementStatus",
    doc = "Which pools are announced on Layer 2, for which Services, by which nodes, on which interfaces.",
    derive = "Default",
    derive = "PartialEq",
    attr = "cfg_attr(all(), serde(default))",
    printcolumn = r#"{"name": "IPAddressPools", "type": "string", "jsonPath": ".spec.ipAddressPools"}"#,
    printcolumn = r#"{"name": "IPAddressPool Selectors", "type": "string", "jsonPath": ".spec.ipAddressPoolSelectors"}"#,
    printcolumn = r#"{"name": "Interfaces", "type": "string", "jsonPath": ".spec.interfaces"}"#,
    printcolumn = r#"{"name": "Node Selectors", "type": "string", "jsonPath": ".spec.nodeSelectors", "priority": 10}"#
)]
#[serde(rename_all = "camelCase", default)]
pub struct L2AdvertisementSpec {
    /// Pools by name; names that do not exist are ignored.
    pub ip_address_pools: Vec<String>,
    /// Pools by label, any of these; with `ipAddressPools` the union.
    pub ip_address_pool_selectors: Vec<LabelSelector>,
    /// Nodes that may announce, any of these: a hard rule.
    pub node_selectors: Vec<LabelSelector>,
    /// Exact names of the interfaces to announce on.
    pub interfaces: Vec<String>,
    /// Services, any of these (MetalLB 0.16).
    pub service_selectors: Vec<LabelSelector>,
    /// Nodes to prefer among those that may (MetalLB after 0.16.1).
    pub preferred_node_selectors: Vec<PreferredNodeSelector>,
}

/// Nothing: MetalLB's schema has it all the same.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq)]
pub struct L2AdvertisementStatus {}

/// A soft preference for nodes, after Kubernetes' `PreferredSchedulingTerm`.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct PreferredNodeSelector {
    /// 1 to 100; the weights of all terms that match a node add up.
    #[schemars(required, range(min = 1, max = 100))]
    pub weight: i32,
    /// The nodes that get the weight; an empty selector is every node.
    #[schemars(required)]
    pub preference: LabelSelector,
}

/// Which node announces a Service, in MetalLB's words; written by the announcing node.
#[derive(CustomResource, Clone, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq)]
#[kube(
    group = "metallb.io",
    version = "v1beta1",
    kind = "ServiceL2Status",
    plural = "servicel2statuses",
    namespaced,
    status = "ServiceL2StatusStatus",
    doc = "Which node announces a Service on Layer 2.",
    derive = "Default",
    derive = "PartialEq",
    attr = "cfg_attr(all(), serde(default))",
    printcolumn = r#"{"name": "Allocated Node", "type": "string", "jsonPath": ".status.node"}"#,
    printcolumn = r#"{"name": "Service Name", "type": "string", "jsonPath": ".status.serviceName"}"#,
    printcolumn = r#"{"name": "Service Namespace", "type": "string", "jsonPath": ".status.serviceNamespace"}"#
)]
pub struct ServiceL2StatusSpec {}

/// The content of a [`ServiceL2Status`].
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceL2StatusStatus {
    /// The announcing node.
    pub node: Option<String>,
    /// Name of the Service.
    pub service_name: Option<String>,
    /// Namespace of the Service.
    pub service_namespace: Option<String>,
    /// Where it is announced; empty means all interfaces.
    pub interfaces: Vec<InterfaceInfo>,
}

/// One interface in a [`ServiceL2Status`].
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(default)]
pub struct InterfaceInfo {
    /// Its name.
    pub name: Option<String>,
}

/// The definitions of our kinds, for a cluster that never had MetalLB: they admit whatever MetalLB's own admit.
/// `cargo xtask crds` prints them.
///
/// # Errors
/// A definition that is not one; a test keeps that from happening.
pub fn definitions() -> serde_json::Result<Vec<CustomResourceDefinition>> {
    [IPAddressPool::crd(), L2Advertisement::crd(), ServiceL2Status::crd()]
        .into_iter()
        .map(|crd| {
            let mut crd = serde_json::to_value(crd)?;
            without_defaults(&mut crd);
            serde_json::from_value(crd)
        })
        .collect()
}

/// The API server would write defaults into every object, empty lists and all; MetalLB's has none that count for us.
fn without_defaults(schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            members.remove("default");
            members.values_mut().for_each(without_defaults);
        }
        Value::Array(items) => items.iter_mut().for_each(without_defaults),
        _ => {}
    }
}

/// One of these objects, before its `spec` is understood.
#[derive(Debug, Deserialize)]
pub(super) struct Custom {
    pub(super) metadata: Metadata,
    #[serde(default)]
    pub(super) spec: RawSpec,
}

/// A `spec` as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(transparent)]
pub(super) struct RawSpec(Value);

impl RawSpec {
    /// A value of the wrong type is told with the field it stands in.
    pub(super) fn read<T: DeserializeOwned>(self) -> Result<T, Fault> {
        let spec = match self.0 {
            Value::Null => Value::Object(Map::new()),
            spec => without_nulls(spec),
        };
        T::deserialize(&spec).map_err(|error| {
            let alone = |field: &str, value: &Value| {
                Value::Object([(field.to_owned(), value.clone())].into_iter().collect())
            };
            let fault =
                |field: String, error: serde_json::Error| Fault::new(field, Problem::Type(error.to_string()));
            spec.as_object()
                .into_iter()
                .flatten()
                .find_map(|(field, value)| Some((field, T::deserialize(alone(field, value)).err()?)))
                .map_or_else(
                    || fault("spec".into(), error),
                    |(field, error)| fault(format!("spec.{field}"), error),
                )
        })
    }
}

/// The API server prunes `null` members of these objects; one that was stored before the CRD said so may still have some.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(members) => Value::Object(
            members.into_iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k, without_nulls(v))).collect(),
        ),
        Value::Array(items) => Value::Array(items.into_iter().map(without_nulls).collect()),
        other => other,
    }
}

#[cfg(test)]
mod tests;
