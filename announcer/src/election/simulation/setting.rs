//! What kind of world a seed gives: its size, its operator's choices, its weather, and what may happen in it.
//! Each world has only some of the faults, so that rare pairs of them meet often.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    host::{Host, MS, SECOND, Speaks},
    rng::Rng,
};
use crate::{
    election::{Failback, OnApiLoss, Settings},
    policy::{Candidate, Demand, Interfaces, Tier, VipDemand},
    vocabulary::Vip,
};

/// Things that happen to a cluster.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Ord, PartialOrd)]
pub enum Fault {
    Crash,
    Pause,
    /// SIGSTOP or a crash between two map writes, or between the last one and the requests.
    Strike,
    Reboot,
    Die,
    Cut,
    Outage,
    Storm,
    StallWatch,
    LoseWatch,
    DeleteLease,
    Annotate,
    Cordon,
    Exclude,
    Service,
    Link,
    Scale,
    Restart,
    Drain,
    Restore,
    Wipe,
    Edit,
    /// The segment splits, or heals.
    Wire,
    /// Two machines do not hear each other, one way at least, or do again.
    Deaf,
    /// Questions or answers get lost on every wire.
    Noise,
    Rights,
    /// A hypervisor's pause, shorter than the margin.
    Freeze,
}

pub const FAULTS: [Fault; 27] = [
    Fault::Crash,
    Fault::Pause,
    Fault::Strike,
    Fault::Reboot,
    Fault::Die,
    Fault::Cut,
    Fault::Outage,
    Fault::Storm,
    Fault::StallWatch,
    Fault::LoseWatch,
    Fault::DeleteLease,
    Fault::Annotate,
    Fault::Cordon,
    Fault::Exclude,
    Fault::Service,
    Fault::Link,
    Fault::Scale,
    Fault::Restart,
    Fault::Drain,
    Fault::Restore,
    Fault::Wipe,
    Fault::Edit,
    Fault::Wire,
    Fault::Deaf,
    Fault::Noise,
    Fault::Rights,
    Fault::Freeze,
];

/// Faults that no client may notice.
const UNNOTICED: [Fault; 5] =
    [Fault::Crash, Fault::Restart, Fault::Annotate, Fault::LoseWatch, Fault::StallWatch];

/// The network, in chances per thousand.
#[derive(Clone, Copy, Debug, Default)]
pub struct Weather {
    pub loss: u64,
    pub late: u64,
    pub late_by: u64,
    pub lag: u64,
    pub refused: u64,
    pub twice: u64,
    pub strikes_ppm: u64,
    /// Answers of peers that are lost.
    pub misheard: u64,
    pub api_down: bool,
}

/// What the operator says of nodes and Services.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    pub cordoned: BTreeSet<String>,
    pub excluded: BTreeSet<String>,
    pub weights: BTreeMap<String, u32>,
    pub vips: BTreeSet<Vip>,
    pub gone: BTreeSet<Vip>,
    /// VIPs advertised on eth1 only.
    pub named: BTreeSet<Vip>,
    /// Nodes that only count.
    pub others: usize,
}

#[derive(Clone, Debug)]
pub struct Setting {
    pub faults: Vec<Fault>,
    /// Every agent fences strictly.
    pub strict: bool,
    /// How many hold on while the API server is away, per thousand.
    pub hold: u64,
    /// They take over, too.
    pub takeover: bool,
    /// No client may notice anything.
    pub unnoticed: bool,
    pub hosts: u64,
    /// The second machine carries the first one's node name.
    pub twin: bool,
    pub drift: bool,
    /// What the odd machines speak.
    pub versions: Speaks,
    pub policy: Policy,
    pub weather: Weather,
    pub agent_down: u64,
    /// Rounds of faults, recovery and quiet.
    pub rounds: u64,
    pub fault_every: u64,
    pub faults_for: u64,
    pub recovers_in: u64,
    pub quiet_for: u64,
}

