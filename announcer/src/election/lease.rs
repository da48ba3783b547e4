//! The two Leases, `session-<node>` and `vip-<address>`: their names, fields and annotations, read leniently and
//! written in one form. The value syntax is the table in `docs/protocol.md`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::{IpAddr, Ipv6Addr},
    time::Duration,
};

use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use sha2::{Digest, Sha256};

use super::times::D_MAX;
use crate::{
    policy::{LeftOut, Links},
    vocabulary::Vip,
};

/// The protocol this build speaks. A Lease with another number is read, never written.
pub const PROTOCOL: &str = "1";
/// Label that tells sessions from claims.
pub const KIND_LABEL: &str = "announcer.io/kind";

const ANNOTATION: &str = "announcer.io/";
/// No session has this epoch or a greater one: `leaseTransitions` has 32 bits, and room for one more fence must be left.
pub(super) const EPOCH_END: u64 = i32::MAX as u64 - 1;
const LONGEST_NODE_NAME: usize = 245;

/// A version of a Lease as the API server ordered it. Kubernetes promises that these numbers compare.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Ord, PartialOrd)]
pub struct Version(pub u64);

/// Who holds a session: `<node>/<boot id>/<machine id>`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Holder {
    /// `metadata.name` of the Node.
    pub node: String,
    /// `/proc/sys/kernel/random/boot_id`: another boot is another holder.
    pub boot_id: String,
    /// The machine: a copy of a disk or VM with the same node name is another holder.
    pub machine_id: String,
}

/// "This node is alive."
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Session {
    /// Lease name, `session-<node>`.
    pub name: String,
    /// `metadata.uid`; empty in a session that is yet to be created.
    pub uid: String,
    /// `metadata.resourceVersion`.
    pub version: Version,
    /// `None` when fenced.
    pub holder: Option<Holder>,
    /// `leaseTransitions`: grows within one UID whenever all claims bound to it become void.
    pub epoch: u64,
    /// `leaseDurationSeconds`.
    pub lease: Duration,
    /// A number never used before: tells which attempt committed.
    pub renewal: String,
    /// The announcing links with carrier.
    pub links: Links,
    /// The epoch that its own holder has ended: its kernel was silent before this was written.
    pub left: Option<u64>,
    /// Version of the agent.
    pub agent: String,
    /// How the node acts when it loses the API server.
    pub on_api_loss: String,
    /// How the node may be fenced.
    pub fencing: String,
    /// Peers that do not answer it on the wire.
    pub suspects: BTreeSet<Suspicion>,
    /// The last epoch that was ended before its lease was over: whoever takes what was bound to it asks the wire first.
    pub early: Option<u64>,
    /// Addresses for which it is the last choice, for its endpoints come and go (`policy::Damping`): for people, and not all.
    pub unsteady: BTreeSet<Vip>,
    /// Whether [`PROTOCOL`] matches.
    pub understood: bool,
}

/// A node under the session and epoch by which it holds something; void as soon as that epoch is over.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Bound {
    /// `metadata.name` of the Node.
    pub node: String,
    /// UID of its session.
    pub session_uid: String,
    /// Epoch of that session.
    pub session_epoch: u64,
}

/// "This peer does not answer me on this link."
#[derive(Clone, Debug, Eq, PartialEq, Ord, PartialOrd)]
pub struct Suspicion {
    /// UID of the peer's session.
    pub uid: String,
    /// The epoch of that session.
    pub epoch: u64,
    /// The link, by name.
    pub link: String,
    /// How often this was written, from 1 on.
    pub round: u32,
}

/// "This node owns this VIP."
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Claim {
    /// The address.
    pub vip: Vip,
    /// `metadata.uid`; empty in a claim that is yet to be created.
    pub uid: String,
    /// `metadata.resourceVersion`.
    pub version: Version,
    /// Node that owns it; `None` when released.
    pub holder: Option<String>,
    /// UID of the session it is bound to.
    pub session_uid: String,
    /// Epoch of that session.
    pub session_epoch: u64,
    /// Who is to own it next: the successor that a release named, or whom its owner would have as its heir.
    pub preferred: Option<String>,
    /// Who has accepted: the claim is its own as soon as the holder's is over, without another write.
    pub heir: Option<Bound>,
    /// When its owner took it, by that one's wall clock, for people; `None`: by this write.
    pub acquired: Option<jiff::Timestamp>,
    /// Nonce of the write, so that no write leaves the object as it was.
    pub write: String,
    /// How often it moved.
    pub transitions: u64,
    /// Whether [`PROTOCOL`] matches or is absent (claims written by hand).
    pub understood: bool,
}

