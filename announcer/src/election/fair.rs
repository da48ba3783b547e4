//! A queue in which nobody stands behind another's thousand: each tenant has a line of its own, and they take turns.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Bound,
};

/// What waits, by tenant; a tenant is whatever the demand says.
#[derive(Debug)]
pub(super) struct Fair<T>(BTreeMap<String, VecDeque<T>>);

impl<T> Default for Fair<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T> Fair<T> {
    /// At the end of the tenant's line.
    pub(super) fn push(&mut self, tenant: &str, waits: T) {
        self.line(tenant).push_back(waits);
    }

    /// At the head of the tenant's line.
    pub(super) fn push_first(&mut self, tenant: &str, waits: T) {
        self.line(tenant).push_front(waits);
    }

    /// The first in the line of the tenant whose turn it is after this one's, and which that is.
    pub(super) fn pop_after(&mut self, last: &str) -> Option<(String, T)> {
        let after = (Bound::Excluded(last), Bound::Unbounded);
        let next = self.0.range_mut::<str, _>(after).next().map(|(tenant, _)| tenant.clone());
        let tenant = next.or_else(|| self.0.keys().next().cloned())?;
        let line = self.0.get_mut(&tenant)?;
        let first = line.pop_front();
        if line.is_empty() {
            self.0.remove(&tenant);
        }
        first.map(|first| (tenant, first))
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How much waits.
    #[cfg(test)]
    pub(super) fn size(&self) -> usize {
        self.0.values().map(VecDeque::len).sum()
    }

    fn line(&mut self, tenant: &str) -> &mut VecDeque<T> {
        self.0.entry(tenant.to_owned()).or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenants_take_turns_and_each_keeps_its_order() {
        let mut fair = Fair::default();
        for (tenant, waits) in [("a", 1), ("a", 2), ("a", 3), ("b", 4), ("c", 5), ("c", 6)] {
            fair.push(tenant, waits);
        }
        fair.push_first("c", 7);
        let (mut last, mut order) = ("b".to_owned(), Vec::new());
        while let Some((tenant, first)) = fair.pop_after(&last) {
            order.push(first);
            last = tenant;
        }
        assert_eq!(order, [7, 1, 4, 5, 2, 6, 3]);
        assert!(fair.is_empty());
    }
}
