//! Asking the wire whether anybody uses a VIP, without touching anybody's cache: RFC 5227 §2.1, RFC 4862 §5.4.

mod ear;
mod filter;

use std::{collections::BTreeSet, io, pin::pin, time::Duration};

use futures::future::select_all;
use tokio::{select, time};

use super::{
    frames,
    sender::{Sender, Transmit},
};
use crate::vocabulary::{Link, Mac, Vip};
use ear::{Ear, Heard};

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
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Probed {
    /// Who uses the VIP: the first foreign host that answered, or announced it meanwhile.
    pub answered_by: Option<Mac>,
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

/// Asks on each of `links`, and returns as soon as anybody answers on any, at the latest after the plan's time. An
/// answer from one of `own` MACs (all of this node's: `LinkView::macs`) counts for nothing. Needs CAP_NET_RAW.
pub async fn probe(vip: Vip, links: &[Link], own: &BTreeSet<Mac>, plan: Plan) -> Result<Probed, ProbeError> {
    if links.is_empty() {
        return Err(ProbeError::NoLink);
    }
    if let Some(link) = links.iter().find(|link| !link.carrier) {
        return Err(ProbeError::NoCarrier { link: link.name.clone() });
    }
    let listen = |link: &Link| {
        Ear::open(vip, link.id).map_err(|source| ProbeError::Listen { link: link.name.clone(), source })
    };
    let ears = links.iter().map(listen).collect::<Result<Vec<_>, _>>()?;
    let mut asking = pin!(ask(vip, links, plan));
    let mut contended_by = None;
    loop {
        let hearing = select_all(ears.iter().map(|ear| Box::pin(ear.hear(vip, own))));
        select! {
            biased;
            (heard, ear, _) = hearing => match heard {
                Ok(Heard::Answer(mac)) => return Ok(Probed { answered_by: Some(mac), contended_by }),
                Ok(Heard::Probe(mac)) => contended_by = Some(mac),
                Err(source) => return Err(ProbeError::Listen { link: links[ear].name.clone(), source }),
            },
            asked = &mut asking => return asked.map(|()| Probed { answered_by: None, contended_by }),
        }
    }
}

async fn ask(vip: Vip, links: &[Link], plan: Plan) -> Result<(), ProbeError> {
    let send_error = |link: &Link, source| ProbeError::Send { link: link.name.clone(), source };
    let sender = Sender::new().map_err(|source| send_error(&links[0], source))?;
    for question in 0..plan.count {
        if question > 0 {
            time::sleep(plan.spacing).await;
        }
        for link in links {
            let sent = sender.send(link.id, &frames::probe(vip, link.mac));
            sent.map_err(|source| send_error(link, source))?;
        }
    }
    time::sleep(plan.wait).await;
    Ok(())
}
