//! Unix-domain listeners and connections by path: the file of a listener, stale files, and who the peer is.
#![cfg(unix)]

mod common;

use std::ffi::OsString;
use std::fs;
use std::hint;
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Barrier, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use asynchat::{
    Addr, Backoff, Channel, Chat, Connector, Dispatcher, Error, EventLoop, Result, Server, Socket,
    Target,
};
use common::{Log, idle, new_loop, run_to_end, run_until};
use rustix::fs::FlockOperation;
use tempfile::TempDir;

/// A folder, and the path of a socket in it.
fn place() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let path = folder.path().join("x.sock");
    (folder, path)
}

fn listen(event_loop: &EventLoop, path: &Path, log: &Log) -> Result<Channel, Error> {
    event_loop.listen(path, log.session())
}

#[test]
fn a_server_and_a_client_meet_at_a_path() -> Result {
    let (_folder, path) = place();
    let (event_loop, log) = (new_loop(), Log::default());
    let served = log.clone();
    let listener = event_loop.listen(&path, move |chat: Chat| {
        served.add(format!("{:?}, {:?}", chat.peer_addr(), chat.local_addr()));
        move |line: &[u8]| {
            chat.push_slice(line);
            chat.push("\r\n");
            Ok(())
        }
    })?;
    assert_eq!(listener.local_addr(), Some(Addr::Unix(Some(path.clone()))));
    let client = event_loop.connect(format!("unix:{}", path.display()), log.session())?;
    client.push("hello\r\n");
    run_until(&event_loop, || log.has("record"));
    let named = Addr::Unix(Some(path));
    let accepted = format!("{:?}, {:?}", Some(Addr::Unix(None)), Some(&named));
    assert_eq!(log.lines(), ["connect", &accepted, "record hello"]);
    assert_eq!(client.peer_addr(), Some(named));
    Ok(())
}

#[test]
fn the_file_is_removed_when_the_listener_closes() -> Result {
    let (_folder, path) = place();
    let (event_loop, log) = (new_loop(), Log::default());
    let listener = listen(&event_loop, &path, &log)?;
    assert!(path.exists());
    listener.close();
    run_to_end(&event_loop);
    assert!(!path.exists());

    listen(&event_loop, &path, &log)?;
    event_loop.close_all();
    run_to_end(&event_loop);
    assert!(!path.exists());

    listen(&event_loop, &path, &log)?;
    drop(event_loop);
    assert!(!path.exists());

    // Not registered with a loop.
    let channel = Channel::listen(&path)?;
    channel.close();
    assert!(!path.exists());
    drop(Channel::listen(&path)?);
    assert!(!path.exists());
    Ok(())
}

#[test]
fn a_file_that_has_replaced_the_one_of_the_listener_stays() -> Result {
    let (_folder, path) = place();
    let (event_loop, log) = (new_loop(), Log::default());
    let listener = listen(&event_loop, &path, &log)?;
    fs::remove_file(&path)?;
    let _other = UnixListener::bind(&path)?;
    listener.close();
    run_to_end(&event_loop);
    assert!(path.exists());
    assert!(UnixStream::connect(&path).is_ok());
    Ok(())
}

#[test]
fn an_adopted_listener_leaves_its_file() -> Result {
    let (_folder, path) = place();
    let (event_loop, log) = (new_loop(), Log::default());
    let socket = UnixListener::bind(&path)?;
    let listener = Server::adopt(socket).listen_on(&event_loop, log.session())?;
    listener.close();
    run_to_end(&event_loop);
    assert!(path.exists());
    Ok(())
}

/// The file goes with the socket. It is removed when the socket is closed by the crate.
#[test]
fn the_file_of_a_released_listener_stays_until_its_socket_closes() -> Result {
    let (_folder, path) = place();
    let (event_loop, log) = (new_loop(), Log::default());
    let socket = listen(&event_loop, &path, &log)?.release()?;
    run_to_end(&event_loop);
    UnixStream::connect(&path)?;
    let served = Server::adopt(socket).listen_on(&event_loop, log.session())?;
    UnixStream::connect(&path)?;
    served.close();
    run_to_end(&event_loop);
    assert!(!path.exists());

    let socket = Channel::listen(&path)?.release()?;
    assert!(path.exists());
    drop(socket);
    assert!(!path.exists());

    // The file of a descriptor that leaves the crate is its owner's.
    let socket = Channel::listen(&path)?.release()?;
    let listener = UnixListener::from(std::os::fd::OwnedFd::try_from(socket)?);
    UnixStream::connect(&path)?;
    drop(listener);
    assert!(path.exists());
    Ok(())
}

