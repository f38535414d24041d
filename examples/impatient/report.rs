//! The table that the program prints at its end.

use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use crate::tally::Tally;

pub struct Report {
    pub tally: Rc<Tally>,
    /// How long the barrage took.
    pub elapsed: Duration,
    /// How many clients of each kind ran.
    pub impatient: u64,
    pub patient: u64,
    /// The latencies of the patient clients before and during the barrage, sorted.
    pub before: Vec<Duration>,
    pub during: Vec<Duration>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tally = &*self.tally;
        let seconds = self.elapsed.as_secs_f64();
        let rate = tally.responses.get() as f64 / seconds;
        row(
            f,
            "",
            [
                "commands",
                "outstanding",
                "responses",
                "bytes",
                "seconds",
                "commands/s",
            ],
        )?;
        row(
            f,
            &format!("{} impatient", self.impatient),
            [
                &count(tally.commands.get()),
                &count(tally.outstanding.get()),
                &count(tally.responses.get()),
                &count(tally.bytes.get()),
                &format!("{seconds:.3}"),
                &count(rate as u64),
            ],
        )?;
        writeln!(f)?;
        row(f, "", ["exchanges", "p50", "p99"])?;
        for (when, latencies) in [("before", &self.before), ("during", &self.during)] {
            row(
                f,
                &format!("{} patient, {when}", self.patient),
                [
                    &count(latencies.len() as u64),
                    &percentile(latencies, 50),
                    &percentile(latencies, 99),
                ],
            )?;
        }
        Ok(())
    }
}

fn row<const N: usize>(f: &mut fmt::Formatter<'_>, label: &str, cells: [&str; N]) -> fmt::Result {
    write!(f, "{label:20}")?;
    for cell in cells {
        write!(f, "{cell:>14}")?;
    }
    writeln!(f)
}

/// A number with commas: 1,234,567.
pub fn count(n: u64) -> String {
    let mut text = n.to_string();
    let mut at = text.len();
    while at > 3 {
        at -= 3;
        text.insert(at, ',');
    }
    text
}

fn percentile(sorted: &[Duration], percent: usize) -> String {
    match sorted.get(sorted.len() * percent / 100) {
        Some(latency) => format!("{:.3} ms", latency.as_secs_f64() * 1e3),
        None => "-".to_owned(),
    }
}
