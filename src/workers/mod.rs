//! `Workers`: several loops on several threads, which serve the connections of one listener.

mod acceptor;
mod backlog;
mod crew;
mod ended;
pub(crate) mod group;
mod listeners;
pub(crate) mod remotes;
pub(crate) mod service;
mod spread;
#[cfg(test)]
mod tests;
mod thread;
mod topic;
pub(crate) mod worker;

use std::mem;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::available_parallelism;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::event_loop::EventLoop;
use crate::state::load::AcceptorLink;
use crew::{Crew, Options};
use service::Service;
use thread::{Report, Setup, Thread, WorkerStep};
use worker::Worker;

/// Several loops on several threads, which serve the connections of one server: a server on all cores.
///
/// Each worker is a thread with a loop of its own, and serves its connections as one loop does. A connection stays with
/// its worker. The thread that starts the workers accepts: it hands each connection to the worker that has the fewest.
///
/// A program that has a [`Server`](crate::Server) on one loop passes it to [`Worker::listen`] instead, in a function
/// that each worker calls on its own thread. What the function makes stays on that thread, so sessions may share an
/// `Rc<RefCell<_>>` with the other sessions of their worker. What all workers share needs an `Arc`.
///
/// ```
/// use asynchat::{Limits, Server, Workers};
///
/// # fn main() -> asynchat::Result {
/// let service = Workers::new().threads(2).start(|worker| {
///     let number = worker.number();
///     let server = Server::new("127.0.0.1:0").limits(Limits::default().connections(5_000));
///     worker.listen(server, move |chat| {
///         move |line: &[u8]| {
///             write!(chat, "worker {number} has received {} bytes\r\n", line.len());
///             Ok(())
///         }
///     })?;
///     Ok(())
/// })?;
/// println!("listening on {}", service.local_addrs()[0]);
/// # asynchat::call_soon(asynchat::stop);
/// asynchat::run()?; // until `shutdown` or `stop`, on this thread or on a worker
/// service.finish()?;
/// # Ok(()) }
/// ```
///
/// **Limits** of a server on the number of its connections, in all and from one address, count the connections of all
/// workers. All other limits and the deadlines are those of a connection.
///
/// **The end.** A [`shutdown`](crate::shutdown) or a [`stop`](crate::stop) of the loop that has started the workers ends
/// them as well, and so does one that a session calls on its worker's loop, or another thread through a [`Remote`] of any
/// of the loops. Signals therefore work as on one loop: register
/// [`signal::shutdown_on_ctrl_c`](https://docs.rs/asynchat/latest/asynchat/signal/fn.shutdown_on_ctrl_c.html) on the
/// thread that starts the workers, because a worker gets an error. A connection that was handed to a worker before gets a
/// session, which is shut down like all others. If a session calls the shutdown on its worker's loop, the connections that wait there get the
/// [refusal](crate::Server::refusal) instead. A worker without connections makes the calls that others post until the last
/// connection of all workers has ended. After a stop the workers go on until [`Service::finish`]. A
/// [`close_all`](crate::close_all) on any of the loops closes the connections of all workers, and the service ends. A
/// worker that fails ends the service, and [`Service::finish`] returns the reason.
///
/// **Other workers.** [`Worker::remotes`] reaches their loops and sessions by id, and a [`SharedGroup`](crate::SharedGroup)
/// pushes to members on all workers.
///
/// Several cores help if the sessions use more than one. A loop does hundreds of thousands of small requests each second
/// on one core. The guide has a
/// [section](https://docs.rs/crate/asynchat/latest/source/docs/guide.md) on when several cores help.
///
/// [`Remote`]: crate::Remote
#[derive(Clone, Debug)]
#[must_use = "workers do nothing until `start` or `run` is called"]
pub struct Workers {
    threads: Option<usize>,
    options: Options,
}

impl Default for Workers {
    fn default() -> Self {
        Workers::new()
    }
}

impl Workers {
    /// As many workers as the process may use cores ([`available_parallelism`]), or one if that is not known.
    pub fn new() -> Self {
        Workers {
            threads: None,
            options: Options {
                grace: Duration::from_secs(5),
                group_backlog: 64 << 20,
            },
        }
    }

    /// Sets the number of workers. Zero counts as one. [`start`](Workers::start) fails with more than 4,096.
    pub fn threads(mut self, count: usize) -> Self {
        self.threads = Some(count.max(1));
        self
    }

