//! A hostile TLS client, on real sockets: `tls_adversary.py`, which also attacks the `nntp` example.

#[path = "common/mod.rs"]
mod common;
#[path = "common/tls.rs"]
mod tls;

use std::process::Command;
use std::thread;

use asynchat::{AsyncChat, Chat, Result, Server};

use common::{addr_of, new_loop, run_until};
use tls::{identity, server_config};

/// As much of a news server as the client needs.
struct News(Chat);

impl AsyncChat for News {
    fn handle_connect(&mut self) -> Result {
        self.0.push("200 ready\r\n");
        Ok(())
    }
    fn found_terminator(&mut self, line: &[u8]) -> Result {
        match line {
            b"STARTTLS" => {
                self.0.push("382 continue\r\n");
                self.0.start_tls(server_config())?;
            }
            b"DATE" => self.0.push("111 20260615120000\r\n"),
            b"GROUP misc.test" => self.0.push("211 1 1 1 misc.test\r\n"),
            b"STAT 1" => self.0.push("223 1 <1@example.org>\r\n"),
            b"QUIT" => {
                self.0.push("205 goodbye\r\n");
                self.0.close_when_done();
            }
            _ => self.0.push("500 unknown command\r\n"),
        }
        Ok(())
    }
}

fn attack(arguments: &[&str]) -> Result {
    let event_loop = new_loop();
    let folder = tempfile::tempdir()?;
    let certificate = folder.path().join("certificate.pem");
    std::fs::write(&certificate, &identity().certificate_pem)?;
    let server = Server::new("127.0.0.1:0");
    let server = match arguments {
        [] => server.tls(server_config()),
        _ => server,
    };
    let listener = server.listen_on(&event_loop, News)?;

    let mut command = Command::new("python3");
    command
        .arg(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/tls_adversary.py"
        ))
        .arg(addr_of(&listener).to_string())
        .arg(&certificate)
        .args(arguments);
    let client = thread::spawn(move || command.output());
    run_until(&event_loop, || client.is_finished());
    let Ok(output) = client.join().map_err(|_| "a panic")? else {
        common::skip::skipped("python3 is not installed");
        return Ok(());
    };
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{errors}");
    // Nothing of the connections is left.
    run_until(&event_loop, || event_loop.len() == 1);
    Ok(())
}

#[test]
fn a_port_with_tls_from_the_beginning() -> Result {
    attack(&[])
}

#[test]
fn a_port_with_starttls() -> Result {
    attack(&["starttls"])
}
