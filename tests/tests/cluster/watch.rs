//! A judge on a lab, and the sentences that tests say about what it has seen.

use std::{net::IpAddr, time::Duration};

use announcer_tests::{Answer, Judge, Node, Verdict, wait};
use anyhow::{Context as _, Result};

use super::{ONE_QUESTION, assert_one_owner_at_a_time, bare::Lab};

/// Until everything is answered that is to be answered at the start.
const FIRST_ANSWERS: Duration = Duration::from_secs(25);
/// Cordon, selectors, a lost carrier, whatever its owner can hand over: a release, a claim, and what the watches take in
/// between. 50 to 150 ms on a quiet machine.
pub(crate) const HANDOVER: Duration = Duration::from_secs(2);
/// Clusters of up to 100 nodes.
pub(crate) const LEASE: Duration = Duration::from_secs(15);
/// R + 10 %, rounded up.
pub(crate) const RENEWAL: Duration = Duration::from_secs(6);
/// When the kernel falls silent: D − M.
pub(crate) const DEADLINE: Duration = Duration::from_millis(13_500);
/// M, in which the kernel is silent already, then the turn of an observer, the write, the rank's turn, the claim.
pub(crate) const LAPSE: Duration = Duration::from_secs(4);
/// D after the last renewal, then the turn of an observer, the write, three probes, the claim: on two busy cores.
pub(crate) const FAILOVER: Duration = Duration::from_secs(18);

/// A judge at work.
pub(crate) struct Watch<'l> {
    lab: &'l Lab,
    judge: Judge,
    vips: Vec<IpAddr>,
}

/// What it has seen from the first moment at which everything was answered.
pub(crate) struct Story {
    verdict: Verdict,
}

impl<'l> Watch<'l> {
    pub(crate) fn start(lab: &'l Lab, vips: &[IpAddr]) -> Result<Self> {
        let early = lab.cluster.judge(vips)?;
        vips.iter().try_for_each(|vip| early.wait_answer(*vip, FIRST_ANSWERS).map(drop))?;
        drop(early);
        let judge = lab.cluster.judge(vips)?;
        vips.iter().try_for_each(|vip| judge.wait_answer(*vip, Duration::from_secs(5)).map(drop))?;
        Ok(Self { lab, judge, vips: vips.to_vec() })
    }

    /// The same, and watches `beside`, which nobody need answer for.
    pub(crate) fn start_beside(lab: &'l Lab, vips: &[IpAddr], beside: &[IpAddr]) -> Result<Self> {
        let mut watch = Self::start(lab, vips)?;
        watch.judge = lab.cluster.judge(&[vips, beside].concat())?;
        vips.iter().try_for_each(|vip| watch.judge.wait_answer(*vip, Duration::from_secs(5)).map(drop))?;
        Ok(watch)
    }

    /// The judge's clock.
    pub(crate) fn now(&self) -> Duration {
        self.judge.now()
    }

