//! What the judge has seen, and what follows from it.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use crate::addresses::format_mac;

/// So long before its first answer an owner may have announced itself: a question, on a busy machine.
const ANNOUNCED_BEFORE: Duration = Duration::from_millis(500);

/// One answer to a question of the judge's, or one announcement that nobody had asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// When it came in, counted from the judge's start.
    pub at: Duration,
    /// The address it is about.
    pub vip: IpAddr,
    /// Who has that address.
    pub mac: [u8; 6],
}

/// All that the judge has seen so far.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// Questions asked, per VIP.
    pub asked: BTreeMap<IpAddr, u64>,
    /// Replies to them, in order of arrival.
    pub answers: Vec<Answer>,
    /// Gratuitous ARP in both forms, and unsolicited NA, in order of arrival.
    pub announcements: Vec<Answer>,
    /// How long the judge has been asking.
    pub watched: Duration,
}

impl Verdict {
    /// Replies for `vip`.
    pub fn answered(&self, vip: IpAddr) -> impl Iterator<Item = &Answer> {
        self.answers.iter().filter(move |answer| answer.vip == vip)
    }

    /// Pairs of replies for one VIP, by different MACs, that came within `window` of each other. A VIP
    /// that moves gives one such pair if `window` is longer than the gap; two owners give many.
    pub fn two_macs_within(&self, window: Duration) -> Vec<(Answer, Answer)> {
        let mut last: BTreeMap<IpAddr, BTreeMap<[u8; 6], Answer>> = BTreeMap::new();
        let mut pairs = Vec::new();
        for answer in &self.answers {
            let by_mac = last.entry(answer.vip).or_default();
            let close = |earlier: &&Answer| earlier.mac != answer.mac && answer.at - earlier.at <= window;
            pairs.extend(by_mac.values().filter(close).map(|earlier| (*earlier, *answer)));
            by_mac.insert(answer.mac, *answer);
        }
        pairs
    }

    /// The longest time without a reply for `vip`, from the first reply on (or from the start, if there is
    /// none) to the end.
    pub fn longest_silence(&self, vip: IpAddr) -> Duration {
        let mut times = self.answered(vip).map(|answer| answer.at);
        let Some(mut before) = times.next() else { return self.watched };
        let mut longest = Duration::ZERO;
        for at in times.chain([self.watched]) {
            longest = longest.max(at.saturating_sub(before));
            before = at;
        }
        longest
    }

    /// Who answered for `vip` when: one entry each time that the MAC changed.
    pub fn owners(&self, vip: IpAddr) -> Vec<Answer> {
        let mut owners: Vec<Answer> = Vec::new();
        for answer in self.answered(vip) {
            if owners.last().is_none_or(|owner| owner.mac != answer.mac) {
                owners.push(*answer);
            }
        }
        owners
    }

    /// Announcements of `vip` by a host that had answered for it, after another had begun to: they lead clients to the
    /// wrong host. Whoever takes it back announces it just before it answers, and is none of these.
    pub fn stale_announcements(&self, vip: IpAddr) -> Vec<Answer> {
        let owners = self.owners(vip);
        let stale = |announcement: &&Answer| {
            let begun = owners.iter().take_while(|owner| owner.at <= announcement.at).count();
            let (before, after) = owners.split_at(begun);
            let had_it = before.iter().any(|owner| owner.mac == announcement.mac);
            let has_it = before.last().is_some_and(|owner| owner.mac == announcement.mac);
            let takes_it = after.first().is_some_and(|owner| {
                owner.mac == announcement.mac && owner.at - announcement.at < ANNOUNCED_BEFORE
            });
            had_it && !has_it && !takes_it
        };
        self.announcements.iter().filter(|one| one.vip == vip).filter(stale).copied().collect()
    }

    /// Some lines for people.
    pub fn summary(&self) -> String {
        let mut text = String::new();
        for (vip, asked) in &self.asked {
            let answered = self.answered(*vip).count();
            let silence = self.longest_silence(*vip).as_secs_f64();
            text += &format!("{vip}: asked {asked}, answered {answered}, longest silence {silence:.3} s");
            for owner in self.owners(*vip) {
                text += &format!("; from {:.3} s {}", owner.at.as_secs_f64(), format_mac(owner.mac));
            }
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const VIP: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 4, 11, 1));

    fn answer(milliseconds: u64, last_byte: u8) -> Answer {
        Answer { at: Duration::from_millis(milliseconds), vip: VIP, mac: [2, 0, 0, 0, 0, last_byte] }
    }

    #[test]
    fn two_owners_at_once_are_seen_and_a_move_after_the_window_is_not() {
        let moved =
            Verdict { answers: vec![answer(0, 1), answer(20, 1), answer(900, 2)], ..Verdict::default() };
        assert!(moved.two_macs_within(Duration::from_millis(100)).is_empty());
        assert_eq!(moved.owners(VIP), [answer(0, 1), answer(900, 2)]);

        let both = Verdict { answers: vec![answer(0, 1), answer(1, 2), answer(20, 1)], ..Verdict::default() };
        let expected = [(answer(0, 1), answer(1, 2)), (answer(1, 2), answer(20, 1))];
        assert_eq!(both.two_macs_within(Duration::from_millis(100)), expected);
    }

    #[test]
    fn an_announcement_is_stale_once_another_has_answered_and_the_announcer_does_not_take_it_back() {
        let verdict = Verdict {
            answers: vec![answer(0, 1), answer(900, 2), answer(2000, 1)],
            // By its owner; by its successor before the first answer; late; by its next owner; by the one before that.
            announcements: vec![
                answer(500, 1),
                answer(890, 2),
                answer(901, 1),
                answer(1990, 1),
                answer(2100, 2),
                answer(2200, 1),
            ],
            ..Verdict::default()
        };
        assert_eq!(verdict.stale_announcements(VIP), [answer(901, 1), answer(2100, 2)]);
    }

    #[test]
    fn silence_lasts_until_the_end_of_the_watch() {
        let verdict = Verdict {
            answers: vec![answer(100, 1), answer(150, 1)],
            watched: Duration::from_millis(1000),
            ..Verdict::default()
        };
        assert_eq!(verdict.longest_silence(VIP), Duration::from_millis(850));
        assert_eq!(Verdict { answers: vec![], ..verdict }.longest_silence(VIP), Duration::from_millis(1000));
    }
}