/// A Lease in our namespace that is ours.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Record {
    /// `session-…`
    Session(Session),
    /// `vip-…`
    Claim(Claim),
}

/// The name of a node's session Lease: a node name above 245 characters ends in a hash.
pub fn session_name(node: &str) -> String {
    if node.len() <= LONGEST_NODE_NAME {
        return format!("session-{node}");
    }
    let hash: String = Sha256::digest(node).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let kept: String = node.chars().take(LONGEST_NODE_NAME - hash.len() - 1).collect();
    format!("session-{}-{hash}", kept.trim_end_matches(['.', '-']))
}

/// The name of a VIP's claim Lease: one canonical spelling that is a legal object name.
pub fn claim_name(vip: Vip) -> String {
    match vip.ip() {
        IpAddr::V4(v4) => format!("vip-{v4}"),
        IpAddr::V6(v6) => {
            let words: Vec<String> = v6.segments().iter().map(|word| format!("{word:04x}")).collect();
            format!("vip-{}", words.join("-"))
        }
    }
}

/// The VIP of a claim's name; `None` for any other spelling, so that one address has one claim.
pub fn vip_of(name: &str) -> Option<Vip> {
    let text = name.strip_prefix("vip-")?;
    let vip = match text.parse::<std::net::Ipv4Addr>() {
        Ok(v4) => Vip::from(v4),
        Err(_) => Vip::from(text.replace('-', ":").parse::<Ipv6Addr>().ok()?),
    };
    (claim_name(vip) == name).then_some(vip)
}

impl Claim {
    /// Who owns it as long as that one's epoch lasts, and who then does.
    pub fn bindings(&self) -> impl Iterator<Item = (&str, &str, u64)> {
        let holder = self.holder.as_deref().map(|node| (node, self.session_uid.as_str(), self.session_epoch));
        holder.into_iter().chain(self.heir.as_ref().map(Bound::binding))
    }
}

impl Session {
    /// Whether what was bound to this epoch was ended before its lease was over. A hand may have written greater epochs into
    /// claims than the session ever had.
    pub fn ended_early(&self, epoch: u64) -> bool {
        self.early.is_some_and(|early| early <= epoch) && epoch < self.epoch
    }

    /// The node that it is of; of a name that was cut only its holder tells.
    pub fn node(&self) -> &str {
        let named = || self.name.strip_prefix("session-").unwrap_or_default();
        self.holder.as_ref().map_or_else(named, |holder| &holder.node)
    }

    /// Whether its node goes on answering while the API server is away; what it does not say is not known.
    pub fn holds_on(&self) -> bool {
        self.on_api_loss != "fence" && self.fencing != "strict"
    }
}

impl Bound {
    /// Node, UID and epoch of the session.
    pub fn binding(&self) -> (&str, &str, u64) {
        (&self.node, &self.session_uid, self.session_epoch)
    }

    /// `<node>/<session UID>/<epoch>`. What names no node is nobody; what else a hand has spoilt is bound to no session, and void after D_MAX.
    fn parse(text: &str) -> Option<Self> {
        let (node, rest) = text.split_once('/').unwrap_or((text, ""));
        let (uid, epoch) = rest.split_once('/').unwrap_or_default();
        let epoch: Option<u64> = epoch.parse().ok().filter(|epoch| *epoch < EPOCH_END);
        let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
        (!node.is_empty() && node.len() <= 253 && node.chars().all(legal)).then(|| Self {
            node: node.to_owned(),
            session_uid: epoch.map(|_| uid.to_owned()).unwrap_or_default(),
            session_epoch: epoch.unwrap_or_default(),
        })
    }
}

impl Suspicion {
    /// `<session UID>/<epoch>/<link>/<round>`. What a hand has spoilt suspects nobody.
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('/');
        let mut next = || parts.next().filter(|part| !part.is_empty());
        let (uid, epoch, link, round) = (next()?, next()?, next()?, next()?);
        let (epoch, round) = (epoch.parse().ok()?, round.parse().ok()?);
        Some(Self { uid: uid.to_owned(), epoch, link: link.to_owned(), round })
    }
}

