//! One run, as the LAN sees it: a client that sends to a VIP, somebody else who asks for it, and where it arrives.

use std::{
    collections::BTreeMap,
    fmt,
    net::{Ipv4Addr, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use announcer_tests::{Cluster, addresses::LanAddress};
use anyhow::{Context as _, Result, ensure};

use super::{
    ears::{Ear, PORT, index_of},
    pace::Pacer,
    steps::Steps,
    trail::{Outage, Trail, now},
};
use crate::sys;

/// Between two packets of the client.
const SEND_EVERY: Duration = Duration::from_millis(1);
/// Between two questions by broadcast.
pub const ASK_EVERY: Duration = Duration::from_millis(2);
/// Before anything happens, all goes to one node for so long. An entry of a neighbour table is not changed again within
/// a second (`locktime`): the first frame of a failover must not fall into that of the entry's own making.
const CALM: Duration = Duration::from_millis(1500);
/// Until one node gets it all.
const SETTLES: Duration = Duration::from_secs(10);
/// What was sent last may still be on its way.
const UNDERWAY: Duration = Duration::from_millis(100);
/// How often the sockets are emptied.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Askers: addresses that nobody has, in turn, so that an answer says to which question it belongs.
const ASKERS: usize = 64;
const FIRST_ASKER: Ipv4Addr = Ipv4Addr::new(10, 4, 15, 0);

/// What a run has shown.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// The client's packets.
    pub packets: Outage,
    /// Questions by broadcast.
    pub questions: Outage,
    /// Where the time went, if a node has died.
    pub steps: Option<Steps>,
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        let Outage { longest, lost, late, resolution, .. } = self.packets;
        write!(f, "{:.0} ms undelivered, {lost} packets lost, {late} late; ", ms(longest))?;
        write!(f, "ARP unanswered {:.0} ms; ", ms(self.questions.longest))?;
        write!(
            f,
            "gaps of the sender {:.1} ms, of the asker {:.1} ms",
            ms(resolution),
            ms(self.questions.resolution)
        )
    }
}

/// A client at work, and everybody who listens. Dropping it ends its threads.
pub struct Watch {
    packets: Pacer,
    questions: Pacer,
    ears: Vec<(usize, Ear)>,
    answers: Ear,
    delivered: Trail,
    /// By node, when it got a packet last.
    last: BTreeMap<usize, Duration>,
    answered: Vec<(usize, Duration)>,
    from: Duration,
}

