//! How the service ends: a shutdown or a stop of any of its loops ends all of them.

use super::*;

#[test]
fn a_shutdown_reaches_the_sessions_of_all_workers() {
    let running = start_serving(3, any_port);
    let mut clients: Vec<_> = (0..9).map(|_| running.connect()).collect();
    for client in &mut clients {
        client.ask("hello");
    }
    running.shutdown().unwrap();
    for client in &mut clients {
        assert_eq!(client.line(), "bye");
        assert_eq!(client.line(), "");
    }
}

#[test]
fn a_session_that_shuts_its_loop_down_shuts_the_service_down() {
    let running = start_serving(3, any_port);
    let mut clients: Vec<_> = (0..6).map(|_| running.connect()).collect();
    for client in &mut clients {
        client.ask("hello");
    }
    clients[0].send("SHUTDOWN");
    running.outcome().unwrap();
    for client in &mut clients {
        assert_eq!(client.line(), "bye");
    }
}

#[test]
fn a_session_that_stops_its_loop_stops_the_service() {
    let running = start_serving(3, any_port);
    let mut client = running.connect();
    client.ask("hello");
    client.send("STOP");
    running.outcome().unwrap();
    assert_eq!(client.line(), "");
}

/// The sessions of the other workers would go on, and new clients of this one would be refused for ever.
#[test]
fn a_session_that_closes_all_ends_the_service() {
    let running = start_serving(3, any_port);
    let mut clients: Vec<_> = (0..6).map(|_| running.connect()).collect();
    for client in &mut clients {
        client.ask("hello");
    }
    clients[0].send("CLOSE ALL");
    running.outcome().unwrap();
    for client in &mut clients {
        assert_eq!(client.line(), "", "it is closed without a shutdown");
    }
}

#[test]
fn closing_all_on_the_loop_that_accepts_ends_the_service() {
    let (sender, outcome) = mpsc::channel();
    thread::spawn(move || {
        asynchat::call_soon(asynchat::close_all);
        let workers = Workers::new().threads(2);
        sender.send(workers.run(|worker| listen(worker, any_port())))
    });
    let outcome = outcome.recv_timeout(DEADLINE);
    outcome.expect("it ends in time").unwrap();
}

/// The setup is called in a turn of its own, before the loop of the worker runs.
#[test]
fn a_setup_that_stops_its_loop_or_closes_all_ends_the_service() {
    for end in [asynchat::stop, asynchat::close_all] {
        let end_the_second = move |worker: &Worker| {
            listen(worker, any_port())?;
            if worker.number() == 1 {
                end();
            }
            Ok(())
        };
        let running = start(Workers::new().threads(2), end_the_second).unwrap();
        running.outcome().unwrap();
    }
}

#[test]
fn a_stop_from_another_thread_ends_all() {
    let running = start_serving(3, any_port);
    let mut clients: Vec<_> = (0..6).map(|_| running.connect()).collect();
    for client in &mut clients {
        client.ask("hello");
    }
    running.remotes.stop().unwrap();
    running.outcome().unwrap();
    for client in &mut clients {
        assert_eq!(client.line(), "");
    }
}

/// A session that stays delays the end, until a second shutdown ends the grace.
#[test]
fn a_second_shutdown_without_grace_aborts_what_is_left_on_all_workers() {
    let (running, mut clients) = four_that_stay();
    running.remotes.shutdown(DEADLINE * 10).unwrap();
    for client in &mut clients {
        assert_eq!(client.line(), "staying");
        assert_eq!(client.ask("still there"), "still there");
    }
    running.remotes.shutdown(Duration::ZERO).unwrap();
    running.outcome().unwrap();
    for client in &mut clients {
        let reset = client.try_line().map_err(|error| error.kind());
        assert_eq!(reset, Err(std::io::ErrorKind::ConnectionReset));
    }
}

#[test]
fn dropping_the_service_ends_the_workers() {
    let service = Workers::new()
        .threads(2)
        .start(|worker| listen(worker, any_port()));
    drop(service.unwrap());
    assert!(
        !asynchat::run_once(Duration::ZERO).unwrap(),
        "nothing is left"
    );
}

