//! Objects that nobody can make sense of.

use anyhow::Result;
use serde_json::json;

use super::SOON;
use crate::bare::{Lab, VIPS};

#[test]
fn an_invalid_object_is_named_and_moves_nothing() -> Result<()> {
    let lab = Lab::start(4)?;
    let watch = lab.watch(&VIPS)?;
    let owners = watch.owners()?;
    lab.cluster.apply_yaml(
        "
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: broken-pool, namespace: metallb}
spec: {addresses: [10.4.13.0/33]}
---
apiVersion: metallb.io/v1beta1
kind: L2Advertisement
metadata: {name: broken-advertisement, namespace: metallb}
spec: {nodeSelectors: [{matchExpressions: [{key: a, operator: Near, values: [b]}]}]}
",
    )?;
    for name in ["broken-pool", "broken-advertisement"] {
        lab.wait_logs(&format!("\"object\":\"metallb/{name}\""), 1, SOON)?;
    }
    // The pool that everything comes from is broken, too: the last good configuration stays.
    let pool = "/apis/metallb.io/v1beta1/namespaces/metallb/ipaddresspools/primary";
    lab.patch(pool, &json!({"spec": {"addresses": ["10.4.11.9-10.4.11.1"]}}))?;
    lab.wait_logs("\"object\":\"metallb/primary\"", 1, SOON)?;
    lab.wait_for_agents()?;
    // An agent that starts has seen no good one: it goes on with what the kernel holds.
    lab.patch(pool, &json!({"spec": {"addresses": ["10.4.11.0/24"]}}))?;
    lab.cluster.kubectl(&["-n", "metallb", "delete", "ipaddresspool/broken-pool"])?;
    lab.cluster.kubectl(&["-n", "metallb", "delete", "l2advertisement/broken-advertisement"])?;
    lab.wait_logs("valid again", 1, SOON)?;
    watch.finish("invalid objects")?.all_stayed(&owners);
    Ok(())
}
