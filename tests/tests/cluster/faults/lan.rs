//! LANs as they are: NICs of other names, hosts that answer for what is not theirs, a second network, addresses of a DHCP
//! range. Where a better answer needs other rules of the election ("Ask the wire"), a test holds what must be so today:
//! never two nodes at once for long, no agent ends, it is told, and it is over when it is mended.

use std::net::IpAddr;

use announcer_tests::{Cluster, wait};
use anyhow::Result;
use serde_json::json;

use super::{PATIENCE, SOON};
use crate::{
    bare::{Lab, VIPS, vip},
    watch::{FAILOVER, HANDOVER},
};

const CLAIMED: &str = "another host claims this address";
const NOT_TAKEN: &str = "another host answers for this address: not taking it";

fn all_run(lab: &Lab) -> Result<()> {
    for node in lab.cluster.nodes() {
        assert!(lab.is_running(node)?, "{}: {}", node.name(), lab.log(node)?);
    }
    Ok(())
}

#[test]
fn nodes_whose_nics_have_other_names_serve_and_replace_each_other() -> Result<()> {
    let lab = Lab::start_on(Cluster::builder().nodes(3).nics(&["eth0", "eno1", "enp1s0"]))?;
    let watch = lab.watch(&VIPS)?;
    let before = watch.owners()?;
    for (node, nic) in lab.cluster.nodes().iter().zip(["eth0", "eno1", "enp1s0"]) {
        assert!(lab.log(node)?.contains(&format!("{nic} (tcx")), "{}", lab.log(node)?);
    }
    let old = before[0].1;
    old.crash()?;
    for (vip, _) in before.iter().filter(|(_, owner)| owner.name() == old.name()) {
        watch.moved(*vip, old, PATIENCE)?;
    }
    let after = watch.owners()?;
    let story = watch.finish("NICs of three names, a node dies")?;
    for ((vip, before), (_, after)) in before.into_iter().zip(after) {
        if before.name() == old.name() {
            // Links are paired by name: nobody on `eno1` asks for what is on `eth0`, so that the lease decides.
            story.moved(vip, &[old, after], FAILOVER);
        } else {
            story.stayed(vip, before);
        }
    }
    Ok(())
}

#[test]
fn a_host_that_answers_for_an_address_is_told_of_and_what_it_leaves_is_taken() -> Result<()> {
    let lab = Lab::start_on(Cluster::builder().nodes(3))?;
    let watch = lab.watch(&VIPS)?;
    let owners = watch.owners()?;
    let (printer, proxy) = (lab.cluster.add_host(1)?, lab.cluster.add_host(2)?);

    // A printer has an address that a Service gets: agents that have not watched for a minute ask, and leave it alone.
    let (printed, proxied) = (vip(8), vip(9));
    printer.take(printed)?;
    lab.serve("printed", printed, json!({}))?;
    is_not_taken(&lab, printed)?;
    // A host that answers for the whole pool.
    proxy.answer_for_all("10.4.11.0/24")?;
    lab.serve("proxied", proxied, json!({}))?;
    is_not_taken(&lab, proxied)?;
    proxy.answer_for_none("10.4.11.0/24")?;
    printer.leave(printed)?;
    for address in [printed, proxied] {
        let watch = lab.watch(&[address])?;
        let owner = watch.owner(address)?;
        watch.finish("given back")?.stayed(address, owner);
    }
    // A client of the DHCP range gets an address that is announced, and gives it back.
    printer.take(VIPS[0])?;
    lab.wait_log(owners[0].1, CLAIMED, 1, SOON)?;
    printer.leave(VIPS[0])?;
    all_run(&lab)?;
    // The hosts answered beside the owners; of the nodes only one did, all the time.
    let story = watch.finish("hosts that answer for others")?;
    for (vip, owner) in owners {
        story.nodes_had(vip, &lab, owner);
    }
    Ok(())
}

/// An agent has said that another host answers for the address.
fn is_not_taken(lab: &Lab, address: IpAddr) -> Result<()> {
    let (said, ip) = (format!("`{NOT_TAKEN}` of {address}"), format!("\"{address}\""));
    wait::until(&said, SOON, || {
        Ok(lab.logs()?.lines().any(|line| line.contains(NOT_TAKEN) && line.contains(&ip)).then_some(()))
    })
}

#[test]
fn on_two_networks_an_address_is_answered_on_both_and_one_cable_takes_nothing_from_the_other() -> Result<()> {
    let lab = Lab::start_on(Cluster::builder().nodes(3).second_network())?;
    let watch = lab.watch(&VIPS)?;
    let owners = watch.owners()?;
    let second = lab.cluster.judge_on_second_network(&VIPS)?;
    let mut macs = Vec::new();
    for (address, owner) in &owners {
        let there = owner.address().on_second_network().mac();
        macs.push((*address, there));
        wait::until(&format!("{address} on the second network"), SOON, || {
            Ok(second.so_far().answered(*address).last().filter(|answer| answer.mac == there).map(drop))
        })?;
    }
    let old = owners[0].1;
    old.second_port_down()?;
    lab.wait_log(old, "link down", 1, SOON)?;
    // The kernel has noticed; nobody there may be answered by two, whoever answers.
    watch.go_on_for(HANDOVER);
    old.second_port_up()?;
    let mended = second.now();
    wait::until("an answer on the second network again", SOON, || {
        Ok(second.answers_since(mended).iter().any(|answer| answer.vip == VIPS[0]).then_some(()))
    })?;
    // Its own address goes for a moment: what it has may move, and is answered all the same.
    old.lose_address_for(0.2)?;
    VIPS.iter().try_for_each(|vip| watch.answered(*vip, SOON))?;
    lab.wait_for_agents()?;
    all_run(&lab)?;
    let verdict = second.finish()?;
    for (address, _) in macs {
        let two = verdict.two_macs_within(crate::ONE_QUESTION);
        assert!(two.iter().all(|(one, _)| one.vip != address), "{two:?}");
    }
    let story = watch.finish("a cable of the second network; a node's own address for 0.2 s")?;
    for (address, owner) in owners {
        if owner.name() == old.name() {
            assert!(
                story.silence(address) <= HANDOVER,
                "{address} was silent for {:?}",
                story.silence(address)
            );
            assert!(story.answered_by_two(address).is_empty(), "{address} was answered by two");
        } else {
            story.stayed(address, owner);
        }
    }
    Ok(())
}
