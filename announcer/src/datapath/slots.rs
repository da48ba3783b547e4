//! Which slots of `COUNTERS` are taken.

use std::collections::BTreeSet;

use announcer_ebpf::layout::NODE_SLOT;

/// Gives out slots, lowest first; [`NODE_SLOT`] to all for whom none is left.
#[derive(Debug)]
pub(super) struct Slots {
    capacity: u32,
    taken: BTreeSet<u32>,
    /// No slot below this is free.
    low: u32,
}

// === impl Slots ===

impl Slots {
    pub(super) fn new(capacity: u32) -> Self {
        Self { capacity, taken: BTreeSet::new(), low: NODE_SLOT + 1 }
    }

    /// Marks an inherited slot; whether it is a slot of its own.
    pub(super) fn keep(&mut self, slot: u32) -> bool {
        slot != NODE_SLOT && slot < self.capacity && self.taken.insert(slot)
    }

    /// A slot that nobody has, which the caller must zero.
    pub(super) fn take(&mut self) -> Option<u32> {
        let slot = (self.low..self.capacity).find(|slot| !self.taken.contains(slot));
        self.low = slot.map_or(self.capacity, |slot| slot + 1);
        slot.inspect(|slot| {
            self.taken.insert(*slot);
        })
    }

    pub(super) fn free(&mut self, slot: u32) {
        if self.taken.remove(&slot) {
            self.low = self.low.min(slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_free_slot_is_given_out_and_never_the_node_s_own() {
        let mut slots = Slots::new(4);
        assert!(slots.keep(2));
        assert_eq!([slots.take(), slots.take(), slots.take()], [Some(1), Some(3), None]);
        slots.free(2);
        assert_eq!([slots.take(), slots.take()], [Some(2), None]);
    }

    #[test]
    fn a_slot_is_kept_by_one_entry_only_and_only_within_the_map() {
        let mut slots = Slots::new(4);
        assert_eq!(
            [slots.keep(3), slots.keep(3), slots.keep(4), slots.keep(NODE_SLOT)],
            [true, false, false, false]
        );
    }
}
