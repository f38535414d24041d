//! The servers. Each echoes lines that end with CR LF, on one thread. The reply to `get` has 64 MiB.

use std::io::{self, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::{env, process, thread};

use asynchat::tls::{self, rustls::ServerConfig};
use asynchat::{AsyncChat, Chat, Eof, Limits, More, Producer, Result, Server};
use bytes::Bytes;
use futures_util::{FutureExt, SinkExt, StreamExt};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::codec::{Framed, LinesCodec, LinesCodecError};

use crate::certificate::Files;
use crate::machine;
use crate::process::Process;
use crate::terminators;

/// All that the client can talk to. The first two serve, the others stand before a server without TLS.
pub const NAMES: [&str; 6] = [
    "asynchat",
    "tokio",
    "asynchat pipe",
    "nginx",
    "haproxy",
    "stunnel",
];

pub const DOWNLOAD: usize = 64 << 20;

/// What a download consists of.
const CHUNK: usize = 64 * 1024;

/// Whether the program is installed.
pub fn is_present(name: &str) -> bool {
    match name {
        "nginx" | "haproxy" | "stunnel" => machine::output_of("which", &[name]).is_some(),
        _ => true,
    }
}

/// A server, and the one behind it if it needs one.
pub struct Running {
    pub addr: SocketAddr,
    /// The process that is measured.
    pub id: u32,
    _process: Process,
    _behind: Option<Process>,
}

impl Running {
    pub fn start(name: &str, files: &Files, core: Option<usize>) -> Result<Running> {
        let folder = files.folder().to_str().ok_or("a path that is no text")?;
        let behind = match name {
            "asynchat" | "tokio" => None,
            _ => Some(Process::start(
                own(&["--serve", "plain"])?.arg("--bench"),
                None,
            )?),
        };
        let process = match (name, &behind) {
            ("nginx" | "haproxy" | "stunnel", Some(behind)) => {
                terminators::start(name, files, behind.addr, core)?
            }
            (_, behind) => {
                let mut command = own(&["--serve", name, "--with", folder])?;
                if let Some(behind) = behind {
                    command.args(["--with", &behind.addr.to_string()]);
                }
                Process::start(&mut command, core)?
            }
        };
        Ok(Running {
            addr: process.addr,
            id: process.id(),
            _process: process,
            _behind: behind,
        })
    }
}

/// This program.
fn own(arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new(env::current_exe()?);
    command.args(arguments);
    Ok(command)
}

/// Runs the server with this name. The process ends when its input ends, that is, when the parent process has
/// ended.
pub fn serve(name: &str, with: &[String]) -> Result {
    thread::spawn(|| {
        let _ = io::stdin().read_to_end(&mut Vec::new());
        process::exit(0);
    });
    match (name, with) {
        ("plain", []) => serve_lines(Server::new("127.0.0.1:0")),
        ("asynchat", [folder]) => serve_lines(Server::new("127.0.0.1:0").tls(config(folder)?)),
        ("tokio", [folder]) => serve_tokio(config(folder)?),
        ("asynchat pipe", [folder, behind]) => serve_pipes(config(folder)?, behind.parse()?),
        _ => Err(format!("there is no server {name} with {with:?}").into()),
    }
}

fn config(folder: &str) -> Result<Arc<ServerConfig>> {
    let folder = Path::new(folder);
    Ok(tls::server_config_from_files(
        folder.join("cert.pem"),
        folder.join("key.pem"),
    )?)
}

fn announce(addr: SocketAddr) {
    println!("listening on {addr}");
}

/// All clients have the same address.
fn limits() -> Limits {
    Limits::default().per_address(Limits::UNLIMITED)
}

// ---- this crate

fn serve_lines(server: Server) -> Result {
    let listener = server.limits(limits()).listen(|chat| Lines { chat })?;
    let addr = listener.local_addr().and_then(|addr| addr.inet());
    announce(addr.ok_or("the listener has no address")?);
    asynchat::run()?;
    Ok(())
}

struct Lines {
    chat: Chat,
}

impl AsyncChat for Lines {
    fn found_terminator(&mut self, line: &[u8]) -> Result {
        match line {
            b"get" => self.chat.push_with_producer(Download::new()),
            line => self.chat.push_slices(&[line, b"\r\n"]),
        }
        Ok(())
    }
}

struct Download {
    chunk: Bytes,
    left: usize,
}

impl Download {
    fn new() -> Self {
        let chunk = Bytes::from(vec![b'x'; CHUNK]);
        Download {
            chunk,
            left: DOWNLOAD,
        }
    }
}

impl Producer for Download {
    fn more(&mut self, budget: usize) -> io::Result<More> {
        let count = self.left.min(budget).min(CHUNK);
        if count == 0 {
            return Ok(More::Done);
        }
        self.left -= count;
        Ok(More::Chunk(self.chunk.slice(..count)))
    }
}

fn serve_pipes(config: Arc<ServerConfig>, behind: SocketAddr) -> Result {
    let server = Server::new("127.0.0.1:0").limits(limits()).tls(config);
    let listener = server.listen(move |near| {
        let far = asynchat::connect(behind, |_| Piped)?;
        asynchat::pipe(&near, &far)?;
        Ok::<_, asynchat::BoxError>(Piped)
    })?;
    let addr = listener.local_addr().and_then(|addr| addr.inet());
    announce(addr.ok_or("the listener has no address")?);
    asynchat::run()?;
    Ok(())
}

struct Piped;

impl AsyncChat for Piped {
    fn found_terminator(&mut self, _: &[u8]) -> Result {
        Ok(())
    }

    fn handle_eof(&mut self, _: &[u8]) -> Result<Eof> {
        Ok(Eof::CloseWhenDone)
    }
}

// ---- tokio

fn serve_tokio(config: Arc<ServerConfig>) -> Result {
    let acceptor = TlsAcceptor::from(config);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        announce(listener.local_addr()?);
        loop {
            let (stream, _) = listener.accept().await?;
            tokio::spawn(serve_tokio_lines(acceptor.clone(), stream));
        }
    })
}

async fn serve_tokio_lines(
    acceptor: TlsAcceptor,
    stream: TcpStream,
) -> Result<(), LinesCodecError> {
    stream.set_nodelay(true)?;
    let stream = acceptor.accept(stream).await?;
    let mut lines = Framed::new(stream, LinesCodec::new_with_max_length(8192));
    while let Some(line) = lines.next().await {
        answer(&mut lines, line?).await?;
        // One flush for all lines that have arrived, instead of one for each line.
        while let Some(Some(line)) = lines.next().now_or_never() {
            answer(&mut lines, line?).await?;
        }
        SinkExt::<String>::flush(&mut lines).await?;
    }
    SinkExt::<String>::close(&mut lines).await
}

async fn answer(
    lines: &mut Framed<tokio_rustls::server::TlsStream<TcpStream>, LinesCodec>,
    mut line: String,
) -> Result<(), LinesCodecError> {
    if line == "get" {
        let chunk = vec![b'x'; CHUNK];
        for _ in 0..DOWNLOAD / CHUNK {
            lines.get_mut().write_all(&chunk).await?;
        }
        return Ok(());
    }
    // The codec removes CR LF from a line and appends only LF.
    line.push('\r');
    lines.feed(line).await
}
