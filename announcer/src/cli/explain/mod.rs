//! `announcer explain`: why an address is announced where it is, or not at all, from the API and the policy alone.

mod story;
mod table;

use std::{io::Write as _, net::IpAddr};

use anyhow::Context as _;
use jiff::Timestamp;

use super::cluster::Cluster;
use crate::{
    election::{Failback, Leases},
    kube,
    report::printable_json,
    vocabulary::Vip,
};

/// Flags of `announcer explain`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// The address, as `kubectl get services` shows it.
    vip: IpAddr,

    /// What is printed: `table` for people, `json` for programs.
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t = Output::Table)]
    output: Output,

    #[command(flatten)]
    cluster: Cluster,

    /// When an address goes back to a node that would have been chosen first; as the agents have it.
    #[arg(long, env = "ANNOUNCER_FAILBACK", value_enum, default_value_t = Failback::Preferred)]
    failback: Failback,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
enum Output {
    /// For people.
    Table,
    /// For programs: one object.
    Json,
}

/// Reads the cluster once, and prints the story of one address.
pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let story = runtime.block_on(read(args))?;
    let text = match args.output {
        Output::Table => table::text(&story, Timestamp::now()),
        Output::Json => printable_json(serde_json::to_string_pretty(&story)?) + "\n",
    };
    Ok(std::io::stdout().write_all(text.as_bytes())?)
}

async fn read(args: &Args) -> anyhow::Result<story::Story> {
    let (namespace, options) = (&args.cluster.namespace, args.cluster.options());
    let clients = kube::connect(args.cluster.kubeconfig.as_deref()).await?;
    let at = || format!("API server {}", clients.server);
    let mut snapshot = kube::read(&clients.watch, namespace).await.with_context(at)?;
    let of_cluster = Leases::new(clients.leases.clone(), namespace);
    let leases = of_cluster.read().await;
    let leases = leases.map_err(|error| kube::ReadError::new("Lease", error)).with_context(at)?;
    snapshot.unreadable.extend(of_cluster.unreadable());
    let vip = Vip::new(args.vip);
    Ok(story::tell(&snapshot, &options, &leases, args.failback, vip, Timestamp::now()))
}

#[cfg(test)]
mod tests;
