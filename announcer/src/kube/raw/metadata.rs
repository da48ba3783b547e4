//! The fields of `metadata` that are used, and how a field is read that must not spoil its object.

use std::{collections::BTreeMap, fmt};

use jiff::Timestamp;
use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, SeqAccess, Visitor},
};

use crate::kube::{ObjectKey, selector::Labels};

/// What of an object's metadata is used. No field here holds a time that a client may write: `managedFields` is full of
/// them, and a year 9999 in one would spoil the object.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Metadata {
    /// `metadata.name`.
    #[serde(deserialize_with = "null_is_default")]
    pub name: String,
    /// `metadata.namespace`; empty for an object without one.
    #[serde(deserialize_with = "null_is_default")]
    pub namespace: String,
    /// `metadata.uid`; empty if it is none.
    pub uid: Text,
    /// `metadata.resourceVersion`; empty if it is none.
    pub resource_version: Text,
    /// `metadata.labels`.
    #[serde(deserialize_with = "null_is_default")]
    pub labels: Labels,
    /// `metadata.annotations`; a value that is no text is left empty.
    #[serde(deserialize_with = "null_is_default")]
    annotations: BTreeMap<String, Text>,
    /// `metadata.creationTimestamp`, which the API server alone writes.
    creation_timestamp: Text,
    /// `metadata.deletionTimestamp`; that it is there is all that counts.
    deletion_timestamp: Option<IgnoredAny>,
}

impl Metadata {
    /// Namespace and name.
    pub(crate) fn key(&self) -> ObjectKey {
        ObjectKey { namespace: self.namespace.clone(), name: self.name.clone() }
    }

    /// An annotation's value.
    pub(crate) fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.get(key).map(|value| value.0.as_str())
    }

    /// All annotations.
    pub(crate) fn annotations(&self) -> BTreeMap<String, String> {
        self.annotations.iter().map(|(key, value)| (key.clone(), value.0.clone())).collect()
    }

    /// When the object was made.
    pub(crate) fn created(&self) -> Option<Timestamp> {
        self.creation_timestamp.time()
    }

    /// The same as the API server writes it, in UTC; empty if it is none.
    pub(crate) fn created_text(&self) -> &str {
        &self.creation_timestamp.0
    }

    /// Whether it is being deleted.
    pub(crate) fn is_being_deleted(&self) -> bool {
        self.deletion_timestamp.is_some()
    }
}

/// A text on which nothing hangs: whatever is no text reads as an empty one, and spoils nothing.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Text(pub String);

impl Text {
    /// The time that it says, if it is one that we can hold.
    pub(crate) fn time(&self) -> Option<Timestamp> {
        self.0.parse().ok()
    }

    /// The text, unless it is empty.
    pub(crate) fn filled(&self) -> Option<&str> {
        Some(self.0.as_str()).filter(|text| !text.is_empty())
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextOrNone)
    }
}

struct TextOrNone;

impl<'de> Visitor<'de> for TextOrNone {
    type Value = Text;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_str<E>(self, text: &str) -> Result<Text, E> {
        Ok(Text(text.to_owned()))
    }

    fn visit_unit<E>(self) -> Result<Text, E> {
        Ok(Text::default())
    }

    fn visit_bool<E>(self, _: bool) -> Result<Text, E> {
        Ok(Text::default())
    }

    fn visit_i64<E>(self, _: i64) -> Result<Text, E> {
        Ok(Text::default())
    }

    fn visit_u64<E>(self, _: u64) -> Result<Text, E> {
        Ok(Text::default())
    }

    fn visit_f64<E>(self, _: f64) -> Result<Text, E> {
        Ok(Text::default())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, sequence: A) -> Result<Text, A::Error> {
        IgnoredAny.visit_seq(sequence).map(|IgnoredAny| Text::default())
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Text, A::Error> {
        IgnoredAny.visit_map(map).map(|IgnoredAny| Text::default())
    }
}

/// Reads `null` as absent, as the API server does.
pub(crate) fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
