//! The thread of a worker.

use std::cell::Cell;
use std::mem;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::crew::Crew;
use super::worker::Worker;
use crate::error::{Error, Result};
use crate::event_loop::EventLoop;
use crate::state::inbox::Inbox;
use crate::state::load::AcceptorLink;
use crate::user_code::enter;

/// The user's function that each worker calls.
pub(super) type Setup = dyn Fn(&Worker) -> Result + Send + Sync;

/// What a worker is to do next. It ends if there is no next step.
pub(super) enum WorkerStep {
    SetUp(Arc<Crew>),
    Run,
}

/// What a worker has done.
pub(super) enum Report {
    /// The loop of the worker with this number exists.
    Created(usize, Arc<Inbox>),
    /// Its setup has succeeded.
    Ready,
    /// It could not start.
    Failed(Error),
}

/// A thread that ends before this is dropped.
pub(super) struct Thread(Option<JoinHandle<()>>);

impl Thread {
    pub(super) fn spawn(
        number: usize,
        acceptor: Arc<AcceptorLink>,
        setup: Arc<Setup>,
        steps: Receiver<WorkerStep>,
        reports: Sender<Report>,
    ) -> Result<Self, Error> {
        let body = move || run(number, &acceptor, setup, &steps, reports);
        let spawned = thread::Builder::new()
            .name(format!("worker {number}"))
            .spawn(body);
        match spawned {
            Ok(thread) => Ok(Thread(Some(thread))),
            Err(error) => Err(named(number, error.into())),
        }
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        // It catches its own panics, and reports them.
        let _ = self.0.take().map(JoinHandle::join);
    }
}

fn named(number: usize, error: Error) -> Error {
    error.context(format_args!("worker {number}"))
}

/// The life of a worker.
fn run(
    number: usize,
    acceptor: &Arc<AcceptorLink>,
    setup: Arc<Setup>,
    steps: &Receiver<WorkerStep>,
    sender: Sender<Report>,
) {
    let reports = Reports {
        number,
        sender,
        failure: Some(Error::new("it panicked")),
    };
    let event_loop = match EventLoop::new() {
        Ok(event_loop) => event_loop,
        Err(error) => return reports.failed(error),
    };
    // `MOST_WORKERS` is less.
    let short = u16::try_from(number).unwrap_or(u16::MAX);
    event_loop.0.become_worker(short, acceptor);
    let inbox = Arc::clone(&event_loop.0.agenda.inbox);
    reports.send(Report::Created(number, inbox));
    let Ok(WorkerStep::SetUp(crew)) = steps.recv() else {
        return;
    };
    let worker = Worker::enter(number, &crew);
    let is_set_up = set_up(&event_loop, worker.worker(), setup);
    if let Err(error) = is_set_up {
        return reports.failed(error);
    }
    reports.ready();
    let Ok(WorkerStep::Run) = steps.recv() else {
        return;
    };
    let mut end = End {
        number,
        crew,
        outcome: Err(Error::new("it panicked")),
    };
    let outcome = match enter(|| event_loop.run_forever()) {
        Ok(outcome) => outcome,
        Err(panic) => Err(Error::new(format!("its loop panicked: {panic}"))),
    };
    // Its sessions end before it is reported as ended.
    let ended = Arc::clone(&end.crew.ended);
    let dropped = enter(|| {
        // Who asks meanwhile gets these figures.
        ended.add(number, event_loop.stats());
        event_loop.0.end_all();
        ended.add(number, event_loop.stats());
        drop(event_loop);
    });
    let dropped = dropped.map_err(|panic| Error::new(format!("its loop panicked: {panic}")));
    end.outcome = outcome.and(dropped);
}

/// What a worker reports while it starts. If it is dropped before, also while a panic unwinds, the worker has failed.
struct Reports {
    number: usize,
    sender: Sender<Report>,
    failure: Option<Error>,
}

impl Reports {
    fn send(&self, report: Report) {
        // Nobody waits for it if another worker has failed to start.
        let _ = self.sender.send(report);
    }

    fn failed(mut self, error: Error) {
        self.failure = Some(error);
    }

    fn ready(mut self) {
        self.failure = None;
        self.send(Report::Ready);
    }
}

impl Drop for Reports {
    fn drop(&mut self) {
        if let Some(error) = self.failure.take() {
            self.send(Report::Failed(named(self.number, error)));
        }
    }
}

/// Reports the end of a worker when it is dropped, also while a panic unwinds.
struct End {
    number: usize,
    crew: Arc<Crew>,
    outcome: Result<(), Error>,
}

impl Drop for End {
    fn drop(&mut self) {
        let outcome = mem::replace(&mut self.outcome, Ok(()));
        let outcome = outcome.map_err(|error| named(self.number, error));
        self.crew.record_end(self.number, outcome);
    }
}

/// Calls the setup in a turn of the loop, so that it is the current one. A stop in this turn stops the loop when it runs.
fn set_up(event_loop: &EventLoop, worker: &Worker, setup: Arc<Setup>) -> Result<(), Error> {
    let outcome = Rc::new(Cell::new(None));
    let (worker, returned) = (worker.clone(), Rc::clone(&outcome));
    event_loop.call_soon(move || {
        returned.set(Some(enter(|| setup(&worker))));
    });
    let (_, is_stopped) = event_loop.take_one_turn(Some(Duration::ZERO))?;
    if is_stopped {
        event_loop.stop();
    }
    match outcome.take() {
        Some(Ok(Ok(()))) => Ok(()),
        Some(Ok(Err(error))) => Err(Error::from(error).context("its setup")),
        Some(Err(panic)) => Err(Error::new(format!("its setup panicked: {panic}"))),
        None => Err(Error::new("its setup was not called")),
    }
}