/// The loop that accepts can be used for another service afterwards.
#[test]
fn a_loop_can_have_several_services_one_after_another() {
    for _ in 0..3 {
        let service = Workers::new()
            .threads(2)
            .start(|worker| listen(worker, any_port()))
            .unwrap();
        let addr = service.local_addrs()[0].inet().unwrap();
        let client = thread::spawn(move || {
            let mut client = Client::connect(addr);
            let reply = client.ask("hello");
            client.send("SHUTDOWN");
            (reply, client.line())
        });
        asynchat::run().unwrap();
        service.finish().unwrap();
        let (reply, bye) = client.join().unwrap();
        assert!(reply.ends_with(" hello") && bye == "bye");
    }
}

#[test]
fn the_remotes_of_a_service_that_has_ended_do_not_end_the_next_one() {
    let start = || {
        let workers = Workers::new().threads(2);
        workers.start(|worker| listen(worker, any_port())).unwrap()
    };
    let first = start();
    let old = first.remotes();
    // The loop makes these two calls when the service has ended.
    old.stop().unwrap();
    old.get(1).unwrap().shutdown(DEADLINE).unwrap();
    first.finish().unwrap();
    let second = start();
    for refused in [old.stop(), old.shutdown(DEADLINE)] {
        let error = refused.unwrap_err().to_string();
        assert_eq!(error, "the service has ended");
    }
    assert!(asynchat::run_once(Duration::ZERO).unwrap());
    // A loop that is shutting down would refuse it.
    let listener = asynchat::listen("127.0.0.1:0", |_: Chat| |_: &[u8]| Ok(()));
    listener.unwrap().close();
    second.remotes().stop().unwrap();
    asynchat::run().unwrap();
    second.finish().unwrap();
}

/// Those that end only when their worker is dropped count as well.
#[test]
fn the_last_figures_are_those_of_all_workers() {
    let service = Workers::new()
        .threads(2)
        .start(|worker| listen(worker, any_port()))
        .unwrap();
    let addr = service.local_addrs()[0].inet().unwrap();
    let clients = thread::spawn(move || {
        let mut clients: Vec<_> = (0..4).map(|_| Client::connect(addr)).collect();
        for client in &mut clients {
            client.ask("hello");
        }
        clients[0].send("STOP");
        clients
    });
    asynchat::run().unwrap();
    let each = service.finish().unwrap();
    assert_eq!(each.len(), 2);
    assert!(each.iter().all(|it| it.accepted == 2), "{each:?}");
    let total: asynchat::LoopStats = each.into_iter().sum();
    assert_eq!(total.records_in, 5);
    assert_eq!(total.opened, total.closed);
    assert_eq!(
        total.closes.iter().map(|(_, count)| count).sum::<u64>(),
        total.closed
    );
    drop(clients.join());
}

/// An accepting loop may have other work, which a service does not disturb.
#[test]
fn two_services_share_the_loop_that_accepts() {
    let start = || {
        Workers::new()
            .threads(2)
            .start(|worker| listen(worker, any_port()))
            .unwrap()
    };
    let (first, second) = (start(), start());
    let addrs = [&first, &second].map(|it| it.local_addrs()[0].inet().unwrap());
    let client = thread::spawn(move || {
        let replies = addrs.map(|addr| Client::connect(addr).ask("hello"));
        Client::connect(addrs[0]).send("SHUTDOWN");
        replies
    });
    asynchat::run().unwrap();
    first.finish().unwrap();
    second.finish().unwrap();
    let replies = client.join().unwrap();
    assert!(replies.iter().all(|reply| reply.ends_with(" hello")));
}

