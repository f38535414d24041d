//! What is asked of the servers.

/// Each connection sends a barrage of lines at once, and the next one when all of them have come
/// back.
pub struct Workload {
    pub name: &'static str,
    pub connections: usize,
    /// Lines in a barrage.
    pub barrage: usize,
    /// Bytes of a line, with its CR LF.
    pub line: usize,
}

pub const ALL: [Workload; 5] = [
    Workload {
        name: "ping-pong, 1 connection",
        connections: 1,
        barrage: 1,
        line: 32,
    },
    Workload {
        name: "ping-pong, 50 connections",
        connections: 50,
        barrage: 1,
        line: 32,
    },
    Workload {
        name: "barrages of 500, 1 connection",
        connections: 1,
        barrage: 500,
        line: 32,
    },
    Workload {
        name: "barrages of 500, 50 connections",
        connections: 50,
        barrage: 500,
        line: 32,
    },
    Workload {
        name: "lines of 16 KiB, 8 connections",
        connections: 8,
        barrage: 4,
        line: 16 * 1024,
    },
];

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