impl Watch {
    /// Starts with a client that knows nobody's MAC, and waits until all its packets arrive at one node; which.
    pub fn start(cluster: &Cluster, vip: Ipv4Addr, links: &[&str]) -> Result<(Self, usize)> {
        cluster.client().run(&["ip", "neighbour", "flush", "to", &vip.to_string()])?;
        let mut ears = Vec::new();
        for (index, node) in cluster.nodes().iter().enumerate() {
            node.machine().shell(&swallow())?;
            for link in links {
                ears.push((index, Ear::for_packets(&node.machine(), link, vip)?));
            }
        }
        let answers = Ear::for_answers(cluster.router(), "eth0", vip)?;
        let packets = Pacer::start(cluster.client(), SEND_EVERY, move || {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).context("a UDP socket")?;
            socket.connect((vip, PORT)).context("no route to the VIP")?;
            Ok(move |number| send(&socket, number))
        })?;
        // Not from the client: its kernel would learn from the answers.
        let questions = Pacer::start(cluster.router(), ASK_EVERY, move || {
            // Of no protocol, it takes nothing up.
            let socket = sys::packet::listen(index_of("eth0")?, 0, &[]).context("a packet socket")?;
            Ok(move |number| {
                rustix::io::write(&socket, &question(asker(number), vip)).map(drop).context("ask")
            })
        })?;
        let (delivered, last, answered) = (Trail::default(), BTreeMap::new(), Vec::new());
        let mut watch =
            Self { packets, questions, ears, answers, delivered, last, answered, from: Duration::ZERO };
        let node = watch.settle()?;
        watch.from = now();
        Ok((watch, node))
    }

    fn settle(&mut self) -> Result<usize> {
        let start = Instant::now();
        let mut since: Option<(usize, Instant)> = None;
        while start.elapsed() < SETTLES + CALM {
            thread::sleep(LOOK_EVERY);
            self.look()?;
            let fresh = now().saturating_sub(4 * LOOK_EVERY);
            let getting: Vec<usize> =
                self.last.iter().filter(|(_, at)| **at >= fresh).map(|(node, _)| *node).collect();
            since = match (&getting[..], since) {
                ([node], Some((same, at))) if same == *node && at.elapsed() >= CALM => return Ok(same),
                ([node], Some((same, at))) if same == *node => Some((same, at)),
                ([node], _) => Some((*node, Instant::now())),
                _ => None,
            };
        }
        anyhow::bail!("the client's packets do not arrive at one node, within {SETTLES:?}")
    }

    /// Waits until a node other than `old` gets the client's packets.
    pub fn moved(&mut self, old: usize, limit: Duration) -> Result<()> {
        self.until("another node to get the client's packets", limit, LOOK_EVERY, |last| {
            let fresh = now().saturating_sub(4 * LOOK_EVERY);
            Ok(last.iter().any(|(node, at)| *node != old && *at >= fresh))
        })
    }

    /// Waits for something, of which `check` is asked every `every`; it is told when each node got a packet last.
    pub fn until(
        &mut self,
        what: &str,
        limit: Duration,
        every: Duration,
        mut check: impl FnMut(&BTreeMap<usize, Duration>) -> Result<bool>,
    ) -> Result<()> {
        let start = Instant::now();
        while !check(&self.last)? {
            ensure!(start.elapsed() < limit, "waited {limit:?} in vain for {what}");
            self.go_on(every)?;
        }
        Ok(())
    }

    /// Goes on for a while.
    pub fn go_on(&mut self, length: Duration) -> Result<()> {
        let start = Instant::now();
        while start.elapsed() < length {
            thread::sleep(LOOK_EVERY);
            self.look()?;
        }
        Ok(())
    }

    /// Ends it, and says what happened since the first moment of calm.
    pub fn finish(mut self) -> Result<Seen> {
        let to = now();
        self.go_on(UNDERWAY)?;
        let Self { packets, questions, mut delivered, answered, from, .. } = self;
        delivered.sent = packets.finish()?;
        let mut asked = Trail { sent: questions.finish()?, arrived: Vec::new() };
        for (asker, at) in answered {
            // The last question of that asker before the answer.
            let before = asked.sent.partition_point(|sent| *sent <= at);
            let number = (0..before).rev().take(ASKERS).find(|number| number % ASKERS == asker);
            if let Some(number) = number {
                asked.arrives(number, at);
            }
        }
        Ok(Seen { packets: delivered.outage(from, to), questions: asked.outage(from, to), steps: None })
    }

    /// Takes up all that has come in.
    fn look(&mut self) -> Result<()> {
        for (node, ear) in &self.ears {
            ear.packets(|number, at| {
                self.delivered.arrives(number, at);
                self.last.insert(*node, at);
            })?;
        }
        self.answers.answers(|asker, at| {
            let slot = asker.to_bits().wrapping_sub(FIRST_ASKER.to_bits()) as usize;
            if slot < ASKERS {
                self.answered.push((slot, at));
            }
        })
    }
}

/// Behind the ears, a node's kernel drops the client's packets: it would say that nobody listens, or pass them on.
fn swallow() -> String {
    format!(
        "nft -f - <<'END'
            table inet failover
            delete table inet failover
            table inet failover {{
                chain in {{ type filter hook prerouting priority raw; udp dport {PORT} drop; }}
            }}\nEND"
    )
}

/// A packet with its number. A socket tells what the last one met (nobody listens) before it sends the next.
fn send(socket: &UdpSocket, number: usize) -> Result<()> {
    let number = u32::try_from(number)?.to_be_bytes();
    // Whatever still stands in the way, the packet is one that has not arrived.
    if socket.send(&number).is_err() {
        socket.send(&number).map(drop).unwrap_or_default();
    }
    Ok(())
}

fn asker(number: usize) -> Ipv4Addr {
    Ipv4Addr::from_bits(FIRST_ASKER.to_bits() + (number % ASKERS) as u32)
}

/// Who has `vip`, asked by broadcast of the router's.
fn question(asker: Ipv4Addr, vip: Ipv4Addr) -> [u8; 42] {
    let mac = LanAddress::ROUTER.mac();
    let mut frame = [0; 42];
    frame[..6].fill(0xff);
    frame[6..12].copy_from_slice(&mac);
    // ARP: Ethernet, IPv4, their addresses' lengths, a request.
    frame[12..22].copy_from_slice(&[8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    frame[22..28].copy_from_slice(&mac);
    frame[28..32].copy_from_slice(&asker.octets());
    frame[38..42].copy_from_slice(&vip.octets());
    frame
}
