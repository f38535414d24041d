//! The last step of a delivery waits for the disk, for milliseconds or more, and
//! the loop must not. So couriers, threads, do it, and the reply is a producer:
//! it takes its place in the queue when the message is complete, and has its
//! line when the courier has come back. Until then the loop reads on. What the
//! client has sent behind the message is answered in the order of its commands,
//! and several messages of one client can be on the way to the disk at a time.

use std::io;
use std::sync::mpsc::{self, Receiver, Sender, TryRecvError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use asynchat::{ChannelId, Chat, EventLoop, More, Producer};

/// Some threads. Dropping them waits until all that was given to them is done.
pub struct Couriers {
    /// `None` when there are no threads, or no more work for them.
    work: Option<Sender<Errand>>,
    threads: Vec<JoinHandle<()>>,
}

type Errand = Box<dyn FnOnce() + Send>;

impl Couriers {
    /// So many threads. With none of them errands are run on the spot, which is
    /// what a test on virtual time wants.
    pub fn new(count: usize) -> io::Result<Couriers> {
        let (work, errands) = mpsc::channel();
        let errands = Arc::new(Mutex::new(errands));
        let threads = (0..count).map(|_| {
            let errands = Arc::clone(&errands);
            let courier = thread::Builder::new().name("courier".to_owned());
            courier.spawn(move || run(&errands))
        });
        Ok(Couriers {
            threads: threads.collect::<io::Result<_>>()?,
            work: (count > 0).then_some(work),
        })
    }

    /// Has a courier do this, and queues the line that comes of it.
    pub fn send(&self, chat: &Chat, errand: impl FnOnce() -> String + Send + 'static) {
        let Some(event_loop) = chat.event_loop() else {
            return; // the connection has ended
        };
        let (id, remote) = (chat.id(), event_loop.remote());
        let (tell, line) = mpsc::channel();
        chat.push_with_producer(Verdict(Some(line)));
        let errand: Errand = Box::new(move || {
            // An error means that the client has left,
            let _ = tell.send(errand());
            // or that the loop has ended.
            let _ = remote.post(move || ask_again(id));
        });
        match &self.work {
            // The couriers take errands for as long as there is a `work`.
            Some(work) => drop(work.send(errand)),
            None => errand(),
        }
    }
}

/// Has the verdict of this connection that is next asked for its line.
fn ask_again(id: ChannelId) {
    let chat = EventLoop::current().ok().and_then(|it| it.chat(id));
    if let Some(chat) = chat {
        chat.resume_producing();
    }
}

fn run(errands: &Mutex<Receiver<Errand>>) {
    loop {
        // Not in a `while let`, or the lock would be held during the errand.
        let next = errands
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .recv();
        match next {
            Ok(errand) => errand(),
            Err(_) => return,
        }
    }
}

impl Drop for Couriers {
    fn drop(&mut self) {
        self.work = None;
        for thread in self.threads.drain(..) {
            // A panic has been reported by the thread itself.
            let _ = thread.join();
        }
    }
}

/// A line that a courier has yet to bring.
struct Verdict(Option<Receiver<String>>);

impl Producer for Verdict {
    fn more(&mut self, _budget: usize) -> io::Result<More> {
        let Some(line) = &self.0 else {
            return Ok(More::Done);
        };
        match line.try_recv() {
            Ok(line) => {
                self.0 = None;
                Ok(More::Chunk(line.into()))
            }
            Err(TryRecvError::Empty) => Ok(More::Pending),
            Err(TryRecvError::Disconnected) => Err(io::Error::other("a courier got lost")),
        }
    }
}
