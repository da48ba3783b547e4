use std::{cell::RefCell, net::Ipv4Addr, num::NonZeroU32};

use super::*;
use crate::vocabulary::Mac;

const LINK: LinkId = LinkId(2);

/// A wire that notes what is sent, and fails as it is told, front first.
#[derive(Default)]
struct Tape {
    sent: RefCell<Vec<(LinkId, Vec<u8>)>>,
    errors: RefCell<Vec<i32>>,
}

impl Transmit for Tape {
    fn send(&self, link: LinkId, frame: &[u8]) -> io::Result<()> {
        if let Some(errno) = self.errors.borrow_mut().pop() {
            return Err(io::Error::from_raw_os_error(errno));
        }
        self.sent.borrow_mut().push((link, frame.to_vec()));
        Ok(())
    }
}

fn vip(n: u8) -> Vip {
    Vip::from(Ipv4Addr::new(10, 4, 11, n))
}

fn links(carrier: bool) -> BTreeMap<LinkId, Link> {
    let link = Link {
        id: LINK,
        name: "eth0".into(),
        mac: Mac([2, 0, 0, 0, 0, 1]),
        kind: None,
        carrier,
        mtu: 1500,
        master: None,
        vlan: None,
        has_global_address: true,
        ipv6_source: None,
    };
    [(LINK, link)].into()
}

fn one_vip(now: Instant) -> Schedule {
    let mut schedule = Schedule::new(NonZeroU32::new(1000).expect("a rate"), Duration::ZERO, 1);
    schedule.announce(vip(1), LINK, now);
    schedule
}

#[test]
fn the_first_announcement_is_sent_whole_and_told_once() {
    let (tape, now) = (Tape::default(), Instant::now());
    let mut schedule = one_vip(now);
    let sent = send_due(&tape, &mut schedule, now, &links(true), |_, _| true);
    assert_eq!(sent, Sent { frames: [(vip(1), 2)].into(), first: vec![(vip(1), LINK)], ..Sent::default() });
    let frames = frames::announcement(vip(1), &links(true)[&LINK]);
    assert_eq!(tape.sent.into_inner(), frames.iter().map(|frame| (LINK, frame.to_vec())).collect::<Vec<_>>());
    let sent = send_due(&Tape::default(), &mut schedule, now + SPACING, &links(true), |_, _| true);
    assert_eq!(sent, Sent { frames: [(vip(1), 2)].into(), ..Sent::default() });
}

#[test]
fn ownership_is_asked_before_every_frame() {
    let (tape, now) = (Tape::default(), Instant::now());
    let mut asked = 0;
    let sent = send_due(&tape, &mut one_vip(now), now, &links(true), |_, _| {
        asked += 1;
        asked == 1
    });
    assert_eq!((asked, tape.sent.into_inner().len()), (2, 1));
    assert_eq!(sent, Sent { frames: [(vip(1), 1)].into(), refused: vec![(vip(1), LINK)], ..Sent::default() });
}

#[test]
fn a_full_queue_postpones_the_announcement() {
    for errno in [libc::EAGAIN, libc::ENOBUFS, libc::ENETDOWN] {
        let (tape, now) = (Tape { errors: vec![errno].into(), ..Tape::default() }, Instant::now());
        let mut schedule = one_vip(now);
        let sent = send_due(&tape, &mut schedule, now, &links(true), |_, _| true);
        assert_eq!(sent, Sent { postponed: vec![(vip(1), LINK)], ..Sent::default() });
        let later = schedule.next_due().expect("it comes again");
        let sent = send_due(&tape, &mut schedule, later, &links(true), |_, _| true);
        assert_eq!(sent.first, [(vip(1), LINK)], "errno {errno}");
    }
}

#[test]
fn an_error_that_will_not_pass_is_reported() {
    let (tape, now) = (Tape { errors: vec![libc::EPERM].into(), ..Tape::default() }, Instant::now());
    let sent = send_due(&tape, &mut one_vip(now), now, &links(true), |_, _| true);
    assert_eq!(sent.failed, [(vip(1), LINK, io::ErrorKind::PermissionDenied)]);
}

#[test]
fn nothing_is_sent_where_there_is_no_carrier() {
    for links in [links(false), BTreeMap::new()] {
        let (tape, now) = (Tape::default(), Instant::now());
        let sent = send_due(&tape, &mut one_vip(now), now, &links, |_, _| true);
        assert_eq!((sent.postponed, tape.sent.into_inner()), (vec![(vip(1), LINK)], vec![]));
    }
}