#[test]
fn a_path_with_a_nul_byte_is_refused() -> Result {
    let (folder, path) = place();
    let (event_loop, log) = (new_loop(), Log::default());
    let _listener = UnixListener::bind(&path)?;
    let mut bytes = path.clone().into_os_string().into_vec();
    bytes.extend(b"\0.sock");
    let with_nul = PathBuf::from(OsString::from_vec(bytes));
    let refused = listen(&event_loop, &with_nul, &log).expect_err("NUL");
    assert_eq!(refused.io_kind(), Some(ErrorKind::InvalidInput));
    event_loop.connect(with_nul, log.session())?;
    run_to_end(&event_loop);
    assert_eq!(log.lines().len(), 1);
    assert!(
        log.lines()[0].contains("ConnectFailed"),
        "{:?}",
        log.lines()
    );
    assert_eq!(std::fs::read_dir(folder.path())?.count(), 1);
    Ok(())
}

#[test]
fn a_stale_file_is_replaced_and_a_live_one_is_refused() -> Result {
    let (_folder, path) = place();
    let (event_loop, log) = (new_loop(), Log::default());
    // The listener is gone, and has left its file.
    drop(UnixListener::bind(&path)?);
    let live = listen(&event_loop, &path, &log)?;
    let error = listen(&event_loop, &path, &log).expect_err("somebody listens");
    assert_eq!(error.io_kind(), Some(ErrorKind::AddrInUse));
    let expected = format!(
        "listen on unix:{}: another process listens on it",
        path.display()
    );
    assert_eq!(error.to_string(), expected);
    // The probe is a connection of the live one, which goes on.
    let mut peer = UnixStream::connect(&path)?;
    io::Write::write_all(&mut peer, b"still here\r\n")?;
    run_until(&event_loop, || log.has("record still here"));
    assert!(live.is_open() && path.exists());
    Ok(())
}

#[test]
fn a_file_that_is_no_socket_is_left_alone() -> Result {
    let (folder, path) = place();
    let (event_loop, log) = (new_loop(), Log::default());
    fs::write(&path, "precious")?;
    let error = listen(&event_loop, &path, &log).expect_err("there is a file");
    assert_eq!(error.io_kind(), Some(ErrorKind::AlreadyExists));
    assert_eq!(fs::read_to_string(&path)?, "precious");

    // A link to a stale socket is no socket, either.
    let stale = folder.path().join("stale.sock");
    drop(UnixListener::bind(&stale)?);
    let link = folder.path().join("link.sock");
    std::os::unix::fs::symlink(&stale, &link)?;
    assert!(listen(&event_loop, &link, &log).is_err());
    assert!(stale.exists() && link.is_symlink());
    Ok(())
}

/// Two listeners begin at the same moment, at a path that is free or that has a stale file. Then the winner closes
/// while the other tries until it succeeds.
#[test]
fn one_of_two_listeners_gets_the_path_and_keeps_it() {
    const ROUNDS: usize = 2_000;
    let (_folder, path) = place();
    let (meeting, wins) = (Barrier::new(2), AtomicUsize::new(0));
    // Collected, because a thread that panics would leave the other at the barrier.
    let failures = Mutex::new(Vec::new());
    let race = |seed: u64| {
        let mut rng = fastrand::Rng::with_seed(seed);
        // A barrier wakes one thread later than the other, by about as much as it takes to listen.
        let mut meet_closely = || {
            let most = if meeting.wait().is_leader() {
                3_000
            } else {
                300
            };
            (0..rng.u32(..most)).for_each(|_| hint::spin_loop());
        };
        let check = |holds: bool, what: String| {
            if !holds {
                failures.lock().expect("nobody panics").push(what);
            }
        };
        let check_error = |outcome: &Result<Channel, Error>| {
            let error = outcome.as_ref().err();
            let holds = error.is_none_or(|it| it.io_kind() == Some(ErrorKind::AddrInUse));
            check(holds, format!("{error:?}"));
        };
        for round in 0..ROUNDS {
            if meeting.wait().is_leader() && round % 4 > 0 {
                let left = UnixListener::bind(&path);
                check(left.is_ok(), format!("{round}: the path is not free"));
            }
            meet_closely();
            let mut listener = Channel::listen(&path);
            wins.fetch_add(usize::from(listener.is_ok()), Ordering::Relaxed);
            check_error(&listener);
            meeting.wait();
            let won = wins.load(Ordering::Relaxed);
            check(won == round + 1, format!("{round}: {won} have won"));
            let connected = UnixStream::connect(&path);
            check(
                connected.is_ok(),
                format!("{round}: of both, {connected:?}"),
            );
            meet_closely();
            if listener.is_ok() {
                listener = Err(Error::from(io::Error::from(ErrorKind::AddrInUse)));
            } else {
                let deadline = Instant::now() + Duration::from_secs(20);
                while listener.is_err() && Instant::now() < deadline {
                    listener = Channel::listen(&path);
                    check_error(&listener);
                }
            }
            meeting.wait();
            let connected = UnixStream::connect(&path);
            check(
                connected.is_ok(),
                format!("{round}: of the second, {connected:?}"),
            );
            meeting.wait();
            drop(listener);
        }
    };
    thread::scope(|scope| {
        scope.spawn(|| race(1));
        scope.spawn(|| race(2));
    });
    let failures = failures.into_inner().expect("nobody panics");
    assert!(
        failures.is_empty(),
        "{} {:?}",
        failures.len(),
        failures.first()
    );
    assert!(!path.exists());
}

