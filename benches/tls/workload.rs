//! What the client does, and the CPU time that it takes the server.

use std::fs;
use std::sync::Arc;

use asynchat::Result;
use asynchat::tls::rustls::ClientConfig;

use crate::certificate::Files;
use crate::client::{self, Client};
use crate::machine;
use crate::servers::{DOWNLOAD, Running};

/// How many connections are opened before they are closed. Their closes are not measured: programs differ in how
/// much they do for a peer that has yet to receive the last reply.
const BATCH: usize = 300;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Workload {
    /// A connection is made with a full handshake, and one line is echoed.
    Full,
    /// The same, with a session that is resumed.
    Resumed,
    /// 1,000 lines of 20 bytes at once.
    Lines,
    Download,
}

pub const ALL: &[Workload] = &[
    Workload::Full,
    Workload::Resumed,
    Workload::Lines,
    Workload::Download,
];

impl Workload {
    pub fn name(self) -> &'static str {
        match self {
            Workload::Full => "full handshake",
            Workload::Resumed => "resumed handshake",
            Workload::Lines => "1,000 lines",
            Workload::Download => "64 MiB",
        }
    }

    fn repetitions(self) -> usize {
        match self {
            Workload::Full | Workload::Resumed => 1_500,
            Workload::Lines => 5_000,
            Workload::Download => 10,
        }
    }

    /// CPU time of the server for one repetition, in microseconds.
    pub fn measure(self, running: &Running, files: &Files) -> Result<f64> {
        let config = client::config(files, self == Workload::Resumed)?;
        let mut client = Client::connect(running.addr, &config)?;
        client.echo(b"warm up\r\n")?;
        let mut taken = 0.0;
        let mut left = self.repetitions();
        while left > 0 {
            let count = left.min(BATCH);
            left -= count;
            let mut open = Vec::with_capacity(count);
            let before = cpu_time(running.id)?;
            for _ in 0..count {
                open.extend(self.repeat(running, &config, &mut client)?);
            }
            taken += cpu_time(running.id)? - before;
            open.into_iter().try_for_each(Client::close)?;
        }
        client.close()?;
        Ok(taken * 1e6 / self.repetitions() as f64)
    }

    /// Returns the connection that it has made.
    fn repeat(
        self,
        running: &Running,
        config: &Arc<ClientConfig>,
        client: &mut Client,
    ) -> Result<Option<Client>> {
        match self {
            Workload::Full | Workload::Resumed => {
                let mut client = Client::connect(running.addr, config)?;
                client.echo(b"hello\r\n")?;
                if client.is_resumed() == (self == Workload::Resumed) {
                    return Ok(Some(client));
                } else {
                    return Err("another kind of handshake was expected".into());
                }
            }
            Workload::Lines => client.echo(&b"a line of 20 bytes\r\n".repeat(1_000))?,
            Workload::Download => client.download(b"get\r\n", DOWNLOAD)?,
        }
        Ok(None)
    }
}

/// The CPU time of a process in seconds. The first clock lacks the threads that have ended, and the second has ticks
/// of 10 ms, so neither exceeds the truth. The first fails while a thread ends.
fn cpu_time(process: u32) -> Result<f64> {
    let of_threads = machine::cpu_time(process).unwrap_or_default();
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The second field is the name in brackets. User and system time are fields 14 and 15.
    let (_, after_name) = stat.rsplit_once(')').ok_or("a line of another form")?;
    let mut fields = after_name.split_ascii_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<f64>().ok();
    let (user, system) = ticks().zip(ticks()).ok_or("a line of another form")?;
    let of_process = (user + system) / rustix::param::clock_ticks_per_second() as f64;
    Ok(of_threads.as_secs_f64().max(of_process))
}
