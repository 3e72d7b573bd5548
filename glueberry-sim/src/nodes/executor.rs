//! Runs tasks one after another, in an order that the seed draws.

use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, ThreadId};

use glueberry_tokio::runtime::Task;

use super::lock;
use crate::rng::Rng;

/// Tasks of all hosts. Of those that are ready the seed draws the next. Now and then a task that is
/// woken has its turn in the middle of the turn of the task that wakes it, as on another thread it
/// could. So there is a seed for nearly every order in which an executor could run them.
pub(super) struct Executor {
    state: Mutex<State>,
}

struct State {
    rng: Rng,
    tasks: BTreeMap<u64, Slot>,
    ready: Vec<u64>,
    last: u64,
    /// Wakes the caller of [`Executor::run_one`].
    driver: Option<Waker>,
    /// The thread that runs a task, and how many are in the middle of a turn.
    running: Option<(ThreadId, usize)>,
    /// What the turns since the last look were: task and host.
    turns: Vec<(u64, usize)>,
    panic: Option<(usize, String)>,
}

struct Slot {
    host: usize,
    /// `None` while it is polled.
    task: Option<Task>,
    is_ready: bool,
}

/// What came of a turn of a task.
pub(super) enum Turn {
    /// No task is ready.
    Idle,
    /// These tasks of these hosts had turns.
    Ran(Vec<(u64, usize)>),
    /// A task of this host has panicked with this text.
    Panicked(usize, String),
}

impl Executor {
    pub(super) fn new(rng: Rng) -> Arc<Self> {
        let state = State {
            rng,
            tasks: BTreeMap::new(),
            ready: Vec::new(),
            last: 0,
            driver: None,
            running: None,
            turns: Vec::new(),
            panic: None,
        };
        Arc::new(Self { state: Mutex::new(state) })
    }

    pub(super) fn spawn(&self, host: usize, task: Task) {
        let mut state = lock(&self.state);
        state.last += 1;
        let id = state.last;
        state.tasks.insert(id, Slot { host, task: Some(task), is_ready: true });
        state.ready.push(id);
        let driver = state.driver.take();
        drop(state);
        if let Some(driver) = driver {
            driver.wake();
        }
    }

    /// Gives one of the tasks that are ready a turn. If none is, the waker of `cx` is woken when one
    /// becomes so.
    pub(super) fn run_one(self: &Arc<Self>, cx: &Context<'_>) -> Turn {
        let mut state = lock(&self.state);
        if state.ready.is_empty() {
            state.driver = Some(cx.waker().clone());
            return Turn::Idle;
        }
        let State { rng, ready, .. } = &mut *state;
        let id = ready.swap_remove(rng.index(ready.len()));
        drop(state);
        self.run(id);
        let mut state = lock(&self.state);
        if let Some((host, text)) = state.panic.take() {
            return Turn::Panicked(host, text);
        }
        Turn::Ran(std::mem::take(&mut state.turns))
    }

    /// Gives a task a turn that is not among the ready ones any more.
    fn run(self: &Arc<Self>, id: u64) {
        let mut state = lock(&self.state);
        let Some(slot) = state.tasks.get_mut(&id) else {
            // It was killed.
            return;
        };
        slot.is_ready = false;
        let (host, Some(mut task)) = (slot.host, slot.task.take()) else {
            return;
        };
        state.turns.push((id, host));
        let outer = state.running;
        let depth = outer.map_or(0, |(_, depth)| depth);
        state.running = Some((thread::current().id(), depth + 1));
        drop(state);
        let waker = Waker::from(Arc::new(TaskWaker { executor: Arc::downgrade(self), id }));
        let mut cx = Context::from_waker(&waker);
        let polled = catch_unwind(AssertUnwindSafe(|| task.as_mut().poll(&mut cx)));
        let mut state = lock(&self.state);
        state.running = outer;
        match polled {
            Ok(Poll::Pending) => {
                if let Some(slot) = state.tasks.get_mut(&id) {
                    slot.task = Some(task);
                    return;
                }
                // Killed by its own turn: it is dropped below, without the lock.
            }
            Ok(Poll::Ready(())) => drop(state.tasks.remove(&id)),
            Err(panic) => {
                state.tasks.remove(&id);
                state.panic.get_or_insert_with(|| (host, text_of(&*panic)));
            }
        }
        drop(state);
        drop(task);
    }

    /// Drops all tasks of a host, as the end of its process would.
    pub(super) fn kill(&self, host: usize) {
        let mut state = lock(&self.state);
        let is_killed = |(id, slot): (&u64, &Slot)| (slot.host == host).then_some(*id);
        let ids: Vec<u64> = state.tasks.iter().filter_map(is_killed).collect();
        let killed: Vec<Slot> = ids.iter().filter_map(|id| state.tasks.remove(id)).collect();
        drop(state);
        drop(killed);
    }

