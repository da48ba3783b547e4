//! One link in one mode, and a client at its far end that has the tools of the trade.

use std::{net::UdpSocket, time::Duration};

use announcer::{
    datapath::{Attachment, Counters, Datapath, Mode},
    vocabulary::{Link, Mac},
};

use super::{
    Lab, begin,
    bench::{OTHER4, OTHER6, VIP4, VIP6},
    foreign::Foreign,
    frames::Arp,
    link, owning, sh,
    socket::Wire,
    tcpdump::Tcpdump,
    try_sh, vip, wait_for,
};

/// VIP4 and VIP6 owned on `left`, OTHER4 and OTHER6 elsewhere. The stack of `left` has 10.9.0.1 and fd00:9::1.
pub struct Rig {
    pub datapath: Datapath,
    pub left: Link,
    pub right: Link,
    pub lab: Lab,
    /// On `right`: closing a packet socket waits for a grace period, so there is one for all frames.
    wire: Wire,
    /// `XDP_TX` of a veth reaches only a far end that runs XDP, too.
    _far_end: Option<Foreign>,
}

impl Rig {
    /// In a mode that is forced.
    pub fn new(mode: Mode) -> Self {
        let attachment = match mode {
            Mode::Native => Attachment::Native,
            Mode::Tcx => Attachment::Tcx,
            Mode::Generic => Attachment::Generic,
            Mode::Auto => panic!("the link decides"),
        };
        let rig = Self::made(Lab::new(), mode, link);
        assert_eq!(rig.datapath.attachments()[&rig.left.id].0, attachment);
        rig
    }

    /// With `--mode auto`, on a link that pretends to be a NIC: native.
    pub fn auto_on_a_nic() -> Self {
        Self::made(Lab::new(), Mode::Auto, |name| Link { kind: None, ..link(name) })
    }

    fn made(lab: Lab, mode: Mode, see: impl Fn(&str) -> Link) -> Self {
        let right = lab.client.run(|| link("right"));
        let index = right.id.0;
        let native = matches!(mode, Mode::Native | Mode::Auto);
        let far_end = native.then(|| lab.client.run(move || Foreign::passing_xdp(index)));
        let wire = lab.client.run(move || Wire::open(index));
        let left = see("left");
        let mut datapath = Datapath::open(Lab::config(mode)).expect("a datapath");
        let reports = datapath.establish(std::slice::from_ref(&left)).expect("established");
        assert!(datapath.attachments().contains_key(&left.id), "left is attached: {reports:?}");
        begin(&mut datapath, 1);
        let mut rig = Self { datapath, left, right, lab, wire, _far_end: far_end };
        rig.own(&[VIP4, VIP6], &[OTHER4, OTHER6]);
        rig
    }

    /// From now on those VIPs are owned here, those elsewhere, and no other is known.
    pub fn own(&mut self, here: &[&str], elsewhere: &[&str]) {
        let mut owners = owning(here, &[self.left.id]);
        owners.vips.extend(owning(elsewhere, &[]).vips);
        self.datapath.apply(&owners).expect("applied");
    }

    pub fn count(&self, text: &str) -> Counters {
        self.datapath.counters().expect("counters")[&(vip(text), self.left.id)]
    }

    /// A shell command in the client's namespace: whether it worked, and its output.
    pub fn try_client(&self, command: &str) -> (bool, String) {
        let command = command.to_owned();
        self.lab.client.run(move || try_sh(&command))
    }

    /// A shell command in the client's namespace, which must work; its output.
    pub fn client(&self, command: &str) -> String {
        let command = command.to_owned();
        self.lab.client.run(move || sh(&command))
    }

    /// A tcpdump beside the client.
    pub fn tcpdump(&self) -> Tcpdump {
        self.lab.client.run(|| Tcpdump::start("right"))
    }

    /// Sends frames as they are from the client's device.
    pub fn send(&self, frames: impl IntoIterator<Item = Vec<u8>>) {
        frames.into_iter().for_each(|frame| self.wire.send(&frame));
    }

    /// What tcpdump saw until the stack of `left` had answered two requests that were sent after all else: an answer
    /// to what was sent before would be in it.
    pub fn settled(&self, tcpdump: &mut Tcpdump) -> String {
        let mut seen = String::new();
        for sender in ["10.9.0.77", "10.9.0.78"] {
            self.send([Arp { sender, ..Arp::request("10.9.0.1") }.bytes()]);
            let answer = format!("Reply 10.9.0.1 is-at {}", self.left.mac);
            seen += &tcpdump.until(&answer);
        }
        seen
    }

    /// Sends one frame, and says what else came over the wire until all was quiet.
    pub fn answer_to(&self, tcpdump: &mut Tcpdump, frame: Vec<u8>) -> String {
        self.send([frame]);
        self.settled(tcpdump)
    }

    /// The client's kernel sends a datagram to the VIP, for which it has to ask; its neighbour entry once it knows.
    pub fn resolve(&self, address: &'static str) -> String {
        self.lab.client.run(move || send_datagram(address));
        self.neighbour(address, "REACHABLE")
    }

    /// The client's neighbour entry, once it has that state.
    pub fn neighbour(&self, address: &'static str, state: &'static str) -> String {
        self.lab.client.run(move || neighbour("right", address, state))
    }

    /// The client's kernel asks the holder of its neighbour entry whether it is still there, by unicast.
    pub fn probe(&self, address: &str) {
        self.client(&format!("ip neigh replace {address} lladdr {} dev right nud probe", self.left.mac));
    }

    /// What tcpdump prints of an ARP reply that says so.
    pub fn is_at(&self, address: &str) -> String {
        format!("Reply {address} is-at {}", self.left.mac)
    }

    /// What tcpdump prints as an advertisement's target link-layer address, the last line of it.
    pub fn target_option(mac: Mac) -> String {
        format!("destination link-address option (2), length 8 (1): {mac}")
    }
}

/// A datagram from this thread's namespace to a port that nobody listens on.
pub fn send_datagram(address: &str) {
    let any = if address.contains(':') { "[::]:0" } else { "0.0.0.0:0" };
    let socket = UdpSocket::bind(any).expect("a socket");
    socket.send_to(b"hello", (address, 9)).expect("sent");
}

/// This thread's neighbour entry on `device`, once it has that state.
pub fn neighbour(device: &str, address: &str, state: &str) -> String {
    wait_for(Duration::from_secs(5), &format!("{address} {state}"), || {
        let entry = sh(&format!("ip neigh show {address} dev {device}"));
        if entry.contains(state) { Ok(entry) } else { Err(entry) }
    })
}
