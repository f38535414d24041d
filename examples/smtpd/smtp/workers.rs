//! Worker threads for tasks that block, such as the last step of a delivery, which
//! waits for the disk.
//!
//! The reply to a task is a promise. It is queued when the task starts, and the
//! worker that has finished the task fulfills it. Until then the loop continues to
//! read commands, and replies to them are queued behind it. So replies stay in the
//! order of the commands, and several tasks of one client can run at the same time.
//! A task that panics gets a reply of its own: a server does not close before it has replied (RFC 5321 section 3.8).

use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use asynchat::Chat;

/// A pool of threads. Dropping it waits until all its tasks are done.
pub struct Workers {
    /// `None` when there are no threads, or while the pool is being dropped.
    tasks: Option<Sender<Task>>,
    threads: Vec<JoinHandle<()>>,
}

type Task = Box<dyn FnOnce() + Send>;

/// The reply to a task that has panicked (RFC 3463 section 3.4: the system, not the message).
const FAILED: &str = "451 4.3.0 local error\r\n";

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
        let promise = chat.promise();
        let task = move || {
            // The panic hook has reported a panic. The thread continues with the other tasks.
            let reply = panic::catch_unwind(AssertUnwindSafe(task));
            promise.fulfill(reply.unwrap_or_else(|_| FAILED.to_owned()));
        };
        match &self.tasks {
            // `send` cannot fail: the threads receive as long as the sender exists.
            Some(tasks) => drop(tasks.send(Box::new(task))),
            None => task(),
        }
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
            // A thread ends without a panic.
            let _ = thread.join();
        }
    }
}
