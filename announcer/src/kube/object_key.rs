//! The name of a namespaced object.

use std::fmt;

/// Namespace and name; shown as `namespace/name`, or `name` where there is no namespace.
#[derive(Clone, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ObjectKey {
    /// The namespace; empty for an object without one.
    pub namespace: String,
    /// The name in it.
    pub name: String,
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { namespace, name } = self;
        let name = if name.is_empty() { "(without a name)" } else { name };
        if namespace.is_empty() { f.write_str(name) } else { write!(f, "{namespace}/{name}") }
    }
}