impl Setting {
    pub fn draw(rng: &mut Rng, may_be_long: bool) -> Self {
        let unnoticed = rng.per_mille(150);
        let share = rng.range(100, 600);
        let mut faults: Vec<Fault> = if unnoticed { UNNOTICED.to_vec() } else { FAULTS.to_vec() };
        faults.retain(|_| rng.per_mille(share));
        let strict = rng.per_mille(500);
        let hold = if strict { 0 } else { rng.pick(&[0, 500, 1_000, 1_000]).unwrap_or_default() };
        let takeover = hold > 0 && rng.per_mille(400);
        let unnoticed_outage = unnoticed && hold == 1_000;
        if unnoticed_outage {
            faults.retain(|fault| *fault != Fault::Restart);
            faults.push(Fault::Outage);
        }
        let mut policy = Policy::default();
        for n in 1..=rng.range(1, 4) {
            let vip: Vip = Vip::from(std::net::Ipv4Addr::new(10, 0, 0, u8::try_from(n).unwrap_or_default()));
            policy.vips.insert(vip);
            if rng.per_mille(150) {
                policy.named.insert(vip);
            }
        }
        if rng.per_mille(200) {
            policy.weights.insert("a".to_owned(), 10);
        }
        let calm = Weather { late_by: SECOND, lag: SECOND, ..Weather::default() };
        let rough = Weather {
            loss: rng.range(0, 60),
            late: rng.range(0, 80),
            late_by: rng.range(SECOND, 20 * SECOND),
            lag: rng.range(SECOND, 20 * SECOND),
            refused: if rng.per_mille(200) { 20 } else { 0 },
            twice: if rng.per_mille(200) { 30 } else { 0 },
            ..Weather::default()
        };
        let mut weather = if unnoticed || rng.per_mille(300) { calm } else { rough };
        if faults.contains(&Fault::Strike) {
            weather.strikes_ppm = rng.range(500, 20_000);
        }
        let drift = rng.per_mille(500);
        // A pause and a clock at the worst rate together are more than the margin is for.
        faults.retain(|fault| *fault != Fault::Freeze || !drift);
        let mut versions = vec![Speaks::This; 8];
        versions.extend([Speaks::Earlier, Speaks::Another]);
        // One world in eight is followed for days, most of their hours steady.
        let long = rng.per_mille(125) && may_be_long;
        if long && rng.per_mille(700) {
            policy.others = 1_200;
        }
        let waits_longest =
            |f: &Fault| matches!(f, Fault::Restore | Fault::Wipe | Fault::Scale | Fault::Edit);
        // Single hosts are strict, too, unless all hold on.
        let waits_longest = hold < 1_000 || policy.others > 0 || faults.iter().any(waits_longest);
        Self {
            strict,
            hold,
            takeover,
            unnoticed,
            hosts: rng.range(2, 5),
            twin: !unnoticed && rng.per_mille(120),
            drift,
            versions: if unnoticed { Speaks::This } else { rng.pick(&versions).unwrap_or_default() },
            policy,
            weather,
            agent_down: if unnoticed_outage {
                2 * SECOND
            } else if unnoticed {
                4 * SECOND
            } else {
                rng.range(SECOND, 40 * SECOND)
            },
            rounds: if long { rng.range(2, 5) } else { 1 },
            fault_every: if long && rng.per_mille(500) { 400 } else { 20 } * SECOND,
            faults_for: rng.range(if unnoticed { 200 } else { 100 }, if long { 4_000 } else { 400 }) * SECOND,
            recovers_in: if waits_longest { 200 } else { 100 } * SECOND,
            quiet_for: if long { rng.range(600, 86_400) } else { 150 } * SECOND,
            faults,
        }
    }

    pub fn hosts(&self, rng: &mut Rng) -> Vec<Host> {
        (0..self.hosts)
            .map(|n| {
                let name = char::from(b'a' + u8::try_from(n).unwrap_or_default()).to_string();
                let node = if self.twin && n == 1 { "a" } else { &name };
                let drift = if self.drift { 45_000 } else { 100 };
                let drift_ppm = i64::try_from(rng.below(2 * drift)).unwrap_or_default()
                    - i64::try_from(drift).unwrap_or_default();
                let failback = [Failback::Preferred, Failback::Always, Failback::Never];
                let strict = self.strict || self.hold < 1_000 && rng.per_mille(300);
                let settings = Settings {
                    failback: rng.pick(&failback).unwrap_or_default(),
                    strict,
                    on_api_loss: match rng.per_mille(self.hold) {
                        true if self.takeover => OnApiLoss::Takeover,
                        true => OnApiLoss::Hold,
                        false => OnApiLoss::Fence,
                    },
                };
                let speaks = if n % 2 == 1 { self.versions } else { Speaks::This };
                let mut host = Host::new(node, &format!("m{name}"), settings, drift_ppm);
                host.speaks = speaks;
                host
            })
            .collect()
    }
}

impl Policy {
    pub fn demand(&self, hosts: &[Host]) -> Demand {
        let names: BTreeSet<&String> = hosts.iter().map(|host| &host.node).collect();
        let others = (0..self.others).map(|n| format!("other-{n}"));
        let candidates = |vip: &Vip| {
            names
                .iter()
                .filter(|name| !self.excluded.contains(**name))
                .map(|name| {
                    let tier = if self.cordoned.contains(*name) { Tier::Cordoned } else { Tier::Ready };
                    let interfaces = if self.named.contains(vip) {
                        Interfaces::Named(BTreeSet::from(["eth1".to_owned()]))
                    } else {
                        Interfaces::All
                    };
                    let weight = self.weights.get(*name).copied().unwrap_or_default();
                    ((*name).clone(), Candidate { weight, tier, interfaces })
                })
                .collect()
        };
        // Two tenants take turns.
        let tenant = |vip: &Vip| {
            let odd = matches!(vip.ip(), std::net::IpAddr::V4(v4) if v4.octets()[3] % 2 == 1);
            if odd { "odd/service" } else { "even/service" }.to_owned()
        };
        Demand {
            vips: self
                .vips
                .difference(&self.gone)
                .map(|vip| {
                    (
                        *vip,
                        VipDemand {
                            candidates: std::sync::Arc::new(candidates(vip)),
                            services: BTreeSet::from([tenant(vip)]),
                            ..VipDemand::default()
                        },
                    )
                })
                .collect(),
            nodes: names.iter().map(|name| (*name).clone()).chain(others).collect(),
            ..Demand::default()
        }
    }
}

/// A span that is mostly short and sometimes long.
pub fn span(rng: &mut Rng) -> u64 {
    if rng.per_mille(600) { rng.range(100 * MS, 6 * SECOND) } else { rng.range(SECOND, 60 * SECOND) }
}
