//! The client: all connections on one thread, and a look at every byte that comes.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::time::{Duration, Instant};

use asynchat::Result;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use super::workload::Workload;

/// How long a server may be silent.
const PATIENCE: Duration = Duration::from_secs(30);

pub struct Client {
    poll: Poll,
    events: Events,
    connections: Vec<Connection>,
    buffer: Vec<u8>,
    /// How long to wait for an event. Not at all on a core of its own: then the server never pays
    /// for waking it.
    wait: Duration,
    /// When something came last.
    heard: Instant,
}

impl Client {
    pub fn connect(addr: SocketAddr, workload: &Workload, own_core: bool) -> Result<Client> {
        let poll = Poll::new()?;
        let mut connections = Vec::new();
        for number in 0..workload.connections {
            let stream = std::net::TcpStream::connect(addr)?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            let mut stream = TcpStream::from_std(stream);
            let both = Interest::READABLE | Interest::WRITABLE;
            // The first event says that it is writable, and the first barrage goes.
            poll.registry().register(&mut stream, Token(number), both)?;
            connections.push(Connection {
                stream,
                barrages: [0, 1].map(|turn| workload.barrage(number, turn)),
                turn: 0,
                sent: 0,
                received: 0,
            });
        }
        Ok(Client {
            poll,
            events: Events::with_capacity(1024),
            connections,
            buffer: vec![0; 64 * 1024],
            wait: Duration::from_millis(if own_core { 0 } else { 100 }),
            heard: Instant::now(),
        })
    }

    /// Keeps the barrages coming for so long. The number of bytes that came back.
    pub fn play(&mut self, time: Duration) -> Result<u64> {
        let end = Instant::now() + time;
        let mut bytes = 0;
        while Instant::now() < end {
            bytes += self.turn(true)?;
        }
        Ok(bytes)
    }

    /// Waits for what is outstanding, and sees that nothing comes after it.
    pub fn finish(mut self) -> Result {
        while !self.connections.iter().all(Connection::is_complete) {
            self.turn(false)?;
        }
        for connection in self.connections {
            let mut stream = std::net::TcpStream::from(connection.stream);
            stream.set_nonblocking(false)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.shutdown(Shutdown::Write)?;
            if stream.read(&mut self.buffer)? > 0 {
                return Err("more came than was sent".into());
            }
        }
        Ok(())
    }

    fn turn(&mut self, goes_on: bool) -> Result<u64> {
        self.poll.poll(&mut self.events, Some(self.wait))?;
        let mut bytes = 0;
        for event in &self.events {
            let connection = &mut self.connections[event.token().0];
            bytes += connection.turn(&mut self.buffer, goes_on)?;
        }
        if bytes > 0 {
            self.heard = Instant::now();
        } else if self.heard.elapsed() > PATIENCE {
            return Err("replies are missing".into());
        }
        Ok(bytes)
    }
}

struct Connection {
    stream: TcpStream,
    /// What it sends, and so what it has to receive: one and the other in turn.
    barrages: [Vec<u8>; 2],
    turn: usize,
    sent: usize,
    received: usize,
}

impl Connection {
    /// Sends and receives what goes at once. The number of bytes received.
    fn turn(&mut self, buffer: &mut [u8], goes_on: bool) -> Result<u64> {
        let mut bytes = 0;
        loop {
            self.send()?;
            let count = match self.stream.read(buffer) {
                Ok(0) => return Err("the server closed the connection".into()),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(bytes),
                Err(error) => return Err(error.into()),
            };
            let barrage = &self.barrages[self.turn];
            if !barrage[self.received..self.sent].starts_with(&buffer[..count]) {
                return Err(format!("a wrong reply: {}", buffer[..count].escape_ascii()).into());
            }
            self.received += count;
            bytes += count as u64;
            if goes_on && self.is_complete() {
                self.turn = 1 - self.turn;
                self.sent = 0;
                self.received = 0;
                self.send()?;
            }
            // There was no more, and what comes next is a new event; IOCP wants to be asked.
            if count < buffer.len() && cfg!(unix) {
                return Ok(bytes);
            }
        }
    }

    fn send(&mut self) -> Result {
        let barrage = &self.barrages[self.turn];
        while self.sent < barrage.len() {
            match self.stream.write(&barrage[self.sent..]) {
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn is_complete(&self) -> bool {
        self.received == self.barrages[self.turn].len()
    }
}
