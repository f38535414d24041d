//! The options of the command line that concern FTP.

use std::net::Ipv4Addr;
use std::ops::RangeInclusive;

use clap::Args;

#[derive(Args)]
#[command(next_help_heading = "FTP")]
pub struct FtpArguments {
    /// Also listen on this address, for FTP. With a certificate clients can use AUTH TLS. Users
    /// have to, and PROT P for data connections. Default: 127.0.0.1:2121, without --listen,
    /// --tls-listen, --proxy-protocol and --ftps-listen. If this port is taken, the log says so, and
    /// there is no FTP.
    #[arg(long, value_name = "HOST:PORT")]
    pub ftp_listen: Option<String>,

    /// Also listen on this address, for FTP with TLS from the beginning, as clients expect it of
    /// `ftps://`. It has a count of connections of its own.
    #[arg(long, value_name = "HOST:PORT", requires = "tls_cert")]
    pub ftps_listen: Option<String>,

    /// Do not listen for FTP.
    #[arg(long, conflicts_with_all = ["ftp_listen", "ftps_listen"])]
    pub no_ftp: bool,

    /// Refuse data connections that do not resume the TLS session of their control connection, so that
    /// nobody else with the address of a client can take its port. curl, lftp and FileZilla resume it;
    /// Python's ftplib does not. With TLS 1.3, curl does so for one file in a connection, and with
    /// --tls-max 1.2 for any number. With TLS 1.3 the session can be resumed for 24 hours; after that
    /// a client has to log in again. Data connections without TLS (PROT C) are not affected.
    #[arg(long, requires = "tls_cert")]
    pub ftps_require_reuse: bool,

    /// The ports of passive data connections, which a firewall has to let through. Each transfer
    /// needs one, and an address may occupy half of those that the others leave. Default: on
    /// Linux 49152-60999, and any other port if these are in use; elsewhere the system chooses.
    #[arg(long, value_name = "FIRST-LAST", value_parser = ports)]
    pub ftp_ports: Option<RangeInclusive<u16>>,

    /// The IPv4 address in replies to PASV, to which clients connect, if the server is behind a
    /// router with NAT. Default: the address that the client has connected to.
    #[arg(long, value_name = "ADDRESS")]
    pub ftp_address: Option<Ipv4Addr>,

    /// Refuse PORT and EPRT: the server never connects to a client. Without this option, a client on the
    /// host of the server makes it connect to any port from 1024 on but the server's own. Behind a forwarder
    /// on this host, all clients seem to be such clients.
    #[arg(long)]
    pub ftp_passive_only: bool,

    /// How long a client of FTP may be silent between two commands. Then it gets a 421.
    #[arg(long, value_name = "SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..1 << 32))]
    pub ftp_idle: u64,
}

impl FtpArguments {
    /// Whether somebody asks for FTP. Otherwise it is beside HTTP, if its port is free.
    pub fn is_wanted(&self) -> bool {
        self.has_addresses() || self.has_options()
    }

    pub fn has_addresses(&self) -> bool {
        self.ftp_listen.is_some() || self.ftps_listen.is_some()
    }

    /// Whether there is an option that has no effect without FTP.
    pub fn has_options(&self) -> bool {
        self.ftps_require_reuse
            || self.ftp_ports.is_some()
            || self.ftp_passive_only
            || self.ftp_address.is_some()
    }
}

fn ports(text: &str) -> Result<RangeInclusive<u16>, &'static str> {
    let parsed = text
        .split_once('-')
        .and_then(|(first, last)| Some((first.parse::<u16>().ok()?, last.parse::<u16>().ok()?)));
    match parsed {
        Some((first, last)) if 0 < first && first <= last => Ok(first..=last),
        _ => Err("expected two ports, such as 50000-50100"),
    }
}