impl fmt::Display for Suspicion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}/{}", self.uid, self.epoch, self.link, self.round)
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.node, self.session_uid, self.session_epoch)
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.node, self.boot_id, self.machine_id)
    }
}

impl Holder {
    fn parse(text: &str) -> Self {
        let mut parts = text.splitn(3, '/').map(str::to_owned);
        let mut next = || parts.next().unwrap_or_default();
        Self { node: next(), boot_id: next(), machine_id: next() }
    }
}

// === reading ===

impl Record {
    /// Reads a Lease. `None`: not one of ours. Fields that somebody spoilt by hand read as what is safest: no
    /// duration, or one above it, as the longest, no epoch as 0 (never greater than a claim's).
    pub fn read(lease: &Lease) -> Option<Self> {
        let meta = &lease.metadata;
        let name = meta.name.as_deref()?;
        let spec = lease.spec.clone().unwrap_or_default();
        let version =
            Version(meta.resource_version.as_deref().and_then(|v| v.parse().ok()).unwrap_or_default());
        let annotation = |key: &str| {
            meta.annotations
                .as_ref()
                .and_then(|all| all.get(&format!("{ANNOTATION}{key}")).cloned())
                .unwrap_or_default()
        };
        let names =
            |key: &str| annotation(key).split(',').filter(|l| !l.is_empty()).map(str::to_owned).collect();
        let understood = matches!(annotation("protocol").as_str(), PROTOCOL | "");
        let holder = spec.holder_identity.filter(|holder| !holder.is_empty());
        let transitions = spec.lease_transitions.and_then(|n| u64::try_from(n).ok()).unwrap_or_default();
        if name.starts_with("session-") {
            return Some(Self::Session(Session {
                name: name.to_owned(),
                uid: meta.uid.clone().unwrap_or_default(),
                version,
                holder: holder.as_deref().map(Holder::parse),
                epoch: transitions,
                lease: spec
                    .lease_duration_seconds
                    .and_then(|seconds| u64::try_from(seconds).ok())
                    .filter(|seconds| *seconds > 0)
                    .map_or(D_MAX, |seconds| Duration::from_secs(seconds).min(D_MAX)),
                renewal: annotation("renewal"),
                links: Links {
                    up: names("links"),
                    only_named: names("links-only-named"),
                    left_out: annotation("links-left-out").split(',').filter_map(left_out).collect(),
                    own: annotation("addresses").split(',').filter_map(own).take(Links::OWN_MOST).collect(),
                },
                left: annotation("left").parse().ok(),
                agent: annotation("version"),
                on_api_loss: annotation("on-api-loss"),
                fencing: annotation("fencing"),
                suspects: annotation("suspects").split(',').filter_map(Suspicion::parse).collect(),
                early: annotation("early").parse().ok(),
                unsteady: annotation("unsteady").split(',').filter_map(|ip| ip.parse().ok()).collect(),
                understood,
            }));
        }
        // An epoch that no session can have was spoilt by hand: bound to no session, the claim is void after D_MAX.
        let session_epoch: Option<u64> =
            annotation("session-epoch").parse().ok().filter(|epoch| *epoch < EPOCH_END);
        Some(Self::Claim(Claim {
            vip: vip_of(name)?,
            uid: meta.uid.clone().unwrap_or_default(),
            version,
            holder,
            session_uid: session_epoch.map(|_| annotation("session-uid")).unwrap_or_default(),
            session_epoch: session_epoch.unwrap_or_default(),
            preferred: Some(annotation("preferred")).filter(|node| !node.is_empty()),
            heir: Bound::parse(&annotation("heir")),
            acquired: spec.acquire_time.map(|at| at.0),
            write: annotation("write"),
            transitions,
            understood,
        }))
    }

    /// Lease name.
    pub fn name(&self) -> String {
        match self {
            Self::Session(session) => session.name.clone(),
            Self::Claim(claim) => claim_name(claim.vip),
        }
    }

    /// `metadata.resourceVersion`.
    pub fn version(&self) -> Version {
        match self {
            Self::Session(session) => session.version,
            Self::Claim(claim) => claim.version,
        }
    }

