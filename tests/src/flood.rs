//! A flood: one question at a fixed rate, whatever comes back, and a count of its answers.

use std::{
    fs::File,
    net::IpAddr,
    os::fd::{AsFd as _, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::{addresses::LanAddress, arp, cluster::Cluster, judge::Said, ndp, sys};

/// Questions a second.
pub const RATE: u32 = 20_000;
/// Questions at once: a millisecond's sleep is not to be had for less.
const AT_ONCE: u32 = 64;
/// After the last question, silence of this length means that the rest is lost.
const PATIENCE: Duration = Duration::from_secs(2);

/// One question, asked over and over from one interface.
#[derive(Debug)]
pub struct Flood {
    stop: Arc<AtomicBool>,
    asking: JoinHandle<Result<(u64, Duration)>>,
    counting: JoinHandle<Result<u64>>,
}

/// What came of it.
#[derive(Clone, Copy, Debug)]
pub struct Flooded {
    /// Questions.
    pub sent: u64,
    /// Answers.
    pub answered: u64,
    /// For how long it was asked.
    pub took: Duration,
}

/// The sockets of a flood, which stay in the network namespace that they were opened in.
#[derive(Debug)]
pub struct Sockets {
    out: OwnedFd,
    back: OwnedFd,
}

impl Sockets {
    /// Opens them on an interface of the calling thread's namespace, for frames of one EtherType.
    pub fn open(interface: &str, ethertype: u16) -> Result<Self> {
        let any =
            rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::DGRAM, None)?;
        let ifindex = rustix::net::netdevice::name_to_index(&any, interface)
            .with_context(|| format!("no interface {interface}"))?;
        let back = sys::packet_socket(ethertype, ifindex).context("open a packet socket")?;
        sys::make_room(&back).context("make room for a flood of answers")?;
        Ok(Self { out: sys::packet_socket(0, ifindex)?, back })
    }
}

impl Flood {
    /// Asks `question`, a whole frame; what `is_answer` likes is counted.
    pub fn start(
        Sockets { out, back }: Sockets,
        question: Vec<u8>,
        is_answer: impl Fn(&[u8]) -> bool + Send + 'static,
    ) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = stop.clone();
        let asking = thread::spawn(move || {
            let (begun, mut count) = (Instant::now(), 0_u32);
            while !stopping.load(Ordering::Relaxed) {
                for _ in 0..AT_ONCE {
                    rustix::net::send(&out, &question, rustix::net::SendFlags::empty()).context("ask")?;
                }
                count += AT_ONCE;
                // Behind its schedule it hurries, so that the rate holds on a busy machine, too.
                let due = begun + Duration::from_secs(1) * count / RATE;
                thread::sleep(due.saturating_duration_since(Instant::now()));
            }
            Ok((u64::from(count), begun.elapsed()))
        });
        let stopping = stop.clone();
        let counting = thread::spawn(move || {
            let (mut answered, mut last) = (0, Instant::now());
            let mut buffer = [0; 256];
            while !stopping.load(Ordering::Relaxed) || last.elapsed() < PATIENCE {
                let Some((length, _)) = sys::receive(&back, &mut buffer).context("listen")? else { continue };
                if is_answer(buffer.get(..length).unwrap_or_default()) {
                    (answered, last) = (answered + 1, Instant::now());
                }
            }
            Ok(answered)
        });
        Self { stop, asking, counting }
    }

    /// Ends the questions, and waits for the last answers.
    pub fn stop(self) -> Result<Flooded> {
        self.stop.store(true, Ordering::Relaxed);
        let (sent, took) = self.asking.join().map_err(|_| anyhow!("the asking thread panicked"))??;
        let answered = self.counting.join().map_err(|_| anyhow!("the counting thread panicked"))??;
        Ok(Flooded { sent, answered, took })
    }
}

impl Flooded {
    /// Questions a second.
    pub fn rate(&self) -> f64 {
        self.sent as f64 / self.took.as_secs_f64()
    }
}

impl Cluster {
    /// The LAN's client asks for `vip`, by ARP or Neighbour Solicitation.
    pub fn flood(&self, vip: IpAddr) -> Result<Flood> {
        let netns = File::open(self.client().netns_path()).context("the client's network")?;
        let ethertype = if vip.is_ipv6() { ndp::ETHERTYPE } else { arp::ETHERTYPE };
        let sockets = thread::spawn(move || {
            // Only this thread moves; it ends at once.
            move_into_link_name_space(netns.as_fd(), Some(LinkNameSpaceType::Network))?;
            Sockets::open("eth0", ethertype)
        });
        let sockets = sockets.join().map_err(|_| anyhow!("the opening thread panicked"))??;
        let asker = LanAddress::CLIENT;
        Ok(match vip {
            IpAddr::V4(target) => {
                let question = arp::request(asker.mac(), asker.v4, target).to_vec();
                Flood::start(
                    sockets,
                    question,
                    move |frame| matches!(arp::parse(frame, asker.v4), Some(Said::Answer(of, _)) if of == vip),
                )
            }
            IpAddr::V6(target) => {
                let question = ndp::solicitation(asker.mac(), asker.v6(), target).to_vec();
                Flood::start(
                    sockets,
                    question,
                    move |frame| matches!(ndp::parse(frame, asker.v6()), Some(Said::Answer(of, _)) if of == vip),
                )
            }
        })
    }
}
