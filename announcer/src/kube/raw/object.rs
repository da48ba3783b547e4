//! One object as the API server sent it: its name is read at once, its content when it is asked for.

use serde::{Deserialize, de::DeserializeOwned};

use super::{metadata::Text, null_is_default};
use crate::kube::ObjectKey;

/// The longest object that is kept, in bytes. etcd takes 1.5 MiB for one, and JSON writes a byte as six at worst
/// (`\u0000`).
pub(crate) const LARGEST: usize = 12 << 20;

/// An object that has not been decoded.
#[derive(Clone, Debug)]
pub(crate) struct RawObject {
    head: HeadMetadata,
    json: Vec<u8>,
    place: Place,
}

/// Where in its JSON an object stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Place {
    /// It is all of it.
    Whole,
    /// It is the `object` of a watch's line.
    InLine,
}

/// A line of a watch.
#[derive(Deserialize)]
struct Line<T> {
    object: T,
}

/// As little as it takes to tell which object this is, whatever else is wrong with it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Head {
    #[serde(deserialize_with = "null_is_default")]
    metadata: HeadMetadata,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct HeadMetadata {
    name: Text,
    namespace: Text,
    uid: Text,
    resource_version: Text,
}

impl RawObject {
    /// An object's JSON. Anything is taken; what is none has no name.
    pub(crate) fn new(json: Vec<u8>) -> Self {
        let head: Head = serde_json::from_slice(&json).unwrap_or_default();
        Self { head: head.metadata, json, place: Place::Whole }
    }

    /// The object of a watch's line, whose head has been read.
    pub(super) fn in_line(head: Head, line: Vec<u8>) -> Self {
        Self { head: head.metadata, json: line, place: Place::InLine }
    }

    /// Which object it is; `None` if that cannot be read.
    pub(crate) fn key(&self) -> Option<ObjectKey> {
        let HeadMetadata { name, namespace, .. } = &self.head;
        let key = || ObjectKey { namespace: namespace.0.clone(), name: name.0.clone() };
        (!name.0.is_empty()).then(key)
    }

    /// Its UID; empty if that cannot be read.
    pub(crate) fn uid(&self) -> &str {
        &self.head.uid.0
    }

    /// Its `resourceVersion`; `None` if that cannot be read.
    pub(crate) fn version(&self) -> Option<&str> {
        self.head.resource_version.filled()
    }

    /// Decodes as much of it as `T` holds.
    ///
    /// # Errors
    /// Which field is wrong and why, in words. They are the same for the same fault, wherever in the object it stands.
    pub(crate) fn decode<T: DeserializeOwned>(&self) -> Result<T, String> {
        if self.json.len() >= LARGEST {
            return Err(format!("it is larger than {} MiB", LARGEST >> 20));
        }
        match self.place {
            Place::Whole => decode(&self.json, ""),
            Place::InLine => decode::<Line<T>>(&self.json, "object").map(|line| line.object),
        }
    }
}

/// Decodes JSON. A field is told as seen from `within`.
fn decode<T: DeserializeOwned>(json: &[u8], within: &str) -> Result<T, String> {
    let mut from = serde_json::Deserializer::from_slice(json);
    let decoded = serde_path_to_error::deserialize(&mut from).map_err(|error| {
        let at = error.path().to_string();
        let at = at.strip_prefix(within).unwrap_or(&at).trim_start_matches('.');
        let why = without_position(error.inner());
        if at.is_empty() { why } else { format!("{at}: {why}") }
    })?;
    from.end().map_err(|error| without_position(&error))?;
    Ok(decoded)
}

/// A line and a column change with every field before them.
fn without_position(error: &serde_json::Error) -> String {
    let words = error.to_string();
    let position = format!(" at line {} column {}", error.line(), error.column());
    words.strip_suffix(&position).unwrap_or(&words).to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kube::raw::Metadata;

    #[derive(Debug, Default, Deserialize)]
    struct Wire {
        metadata: Metadata,
    }

    fn object(metadata: serde_json::Value) -> RawObject {
        RawObject::new(json!({"metadata": metadata}).to_string().into_bytes())
    }

    #[test]
    fn the_name_is_read_though_everything_else_is_wrong() {
        let wrong =
            object(json!({"name": "a", "namespace": "b", "labels": 1, "uid": [], "resourceVersion": "7"}));
        assert_eq!(wrong.key(), Some(ObjectKey { namespace: "b".into(), name: "a".into() }));
        assert_eq!((wrong.uid(), wrong.version()), ("", Some("7")));
    }

    #[test]
    fn what_has_no_name_has_no_key() {
        for nameless in ["", "[", "null", "7", "{}", r#"{"metadata":null}"#, r#"{"metadata":{"name":7}}"#] {
            assert_eq!(RawObject::new(nameless.into()).key(), None, "{nameless}");
        }
    }

    #[test]
    fn a_fault_is_told_with_its_field_and_without_where_in_the_text_it_stands() {
        let told =
            |pad: &str| object(json!({"annotations": {"a": pad}, "labels": {"b": 1}})).decode::<Wire>();
        let words = told("").expect_err("a label that is no text");
        assert_eq!(words, "metadata.labels.b: invalid type: integer `1`, expected a string");
        assert_eq!(told("more").expect_err("a label that is no text"), words);
    }

    #[test]
    fn a_wrong_type_where_nothing_hangs_on_it_spoils_nothing() {
        let read = object(json!({
            "uid": 7, "creationTimestamp": "99999-01-01T00:00:00Z", "annotations": {"a": [1], "b": "c"},
            "managedFields": [{"time": "9999-12-31T23:59:59Z"}], "deletionTimestamp": "9999-12-31T23:59:59Z",
            "labels": null,
        }));
        let Metadata { uid, labels, .. } = &read.decode::<Wire>().expect("an object").metadata;
        assert_eq!((uid.0.as_str(), labels.len()), ("", 0));
        let metadata = read.decode::<Wire>().expect("an object").metadata;
        assert_eq!((metadata.annotation("a"), metadata.annotation("b")), (Some(""), Some("c")));
        assert!(metadata.created().is_none() && metadata.is_being_deleted());
    }

    #[test]
    fn an_object_too_large_to_keep_is_told_as_such() {
        let large = RawObject::new(vec![b' '; LARGEST]);
        assert_eq!(large.decode::<Wire>().expect_err("too large"), "it is larger than 12 MiB");
    }
}
