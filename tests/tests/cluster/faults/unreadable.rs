//! Objects that hold what our types cannot, as the API server admits them.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::{PATIENCE, SOON};
use crate::bare::{JOINED, Lab, VIPS};

/// Greater than the greatest time of `jiff`, which is what k8s-openapi reads times with.
const BEYOND: &str = "9999-12-31T23:59:59Z";
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/metallb/leases";
const POOLS: &str = "/apis/metallb.io/v1beta1/namespaces/metallb/ipaddresspools";
const SERVICES: &str = "/api/v1/namespaces/default/services";

/// The experiment of the report: whoever may edit Services in one namespace writes a time into `managedFields`. The
/// same in a pool and in a Lease.
#[test]
fn objects_with_a_time_that_nobody_can_hold_move_nothing_through_restarts_of_agents_and_api_server()
-> Result<()> {
    let lab = Lab::start(3)?;
    let watch = lab.watch(&VIPS)?;
    let owners = watch.owners()?;

    let of = |api_version: &str, kind: &str, spec: Value| json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": "poison"}, "spec": spec});
    let service = json!({"type": "LoadBalancer", "ports": [{"port": 80}]});
    poison(&lab, SERVICES, of("v1", "Service", service))?;
    poison(&lab, POOLS, of("metallb.io/v1beta1", "IPAddressPool", json!({"addresses": ["10.4.14.0/24"]})))?;
    let mut lease =
        of("coordination.k8s.io/v1", "Lease", json!({"holderIdentity": "nobody", "renewTime": BEYOND}));
    lease["metadata"]["name"] = json!("vip-10.4.14.1");
    lease["spec"]["renewTime"] = json!("9999-12-31T23:59:59.999999Z");
    poison(&lab, LEASES, lease)?;

    // In a running agent, after a restart of each, and after one of the API server, which begins with lists.
    lab.wait_for_agents()?;
    for node in lab.cluster.nodes() {
        lab.end_agent(node)?;
        lab.start_agent(node)?;
        lab.wait_log(node, JOINED, 2, SOON)?;
    }
    lab.wait_for_agents()?;
    lab.cluster.stop_part("kube-apiserver")?;
    lab.cluster.start_part("kube-apiserver")?;
    lab.wait_renewed(PATIENCE)?;
    lab.wait_for_agents()?;
    watch.finish("objects with a time that nobody can hold")?.all_stayed(&owners);

    // Services are selected by their type: one that ceases to be a LoadBalancer is given up, and taken again.
    let watch = lab.watch(&VIPS)?;
    let (first, _) = watch.owners()?[0];
    lab.change_service("web-1", &json!({"spec": {"type": "ClusterIP"}}))?;
    watch.silent(first, Duration::from_secs(1), SOON)?;
    lab.change_service("web-1", &json!({"spec": {"type": "LoadBalancer"}}))?;
    lab.cluster.set_ingress("default", "web-1", &[first])?;
    watch.answered(first, SOON)?;
    watch.finish("a Service ceases to be a LoadBalancer, and is one again").map(drop)
}

/// Makes an object with that time; if the API server drops it at the creation, by a patch that changes a label, too.
fn poison(lab: &Lab, collection: &str, mut object: Value) -> Result<()> {
    let name = object["metadata"]["name"].as_str().context("a name")?.to_owned();
    let kind = object["kind"].as_str().context("a kind")?.to_owned();
    object["metadata"]["managedFields"] = json!([{
        "manager": "x", "operation": "Update", "apiVersion": object["apiVersion"], "time": BEYOND,
        "fieldsType": "FieldsV1", "fieldsV1": {"f:metadata": {"f:labels": {"f:absent": {}}}},
    }]);
    let path = format!("{collection}/{name}");
    let holds = || -> Result<bool> {
        let now = lab.cluster.api("GET", &path, None)?;
        Ok(now["metadata"]["managedFields"].to_string().contains(BEYOND))
    };
    lab.cluster.api("POST", collection, Some(&object))?;
    let at_creation = holds()?;
    if !at_creation {
        let patch = json!([
            {"op": "add", "path": "/metadata/labels", "value": {"poisoned": "yes"}},
            {"op": "replace", "path": "/metadata/managedFields/0/time", "value": BEYOND},
        ]);
        let args = ["patch", "--type=json", "-p", &patch.to_string()];
        let of = format!("{}/{name}", kind.to_lowercase());
        let namespace = collection.split("/namespaces/").nth(1).and_then(|rest| rest.split('/').next());
        let namespace = namespace.context("a namespace")?;
        lab.cluster.kubectl(&[&["-n", namespace][..], &args[..1], &[&of], &args[1..]].concat())?;
    }
    ensure!(holds()?, "the API server admits no {kind} with the time {BEYOND}");
    println!(
        "{kind} {name}: the API server holds {BEYOND}, written by {}",
        if at_creation { "the creation" } else { "a patch" }
    );
    Ok(())
}
