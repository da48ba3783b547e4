//! Whether the agent lives and is ready, and why not: what `/healthz` and `/readyz` tell the kubelet.

use std::{
    collections::BTreeSet,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::vocabulary::{BootNs, Vip};

/// An API server that says nothing for so long is no hiccup: somebody should look, and a rollout should wait. That an agent
/// is not ready has no other effect: its kernel goes on answering.
const API_SILENCE: Duration = Duration::from_secs(300);

/// How many VIPs a reason names before it only counts.
const NAMED: usize = 5;

/// Shared by the agent's loop, which writes, and the health server, which reads. Each answer is `Ok` or the reason in
/// an operator's words.
#[derive(Debug)]
pub struct Health {
    /// When the loop last completed a turn, in boot-time ns.
    last_turn: AtomicU64,
    limit: Duration,
    readiness: Mutex<Readiness>,
}

/// What readiness depends on, as the loop sees it after a turn.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Readiness {
    /// Every watch has delivered its first list.
    pub synced: bool,
    /// The kernel's deadline; [`BootNs::NONE`] while this node has no live session.
    pub deadline: BootNs,
    /// VIPs held that the running program would not answer for.
    pub unanswered: BTreeSet<Vip>,
    /// Tasks beside the loop that ended, and do not run again yet.
    pub ended: Vec<&'static str>,
    /// For how long the API server has said nothing at all.
    pub api_silent: Duration,
    /// Why pins that the next agent needs are missing and can't be made again.
    pub unpinned: Option<String>,
}

impl Health {
    /// `limit`: how long a turn of the loop may take before the agent counts as wedged. The time until the first turn
    /// counts from `now`.
    pub fn new(limit: Duration, now: BootNs) -> Self {
        Self { last_turn: AtomicU64::new(now.0), limit, readiness: Mutex::default() }
    }

    /// The loop completed a turn.
    pub fn turned(&self, now: BootNs, readiness: Readiness) {
        *self.readiness.lock().unwrap_or_else(PoisonError::into_inner) = readiness;
        self.last_turn.store(now.0, Ordering::Release);
    }

    /// Alive: the loop turns. A wedged agent is restarted, and loses nothing by it: the kernel goes on answering.
    pub fn live(&self, now: BootNs) -> Result<(), String> {
        let since = now.until(BootNs(self.last_turn.load(Ordering::Acquire)));
        if since <= self.limit {
            return Ok(());
        }
        Err(format!("the loop has not turned for {} s (limit {} s)", since.as_secs(), self.limit.as_secs()))
    }

