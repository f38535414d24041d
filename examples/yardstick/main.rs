//! The server of a small benchmark protocol.
//!
//! ```text
//! cargo run --release --example yardstick -- 7007
//! cargo run --release --example yardstick -- 7007 --threads 2
//! cargo run --release --example yardstick -- 7007 --tls-cert cert.pem --tls-key key.pem
//! ```
//!
//! Lines end with CRLF.
//!
//! | command | reply |
//! |---|---|
//! | `BULK n` | `211 n`, then n bytes and CRLF |
//! | `ARTICLE k` | `220 k`, then thirty lines of text and a dot line |
//! | `JOIN` | `200 JOIN`; the connection joins the room |
//! | `SAY x` | `300 x` to all connections in the room |
//! | `QUIT` | `205 bye`, then the connection is closed |
//! | any other line | `200` and the line |

#[path = "../common/mod.rs"]
mod common;

use std::cell::RefCell;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use asynchat::{AsyncChat, Chat, Close, Limits, More, Producer, Remote, Result, Server, tls};
use bytes::Bytes;
use clap::Parser;

/// Serves the benchmark protocol on 127.0.0.1.
#[derive(Parser)]
struct Args {
    /// The port; 0 chooses a free one.
    port: u16,
    /// How many threads to start. Each has its own loop, its own share of the connections and its
    /// own room. More than one requires SO_REUSEPORT.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: u16,
    /// Use TLS with this certificate (PEM). The example `test_certificate` makes one.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The private key of the certificate (PEM).
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
}

impl Args {
    /// How TLS connections are accepted, if the server is to use TLS.
    fn acceptor(&self) -> Result<Option<tls::Acceptor>> {
        let files = self.tls_cert.as_ref().zip(self.tls_key.as_ref());
        let config = files.map(|(cert, key)| tls::server_config_from_files(cert, key));
        Ok(config.transpose()?.map(tls::Acceptor::from))
    }
}

/// The state that the sessions of one loop share.
struct Shared {
    room: RefCell<Vec<Chat>>,
    article: Bytes,
    fill: Bytes,
}

struct Session {
    chat: Chat,
    shared: Rc<Shared>,
}

impl AsyncChat for Session {
    fn found_terminator(&mut self, line: &[u8]) -> Result {
        let chat = &self.chat;
        match line {
            [b'B', b'U', b'L', b'K', b' ', count @ ..] => {
                let count = std::str::from_utf8(count)?.parse()?;
                write!(chat, "211 {count}\r\n");
                chat.push_with_producer(Fill {
                    left: count,
                    from: self.shared.fill.clone(),
                });
                chat.push("\r\n");
            }
            [b'A', b'R', b'T', b'I', b'C', b'L', b'E', b' ', number @ ..] => {
                chat.push_slices(&[b"220 ", number, b"\r\n"]);
                chat.push(self.shared.article.clone());
            }
            b"JOIN" => {
                self.shared.room.borrow_mut().push(chat.clone());
                chat.push("200 JOIN\r\n");
            }
            [b'S', b'A', b'Y', b' ', words @ ..] => {
                let message = [b"300 ", words, b"\r\n"].concat();
                for member in self.shared.room.borrow().iter() {
                    member.push_slice(&message);
                }
            }
            b"QUIT" => {
                chat.push("205 bye\r\n");
                chat.close_when_done();
            }
            line => chat.push_slices(&[b"200 ", line, b"\r\n"]),
        }
        Ok(())
    }

    fn handle_close(&mut self, _: &Close) {
        let mut room = self.shared.room.borrow_mut();
        room.retain(|member| member.id() != self.chat.id());
    }
}

/// Produces a number of bytes, as slices of one buffer.
struct Fill {
    left: usize,
    from: Bytes,
}

impl Producer for Fill {
    fn more(&mut self, budget: usize) -> io::Result<More> {
        let count = self.left.min(budget).min(self.from.len());
        if count == 0 {
            return Ok(More::Done);
        }
        self.left -= count;
        Ok(More::Chunk(self.from.slice(..count)))
    }
}

/// Thirty lines of seventy letters, and a dot line.
fn article() -> Bytes {
    let mut article = Vec::new();
    for line in 0..30u8 {
        article.extend_from_slice(&[b'a' + line % 26; 70]);
        article.extend_from_slice(b"\r\n");
    }
    article.extend_from_slice(b".\r\n");
    article.into()
}

/// Starts the server on this thread's loop. Returns its address, and a `Remote` to stop it.
fn serve(
    addr: SocketAddr,
    shares_port: bool,
    tls: Option<&tls::Acceptor>,
) -> Result<(SocketAddr, Remote)> {
    let shared = Rc::new(Shared {
        room: RefCell::default(),
        article: article(),
        fill: vec![b'x'; 64 * 1024].into(),
    });
    let limits = Limits::default()
        // Clients of the protocol send lines of up to one mebibyte.
        .record(2 << 20)
        // All clients have the same address, and there are tens of thousands of them.
        .connections(65_536)
        .per_address(Limits::UNLIMITED);
    let mut server = Server::new(addr).reuse_port(shares_port).limits(limits);
    if let Some(acceptor) = tls {
        server = server.tls(acceptor);
    }
    let listener = server.listen(move |chat| Session {
        chat,
        shared: Rc::clone(&shared),
    })?;
    let addr = listener.local_addr().and_then(|addr| addr.inet());
    Ok((
        addr.ok_or("the listener has no address")?,
        asynchat::remote()?,
    ))
}

fn main() -> Result {
    let args = Args::parse();
    let several = args.threads > 1;
    let tls = args.acceptor()?;
    let port = (Ipv4Addr::LOCALHOST, args.port).into();
    let (addr, remote) = serve(port, several, tls.as_ref())?;
    let mut remotes = vec![remote];
    for _ in 1..args.threads {
        remotes.push(serve_on_new_thread(addr, tls.clone())?);
    }
    common::shutdown_all_on_ctrl_c(remotes, Duration::from_secs(1))?;
    common::announce(addr);
    asynchat::run()?;
    Ok(())
}

/// Starts the server on the loop of a new thread.
fn serve_on_new_thread(addr: SocketAddr, tls: Option<tls::Acceptor>) -> Result<Remote> {
    let (sender, served) = mpsc::channel();
    thread::spawn(move || {
        let outcome = serve(addr, true, tls.as_ref()).map_err(|error| error.to_string());
        let serves = outcome.is_ok();
        // `send` cannot fail, because the receiver waits below.
        let _ = sender.send(outcome);
        if serves && let Err(error) = asynchat::run() {
            common::print_to_stderr(format_args!("yardstick: {error}"));
        }
    });
    let (_, remote) = served.recv()??;
    Ok(remote)
}
