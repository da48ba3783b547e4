//! What the election is told, what it asks for, and what it tells: words that its parts, its driver and the agent share.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use super::{
    choose::Failback,
    lease::{Holder, Record, Version},
};
use crate::{
    policy::{Demand, Links},
    vocabulary::{BootNs, Mac, Vip},
};

/// Who we are, fixed for the life of the process.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Node, boot and machine: the holder we write.
    pub holder: Holder,
    /// Makes nonces unique to this process.
    pub seed: u64,
    /// Version of the agent, published in the session.
    pub agent: String,
}

/// Choices of the operator.
#[derive(Clone, Copy, Debug, Default)]
pub struct Settings {
    /// When an owned VIP goes back to a better node.
    pub failback: Failback,
    /// `--fencing=strict`: we are not fenced before our lease is over, and an absent claim is waited for, whatever probes show.
    pub strict: bool,
    /// What becomes of what we hold while the API server is away; [`OnApiLoss::Fence`] wherever `strict` is.
    pub on_api_loss: OnApiLoss,
}

/// What the kernel holds when the agent starts (from the live generation), or holds now.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Target {
    /// UID and epoch that entries answer under; `None`: no session, the kernel is silent.
    pub session: Option<(String, u64)>,
    /// The kernel answers before this boot time only.
    pub deadline: BootNs,
    /// VIPs with an owned entry under that epoch.
    pub held: BTreeSet<Vip>,
}

/// An observation.
#[derive(Debug)]
pub enum Input {
    /// Time has passed.
    Tick,
    /// The policy's result changed.
    Demand(Arc<Demand>),
    /// The announcing links with carrier.
    Links(Links),
    /// A link carries again: we may have been fenced while it did not.
    LinkUp,
    /// Another host claims these on the wire, which we hold: we may have been fenced unheard.
    Contested(BTreeSet<Vip>),
    /// All peers that do not answer on the wire.
    Silent(SilentPeers),
    /// A complete list of our Leases, by a quorum read, at this version.
    Listed(Version, Vec<Record>),
    /// The same after the connection broke, while the watch goes on where it stood: whether it is of the same history.
    Compared(Version, Vec<Record>),
    /// A Lease was added or modified (watch).
    Changed(Record),
    /// A Lease was deleted (watch).
    Deleted(Record),
    /// The watch broke; a list will follow.
    WatchBroke,
    /// The watch's connection broke. It goes on where it stood, and whether the history is the same is not known before
    /// [`Self::Compared`] or [`Self::Listed`].
    Unchecked,
    /// Boot time stood still while others counted on (a hypervisor's pause): what we hold may be over.
    ClockJumped,
    /// A request ended.
    Answered(Token, Answer),
    /// Probes of a VIP ended.
    Probed(Vip, Probed),
    /// Probes of everything we hold ended; `None`: the wire could not be asked.
    Challenged(Option<Challenged>),
    /// The API server refused to list or to watch: it is there.
    Spoke,
    /// It did not answer a list or a watch.
    Unanswered,
    /// The agent ends. `true`: its node is going away, hand everything over; `false`: it will be started again.
    Shutdown(bool),
}

/// What RFC 5227 probes showed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Probed {
    /// Nobody answered.
    Unused,
    /// Another host answered from this address.
    InUse(Mac),
    /// The wire could not be asked: silence proves nothing.
    Failed,
}

/// Names a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Ord, PartialOrd)]
pub struct Token(pub u64);

/// A request to the API server. At most one is outstanding per Lease.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Request {
    /// Quorum read of a Lease by name.
    Get(String),
    /// Quorum read of all sessions.
    Survey,
    /// Create, if the record's version is 0, else replace exactly that version.
    Put(Record),
    /// Delete exactly this version.
    Delete(Record),
    /// RFC 5227 probes of a VIP on every link where we would announce it (not an API request).
    Probe(Vip),
    /// The same of every VIP that the kernel owns, wherever it does.
    Challenge,
    /// The watch begins anew with a list: what has been seen is of a history that is lost. It has no answer of its own.
    Relist,
}

/// How a request ended.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "one at a time, on its way from the driver to the machine")]
pub enum Answer {
    /// The object as the server has it now (after a delete: as it was).
    Done(Record),
    /// All sessions.
    Surveyed(Vec<Record>),
    /// 404.
    NotFound,
    /// 409: another version is there.
    Conflict,
    /// The server's definite no: nothing was written.
    Refused,
    /// No answer in time, or a broken one: it may have been written, and may still be.
    Lost,
}