#[test]
fn a_lock_that_a_killed_process_has_left_does_not_count() -> Result {
    let (folder, path) = place();
    let lock = folder.path().join(".x.sock.asynchat-lock");
    fs::write(&lock, "")?;
    let listener = Channel::listen(&path)?;
    assert!(path.exists() && !lock.exists());
    drop(listener);

    // That of a process that is about to listen counts.
    let file = fs::File::create(&lock)?;
    rustix::fs::flock(&file, FlockOperation::LockExclusive)?;
    let error = Channel::listen(&path).expect_err("it is locked");
    assert_eq!(error.io_kind(), Some(ErrorKind::AddrInUse));
    let expected = format!(
        "listen on unix:{}: another process listens on it, or is about to",
        path.display()
    );
    assert_eq!(error.to_string(), expected);
    drop(file);
    Channel::listen(&path)?;

    // A link is not followed. The path is bound without a lock.
    let victim = folder.path().join("victim");
    std::os::unix::fs::symlink(&victim, &lock)?;
    let _listener = Channel::listen(&path)?;
    assert!(!victim.exists() && lock.is_symlink());
    Ok(())
}

#[test]
fn errors_of_paths_name_the_path() -> Result {
    let (folder, path) = place();
    let (event_loop, log) = (new_loop(), Log::default());
    for path in [
        folder.path().join("no/folder"),
        folder.path().join("x".repeat(200)),
    ] {
        let error = listen(&event_loop, &path, &log).expect_err("it cannot be bound");
        let start = format!("listen on unix:{}: ", path.display());
        assert!(error.to_string().starts_with(&start), "{error}");
    }
    // Nobody listens: the outcome of the connection says so.
    let connector = Connector::new(&path);
    let feed = connector.reconnect_on(&event_loop, Backoff::default().tries(1), log.session())?;
    run_to_end(&event_loop);
    assert_eq!(log.lines(), ["close ConnectFailed"]);
    let error = feed.outcome().expect_err("nobody listens").to_string();
    assert!(
        error.contains(&format!("connect to unix:{}: ", path.display())),
        "{error}"
    );
    Ok(())
}

/// As when a program takes the path from a variable that is not set.
#[test]
fn an_empty_path_is_refused_at_once() {
    let (event_loop, log) = (new_loop(), Log::default());
    let why = "the name of the Unix-domain socket is empty";
    for (target, shown) in [
        (Target::from(Path::new("")), "\"unix:\""),
        (Target::from("unix:"), "\"unix:\""),
        (Target::from("unix:@"), "\"unix:@\""),
    ] {
        let expected = |what: &str| format!("{what} {shown}: {why}");
        let listened = event_loop.listen(target.clone(), log.session());
        assert_eq!(listened.unwrap_err().to_string(), expected("listen on"));
        let connected = event_loop.connect(target.clone(), log.session());
        assert_eq!(connected.unwrap_err().to_string(), expected("connect to"));
        let listened = Channel::listen(target.clone());
        assert_eq!(listened.unwrap_err().to_string(), expected("listen on"));
        let connected = Channel::connect(target.clone());
        assert_eq!(connected.unwrap_err().to_string(), expected("connect to"));
    }
    assert!(event_loop.is_empty());
    assert_eq!(log.lines().len(), 0);
}

