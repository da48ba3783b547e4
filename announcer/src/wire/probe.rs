//! Asking the wire whether anybody uses a VIP, without touching anybody's cache: RFC 5227 §2.1, RFC 4862 §5.4.

pub(super) mod ear;
pub(super) mod filter;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    pin::pin,
    time::Duration,
};

use futures::future::select_all;
use tokio::{select, time};

use super::{
    frames,
    sender::{Sender, Transmit},
};
use crate::vocabulary::{Link, LinkId, Mac, Vip};
use ear::{Ear, Heard};
use filter::VIPS;

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

/// What the wire said.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Probed {
    /// Who uses the VIP, and on which link: the first foreign host that answered, or announced it meanwhile.
    pub answered_by: Option<(LinkId, Mac)>,
    /// Another host that asked the same in the same way: it may be about to take the VIP too. Not an owner; who wins is
    /// for the API to say.
    pub contended_by: Option<Mac>,
}

/// The wire could not be asked, so silence proves nothing.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// No link to ask on.
    #[error("no link to probe on")]
    NoLink,
    /// What is sent there reaches nobody.
    #[error("{link} has no carrier")]
    NoCarrier {
        /// The link's name.
        link: String,
    },
    /// The listening socket could not be set up.
    #[error("can't listen on {link}")]
    Listen {
        /// The link's name.
        link: String,
        /// The kernel's reason.
        #[source]
        source: io::Error,
    },
    /// A question could not be sent.
    #[error("can't send a probe on {link}")]
    Send {
        /// The link's name.
        link: String,
        /// The kernel's reason.
        #[source]
        source: io::Error,
    },
}

impl Plan {
    /// Three questions in 400 ms, then half a second: an answer on a LAN takes less than a millisecond, unless the
    /// first is lost.
    pub const DEFAULT: Self =
        Self { count: 3, spacing: Duration::from_millis(200), wait: Duration::from_millis(500) };
}

/// Asks for each VIP on each of its links, and returns as soon as somebody has answered for every VIP, at the latest after
/// the plan's time. An answer from one of `own` MACs (all of this node's: `LinkView::macs`) counts for nothing. Needs
/// CAP_NET_RAW.
pub async fn probe(
    questions: &BTreeMap<Vip, Vec<Link>>,
    own: &BTreeSet<Mac>,
    plan: Plan,
) -> Result<BTreeMap<Vip, Probed>, ProbeError> {
    let ears = listen(questions)?;
    let mut asking = pin!(ask(questions, plan));
    let mut said: BTreeMap<Vip, Probed> = questions.keys().map(|vip| (*vip, Probed::default())).collect();
    let mut silent = said.len();
    while silent > 0 {
        let hearing = select_all(ears.iter().map(|(_, ear)| Box::pin(ear.hear(own))));
        select! {
            biased;
            (heard, at, _) = hearing => {
                let (link, ear) = &ears[at];
                let (vip, heard) =
                    heard.map_err(|source| ProbeError::Listen { link: link.clone(), source })?;
                let Some(probed) = said.get_mut(&vip) else { continue };
                match heard {
                    Heard::Probe(mac) => probed.contended_by = Some(mac),
                    Heard::Answer(mac) if probed.answered_by.is_none() => {
                        probed.answered_by = Some((ear.link, mac));
                        silent -= 1;
                    }
                    Heard::Answer(_) => {}
                }
            }
            asked = &mut asking => {
                asked?;
                break;
            }
        }
    }
    Ok(said)
}

/// An ear on each link for each handful of VIPs, with the link's name.
fn listen(questions: &BTreeMap<Vip, Vec<Link>>) -> Result<Vec<(String, Ear)>, ProbeError> {
    let mut vips: BTreeMap<(LinkId, bool), (&Link, Vec<Vip>)> = BTreeMap::new();
    for (vip, links) in questions {
        if links.is_empty() {
            return Err(ProbeError::NoLink);
        }
        for link in links {
            if !link.carrier {
                return Err(ProbeError::NoCarrier { link: link.name.clone() });
            }
            vips.entry((link.id, vip.ip().is_ipv4())).or_insert((link, Vec::new())).1.push(*vip);
        }
    }
    let open = |link: &Link, vips: &[Vip]| match Ear::open(vips, link.id) {
        Ok(ear) => Ok((link.name.clone(), ear)),
        Err(source) => Err(ProbeError::Listen { link: link.name.clone(), source }),
    };
    vips.values().flat_map(|(link, vips)| vips.chunks(VIPS).map(|some| open(link, some))).collect()
}

async fn ask(questions: &BTreeMap<Vip, Vec<Link>>, plan: Plan) -> Result<(), ProbeError> {
    let mut each: Vec<(Vip, &Link)> = Vec::new();
    for (vip, links) in questions {
        each.extend(links.iter().map(|link| (*vip, link)));
    }
    let Some((_, first)) = each.first() else { return Err(ProbeError::NoLink) };
    let send_error = |link: &Link, source| ProbeError::Send { link: link.name.clone(), source };
    let sender = Sender::new().map_err(|source| send_error(first, source))?;
    for question in 0..plan.count {
        if question > 0 {
            time::sleep(plan.spacing).await;
        }
        for (sent, (vip, link)) in each.iter().enumerate() {
            sender
                .send(link.id, &frames::probe(*vip, link.mac))
                .map_err(|source| send_error(link, source))?;
            if sent % BURST == BURST - 1 {
                // Answers are read meanwhile, and a thousand questions are no storm.
                time::sleep(PAUSE).await;
            }
        }
    }
    time::sleep(plan.wait).await;
    Ok(())
}

/// Questions sent at once, and the pause after them: 20 000 a second at most.
const BURST: usize = 40;
const PAUSE: Duration = Duration::from_millis(2);
