//! Asking the wire whether anybody uses a VIP, without touching anybody's cache: RFC 5227 §2.1, RFC 4862 §5.4.
//!
//! Each address has a verdict of its own. A link, a family or an address that cannot be asked decides no other.

mod failures;

use std::{
    collections::{BTreeMap, BTreeSet},
    future::pending,
    io,
    pin::{Pin, pin},
    time::Duration,
};

use futures::future::select_all;
use tokio::{select, task::yield_now, time};

pub use failures::{Failures, ProbeError};

use super::{
    frames,
    hearing::{Ear, Family, Heard, Interest, Losses, Statistics, Turn},
    sender::{Sender, Transmit, is_queue_full},
};
use crate::vocabulary::{Link, LinkId, Mac, Vip};

/// How to ask.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Plan {
    /// Questions on each link.
    pub count: u32,
    /// From one question to the next.
    pub spacing: Duration,
    /// How long to listen after the last one.
    pub wait: Duration,
}

/// What the wire said of one address.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Probed {
    /// Who uses the VIP, and on which link: the first foreign host that answered, or announced it meanwhile.
    pub answered_by: Option<(LinkId, Mac)>,
    /// Another host that asked the same in the same way: it may be about to take the VIP too. Not an owner; who wins is
    /// for the API to say.
    pub contended_by: Option<Mac>,
}

/// The outcome of [`probe`].
#[derive(Debug)]
pub struct Survey {
    /// For each address what the wire said. An error: it could be asked for on none of its links, so silence proves nothing.
    pub verdicts: BTreeMap<Vip, Result<Probed, ProbeError>>,
    /// What kept addresses from being asked for, also where another of their links could be asked.
    pub failures: Failures,
}

impl Plan {
    /// Three questions in 400 ms, then half a second: an answer on a LAN takes less than a millisecond, unless the
    /// first is lost.
    pub const DEFAULT: Self =
        Self { count: 3, spacing: Duration::from_millis(200), wait: Duration::from_millis(500) };
}

/// Asks for each VIP on each of its links, and returns as soon as somebody has answered for every VIP, at the latest after
/// the plan's time. An answer from one of `own` MACs (all of this node's: `LinkView::macs`) counts for nothing. Needs
/// CAP_NET_RAW. Frames that were lost unread are added to `losses`.
pub async fn probe(
    questions: &BTreeMap<Vip, Vec<Link>>,
    own: &BTreeSet<Mac>,
    plan: Plan,
    losses: &Losses,
) -> Survey {
    let mut lines = Lines::open(questions);
    let each = lines.open_for(questions);
    let mut answers = Answers::new(each.iter().map(|(vip, _)| *vip), own);
    let mut unsent = BTreeMap::new();
    {
        let mut asking = pin!(ask(&each, plan));
        while answers.silent > 0 {
            // Who floods a link keeps us reading, and not from asking and ending in time.
            select! {
                biased;
                failed = &mut asking => {
                    unsent = failed;
                    break;
                }
                () = lines.ready() => {}
            }
            lines.listen(&mut answers, losses);
            yield_now().await;
        }
    }
    lines.listen(&mut answers, losses);
    lines.close();
    let mut failures = Failures::default();
    let verdict = |(vip, links): (&Vip, &Vec<Link>)| {
        let family = Family::of(*vip);
        let failed = links.iter().filter_map(|link| {
            unsent.get(&(*vip, link.id)).or_else(|| lines.error((link.id, family))).cloned()
        });
        let failed: Vec<ProbeError> = failed.collect();
        let said = answers.said.get(vip).copied().unwrap_or_default();
        failed.iter().for_each(|error| failures.count(error));
        let nowhere = failed.len() == links.len() && said.answered_by.is_none();
        (*vip, if nowhere { Err(failed.into_iter().next().unwrap_or(ProbeError::NoLink)) } else { Ok(said) })
    };
    let verdicts = questions.iter().map(verdict).collect();
    Survey { verdicts, failures }
}

/// A family on a link: what is heard by one socket, and fails together.
type LineId = (LinkId, Family);

/// All lines that are needed; an error where nobody can be heard.
struct Lines(BTreeMap<LineId, Result<Line, ProbeError>>);

struct Line {
    /// The link's name.
    name: String,
    ear: Ear,
    counted: Statistics,
}

impl Lines {
    fn open(questions: &BTreeMap<Vip, Vec<Link>>) -> Self {
        let mut lines = BTreeMap::new();
        for (vip, links) in questions {
            for link in links {
                let family = Family::of(*vip);
                lines.entry((link.id, family)).or_insert_with(|| Line::open(link, family));
            }
        }
        Self(lines)
    }

