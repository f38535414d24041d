//! A collector of syslog messages, over UDP, TCP and a Unix-domain socket, with a report every so often.
//!
//! ```text
//! cargo run --release --example syslog -- --listen 127.0.0.1:5514 --every 10
//! logger -d -n 127.0.0.1 -P 5514 "over UDP"                     # in another terminal
//! logger -T -n 127.0.0.1 -P 5514 "over TCP, a line"
//! logger -T --octet-count -n 127.0.0.1 -P 5514 "over TCP, counted"
//! ```
//!
//! With `--unix PATH` it also takes the place of `/dev/log` (`logger -u PATH`). Started by systemd,
//! or by `systemd-socket-activate -d -l 5514 target/release/examples/syslog`, it serves the sockets
//! that it inherits.
//!
//! Each message is a line on standard output: severity, who, what. The report goes to standard error.

mod collector;
mod message;

use std::net::{TcpListener, UdpSocket};
use std::rc::Rc;
use std::time::Duration;

use asynchat::{Channel, Deadlines, Limits, Result, Server};
use clap::Parser;
use listenfd::ListenFd;

use collector::{Collector, Datagrams, Stream};

/// Collects syslog messages (RFC 5424, RFC 3164) over UDP (RFC 5426) and TCP (RFC 6587).
#[derive(Parser)]
struct Args {
    /// Where to listen, for UDP and for TCP; port 0 picks a free one. Without effect when sockets
    /// are inherited.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:5514")]
    listen: String,
    /// A Unix-domain socket to make and to listen on; what is there before is an error.
    #[cfg(unix)]
    #[arg(long, value_name = "PATH")]
    unix: Option<std::path::PathBuf>,
    /// How often to report, in seconds; 0 for never.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    every: u64,
    /// Leaves out messages that are less severe than this: 0 (emergency) to 7 (debug).
    #[arg(long, value_name = "SEVERITY", default_value_t = 7, value_parser = clap::value_parser!(u8).range(0..=7))]
    severity: u8,
}

fn main() -> Result {
    let args = Args::parse();
    log_to_stderr();
    let collector = Rc::new(Collector::new(args.severity, std::io::stdout()));
    let inherited = serve_inherited(&collector)?;
    if inherited == 0 {
        // TCP takes the port that UDP was given.
        let udp = UdpSocket::bind(&*args.listen)
            .map_err(|error| format!("listen on {}: {error}", args.listen))?;
        let addr = udp.local_addr()?;
        collect_datagrams(&collector, Channel::adopt(udp)?)?;
        collect_streams(&collector, Server::new(addr))?;
        println!("listening on {addr}");
    } else {
        println!("listening on {inherited} inherited sockets");
    }
    #[cfg(unix)]
    if let Some(path) = &args.unix {
        let socket = std::os::unix::net::UnixDatagram::bind(path)
            .map_err(|error| format!("listen on {}: {error}", path.display()))?;
        collect_datagrams(&collector, Channel::adopt(socket)?)?;
    }
    if args.every > 0 {
        let collector = Rc::clone(&collector);
        asynchat::call_every(Duration::from_secs(args.every), move || {
            eprint!("{}", collector.report());
        });
    }
    let remote = asynchat::remote()?;
    ctrlc::set_handler(move || {
        let _ = remote.shutdown(Duration::from_secs(1));
    })?;
    let outcome = asynchat::run();
    eprint!("{}", collector.report());
    #[cfg(unix)]
    if let Some(path) = &args.unix {
        std::fs::remove_file(path)?;
    }
    outcome
}

/// Serves what a supervisor has opened (LISTEN_FDS): how many sockets that were.
fn serve_inherited(collector: &Rc<Collector>) -> Result<usize> {
    let mut fds = ListenFd::from_env();
    for number in 0..fds.len() {
        if let Ok(Some(udp)) = fds.take_udp_socket(number) {
            collect_datagrams(collector, Channel::adopt(udp)?)?;
        } else {
            let tcp: Option<TcpListener> = fds.take_tcp_listener(number)?;
            let tcp = tcp.ok_or("an inherited socket was taken already")?;
            collect_streams(collector, Server::adopt(tcp))?;
        }
    }
    Ok(fds.len())
}

fn collect_datagrams(collector: &Rc<Collector>, channel: Channel) -> Result {
    asynchat::register(Datagrams::new(channel, Rc::clone(collector)))?;
    Ok(())
}

fn collect_streams(collector: &Rc<Collector>, server: Server) -> Result {
    let collector = Rc::clone(collector);
    server
        .limits(Limits::default().record(message::LONGEST))
        .deadlines(Deadlines::default().record(Duration::from_secs(30)))
        .listen(move |chat| Stream::new(chat, Rc::clone(&collector)))?;
    Ok(())
}

fn log_to_stderr() {
    use std::io::IsTerminal;
    use tracing_subscriber::EnvFilter;
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
}
