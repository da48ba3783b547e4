//! The name of a namespaced object.

use std::fmt;

/// Namespace and name; shown as `namespace/name`.
#[derive(Clone, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ObjectKey {
    /// The namespace; empty for an object without one.
    pub namespace: String,
    /// The name in it.
    pub name: String,
}

impl ObjectKey {
    /// The key of any object that the API server returned.
    pub fn of(object: &impl kube::Resource) -> Self {
        let meta = object.meta();
        Self {
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
        }
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}
