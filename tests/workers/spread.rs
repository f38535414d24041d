//! A connection goes to the worker that has the fewest.

use super::*;
use asynchat::{Limits, LoopStats};

fn per_worker(clients: &mut [Client], workers: usize) -> Vec<usize> {
    let mut counts = vec![0; workers];
    for client in clients {
        counts[client.worker()] += 1;
    }
    counts
}

#[test]
fn connections_are_spread_evenly() {
    let running = start_serving(4, any_port);
    let mut clients: Vec<_> = (0..101).map(|_| running.connect()).collect();
    let counts = per_worker(&mut clients, 4);
    let (least, most) = (counts.iter().min(), counts.iter().max());
    assert!(most.unwrap() - least.unwrap() <= 1, "{counts:?}");
    running.shutdown().unwrap();
}

#[test]
fn a_worker_that_has_lost_connections_gets_the_next_ones() {
    let running = start_serving(2, any_port);
    let mut clients: Vec<_> = (0..20).map(|_| running.connect()).collect();
    let (of_first, of_second): (Vec<_>, Vec<_>) = {
        let numbered = clients.drain(..).map(|mut it| (it.worker(), it));
        numbered.partition(|(worker, _)| *worker == 0)
    };
    assert_eq!((of_first.len(), of_second.len()), (10, 10));
    drop(of_first);
    wait_until(|| stats(&running)[0].closes.eof == 10);
    let mut clients: Vec<_> = (0..10).map(|_| running.connect()).collect();
    assert_eq!(per_worker(&mut clients, 2), [10, 0]);
    running.shutdown().unwrap();
}

#[test]
fn each_worker_counts_what_it_has_done_and_the_sum_is_the_service() {
    let running = start_serving(3, any_port);
    let mut clients: Vec<_> = (0..6).map(|_| running.connect()).collect();
    for client in &mut clients {
        client.ask("hello");
    }
    let each = stats(&running);
    assert!(each.iter().all(|stats| stats.accepted == 2), "{each:?}");
    let total: LoopStats = each.into_iter().sum();
    assert_eq!((total.accepted, total.records_in), (6, 6));
    // A receiver on each worker, and the connections.
    assert_eq!(total.opened, 9);
    running.shutdown().unwrap();
}

/// The loop that accepts does not count what it hands over, so that the sum of all loops is right, too.
#[test]
fn each_connection_is_counted_by_one_loop() {
    let limits = Limits::default().connections(5);
    let service = Workers::new()
        .threads(3)
        .start(move |worker| listen(worker, any_port().limits(limits).refusal("full\r\n")));
    let service = service.unwrap();
    let addr = service.local_addrs()[0].inet().unwrap();
    let remotes = service.remotes();
    let clients = thread::spawn(move || {
        let mut clients: Vec<_> = (0..5).map(|_| Client::connect(addr)).collect();
        for client in &mut clients {
            client.ask("hello");
        }
        assert_eq!(Client::connect(addr).line(), "full");
        let each = stats_of(&remotes);
        remotes.shutdown(DEADLINE).unwrap();
        each
    });
    asynchat::run().unwrap();
    service.finish().unwrap();
    let workers: LoopStats = clients.join().unwrap().into_iter().sum();
    assert_eq!((workers.accepted, workers.refused), (6, 1));
    let acceptor = asynchat::EventLoop::current().unwrap().stats();
    assert_eq!((acceptor.accepted, acceptor.refused), (0, 0));
}

#[test]
fn several_servers_have_their_own_sessions() {
    let running = start(Workers::new().threads(2), |worker| {
        listen(worker, any_port())?;
        let addr = worker.listen(any_port(), |chat| {
            move |_: &[u8]| {
                chat.push("second\r\n");
                Ok(())
            }
        })?;
        let number = worker.number();
        let addr = addr.inet().ok_or("no address")?;
        ADDRS.lock().unwrap().push((number, addr));
        Ok(())
    });
    let running = running.unwrap();
    let addrs = ADDRS.lock().unwrap().clone();
    assert_eq!(addrs.len(), 2);
    assert_eq!(addrs[0].1, addrs[1].1, "one socket for all");
    assert!(running.connect().ask("x").ends_with(" x"));
    assert_eq!(Client::connect(addrs[0].1).ask("x"), "second");
    running.shutdown().unwrap();
}

static ADDRS: std::sync::Mutex<Vec<(usize, SocketAddr)>> = std::sync::Mutex::new(Vec::new());

/// A worker that does not take its connections keeps its place in the count, and the others go on.
#[test]
fn a_worker_that_blocks_delays_only_its_own_connections() {
    let running = start_serving(2, any_port);
    let (release, blocked) = mpsc::channel::<()>();
    let (entered, is_blocked) = mpsc::channel();
    let first = running.remotes.get(0).unwrap();
    let block = move || {
        entered.send(()).unwrap();
        let _ = blocked.recv_timeout(DEADLINE);
    };
    first.post(block).unwrap();
    is_blocked.recv_timeout(DEADLINE).unwrap();
    // The workers take turns, so every second one is with the worker that blocks.
    let mut clients: Vec<_> = (0..6).map(|_| running.connect()).collect();
    for client in clients.iter_mut().skip(1).step_by(2) {
        assert_eq!(client.worker(), 1);
    }
    let mut waiting: Vec<_> = clients.drain(..).step_by(2).collect();
    wait_until(|| closed_by_peers(&running, 1) == 3);
    // Short connections go to the other worker.
    for _ in 0..50 {
        assert_eq!(running.connect().worker(), 1);
    }
    drop(release);
    for client in &mut waiting {
        assert_eq!(client.worker(), 0);
    }
    running.shutdown().unwrap();
}

/// How many connections of this worker have ended because their peer has closed them.
fn closed_by_peers(running: &Running, worker: usize) -> u64 {
    let (sender, answer) = mpsc::channel();
    let remote = running.remotes.get(worker).unwrap();
    let count = move || {
        let stats = asynchat::EventLoop::current().unwrap().stats();
        sender.send(stats.closes.eof).unwrap();
    };
    remote.post(count).unwrap();
    answer.recv_timeout(DEADLINE).unwrap()
}

/// What does not fit into the queues of blocked workers waits in the kernel, and is served later.
#[test]
fn a_burst_waits_while_all_workers_are_blocked() {
    let limits = asynchat::Limits::default().turn_accepts(1);
    let running = start_serving(2, move || any_port().limits(limits));
    let mut releases = Vec::new();
    for remote in running.remotes.iter() {
        let (release, blocked) = mpsc::channel::<()>();
        releases.push(release);
        let block = move || {
            let _ = blocked.recv_timeout(DEADLINE);
        };
        remote.post(block).unwrap();
    }
    let mut clients: Vec<_> = (0..50).map(|_| running.connect()).collect();
    drop(releases);
    let counts = per_worker(&mut clients, 2);
    assert_eq!(counts.iter().sum::<usize>(), 50);
    running.shutdown().unwrap();
}

/// The queues of the workers take one connection each, so they are full and empty again all the time.
#[test]
fn an_acceptor_that_waits_for_room_is_notified() {
    let limits = asynchat::Limits::default().turn_accepts(1);
    let running = start_serving(2, move || any_port().limits(limits));
    for _ in 0..100 {
        let mut clients: Vec<_> = (0..30).map(|_| running.connect()).collect();
        let counts = per_worker(&mut clients, 2);
        assert_eq!(counts.iter().sum::<usize>(), 30);
    }
    running.shutdown().unwrap();
}
