//! What all nodes of a cluster have in common.

use std::{
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use anyhow::Result;

use crate::{guard, lan::Switch, machine::Machine, parts::Parts, state::State};

/// What a cluster's nodes share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) name: String,
    pub(crate) dir: PathBuf,
    pub(crate) parts: Parts,
    pub(crate) switch: Switch,
    pub(crate) node_count: usize,
    pub(crate) kubelets: bool,
    pub(crate) nics: Vec<String>,
    pub(crate) second_network: bool,
    pub(crate) is_owner: bool,
    pub(crate) images: Mutex<Vec<PathBuf>>,
    pub(crate) state: Mutex<State>,
}

impl Shared {
    /// Boots a node's machine and writes it down.
    pub(crate) fn boot(&self, machine: &str) -> Result<Machine> {
        let machine = boot(&self.name, &self.dir, &self.parts, machine)?;
        self.note(&[&machine])?;
        Ok(machine)
    }

    /// The name of the `index`-th node's NIC on the LAN.
    pub(crate) fn nic(&self, index: usize) -> &str {
        self.nics.get(index).map_or("eth0", String::as_str)
    }

    /// The images that every node has.
    pub(crate) fn images(&self) -> Vec<PathBuf> {
        self.images.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Writes machines into the cluster's state.
    pub(crate) fn note(&self, machines: &[&Machine]) -> Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        for machine in machines {
            state.machines.insert(machine.name().to_owned(), machine.first());
        }
        state.write(&self.name)
    }
}

pub(crate) fn boot(cluster: &str, dir: &Path, parts: &Parts, machine: &str) -> Result<Machine> {
    let booted = Machine::boot(machine, cluster, dir, &parts.pause)?;
    guard::note_machine(dir, booted.first())?;
    Ok(booted)
}
