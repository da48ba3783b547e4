//! What a watch has told of one kind of object, boiled down.

use std::{collections::BTreeMap, mem};

use kube::runtime::watcher::Event;

/// Objects by key. A list that is being read again replaces the old one only when it is complete, so that a broken
/// connection never looks like deletions.
#[derive(Debug)]
pub(super) struct Table<K, V> {
    live: BTreeMap<K, V>,
    incoming: BTreeMap<K, V>,
    synced: bool,
}

impl<K, V> Default for Table<K, V> {
    fn default() -> Self {
        Self { live: BTreeMap::new(), incoming: BTreeMap::new(), synced: false }
    }
}

impl<K: Ord, V: PartialEq> Table<K, V> {
    /// Takes an event in and tells whether anything changed. `read` gives an object's key, and its content if it counts.
    pub(super) fn on<O>(&mut self, event: Event<O>, read: impl Fn(&O) -> (K, Option<V>)) -> bool {
        match event {
            Event::Init => {
                self.incoming.clear();
                false
            }
            Event::InitApply(object) => {
                if let (key, Some(value)) = read(&object) {
                    self.incoming.insert(key, value);
                }
                false
            }
            Event::InitDone => {
                let incoming = mem::take(&mut self.incoming);
                let changed = !self.synced || incoming != self.live;
                self.live = incoming;
                self.synced = true;
                changed
            }
            Event::Apply(object) => {
                let (key, value) = read(&object);
                let changed = self.live.get(&key) != value.as_ref();
                match value {
                    None => drop(self.live.remove(&key)),
                    Some(value) => drop(self.live.insert(key, value)),
                }
                changed
            }
            Event::Delete(object) => self.live.remove(&read(&object).0).is_some(),
        }
    }

    /// Whether the first list is complete.
    pub(super) fn synced(&self) -> bool {
        self.synced
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &V> {
        self.live.values()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.live.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Object = (&'static str, Option<u32>);

    fn feed(table: &mut Table<&'static str, u32>, events: Vec<Event<Object>>) -> bool {
        events.into_iter().fold(false, |changed, event| table.on(event, |object| *object) | changed)
    }

    fn content(table: &Table<&'static str, u32>) -> Vec<(&'static str, u32)> {
        table.iter().map(|(k, v)| (*k, *v)).collect()
    }

    #[test]
    fn nothing_counts_before_the_first_list_is_complete() {
        let mut table = Table::default();
        assert!(!feed(&mut table, vec![Event::Init, Event::InitApply(("a", Some(1)))]));
        assert!(!table.synced());
        assert!(feed(&mut table, vec![Event::InitDone]));
        assert!(table.synced());
        assert_eq!(content(&table), [("a", 1)]);
    }

    #[test]
    fn a_list_that_breaks_off_deletes_nothing() {
        let mut table = Table::default();
        feed(&mut table, vec![Event::Init, Event::InitApply(("a", Some(1))), Event::InitDone]);
        feed(&mut table, vec![Event::Init, Event::Init]);
        assert_eq!(content(&table), [("a", 1)]);
        feed(&mut table, vec![Event::InitDone]);
        assert_eq!(content(&table), []);
    }

    #[test]
    fn an_event_that_says_nothing_new_is_no_change() {
        let mut table = Table::default();
        feed(&mut table, vec![Event::InitDone, Event::Apply(("a", Some(1)))]);
        assert!(!feed(&mut table, vec![Event::Apply(("a", Some(1)))]));
        assert!(feed(&mut table, vec![Event::Apply(("a", Some(2)))]));
    }

    #[test]
    fn an_object_that_stops_counting_is_removed() {
        let mut table = Table::default();
        feed(&mut table, vec![Event::InitDone, Event::Apply(("a", Some(1)))]);
        assert!(feed(&mut table, vec![Event::Apply(("a", None))]));
        assert_eq!(content(&table), []);
    }
}
