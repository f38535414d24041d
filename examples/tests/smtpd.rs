//! The `smtpd` example on real sockets, with worker threads and a real disk.

#[path = "../smtpd/smtp/mod.rs"]
#[allow(dead_code, reason = "only the command line of `smtpd` uses the rest")]
mod smtp;

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use asynchat::{EventLoop, Result};
use smtp::{Options, Service};
use tempfile::TempDir;

const CLIENTS: usize = 8;
const MESSAGES: usize = 25;

/// How long a client waits for a reply, which is much longer than a reply takes.
const DEADLINE: Duration = Duration::from_secs(60);

fn subject(client: usize, message: usize) -> String {
    format!("Subject: {message} of {client}\r\n")
}

/// Sends all messages of a client at once, then reads the replies.
fn barrage(addr: SocketAddr, client: usize) -> Result<String> {
    let mut stream = TcpStream::connect(addr)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.set_write_timeout(Some(DEADLINE))?;
    let mut input = "EHLO x\r\n".to_owned();
    for message in 0..MESSAGES {
        let subject = subject(client, message);
        input += "MAIL FROM:<b@x>\r\nRCPT TO:<ann@localhost>\r\nDATA\r\n";
        input += &format!("{subject}\r\n..\r\n.\r\n");
    }
    stream.write_all((input + "QUIT\r\n").as_bytes())?;
    let mut replies = String::new();
    stream.read_to_string(&mut replies)?;
    Ok(replies)
}

/// The names of the messages in the replies, in order.
fn stored(replies: &str) -> impl Iterator<Item = &str> {
    let names = replies.lines();
    names.filter_map(|line| line.strip_prefix("250 2.0.0 kept as "))
}

fn the_message(maildir: &Path, name: &str) -> Result<String> {
    Ok(fs::read_to_string(maildir.join("new").join(name))?)
}

#[test]
fn each_message_of_many_clients_is_stored_once_and_replied_in_order() -> Result {
    let dir = TempDir::new()?;
    let event_loop = EventLoop::current()?;
    let listener = Service::open(dir.path(), Options::default())?.serve("127.0.0.1:0")?;
    let addr = listener.local_addr().and_then(|addr| addr.inet());
    let addr = addr.ok_or("it listens")?;

    let (remote, (sender, outcomes)) = (event_loop.remote(), mpsc::channel());
    thread::spawn(move || -> Result {
        let client = |client| thread::spawn(move || barrage(addr, client));
        let clients: Vec<_> = (0..CLIENTS).map(client).collect();
        for client in clients {
            let outcome = client.join().unwrap_or_else(|_| Err("it panicked".into()));
            // If `send` fails, the test has failed. The loop must still be shut down.
            let _ = sender.send(outcome);
        }
        Ok(remote.shutdown(Duration::ZERO)?)
    });
    event_loop.run()?;

    let mut names = BTreeSet::new();
    for client in 0..CLIENTS {
        let replies = outcomes.recv_timeout(DEADLINE)??;
        assert_eq!(stored(&replies).count(), MESSAGES, "{replies}");
        assert!(
            replies.ends_with("\r\n221 2.0.0 localhost closes\r\n"),
            "{replies}"
        );
        for (message, name) in stored(&replies).enumerate() {
            let sent = (subject(client, message) + "\r\n.\r\n").replace("\r\n", "\n");
            let text = the_message(dir.path(), name)?;
            assert!(text.ends_with(&sent), "{text}");
            assert!(names.insert(name.to_owned()), "{name} is there twice");
        }
    }
    let files = fs::read_dir(dir.path().join("new"))?.count();
    assert_eq!(files, CLIENTS * MESSAGES);
    assert_eq!(fs::read_dir(dir.path().join("tmp"))?.count(), 0);
    Ok(())
}
