//! The client. It has all connections on one thread, and checks every byte that it receives.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::time::{Duration, Instant};

use asynchat::Result;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use super::workload::Workload;

/// If a server sends nothing for this time, the run fails.
const SILENCE_LIMIT: Duration = Duration::from_secs(30);

pub struct Client {
    poll: Poll,
    events: Events,
    connections: Vec<Connection>,
    buffer: Vec<u8>,
    /// The timeout of the poller. It is zero if the client has its own core: then the client never sleeps, and
    /// the server does not spend time on waking it.
    wait: Duration,
    /// When the last byte was received.
    last_received: Instant,
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
            // The first event reports that the socket is writable, and starts the first barrage.
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
            last_received: Instant::now(),
        })
    }

    /// Sends barrages for this time. Returns the number of bytes received.
    pub fn run(&mut self, time: Duration) -> Result<u64> {
        let end = Instant::now() + time;
        let mut bytes = 0;
        while Instant::now() < end {
            bytes += self.turn(true)?;
        }
        Ok(bytes)
    }

    /// Waits for outstanding replies, and checks that nothing follows them.
    pub fn finish(mut self) -> Result {
        while !self.connections.iter().all(Connection::is_complete) {
            self.turn(false)?;
        }
        for connection in self.connections {
            let mut stream = std::net::TcpStream::from(connection.stream);
            stream.set_nonblocking(false)?;
            stream.set_read_timeout(Some(SILENCE_LIMIT))?;
            stream.shutdown(Shutdown::Write)?;
            if stream.read(&mut self.buffer)? > 0 {
                return Err("the server sent more than it received".into());
            }
        }
        Ok(())
    }

    fn turn(&mut self, continues: bool) -> Result<u64> {
        self.poll.poll(&mut self.events, Some(self.wait))?;
        let mut bytes = 0;
        for event in &self.events {
            let connection = &mut self.connections[event.token().0];
            bytes += connection.turn(&mut self.buffer, continues)?;
        }
        if bytes > 0 {
            self.last_received = Instant::now();
        } else if self.last_received.elapsed() > SILENCE_LIMIT {
            return Err("replies are missing".into());
        }
        Ok(bytes)
    }
}

struct Connection {
    stream: TcpStream,
    /// The client alternates between two barrages. The replies must equal them.
    barrages: [Vec<u8>; 2],
    turn: usize,
    sent: usize,
    received: usize,
}

impl Connection {
    /// Sends and receives until the socket would block. Returns the number of bytes received.
    fn turn(&mut self, buffer: &mut [u8], continues: bool) -> Result<u64> {
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
            if continues && self.is_complete() {
                self.turn = 1 - self.turn;
                self.sent = 0;
                self.received = 0;
                self.send()?;
            }
            // The socket is empty, and later data causes a new event. With IOCP, the read must be repeated
            // until it would block.
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