/// On one loop what sessions share is there until the last one ends.
#[test]
fn a_session_that_stays_reaches_workers_without_connections() {
    struct Asks {
        chat: Chat,
        remotes: Remotes,
    }
    impl AsyncChat for Asks {
        fn found_terminator(&mut self, _: &[u8]) -> Result {
            let reply = self.chat.promise();
            let other = 1 - self.chat.id().worker().ok_or("it has no worker")?;
            let other = self.remotes.get(other).ok_or("there are two workers")?;
            other.post(move || reply.fulfill("from the other worker\r\n"))?;
            Ok(())
        }
        fn handle_shutdown(&mut self) -> Result<AtShutdown> {
            self.chat.push("staying\r\n");
            Ok(AtShutdown::Stay)
        }
    }
    let running = start(Workers::new().threads(2), |worker| {
        let remotes = worker.remotes();
        worker.listen(any_port(), move |chat| Asks {
            chat,
            remotes: remotes.clone(),
        })?;
        Ok(())
    });
    let running = running.unwrap();
    let mut client = running.connect();
    assert_eq!(client.ask("before"), "from the other worker");
    running.remotes.shutdown(DEADLINE).unwrap();
    assert_eq!(client.line(), "staying");
    // Time for a worker that would end: the loop that accepts has no listener any more.
    wait_until(|| TcpStream::connect(running.addr).is_err());
    for _ in 0..100 {
        assert_eq!(client.ask("during"), "from the other worker");
    }
    drop(client);
    running.outcome().unwrap();
}

#[test]
fn workers_that_a_worker_has_started_end_with_it() {
    for end in ["SHUTDOWN", "CLOSE ALL", "STOP"] {
        let running = start(Workers::new().threads(2), |worker| {
            listen(worker, any_port())?;
            if worker.number() == 0 {
                let inner = Workers::new().threads(2);
                let service = inner.start(|worker| listen(worker, any_port()))?;
                // It is dropped with the loop of the worker: a drop here would end it. (Not with the thread. On Windows no
                // other thread ends while thread-local values are dropped, and the service waits for its threads.)
                asynchat::call_later(DEADLINE * 60, move || drop(service));
            }
            Ok(())
        });
        let running = running.unwrap();
        let mut client = running.connect();
        client.ask("hello");
        client.send(end);
        running.outcome().unwrap();
    }
}

/// A program may keep its loop for ever, for example in a state that is `'static`.
#[test]
fn a_worker_that_stops_during_a_shutdown_ends_the_service_although_its_loop_is_not_dropped() {
    struct Keeps(Chat);
    impl AsyncChat for Keeps {
        fn found_terminator(&mut self, _: &[u8]) -> Result {
            std::mem::forget(asynchat::EventLoop::current()?);
            asynchat::stop();
            Ok(())
        }
        fn handle_shutdown(&mut self) -> Result<AtShutdown> {
            self.0.push("staying\r\n");
            Ok(AtShutdown::Stay)
        }
    }
    let running = start(Workers::new().threads(2), |worker| {
        worker.listen(any_port(), |chat| {
            chat.push("hello\r\n");
            Keeps(chat)
        })?;
        Ok(())
    });
    let running = running.unwrap();
    let mut client = running.connect();
    assert_eq!(client.line(), "hello");
    running.remotes.shutdown(Duration::from_secs(1)).unwrap();
    assert_eq!(client.line(), "staying");
    client.send("stop");
    running.outcome().unwrap();
}

/// On one loop they are made, too.
#[test]
fn the_calls_of_the_last_session_reach_other_workers() {
    struct Leaves {
        chat: Chat,
        remotes: Remotes,
        posted: mpsc::Sender<bool>,
    }
    impl AsyncChat for Leaves {
        fn found_terminator(&mut self, _: &[u8]) -> Result {
            Ok(())
        }
        fn handle_close(&mut self, _: &asynchat::Close) {
            let number = self.chat.id().worker().map_or(0, |it| 1 - it);
            let (remotes, posted) = (self.remotes.clone(), self.posted.clone());
            let post = move || {
                let other = remotes.get(number).expect("there are two workers");
                posted.send(other.post(|| ()).is_ok()).unwrap();
            };
            asynchat::call_soon(move || asynchat::call_soon(post));
        }
    }
    let (posted, outcomes) = mpsc::channel();
    for _ in 0..20 {
        let posted = posted.clone();
        let running = start(Workers::new().threads(2), move |worker| {
            let (remotes, posted) = (worker.remotes(), posted.clone());
            worker.listen(any_port(), move |chat| {
                chat.push("hello\r\n");
                Leaves {
                    chat,
                    remotes: remotes.clone(),
                    posted: posted.clone(),
                }
            })?;
            Ok(())
        });
        let running = running.unwrap();
        let mut client = running.connect();
        assert_eq!(client.line(), "hello");
        running.shutdown().unwrap();
        assert!(outcomes.recv_timeout(DEADLINE).unwrap());
    }
}
