//! One link with two owned VIPs and two that are elsewhere, and the live programs to ask.

use announcer::{
    datapath::{Counters, Datapath, Mode},
    vocabulary::Link,
};

use super::{
    Lab, owning, pin_root,
    programs::{Live, Said},
    vip,
};

pub const VIP4: &str = "10.9.0.100";
pub const VIP6: &str = "fd00:9::100";
pub const OTHER4: &str = "10.9.0.101";
pub const OTHER6: &str = "fd00:9::101";

/// VIP4 and VIP6 owned, OTHER4 and OTHER6 elsewhere.
pub struct Bench {
    pub datapath: Datapath,
    pub left: Link,
    pub live: Live,
    _lab: Lab,
}

impl Bench {
    pub fn new() -> Self {
        let lab = Lab::new();
        let (mut datapath, left) = lab.answering(Mode::Tcx, &[VIP4, VIP6]);
        let mut owners = owning(&[VIP4, VIP6], &[left.id]);
        owners.vips.extend(owning(&[OTHER4, OTHER6], &[]).vips);
        datapath.apply(&owners).expect("applied");
        let live = Live::open(&pin_root());
        Self { datapath, left, live, _lab: lab }
    }

    pub fn said(&self, frame: &[u8]) -> Said {
        self.live.both(self.left.id.0, frame)
    }

    pub fn mac(&self) -> [u8; 6] {
        self.left.mac.0
    }

    pub fn count(&self, text: &str) -> Counters {
        self.datapath.counters().expect("counters")[&(vip(text), self.left.id)]
    }
}
