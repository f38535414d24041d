//! The figures as JSON, for the status page.

use std::fmt::{self, Display, Write as _};

use super::{Connection, Status, loop_stats};

/// So many connections are listed.
const MOST_CONNECTIONS: usize = 100;

impl Status {
    /// One line of JSON.
    pub fn json(&self) -> String {
        let stats = loop_stats();
        let (run, uptime) = (self.started().as_micros(), self.uptime().as_secs_f64());
        let mut json = format!(
            "{{\"run\":\"{run}\",\"uptime\":{uptime:.3},\"folder\":{},\"received\":{},\"sent\":{},\"loop\":{{",
            Quoted(&self.folder),
            stats.bytes_in,
            stats.bytes_out,
        );
        // Writing to memory does not fail.
        let _ = write!(
            json,
            "\"turns\":{},\"wakeups\":{},\"events\":{},\"accepted\":{},\"refused\":{},\"accepts_failed\":{},\
             \"handshakes\":{},\"handshakes_failed\":{},\"opened\":{},\"closed\":{}}},\"closes\":{{",
            stats.turns,
            stats.wakeups,
            stats.events,
            stats.accepted,
            stats.refused,
            stats.accepts_failed,
            stats.handshakes,
            stats.handshakes_failed,
            stats.opened,
            stats.closed,
        );
        let mut list = List::default();
        for (reason, count) in stats.closes.iter() {
            if count > 0 {
                let _ = write!(json, "{}\"{reason}\":{count}", list.comma());
            }
        }
        json.push_str("},\"requests\":[");
        let mut list = List::default();
        for (kind, count) in &*self.ended.borrow() {
            let (protocol, method, code) = (kind.protocol, kind.method, kind.code);
            let comma = list.comma();
            let _ = write!(json, "{comma}[\"{protocol}\",\"{method}\",{code},{count}]");
        }
        let _ = write!(json, "],\"open\":{},\"connections\":[", self.open());
        let mut list = List::default();
        self.for_each_connection(MOST_CONNECTIONS, |connection| {
            json.push_str(list.comma());
            row(&mut json, connection);
        });
        json.push_str("]}");
        json
    }
}

fn row(json: &mut String, connection: &Connection) {
    let peer = connection.peer.as_ref().map(ToString::to_string);
    let age = asynchat::now().saturating_duration_since(connection.since);
    let _ = write!(
        json,
        "{{\"peer\":{},\"protocol\":\"{}\",\"request\":{},\"age\":{},\"active\":{}",
        Quoted(peer.as_deref().unwrap_or("-")),
        connection.protocol.get(),
        Quoted(&connection.request.borrow()),
        age.as_secs(),
        connection.is_transferring(),
    );
    let done = connection.done.get();
    if connection.is_transferring() || done > 0 {
        let _ = write!(json, ",\"done\":{done}");
    }
    if let Some(total) = connection.total.get() {
        let _ = write!(json, ",\"total\":{total}");
    }
    json.push('}');
}

/// The commas of a list.
#[derive(Default)]
struct List {
    has_begun: bool,
}

impl List {
    fn comma(&mut self) -> &'static str {
        if std::mem::replace(&mut self.has_begun, true) {
            ","
        } else {
            ""
        }
    }
}

/// A string of JSON (RFC 8259 section 7). It has no line end, which would end the field of an event.
struct Quoted<'a>(&'a str);

impl Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"")?;
        for c in self.0.chars() {
            match c {
                '"' | '\\' => write!(f, "\\{c}")?,
                c if c.is_control() => write!(f, "\\u{:04x}", u32::from(c))?,
                c => f.write_char(c)?,
            }
        }
        f.write_str("\"")
    }
}

#[cfg(test)]
mod tests {
    use super::Quoted;

    #[test]
    fn a_string_stays_in_its_quotes() {
        let quoted = Quoted("a\"b\\c\r\n\u{7f}\u{85}</script>é").to_string();
        assert_eq!(quoted, r#""a\"b\\c\u000d\u000a\u007f\u0085</script>é""#);
    }
}
