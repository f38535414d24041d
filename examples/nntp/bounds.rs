//! The command line options that limit connections, memory, disk and time.

#![allow(
    unreachable_pub,
    reason = "in a program, `pub` items are visible to the other modules only"
)]

use std::time::Duration;

use asynchat::proxy_protocol::Network;
use clap::Args;
use tracing::warn;

use crate::numbers::{count, seconds};
use crate::server::Options;

/// The idle timeout must be at least three minutes (RFC 3977, section 3.1).
const MIN_IDLE: u64 = 180;

#[derive(Args)]
#[command(next_help_heading = "Limits")]
pub struct Bounds {
    /// How many connections are served at a time. Further ones get a 400 and are closed.
    /// The address of --tls-listen has a count of its own, and sends an alert of TLS instead.
    #[arg(long, value_name = "N", default_value = "1000", value_parser = count())]
    max_connections: usize,

    /// How many connections one address may have. An IPv6 network of 64 bits counts
    /// as one address. Behind a proxy, all connections have the proxy's address, unless
    /// --proxy-protocol is given.
    #[arg(long, value_name = "N", default_value = "100", value_parser = count())]
    max_per_address: usize,

    /// Accept only connections of proxies in this network, which send the client's address
    /// with the PROXY protocol (repeatable): 10.0.0.0/8, ::1, unix:. A client whose TLS ends at
    /// the proxy counts as one with TLS, if the header says so (`send-proxy-v2-ssl` of haproxy).
    #[arg(long, value_name = "NETWORK")]
    pub proxy_protocol: Vec<Network>,

    /// The maximum length of a posted article.
    #[arg(long, value_name = "OCTETS", default_value = "1048576", value_parser = count())]
    max_article: usize,

    /// Memory that all posts may use together; the default is 64 MiB. When it is
    /// used up, posts are refused, and all other commands still work. With
    /// --store the texts are on the disk, and each post counts with its overview
    /// of about 1 KiB. Articles that were not posted do not count.
    #[arg(long, value_name = "OCTETS", default_value = "67108864",
          value_parser = clap::value_parser!(u64).range(1..))]
    max_spool: u64,

    /// Disk space that posts in --store may use together, such as 500M or 20G. K, M and G are
    /// powers of 1024. When an article of the maximum length would not fit, posts are refused
    /// before they are sent, and all other commands still work. The file grows in steps and may
    /// be twice as large as its content.
    #[arg(long, value_name = "SIZE", default_value = "1G", value_parser = size)]
    pub max_store: u64,

    /// After how many unknown or malformed commands in a row the server closes a
    /// connection. An HTTP request or an SMTP greeting closes it at once.
    #[arg(long, value_name = "N", default_value = "10", value_parser = count())]
    max_bad_commands: usize,

    /// After how many failed log-ins the server closes a connection.
    #[arg(long, value_name = "N", default_value = "3", value_parser = count())]
    max_failed_logins: usize,

    /// The idle timeout of a connection. RFC 3977 requires at least 180.
    #[arg(long, value_name = "SECONDS", default_value = "600", value_parser = seconds())]
    idle: u64,

    /// The time limit for receiving a command line, from its first octet.
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds())]
    command_time: u64,

    /// The time limit for receiving an article, from its first octet.
    #[arg(long, value_name = "SECONDS", default_value = "600", value_parser = seconds())]
    article_time: u64,

    /// The time limit for a client to read its queued replies, or each 64 KiB of
    /// them.
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds())]
    drain_time: u64,

    /// How long clients may still read their queued replies after Ctrl-C.
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = seconds())]
    grace: u64,
}

impl Bounds {
    /// Copies these limits to the server's options.
    pub fn apply(&self, options: &mut Options) {
        if self.idle < MIN_IDLE {
            warn!(
                "--idle {}: RFC 3977 requires at least {MIN_IDLE}",
                self.idle
            );
        }
        if self.max_store < self.max_article as u64 {
            warn!("--max-store is less than --max-article: no post will fit");
        }
        options.limits = options
            .limits
            .connections(self.max_connections)
            .per_address(self.max_per_address);
        options.proxies.clone_from(&self.proxy_protocol);
        options.deadlines = options
            .deadlines
            .idle(Duration::from_secs(self.idle))
            .record(Duration::from_secs(self.command_time))
            .drain(Duration::from_secs(self.drain_time));
        options.article_time = Duration::from_secs(self.article_time);
        options.max_article = self.max_article;
        options.max_spool = self.max_spool;
        options.max_bad_commands = self.max_bad_commands;
        options.max_failed_logins = self.max_failed_logins;
    }

    /// How long the shutdown may take after Ctrl-C.
    pub fn grace(&self) -> Duration {
        Duration::from_secs(self.grace)
    }
}

/// Parses a number of octets with an optional suffix K, M or G, which are powers of 1024.
fn size(text: &str) -> Result<u64, String> {
    let (digits, shift) = match text.as_bytes().last() {
        Some(b'K' | b'k') => (&text[..text.len() - 1], 10),
        Some(b'M' | b'm') => (&text[..text.len() - 1], 20),
        Some(b'G' | b'g') => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    let size = digits.parse::<u64>().ok().filter(|&n| n > 0);
    let size = size.and_then(|n| n.checked_mul(1 << shift));
    size.ok_or_else(|| format!("{text:?} is not a size"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(size("7"), Ok(7));
        assert_eq!(size("2k"), Ok(2048));
        assert_eq!(size("500M"), Ok(500 << 20));
        assert_eq!(size("20G"), Ok(20 << 30));
        for bad in ["", "0", "M", "-1", "1.5G", "1T", "1 G", "99999999999G"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }
}
