//! A client that never stops asking.

use std::{collections::BTreeSet, sync::mpsc};

use super::{Client, frames::Arp, link, socket::Wire};

/// Asks for a VIP in bursts, without a pause, and knows of every question that stayed without an answer.
pub struct Asker {
    stop: mpsc::Sender<()>,
    result: mpsc::Receiver<Asked>,
}

/// What an [`Asker`] saw.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Asked {
    pub sent: u64,
    pub answered: u64,
    /// Hardware addresses that answered.
    pub macs: BTreeSet<[u8; 6]>,
}

impl Asker {
    const AT_ONCE: u16 = 64;

    /// Starts asking for an IPv4 VIP from the client's `right`, in bursts.
    pub fn start(client: &Client, vip: &'static str) -> Self {
        let (stop, stopped) = mpsc::channel();
        let (ready, begun) = mpsc::channel();
        let result = client.start(move || {
            let wire = Wire::open(link("right").id.0);
            let mut asked = Asked::default();
            while stopped.try_recv() == Err(mpsc::TryRecvError::Empty) {
                for number in 0..Self::AT_ONCE {
                    wire.send(&Self::request(vip, number));
                }
                asked.sent += u64::from(Self::AT_ONCE);
                let mut open: BTreeSet<u16> = (0..Self::AT_ONCE).collect();
                while !open.is_empty() {
                    let Some(frame) =
                        wire.receive(|frame| frame.get(12..14) == Some(&[8, 6]) && frame[21] == 2)
                    else {
                        break;
                    };
                    // The number is in the address that the answer is for.
                    if open.remove(&u16::from_be_bytes([frame[40], frame[41]])) {
                        asked.answered += 1;
                        asked.macs.insert(frame[22..28].try_into().expect("six bytes"));
                    }
                }
                ready.send(()).unwrap_or_default();
            }
            asked
        });
        begun.recv().expect("the first burst");
        Self { stop, result }
    }

    pub fn stop(self) -> Asked {
        drop(self.stop);
        self.result.recv().expect("the asker's result")
    }

    fn request(vip: &'static str, number: u16) -> Vec<u8> {
        let mut frame = Arp::request(vip).bytes();
        let [high, low] = number.to_be_bytes();
        frame[28..32].copy_from_slice(&[10, 9, high, low]);
        frame
    }
}
