//! Registers everything anew after a wait that has failed: on some systems the poller may have lost events or
//! registrations by then. This is rare, so its cost may grow with the number of channels.

use super::Runtime;

impl Runtime {
    /// Deletes all sockets from the poller. Each channel gets a turn, which registers what it waits for. Lingering sockets
    /// have no turns, and are registered at once.
    #[cold]
    pub(super) fn reregister_all(&self) {
        for state in self.channels() {
            state.unwatch();
            state.schedule();
        }
        self.reregister_lingering();
    }
}

/// On the one-shot poller an event that is lost leaves its socket disarmed, as on Windows.
#[cfg(all(test, asynchat_portable_wait))]
mod tests {
    use std::io::{ErrorKind, Read, Write};
    use std::net::{SocketAddr, TcpListener, TcpStream};
    use std::time::{Duration, Instant};

    use crate::{Chat, Connector, Deadlines, EventLoop, Server};

    const DEADLINE: Duration = Duration::from_secs(60);

    struct Scene {
        event_loop: EventLoop,
        addr: SocketAddr,
    }

    impl Scene {
        /// A server that echoes lines, and closes at "quit".
        fn new() -> Self {
            let event_loop = EventLoop::new().unwrap();
            let session = |chat: Chat| {
                move |line: &[u8]| {
                    chat.push_slices(&[line, b"\r\n"]);
                    if line == b"quit" {
                        chat.close_when_done();
                    }
                    Ok(())
                }
            };
            let deadlines = Deadlines::default().linger(DEADLINE * 2);
            let server = Server::new("127.0.0.1:0").deadlines(deadlines);
            let listener = server.listen_on(&event_loop, session).unwrap();
            let addr = listener.local_addr().unwrap().inet().unwrap();
            Scene { event_loop, addr }
        }

        fn connect(&self) -> TcpStream {
            let client = TcpStream::connect(self.addr).unwrap();
            client.set_nonblocking(true).unwrap();
            client
        }

        fn run_until(&self, mut is_so: impl FnMut() -> bool) {
            let deadline = Instant::now() + DEADLINE;
            while !is_so() {
                assert!(Instant::now() < deadline, "an event was lost for good");
                self.event_loop.run_once(Duration::from_millis(1)).unwrap();
            }
        }

        /// Loses the events of the next wait that finds some.
        fn lose_events(&self) {
            let runtime = &self.event_loop.0;
            runtime.poller.fail_and_lose_events();
            self.run_until(|| runtime.failed_waits.get() == 1);
        }

        fn expect(&self, client: &mut TcpStream, expected: &str) {
            let mut received = Vec::new();
            self.run_until(|| {
                let mut buffer = [0; 100];
                match client.read(&mut buffer) {
                    Ok(count) => received.extend_from_slice(&buffer[..count]),
                    Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
                }
                received == expected.as_bytes()
            });
        }
    }

    #[test]
    fn a_listener_accepts_what_a_failed_wait_has_found() {
        let scene = Scene::new();
        scene.event_loop.run_once(Duration::ZERO).unwrap();
        let mut client = scene.connect();
        scene.lose_events();
        client.write_all(b"hello\r\n").unwrap();
        scene.expect(&mut client, "hello\r\n");
    }

    #[test]
    fn a_connection_receives_what_a_failed_wait_has_found() {
        let scene = Scene::new();
        let mut client = scene.connect();
        client.write_all(b"one\r\n").unwrap();
        scene.expect(&mut client, "one\r\n");
        for _ in 0..3 {
            client.write_all(b"two\r\n").unwrap();
            scene.lose_events();
            scene.expect(&mut client, "two\r\n");
        }
    }

    #[test]
    fn an_attempt_to_connect_learns_its_outcome_after_a_failed_wait() {
        let scene = Scene::new();
        let far = TcpListener::bind("127.0.0.1:0").unwrap();
        let connector = Connector::new(far.local_addr().unwrap());
        let session = |_: Chat| |_: &[u8]| Ok(());
        let chat = connector.connect_on(&scene.event_loop, session).unwrap();
        scene.lose_events();
        scene.run_until(|| chat.peer_addr().is_some());
    }

    /// Its linger time is longer than the deadline of the test.
    #[test]
    fn a_lingering_socket_sees_the_end_of_its_peer_after_a_failed_wait() {
        let scene = Scene::new();
        let mut client = scene.connect();
        client.write_all(b"quit\r\n").unwrap();
        scene.expect(&mut client, "quit\r\n");
        let runtime = &scene.event_loop.0;
        scene.run_until(|| runtime.lingering.borrow().len() == 1);
        drop(client);
        scene.lose_events();
        scene.run_until(|| runtime.lingering.borrow().len() == 0);
    }
}
