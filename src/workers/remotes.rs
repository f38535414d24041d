//! `Remotes`: calls of the loops of all workers, from any thread.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::ended::Ended;
use crate::error::{Error, Result};
use crate::event_loop::EventLoop;
use crate::runtime::counters::LoopStats;
use crate::runtime::remote::Remote;
use crate::runtime::workers::post_to_service;
use crate::runtime::{Runtime, current};
use crate::state::ChannelId;
use crate::state::inbox::Inbox;
use crate::state::load::AcceptorLink;

/// A [`Remote`] for the loop of each worker. From [`Worker::remotes`](crate::Worker::remotes) and
/// [`Service::remotes`](crate::Service::remotes).
///
/// ```
/// use asynchat::{ChannelId, Chat, Remotes, Server, Workers};
///
/// struct Session { chat: Chat, remotes: Remotes }
///
/// impl asynchat::AsyncChat for Session {
///     fn found_terminator(&mut self, line: &[u8]) -> asynchat::Result {
///         self.chat.push_slice(line);
///         Ok(())
///     }
/// }
///
/// impl Session {
///     /// Sends a line to a session of any worker.
///     fn tell(&self, other: ChannelId, text: String) -> asynchat::Result {
///         self.remotes.post_to(other, move |session: &mut Session| {
///             session.chat.push(text);
///             Ok(())
///         })?;
///         Ok(())
///     }
/// }
///
/// # fn main() -> asynchat::Result {
/// let service = Workers::new().threads(2).start(|worker| {
///     let remotes = worker.remotes();
///     worker.listen(Server::new("127.0.0.1:0"), move |chat| Session {
///         chat,
///         remotes: remotes.clone(),
///     })?;
///     Ok(())
/// })?;
/// service.finish()?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Remotes(Arc<Inner>);

struct Inner {
    workers: Box<[Remote]>,
    service: Arc<AcceptorLink>,
    ended: Arc<Ended>,
}

impl Remotes {
    pub(super) fn new(
        workers: &[Arc<Inbox>],
        service: &Arc<AcceptorLink>,
        ended: &Arc<Ended>,
    ) -> Self {
        Remotes(Arc::new(Inner {
            workers: workers.iter().map(Remote::new).collect(),
            service: Arc::clone(service),
            ended: Arc::clone(ended),
        }))
    }

    /// The number of workers.
    pub fn count(&self) -> usize {
        self.0.workers.len()
    }

    /// The loop of the worker with this number.
    pub fn get(&self, number: usize) -> Option<&Remote> {
        self.0.workers.get(number)
    }

