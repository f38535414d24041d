//! A client of the server: buckets on one connection, pings on another.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use asynchat::{AsyncChat, Chat, Close, Result, TimerId};

use crate::common;

const BUCKETS: usize = 8;
/// The size of a bucket in bytes.
const WATER: usize = 64 * 1024;
const PING_EVERY: Duration = Duration::from_millis(10);

/// Connects to the server, and prints the replies and the latency of the pings. Returns an error if a bucket
/// did not become gold.
pub(crate) fn run(server: &str) -> Result {
    common::say(format_args!(
        "{BUCKETS} buckets of {WATER} bytes, and pings every {PING_EVERY:?} meanwhile"
    ));
    let pings = asynchat::connect(server, |chat| Pings {
        chat,
        sent: None,
        count: 0,
        slowest: Duration::ZERO,
    })?;
    let served: Rc<Cell<usize>> = Rc::default();
    let count = Rc::clone(&served);
    asynchat::connect(server, move |chat| Customer {
        chat,
        pings,
        start: Instant::now(),
        served: count,
    })?;
    asynchat::run()?;
    match served.get() {
        BUCKETS => Ok(()),
        served => Err(format!("{served} of {BUCKETS} buckets became gold").into()),
    }
}

/// Sends all its buckets at once, and prints the replies.
struct Customer {
    chat: Chat,
    pings: Chat,
    start: Instant,
    served: Rc<Cell<usize>>,
}

impl AsyncChat for Customer {
    fn handle_connect(&mut self) -> Result {
        for n in 0..BUCKETS as u8 {
            write!(self.chat, "TURN {WATER}\r\n");
            self.chat.push(vec![n; WATER]);
        }
        self.chat.push("QUIT\r\n");
        Ok(())
    }

    fn found_terminator(&mut self, line: &[u8]) -> Result {
        let (line, time) = (String::from_utf8_lossy(line), self.start.elapsed());
        common::say(format_args!("{:7.3} s  {line}", time.as_secs_f32()));
        if line.starts_with("250 ") {
            self.served.set(self.served.get() + 1);
        }
        Ok(())
    }

    fn handle_close(&mut self, why: &Close) {
        common::say(format_args!("           {why}"));
        self.pings.push("QUIT\r\n");
    }
}

/// Sends pings. Each waits for the reply to the one before it.
struct Pings {
    chat: Chat,
    sent: Option<Instant>,
    count: u32,
    slowest: Duration,
}

impl AsyncChat for Pings {
    fn handle_connect(&mut self) -> Result {
        self.chat.call_every(PING_EVERY);
        Ok(())
    }

    fn handle_timer(&mut self, _: TimerId) -> Result {
        if self.sent.is_none() {
            self.chat.push("PING\r\n");
            self.sent = Some(Instant::now());
        }
        Ok(())
    }

    fn found_terminator(&mut self, _: &[u8]) -> Result {
        if let Some(sent) = self.sent.take() {
            self.count += 1;
            self.slowest = self.slowest.max(sent.elapsed());
        }
        Ok(())
    }

    fn handle_close(&mut self, _: &Close) {
        let (count, millis) = (self.count, self.slowest.as_secs_f64() * 1000.0);
        if count > 0 {
            common::say(format_args!(
                "{count} pings, the slowest took {millis:.2} ms"
            ));
        }
    }
}