    /// The same at another version.
    #[cfg(not(simulation))]
    pub(super) fn at(mut self, version: Version) -> Self {
        match &mut self {
            Self::Session(session) => session.version = version,
            Self::Claim(claim) => claim.version = version,
        }
        self
    }

    /// `metadata.uid`; empty before the first write.
    pub fn uid(&self) -> &str {
        match self {
            Self::Session(session) => &session.uid,
            Self::Claim(claim) => &claim.uid,
        }
    }

    // === writing ===

    /// The Lease to send. A version of 0 is left out (create); any other makes the write a compare-and-swap, but
    /// only together with the UID: Leases allow create on update, and a PUT that names no UID *creates* one that
    /// was deleted meanwhile, whatever its resourceVersion (`AllowCreateOnUpdate` in Kubernetes' lease strategy).
    /// `now` is for people (`renewTime`, `acquireTime`); nothing ever compares it.
    pub fn to_lease(&self, now: jiff::Timestamp) -> Lease {
        fn join<T: ToString>(some: impl IntoIterator<Item = T>) -> String {
            some.into_iter().map(|one| one.to_string()).collect::<Vec<_>>().join(",")
        }
        let (kind, holder, transitions, duration, acquired, annotations) = match self {
            Self::Session(s) => (
                "session",
                s.holder.as_ref().map(ToString::to_string),
                s.epoch,
                Some(s.lease),
                None,
                vec![
                    ("renewal", s.renewal.clone()),
                    ("links", join(&s.links.up)),
                    ("links-only-named", join(&s.links.only_named)),
                    (
                        "links-left-out",
                        join(s.links.left_out.iter().map(|(link, why)| format!("{link}={why}"))),
                    ),
                    ("addresses", join(&s.links.own)),
                    ("left", s.left.map(|epoch| epoch.to_string()).unwrap_or_default()),
                    ("version", s.agent.clone()),
                    ("on-api-loss", s.on_api_loss.clone()),
                    ("fencing", s.fencing.clone()),
                    ("suspects", join(&s.suspects)),
                    ("early", s.early.map(|epoch| epoch.to_string()).unwrap_or_default()),
                    ("unsteady", join(&s.unsteady)),
                ],
            ),
            Self::Claim(c) => (
                "claim",
                c.holder.clone(),
                c.transitions,
                None,
                Some(c.acquired.unwrap_or(now)),
                vec![
                    ("session-uid", c.session_uid.clone()),
                    ("session-epoch", c.session_epoch.to_string()),
                    ("preferred", c.preferred.clone().unwrap_or_default()),
                    ("heir", c.heir.as_ref().map(ToString::to_string).unwrap_or_default()),
                    ("write", c.write.clone()),
                ],
            ),
        };
        let annotations: BTreeMap<String, String> = annotations
            .into_iter()
            .chain([("protocol", PROTOCOL.to_owned())])
            .filter(|(_, value)| !value.is_empty())
            .map(|(key, value)| (format!("{ANNOTATION}{key}"), value))
            .collect();
        let version = self.version();
        Lease {
            metadata: ObjectMeta {
                name: Some(self.name()),
                uid: Some(self.uid().to_owned()).filter(|uid| version.0 > 0 && !uid.is_empty()),
                resource_version: (version.0 > 0).then(|| version.0.to_string()),
                labels: Some(BTreeMap::from([(KIND_LABEL.to_owned(), kind.to_owned())])),
                annotations: Some(annotations),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(holder.unwrap_or_default()),
                lease_transitions: Some(i32::try_from(transitions).unwrap_or(i32::MAX)),
                lease_duration_seconds: duration.map(|d| i32::try_from(d.as_secs()).unwrap_or(i32::MAX)),
                renew_time: Some(MicroTime(now)),
                acquire_time: acquired.map(MicroTime),
                ..LeaseSpec::default()
            }),
        }
    }
}

/// In its one spelling: what others copy into a fence is then what they have read.
fn own(text: &str) -> Option<Vip> {
    text.parse::<Vip>().ok().filter(|vip| vip.to_string() == text)
}

