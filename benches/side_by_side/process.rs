//! The process of a server. Dropping it kills the process.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use asynchat::Result;

use super::machine;

pub struct Process {
    child: Child,
    pub addr: SocketAddr,
}

impl Process {
    /// Starts a server, pins it to a core if one is given, and waits until it listens.
    pub fn start(command: &mut Command, core: Option<usize>) -> Result<Process> {
        command.stdout(Stdio::piped());
        let mut process = Process::spawn(command, core, ([127, 0, 0, 1], 0).into())?;
        let stdout = process.child.stdout.take().ok_or("it is piped")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let addr = line.trim().strip_prefix("listening on ");
        process.addr = addr.ok_or("the server did not start")?.parse()?;
        Ok(process)
    }

    /// Starts a server that will listen on this address, and pins it to a core if one is given.
    pub fn spawn(command: &mut Command, core: Option<usize>, addr: SocketAddr) -> Result<Process> {
        // The end of the server's input tells it that this process has ended.
        let child = command.stdin(Stdio::piped()).spawn()?;
        // From here on, `Drop` ends the child after an error.
        let process = Process { child, addr };
        if let Some(core) = core {
            machine::pin(Some(process.id()), core)?;
        }
        Ok(process)
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
