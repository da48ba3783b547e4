//! Listening on links: one socket for each link and family on which somebody is asked.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::pending,
    pin::Pin,
};

use futures::future::select_all;
use tracing::warn;

use crate::{
    vocabulary::{LinkId, Mac, Vip},
    wire::hearing::{Ear, Family, Heard, Interest, Losses},
};

/// Every ear of this node.
#[derive(Debug)]
pub(super) struct Ears {
    ears: BTreeMap<(LinkId, Family), Ear>,
    /// Whom to hear: of others nothing is told.
    wanted: BTreeMap<LinkId, BTreeSet<Vip>>,
    /// Where nobody can be listened to, so that each is said once.
    refused: BTreeSet<(LinkId, Family)>,
    losses: Losses,
}

/// What one turn of all ears left.
#[derive(Debug, Default, Eq, PartialEq)]
pub(super) struct Drained {
    /// More may be there.
    pub(super) more: bool,
    /// Links where too much was lost for silence to mean anything.
    pub(super) deaf: BTreeSet<LinkId>,
}

impl Ears {
    pub(super) fn new(losses: Losses) -> Self {
        Self { ears: BTreeMap::new(), wanted: BTreeMap::new(), refused: BTreeSet::new(), losses }
    }

    /// Listens to these from now on.
    pub(super) fn follow(&mut self, wanted: BTreeMap<LinkId, BTreeSet<Vip>>) {
        if wanted == self.wanted && self.refused.is_empty() {
            return;
        }
        let families = |(link, ips): (&LinkId, &BTreeSet<Vip>)| {
            ips.iter().map(|ip| (*link, Family::of(*ip))).collect::<BTreeSet<_>>()
        };
        let all: BTreeSet<(LinkId, Family)> = wanted.iter().flat_map(families).collect();
        self.ears.retain(|key, _| all.contains(key));
        self.refused.retain(|key| all.contains(key));
        self.wanted = wanted;
        for key @ (link, family) in all {
            if self.ears.contains_key(&key) {
                continue;
            }
            match Ear::open(link, family, Interest::Answers) {
                Ok(ear) => {
                    self.refused.remove(&key);
                    self.ears.insert(key, ear);
                }
                Err(error) if self.refused.insert(key) => {
                    warn!(
                        link = link.0,
                        ?family,
                        %error,
                        "Cannot listen to other nodes' answers on this interface"
                    );
                }
                Err(_) => {}
            }
        }
    }

    /// Waits until something may have arrived.
    pub(super) async fn ready(&self) {
        if self.ears.is_empty() {
            return pending().await;
        }
        let ready = |ear| -> Pin<Box<dyn Future<Output = ()> + Send + '_>> { Box::pin(Ear::ready(ear)) };
        select_all(self.ears.values().map(ready)).await;
    }

    /// All that has arrived of those that are listened to.
    pub(super) fn drain(&self, mut tell: impl FnMut(LinkId, Vip, Mac)) -> Drained {
        let mut drained = Drained::default();
        for ((link, _), ear) in &self.ears {
            let wanted = self.wanted.get(link);
            let turn = ear.listen(|ip, heard| {
                if let Heard::Answer(mac) = heard
                    && wanted.is_some_and(|wanted| wanted.contains(&ip))
                {
                    tell(*link, ip, mac);
                }
            });
            // An error: the link went down, of which netlink tells.
            let Ok(turn) = turn else { continue };
            self.losses.add(turn.counted.lost);
            drained.more |= turn.more;
            if turn.counted.is_deaf() {
                drained.deaf.insert(*link);
            }
        }
        drained
    }
}
