//! Random conversations between two ends of the crate, over random bad networks.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use asynchat::sim::Network;
use asynchat::{AsyncChat, Chat, Close, Connector, Eof, Limits, Result, Server, TimerId, tls};
use fastrand::Rng;

use crate::common::name;
use crate::tls::identity_of_fixed_length;

/// Sends each line back, and pauses now and then.
struct Echo {
    chat: Chat,
    rng: Rng,
    starts_tls: bool,
    end: Rc<RefCell<String>>,
}

impl AsyncChat for Echo {
    fn found_terminator(&mut self, line: &[u8]) -> Result {
        if line == b"STARTTLS" {
            assert!(self.starts_tls && self.chat.tls().is_none());
            self.chat.push("go\r\n");
            self.chat
                .start_tls(identity_of_fixed_length().server_config())?;
            return Ok(());
        }
        assert!(self.chat.tls().is_some());
        if self.rng.bool() {
            self.chat.push_slices(&[line, b"\r\n"]);
        } else {
            self.chat.push(line.to_vec());
            self.chat.push("\r\n");
        }
        if self.rng.u8(..) < 20 {
            self.chat.pause_reading();
            self.chat
                .call_later(Duration::from_millis(self.rng.u64(1..50)));
        }
        Ok(())
    }
    fn handle_timer(&mut self, _: TimerId) -> Result {
        self.chat.resume_reading();
        Ok(())
    }
    fn handle_close(&mut self, why: &Close) {
        *self.end.borrow_mut() = name(why);
    }
}

/// Sends lines, expects them back, and then finishes in one of three ways.
struct Caller {
    chat: Chat,
    lines: Vec<Vec<u8>>,
    replies: usize,
    starts_tls: bool,
    ending: u8,
    done: Rc<Cell<bool>>,
    end: Rc<RefCell<String>>,
}

impl Caller {
    fn send_all(&mut self) {
        for line in &self.lines {
            self.chat.push_slices(&[line, b"\r\n"]);
        }
        if self.ending == 0 {
            self.chat.shutdown_write();
        }
    }
}

impl AsyncChat for Caller {
    fn handle_connect(&mut self) -> Result {
        if self.starts_tls {
            self.chat.push("STARTTLS\r\n");
        } else {
            self.send_all();
        }
        Ok(())
    }
    fn handle_tls(&mut self) -> Result {
        self.send_all();
        Ok(())
    }
    fn found_terminator(&mut self, line: &[u8]) -> Result {
        if self.chat.tls().is_none() {
            assert_eq!(line, b"go");
            let client =
                tls::Client::from(identity_of_fixed_length().client_config()).name("localhost");
            return Ok(self.chat.start_tls(client)?);
        }
        assert!(line == self.lines[self.replies], "reply {}", self.replies);
        self.replies += 1;
        if self.replies == self.lines.len() {
            self.done.set(true);
            match self.ending {
                0 => {}
                1 => self.chat.close_when_done(),
                _ => self.chat.close(),
            }
        }
        Ok(())
    }
    fn handle_eof(&mut self, partial: &[u8]) -> Result<Eof> {
        assert!(partial.is_empty());
        Ok(Eof::CloseWhenDone)
    }
    fn handle_close(&mut self, why: &Close) {
        *self.end.borrow_mut() = name(why);
    }
}

#[test]
fn every_line_comes_back_over_every_network() -> Result {
    let seeds = std::env::var("ASYNCHAT_SEEDS")
        .ok()
        .and_then(|it| it.parse().ok());
    for seed in 0..seeds.unwrap_or(60u64).min(5000) {
        converse(seed).map_err(|error| format!("seed {seed}: {error}"))?;
    }
    Ok(())
}

/// Otherwise a failure could not be repeated.
#[test]
fn a_seed_has_one_run() -> Result {
    for seed in 0..10 {
        assert_eq!(converse(seed)?, converse(seed)?, "seed {seed}");
    }
    Ok(())
}

/// Returns what the loop has done.
fn converse(seed: u64) -> Result<String> {
    let mut rng = Rng::with_seed(seed);
    let network = Network::new(seed);
    let event_loop = network.event_loop()?;
    let often = |rng: &mut Rng| rng.f64() * 0.6;
    network.set_conditions(
        network
            .conditions()
            .short_reads(often(&mut rng))
            .short_writes(often(&mut rng))
            .would_block(often(&mut rng))
            .late_events(often(&mut rng))
            .shuffled(rng.bool())
            .one_shot(rng.bool())
            .buffer(rng.usize(200..40_000)),
    );
    let starts_tls = rng.bool();
    let limits = Limits::default()
        .turn_read(rng.usize(1..70_000))
        .turn_write(rng.usize(1..70_000))
        .record(60_000);
    let lines: Vec<Vec<u8>> = (0..rng.usize(1..60))
        .map(|_| {
            let longest = if rng.u8(..) < 30 { 50_000 } else { 200 };
            let length = rng.usize(0..longest);
            (0..length).map(|_| rng.u8(b'a'..=b'z')).collect()
        })
        .collect();
    let (server_end, client_end): (Rc<RefCell<String>>, Rc<RefCell<String>>) = Default::default();
    let server = Server::new("127.0.0.1:563").limits(limits);
    let server = if starts_tls {
        server
    } else {
        server.tls(identity_of_fixed_length().server_config())
    };
    let (end, session_rng) = (Rc::clone(&server_end), rng.fork());
    let listener = server.listen_on(&event_loop, move |chat| Echo {
        chat,
        rng: session_rng.clone(),
        starts_tls,
        end: Rc::clone(&end),
    })?;
    // A client that sends without waiting reads all the same, or both sides could wait for ever.
    let limits = limits.high_water(64 << 20).output(64 << 20);
    let connector = Connector::new("127.0.0.1:563").limits(limits);
    let connector = if starts_tls {
        connector
    } else {
        connector.tls(identity_of_fixed_length().client_config())
    };
    let (done, ending) = (Rc::new(Cell::new(false)), rng.u8(0..3));
    let (is_done, end) = (Rc::clone(&done), Rc::clone(&client_end));
    connector.connect_on(&event_loop, move |chat| Caller {
        chat,
        lines,
        replies: 0,
        starts_tls,
        ending,
        done: is_done,
        end,
    })?;
    for _ in 0..200 {
        network.advance(&event_loop, Duration::from_secs(1))?;
        if !server_end.borrow().is_empty() && !client_end.borrow().is_empty() {
            break;
        }
    }
    let ends = (server_end.borrow().clone(), client_end.borrow().clone());
    if !done.get() {
        return Err(format!("not all lines have come back: {ends:?}").into());
    }
    let of_client = if ending == 0 { "Eof" } else { "Local" };
    // `close` announces the end only if the kernel accepts that at once.
    let of_server = ends.0 == "Eof" || (ending == 2 && ends.0 == "Truncated");
    if !of_server || ends.1 != of_client {
        return Err(format!("ending {ending}: {ends:?}").into());
    }
    listener.close();
    network.advance(&event_loop, Duration::from_secs(60))?;
    if !event_loop.is_empty() || network.sockets() > 0 {
        return Err("something is left".into());
    }
    Ok(format!("{:?} {:?}", event_loop.stats(), network.elapsed()))
}
