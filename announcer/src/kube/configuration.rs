//! The pools and advertisements in force, and which are in force when one of them is wrong.
//!
//! As in MetalLB (`internal/config`, `internal/k8s/controllers/config_controller.go`) the configuration is one thing:
//! while any object of it is invalid, the whole of it stays as it last was valid. A process that has not seen a valid
//! one yet (an agent that was restarted) uses what is valid and leaves the invalid objects out, where MetalLB would
//! announce nothing at all.

use std::{collections::BTreeMap, sync::Arc};

use super::{advertisement::Advertisement, invalid::InvalidObject, pool::Pool};
use crate::vocabulary::Vip;

/// Pools and advertisements that go together: no two pools share an address.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Configuration {
    /// By name.
    pub pools: BTreeMap<String, Pool>,
    /// By name.
    pub advertisements: BTreeMap<String, Advertisement>,
}

impl Configuration {
    /// The pool that has this address.
    pub fn pool_of(&self, vip: Vip) -> Option<&Pool> {
        self.pools.values().find(|pool| pool.contains(vip))
    }

    /// What is valid among the objects, and what is not.
    pub(super) fn compose<'a>(
        pools: impl Iterator<Item = &'a Result<Pool, Box<InvalidObject>>>,
        advertisements: impl Iterator<Item = &'a Result<Advertisement, Box<InvalidObject>>>,
    ) -> (Self, Vec<InvalidObject>) {
        let mut invalid = Vec::new();
        let mut apart: Vec<&Pool> = Vec::new();
        let mut oldest_first: Vec<&Pool> = pools.filter_map(|pool| valid(pool, &mut invalid)).collect();
        oldest_first.sort_by_key(|pool| (pool.created.is_none(), pool.created, &pool.key));
        for pool in oldest_first {
            match apart.iter().find_map(|elder| pool.overlap(elder)) {
                None => apart.push(pool),
                Some(fault) => invalid.push(fault.of(Pool::KIND, pool.key.clone(), pool.uid.clone())),
            }
        }
        let advertisements = advertisements
            .filter_map(|ad| valid(ad, &mut invalid))
            .map(|ad| (ad.key.name.clone(), ad.clone()))
            .collect();
        let pools = apart.into_iter().map(|pool| (pool.key.name.clone(), pool.clone())).collect();
        invalid.sort();
        (Self { pools, advertisements }, invalid)
    }
}

fn valid<'a, T>(read: &'a Result<T, Box<InvalidObject>>, invalid: &mut Vec<InvalidObject>) -> Option<&'a T> {
    read.as_ref().map_err(|error| invalid.push((**error).clone())).ok()
}

/// Remembers the last configuration without a fault.
#[derive(Debug, Default)]
pub(super) struct LastGood(Option<Arc<Configuration>>);

impl LastGood {
    /// This one was in force.
    pub(super) fn of(configuration: Arc<Configuration>) -> Self {
        Self(Some(configuration))
    }

    /// The configuration in force.
    pub(super) fn settle(
        &mut self,
        composed: Configuration,
        invalid: &[InvalidObject],
    ) -> Arc<Configuration> {
        match &self.0 {
            Some(last) if !invalid.is_empty() || **last == composed => last.clone(),
            _ => {
                let fresh = Arc::new(composed);
                if invalid.is_empty() {
                    self.0 = Some(fresh.clone());
                }
                fresh
            }
        }
    }
}
