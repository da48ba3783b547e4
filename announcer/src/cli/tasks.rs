//! What runs beside a loop. Each task has a name and is watched: one that ends, by a panic or by itself, is logged and
//! started again, ever more rarely if it ends again.
//!
//! A loop that cannot hear is as bad as one that does not turn, and harder to see: its own health says that all is well.
//! So whoever owns the loop polls [`Tasks::next`] in it, and asks [`Tasks::down`] before it calls itself ready.

use std::{future::Future, thread, time::Duration};

use anyhow::Context as _;
use futures::future::{BoxFuture, FutureExt as _};
use tokio::{
    sync::{oneshot, watch},
    task::{AbortHandle, Id, JoinError, JoinSet},
    time::{Instant, sleep_until},
};
use tracing::{error, info};

/// Before a task that ended is started again: at first, and at most. The pause doubles each time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Tasks that last as long as this does.
#[derive(Default)]
pub(super) struct Tasks {
    running: JoinSet<anyhow::Result<()>>,
    tasks: Vec<Task>,
}

struct Task {
    name: &'static str,
    /// Makes the task anew, with all that it needs.
    make: Box<dyn FnMut() -> BoxFuture<'static, anyhow::Result<()>> + Send>,
    state: State,
    /// How long the next end keeps it from being started again.
    pause: Duration,
}

enum State {
    /// It runs. `proven`: when it has run for as long as the pause before it lasted; `None`: it has.
    Running { handle: AbortHandle, since: Instant, proven: Option<Instant> },
    /// It ended, and is started again then.
    Ended { again: Instant },
    /// It ended and is not wanted any more.
    Finished,
}

/// What [`Tasks::next`] waited for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Change {
    /// A task ended.
    Ended,
    /// This one was started again.
    Restarted(&'static str),
    /// One that was started again has run long enough to count as well.
    Well,
}

impl Tasks {
    /// Starts `make()`, and again whenever that ends. Needs a tokio runtime.
    pub(super) fn start<F>(&mut self, name: &'static str, mut make: impl FnMut() -> F + Send + 'static)
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let mut make: Box<dyn FnMut() -> BoxFuture<'static, _> + Send> = Box::new(move || make().boxed());
        let handle = self.running.spawn(make());
        let state = State::Running { handle, since: Instant::now(), proven: None };
        self.tasks.push(Task { name, make, state, pause: FIRST_PAUSE });
    }

    /// Every task's name.
    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.tasks.iter().map(|task| task.name)
    }

    /// The tasks that do not run, or have not yet run for as long as the pause before it lasted: one that ends again and
    /// again is never well.
    pub(super) fn down(&self) -> Vec<&'static str> {
        let well = |state: &State| matches!(state, State::Running { proven: None, .. } | State::Finished);
        self.tasks.iter().filter(|task| !well(&task.state)).map(|task| task.name).collect()
    }

    /// Waits for a task to end, or starts one again that ended. May be dropped at any time.
    pub(super) async fn next(&mut self) -> Change {
        loop {
            let due = self.tasks.iter().filter_map(|task| task.state.due()).min();
            tokio::select! {
                Some(ended) = self.running.join_next_with_id() => {
                    self.ended(ended);
                    return Change::Ended;
                }
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    if let Some(change) = self.go_on(Instant::now()) {
                        return change;
                    }
                }
                else => std::future::pending().await,
            }
        }
    }

    /// Ends a task as a fault would, for tests of what follows. Whether there is one of this name.
    pub(super) fn kill(&self, name: &str) -> bool {
        let Some(task) = self.tasks.iter().find(|task| task.name == name) else { return false };
        if let State::Running { handle, .. } = &task.state {
            handle.abort();
        }
        true
    }

    /// Waits until a task has ended that was told to, and does not start it again.
    pub(super) async fn finish(&mut self, name: &str) {
        let running = |task: &Task| task.name == name && matches!(task.state, State::Running { .. });
        while self.tasks.iter().any(running) {
            let Some(ended) = self.running.join_next_with_id().await else { break };
            self.ended_quietly(ended, name);
        }
        for task in self.tasks.iter_mut().filter(|task| task.name == name) {
            task.state = State::Finished;
        }
    }

    fn ended(&mut self, ended: Result<(Id, anyhow::Result<()>), JoinError>) {
        self.ended_quietly(ended, "");
    }

    /// `expected`: the task that may end.
    fn ended_quietly(&mut self, ended: Result<(Id, anyhow::Result<()>), JoinError>, expected: &str) {
        let (id, why) = match ended {
            Ok((id, Ok(()))) => (id, "it returned".to_owned()),
            Ok((id, Err(error))) => (id, format!("{error:#}")),
            Err(error) if error.is_cancelled() => (error.id(), "it was killed".to_owned()),
            Err(error) => (error.id(), "it panicked; the line before this one says where".to_owned()),
        };
        let Some(task) = self.tasks.iter_mut().find(|task| task.state.is(id)) else { return };
        if task.name == expected {
            task.state = State::Finished;
            return;
        }
        let now = Instant::now();
        if let State::Running { since, .. } = task.state
            && now - since >= LONGEST_PAUSE
        {
            task.pause = FIRST_PAUSE;
        }
        let again_in_ms = task.pause.as_millis() as u64;
        error!(
            task = task.name,
            error = why,
            again_in_ms,
            "A task beside the loop ended; it is started again"
        );
        task.state = State::Ended { again: now + task.pause };
    }

    /// One step of one task whose time has come.
    fn go_on(&mut self, now: Instant) -> Option<Change> {
        let task = self.tasks.iter_mut().find(|task| task.state.due().is_some_and(|due| due <= now))?;
        match &mut task.state {
            State::Running { proven, .. } => {
                *proven = None;
                info!(task = task.name, "A task beside the loop runs again");
                Some(Change::Well)
            }
            State::Ended { .. } => {
                let handle = self.running.spawn((task.make)());
                task.state = State::Running { handle, since: now, proven: Some(now + task.pause) };
                task.pause = (task.pause * 2).min(LONGEST_PAUSE);
                Some(Change::Restarted(task.name))
            }
            State::Finished => None,
        }
    }
}

impl State {
    /// When something is to be done about it.
    fn due(&self) -> Option<Instant> {
        match self {
            Self::Running { proven, .. } => *proven,
            Self::Ended { again } => Some(*again),
            Self::Finished => None,
        }
    }

    fn is(&self, id: Id) -> bool {
        matches!(self, Self::Running { handle, .. } if handle.id() == id)
    }
}

/// For work on a thread of its own: whether anybody still waits for it.
#[derive(Debug)]
pub(super) struct Leash(watch::Receiver<()>);

impl Leash {
    /// Nobody does: the work is to end.
    pub(super) fn is_slipped(&self) -> bool {
        self.0.has_changed().is_err()
    }

    /// Waits for that.
    pub(super) async fn slipped(mut self) {
        while self.0.changed().await.is_ok() {}
    }
}

/// Runs `work` on a thread of its own; a panic there is one here.
pub(super) async fn on_thread(
    name: &'static str,
    work: impl FnOnce(Leash) -> anyhow::Result<()> + Send + 'static,
) -> anyhow::Result<()> {
    let (_held, leash) = watch::channel(());
    let (done, end) = oneshot::channel::<()>();
    let run = move || {
        // Dropped when the thread unwinds, too.
        let _done = done;
        work(Leash(leash))
    };
    let thread = thread::Builder::new()
        .name(name.to_owned())
        .spawn(run)
        .context("the system has no thread to give")?;
    let _ = end.await;
    match thread.join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

#[cfg(test)]
mod tests;
