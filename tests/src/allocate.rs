//! In MetalLB's controller's place: gives Services of type LoadBalancer their addresses.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow};
use serde_json::{Value, json};

use crate::{cluster::Cluster, kubectl, machine::Machine};

/// A Service and the addresses that it was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assigned {
    /// `namespace/name`
    pub service: String,
    /// What its status says now.
    pub addresses: Vec<IpAddr>,
}

impl Cluster {
    /// Gives each LoadBalancer Service that has no address one of 10.4.11.0/24 (or of fd00:4::b:0/112, or
    /// both, as its IP families say), or the one that its spec asks for. Returns the new ones.
    pub fn assign_addresses(&self) -> Result<Vec<Assigned>> {
        assign(self.control_plane())
    }

    /// Does [`assign_addresses`](Self::assign_addresses) five times a second until the result is dropped.
    pub fn allocator(&self) -> Result<Allocator> {
        let (machine, stop) = (self.control_plane().clone(), Arc::new(AtomicBool::new(false)));
        let stopped = stop.clone();
        let thread = std::thread::Builder::new().name("allocator".into()).spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                // An API server that is away for a while is part of some tests.
                let _ = assign(&machine);
                std::thread::sleep(Duration::from_millis(200));
            }
        })?;
        Ok(Allocator { stop, thread: Some(thread) })
    }

    /// Sets the addresses in a Service's status; none takes them away.
    pub fn set_ingress(&self, namespace: &str, service: &str, addresses: &[IpAddr]) -> Result<()> {
        set_ingress(self.control_plane(), namespace, service, addresses)
    }
}

/// Assigns addresses in the background.
#[derive(Debug)]
pub struct Allocator {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Allocator {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn assign(machine: &Machine) -> Result<Vec<Assigned>> {
    let list = kubectl::request(machine, "GET", "/api/v1/services", None)?;
    let services: Vec<&Value> = list["items"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|service| service["spec"]["type"] == "LoadBalancer")
        .collect();
    let mut taken: BTreeSet<IpAddr> = services.iter().flat_map(|service| addresses_of(service)).collect();
    let mut new = Vec::new();
    for service in services {
        if !addresses_of(service).is_empty() {
            continue;
        }
        let (Some(namespace), Some(name)) =
            (service["metadata"]["namespace"].as_str(), service["metadata"]["name"].as_str())
        else {
            continue;
        };
        let addresses = choose(service, &taken)?;
        set_ingress(machine, namespace, name, &addresses)?;
        taken.extend(&addresses);
        new.push(Assigned { service: format!("{namespace}/{name}"), addresses });
    }
    Ok(new)
}

fn set_ingress(machine: &Machine, namespace: &str, service: &str, addresses: &[IpAddr]) -> Result<()> {
    let ingress: Vec<Value> = addresses.iter().map(|address| json!({"ip": address})).collect();
    let patch = json!({"status": {"loadBalancer": {"ingress": ingress}}});
    let path = format!("/api/v1/namespaces/{namespace}/services/{service}/status");
    kubectl::request(machine, "PATCH", &path, Some(&patch)).map(drop)
}

fn addresses_of(service: &Value) -> Vec<IpAddr> {
    let ingress = service["status"]["loadBalancer"]["ingress"].as_array();
    ingress.into_iter().flatten().filter_map(|one| one["ip"].as_str()?.parse().ok()).collect()
}

/// The addresses that a Service asks for, or the first free ones of its families.
fn choose(service: &Value, taken: &BTreeSet<IpAddr>) -> Result<Vec<IpAddr>> {
    let annotation = service["metadata"]["annotations"]["metallb.io/loadBalancerIPs"].as_str();
    if let Some(wanted) = annotation.or_else(|| service["spec"]["loadBalancerIP"].as_str()) {
        let parsed = wanted.split(',').map(|one| one.trim().parse().with_context(|| format!("`{one}`")));
        return parsed.collect::<Result<_>>().context("the address that the Service asks for");
    }
    let families = service["spec"]["ipFamilies"].as_array().cloned().unwrap_or_default();
    let mut chosen = Vec::new();
    for family in if families.is_empty() { vec![json!("IPv4")] } else { families } {
        let is_v6 = family == "IPv6";
        let free = (1..=254).map(|last| pool(is_v6, last)).find(|address| !taken.contains(address));
        chosen.push(free.ok_or_else(|| anyhow!("the pool has no free address left"))?);
    }
    Ok(chosen)
}

fn pool(is_v6: bool, last: u8) -> IpAddr {
    if is_v6 {
        Ipv6Addr::new(0xfd00, 4, 0, 0, 0, 0, 0xb, u16::from(last)).into()
    } else {
        Ipv4Addr::new(10, 4, 11, last).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_gets_what_it_asks_for_or_the_first_free_address_of_each_family() {
        let taken = BTreeSet::from([pool(false, 1)]);
        let plain = json!({"spec": {"type": "LoadBalancer", "ipFamilies": ["IPv4", "IPv6"]}});
        assert_eq!(choose(&plain, &taken).expect("free"), [pool(false, 2), pool(true, 1)]);
        let asking = json!({"spec": {"loadBalancerIP": "10.4.11.9"}});
        assert_eq!(choose(&asking, &taken).expect("asked"), [pool(false, 9)]);
    }
}
