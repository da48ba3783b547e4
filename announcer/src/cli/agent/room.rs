//! What the tables of this node have no room for: its election does without, and others may announce it.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use tracing::{error, info};

use super::turn::Agent;
use crate::{
    datapath::{DatapathError, PerFamily},
    policy::{Candidates, Demand, beyond},
    vocabulary::Vip,
};

/// Addresses that are named in a line.
const NAMED: usize = 10;

impl Agent {
    /// The cluster's demand as this node can serve it: for an address that its tables have no room for, in the order that
    /// all nodes have in common, it is no candidate itself. What it holds keeps its entries.
    pub(super) fn fit(&mut self, demand: Arc<Demand>) -> Result<Arc<Demand>, DatapathError> {
        let wanted = PerFamily::count(demand.vips.keys());
        let room = self.station.kernel.datapath.make_room(wanted)?;
        let Some(snapshot) = self.snapshot.as_ref().filter(|_| !wanted.fits(room)) else {
            self.no_room(BTreeSet::new());
            return Ok(demand);
        };
        let held = &self.machine.target().held;
        let mut left = room;
        let mut vips = demand.vips.clone();
        for vip in held.iter().filter(|vip| vips.remove(*vip).is_some()) {
            left.take(*vip);
        }
        let beyond = beyond(snapshot, &vips, |vip| left.of(vip));
        let mut demand = Demand::clone(&demand);
        // Thousands share their candidates.
        let mut others: HashMap<*const Candidates, Arc<Candidates>> = HashMap::new();
        for vip in &beyond {
            let Some(wanted) = demand.vips.get_mut(vip) else { continue };
            let without = others.entry(Arc::as_ptr(&wanted.candidates)).or_insert_with(|| {
                let mut candidates = Candidates::clone(&wanted.candidates);
                candidates.remove(&self.node);
                Arc::new(candidates)
            });
            wanted.candidates = without.clone();
        }
        self.no_room(beyond);
        Ok(Arc::new(demand))
    }

    /// The tables may have grown, or links have come and gone: there may be room for other addresses now.
    pub(super) fn fit_again(&mut self) -> Result<(), DatapathError> {
        let Some(whole) = self.whole.clone() else { return Ok(()) };
        let demand = self.fit(whole)?;
        if self.demand.as_ref() == Some(&demand) { Ok(()) } else { self.demand_changed(demand) }
    }

    /// Says which addresses have no entries here, if they are others than before.
    fn no_room(&mut self, beyond: BTreeSet<Vip>) {
        if beyond == self.beyond {
            return;
        }
        let (node, addresses) = (&self.node, beyond.len());
        if beyond.is_empty() {
            info!(node, "The kernel's tables have room for all addresses again");
        } else {
            let named: Vec<String> = beyond.iter().take(NAMED).map(ToString::to_string).collect();
            let ips = named.join(",");
            error!(
                node,
                addresses,
                ips,
                "The kernel's tables have no room for all addresses: this node announces none of these"
            );
        }
        self.beyond = beyond;
        self.stale = true;
    }
}
