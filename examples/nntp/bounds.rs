//! The options that say how much a client may take, of everything.

// In a program `pub` is what a module offers its neighbours.
#![allow(unreachable_pub)]

use std::time::Duration;

use clap::Args;
use clap::builder::RangedU64ValueParser;
use tracing::warn;

use crate::server::Options;

/// RFC 3977, section 3.1: no shorter than three minutes.
const LEAST_IDLE: u64 = 180;

#[derive(Args)]
#[command(next_help_heading = "Bounds")]
pub struct Bounds {
    /// How many clients are served at a time; one more hears 400 and is closed.
    #[arg(long, value_name = "N", default_value = "1000", value_parser = count())]
    max_connections: usize,

    /// How many of them come from one address, which for IPv6 is a network of
    /// 64 bits. Behind a proxy all have the address of the proxy.
    #[arg(long, value_name = "N", default_value = "100", value_parser = count())]
    max_per_address: usize,

    /// Octets of the longest article taken.
    #[arg(long, value_name = "OCTETS", default_value = "1048576", value_parser = count())]
    max_article: usize,

    /// Octets of memory that all posts may take together: 64 MiB if not told.
    /// When it is used up, posts are refused; all else goes on. With --store
    /// the texts are on the disk and only an overview of each post, about
    /// 1 KiB, counts. Articles that were not posted never count.
    #[arg(long, value_name = "OCTETS", default_value = "67108864",
          value_parser = clap::value_parser!(u64).range(1..))]
    max_spool: u64,

    /// Octets of the disk that posts in --store may take together, such as 500M or 20G (K, M, G:
    /// times 1024). When an article of the greatest length would not fit any more, posts are
    /// refused before they are sent; all else goes on. The file itself grows in steps, and may be
    /// twice as long as what is written in it.
    #[arg(long, value_name = "SIZE", default_value = "1G", value_parser = size)]
    pub max_store: u64,

    /// How many unknown or malformed commands in a row make the server hang up.
    /// A request of HTTP or SMTP makes it hang up at once.
    #[arg(long, value_name = "N", default_value = "10", value_parser = count())]
    max_bad_commands: usize,

    /// How many failed log-ins make the server hang up.
    #[arg(long, value_name = "N", default_value = "3", value_parser = count())]
    max_failed_logins: usize,

    /// How long a client may be silent. RFC 3977 wants 180 at least.
    #[arg(long, value_name = "SECONDS", default_value = "600", value_parser = seconds())]
    idle: u64,

    /// How long a command line may take to be complete, from its first octet.
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds())]
    command_time: u64,

    /// How long an article may take to come in, from its first octet.
    #[arg(long, value_name = "SECONDS", default_value = "600", value_parser = seconds())]
    article_time: u64,

    /// How long a client may leave what it is sent, or 64 KiB of it, untaken.
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds())]
    drain_time: u64,

    /// How long clients are given to take the rest of their replies after
    /// Ctrl-C.
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = seconds())]
    grace: u64,
}

impl Bounds {
    /// Sets them in the server's options.
    pub fn apply(&self, options: &mut Options) {
        if self.idle < LEAST_IDLE {
            warn!("--idle {}: RFC 3977 wants {LEAST_IDLE} at least", self.idle);
        }
        if self.max_store < self.max_article as u64 {
            warn!("--max-store is less than --max-article: no post will fit");
        }
        options.limits = options
            .limits
            .connections(self.max_connections)
            .per_address(self.max_per_address);
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

    /// How long the end may take after Ctrl-C.
    pub fn grace(&self) -> Duration {
        Duration::from_secs(self.grace)
    }
}

/// Octets, or with K, M or G as many times 1024.
fn size(text: &str) -> Result<u64, String> {
    let (digits, shift) = match text.as_bytes().last() {
        Some(b'K' | b'k') => (&text[..text.len() - 1], 10),
        Some(b'M' | b'm') => (&text[..text.len() - 1], 20),
        Some(b'G' | b'g') => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    let size = digits.parse::<u64>().ok().filter(|&n| n > 0);
    let size = size.and_then(|n| n.checked_mul(1 << shift));
    size.ok_or_else(|| format!("{text:?} is no size"))
}

fn count() -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..1 << 32)
}

/// A zero would close a connection before its first octet.
fn seconds() -> RangedU64ValueParser {
    RangedU64ValueParser::new().range(1..1 << 32)
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