    /// Sets the grace of the shutdown that follows when a worker fails: the time that the connections of the other
    /// workers have to end in good order. Default 5 seconds. Any other [shutdown](crate::shutdown) has a grace of its
    /// own.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.options.grace = grace;
        self
    }

    /// Sets how many bytes of pushes to [shared groups](crate::SharedGroup) may wait for a worker that is busy. Default
    /// 64 MiB. A session that pushes gets no further records while more than a quarter of this, or more than a mebibyte,
    /// waits. Calls that are posted, and timers, cannot wait.
    /// Each push counts 256 bytes in addition to its own, so the number of pushes is limited, too. When nothing
    /// waits, one push is taken whatever its size. Zero counts as one byte.
    ///
    /// A push above the limit is dropped for the members on that worker. Their connections
    /// end with [`Close::OutputLimit`](crate::Close::OutputLimit), because a stream with a gap would be wrong, unless
    /// the group on the worker [skips](crate::SlowReader::Skip) its slow readers. Their peers see a reset. So does a
    /// member that is added before the worker has learned of the push. Members on other workers receive the push.
    pub fn group_backlog(mut self, bytes: usize) -> Self {
        self.options.group_backlog = bytes.max(1);
        self
    }

    /// Starts the workers, runs the loop of this thread, and ends the workers: [`start`](Workers::start),
    /// [`run`](crate::run), [`Service::finish`]. It returns after a shutdown or a stop, also where no worker listens: a
    /// worker may do other work. A program that wants the last figures calls these three itself.
    ///
    /// ```no_run
    /// use asynchat::{Server, Workers};
    ///
    /// # fn main() -> asynchat::Result {
    /// Workers::new().run(|worker| {
    ///     worker.listen(Server::new("127.0.0.1:7007"), |chat| move |line: &[u8]| {
    ///         chat.push_slice(line);
    ///         chat.push("\r\n");
    ///         Ok(())
    ///     })?;
    ///     Ok(())
    /// })?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Those of these three functions.
    pub fn run(
        self,
        setup: impl Fn(&Worker) -> Result + Send + Sync + 'static,
    ) -> Result<(), Error> {
        let event_loop = EventLoop::current()?;
        let service = self.start_on(&event_loop, setup)?;
        let outcome = event_loop.run();
        service.finish()?;
        outcome
    }

    /// Starts the workers. Each calls `setup` on its own thread, in its loop, which is the current one there: `setup`
    /// [listens](Worker::listen), and sets timers and what else the worker needs. When all workers have done that, this
    /// function returns, and they begin to serve.
    ///
    /// The loop of this thread accepts: let it [run](crate::run). It runs until the service ends. It has no connections
    /// of the service, so nothing delays its accepts, but it can do other work. A callback that blocks it delays
    /// new connections only.
    ///
    /// # Errors
    /// When `setup` fails or panics on a worker: the error names the worker. When the system has no thread or no
    /// descriptor left. When this thread's loop cannot be created, or is shutting down. All workers have ended then.
    pub fn start(
        self,
        setup: impl Fn(&Worker) -> Result + Send + Sync + 'static,
    ) -> Result<Service, Error> {
        self.start_on(&EventLoop::current()?, setup)
    }

    /// As [`start`](Workers::start). The loop given accepts.
    ///
    /// # Errors
    /// As [`start`](Workers::start).
    pub fn start_on(
        self,
        event_loop: &EventLoop,
        setup: impl Fn(&Worker) -> Result + Send + Sync + 'static,
    ) -> Result<Service, Error> {
        let count = self.threads.unwrap_or_else(cores);
        if count > MOST_WORKERS {
            return Err(Error::new(format!(
                "{count} workers are more than {MOST_WORKERS}"
            )));
        }
        let setup: Arc<Setup> = Arc::new(setup);
        let (reports, reported) = mpsc::channel();
        let mut starting = Starting {
            acceptor: AcceptorLink::new(&event_loop.0.agenda.inbox),
            steps: Vec::new(),
            threads: Vec::new(),
            reported,
        };
        for number in 0..count {
            starting.start(number, &setup, &reports)?;
        }
        drop((setup, reports));
        starting.finish(event_loop, self.options)
    }
}

/// The number of a worker is a part of the ids of its channels.
const MOST_WORKERS: usize = 4096;

fn cores() -> usize {
    available_parallelism().map_or(1, NonZeroUsize::get)
}

/// Workers that are starting. Where a step fails, the threads end, because nobody sends them another step: the senders
/// are dropped before the threads are waited for.
struct Starting {
    acceptor: Arc<AcceptorLink>,
    steps: Vec<Sender<WorkerStep>>,
    threads: Vec<Thread>,
    reported: Receiver<Report>,
}

impl Starting {
    fn start(
        &mut self,
        number: usize,
        setup: &Arc<Setup>,
        reports: &Sender<Report>,
    ) -> Result<(), Error> {
        let (step_sender, steps) = mpsc::channel();
        let (acceptor, setup) = (Arc::clone(&self.acceptor), Arc::clone(setup));
        let thread = Thread::spawn(number, acceptor, setup, steps, reports.clone())?;
        self.threads.push(thread);
        self.steps.push(step_sender);
        Ok(())
    }

    fn finish(mut self, event_loop: &EventLoop, options: Options) -> Result<Service, Error> {
        let mut inboxes = vec![None; self.threads.len()];
        self.collect(|report| match report {
            Report::Created(number, inbox) => {
                if let Some(entry) = inboxes.get_mut(number) {
                    *entry = Some(inbox);
                }
                Ok(true)
            }
            Report::Failed(error) => Err(error),
            Report::Ready => Ok(false),
        })?;
        let inboxes = inboxes.into_iter().flatten().collect();
        let crew = Arc::new(Crew::new(inboxes, &self.acceptor, options));
        self.proceed(|| WorkerStep::SetUp(Arc::clone(&crew)));
        self.collect(|report| match report {
            Report::Ready => Ok(true),
            Report::Failed(error) => Err(error),
            Report::Created(..) => Ok(false),
        })?;
        let service = Service::new(event_loop, crew)?;
        self.proceed(|| WorkerStep::Run);
        Ok(service.with_threads(mem::take(&mut self.threads)))
    }

    /// Waits until each worker has reported what `counts` returns true for.
    fn collect(&self, mut counts: impl FnMut(Report) -> Result<bool, Error>) -> Result<(), Error> {
        let mut left = self.threads.len();
        while left > 0 {
            let report = self.reported.recv();
            let report = report.map_err(|_| Error::new("the workers have ended"))?;
            left -= usize::from(counts(report)?);
        }
        Ok(())
    }

    fn proceed(&self, step: impl Fn() -> WorkerStep) {
        for steps in &self.steps {
            // A thread that is gone has reported why.
            let _ = steps.send(step());
        }
    }
}