    /// The loops of all workers, in the order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = &Remote> {
        self.0.workers.iter()
    }

    /// Makes the worker that has channel `id` call `callback` with the channel's handler, which must be a `C`: see
    /// [`Remote::post_to`]. The id tells which worker that is.
    ///
    /// # Errors
    /// As [`Remote::post`]. When the channel is not one of a worker.
    pub fn post_to<C: 'static>(
        &self,
        id: ChannelId,
        callback: impl FnOnce(&mut C) -> Result + Send + 'static,
    ) -> Result<(), Error> {
        let remote = id.worker().and_then(|number| self.get(number));
        let remote = remote.ok_or_else(|| Error::new(format!("channel {id} has no worker")))?;
        remote.post_to(id, callback)
    }

    /// Makes each worker call `call` on its own thread, where [`Worker::current`](crate::Worker::current) is that
    /// worker. This costs one post and at most one wake-up for each worker.
    ///
    /// # Errors
    /// As [`Remote::post`], if that fails for any worker. The others make the call nevertheless.
    pub fn post_to_all(&self, call: impl Fn() + Send + Sync + 'static) -> Result<(), Error> {
        let call = Arc::new(call);
        let mut outcome = Ok(());
        for remote in self.iter() {
            let call = Arc::clone(&call);
            outcome = outcome.and(remote.post(move || call()));
        }
        outcome
    }

    /// Stops the service: the loop that accepts, and then all workers. See [`EventLoop::stop`].
    ///
    /// # Errors
    /// As [`Remote::post`]. When the service has ended ([`Service::finish`](crate::Service::finish)): the loop that has
    /// accepted for it may run for another one.
    pub fn stop(&self) -> Result<(), Error> {
        post_to_service(&self.0.service, Runtime::stop)
    }

    /// Shuts the service down: the loop that accepts, and all workers. See [`EventLoop::shutdown`].
    ///
    /// # Errors
    /// As [`stop`](Remotes::stop).
    pub fn shutdown(&self, grace: Duration) -> Result<(), Error> {
        post_to_service(&self.0.service, move |runtime| runtime.shut_down(grace))
    }

    /// Asks each worker, on its own thread, and calls `call` with the answers, in the order of the workers, on this
    /// thread's loop. The answer is `None` of a worker that has ended, and where `ask` has panicked. The call is made when
    /// the last worker has answered, so a worker that is blocked delays it.
    ///
    /// A session replies with a [`Promise`](crate::Promise), which the call may capture, unlike a [`Chat`](crate::Chat).
    /// Here it says how many members a [group](crate::SharedGroup) has on all workers:
    ///
    /// ```
    /// # fn report(remotes: &asynchat::Remotes, chat: &asynchat::Chat) -> asynchat::Result {
    /// let reply = chat.promise();
    /// let members_here = || {
    ///     let worker = asynchat::Worker::current();
    ///     worker.map_or(0, |worker| worker.group("lobby").members().len())
    /// };
    /// remotes.gather(members_here, move |workers| {
    ///     let total: usize = workers.into_iter().flatten().sum();
    ///     reply.fulfill(format!("{total} members\r\n"));
    /// })?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// When this thread has no loop, or is being torn down. A thread without a loop [asks on a worker](Remotes::stats).
    pub fn gather<T: Send + 'static>(
        &self,
        ask: impl Fn() -> T + Send + Sync + 'static,
        call: impl FnOnce(Vec<Option<T>>) + Send + 'static,
    ) -> Result<(), Error> {
        // Nobody would run one that was made for the answers.
        let asker = current::existing()?.ok_or_else(|| {
            Error::new(
                "this thread has no event loop that could make the call with the answers: \
                 post the question to a worker, and ask there",
            )
        })?;
        let ask = Arc::new(ask);
        let answers = Arc::new(Answers {
            answers: Mutex::new(self.iter().map(|_| None).collect()),
            call: Mutex::new(Some(Box::new(call))),
            asker: Remote::new(&asker.agenda.inbox),
        });
        for (number, remote) in self.iter().enumerate() {
            let (ask, answers) = (Arc::clone(&ask), Arc::clone(&answers));
            // Without that loop there is no answer.
            let _ = remote.post(move || answers.set(number, ask()));
        }
        Ok(())
    }

    /// Asks all workers for what their loops have done so far, and calls `call` with the answers: see
    /// [`gather`](Remotes::gather). The answer of a worker that has ended is what its loop has done in all.
    ///
    /// The sum is that of the sessions. [`EventLoop::stats`] of the loop that accepts for the workers has the accepts that
    /// failed, and the connections that no worker could take. [`Service::finish`](crate::Service::finish) returns the last
    /// figures: no loop calls `call` when [`run`](crate::run) has returned.
    ///
    /// ```
    /// # fn report(remotes: &asynchat::Remotes, chat: &asynchat::Chat) -> asynchat::Result {
    /// let reply = chat.promise();
    /// remotes.stats(move |workers| {
    ///     let total: asynchat::LoopStats = workers.into_iter().sum();
    ///     reply.fulfill(format!("{} connections\r\n", total.accepted));
    /// })?;
    /// # Ok(()) }
    /// ```
    ///
    /// A thread without a loop, such as one that serves the figures to a monitor, asks on a worker and waits:
    ///
    /// ```
    /// # fn total(remotes: &asynchat::Remotes) -> asynchat::Result<asynchat::LoopStats> {
    /// let (sender, answers) = std::sync::mpsc::channel();
    /// let asker = remotes.clone();
    /// remotes.get(0).ok_or("no worker")?.post(move || {
    ///     // If there is no answer, the sender is dropped, and `recv` fails.
    ///     let _ = asker.stats(move |workers| _ = sender.send(workers));
    /// })?;
    /// Ok(answers.recv()?.into_iter().sum())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`gather`](Remotes::gather).
    pub fn stats(&self, call: impl FnOnce(Vec<LoopStats>) + Send + 'static) -> Result<(), Error> {
        let ended = Arc::clone(&self.0.ended);
        let stats_here = || EventLoop::current().ok().map(|it| it.stats());
        self.gather(stats_here, move |answers| {
            let answers = answers.into_iter().map(Option::flatten).enumerate();
            let stats = answers.map(|(number, it)| it.unwrap_or_else(|| ended.stats(number)));
            call(stats.collect());
        })
    }
}

impl fmt::Debug for Remotes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remotes")
            .field("workers", &self.count())
            .finish_non_exhaustive()
    }
}

type Call<T> = Box<dyn FnOnce(Vec<Option<T>>) + Send>;

/// The answers of the workers. The last one to drop it delivers them, whether it has answered or has ended.
struct Answers<T: Send + 'static> {
    answers: Mutex<Vec<Option<T>>>,
    call: Mutex<Option<Call<T>>>,
    asker: Remote,
}

impl<T: Send + 'static> Answers<T> {
    fn set(&self, number: usize, answer: T) {
        let mut all = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = all.get_mut(number) {
            *entry = Some(answer);
        }
    }
}

impl<T: Send + 'static> Drop for Answers<T> {
    fn drop(&mut self) {
        let call = self.call.get_mut().unwrap_or_else(PoisonError::into_inner);
        let answers = self.answers.get_mut();
        let answers = answers.unwrap_or_else(PoisonError::into_inner);
        if let Some(call) = call.take() {
            let answers = std::mem::take(answers);
            // A loop that is gone has no use for them.
            let _ = self.asker.post(move || call(answers));
        }
    }
}