    /// Who answered last.
    pub(crate) fn owner(&self, vip: IpAddr) -> Result<&'l Node> {
        let mac = self.last(vip).with_context(|| format!("an answer for {vip}"))?.mac;
        self.lab.cluster.node_with_mac(mac).context("the answer of a node's eth0")
    }

    /// Who answers for each, now.
    pub(crate) fn owners(&self) -> Result<Vec<(IpAddr, &'l Node)>> {
        self.vips.iter().map(|vip| Ok((*vip, self.owner(*vip)?))).collect()
    }

    /// Who answered first for each.
    pub(crate) fn first_owners(&self) -> Result<Vec<(IpAddr, &'l Node)>> {
        let verdict = self.judge.so_far();
        let first = |vip: &IpAddr| {
            let answer = verdict.answered(*vip).next().context("an answer")?;
            Ok((*vip, self.lab.cluster.node_with_mac(answer.mac).context("a node's eth0")?))
        };
        self.vips.iter().map(first).collect()
    }

    fn last(&self, vip: IpAddr) -> Option<Answer> {
        self.judge.so_far().answered(vip).last().copied()
    }

    /// Waits until a node other than `old` answers; which.
    pub(crate) fn moved(&self, vip: IpAddr, old: &Node, limit: Duration) -> Result<&'l Node> {
        self.moved_from(vip, old.mac(), limit).with_context(|| format!("after {}", old.name()))?;
        self.owner(vip)
    }

    /// Waits until somebody answers with another MAC than `old`; which.
    pub(crate) fn moved_from(&self, vip: IpAddr, old: [u8; 6], limit: Duration) -> Result<[u8; 6]> {
        let what = format!("an answer for {vip} with another MAC than {old:02x?}");
        wait::until(&what, limit, || Ok(self.last(vip).map(|answer| answer.mac).filter(|mac| *mac != old)))
    }

    /// With which MAC it was answered last.
    pub(crate) fn last_mac(&self, vip: IpAddr) -> Result<[u8; 6]> {
        Ok(self.last(vip).with_context(|| format!("an answer for {vip}"))?.mac)
    }

    /// Waits until `node` answers.
    pub(crate) fn answered_by(&self, vip: IpAddr, node: &Node, limit: Duration) -> Result<()> {
        self.answered_with(vip, node.mac(), limit)
    }

    /// Waits until somebody answers with this MAC.
    pub(crate) fn answered_with(&self, vip: IpAddr, mac: [u8; 6], limit: Duration) -> Result<()> {
        let what = format!("an answer for {vip} with {mac:02x?}");
        wait::until(&what, limit, || Ok(self.last(vip).filter(|answer| answer.mac == mac).map(|_| ())))
    }

    /// Waits until nobody has answered for that long.
    pub(crate) fn silent(&self, vip: IpAddr, length: Duration, limit: Duration) -> Result<()> {
        let what = format!("silence about {vip}");
        wait::until(&what, limit, || {
            let last = self.last(vip).map_or(Duration::ZERO, |answer| answer.at);
            Ok((self.now() >= last + length).then_some(()))
        })
    }

    /// Waits until somebody answers from now on.
    pub(crate) fn answered(&self, vip: IpAddr, limit: Duration) -> Result<()> {
        self.judge.wait_answer(vip, limit).map(drop)
    }

    /// Goes on watching for a while: for what must not happen.
    pub(crate) fn go_on_for(&self, length: Duration) {
        std::thread::sleep(length);
    }

    /// Ends it, and prints what it saw under the name of what had been done.
    pub(crate) fn finish(self, fault: &str) -> Result<Story> {
        // What was done last may show only now.
        let enough = self.now() + 10 * Judge::EVERY;
        wait::until("some more questions", Duration::from_secs(5), || {
            Ok((self.now() > enough).then_some(()))
        })?;
        let verdict = self.judge.finish()?;
        print!("{fault}:\n{}", verdict.summary());
        Ok(Story { verdict })
    }
}

impl Story {
    /// The same node all the time, and no question left unanswered.
    pub(crate) fn stayed(&self, vip: IpAddr, node: &Node) {
        assert_one_owner_at_a_time(&self.verdict, vip, &[node.mac()]);
        let asked = self.verdict.asked[&vip];
        let answered = self.verdict.answered(vip).count() as u64;
        // The last question may still be on its way when the judge stops.
        assert!(asked.saturating_sub(answered) <= 1, "{vip} went unanswered:\n{}", self.verdict.summary());
    }

    /// Each of these went on as it was.
    pub(crate) fn all_stayed(&self, owners: &[(IpAddr, &Node)]) {
        owners.iter().for_each(|(vip, node)| self.stayed(*vip, node));
    }

