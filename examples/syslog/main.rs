//! A collector of syslog messages over UDP, TCP and a Unix-domain socket, with periodic reports.
//!
//! ```text
//! cargo run --release --example syslog -- --listen 127.0.0.1:5514 --every 10
//! logger -d -n 127.0.0.1 -P 5514 "over UDP"                     # in another terminal
//! logger -T -n 127.0.0.1 -P 5514 "over TCP, a line"
//! logger -T --octet-count -n 127.0.0.1 -P 5514 "over TCP, counted"
//! ```
//!
//! With `--unix PATH` it also listens on a Unix-domain socket, as the owner of `/dev/log` does
//! (`logger -u PATH`). Started by systemd, or by
//! `systemd-socket-activate -d -l 5514 target/release/examples/syslog`, it serves the sockets that it
//! inherits.
//!
//! It writes each message to standard output as a line with severity, host and text. The reports go to
//! standard error.
//!
//! Ctrl-C and SIGTERM end it, and a second signal ends it at once. SIGHUP does nothing.

#[path = "../common/mod.rs"]
mod common;

mod collector;
mod datagrams;
mod message;
mod output;
mod stream;
#[cfg(unix)]
mod unix;

use std::io::Write;
use std::net::UdpSocket;
use std::rc::Rc;
use std::time::Duration;

use asynchat::{Addr, Channel, Deadlines, Limits, Result, Server, Socket};
use clap::Parser;
use listenfd::ListenFd;

use collector::Collector;
use datagrams::Datagrams;
use output::Output;
use stream::Stream;

/// Collects syslog messages (RFC 5424, RFC 3164) over UDP (RFC 5426) and TCP (RFC 6587).
#[derive(Parser)]
#[command(after_help = common::SIGNALS)]
struct Args {
    /// The address to listen on for UDP and TCP; port 0 chooses a free port. It has no effect when
    /// sockets are inherited.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:5514")]
    listen: String,
    /// A path at which to create a Unix-domain socket. A socket that a killed program has left there
    /// is replaced; any other file there is an error.
    #[cfg(unix)]
    #[arg(long, value_name = "PATH")]
    unix: Option<std::path::PathBuf>,
    /// The interval between reports, in seconds; 0 for no reports.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    every: u64,
    /// Do not write messages that are less severe than this: 0 (emergency) to 7 (debug).
    #[arg(long, value_name = "SEVERITY", default_value_t = 7, value_parser = clap::value_parser!(u8).range(0..=7))]
    severity: u8,
}

fn main() -> Result {
    let args = Args::parse();
    common::log_to_stderr("warn");
    let collector = Rc::new(Collector::new(
        args.severity,
        Output::new(std::io::stdout())?,
    ));
    common::shutdown_on_ctrl_c(Duration::from_secs(1))?;
    let inherited = serve_inherited(&collector)?;
    let addr = match inherited {
        0 => Some(serve(&collector, &args.listen)?),
        _ => None,
    };
    #[cfg(unix)]
    if let Some(path) = &args.unix {
        collect_datagrams(&collector, unix::bind(path)?)?;
    }
    match addr {
        Some(addr) => common::announce(addr),
        None => common::announce(format_args!("{inherited} inherited sockets")),
    }
    if args.every > 0 {
        let collector = Rc::clone(&collector);
        asynchat::call_every(Duration::from_secs(args.every), move || report(&collector));
    }
    let outcome = asynchat::run();
    collector.finish();
    report(&collector);
    #[cfg(unix)]
    if let Some(path) = &args.unix {
        std::fs::remove_file(path)?;
    }
    outcome?;
    Ok(())
}

fn report(collector: &Collector) {
    // If standard error is full or closed, the error cannot be reported anywhere.
    let _ = std::io::stderr().write_all(collector.report().as_bytes());
}

/// Listens for UDP and TCP on the same port, which the system may have chosen. TCP is first: if its port is taken, the
/// program ends before it has received a datagram, whose sender would not learn that it is lost.
fn serve(collector: &Rc<Collector>, listen: &str) -> Result<Addr> {
    let listener = collect_streams(collector, Server::new(listen))?;
    let addr = listener.local_addr().ok_or("the listener has no address")?;
    let inet = addr.inet().ok_or("the listener has no port")?;
    let udp = UdpSocket::bind(inet).map_err(|error| format!("listen on {inet}: {error}"))?;
    collect_datagrams(collector, udp)?;
    Ok(addr)
}

/// Serves the sockets that a supervisor has opened (LISTEN_FDS), and returns their number.
fn serve_inherited(collector: &Rc<Collector>) -> Result<usize> {
    let mut fds = ListenFd::from_env();
    for number in 0..fds.len() {
        serve_one(collector, &mut fds, number)
            .map_err(|error| format!("inherited socket {number}: {error}"))?;
    }
    Ok(fds.len())
}

/// Serves one inherited socket: UDP, TCP, or a Unix-domain datagram or stream socket. For example, journald
/// forwards messages as datagrams to /run/systemd/journal/syslog.
fn serve_one(collector: &Rc<Collector>, fds: &mut ListenFd, number: usize) -> Result {
    if let Ok(Some(udp)) = fds.take_udp_socket(number) {
        return collect_datagrams(collector, udp);
    }
    #[cfg(unix)]
    if let Ok(Some(datagrams)) = fds.take_unix_datagram(number) {
        return collect_datagrams(collector, datagrams);
    }
    #[cfg(unix)]
    if let Ok(Some(listener)) = fds.take_unix_listener(number) {
        return collect_streams(collector, Server::adopt(listener)).map(drop);
    }
    let tcp = fds.take_tcp_listener(number)?;
    let tcp = tcp.ok_or("it was already used")?;
    collect_streams(collector, Server::adopt(tcp)).map(drop)
}

fn collect_datagrams(collector: &Rc<Collector>, socket: impl Into<Socket>) -> Result {
    let channel = Channel::adopt(socket)?;
    asynchat::register(Datagrams::new(channel, Rc::clone(collector)))?;
    Ok(())
}

fn collect_streams(collector: &Rc<Collector>, server: Server) -> Result<Channel> {
    let collector = Rc::clone(collector);
    let listener = server
        .limits(Limits::default().record(message::MAX_MESSAGE))
        .deadlines(Deadlines::default().record(Duration::from_secs(30)))
        .listen(move |chat| Stream::new(chat, Rc::clone(&collector)))?;
    Ok(listener)
}