    /// The questions that can be asked.
    fn open_for<'a>(&self, questions: &'a BTreeMap<Vip, Vec<Link>>) -> Vec<(Vip, &'a Link)> {
        let each = questions.iter().flat_map(|(vip, links)| links.iter().map(|link| (*vip, link)));
        each.filter(|(vip, link)| self.error((link.id, Family::of(*vip))).is_none()).collect()
    }

    fn error(&self, line: LineId) -> Option<&ProbeError> {
        self.0.get(&line).and_then(|line| line.as_ref().err())
    }

    /// Waits until something may have arrived.
    async fn ready(&self) {
        let ready = |line| -> Pin<Box<dyn Future<Output = ()> + Send + '_>> { Box::pin(Line::ready(line)) };
        let all: Vec<_> = self.0.values().flatten().map(ready).collect();
        if all.is_empty() { pending().await } else { drop(select_all(all).await) }
    }

    /// Hears all that has arrived. A line that breaks fails alone.
    fn listen(&mut self, answers: &mut Answers<'_>, losses: &Losses) {
        for ((link, _), line) in &mut self.0 {
            let Ok(open) = line else { continue };
            match open.ear.listen(|vip, heard| answers.hear(*link, vip, heard)) {
                Ok(Turn { counted, .. }) => {
                    losses.add(counted.lost);
                    open.counted.arrived = open.counted.arrived.saturating_add(counted.arrived);
                    open.counted.lost = open.counted.lost.saturating_add(counted.lost);
                }
                Err(error) => {
                    *line = Err(ProbeError::Listen { link: open.name.clone(), error: (&error).into() });
                }
            }
        }
    }

    /// Nothing more is heard: where too much was lost, silence proves nothing.
    fn close(&mut self) {
        for line in self.0.values_mut() {
            if let Ok(Line { name, counted, .. }) = line
                && counted.is_deaf()
            {
                let Statistics { arrived, lost } = *counted;
                *line = Err(ProbeError::Deaf { link: std::mem::take(name), lost, arrived });
            }
        }
    }
}

impl Line {
    fn open(link: &Link, family: Family) -> Result<Self, ProbeError> {
        let name = link.name.clone();
        if !link.carrier {
            return Err(ProbeError::NoCarrier { link: name });
        }
        match Ear::open(link.id, family, Interest::Uses) {
            Ok(ear) => Ok(Self { name, ear, counted: Statistics::default() }),
            Err(error) => Err(ProbeError::Listen { link: name, error: (&error).into() }),
        }
    }

    async fn ready(&self) {
        self.ear.ready().await;
    }
}

/// What has been heard so far of the addresses that are asked for.
struct Answers<'a> {
    said: BTreeMap<Vip, Probed>,
    /// Addresses that nobody has answered for.
    silent: usize,
    own: &'a BTreeSet<Mac>,
}

impl<'a> Answers<'a> {
    fn new(asked: impl Iterator<Item = Vip>, own: &'a BTreeSet<Mac>) -> Self {
        let said: BTreeMap<_, _> = asked.map(|vip| (vip, Probed::default())).collect();
        Self { silent: said.len(), said, own }
    }

    fn hear(&mut self, link: LinkId, vip: Vip, heard: Heard) {
        let (Heard::Answer(mac) | Heard::Probe(mac)) = heard;
        let Some(probed) = self.said.get_mut(&vip).filter(|_| !self.own.contains(&mac)) else { return };
        match heard {
            Heard::Probe(_) => probed.contended_by = Some(mac),
            Heard::Answer(_) if probed.answered_by.is_none() => {
                probed.answered_by = Some((link, mac));
                self.silent -= 1;
            }
            Heard::Answer(_) => {}
        }
    }
}

/// Which questions could not be sent, and why.
type Unsent = BTreeMap<(Vip, LinkId), ProbeError>;

/// Asks as planned, and returns when it is time to stop listening. A question that a full queue refused is sent again
/// within its round; one that cannot be sent at all fails its address on its link.
async fn ask(each: &[(Vip, &Link)], plan: Plan) -> Unsent {
    let mut unsent = Unsent::new();
    let sender = match Sender::new() {
        Ok(sender) => sender,
        Err(error) => {
            let failed = |(vip, link): &(Vip, &Link)| ((*vip, link.id), ProbeError::unsent(link, &error));
            return each.iter().map(failed).collect();
        }
    };
    for question in 0..plan.count {
        if question > 0 {
            time::sleep(plan.spacing).await;
        }
        let mut refused = send(&sender, each.iter().copied()).await;
        for _ in 0..RETRIES {
            let (full, failed): (Vec<_>, Vec<_>) =
                refused.into_iter().partition(|(_, error)| is_queue_full(error));
            unsent.extend(failed.into_iter().map(of_link));
            refused = Vec::new();
            if full.is_empty() {
                break;
            }
            time::sleep(QUEUE_FULL_PAUSE).await;
            refused = send(&sender, full.into_iter().map(|(question, _)| question)).await;
        }
        unsent.extend(refused.into_iter().map(of_link));
    }
    time::sleep(plan.wait).await;
    unsent
}

/// A question that was not sent.
type Refused<'a> = ((Vip, &'a Link), io::Error);

fn of_link(((vip, link), error): Refused<'_>) -> ((Vip, LinkId), ProbeError) {
    ((vip, link.id), ProbeError::unsent(link, &error))
}

/// Sends each question once, at a pace at which answers are read meanwhile.
async fn send<'a>(sender: &Sender, each: impl Iterator<Item = (Vip, &'a Link)>) -> Vec<Refused<'a>> {
    let mut refused = Vec::new();
    for (sent, (vip, link)) in each.enumerate() {
        if let Err(error) = sender.send(link.id, &frames::probe(vip, link.mac)) {
            refused.push(((vip, link), error));
        }
        if sent % BURST == BURST - 1 {
            time::sleep(PAUSE).await;
        }
    }
    refused
}

/// Questions sent at once, and the pause after them: 20 000 a second at most.
const BURST: usize = 40;
const PAUSE: Duration = Duration::from_millis(2);
/// How often a question that found a full queue is sent again, and after which pause.
const RETRIES: usize = 3;
const QUEUE_FULL_PAUSE: Duration = Duration::from_millis(5);
