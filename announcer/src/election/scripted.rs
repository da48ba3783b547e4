//! A small cluster that a test plays by hand: time, the store, who is cut off, and each request are in its hands.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    Answer, Challenged, Failback, Identity, Input, Machine, OnApiLoss, Probed, Request, Rival, Settings,
    Target, Token,
    lease::{Claim, Holder, Record, Session, Version, claim_name},
    simulation::{kernel::Kernel, store::Event, store::Store},
};
use crate::{
    policy::{Candidate, Demand, Interfaces, Tier, VipDemand},
    vocabulary::{BootNs, Mac, Vip},
};

/// Times of tests in milliseconds.
pub fn at(ms: u64) -> BootNs {
    BootNs((1_000_000 + ms) * 1_000_000)
}

pub fn vip() -> Vip {
    Vip::from(std::net::Ipv4Addr::new(10, 0, 0, 1))
}

pub fn holder(node: &str, boot: &str) -> Holder {
    Holder { node: node.to_owned(), boot_id: boot.to_owned(), machine_id: "m".to_owned() }
}

/// One VIP that any of these nodes may have, the first one rather than the others.
pub fn demand(nodes: &[&str], cordoned: &[&str], others: usize) -> Demand {
    let candidate = |(n, node): (usize, &&str)| {
        let tier = if cordoned.contains(node) { Tier::Cordoned } else { Tier::Ready };
        let weight = u32::from(n == 0) * 10;
        ((*node).to_owned(), Candidate { weight, tier, interfaces: Interfaces::All })
    };
    let candidates = nodes.iter().enumerate().map(candidate).collect();
    let names = nodes.iter().map(|node| (*node).to_owned());
    Demand {
        vips: BTreeMap::from([(
            vip(),
            VipDemand { candidates: Arc::new(candidates), ..VipDemand::default() },
        )]),
        nodes: names.chain((0..others).map(|n| format!("other-{n}"))).collect(),
        ..Demand::default()
    }
}

pub struct Node {
    pub machine: Machine,
    pub kernel: Kernel,
    pub out: Vec<(Token, Request)>,
    pub cut: bool,
    /// Its requests are kept for the test, and its watch is silent.
    pub held_back: bool,
    /// The wire between it and the others is broken.
    pub off_wire: bool,
    /// It can't ask the wire anything.
    pub dark: bool,
    /// How far its watch has come.
    pub cursor: usize,
}

impl Node {
    pub fn step(&mut self, now: BootNs, input: Input) {
        let requests = self.machine.step(now, input);
        for write in self.kernel.plan(self.machine.target()) {
            self.kernel.write(write);
        }
        self.out.extend(requests);
    }
}

pub struct Cluster {
    pub now: u64,
    pub store: Store,
    pub nodes: BTreeMap<&'static str, Node>,
    pub names: Vec<&'static str>,
    pub strict: bool,
    pub on_api_loss: OnApiLoss,
}