    /// From each of these nodes to the next, one at a time, and never unanswered for longer than `limit`.
    pub(crate) fn moved(&self, vip: IpAddr, nodes: &[&Node], limit: Duration) {
        let macs: Vec<_> = nodes.iter().map(|node| node.mac()).collect();
        self.had(vip, &macs);
        let silence = self.verdict.longest_silence(vip);
        assert!(silence <= limit, "{vip} was silent for {silence:?}:\n{}", self.verdict.summary());
    }

    /// Whoever answered, no two did at once, and none came back after another.
    pub(crate) fn one_at_a_time(&self, vip: IpAddr) {
        let mut macs: Vec<_> = self.verdict.owners(vip).iter().map(|answer| answer.mac).collect();
        let seen = macs.clone();
        macs.sort_unstable();
        macs.dedup();
        assert_eq!(macs.len(), seen.len(), "{vip} went back and forth:\n{}", self.verdict.summary());
        self.had(vip, &seen);
    }

    /// These MACs answered, in this order, one at a time, whatever the silence in between.
    pub(crate) fn had(&self, vip: IpAddr, macs: &[[u8; 6]]) {
        assert_one_owner_at_a_time(&self.verdict, vip, macs);
    }

    /// The longest time without an answer.
    pub(crate) fn silence(&self, vip: IpAddr) -> Duration {
        self.verdict.longest_silence(vip)
    }

    /// The last answer before the longest silence that ended, and the first one after it; `None` if it was short.
    pub(crate) fn gap(&self, vip: IpAddr) -> Option<(Duration, Duration)> {
        let times: Vec<_> = self.verdict.answered(vip).map(|answer| answer.at).collect();
        let gaps = times.windows(2).map(|pair| (pair[0], pair[1]));
        gaps.max_by_key(|(from, to)| *to - *from).filter(|(from, to)| *to - *from > HANDOVER)
    }

    /// Of the nodes this one alone answered, whatever other hosts did.
    pub(crate) fn nodes_had(&self, vip: IpAddr, lab: &Lab, node: &Node) {
        let others = |mac| lab.cluster.node_with_mac(mac).is_some_and(|other| other.name() != node.name());
        let by_others = self.verdict.answered(vip).filter(|answer| others(answer.mac)).count();
        assert_eq!(by_others, 0, "{}", self.verdict.summary());
    }

    /// When two answered one question.
    pub(crate) fn answered_by_two(&self, vip: IpAddr) -> Vec<Duration> {
        let pairs = self.verdict.two_macs_within(ONE_QUESTION);
        pairs.into_iter().filter(|(one, _)| one.vip == vip).map(|(_, other)| other.at).collect()
    }

    /// Who answered last.
    pub(crate) fn ended_with(&self, vip: IpAddr, node: &Node) {
        let last = self.verdict.answered(vip).last().map(|answer| answer.mac);
        assert_eq!(last, Some(node.mac()), "{}", self.verdict.summary());
    }

    /// When this node answered last; `None`: never.
    pub(crate) fn last_answer(&self, vip: IpAddr, node: &Node) -> Option<Duration> {
        self.verdict.answered(vip).filter(|answer| answer.mac == node.mac()).map(|answer| answer.at).last()
    }

    /// Nobody answered in between.
    pub(crate) fn silent_between(&self, vip: IpAddr, from: Duration, to: Duration) {
        let there = self.verdict.answered(vip).filter(|answer| answer.at > from && answer.at < to).count();
        assert_eq!(there, 0, "{vip} was answered after {from:?}:\n{}", self.verdict.summary());
    }

    /// Nobody ever answered for these.
    pub(crate) fn never_answered(&self, vips: &[IpAddr]) {
        vips.iter().for_each(|vip| self.silent_from(*vip, Duration::ZERO));
    }

    /// Nobody answered after that moment.
    pub(crate) fn silent_from(&self, vip: IpAddr, moment: Duration) {
        let late = self.verdict.answered(vip).filter(|answer| answer.at > moment).count();
        assert_eq!(late, 0, "{vip} was answered after {moment:?}:\n{}", self.verdict.summary());
    }
}
