//! What a request's task owes the loop. The machine has one request outstanding per Lease, and waits for its outcome: a task
//! that dies without one must not leave that Lease outstanding for ever.

use std::sync::Arc;

use tokio::sync::mpsc;
use tracing::error;

use super::turn::Outcome;
use crate::report::metrics::Metrics;

/// An outcome that will come: the task's own, or, if the task is dropped without one, that it is lost.
#[derive(Debug)]
pub(super) struct Owed {
    task: &'static str,
    outcomes: mpsc::UnboundedSender<Outcome>,
    metrics: Arc<Metrics>,
    /// `None` once it is settled.
    if_lost: Option<Outcome>,
}

impl Owed {
    /// `task`: what it is called in the log and in metrics.
    pub(super) fn new(
        task: &'static str,
        outcomes: mpsc::UnboundedSender<Outcome>,
        metrics: Arc<Metrics>,
        if_lost: Outcome,
    ) -> Self {
        metrics.task_known(task);
        Self { task, outcomes, metrics, if_lost: Some(if_lost) }
    }

    /// Tells the loop how it ended.
    pub(super) fn settle(mut self, outcome: Outcome) {
        self.if_lost = None;
        // An agent that ends waits for nothing any more.
        let _ = self.outcomes.send(outcome);
    }
}

impl Drop for Owed {
    fn drop(&mut self) {
        if let Some(lost) = self.if_lost.take()
            && self.outcomes.send(lost).is_ok()
        {
            self.metrics.task_restarted(self.task);
            error!(
                task = self.task,
                "A request's task ended without an outcome; it counts as lost, and is made again"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        election::{Answer, Token},
        vocabulary::BootNs,
    };

    #[tokio::test]
    async fn a_request_whose_task_panics_has_an_outcome_and_is_counted() {
        let (outcomes, mut came_back) = mpsc::unbounded_channel();
        let metrics = Arc::new(Metrics::new("bettley", Default::default));
        let lost = || Outcome::Answered(Token(7), None, Box::new(Answer::Lost));
        let owed = Owed::new("lease-request", outcomes.clone(), metrics.clone(), lost());
        let task = tokio::spawn(async move {
            let _owed = owed;
            panic!("a fault of the test");
        });
        task.await.expect_err("a panic");
        let outcome = came_back.recv().await.expect("an outcome");
        assert!(
            matches!(&outcome, Outcome::Answered(Token(7), None, answer) if matches!(**answer, Answer::Lost))
        );
        let text = metrics.render(BootNs::now());
        assert!(text.contains("announcer_task_restarts_total{task=\"lease-request\"} 1\n"), "{text}");

        let owed = Owed::new("lease-request", outcomes, metrics, lost());
        owed.settle(Outcome::Answered(Token(8), None, Box::new(Answer::Conflict)));
        assert!(matches!(came_back.recv().await, Some(Outcome::Answered(Token(8), ..))));
        assert!(came_back.try_recv().is_err(), "one outcome for each");
    }
}
