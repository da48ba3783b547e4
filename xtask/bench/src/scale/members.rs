//! Nodes that are only an election: no kernel, no links, and as many as there is room for.

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    sync::Arc,
    time::{Duration, Instant},
};

use announcer::{
    election::{
        Challenged, Change, Failback, Identity, Input, Leases, Machine, OnApiLoss, Probed, Request, Settings,
        Target, lease::Holder,
    },
    policy::{Candidate, Candidates, Demand, Interfaces, Tier, VipDemand},
    vocabulary::{BootNs, Vip},
};
use futures::StreamExt as _;
use tokio::sync::{mpsc, watch};

/// The name of node `number`.
pub fn name(number: usize) -> String {
    format!("node-{number:03}")
}

/// So many VIPs that any of so many nodes may have.
pub fn demand(vips: usize, nodes: usize) -> Demand {
    let candidate = Candidate { weight: 0, tier: Tier::Ready, interfaces: Interfaces::All };
    let candidates: Arc<Candidates> =
        Arc::new((0..nodes).map(|number| (name(number), candidate.clone())).collect());
    let wanted = |number| (vip(number), VipDemand { candidates: candidates.clone(), ..VipDemand::default() });
    Demand {
        vips: (0..vips).map(wanted).collect(),
        nodes: (0..nodes).map(name).collect(),
        ..Demand::default()
    }
}

/// VIP `number`.
pub fn vip(number: usize) -> Vip {
    Vip::from(Ipv4Addr::from_bits(0x0a40_0000 + u32::try_from(number).unwrap_or_default()))
}

/// The election of node `number`, which has a link.
pub fn machine(number: usize) -> Machine {
    let holder =
        Holder { node: name(number), boot_id: format!("boot-{number}"), machine_id: format!("m{number}") };
    let me = Identity { holder, seed: number as u64 + 1, agent: "bench".to_owned() };
    let settings = Settings { failback: Failback::Preferred, strict: false, on_api_loss: OnApiLoss::Hold };
    let mut machine = Machine::new(me, settings, Target::default());
    machine.step(BootNs::now(), Input::Links(["eth0".to_owned()].into_iter().collect()));
    machine
}

/// Takes part in the election until the demand ends; tells how many VIPs it holds whenever that changes.
pub async fn live(
    number: usize,
    leases: Leases,
    mut demands: watch::Receiver<Arc<Demand>>,
    held: mpsc::UnboundedSender<(usize, usize)>,
) {
    let mut machine = machine(number);
    let mut seen = std::pin::pin!(leases.observe().ready_chunks(256));
    let (outcomes, mut came_back) = mpsc::unbounded_channel::<Input>();
    let (mut inputs, mut holds) = (Vec::new(), 0);
    inputs.push(Input::Demand(demands.borrow_and_update().clone()));
    loop {
        let requests = machine.step_all(BootNs::now(), inputs.drain(..));
        if machine.target().held.len() != holds {
            holds = machine.target().held.len();
            let _ = held.send((number, holds));
        }
        for (token, request) in requests {
            let (leases, outcomes) = (leases.clone(), outcomes.clone());
            let all = machine.target().held.clone();
            tokio::spawn(async move {
                let _ = outcomes.send(match request {
                    // Nobody else is on this wire.
                    Request::Probe(vip) => Input::Probed(vip, Probed::Unused),
                    Request::Challenge => {
                        Input::Challenged(Some(Challenged { asked: all, answered: BTreeMap::new() }))
                    }
                    request => Input::Answered(token, leases.perform(request).await),
                });
            });
        }
        for change in machine.take_changes() {
            // None of these happens while nothing moves: the machine that this runs on is too small.
            if let Change::Fenced { .. } | Change::Restored(_) | Change::FencedPeer { .. } | Change::HeldOn =
                &change
            {
                eprintln!("scale: {}: {change:?}", name(number));
            }
        }
        let now = Instant::now();
        let due = machine.wake_at().map_or(now + Duration::from_secs(60), |at| now + at.until(BootNs::now()));
        tokio::select! {
            1.. = came_back.recv_many(&mut inputs, 256) => {}
            Some(more) = seen.next() => inputs = more,
            changed = demands.changed() => match changed {
                Ok(()) => inputs.push(Input::Demand(demands.borrow_and_update().clone())),
                Err(_) => return,
            },
            () = tokio::time::sleep_until(due.into()) => inputs.push(Input::Tick),
        }
    }
}