impl Cluster {
    /// Nodes that start together and have settled: the first one owns the VIP.
    pub fn settled(names: &[&'static str]) -> Self {
        Self::empty(names, true).settle()
    }

    /// The same, with nodes that hold on while the API server is away.
    pub fn holding(names: &[&'static str]) -> Self {
        Self { on_api_loss: OnApiLoss::Hold, ..Self::empty(names, false) }.settle()
    }

    /// Nodes that take over while it is away.
    pub fn taking_over(names: &[&'static str]) -> Self {
        Self { on_api_loss: OnApiLoss::Takeover, ..Self::empty(names, false) }.settle()
    }

    /// The same, with nodes that may be fenced early, and that fall silent while the API server is away.
    pub fn early(names: &[&'static str]) -> Self {
        Self::empty(names, false).settle()
    }

    fn settle(mut self) -> Self {
        let names = self.names.clone();
        for name in &names {
            self.start(name, "boot1", Target::default());
        }
        self.run(70_000);
        assert_eq!(self.answering(), [names[0]], "settled");
        self
    }

    pub fn empty(names: &[&'static str], strict: bool) -> Self {
        Self {
            now: 0,
            store: Store::default(),
            nodes: BTreeMap::new(),
            names: names.to_vec(),
            strict,
            on_api_loss: OnApiLoss::Fence,
        }
    }

    pub fn start(&mut self, name: &'static str, boot: &str, inherited: Target) {
        self.start_unlisted(name, boot, inherited);
        self.list(name);
    }

    /// Starts an agent that has not been answered yet.
    pub fn start_unlisted(&mut self, name: &'static str, boot: &str, inherited: Target) {
        self.begin(name, boot, inherited);
        let demand = Arc::new(demand(&self.names, &[], 0));
        self.step(name, Input::Demand(demand));
    }

    /// An agent that knows its links and nothing else.
    pub fn begin(&mut self, name: &'static str, boot: &str, inherited: Target) {
        let me = Identity { holder: holder(name, boot), seed: 7 + self.now, agent: String::new() };
        let settings =
            Settings { failback: Failback::Never, strict: self.strict, on_api_loss: self.on_api_loss };
        let mut kernel = Kernel::default();
        for write in kernel.plan(&inherited) {
            kernel.write(write);
        }
        let machine = Machine::new(me, settings, inherited);
        let mut node = Node {
            machine,
            kernel,
            out: Vec::new(),
            cut: false,
            held_back: false,
            off_wire: false,
            dark: false,
            cursor: self.store.log.len(),
        };
        node.step(at(self.now), Input::Links(["eth0".to_owned()].into_iter().collect()));
        self.nodes.insert(name, node);
    }

    /// The agent dies; what it leaves in the kernel is what the next one finds.
    pub fn crash(&mut self, name: &str) -> Target {
        self.nodes.remove(name).expect("a node").kernel.inherited()
    }

    pub fn list(&mut self, name: &str) {
        let listed =
            Input::Listed(Version(self.store.revision), self.store.objects.values().cloned().collect());
        let cursor = self.store.log.len();
        let node = self.node(name);
        node.cursor = cursor;
        self.step(name, listed);
    }

    pub fn node(&mut self, name: &str) -> &mut Node {
        self.nodes.get_mut(name).expect("a node")
    }

    pub fn step(&mut self, name: &str, input: Input) {
        let now = at(self.now);
        self.node(name).step(now, input);
    }

    pub fn target(&self, name: &str) -> &Target {
        self.nodes[name].machine.target()
    }

    /// Who answers for the VIP now.
    pub fn answering(&self) -> Vec<&'static str> {
        let now = at(self.now);
        self.nodes.iter().filter(|(_, node)| node.kernel.answers(vip(), now)).map(|(name, _)| *name).collect()
    }

    /// The node that answers when this one asks for the VIP; the MAC of a node is as great as its name.
    fn heard_by(&self, asker: &str) -> Option<&'static str> {
        let hears = |name: &&'static str| !self.nodes[*name].off_wire && !self.nodes[asker].off_wire;
        self.answering().into_iter().filter(|name| *name != asker).find(hears)
    }

    /// Lets everything happen at once that is due in this span; at every moment at most one node answers.
    pub fn run(&mut self, ms: u64) {
        let end = self.now + ms;
        while self.now < end {
            self.exchange();
            self.now += 50;
            for name in self.nodes.keys().copied().collect::<Vec<_>>() {
                let now = at(self.now);
                let node = self.node(name);
                if node.machine.wake_at().is_some_and(|due| due <= now) {
                    node.step(now, Input::Tick);
                }
            }
            assert!(self.answering().len() < 2, "{:?} answer at {} ms", self.answering(), self.now);
        }
        self.exchange();
    }

    /// Requests, answers and watch events of all nodes that are not cut off, until there are none.
    pub fn exchange(&mut self) {
        for _ in 0..200 {
            let mut idle = true;
            for name in self.nodes.keys().copied().collect::<Vec<_>>() {
                if self.node(name).held_back {
                    continue;
                }
                let cut = self.node(name).cut;
                for (token, request) in std::mem::take(&mut self.node(name).out) {
                    idle = false;
                    if let Request::Probe(vip) = request {
                        let mac = |other: &str| Mac([2, 0, 0, 0, 0, other.as_bytes()[0]]);
                        let heard = || self.heard_by(name);
                        let asked = || heard().map_or(Probed::Unused, |other| Probed::InUse(mac(other)));
                        let probed = if self.nodes[name].dark { Probed::Failed } else { asked() };
                        self.step(name, Input::Probed(vip, probed));
                        continue;
                    }
                    if let Request::Relist = request {
                        self.step(name, Input::WatchBroke);
                        self.list(name);
                        continue;
                    }
                    if let Request::Challenge = request {
                        let rival = |other| if other < name { Rival::Lower } else { Rival::Higher };
                        let answered = self.heard_by(name).map(|other| (vip(), rival(other)));
                        let asked = self.target(name).held.clone();
                        let round = Challenged { asked, answered: answered.into_iter().collect() };
                        let round = Some(round).filter(|_| !self.node(name).dark);
                        self.step(name, Input::Challenged(round));
                        continue;
                    }
                    let answer = if cut { Answer::Lost } else { self.store.perform(self.now, &request) };
                    self.step(name, Input::Answered(token, answer));
                }
                while !cut && self.node(name).cursor < self.store.log.len() {
                    idle = false;
                    let cursor = self.node(name).cursor;
                    self.node(name).cursor += 1;
                    let event = self.store.log[cursor].1.clone();
                    let input = match event {
                        Event::Changed(record) => Input::Changed(record),
                        Event::Deleted(record) => Input::Deleted(record),
                    };
                    self.step(name, input);
                }
            }
            if idle {
                return;
            }
        }
        panic!("requests without end at {} ms", self.now);
    }

    /// The next request that this node wants to send; nobody has performed it yet.
    pub fn next_request(&mut self, name: &str) -> (Token, Request) {
        assert!(!self.node(name).out.is_empty(), "{name} sends nothing");
        self.node(name).out.remove(0)
    }

    pub fn commit(&mut self, request: &Request) -> Answer {
        self.store.perform(self.now, request)
    }

    /// Somebody writes this; what the watch will bring of it.
    pub fn put(&mut self, record: Record) -> Input {
        match self.commit(&Request::Put(record)) {
            Answer::Done(record) => Input::Changed(record),
            other => panic!("not written: {other:?}"),
        }
    }

    /// Somebody fences this node.
    pub fn fence(&mut self, name: &str) -> Input {
        let session = self.session(name);
        let renewal = "by hand".to_owned();
        self.put(Record::Session(Session { holder: None, epoch: session.epoch + 1, renewal, ..session }))
    }

    pub fn answer(&mut self, name: &str, token: Token, answer: Answer) {
        self.step(name, Input::Answered(token, answer));
    }

    pub fn session(&self, node: &str) -> Session {
        match self.store.objects.get(&format!("session-{node}")) {
            Some(Record::Session(session)) => session.clone(),
            other => panic!("no session of {node}: {other:?}"),
        }
    }

    pub fn claim(&self) -> Option<Claim> {
        match self.store.objects.get(&claim_name(vip())) {
            Some(Record::Claim(claim)) => Some(claim.clone()),
            _ => None,
        }
    }

    /// Advances to the moment at which this node sends its next request, and keeps it back.
    pub fn until_it_sends(&mut self, name: &'static str) -> (Token, Request) {
        self.node(name).held_back = true;
        for _ in 0..2_000 {
            if !self.node(name).out.is_empty() {
                return self.next_request(name);
            }
            self.run(50);
        }
        panic!("{name} sends nothing")
    }
}

/// Session of a Put.
pub fn written(request: &Request) -> &Session {
    match request {
        Request::Put(Record::Session(session)) => session,
        other => panic!("not a session: {other:?}"),
    }
}
