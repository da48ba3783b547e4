//! What the cluster says: custom resources, watches → one immutable Snapshot.
//!
//! [`watch`] and [`raw::Collection`] are the rim that talks to the API server; everything else here is pure. Each object is boiled down to what
//! the agent needs when it arrives ([`Service`], [`Node`], …), so that the stores stay small and a [`Snapshot`] is quick
//! to put together.

mod advertisement;
mod backoff;
mod client;
mod configuration;
mod crds;
mod endpoints;
mod follow;
mod invalid;
mod line;
mod node;
mod object_key;
mod once;
mod pool;
mod range;
pub(crate) mod raw;
mod selector;
mod service;
mod snapshot;
mod table;
mod trouble;
pub(crate) mod unreadable;
mod watch;
mod world;

pub use advertisement::{Advertisement, Preference};
pub use client::{Clients, ConnectError, connect};
pub use configuration::Configuration;
pub use crds::{
    IPAddressPool, InterfaceInfo, IpAddressPoolSpec, IpAddressPoolStatus, L2Advertisement,
    L2AdvertisementSpec, L2AdvertisementStatus, PreferredNodeSelector, ServiceAllocation, ServiceL2Status,
    ServiceL2StatusSpec, ServiceL2StatusStatus, definitions,
};
pub use endpoints::Endpoints;
pub use invalid::{InvalidObject, Problem};
pub use line::Heard;
pub use node::Node;
pub use object_key::ObjectKey;
pub use once::{ReadError, read};
pub use pool::Pool;
pub use range::AddressRange;
pub use selector::{Labels, Selector, any_or_none_given};
pub use service::{Service, TrafficPolicy};
pub use snapshot::Snapshot;
pub use unreadable::{Fate, UnreadableObject};
pub use watch::watch;
