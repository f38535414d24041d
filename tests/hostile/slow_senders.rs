//! Nearly ten thousand clients that now and then send one byte of an endless line (slowloris,
//! CVE-2007-6750). None of them is idle; the record deadline closes them all.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use asynchat::{Deadlines, Server};
use socket2::{Domain, Socket, Type};

use crate::common::{Log, Peer, addr_of, new_loop, run_until};
use crate::process::{self, Process};

const TEST: &str =
    "slow_senders::nine_thousand_nine_hundred_are_timed_out_while_good_clients_are_served";

/// For each address. The default quota is a thousand.
const EACH: usize = 990;
/// On Linux the whole network 127.0.0.0/8 is this machine.
const ADDRESSES: usize = if cfg!(target_os = "linux") { 10 } else { 1 };

#[test]
fn nine_thousand_nine_hundred_are_timed_out_while_good_clients_are_served() {
    process::run(TEST, &[("server", server), ("clients", clients)]);
}

fn server() {
    // Each takes one descriptor in each of the two processes.
    let count = (EACH * ADDRESSES).min(process::descriptors() - 100);
    println!("{count} slow clients");
    let (event_loop, log) = (new_loop(), Log::default());
    let listener = Server::new("127.0.0.1:0")
        .deadlines(Deadlines::default().record(Duration::from_secs(1)))
        .listen_on(
            &event_loop,
            log.session_with(|chat, line| {
                chat.push_slice(line);
                Ok(())
            }),
        )
        .unwrap();
    let addr = addr_of(&listener);
    let mut good = Peer::connect(addr);
    let mut slow = Process::start(TEST, "clients", &format!("{addr} {count}"), None);
    run_until(&event_loop, || slow.try_next_report().is_some());
    run_until(&event_loop, || event_loop.len() == count + 2);

    let mut rounds = 0;
    loop {
        rounds += 1;
        slow.send("a byte");
        let mut ended = None;
        run_until(&event_loop, || {
            ended = slow.try_next_report();
            ended.is_some()
        });
        for peer in [&mut good, &mut Peer::connect(addr)] {
            peer.send("still here?\r\n");
            peer.expect(&event_loop, "still here?");
        }
        if ended.unwrap() == format!("{count} ended") {
            break;
        }
    }
    run_until(&event_loop, || event_loop.len() == 2);
    let stats = event_loop.stats();
    assert_eq!(stats.closes.timeout, count as u64);
    assert_eq!(stats.closes.eof, rounds);
    assert_eq!(stats.refused, 0);
    // The slow clients sent more than one byte, and completed no record.
    assert!(rounds > 1 && !log.has("record x"));
    slow.finish();
}

fn clients() {
    let argument = process::argument();
    let (addr, count) = argument.split_once(' ').unwrap();
    let (addr, count): (SocketAddr, usize) = (addr.parse().unwrap(), count.parse().unwrap());
    let mut clients: Vec<TcpStream> = (0..count)
        .map(|n| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            if cfg!(target_os = "linux") {
                let host = u8::try_from(2 + n % ADDRESSES).unwrap();
                let source: SocketAddr = ([127, 0, 0, host], 0).into();
                socket.bind(&source.into()).unwrap();
            }
            socket.connect(&addr.into()).unwrap();
            socket.set_nonblocking(true).unwrap();
            TcpStream::from(socket)
        })
        .collect();
    process::report("connected");
    for _ in process::commands() {
        clients.retain_mut(|client| {
            let sent = client.write(b"x");
            let open = client.read(&mut [0]);
            let waits = open.is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
            sent.is_ok() && waits
        });
        process::report(&format!("{} ended", count - clients.len()));
    }
}
