//! The figures in the text format of Prometheus, version 0.0.4.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Write as _};

use super::{Status, loop_stats};

/// The Content-Type of [`Status::metrics`].
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

impl Status {
    pub fn metrics(&self, wrong_passwords: u64) -> String {
        let stats = loop_stats();
        let mut text = Text(String::with_capacity(8 << 10));
        text.family(
            "info",
            "gauge",
            "The program and the folder that it shares.",
        );
        let version = env!("CARGO_PKG_VERSION");
        let folder = Label(&self.folder);
        text.sample(
            "info",
            format_args!("{{version=\"{version}\",folder=\"{folder}\"}}"),
            1,
        );
        let started = self.started();
        text.family(
            "start_time_seconds",
            "gauge",
            "When the program was started, in seconds since 1970.",
        );
        let (seconds, millis) = (started.as_secs(), started.subsec_millis());
        text.sample(
            "start_time_seconds",
            "",
            format_args!("{seconds}.{millis:03}"),
        );

        text.family(
            "requests_total",
            "counter",
            "Requests of HTTP and transfers of FTP that have ended, by the code of their reply.",
        );
        for (kind, count) in &*self.ended.borrow() {
            let (protocol, method, code) = (kind.protocol, kind.method, kind.code);
            text.sample(
                "requests_total",
                format_args!("{{protocol=\"{protocol}\",method=\"{method}\",code=\"{code}\"}}"),
                count,
            );
        }

        text.family("connections", "gauge", "Open connections.");
        let mut open = BTreeMap::from(["http", "https", "ftp", "ftps"].map(|name| (name, 0)));
        let mut transfers = 0;
        self.for_each_connection(usize::MAX, |connection| {
            *open.entry(connection.protocol.get()).or_default() += 1;
            transfers += usize::from(connection.is_transferring());
        });
        for (protocol, count) in open {
            text.sample(
                "connections",
                format_args!("{{protocol=\"{protocol}\"}}"),
                count,
            );
        }
        text.family(
            "transferring_connections",
            "gauge",
            "Connections with a transfer.",
        );
        text.sample("transferring_connections", "", transfers);
        text.family(
            "status_watchers",
            "gauge",
            "Clients that receive the events of the status page.",
        );
        text.sample("status_watchers", "", self.watchers.get());

        for (name, help, count) in [
            (
                "wrong_passwords_total",
                "Passwords and names of users that were wrong, over HTTP and FTP.",
                wrong_passwords,
            ),
            (
                "received_bytes_total",
                "Bytes received on all connections.",
                stats.bytes_in,
            ),
            (
                "sent_bytes_total",
                "Bytes sent on all connections.",
                stats.bytes_out,
            ),
            ("accepted_total", "Connections accepted.", stats.accepted),
            (
                "refused_total",
                "Accepted connections that were not served.",
                stats.refused,
            ),
            (
                "accepts_failed_total",
                "Accepts that failed.",
                stats.accepts_failed,
            ),
            (
                "tls_handshakes_total",
                "TLS handshakes that were completed.",
                stats.handshakes,
            ),
            (
                "tls_handshakes_failed_total",
                "TLS handshakes that were not completed.",
                stats.handshakes_failed,
            ),
            ("loop_turns_total", "Turns of the event loop.", stats.turns),
            (
                "loop_wakeups_total",
                "Turns in which the kernel reported events.",
                stats.wakeups,
            ),
            (
                "loop_events_total",
                "Events that the kernel reported.",
                stats.events,
            ),
            (
                "channels_opened_total",
                "Sockets that the loop has served, listeners included.",
                stats.opened,
            ),
        ] {
            text.family(name, "counter", help);
            text.sample(name, "", count);
        }
        text.family(
            "channels_closed_total",
            "counter",
            "Sockets that have ended, by reason.",
        );
        for (reason, count) in stats.closes.iter() {
            text.sample(
                "channels_closed_total",
                format_args!("{{reason=\"{reason}\"}}"),
                count,
            );
        }
        text.0
    }
}

struct Text(String);

impl Text {
    // Writing to memory does not fail.
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = write!(
            self.0,
            "# HELP files_{name} {help}\n# TYPE files_{name} {kind}\n"
        );
    }

    fn sample(&mut self, name: &str, labels: impl Display, value: impl Display) {
        let _ = writeln!(self.0, "files_{name}{labels} {value}");
    }
}

/// The value of a label.
struct Label<'a>(&'a str);

impl Display for Label<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '"' | '\\' => write!(f, "\\{c}")?,
                '\n' => f.write_str("\\n")?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Label;

    #[test]
    fn a_label_stays_in_its_quotes() {
        assert_eq!(Label("a\"b\\c\nd").to_string(), "a\\\"b\\\\c\\nd");
    }
}
