use std::net::Ipv4Addr;

use super::*;

const LINK: LinkId = LinkId(2);
const OTHER_LINK: LinkId = LinkId(3);
const PERIOD: Duration = Duration::from_secs(120);

fn vip(n: u32) -> Vip {
    Vip::from(Ipv4Addr::from(0x0a04_0b00 + n))
}

fn schedule(rate: u32, period: Duration) -> Schedule {
    Schedule::new(NonZeroU32::new(rate).expect("a rate"), period, 7)
}

/// Runs the schedule up to and including `end`, as a loop that sleeps until `next_due` would.
fn run(schedule: &mut Schedule, start: Instant, end: Duration) -> Vec<(Duration, Announcement)> {
    let mut seen = Vec::new();
    while let Some(now) = schedule.next_due().filter(|due| *due <= start + end) {
        let announcement = schedule.pop_due(now).expect("next_due promised one");
        seen.push((now - start, announcement));
    }
    seen
}

fn times(seen: &[(Duration, Announcement)], of: Vip) -> Vec<u128> {
    seen.iter().filter(|(_, a)| a.vip == of).map(|(at, _)| at.as_millis()).collect()
}

#[test]
fn a_taken_vip_is_announced_in_five_rounds() {
    let (mut schedule, start) = (schedule(1000, Duration::ZERO), Instant::now());
    schedule.announce(vip(1), LINK, start);
    let seen = run(&mut schedule, start, Duration::from_secs(3600));
    assert_eq!(times(&seen, vip(1)), [0, 1100, 2200, 3300, 4400]);
    assert_eq!(seen.iter().map(|(_, a)| a.round).collect::<Vec<_>>(), [0, 1, 2, 3, 4].map(Round::Burst));
}

#[test]
fn reminders_follow_the_rounds_within_a_tenth_of_the_period() {
    let (mut schedule, start) = (schedule(1000, PERIOD), Instant::now());
    schedule.announce(vip(1), LINK, start);
    let reminders = run(&mut schedule, start, 100 * PERIOD).split_off(5);
    assert!(reminders.len() >= 90 && reminders.iter().all(|(_, a)| a.round == Round::Periodic));
    let gaps: Vec<_> = reminders.windows(2).map(|pair| (pair[1].0 - pair[0].0).as_secs_f64()).collect();
    assert!(gaps.iter().all(|gap| (108.0..=132.0).contains(gap)), "{gaps:?}");
    assert!(
        gaps.iter().any(|gap| *gap < 114.0) && gaps.iter().any(|gap| *gap > 126.0),
        "no jitter: {gaps:?}"
    );
}

#[test]
fn two_seeds_do_not_remind_in_step() {
    let start = Instant::now();
    let [one, two] = [1, 2].map(|seed| {
        let mut schedule = Schedule::new(NonZeroU32::MIN, PERIOD, seed);
        schedule.announce(vip(1), LINK, start);
        run(&mut schedule, start, 2 * PERIOD)[5].0
    });
    assert_ne!(one, two);
}

#[test]
fn nothing_is_announced_after_withdrawal() {
    let (mut schedule, start) = (schedule(1000, PERIOD), Instant::now());
    schedule.announce(vip(1), LINK, start);
    schedule.pop_due(start);
    schedule.withdraw(vip(1), LINK);
    assert_eq!((schedule.next_due(), schedule.is_empty()), (None, true));
}

#[test]
fn announcing_again_starts_the_rounds_anew() {
    let (mut schedule, start) = (schedule(1000, Duration::ZERO), Instant::now());
    schedule.announce(vip(1), LINK, start);
    run(&mut schedule, start, Duration::from_millis(2500));
    schedule.announce(vip(1), LINK, start + Duration::from_millis(2500));
    let seen = run(&mut schedule, start, Duration::from_secs(60));
    assert_eq!(times(&seen, vip(1)), [2500, 3600, 4700, 5800, 6900]);
}

#[test]
fn a_link_that_comes_up_starts_its_vips_and_no_others() {
    let (mut schedule, start) = (schedule(1000, Duration::ZERO), Instant::now());
    schedule.announce(vip(1), LINK, start);
    schedule.announce(vip(2), LINK, start);
    schedule.announce(vip(3), OTHER_LINK, start);
    run(&mut schedule, start, Duration::from_secs(10));
    schedule.link_up(LINK, start + Duration::from_secs(20));
    let seen = run(&mut schedule, start, Duration::from_secs(20));
    assert_eq!(
        seen.iter().map(|(_, a)| (a.vip, a.link, a.round)).collect::<Vec<_>>(),
        [(vip(1), LINK, Round::Burst(0)), (vip(2), LINK, Round::Burst(0))]
    );
}

#[test]
fn a_link_that_is_gone_takes_its_vips_along() {
    let (mut schedule, start) = (schedule(1000, PERIOD), Instant::now());
    schedule.announce(vip(1), LINK, start);
    schedule.announce(vip(1), OTHER_LINK, start);
    schedule.link_gone(LINK);
    assert_eq!(schedule.pop_due(start).map(|a| a.link), Some(OTHER_LINK));
    assert_eq!(schedule.len(), 1);
}

#[test]
fn every_first_announcement_of_10_000_comes_before_any_second() {
    let (mut schedule, start) = (schedule(2000, PERIOD), Instant::now());
    (0..10_000).for_each(|n| schedule.announce(vip(n), LINK, start));
    let seen = run(&mut schedule, start, Duration::from_secs(60));
    let first_second = seen.iter().position(|(_, a)| a.round == Round::Burst(1)).expect("a second round");
    assert_eq!(first_second, 10_000);
    assert!(seen[..10_000].iter().all(|(_, a)| a.round == Round::Burst(0)));
}

