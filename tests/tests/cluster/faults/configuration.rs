//! Objects that nobody can make sense of.

use anyhow::Result;
use serde_json::json;

use super::SOON;
use crate::{
    bare::{Lab, VIPS},
    watch::HANDOVER,
};

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
    lab.patch(pool, &json!({"spec": {"addresses": ["10.4.11.0/24"]}}))?;
    lab.cluster.kubectl(&["-n", "metallb", "delete", "ipaddresspool/broken-pool"])?;
    lab.cluster.kubectl(&["-n", "metallb", "delete", "l2advertisement/broken-advertisement"])?;
    lab.wait_logs("valid again", 1, SOON)?;
    watch.finish("invalid objects")?.all_stayed(&owners);
    Ok(())
}

/// `docs/migration-from-metallb.md`: an agent that has seen no good configuration uses what is valid, so it gives up the
/// addresses of an invalid pool; those that have seen one go on by it, and take them.
#[test]
fn an_agent_that_starts_while_a_pool_is_invalid_leaves_its_addresses_to_those_that_know_the_last_good_one()
-> Result<()> {
    let lab = Lab::start(4)?;
    let watch = lab.watch(&VIPS)?;
    let before = watch.owners()?;
    let old = before[0].1;
    let pool = "/apis/metallb.io/v1beta1/namespaces/metallb/ipaddresspools/primary";
    lab.patch(pool, &json!({"spec": {"addresses": ["10.4.11.9-10.4.11.1"]}}))?;
    lab.wait_logs("\"object\":\"metallb/primary\"", 1, SOON)?;
    lab.end_agent(old)?;
    lab.start_agent(old)?;
    for (vip, _) in before.iter().filter(|(_, owner)| owner.name() == old.name()) {
        watch.moved(*vip, old, SOON)?;
    }
    let after = watch.owners()?;
    lab.patch(pool, &json!({"spec": {"addresses": ["10.4.11.0/24"]}}))?;
    lab.wait_logs("valid again", 1, SOON)?;
    lab.wait_for_agents()?;
    let story = watch.finish("an agent starts while a pool is invalid")?;
    for ((vip, before), (_, after)) in before.into_iter().zip(after) {
        if before.name() == old.name() {
            story.moved(vip, &[old, after], HANDOVER);
        } else {
            story.stayed(vip, before);
        }
    }
    Ok(())
}
