//! Worker threads for tasks that block, such as the last step of a delivery, which
//! waits for the disk.
//!
//! The reply to a task is a producer. It is queued when the task starts, and
//! produces its line when a worker has finished the task. Until then the loop
//! continues to read commands, and replies to them are queued behind it. So replies
//! stay in the order of the commands, and several tasks of one client can run at
//! the same time.

use std::io;
use std::sync::mpsc::{self, Receiver, Sender, TryRecvError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use asynchat::{ChannelId, Chat, EventLoop, More, Producer};

/// A pool of threads. Dropping it waits until all its tasks are done.
pub struct Workers {
    /// `None` when there are no threads, or while the pool is being dropped.
    tasks: Option<Sender<Task>>,
    threads: Vec<JoinHandle<()>>,
}

type Task = Box<dyn FnOnce() + Send>;

impl Workers {
    /// Starts `count` threads. With 0, [`run`](Workers::run) runs each task at once
    /// on the caller's thread, which tests on virtual time need.
    pub fn new(count: usize) -> io::Result<Workers> {
        let (tasks, queue) = mpsc::channel();
        let queue = Arc::new(Mutex::new(queue));
        let threads = (0..count).map(|_| {
            let queue = Arc::clone(&queue);
            let worker = thread::Builder::new().name("worker".to_owned());
            worker.spawn(move || run_tasks(&queue))
        });
        Ok(Workers {
            threads: threads.collect::<io::Result<_>>()?,
            tasks: (count > 0).then_some(tasks),
        })
    }

    /// Runs a task on a worker thread, and queues the reply that it returns.
    pub fn run(&self, chat: &Chat, task: impl FnOnce() -> String + Send + 'static) {
        let Some(event_loop) = chat.event_loop() else {
            return; // the connection has ended
        };
        let (id, remote) = (chat.id(), event_loop.remote());
        let (sender, reply) = mpsc::channel();
        chat.push_with_producer(PendingReply(Some(reply)));
        let task: Task = Box::new(move || {
            // `send` fails if the connection has ended, and `post` if the loop has ended.
            let _ = sender.send(task());
            let _ = remote.post(move || resume_output(id));
        });
        match &self.tasks {
            // `send` cannot fail: the threads receive as long as the sender exists.
            Some(tasks) => drop(tasks.send(task)),
            None => task(),
        }
    }
}

/// Resumes the output of this connection, which calls its first producer again.
fn resume_output(id: ChannelId) {
    let chat = EventLoop::current().ok().and_then(|it| it.chat(id));
    if let Some(chat) = chat {
        chat.resume_producing();
    }
}

fn run_tasks(queue: &Mutex<Receiver<Task>>) {
    loop {
        // A statement of its own, so that the lock is released before the task runs.
        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        match next {
            Ok(task) => task(),
            Err(_) => return,
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.tasks = None;
        for thread in self.threads.drain(..) {
            // The thread's panic hook has reported a panic.
            let _ = thread.join();
        }
    }
}

/// The reply to a task that may still be running.
struct PendingReply(Option<Receiver<String>>);

impl Producer for PendingReply {
    fn more(&mut self, _budget: usize) -> io::Result<More> {
        let Some(reply) = &self.0 else {
            return Ok(More::Done);
        };
        match reply.try_recv() {
            Ok(line) => {
                self.0 = None;
                Ok(More::Chunk(line.into()))
            }
            Err(TryRecvError::Empty) => Ok(More::Pending),
            Err(TryRecvError::Disconnected) => Err(io::Error::other("a worker thread panicked")),
        }
    }
}