    /// Ready: all that runs beside the loop runs, the cluster is known, the session is live, the API server is heard, and every
    /// VIP held is answered.
    pub fn ready(&self, now: BootNs) -> Result<(), String> {
        self.live(now)?;
        let Readiness { synced, deadline, unanswered, unpinned, ended, api_silent } =
            self.readiness.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if !ended.is_empty() {
            return Err(format!("ended and being started again: {}", ended.join(", ")));
        }
        if !synced {
            return Err("the cluster's objects are not all read yet".to_owned());
        }
        if deadline <= now {
            return Err("this node has no live session: its lease is not renewed".to_owned());
        }
        if api_silent >= API_SILENCE {
            return Err(format!("the API server has said nothing for {} s", api_silent.as_secs()));
        }
        if unanswered.is_empty() {
            return unpinned.map_or(Ok(()), |why| Err(format!("pins are missing: {why}")));
        }
        let mut names: Vec<_> = unanswered.iter().take(NAMED).map(ToString::to_string).collect();
        if unanswered.len() > NAMED {
            names.push(format!("and {} more", unanswered.len() - NAMED));
        }
        Err(format!("held but not answered: {}", names.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(30);
    const START: BootNs = BootNs(1_000_000_000_000);

    fn after(seconds: u64) -> BootNs {
        START + Duration::from_secs(seconds)
    }

    fn good(now: BootNs) -> Readiness {
        Readiness { synced: true, deadline: now + Duration::from_secs(12), ..Readiness::default() }
    }

    #[test]
    fn an_agent_lives_as_long_as_its_loop_turns_in_time() {
        let health = Health::new(LIMIT, START);
        assert_eq!(health.live(after(30)), Ok(()));
        assert_eq!(health.live(after(31)), Err("the loop has not turned for 31 s (limit 30 s)".to_owned()));
        health.turned(after(31), Readiness::default());
        assert_eq!(health.live(after(61)), Ok(()));
    }

    #[test]
    fn a_turn_that_ends_after_the_question_was_asked_is_no_trouble() {
        let health = Health::new(LIMIT, after(5));
        assert_eq!(health.live(START), Ok(()));
    }

    #[test]
    fn an_agent_is_ready_once_it_is_synced_live_and_answers() {
        let health = Health::new(LIMIT, START);
        assert_eq!(health.ready(START), Err("the cluster's objects are not all read yet".to_owned()));
        health.turned(START, Readiness { deadline: BootNs::NONE, ..good(START) });
        assert_eq!(
            health.ready(START),
            Err("this node has no live session: its lease is not renewed".to_owned())
        );
        health.turned(START, good(START));
        assert_eq!(health.ready(START), Ok(()));
    }

    #[test]
    fn readiness_ends_with_the_deadline_without_another_turn() {
        let health = Health::new(LIMIT, START);
        health.turned(START, good(START));
        assert!(health.ready(after(11)).is_ok() && health.ready(after(12)).is_err());
    }

    #[test]
    fn an_agent_without_one_of_its_tasks_is_not_ready_and_says_which() {
        let health = Health::new(LIMIT, START);
        health.turned(START, Readiness { ended: vec!["links", "detector"], ..good(START) });
        assert_eq!(health.ready(START), Err("ended and being started again: links, detector".to_owned()));
        health.turned(START, good(START));
        assert_eq!(health.ready(START), Ok(()));
    }

    #[test]
    fn an_agent_that_holds_on_while_the_api_server_says_nothing_is_not_ready_after_five_minutes() {
        let health = Health::new(LIMIT, START);
        let silent = |seconds| Readiness { api_silent: Duration::from_secs(seconds), ..good(START) };
        health.turned(START, silent(299));
        assert_eq!(health.ready(START), Ok(()));
        health.turned(START, silent(300));
        assert_eq!(health.ready(START), Err("the API server has said nothing for 300 s".to_owned()));
    }

    #[test]
    fn a_wedged_agent_is_not_ready() {
        let health = Health::new(LIMIT, START);
        health.turned(START, good(after(100)));
        assert_eq!(health.ready(after(31)), health.live(after(31)));
    }

    #[test]
    fn an_agent_whose_pins_are_missing_is_not_ready_and_says_why() {
        let health = Health::new(LIMIT, START);
        health
            .turned(START, Readiness { unpinned: Some("/pins is not on a bpffs".to_owned()), ..good(START) });
        assert_eq!(health.ready(START), Err("pins are missing: /pins is not on a bpffs".to_owned()));
    }

    #[test]
    fn the_reason_names_a_few_unanswered_vips() {
        let health = Health::new(LIMIT, START);
        let vips = |n: u8| (1..=n).map(|n| Vip::from(std::net::Ipv4Addr::new(10, 4, 11, n))).collect();
        health.turned(START, Readiness { unanswered: vips(2), ..good(START) });
        assert_eq!(health.ready(START), Err("held but not answered: 10.4.11.1, 10.4.11.2".to_owned()));
        health.turned(START, Readiness { unanswered: vips(7), ..good(START) });
        let five = (1..=5).map(|n| format!("10.4.11.{n}")).collect::<Vec<_>>().join(", ");
        assert_eq!(health.ready(START), Err(format!("held but not answered: {five}, and 2 more")));
    }
}
