//! How long it takes to decide, by the count of VIPs: linear at worst.

use std::{
    collections::{BTreeMap, BTreeSet},
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use announcer::{
    election::{
        Answer, Input, Machine, Request,
        lease::{Claim, Holder, Record, Session, Version},
    },
    kube::{
        Advertisement, Configuration, Endpoints, Labels, Node, ObjectKey, Pool, Service, Snapshot,
        TrafficPolicy,
    },
    policy::{self, Damping, Options},
    vocabulary::BootNs,
};

use super::{
    Effort,
    members::{demand, machine, name, vip},
};
use crate::{
    progress::Progress,
    report::{Cell, Section},
    stats::Spread,
};

/// The most nodes that any row has.
const NODES: usize = 100;
/// For each VIP: a little more than the election leaves them alone for.
const REST: Duration = Duration::from_micros(21);
const UID: &str = "00000000-0000-4000-8000-";

/// The table.
pub fn run(effort: Effort) -> Section {
    let progress = Progress::start("scale: decide", effort.vips.len());
    let rows = effort.vips.iter().enumerate().map(|(round, vips)| {
        progress.round(round);
        let everywhere = snapshot(*vips, TrafficPolicy::Cluster);
        let local = snapshot(*vips, TrafficPolicy::Local);
        let mut world = World::new(*vips);
        let each = |per_vip: bool, work: &mut dyn FnMut()| {
            let times = (0..effort.rounds).map(|_| {
                let start = Instant::now();
                work();
                start.elapsed().as_nanos() as f64 / if per_vip { *vips as f64 * 1e3 } else { 1e3 }
            });
            Spread::of(times.collect::<Vec<_>>())
        };
        let options = Options::default();
        let mut damping = Damping::default();
        let mut decide = |snapshot: &Snapshot| {
            let mut decision = policy::decide(snapshot, &options);
            drop(black_box(damping.damp(Instant::now(), snapshot, &options, &mut decision)));
        };
        let policy = each(false, &mut || decide(&everywhere));
        let apart = each(false, &mut || decide(&local));
        let whole = Arc::new(demand(*vips, NODES));
        let pass = each(false, &mut || {
            // Between two passes the election rests.
            world.later += REST * u32::try_from(*vips).unwrap_or(u32::MAX);
            world.step(Input::Demand(whole.clone()));
        });
        let renewal = each(false, &mut || world.hear());
        let us_per_vip = (policy.median + pass.median) / *vips as f64;
        (
            format!("{vips} VIPs"),
            vec![
                Cell::spread("policy_us", policy, 0),
                Cell::spread("policy_local_us", apart, 0),
                Cell::spread("pass_us", pass, 0),
                Cell::number("per_vip_us", us_per_vip, 2),
                Cell::spread("renewal_us", renewal, 1),
            ],
        )
    });
    Section {
        id: "decide",
        title: format!("Deciding, {NODES} nodes, µs"),
        notes: vec![
            "Policy: from the cluster's objects to who may announce what; under Local each Service has endpoints on other nodes \
             than any other, which is the dearest there is. Pass: the election goes through every VIP. A peer's \
             renewal: what each node does 20 times a second. Per VIP: policy and pass together; it must not grow."
                .to_owned(),
        ],
        columns: ["", "policy", "policy, Local", "pass", "per VIP", "a peer's renewal"].map(str::to_owned).to_vec(),
        rows: rows.collect(),
    }
}

/// A machine in a cluster where everything is owned and nothing moves.
struct World {
    machine: Machine,
    peer: Session,
    version: u64,
    /// Its clock is ahead of ours by this.
    later: Duration,
}

fn uid(number: usize) -> String {
    format!("{UID}{number:012}")
}

impl World {
    fn new(vips: usize) -> Self {
        let mut machine = machine(0);
        let sessions = (0..NODES).map(|number| Session {
            name: format!("session-{}", name(number)),
            uid: uid(number),
            version: Version(10 + number as u64),
            holder: Some(Holder {
                node: name(number),
                boot_id: format!("boot-{number}"),
                machine_id: format!("m{number}"),
            }),
            epoch: 1,
            lease: Duration::from_secs(15),
            renewal: "0".to_owned(),
            links: ["eth0".to_owned()].into_iter().collect(),
            left: None,
            agent: "bench".to_owned(),
            on_api_loss: "hold".to_owned(),
            fencing: "early".to_owned(),
            suspects: BTreeSet::new(),
            early: None,
            unsteady: BTreeSet::new(),
            understood: true,
        });
        let sessions: Vec<Session> = sessions.collect();
        let claims = (0..vips).map(|number| {
            // Nobody's share is ours: writes are not what is measured.
            let owner = 1 + number % (NODES - 1);
            Record::Claim(Claim {
                vip: vip(number),
                uid: uid(1_000 + number),
                version: Version(1_000 + number as u64),
                holder: Some(name(owner)),
                session_uid: uid(owner),
                session_epoch: 1,
                preferred: None,
                heir: None,
                acquired: None,
                write: "0".to_owned(),
                transitions: 1,
                understood: true,
            })
        });
        let records = sessions.iter().cloned().map(Record::Session).chain(claims).collect();
        machine.step(BootNs::now(), Input::Demand(Arc::new(demand(vips, NODES))));
        let mut world = Self { machine, peer: sessions[1].clone(), version: 10_000, later: Duration::ZERO };
        world.step(Input::Listed(Version(10_000), records));
        // All have been heard once, as after the first seconds.
        for session in sessions.into_iter().skip(1) {
            world.peer = session;
            world.hear();
        }
        world
    }

    /// Takes one input, and answers what it asks for at once.
    fn step(&mut self, input: Input) {
        let mut inputs = vec![input];
        while !inputs.is_empty() {
            let requests = self.machine.step_all(BootNs::now() + self.later, inputs.drain(..));
            for (token, request) in requests {
                let Request::Put(mut record) = request else { continue };
                self.version += 1;
                match &mut record {
                    Record::Session(session) => session.version = Version(self.version),
                    Record::Claim(claim) => claim.version = Version(self.version),
                }
                inputs.push(Input::Answered(token, Answer::Done(record)));
            }
        }
    }

    /// A peer renews its session.
    fn hear(&mut self) {
        self.version += 1;
        self.peer.version = Version(self.version);
        self.peer.renewal = self.version.to_string();
        self.step(Input::Changed(Record::Session(self.peer.clone())));
    }
}

/// A cluster with so many Services of this policy, one pool and one advertisement.
fn snapshot(vips: usize, traffic_policy: TrafficPolicy) -> Snapshot {
    let key = |name: &str| ObjectKey { namespace: "metallb".to_owned(), name: name.to_owned() };
    let node = |number| (name(number), Node { name: name(number), ready: true, ..Node::default() });
    let service = |number| {
        let key = ObjectKey { namespace: "default".to_owned(), name: format!("web-{number}") };
        // Three of them, no two Services the same ones.
        let places = [number, number / NODES + number + 1, number / NODES / NODES + number + 51];
        let nodes = places.into_iter().map(|place| name(place % NODES)).collect();
        let endpoints = Endpoints { nodes, unplaced: false };
        let service = Service {
            key: key.clone(),
            uid: String::new(),
            labels: Labels::new(),
            class: None,
            created: String::new(),
            traffic_policy,
            addresses: BTreeSet::from([vip(number)]),
            misspelt: BTreeSet::new(),
            shares_address: false,
            endpoints,
        };
        (key, service)
    };
    let pool = Pool {
        key: key("pool"),
        uid: String::new(),
        created: None,
        labels: Labels::new(),
        ranges: "10.64.0.0/16".parse().into_iter().collect(),
    };
    let advertisement = Advertisement {
        key: key("advertisement"),
        uid: String::new(),
        pools: BTreeSet::new(),
        pool_selectors: Vec::new(),
        node_selectors: Vec::new(),
        interfaces: BTreeSet::new(),
        service_selectors: Vec::new(),
        preferences: Vec::new(),
    };
    let configuration = Configuration {
        pools: BTreeMap::from([("pool".to_owned(), pool)]),
        advertisements: BTreeMap::from([("advertisement".to_owned(), advertisement)]),
    };
    Snapshot {
        services: (0..vips).map(service).collect(),
        nodes: (0..NODES).map(node).collect(),
        configuration: Arc::new(configuration),
        ..Snapshot::default()
    }
}