    /// Drops all tasks: the run is over.
    pub(super) fn clear(&self) {
        let tasks = std::mem::take(&mut lock(&self.state).tasks);
        drop(tasks);
    }

    fn wake(self: &Arc<Self>, id: u64) {
        let mut state = lock(&self.state);
        let State { tasks, ready, driver, running, rng, .. } = &mut *state;
        let Some(slot) = tasks.get_mut(&id).filter(|slot| !slot.is_ready) else {
            return;
        };
        slot.is_ready = true;
        let is_idle = slot.task.is_some();
        let is_inside =
            running.is_some_and(|(on, depth)| on == thread::current().id() && depth <= DEEPEST);
        if is_inside && is_idle && rng.chance(AT_ONCE) {
            drop(state);
            return self.run(id);
        }
        ready.push(id);
        let driver = driver.take();
        drop(state);
        if let Some(driver) = driver {
            driver.wake();
        }
    }
}

struct TaskWaker {
    executor: Weak<Executor>,
    id: u64,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if let Some(executor) = self.executor.upgrade() {
            executor.wake(self.id);
        }
    }
}

/// Returns what a panic says.
fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it says nothing").to_owned()
}

/// How many of a thousand tasks that are woken in a turn have theirs at once.
const AT_ONCE: u64 = 200;
/// How many turns may be in the middle of another.
const DEEPEST: usize = 3;

#[cfg(test)]
mod tests {
    use std::future::{pending, poll_fn};

    use super::*;

    /// Runs until nothing is ready.
    fn run(executor: &Arc<Executor>) -> Vec<u64> {
        let cx = Context::from_waker(Waker::noop());
        let mut ran = Vec::new();
        while let Turn::Ran(turns) = executor.run_one(&cx) {
            ran.extend(turns.into_iter().map(|(task, _)| task));
        }
        ran
    }

    fn yields(times: u32) -> Task {
        let mut left = times;
        Box::pin(poll_fn(move |cx| {
            if left == 0 {
                return Poll::Ready(());
            }
            left -= 1;
            cx.waker().wake_by_ref();
            Poll::Pending
        }))
    }

    #[test]
    fn every_task_runs_to_its_end_and_seeds_order_them_differently() {
        let order = |seed| {
            let executor = Executor::new(Rng::derive(seed, 0, 0));
            (0..4).for_each(|host| executor.spawn(host, yields(3)));
            let ran = run(&executor);
            assert!(lock(&executor.state).tasks.is_empty());
            assert_eq!(ran.len(), 16);
            ran
        };
        assert_eq!(order(1), order(1));
        assert_ne!(order(1), order(2));
    }

    #[test]
    fn what_is_killed_is_dropped_and_does_not_run() {
        let executor = Executor::new(Rng::derive(1, 0, 0));
        let held = Arc::new(());
        for host in 0..2 {
            let held = held.clone();
            executor.spawn(
                host,
                Box::pin(async move {
                    let _held = held;
                    pending::<()>().await;
                }),
            );
        }
        run(&executor);
        executor.kill(0);
        assert_eq!(Arc::strong_count(&held), 2);
        executor.clear();
        assert_eq!(Arc::strong_count(&held), 1);
    }

    #[test]
    fn a_task_that_is_woken_may_run_before_the_one_that_wakes_it_goes_on() {
        let nested = |seed| {
            let executor = Executor::new(Rng::derive(seed, 0, 0));
            let (sleeper, said) =
                (Arc::new(Mutex::new(None::<Waker>)), Arc::new(Mutex::new(Vec::new())));
            let (waits, hears) = (sleeper.clone(), said.clone());
            let mut was_polled = false;
            executor.spawn(
                0,
                Box::pin(poll_fn(move |cx| {
                    if std::mem::replace(&mut was_polled, true) {
                        lock(&hears).push("woken");
                        return Poll::Ready(());
                    }
                    *lock(&waits) = Some(cx.waker().clone());
                    Poll::Pending
                })),
            );
            run(&executor);
            let tells = said.clone();
            executor.spawn(
                0,
                Box::pin(async move {
                    let waker = lock(&sleeper).take();
                    if let Some(waker) = waker {
                        waker.wake();
                    }
                    lock(&tells).push("goes on");
                }),
            );
            run(&executor);
            *lock(&said) == ["woken", "goes on"]
        };
        let count = (0..1000).filter(|seed| nested(*seed)).count();
        assert!((100..300).contains(&count), "{count}");
    }

    #[test]
    fn a_panic_is_told_with_its_host() {
        let executor = Executor::new(Rng::derive(1, 0, 0));
        executor.spawn(7, Box::pin(async { panic!("{} is wrong", "this") }));
        let turn = executor.run_one(&Context::from_waker(Waker::noop()));
        let Turn::Panicked(host, text) = turn else { panic!("it went on") };
        assert_eq!((host, text.as_str()), (7, "this is wrong"));
    }
}
