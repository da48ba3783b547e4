//! What a watch has told of one kind of object, boiled down.

use std::{collections::BTreeMap, mem};

use serde::de::DeserializeOwned;

use super::{
    follow::Event,
    object_key::ObjectKey,
    raw::RawObject,
    unreadable::{Fate, UnreadableObject},
};

/// One object, boiled down as soon as it has arrived.
#[derive(Clone, Debug)]
pub(super) struct Seen<V> {
    key: ObjectKey,
    /// `None`: it does not count.
    content: Result<Option<V>, Unreadable>,
}

/// Why an object could not be decoded.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Unreadable {
    uid: String,
    problem: String,
}

impl<V> Seen<V> {
    /// Decodes an object. `read` gives its content if it counts.
    pub(super) fn of<W: DeserializeOwned>(object: &RawObject, read: impl Fn(W) -> Option<V>) -> Self {
        let content = object.decode().map(read);
        let unreadable = |problem| Unreadable { uid: object.uid().to_owned(), problem };
        Self { key: object.key().unwrap_or_default(), content: content.map_err(unreadable) }
    }
}

/// Objects by key. A list that is being read again replaces the old one only when it is complete, so that a broken
/// connection never looks like deletions. An object that becomes unreadable keeps its last readable content.
#[derive(Debug)]
pub(super) struct Table<V> {
    live: Objects<V>,
    incoming: Objects<V>,
    synced: bool,
}

#[derive(Debug, PartialEq)]
struct Objects<V> {
    readable: BTreeMap<ObjectKey, V>,
    unreadable: BTreeMap<ObjectKey, Unreadable>,
}

impl<V> Default for Objects<V> {
    fn default() -> Self {
        Self { readable: BTreeMap::new(), unreadable: BTreeMap::new() }
    }
}

impl<V> Default for Table<V> {
    fn default() -> Self {
        Self { live: Objects::default(), incoming: Objects::default(), synced: false }
    }
}

impl<V: Clone + PartialEq> Table<V> {
    /// Takes an event in and tells whether anything changed.
    pub(super) fn on(&mut self, event: Event<Seen<V>>) -> bool {
        match event {
            Event::Init => {
                self.incoming = Objects::default();
                false
            }
            Event::InitApply(Seen { key, content }) => {
                if let (Err(_), Some(last)) = (&content, self.live.readable.get(&key)) {
                    self.incoming.readable.insert(key.clone(), last.clone());
                }
                self.incoming.put(key, content);
                false
            }
            Event::InitDone => {
                let incoming = mem::take(&mut self.incoming);
                let changed = !self.synced || incoming != self.live;
                self.live = incoming;
                self.synced = true;
                changed
            }
            Event::Apply(Seen { key, content }) => self.live.put(key, content),
            Event::Delete(Seen { key, .. }) => {
                let was_unreadable = self.live.unreadable.remove(&key).is_some();
                self.live.readable.remove(&key).is_some() || was_unreadable
            }
        }
    }