#[test]
fn a_newcomer_overtakes_the_second_rounds_of_the_others() {
    let (mut schedule, start) = (schedule(100, PERIOD), Instant::now());
    (0..1000).for_each(|n| schedule.announce(vip(n), LINK, start));
    let before = run(&mut schedule, start, Duration::from_secs(30));
    assert_eq!(before.last().map(|(_, a)| a.round), Some(Round::Burst(1)));
    schedule.announce(vip(5000), LINK, start + Duration::from_secs(30));
    let after = run(&mut schedule, start, Duration::from_secs(31));
    assert_eq!(after[0].1, Announcement { vip: vip(5000), link: LINK, round: Round::Burst(0) });
}

#[test]
fn a_parked_vip_waits_for_its_link_and_costs_the_others_nothing() {
    let (mut schedule, start) = (schedule(1, PERIOD), Instant::now());
    schedule.announce(vip(1), LINK, start);
    schedule.announce(vip(2), OTHER_LINK, start);
    let first = schedule.pop_due(start).expect("due");
    schedule.park(first);
    assert_eq!(schedule.pop_due(start).map(|a| a.vip), Some(vip(2)));
    let seen = run(&mut schedule, start, 10 * PERIOD);
    assert_eq!(times(&seen, vip(1)), [], "parked");
    schedule.link_up(LINK, start + 20 * PERIOD);
    assert_eq!(schedule.pop_due(start + 20 * PERIOD).map(|a| a.vip), Some(vip(1)));
}

#[test]
fn the_rate_holds_in_every_second() {
    let (mut schedule, start) = (schedule(500, PERIOD), Instant::now());
    (0..2_000).for_each(|n| schedule.announce(vip(n), LINK, start));
    let seen = run(&mut schedule, start, Duration::from_secs(60));
    let mut oldest = 0;
    for (index, (at, _)) in seen.iter().enumerate() {
        while seen[oldest].0 + Duration::from_secs(1) <= *at {
            oldest += 1;
        }
        let frames = 2 * (index - oldest + 1);
        assert!(frames <= 500 + 25 + 2, "{frames} frames in the second before {at:?}");
    }
    let all = times(&seen, vip(1_999));
    assert!((7_900..=8_000).contains(&all[0]), "the last first at {} ms of 4 000 frames / 500 per s", all[0]);
}

#[test]
fn rounds_of_a_late_vip_keep_their_distance() {
    let (mut schedule, start) = (schedule(100, Duration::ZERO), Instant::now());
    (0..200).for_each(|n| schedule.announce(vip(n), LINK, start));
    let seen = run(&mut schedule, start, Duration::from_secs(600));
    for n in 0..200 {
        let at = times(&seen, vip(n));
        assert_eq!(at.len(), 5);
        assert!(at.windows(2).all(|pair| pair[1] - pair[0] >= 1100), "{at:?}");
    }
}

#[test]
fn what_could_not_be_sent_comes_again_in_its_round() {
    let (mut schedule, start) = (schedule(1000, Duration::ZERO), Instant::now());
    schedule.announce(vip(1), LINK, start);
    let first = schedule.pop_due(start).expect("due");
    schedule.again(first, start + Duration::from_millis(100));
    let seen = run(&mut schedule, start, Duration::from_secs(60));
    assert_eq!(times(&seen, vip(1)), [100, 1200, 2300, 3400, 4500]);
}

#[test]
fn what_was_withdrawn_meanwhile_does_not_come_again() {
    let (mut schedule, start) = (schedule(1000, Duration::ZERO), Instant::now());
    schedule.announce(vip(1), LINK, start);
    let first = schedule.pop_due(start).expect("due");
    schedule.withdraw(vip(1), LINK);
    schedule.again(first, start);
    assert_eq!(schedule.next_due(), None);
}

#[test]
fn a_failed_late_round_does_not_hold_up_a_new_start() {
    let (mut schedule, start) = (schedule(1000, Duration::ZERO), Instant::now());
    schedule.announce(vip(1), LINK, start);
    schedule.pop_due(start);
    let second = schedule.pop_due(start + SPACING).expect("due");
    schedule.announce(vip(1), LINK, start + SPACING);
    schedule.again(second, start + 2 * SPACING);
    assert_eq!(schedule.pop_due(start + SPACING).map(|a| a.round), Some(Round::Burst(0)));
}

#[test]
fn a_claim_by_another_host_is_answered_once_in_ten_seconds() {
    let (mut schedule, start) = (schedule(1000, PERIOD), Instant::now());
    schedule.announce(vip(1), LINK, start);
    run(&mut schedule, start, Duration::from_secs(10));
    let at = |seconds| start + Duration::from_secs(seconds);
    assert!(schedule.defend(vip(1), LINK, at(20)));
    assert!(schedule.pop_due(at(20)).is_some());
    assert!(!schedule.defend(vip(1), LINK, at(29)));
    assert!(schedule.defend(vip(1), LINK, at(30)));
}

#[test]
fn the_five_rounds_are_defence_enough() {
    let (mut schedule, start) = (schedule(1000, PERIOD), Instant::now());
    schedule.announce(vip(1), LINK, start);
    assert!(!schedule.defend(vip(1), LINK, start));
    assert!(!schedule.defend(vip(2), LINK, start), "a VIP that is not announced is not defended");
}
