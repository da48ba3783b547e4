//! An `IPAddressPool` that has been understood.

use jiff::Timestamp;

use super::{
    crds::{Custom, IpAddressPoolSpec},
    invalid::{Fault, InvalidObject, Problem},
    object_key::ObjectKey,
    range::AddressRange,
    selector::Labels,
};
use crate::vocabulary::Vip;

/// Addresses that may be announced.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Pool {
    /// Its name.
    pub key: ObjectKey,
    /// Its UID.
    pub uid: String,
    /// When it was made; of two pools that overlap the younger is at fault, and one that says no time is the youngest.
    pub created: Option<Timestamp>,
    /// Its labels, for `ipAddressPoolSelectors`.
    pub labels: Labels,
    /// Its addresses, in the order of `spec.addresses`.
    pub ranges: Vec<AddressRange>,
}

impl Pool {
    /// The kind, as in logs and events.
    pub const KIND: &'static str = "IPAddressPool";

    pub(super) fn read(object: Custom) -> Result<Self, Box<InvalidObject>> {
        let Custom { metadata, spec } = object;
        let (key, created) = (metadata.key(), metadata.created());
        let uid = metadata.uid.0;
        match spec.read().and_then(|spec| ranges(spec, &key)) {
            Err(fault) => Err(Box::new(fault.of(Self::KIND, key, uid))),
            Ok(ranges) => Ok(Self { key, uid, created, labels: metadata.labels, ranges }),
        }
    }

    /// Whether the pool has this address.
    pub fn contains(&self, vip: Vip) -> bool {
        self.ranges.iter().any(|range| range.contains(vip))
    }

    /// The first entry here that shares addresses with an entry of `other`.
    pub(super) fn overlap(&self, other: &Self) -> Option<Fault> {
        self.ranges.iter().enumerate().find_map(|(i, range)| {
            let theirs = other.ranges.iter().find(|theirs| range.overlaps(**theirs))?;
            Some(overlap(i, *range, *theirs, &other.key))
        })
    }
}

fn ranges(spec: IpAddressPoolSpec, key: &ObjectKey) -> Result<Vec<AddressRange>, Fault> {
    if spec.addresses.is_empty() {
        return Err(Fault::new("spec.addresses", Problem::NoAddresses));
    }
    let mut ranges: Vec<AddressRange> = Vec::with_capacity(spec.addresses.len());
    for (i, text) in spec.addresses.iter().enumerate() {
        let range =
            text.parse::<AddressRange>().map_err(|p| Fault::new(format!("spec.addresses[{i}]"), p))?;
        if let Some(earlier) = ranges.iter().find(|earlier| range.overlaps(**earlier)) {
            return Err(overlap(i, range, *earlier, key));
        }
        ranges.push(range);
    }
    Ok(ranges)
}

fn overlap(index: usize, range: AddressRange, other_range: AddressRange, other: &ObjectKey) -> Fault {
    let (range, other_range) = (range.to_string(), other_range.to_string());
    Fault::new(
        format!("spec.addresses[{index}]"),
        Problem::Overlap { range, other_range, other: other.clone() },
    )
}
