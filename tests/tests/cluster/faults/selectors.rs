//! What an L2Advertisement selects: nodes, interfaces, Services, and the nodes it prefers.

use announcer_tests::Node;
use anyhow::Result;
use serde_json::{Value, json};

use super::SOON;
use crate::{
    bare::{Lab, VIPS},
    watch::{HANDOVER, Watch},
};

#[test]
fn a_node_selector_moves_what_the_selected_nodes_do_not_own_and_nothing_else() -> Result<()> {
    let lab = Lab::start(4)?;
    let watch = lab.watch(&VIPS)?;
    let before = watch.owners()?;
    let [.., third, fourth] = lab.cluster.nodes() else { anyhow::bail!("four nodes") };
    let selectors = [hostname(third), hostname(fourth)];
    lab.advertise(&json!({"nodeSelectors": selectors}))?;
    let selected = |node: &Node| [third.name(), fourth.name()].contains(&node.name());
    for (vip, owner) in before.iter().filter(|(_, owner)| !selected(owner)) {
        watch.moved(*vip, owner, SOON)?;
    }
    lab.wait_for_agents()?;
    let after = watch.owners()?;
    let story = watch.finish("node selector")?;
    for ((vip, before), (_, after)) in before.into_iter().zip(after) {
        if selected(before) {
            story.stayed(vip, before);
        } else {
            story.moved(vip, &[before, after], HANDOVER);
            assert!(selected(after), "{} is not selected", after.name());
        }
    }
    Ok(())
}

#[test]
fn an_interface_selector_answers_on_that_interface_alone_and_only_where_it_is() -> Result<()> {
    let lab = Lab::start(4)?;
    let watch = lab.watch(&VIPS)?;
    let owners = watch.owners()?;
    let [first, second, ..] = lab.cluster.nodes() else { anyhow::bail!("four nodes") };
    let mac = first.add_nic()?;
    let second_vip = "10.4.12.1".parse()?;
    lab.advertise(&json!({"ipAddressPools": ["primary"], "interfaces": ["eth0"]}))?;
    lab.cluster.apply_yaml(
        "
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: second, namespace: metallb}
spec: {addresses: [10.4.12.0/24]}
---
apiVersion: metallb.io/v1beta1
kind: L2Advertisement
metadata: {name: second, namespace: metallb}
spec: {ipAddressPools: [second], interfaces: [eth1]}
",
    )?;
    lab.serve("second", second_vip, json!({}))?;
    let on_second = lab.watch(&[second_vip])?;
    // Another node gets such an interface: nothing moves. The first one loses its own: the other takes over.
    let other = second.add_nic()?;
    lab.wait_log(second, "eth1", 1, SOON)?;
    lab.wait_for_agents()?;
    first.exec(&["ip", "link", "set", "eth1", "down"])?;
    on_second.answered_with(second_vip, other, SOON)?;
    let story = on_second.finish("interface selector")?;
    story.had(second_vip, &[mac, other]);
    assert!(story.silence(second_vip) <= HANDOVER);
    watch.finish("beside it, on eth0")?.all_stayed(&owners);
    Ok(())
}

#[test]
fn a_service_selector_withdraws_what_it_does_not_match() -> Result<()> {
    let lab = Lab::start(4)?;
    let watch = lab.watch(&VIPS)?;
    let owners = watch.owners()?;
    let label = |value: Value| json!({"metadata": {"labels": {"announce": value}}});
    for number in 1..=3 {
        lab.change_service(&format!("web-{number}"), &label(json!("yes")))?;
    }
    lab.advertise(&json!({"serviceSelectors": [{"matchLabels": {"announce": "yes"}}]}))?;
    let selected = watch.now();
    watch.silent(VIPS[3], HANDOVER, SOON)?;
    let silent = watch.now();
    lab.change_service("web-4", &label(json!("yes")))?;
    watch.answered(VIPS[3], SOON)?;
    lab.change_service("web-1", &label(Value::Null))?;
    let unlabelled = watch.now();
    watch.silent(VIPS[0], HANDOVER, SOON)?;
    let story = watch.finish("service selector")?;
    story.silent_between(VIPS[3], selected + HANDOVER, silent);
    story.silent_from(VIPS[0], unlabelled + HANDOVER);
    story.all_stayed(&owners[1..3]);
    Ok(())
}

#[test]
fn a_preferred_node_gets_its_addresses_and_gets_them_back() -> Result<()> {
    let lab = Lab::start(4)?;
    let preferred = lab.cluster.node("dalt")?;
    let watch = lab.watch(&VIPS)?;
    lab.advertise(&json!({"preferredNodeSelectors": [{"weight": 100, "preference": hostname(preferred)}]}))?;
    all_answered_by(&watch, preferred)?;
    let before = watch.first_owners()?;
    lab.cluster.kubectl(&["cordon", preferred.name()])?;
    VIPS.iter().try_for_each(|vip| watch.moved(*vip, preferred, SOON).map(drop))?;
    let between = watch.owners()?;
    lab.cluster.kubectl(&["uncordon", preferred.name()])?;
    all_answered_by(&watch, preferred)?;
    let story = watch.finish("preferred node")?;
    for ((vip, before), (_, between)) in before.into_iter().zip(between) {
        let mut owners = vec![before, preferred, between, preferred];
        owners.dedup_by_key(|node| node.name());
        story.moved(vip, &owners, HANDOVER);
    }
    Ok(())
}

fn all_answered_by(watch: &Watch<'_>, node: &Node) -> Result<()> {
    VIPS.iter().try_for_each(|vip| watch.answered_by(*vip, node, SOON))
}

pub(super) fn hostname(node: &Node) -> Value {
    json!({"matchLabels": {"kubernetes.io/hostname": node.name()}})
}