/// Why a VIP came to this node.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Why {
    /// Nobody owned it.
    Free,
    /// Its owner was fenced.
    Failover(String),
    /// Its owner released it for us.
    HandedOver(String),
    /// Its claim named us already, and our kernel had no entry.
    Own,
    /// Its owner does not answer, and the API server is away: until claims settle it.
    Provisional(String),
}

/// Why a session was fenced.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Grounds {
    /// It was silent for so long, its whole lease.
    Lease(Duration),
    /// Its kernel did not answer on the wire.
    Wire {
        /// On this link.
        link: String,
        /// As so many nodes agree, all that are there.
        agreed: usize,
    },
}

/// Something an operator wants to read, at most one per change.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Change {
    /// Our session is live.
    SessionLive {
        /// Under this epoch.
        epoch: u64,
        /// With so many VIPs kept from before a restart, without interruption.
        adopted: usize,
    },
    /// We were fenced: silent until a new epoch is confirmed.
    Fenced {
        /// The epoch that ended.
        epoch: u64,
        /// How many VIPs we held.
        held: usize,
    },
    /// The store behind the API server went backwards; silent for this long.
    Restored(Duration),
    /// Our name is held by another boot or machine; waiting this long for it to be silent.
    NameTaken(Holder, Duration),
    /// We fenced a silent session.
    FencedPeer {
        /// Whose.
        node: String,
        /// At this new epoch.
        epoch: u64,
        /// How many claims that voided.
        claims: usize,
        /// Why.
        grounds: Grounds,
    },
    /// A peer does not answer us on the wire.
    Suspected {
        /// Which node.
        node: String,
        /// On this link.
        link: String,
    },
    /// It answers again, or our suspicion came to nothing.
    Cleared {
        /// Which node.
        node: String,
        /// On this link.
        link: String,
    },
    /// We own a VIP.
    Gained {
        /// Which.
        vip: Vip,
        /// Under this epoch.
        epoch: u64,
        /// Why.
        why: Why,
    },
    /// We gave a VIP up.
    Lost {
        /// Which.
        vip: Vip,
        /// Under this epoch.
        epoch: u64,
        /// In an operator's words.
        why: &'static str,
        /// Who is to take it.
        to: Option<String>,
    },
    /// Probes were answered: another host uses the VIP.
    InUse(Vip, Mac),
    /// The API server is away: our lease is over, and we go on answering for so many VIPs.
    Holding {
        /// How many.
        held: usize,
    },
    /// The API server is back, and our session was renewed.
    HeldOn,
}

/// What an owner does when its lease can't be renewed because the API server is away (`--on-api-loss`).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, clap::ValueEnum)]
pub enum OnApiLoss {
    /// Falls silent at the deadline: nobody answers, and nobody ever answers twice.
    Fence,
    /// Goes on answering, as long as probes show that nobody else does.
    #[default]
    Hold,
    /// The same, and takes over from an owner that dies meanwhile, if it hears others, but not the owner, and nobody answers.
    Takeover,
}

impl OnApiLoss {
    /// As sessions publish it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Fence => "fence",
            Self::Hold => "hold",
            Self::Takeover => "takeover",
        }
    }
}

/// Who else answered for a VIP that we hold.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Rival {
    /// A host whose MAC is lower than ours.
    Lower,
    /// A host whose MAC is higher.
    Higher,
}

/// What a round of probes of everything we hold showed.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Challenged {
    /// The VIPs that were asked for, each on every link where it is owned and that has carrier.
    pub asked: BTreeSet<Vip>,
    /// Those that another host answered for.
    pub answered: BTreeMap<Vip, Rival>,
}

/// Who shows that a node is not itself cut off.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Ord, PartialOrd)]
pub enum Witness {
    /// Another node answers it.
    Peer,
    /// The gateway does.
    Gateway,
}

/// Nodes that do not answer, each on which of our links, and who does.
pub type SilentPeers = BTreeMap<(String, String), Witness>;

/// A peer to be asked on one of our links.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Watched {
    /// Some of what it owns there, what it has been asked for before first.
    pub vips: Vec<Vip>,
    /// Others suspect it.
    pub doubted: bool,
}
