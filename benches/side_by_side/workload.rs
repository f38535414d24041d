//! The workloads.

use std::str::FromStr;

use super::servers::MAX_LINE;

/// Each connection sends a barrage of lines at once. When it has received all of them, it sends the next
/// barrage.
#[derive(Clone)]
pub struct Workload {
    pub name: String,
    pub connections: usize,
    /// Lines in a barrage.
    pub barrage: usize,
    /// The length of a line in bytes, with its CR LF.
    pub line: usize,
}

/// The workloads that run if the command line names none.
pub fn default_workloads() -> Vec<Workload> {
    let workload = |name: &str, connections, barrage, line| Workload {
        name: name.to_owned(),
        connections,
        barrage,
        line,
    };
    vec![
        workload("ping-pong, 1 connection", 1, 1, 32),
        workload("ping-pong, 50 connections", 50, 1, 32),
        workload("barrages of 500, 1 connection", 1, 500, 32),
        workload("barrages of 500, 50 connections", 50, 500, 32),
        workload("lines of 16 KiB, 8 connections", 8, 4, 16 * 1024),
    ]
}

/// How many bytes all connections together may have in flight.
const MAX_IN_FLIGHT: usize = 64 << 20;

impl FromStr for Workload {
    type Err = String;

    fn from_str(numbers: &str) -> Result<Self, String> {
        let parsed: Result<Vec<usize>, _> = numbers.split(',').map(str::parse).collect();
        let Ok([connections, barrage, line]) = parsed.as_deref() else {
            return Err("expected three numbers: CONNECTIONS,BARRAGE,LINE".into());
        };
        let (connections, barrage, line) = (*connections, *barrage, *line);
        if connections == 0 || barrage == 0 {
            return Err(
                "the number of connections and the lines in a barrage must not be 0".into(),
            );
        }
        if !(32..=MAX_LINE).contains(&line) {
            return Err(format!("a line must have 32 to {MAX_LINE} bytes"));
        }
        let all = connections
            .checked_mul(barrage)
            .and_then(|lines| lines.checked_mul(line));
        if all.is_none_or(|all| all > MAX_IN_FLIGHT) {
            return Err(format!("that is more than {MAX_IN_FLIGHT} bytes in flight"));
        }
        Ok(Workload {
            name: format!("connections: {connections}, in flight: {barrage}, bytes: {line}"),
            connections,
            barrage,
            line,
        })
    }
}

impl Workload {
    /// The bytes of one barrage. All lines of the first barrages differ, so that a line on the wrong connection
    /// is noticed.
    pub fn barrage(&self, connection: usize, number: usize) -> Vec<u8> {
        let mut barrage = Vec::new();
        for line in 0..self.barrage {
            let start = barrage.len();
            barrage.extend_from_slice(format!("{connection} {number} {line} ").as_bytes());
            let letters = (b'a'..=b'z').cycle().skip(line);
            let missing = start + self.line - 2 - barrage.len();
            barrage.extend(letters.take(missing));
            barrage.extend_from_slice(b"\r\n");
        }
        barrage
    }
}
