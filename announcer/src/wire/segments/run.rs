//! The rim of [`Segments`]: markers out, markers in, beside the agent's loop.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::pending,
    io,
    pin::Pin,
    time::{Duration, Instant},
};

use futures::future::select_all;
use tokio::{sync::watch, task::yield_now, time::sleep_until};
use tracing::warn;

use super::Segments;
use crate::{
    vocabulary::{Link, LinkId},
    wire::{
        frames,
        hearing::{Ear, Family, Interest},
        sender::{Sender, Transmit as _},
    },
};

/// When a link's first markers are sent, after it has come up.
const FIRST: [Duration; 3] = [Duration::ZERO, Duration::from_millis(50), Duration::from_millis(120)];
/// How long a link listens before it answers beside others: a marker takes well under a millisecond.
const LISTEN: Duration = Duration::from_millis(200);
/// From one marker to the next later on.
const INTERVAL: Duration = Duration::from_secs(10);
/// Two links that have not heard each other for so long are on two segments.
const FORGET: Duration = Duration::from_secs(65);
/// Nothing is due: look again then.
const IDLE: Duration = Duration::from_secs(3600);

/// Links that announce and carry.
pub type Watched = BTreeMap<LinkId, Link>;

/// Finds links on one segment, while the future of [`SegmentWatch::run`] is polled.
#[derive(Clone, Debug)]
pub struct SegmentWatch {
    watched: watch::Sender<Watched>,
    found: watch::Sender<Segments>,
}

impl SegmentWatch {
    /// One that watches nothing yet. `answering`: links that the kernel answers on already, and goes on doing so.
    pub fn new(answering: BTreeSet<LinkId>) -> Self {
        let found = Segments { known: answering, ..Segments::default() };
        Self { watched: watch::Sender::default(), found: watch::Sender::new(found) }
    }

    /// Finds for ever. Needs CAP_NET_RAW and a tokio runtime, and uses the network namespace of the threads of that. Whoever does
    /// so after one that was dropped begins with what is known.
    ///
    /// # Errors
    /// A socket cannot be opened.
    pub fn run(&self) -> impl Future<Output = io::Result<()>> + Send + use<> {
        let (mut links, tell) = (self.watched.subscribe(), self.found.clone());
        links.mark_changed();
        async move {
            run(links, tell, Sender::new()?).await;
            Ok(())
        }
    }

    /// Watches these links from now on.
    pub fn watch(&self, links: Watched) {
        self.watched.send_if_modified(|now| {
            let news = *now != links;
            if news {
                *now = links;
            }
            news
        });
    }

    /// What is known, and every change of that.
    pub fn found(&self) -> watch::Receiver<Segments> {
        self.found.subscribe()
    }
}

/// A link that is watched.
struct Place {
    link: Link,
    /// `None`: nobody can be heard there.
    ear: Option<Ear>,
    since: Instant,
    /// Markers sent, the first ones.
    sent: usize,
    next: Instant,
}

#[derive(Default)]
struct Places {
    places: BTreeMap<LinkId, Place>,
    /// When two links last heard each other.
    heard: BTreeMap<(LinkId, LinkId), Instant>,
    /// Links that were known from the start.
    inherited: BTreeSet<LinkId>,
}

async fn run(mut links: watch::Receiver<Watched>, tell: watch::Sender<Segments>, sender: Sender) {
    let mut places = Places { inherited: tell.borrow().known.clone(), ..Places::default() };
    let mut more = false;
    loop {
        tokio::select! {
            changed = links.changed() => {
                if changed.is_err() {
                    return;
                }
                let watched = links.borrow_and_update().clone();
                places.follow(watched, Instant::now());
            }
            () = yield_now(), if more => {}
            () = places.ready(), if !more => {}
            () = sleep_until(places.next_due().into()) => {}
        }
        let now = Instant::now();
        more = places.listen(now);
        places.mark(&sender, now);
        // Nothing is known before the first links are.
        if !places.places.is_empty() {
            let found = places.found(now);
            tell.send_if_modified(|told| {
                let news = *told != found;
                if news {
                    *told = found;
                }
                news
            });
        }
    }
}

impl Places {
    fn follow(&mut self, watched: Watched, now: Instant) {
        self.places.retain(|id, _| watched.contains_key(id));
        for (id, link) in watched {
            match self.places.get_mut(&id) {
                Some(place) => place.link = link,
                None => drop(self.places.insert(id, Place::new(link, now))),
            }
        }
        let places = &self.places;
        self.heard.retain(|(one, other), _| places.contains_key(one) && places.contains_key(other));
        // One that came up later is new, whatever the kernel did before.
        if !places.is_empty() {
            self.inherited.retain(|id| places.contains_key(id));
        }
    }

    async fn ready(&self) {
        let ready = |ear| -> Pin<Box<dyn Future<Output = ()> + Send + '_>> { Box::pin(Ear::ready(ear)) };
        let all: Vec<_> = self.places.values().filter_map(|place| place.ear.as_ref()).map(ready).collect();
        if all.is_empty() { pending().await } else { drop(select_all(all).await) }
    }

    /// Takes in the markers that have arrived; says whether more may be there.
    fn listen(&mut self, now: Instant) -> bool {
        let mut more = false;
        for (id, place) in &self.places {
            let Some(ear) = &place.ear else { continue };
            let turn = ear.frames(|frame| {
                let Some((from, mac)) = frames::read_marker(frame) else { return };
                let ours = self.places.get(&from).is_some_and(|place| place.link.mac == mac);
                if ours && from != *id {
                    self.heard.insert((from.min(*id), from.max(*id)), now);
                }
            });
            more |= turn.is_ok_and(|turn| turn.more);
        }
        self.heard.retain(|_, at| now.saturating_duration_since(*at) < FORGET);
        more
    }

    /// Sends the markers that are due. A link that is alone needs none.
    fn mark(&mut self, sender: &Sender, now: Instant) {
        if self.places.len() < 2 {
            return;
        }
        for place in self.places.values_mut().filter(|place| place.next <= now) {
            // One that cannot be sent now is sent the next time.
            let _ = sender.send(place.link.id, &frames::marker(&place.link));
            place.sent += 1;
            place.next = FIRST.get(place.sent).map_or(now + INTERVAL, |after| place.since + *after);
        }
    }

    fn next_due(&self) -> Instant {
        let now = Instant::now();
        let idle = now + IDLE;
        if self.places.len() < 2 {
            return idle;
        }
        let known = self.places.values().map(|place| place.since + LISTEN).filter(|due| *due > now);
        self.places.values().map(|place| place.next).chain(known).fold(idle, Instant::min)
    }

    fn found(&self, now: Instant) -> Segments {
        let listened = |place: &Place| place.since + LISTEN <= now || place.ear.is_none();
        let known = self.places.iter().filter(|(id, place)| self.inherited.contains(id) || listened(place));
        Segments { known: known.map(|(id, _)| *id).collect(), shared: self.heard.keys().copied().collect() }
    }
}

impl Place {
    fn new(link: Link, now: Instant) -> Self {
        let ear = match Ear::open(link.id, Family::Ipv4, Interest::Markers) {
            Ok(ear) => Some(ear),
            Err(error) => {
                warn!(
                    interface = link.name,
                    %error,
                    "Cannot hear whether another interface of this node is on the same segment"
                );
                None
            }
        };
        Self { link, ear, since: now, sent: 0, next: now }
    }
}