    /// Whether the first list is complete.
    pub(super) fn synced(&self) -> bool {
        self.synced
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &V> {
        self.live.readable.values()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&ObjectKey, &V)> {
        self.live.readable.iter()
    }

    /// What cannot be read, as objects of this kind.
    pub(super) fn unreadable(&self, kind: &'static str) -> impl Iterator<Item = UnreadableObject> {
        let Objects { readable, unreadable } = &self.live;
        unreadable.iter().map(move |(key, Unreadable { uid, problem })| UnreadableObject {
            kind,
            key: key.clone(),
            uid: uid.clone(),
            problem: problem.clone(),
            fate: if readable.contains_key(key) { Fate::Kept } else { Fate::LeftOut },
        })
    }
}

impl<V: PartialEq> Objects<V> {
    /// Tells whether anything changed.
    fn put(&mut self, key: ObjectKey, content: Result<Option<V>, Unreadable>) -> bool {
        let value = match content {
            Err(unreadable) => {
                let changed = self.unreadable.get(&key) != Some(&unreadable);
                self.unreadable.insert(key, unreadable);
                return changed;
            }
            Ok(value) => value,
        };
        let was_unreadable = self.unreadable.remove(&key).is_some();
        let changed = self.readable.get(&key) != value.as_ref();
        match value {
            None => drop(self.readable.remove(&key)),
            Some(value) => drop(self.readable.insert(key, value)),
        }
        changed || was_unreadable
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(name: &str, content: Option<u32>) -> Seen<u32> {
        Seen { key: key(name), content: Ok(content) }
    }

    fn spoilt(name: &str) -> Seen<u32> {
        let unreadable = Unreadable { uid: String::new(), problem: "spoilt".to_owned() };
        Seen { key: key(name), content: Err(unreadable) }
    }

    fn key(name: &str) -> ObjectKey {
        ObjectKey { namespace: String::new(), name: name.to_owned() }
    }

    fn feed(table: &mut Table<u32>, events: Vec<Event<Seen<u32>>>) -> bool {
        events.into_iter().fold(false, |changed, event| table.on(event) | changed)
    }

    fn content(table: &Table<u32>) -> Vec<(&str, u32)> {
        table.iter().map(|(key, value)| (key.name.as_str(), *value)).collect()
    }

    fn fates(table: &Table<u32>) -> Vec<(String, Fate)> {
        table.unreadable("Kind").map(|object| (object.key.name, object.fate)).collect()
    }

    #[test]
    fn nothing_counts_before_the_first_list_is_complete() {
        let mut table = Table::default();
        assert!(!feed(&mut table, vec![Event::Init, Event::InitApply(seen("a", Some(1)))]));
        assert!(!table.synced());
        assert!(feed(&mut table, vec![Event::InitDone]));
        assert!(table.synced());
        assert_eq!(content(&table), [("a", 1)]);
    }

    #[test]
    fn a_list_that_breaks_off_deletes_nothing() {
        let mut table = Table::default();
        feed(&mut table, vec![Event::Init, Event::InitApply(seen("a", Some(1))), Event::InitDone]);
        feed(&mut table, vec![Event::Init, Event::Init]);
        assert_eq!(content(&table), [("a", 1)]);
        feed(&mut table, vec![Event::InitDone]);
        assert_eq!(content(&table), []);
    }

    #[test]
    fn an_event_that_says_nothing_new_is_no_change() {
        let mut table = Table::default();
        feed(&mut table, vec![Event::InitDone, Event::Apply(seen("a", Some(1)))]);
        assert!(!feed(&mut table, vec![Event::Apply(seen("a", Some(1)))]));
        assert!(feed(&mut table, vec![Event::Apply(seen("a", Some(2)))]));
        assert!(feed(&mut table, vec![Event::Apply(spoilt("a"))]));
        assert!(!feed(&mut table, vec![Event::Apply(spoilt("a"))]));
    }

    #[test]
    fn an_object_that_stops_counting_is_removed() {
        let mut table = Table::default();
        feed(&mut table, vec![Event::InitDone, Event::Apply(seen("a", Some(1)))]);
        assert!(feed(&mut table, vec![Event::Apply(seen("a", None))]));
        assert_eq!(content(&table), []);
    }

    #[test]
    fn an_object_that_becomes_unreadable_keeps_its_last_content_through_lists_until_it_is_deleted() {
        let mut table = Table::default();
        feed(&mut table, vec![Event::InitDone, Event::Apply(seen("a", Some(1))), Event::Apply(spoilt("a"))]);
        assert_eq!((content(&table), fates(&table)), (vec![("a", 1)], vec![("a".to_owned(), Fate::Kept)]));
        feed(&mut table, vec![Event::Init, Event::InitApply(spoilt("a")), Event::InitDone]);
        assert_eq!((content(&table), fates(&table)), (vec![("a", 1)], vec![("a".to_owned(), Fate::Kept)]));
        assert!(feed(&mut table, vec![Event::Delete(spoilt("a"))]));
        assert_eq!((content(&table), fates(&table)), (vec![], vec![]));
    }

    #[test]
    fn an_object_that_never_was_readable_is_left_out_and_its_deletion_is_seen() {
        let mut table = Table::default();
        let listed = vec![Event::Init, Event::InitApply(spoilt("a")), Event::InitApply(seen("b", Some(2)))];
        feed(&mut table, listed);
        assert!(feed(&mut table, vec![Event::InitDone]));
        assert_eq!((content(&table), fates(&table)), (vec![("b", 2)], vec![("a".to_owned(), Fate::LeftOut)]));
        feed(&mut table, vec![Event::Init, Event::InitApply(seen("b", Some(2)))]);
        assert!(feed(&mut table, vec![Event::InitDone]));
        assert_eq!(fates(&table), []);
    }

    #[test]
    fn an_object_that_can_be_read_again_is_unreadable_no_longer() {
        let mut table = Table::default();
        feed(&mut table, vec![Event::InitDone, Event::Apply(seen("a", Some(1))), Event::Apply(spoilt("a"))]);
        assert!(feed(&mut table, vec![Event::Apply(seen("a", Some(1)))]));
        assert_eq!((content(&table), fates(&table)), (vec![("a", 1)], vec![]));
    }
}
