//! An object whose content cannot be used: which one, which field, what is wrong, and the way out.

use std::{borrow::Cow, fmt};

use super::{object_key::ObjectKey, range::way_out_of_entry};

/// A custom resource that cannot be used as it stands. Reads as one line for an operator.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct InvalidObject {
    /// `IPAddressPool` or `L2Advertisement`.
    pub kind: &'static str,
    /// Which one.
    pub key: ObjectKey,
    /// Its UID, for the Kubernetes event on it; empty if the API server gave none.
    pub uid: String,
    /// The path of the field, such as `spec.addresses[1]`.
    pub field: String,
    /// What is wrong there.
    pub problem: Problem,
}

impl fmt::Display for InvalidObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, key, uid: _, field, problem } = self;
        write!(f, "{kind} {key}: {field}: {problem}; {}", problem.way_out())
    }
}

/// A field and what is wrong in it, before it is known which object holds it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Fault {
    field: String,
    problem: Problem,
}

impl Fault {
    pub(super) fn new(field: impl Into<String>, problem: Problem) -> Self {
        Self { field: field.into(), problem }
    }

    /// The same fault, seen from the object that holds `outer`.
    pub(super) fn within(self, outer: impl fmt::Display) -> Self {
        Self { field: format!("{outer}.{}", self.field), problem: self.problem }
    }

    pub(super) fn of(self, kind: &'static str, key: ObjectKey, uid: String) -> InvalidObject {
        InvalidObject { kind, key, uid, field: self.field, problem: self.problem }
    }
}

/// What can be wrong in a field that MetalLB's schemas accept (MetalLB `internal/config/validation.go`).
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd, thiserror::Error)]
pub enum Problem {
    /// The value has another type than the schema says: the CRD in the cluster is not MetalLB's.
    #[error("{0}")]
    Type(String),
    /// A pool without addresses.
    #[error("is empty")]
    NoAddresses,
    /// Neither CIDR nor range.
    #[error("{0:?} is neither a CIDR prefix nor a range")]
    Address(String),
    /// A range whose ends are of two address families.
    #[error("{0:?} mixes IPv4 and IPv6")]
    MixedFamilies(String),
    /// A range that ends before it starts.
    #[error("{0:?} ends before it starts")]
    Backwards(String),
    /// Two entries share addresses.
    #[error("{range} overlaps {other_range} of IPAddressPool {other}")]
    Overlap {
        /// The entry here.
        range: String,
        /// The entry there.
        other_range: String,
        /// The pool there; it may be this one.
        other: ObjectKey,
    },
    /// A label key that Kubernetes does not allow.
    #[error("{0:?} is not a label key")]
    LabelKey(String),
    /// A label value that Kubernetes does not allow.
    #[error("{0:?} is not a label value")]
    LabelValue(String),
    /// An operator other than the four.
    #[error("{0:?} is not an operator")]
    Operator(String),
    /// `In` or `NotIn` without values.
    #[error("{0} needs values")]
    ValuesMissing(String),
    /// `Exists` or `DoesNotExist` with values.
    #[error("{0} takes no values")]
    ValuesGiven(String),
    /// A preference weight out of range.
    #[error("{0} is out of range")]
    Weight(i32),
}

impl Problem {
    /// What to do about it.
    pub fn way_out(&self) -> Cow<'static, str> {
        if let Self::Address(text) = self
            && let Some(way_out) = way_out_of_entry(text)
        {
            return Cow::Owned(way_out);
        }
        Cow::Borrowed(match self {
            Self::Type(_) => {
                "write the field as MetalLB's CRD describes it, and check that its CRDs are installed"
            }
            Self::NoAddresses => "list at least one prefix or range, or delete the pool",
            Self::Address(_) => "write a prefix such as 10.4.11.0/24 or a range such as 10.4.11.1-10.4.11.99",
            Self::MixedFamilies(_) => "write one range per address family",
            Self::Backwards(_) => "write the lower address first",
            Self::Overlap { .. } => "take the shared addresses out of one of them",
            Self::LabelKey(_) => {
                "write [prefix/]name, the name of at most 63 letters, digits, '-', '_' and '.'"
            }
            Self::LabelValue(text) if text == "*" => {
                "to match any value write operator: Exists without values"
            }
            Self::LabelValue(_) => "write at most 63 letters, digits, '-', '_' and '.'",
            Self::Operator(_) => "write In, NotIn, Exists or DoesNotExist",
            Self::ValuesMissing(_) => "list at least one value, or write Exists or DoesNotExist",
            Self::ValuesGiven(_) => "remove the values, or write In or NotIn",
            Self::Weight(_) => "write a weight from 1 to 100",
        })
    }
}
