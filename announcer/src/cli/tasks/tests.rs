use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use anyhow::anyhow;
use tokio::time::{advance, timeout};

use super::*;

/// How often a task was made, by whatever ends it.
fn counting<F>(tasks: &mut Tasks, name: &'static str, end: fn(usize) -> F) -> Arc<AtomicUsize>
where
    F: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    let made = Arc::new(AtomicUsize::new(0));
    let counted = made.clone();
    tasks.start(name, move || end(counted.fetch_add(1, Ordering::Relaxed)));
    made
}

async fn for_ever() -> anyhow::Result<()> {
    std::future::pending().await
}

/// Virtual time until the next change.
async fn after(tasks: &mut Tasks) -> (Change, u64) {
    let before = Instant::now();
    (tasks.next().await, before.elapsed().as_secs())
}

#[tokio::test(start_paused = true)]
async fn a_task_that_ends_is_down_until_it_has_run_again_for_as_long_as_it_was_away() {
    let ends: [fn() -> BoxFuture<'static, anyhow::Result<()>>; 3] = [
        || async { panic!("a fault of the test") }.boxed(),
        || async { Ok(()) }.boxed(),
        || async { Err(anyhow!("no socket")) }.boxed(),
    ];
    for end in ends {
        let mut tasks = Tasks::default();
        tasks.start("good", for_ever);
        let mut first = true;
        tasks.start("bad", move || if std::mem::take(&mut first) { end() } else { for_ever().boxed() });
        assert_eq!(tasks.down(), Vec::<&str>::new());
        assert_eq!(after(&mut tasks).await, (Change::Ended, 0));
        assert_eq!(tasks.down(), ["bad"]);
        assert_eq!(after(&mut tasks).await, (Change::Restarted("bad"), 1));
        assert_eq!(tasks.down(), ["bad"], "nobody knows yet whether it stays");
        assert_eq!(after(&mut tasks).await, (Change::Well, 1));
        assert_eq!(tasks.down(), Vec::<&str>::new());
        assert!(timeout(Duration::from_secs(86_400), tasks.next()).await.is_err(), "all is well");
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_ends_again_and_again_is_started_ever_more_rarely_and_is_never_well() {
    let mut tasks = Tasks::default();
    let made = counting(&mut tasks, "bad", |_| async { Ok(()) });
    let mut pauses = Vec::new();
    while pauses.len() < 8 {
        let (change, seconds) = after(&mut tasks).await;
        assert_eq!(tasks.down(), ["bad"]);
        if let Change::Restarted(_) = change {
            pauses.push(seconds);
        }
    }
    assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
    assert_eq!(made.load(Ordering::Relaxed), 9);
}

#[tokio::test(start_paused = true)]
async fn one_that_ran_for_long_begins_with_a_short_pause_again() {
    let mut tasks = Tasks::default();
    let made = counting(&mut tasks, "rare", |times| async move {
        if times >= 3 {
            tokio::time::sleep(LONGEST_PAUSE * 2).await;
        }
        Ok(())
    });
    while made.load(Ordering::Relaxed) < 4 {
        tasks.next().await;
    }
    assert_eq!(tasks.next().await, Change::Well);
    assert_eq!(tasks.next().await, Change::Ended);
    assert_eq!(after(&mut tasks).await, (Change::Restarted("rare"), 1));
}

#[tokio::test(start_paused = true)]
async fn a_task_that_is_killed_is_started_again() {
    let mut tasks = Tasks::default();
    let made = counting(&mut tasks, "victim", |_| for_ever());
    assert!(tasks.kill("victim") && !tasks.kill("nobody"));
    assert_eq!(tasks.next().await, Change::Ended);
    assert_eq!(tasks.next().await, Change::Restarted("victim"));
    assert_eq!(made.load(Ordering::Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn a_change_that_was_not_waited_for_to_the_end_is_not_lost() {
    let mut tasks = Tasks::default();
    counting(&mut tasks, "bad", |_| async { Ok(()) });
    assert_eq!(tasks.next().await, Change::Ended);
    for _ in 0..3 {
        assert!(timeout(Duration::from_millis(300), tasks.next()).await.is_err());
    }
    advance(Duration::from_millis(100)).await;
    assert_eq!(tasks.next().await, Change::Restarted("bad"));
}

#[tokio::test]
async fn a_task_that_was_told_to_end_is_waited_for_and_not_started_again() {
    let (told, end) = oneshot::channel::<()>();
    let mut end = Some(end);
    let mut tasks = Tasks::default();
    tasks.start("last", move || {
        let end = end.take();
        async move {
            if let Some(end) = end {
                let _ = end.await;
            }
            Ok(())
        }
    });
    drop(told);
    tasks.finish("last").await;
    assert_eq!(tasks.down(), Vec::<&str>::new());
    assert!(timeout(FIRST_PAUSE * 2, tasks.next()).await.is_err());
}

#[tokio::test]
async fn a_thread_is_a_task_as_well() {
    let mut tasks = Tasks::default();
    tasks.start("thread", || on_thread("thread", |_| panic!("a fault of the test")));
    assert_eq!(tasks.next().await, Change::Ended);

    let (ended, end) = std::sync::mpsc::channel();
    let work = move |leash: Leash| {
        while !leash.is_slipped() {
            thread::sleep(Duration::from_millis(1));
        }
        ended.send(()).map_err(Into::into)
    };
    drop(timeout(Duration::from_millis(20), on_thread("thread", work)).await);
    assert_eq!(end.recv_timeout(Duration::from_secs(10)), Ok(()), "it ends with whoever waits for it");
}
