//! What is asked of the servers.

use std::str::FromStr;

use super::servers::MAX_LINE;

/// Each connection sends a barrage of lines at once, and the next one when all of them have come
/// back.
#[derive(Clone)]
pub struct Workload {
    pub name: String,
    pub connections: usize,
    /// Lines in a barrage.
    pub barrage: usize,
    /// Bytes of a line, with its CR LF.
    pub line: usize,
}

/// What is measured when nothing else is asked for.
pub fn usual() -> Vec<Workload> {
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

/// The longest barrages that all connections together may have under way.
const MOST: usize = 64 << 20;

impl FromStr for Workload {
    type Err = String;

    fn from_str(numbers: &str) -> Result<Self, String> {
        let parsed: Result<Vec<usize>, _> = numbers.split(',').map(str::parse).collect();
        let Ok([connections, barrage, line]) = parsed.as_deref() else {
            return Err("three numbers are needed: CONNECTIONS,BARRAGE,LINE".into());
        };
        let (connections, barrage, line) = (*connections, *barrage, *line);
        if connections == 0 || barrage == 0 {
            return Err("there has to be a connection, and a line in a barrage".into());
        }
        if !(32..=MAX_LINE).contains(&line) {
            return Err(format!("a line has 32 to {MAX_LINE} bytes"));
        }
        let all = connections
            .checked_mul(barrage)
            .and_then(|lines| lines.checked_mul(line));
        if all.is_none_or(|all| all > MOST) {
            return Err(format!("that is more than {MOST} bytes under way"));
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
    /// The bytes of one barrage. No two lines of a workload's first barrages are the same, so that
    /// one that goes astray is noticed.
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