#[test]
fn the_mode_is_that_of_the_server() -> Result {
    let (_folder, path) = place();
    let (event_loop, log) = (new_loop(), Log::default());
    for mode in [0o600, 0o666] {
        let server = Server::new(&path).socket_mode(mode);
        let listener = server.listen_on(&event_loop, log.session())?;
        assert_eq!(fs::metadata(&path)?.permissions().mode() & 0o777, mode);
        listener.close();
        idle(&event_loop);
    }
    Ok(())
}

#[test]
fn both_ends_know_the_user_of_the_other() -> Result {
    let (_folder, path) = place();
    let (event_loop, log) = (new_loop(), Log::default());
    let (known, session) = (log.clone(), log.session());
    event_loop.listen(&path, move |chat| {
        let peer = chat.peer_credentials()?;
        known.add(format!("{} {} {:?}", peer.uid, peer.gid, peer.pid));
        Ok(session(chat))
    })?;
    let client = event_loop.connect(&path, log.session())?;
    run_until(&event_loop, || log.count("connect") == 2);
    let uid = rustix::process::geteuid().as_raw();
    let gid = rustix::process::getegid().as_raw();
    let pid = cfg!(any(target_os = "linux", target_os = "android")).then(process::id);
    assert!(
        log.has(&format!("{uid} {gid} {pid:?}")),
        "{:?}",
        log.lines()
    );
    let server = client.peer_credentials()?;
    assert_eq!((server.uid, server.gid, server.pid), (uid, gid, pid));

    client.close();
    idle(&event_loop);
    let closed = client.peer_credentials().map_err(|error| error.kind());
    assert_eq!(closed, Err(ErrorKind::NotConnected));
    // A TCP connection has none.
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let stream = std::net::TcpStream::connect(listener.local_addr()?)?;
    let none = Socket::from(stream).peer_credentials();
    assert_eq!(
        none.map_err(|error| error.kind()),
        Err(ErrorKind::Unsupported)
    );
    Ok(())
}

#[cfg(target_os = "linux")]
#[test]
fn an_abstract_name_has_no_file() -> Result {
    let (event_loop, log) = (new_loop(), Log::default());
    let name = format!("asynchat-test-{}", process::id());
    let target = format!("unix:@{name}");
    let listener = event_loop.listen(&target, log.session())?;
    let addr = Addr::Abstract(name.into_bytes().into());
    assert_eq!(listener.local_addr(), Some(addr));
    assert!(event_loop.listen(&target, log.session()).is_err());
    event_loop.connect(&target, log.session())?;
    run_until(&event_loop, || log.count("connect") == 2);
    Ok(())
}

#[test]
fn a_dispatcher_listens_and_connects_at_a_path() -> Result {
    struct Listener(Channel, Log);
    impl Dispatcher for Listener {
        fn channel(&self) -> &Channel {
            &self.0
        }
        fn handle_accepted(&mut self, socket: Socket, peer: Addr) -> Result {
            self.1.add(format!("accepted {peer}"));
            drop(socket);
            Ok(())
        }
        fn handle_connect(&mut self) -> Result {
            self.1.add("connect");
            Ok(())
        }
    }
    let (_folder, path) = place();
    let (event_loop, log) = (new_loop(), Log::default());
    event_loop.register(Listener(Channel::listen(&path)?, log.clone()))?;
    event_loop.register(Listener(Channel::connect(&path)?, log.clone()))?;
    run_until(&event_loop, || log.lines().len() == 2);
    assert!(log.has("connect") && log.has("accepted unix socket"));
    Ok(())
}

/// The backlog of a Unix-domain listener is the only thing that such a connect could wait for.
#[cfg(target_os = "linux")]
#[test]
fn a_full_backlog_refuses_the_connection() -> Result {
    let (_folder, path) = place();
    let (event_loop, log) = (new_loop(), Log::default());
    let listener = Server::new(&path)
        .backlog(1)
        .listen_on(&event_loop, log.session())?;
    listener.pause_reading();
    idle(&event_loop);
    let mut clients = Vec::new();
    while !log.has("close ConnectFailed") {
        assert!(clients.len() < 10, "the backlog is one");
        clients.push(event_loop.connect(&path, log.session())?);
        idle(&event_loop);
    }
    Ok(())
}
