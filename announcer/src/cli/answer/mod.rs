//! `announcer answer`: the data path by itself, for the addresses on the command line. No cluster, no election.

mod run;

use std::{collections::BTreeSet, net::IpAddr, time::Duration};

use clap::builder::NonEmptyStringValueParser;
use tracing::level_filters::LevelFilter;

use super::{
    Usage, level,
    station::{Announcing, Attaching},
};
use crate::{report::log::LogFormat, vocabulary::Vip};

/// Flags of `announcer answer`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Interface to answer on; may be given more than once.
    #[arg(long = "interface", short = 'i', value_name = "NAME", required = true, value_parser = NonEmptyStringValueParser::new())]
    interfaces: Vec<String>,

    /// IPv4 or IPv6 address to answer for; may be given more than once.
    #[arg(long = "vip", value_name = "ADDR", required = true, value_parser = address)]
    vips: Vec<Vip>,

    /// Wait for interfaces that do not exist yet, instead of refusing to start.
    #[arg(long)]
    wait: bool,

    /// Seconds for which the kernel goes on answering when this process is gone or stuck, 1 to 3600; renewed at a third.
    #[arg(long, value_name = "SECONDS", default_value = "15", value_parser = lease)]
    lease: Duration,

    /// When told to stop, leave program, pins and multicast groups behind: the kernel answers until the lease has run
    /// out, and the next `announcer answer` goes on without a gap.
    #[arg(long)]
    keep: bool,

    #[command(flatten)]
    attaching: Attaching,

    #[command(flatten)]
    announcing: Announcing,

    #[command(flatten)]
    pins: super::Pins,

    /// How events are written to standard output: `text` for people, `json` for machines.
    #[arg(long, env = "ANNOUNCER_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,

    /// Least important level that is logged.
    #[arg(long, env = "ANNOUNCER_LOG_LEVEL", value_name = "LEVEL", default_value = "info", value_parser = level())]
    log_level: LevelFilter,
}

/// An address that one host can have among its neighbours.
fn address(text: &str) -> Result<Vip, String> {
    let vip: Vip = text.parse().map_err(|_| "not an IPv4 or IPv6 address".to_owned())?;
    let refused = match vip.ip() {
        ip if ip.is_unspecified() => "the unspecified address",
        ip if ip.is_multicast() => "a multicast address",
        ip if ip.is_loopback() => "a loopback address",
        IpAddr::V4(v4) if v4.octets()[0] == 0 => "an address of \"this network\" (RFC 1122)",
        IpAddr::V4(v4) if v4.is_broadcast() => "the broadcast address",
        _ => return Ok(vip),
    };
    Err(format!("{refused}: nobody can be asked for it"))
}

fn lease(text: &str) -> Result<Duration, String> {
    match super::seconds(text) {
        Ok(span) if span >= Duration::from_secs(1) && span <= Duration::from_secs(3600) => Ok(span),
        _ => Err("between 1 and 3600 seconds".to_owned()),
    }
}

/// Answers until a signal ends it.
pub(super) fn run(args: Args) -> anyhow::Result<()> {
    if let Some(vip) = repeated(&args.vips) {
        return Err(Usage(format!("--vip {vip} is given twice")).into());
    }
    if let Some(name) = repeated(&args.interfaces) {
        return Err(Usage(format!("--interface {name} is given twice")).into());
    }
    run::run(&args)
}

/// The first item that was there before.
fn repeated<T: Ord>(items: &[T]) -> Option<&T> {
    let mut seen = BTreeSet::new();
    items.iter().find(|item| !seen.insert(*item))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv4_mapped_address_is_the_ipv4_address_given_twice() {
        let vips = ["10.4.11.1", "::ffff:10.4.11.1"].map(|text| address(text).expect("an address"));
        assert_eq!(repeated(&vips), Some(&vips[0]));
    }

    #[test]
    fn an_address_that_no_host_can_have_is_refused_by_its_name() {
        for (text, named) in [
            ("0.0.0.0", "unspecified"),
            ("::", "unspecified"),
            ("0.1.2.3", "this network"),
            ("224.0.0.1", "multicast"),
            ("ff02::1", "multicast"),
            ("127.0.0.1", "loopback"),
            ("::1", "loopback"),
            ("255.255.255.255", "broadcast"),
            ("10.4.11.300", "not an IPv4 or IPv6"),
        ] {
            assert!(address(text).is_err_and(|error| error.contains(named)), "{text}");
        }
    }

    #[test]
    fn a_lease_is_between_a_second_and_an_hour() {
        for text in ["0.9", "3601", "90000", "-1", "nan", "soon"] {
            assert_eq!(lease(text), Err("between 1 and 3600 seconds".to_owned()), "{text}");
        }
        assert_eq!(lease("1"), Ok(Duration::from_secs(1)));
    }
}
