//! One machine: its clock, its kernel, its links, and the agent that may run on it.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use super::{kernel::Kernel, kernel::Write, rng::Rng};
use crate::{
    election::{
        Identity, Input, Machine, Request, Settings, SilentPeers, Token,
        lease::{Holder, Record, Version},
    },
    policy::{Demand, Links},
    vocabulary::{BootNs, Vip},
};

pub const MS: u64 = 1_000_000;
pub const SECOND: u64 = 1_000 * MS;

/// What an agent's build makes of Leases.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Speaks {
    #[default]
    This,
    /// This protocol, before modes were published.
    Earlier,
    /// Another protocol: each reads what the other writes, and leaves it alone.
    Another,
}

impl Speaks {
    /// The same Lease as one that speaks like this sends it, or sees it.
    pub fn translate(self, record: &mut Record, sends: bool) {
        match (self, record) {
            (Self::Earlier, Record::Session(session)) if sends => {
                session.on_api_loss.clear();
                session.fencing.clear();
                session.suspects.clear();
            }
            (Self::Another, Record::Session(session)) => session.understood ^= true,
            (Self::Another, Record::Claim(claim)) => claim.understood ^= true,
            (Self::This | Self::Earlier, _) => {}
        }
    }
}

/// A physical machine. Two may carry one node name (a replaced machine, a copy of a disk).
#[derive(Debug)]
pub struct Host {
    pub node: String,
    pub machine_id: String,
    boots: u64,
    pub up: bool,
    booted_at: u64,
    /// How much faster its clock runs than the truth.
    pub drift_ppm: i64,
    pub kernel: Kernel,
    pub links: Links,
    /// No way to the API server.
    pub cut: bool,
    /// Its rights were revoked: a definite no to every request.
    pub refused: bool,
    /// The part of a split wire that it is on.
    pub segment: u64,
    /// Its kernel's deadline is one that no lease earned.
    pub by_hold: bool,
    /// What its kernel answers for in another's place.
    pub provisional: BTreeSet<Vip>,
    /// Since when its hypervisor does not run it: a virtual machine.
    pub frozen: Option<u64>,
    pub settings: Settings,
    pub speaks: Speaks,
    /// Counts agents, so that what belongs to a dead one is told apart.
    pub life: u64,
    /// When the last agent was started.
    pub started_at: u64,
    pub agent: Option<Agent>,
}

#[derive(Debug)]
pub struct Agent {
    pub machine: Machine,
    pub inbox: VecDeque<Input>,
    /// Map writes of the step in progress, and the requests that follow them.
    pub plan: VecDeque<Write>,
    pub to_send: Vec<(Token, Request)>,
    pub busy: bool,
    /// SIGSTOP.
    pub paused: bool,
    pub waiting: BTreeSet<Token>,
    /// Counts wake-ups, so that only the last one set counts.
    pub tick: u64,
    pub watch: Watch,
    /// Questions in a row that peers have not answered; none for those who never did.
    pub ears: BTreeMap<(String, String), (Vec<Vip>, u32)>,
    pub silent: SilentPeers,
    /// A request had no answer, and none since had one.
    pub patient: bool,
    pub going: bool,
}

/// An agent's watch of the store's log.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    /// Counts connections.
    pub connection: u64,
    pub open: bool,
    /// It has a position; else a list is on its way.
    pub listed: bool,
    /// Next entry of the log.
    pub cursor: usize,
    /// The server sends nothing of it that is not newer.
    pub after: Version,
    /// The connection broke, and no list has been compared since.
    pub uncompared: bool,
    /// Events arrive in order: not before this.
    pub not_before: u64,
}

impl Agent {
    /// The step asked for nothing: it is over at once.
    pub fn has_nothing_to_do(&mut self) -> bool {
        let nothing = self.plan.is_empty() && self.to_send.is_empty();
        self.busy &= !nothing;
        nothing
    }
}

impl Host {
    pub fn new(node: &str, machine_id: &str, settings: Settings, drift_ppm: i64) -> Self {
        Self {
            node: node.to_owned(),
            machine_id: machine_id.to_owned(),
            boots: 1,
            up: true,
            booted_at: 0,
            drift_ppm,
            kernel: Kernel::default(),
            links: ["eth0", "eth1"].map(str::to_owned).into_iter().collect(),
            cut: false,
            refused: false,
            segment: 0,
            by_hold: false,
            provisional: BTreeSet::new(),
            frozen: None,
            settings,
            speaks: Speaks::This,
            life: 0,
            started_at: 0,
            agent: None,
        }
    }

    fn scale(&self) -> u128 {
        u128::from(u64::try_from(1_000_000 + self.drift_ppm).unwrap_or(1_000_000))
    }

    /// Its boot time at this moment.
    pub fn boot(&self, now: u64) -> BootNs {
        let ran = u128::from(now - self.booted_at) * self.scale() / 1_000_000;
        BootNs(20 * SECOND + u64::try_from(ran).unwrap_or(u64::MAX))
    }

    /// When its boot time will be `at`.
    pub fn when(&self, at: BootNs) -> u64 {
        let runs = u128::from(at.0.saturating_sub(20 * SECOND)) * 1_000_000 / self.scale();
        self.booted_at + u64::try_from(runs).unwrap_or(u64::MAX) + 2
    }

    pub fn answers(&self, vip: Vip, now: u64) -> bool {
        self.up && self.frozen.is_none() && self.kernel.answers(vip, self.boot(now))
    }

    /// Its clock stood still for so long.
    pub fn stood_still(&mut self, span: u64) {
        self.booted_at += span;
    }

    /// Another boot: nothing pinned is left.
    pub fn boot_again(&mut self, now: u64) {
        self.up = true;
        self.boots += 1;
        self.booted_at = now;
        self.frozen = None;
        self.kernel = Kernel::default();
    }

    pub fn start_agent(&mut self, rng: &mut Rng) {
        self.life += 1;
        let holder = Holder {
            node: self.node.clone(),
            boot_id: format!("{}-boot{}", self.machine_id, self.boots),
            machine_id: self.machine_id.clone(),
        };
        let me = Identity { holder, seed: rng.next(), agent: "test".to_owned() };
        self.agent = Some(Agent {
            machine: Machine::new(me, self.settings, self.kernel.inherited()),
            inbox: VecDeque::new(),
            plan: VecDeque::new(),
            to_send: Vec::new(),
            busy: false,
            paused: false,
            waiting: BTreeSet::new(),
            tick: 0,
            watch: Watch::default(),
            ears: BTreeMap::new(),
            silent: SilentPeers::new(),
            patient: false,
            going: false,
        });
    }

    pub fn kill_agent(&mut self) {
        self.life += 1;
        self.agent = None;
    }

    /// Whether a healthy agent here would announce this VIP, if nobody else did.
    pub fn eligible(&self, vip: Vip, demand: &Arc<Demand>) -> bool {
        let candidate = demand.vips.get(&vip).and_then(|wanted| wanted.candidates.get(&self.node));
        self.up && candidate.is_some_and(|c| self.links.announce(&c.interfaces))
    }
}