/// Of `link=reason`.
fn left_out(text: &str) -> Option<(String, LeftOut)> {
    let (link, why) = text.rsplit_once('=')?;
    Some((link.to_owned(), LeftOut::parse(why)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_has_one_claim_name_however_it_is_spelt() {
        for (spelt, name) in [
            ("10.4.11.1", "vip-10.4.11.1"),
            ("::ffff:10.4.11.1", "vip-10.4.11.1"),
            ("FD00:4:B::1", "vip-fd00-0004-000b-0000-0000-0000-0000-0001"),
            ("fd00:4:b:0:0:0:0:1", "vip-fd00-0004-000b-0000-0000-0000-0000-0001"),
        ] {
            let vip: Vip = spelt.parse().expect("an address");
            assert_eq!((claim_name(vip).as_str(), vip_of(name)), (name, Some(vip)));
        }
    }

    #[test]
    fn a_second_spelling_of_an_address_is_no_claim() {
        assert_eq!(vip_of("vip-fd00-4-b--1"), None);
        assert_eq!(vip_of("vip-0000-0000-0000-0000-0000-ffff-0a04-0b01"), None);
    }

    #[test]
    fn a_node_name_too_long_for_an_object_name_ends_in_a_hash() {
        let (one, two) = ("n".repeat(250), "n".repeat(251));
        assert!(session_name(&one).len() <= 253);
        assert_ne!(session_name(&one), session_name(&two));
    }

    #[test]
    fn a_session_reads_back_as_it_was_written() {
        let session = Session {
            name: "session-bettley".into(),
            uid: "u".into(),
            version: Version(7),
            holder: Some(Holder { node: "bettley".into(), boot_id: "b".into(), machine_id: "m".into() }),
            epoch: 3,
            lease: Duration::from_secs(15),
            renewal: "r1".into(),
            links: Links {
                up: BTreeSet::from(["eth0".into(), "eth1".into()]),
                only_named: BTreeSet::from(["eth1".into()]),
                left_out: [
                    ("br-1".to_owned(), LeftOut::Bridge),
                    ("eth2".to_owned(), LeftOut::SameSegment("eth0".into())),
                ]
                .into(),
                own: BTreeSet::from(["10.4.11.77".parse().expect("an address")]),
            },
            left: Some(2),
            agent: "0.1.0".into(),
            on_api_loss: "fence".into(),
            fencing: "strict".into(),
            suspects: BTreeSet::from([Suspicion {
                uid: "v".into(),
                epoch: 4,
                link: "eth0".into(),
                round: 2,
            }]),
            early: Some(1),
            unsteady: BTreeSet::from(["10.4.11.1".parse().expect("an address")]),
            understood: true,
        };
        let record = Record::Session(session);
        assert_eq!(Record::read(&record.to_lease(jiff::Timestamp::UNIX_EPOCH)), Some(record));
    }

    #[test]
    fn a_claim_reads_back_as_it_was_written() {
        let record = Record::Claim(Claim {
            vip: "fd00:4:b::1".parse().expect("an address"),
            uid: "c".into(),
            version: Version(9),
            holder: None,
            session_uid: "u".into(),
            session_epoch: 4,
            preferred: Some("dalt".into()),
            heir: Some(Bound { node: "dalt".into(), session_uid: "v".into(), session_epoch: 2 }),
            acquired: Some(jiff::Timestamp::UNIX_EPOCH),
            write: "w".into(),
            transitions: 2,
            understood: true,
        });
        assert_eq!(Record::read(&record.to_lease(jiff::Timestamp::UNIX_EPOCH)), Some(record));
    }

    #[test]
    fn a_session_keeps_no_more_addresses_from_being_claimed_than_it_may() {
        let mut lease = Lease::default();
        lease.metadata.name = Some("session-x".into());
        let many: Vec<String> = (0..200).map(|n| format!("10.4.11.{n}")).collect();
        lease.metadata.annotations =
            Some(BTreeMap::from([("announcer.io/addresses".to_owned(), many.join(","))]));
        let Some(Record::Session(session)) = Record::read(&lease) else { panic!("a session") };
        assert_eq!(session.links.own.len(), Links::OWN_MOST);
    }

    #[test]
    fn a_session_without_a_duration_is_waited_for_as_long_as_any_may_be() {
        let mut lease = Lease::default();
        lease.metadata.name = Some("session-x".into());
        let Some(Record::Session(session)) = Record::read(&lease) else { panic!("a session") };
        assert_eq!(session.lease, D_MAX);
    }
}
