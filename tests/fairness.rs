//! Fairness of the loop, on the simulated network: a client that waits for a descriptor, a quota or
//! a turn is served as soon as it is available.

mod common;

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use asynchat::sim::{self, Call, Network, Peer};
use asynchat::{AsyncChat, AtShutdown, Chat, Close, EventLoop, Limits, Result, Server};
use common::Slot;

const ADDR: &str = "10.0.0.1:7007";

/// How often a test repeats something that could go on for ever. Its counts must stay far below
/// this.
const ENDLESS: u32 = 10_000;

/// How often something may happen while another connection waits for its turn.
const A_FEW: u32 = 10;

/// A loop and its network.
struct Scene {
    network: Network,
    event_loop: EventLoop,
}

impl Scene {
    fn new() -> Result<Self> {
        let network = Network::new(1);
        let event_loop = network.event_loop()?;
        Ok(Scene {
            network,
            event_loop,
        })
    }

    fn settle(&self) -> Result {
        Ok(self.network.settle(&self.event_loop)?)
    }

    fn turn(&self) -> Result<bool> {
        Ok(self.event_loop.run_once(Duration::ZERO)?)
    }

    /// A client that has been accepted.
    fn client(&self) -> Result<Peer> {
        let client = self.network.connect(ADDR)?;
        self.settle()?;
        Ok(client)
    }
}

fn echo(chat: Chat) -> impl FnMut(&[u8]) -> Result + 'static {
    move |line| {
        chat.push_slice(line);
        chat.push("\r\n");
        Ok(())
    }
}

// ---- accepting

#[test]
fn paused_accepting_resumes_as_soon_as_a_connection_closes() -> Result {
    let scene = Scene::new()?;
    scene.event_loop.listen(ADDR, echo)?;
    let first = scene.client()?;
    let no_descriptors = io::Error::other("no descriptors left");
    scene.network.fail(Call::Accept, no_descriptors);
    let second = scene.client()?;
    second.send("hello\r\n");
    scene.settle()?;
    assert_eq!(scene.event_loop.stats().accepted, 1, "accepting is paused");

    first.finish();
    scene.settle()?;
    assert_eq!(second.received(), b"hello\r\n");
    assert_eq!(scene.network.elapsed(), Duration::ZERO);
    Ok(())
}

#[test]
fn a_lingering_socket_is_closed_at_once_for_a_waiting_client() -> Result {
    let scene = Scene::new()?;
    scene.event_loop.listen(ADDR, |chat: Chat| {
        move |line: &[u8]| {
            chat.push_slice(line);
            chat.close_when_done();
            Ok(())
        }
    })?;
    let first = scene.client()?;
    first.send("goodbye\r\n");
    scene.settle()?;
    assert_eq!(scene.event_loop.len(), 2, "the socket lingers");
    let no_descriptors = io::Error::other("no descriptors left");
    scene.network.fail(Call::Accept, no_descriptors);
    let second = scene.client()?;
    second.send("hello");
    scene.settle()?;
    second.send("\r\n");
    scene.settle()?;
    assert_eq!(second.received(), b"hello");
    assert_eq!(scene.network.elapsed(), Duration::ZERO);
    Ok(())
}

#[test]
fn a_turn_accepts_at_most_its_budget_of_connections() -> Result {
    const CLIENTS: u64 = 200;
    let most = Limits::default().turn_accepts as u64;
    assert_eq!(most, 64);
    let scene = Scene::new()?;
    scene.event_loop.listen(ADDR, echo)?;
    let waiting: Result<Vec<_>, _> = (0..CLIENTS).map(|_| scene.network.connect(ADDR)).collect();
    let waiting = waiting?;
    let mut accepted = Vec::new();
    for _ in 0..CLIENTS.div_ceil(most) {
        let before = scene.event_loop.stats().accepted;
        scene.turn()?;
        accepted.push(scene.event_loop.stats().accepted - before);
    }
    assert_eq!(accepted, [64, 64, 64, 8]);
    for client in &waiting {
        client.send("hello\r\n");
    }
    scene.settle()?;
    assert!(waiting.iter().all(|it| it.received() == b"hello\r\n"));
    Ok(())
}

/// A program may hold the handle of a closed connection for any time.
#[test]
fn a_closed_connection_frees_its_quota_although_a_handle_exists() -> Result {
    let (scene, slot) = (Scene::new()?, Slot::default());
    Server::new(ADDR)
        .limits(Limits::default().connections(1))
        .refusal("busy\r\n")
        .listen_on(&scene.event_loop, slot.capture(echo))?;
    let first = scene.client()?;
    let handle = slot.chat();
    let refused = scene.client()?;
    assert_eq!(refused.received(), b"busy\r\n");

    first.finish();
    scene.settle()?;
    assert!(!handle.is_open());
    let second = scene.client()?;
    second.send("hello\r\n");
    scene.settle()?;
    assert_eq!(second.received(), b"hello\r\n");
    assert_eq!(scene.network.elapsed(), Duration::ZERO);
    Ok(())
}

// ---- shutting down

/// Shuts the loop down on request, and closes after three lines.
struct Leaving {
    chat: Chat,
    lines: u32,
}

impl AsyncChat for Leaving {
    fn found_terminator(&mut self, line: &[u8]) -> Result {
        self.chat.push_slices(&[b"250 ", line, b"\r\n"]);
        if line == b"shutdown" {
            asynchat::shutdown(Duration::from_secs(60));
        }
        self.lines += 1;
        if self.lines == 3 {
            self.chat.close_when_done();
        }
        Ok(())
    }

    fn handle_shutdown(&mut self) -> Result<AtShutdown> {
        self.chat.push("421 shutting down\r\n");
        Ok(AtShutdown::Stay)
    }
}

#[test]
fn a_shutdown_comes_between_the_same_two_records_under_every_segmentation() -> Result {
    let session = |chat| Leaving { chat, lines: 0 };
    let transcript = sim::drive_every_segmentation(session, b"one\r\nshutdown\r\ntwo\r\nno\r\n")?;
    let replies = "250 one\r\n250 shutdown\r\n421 shutting down\r\n250 two\r\n";
    assert_eq!(transcript.text(), replies);
    assert!(matches!(transcript.close, Some(Close::Local)));
    Ok(())
}

// ---- turns

/// Two sessions, each of which pushes a hook to the other when its own hook is called.
fn push_hooks_in_turn(near: Chat, far: Chat, hooks: Rc<Cell<u32>>) {
    let queue = near.clone();
    queue.push_hook(move || {
        hooks.set(hooks.get() + 1);
        if hooks.get() < ENDLESS {
            push_hooks_in_turn(far, near, hooks);
        }
    });
}

/// Two sessions that keep each other busy, a third one, and how many hooks the two have run.
fn two_busy_sessions_and_a_third(scene: &Scene) -> Result<([Peer; 2], Peer, Rc<Cell<u32>>)> {
    let players = [Slot::default(), Slot::default()];
    let of_players = players.clone();
    scene.event_loop.listen(ADDR, move |chat| {
        let free = of_players.iter().find(|slot| !slot.is_filled());
        let slot = free.cloned().unwrap_or_default();
        slot.capture(echo)(chat)
    })?;
    let peers = [scene.client()?, scene.client()?];
    let third = scene.client()?;
    let hooks = Rc::new(Cell::new(0));
    let [near, far] = players.map(|slot| slot.chat());
    push_hooks_in_turn(near, far, Rc::clone(&hooks));
    Ok((peers, third, hooks))
}

#[test]
fn two_busy_sessions_do_not_delay_a_third() -> Result {
    let scene = Scene::new()?;
    let (_players, third, hooks) = two_busy_sessions_and_a_third(&scene)?;
    scene.turn()?;
    assert!(hooks.get() > 0);

    third.send("hello\r\n");
    let timer_called = Rc::new(Cell::new(false));
    let called = Rc::clone(&timer_called);
    let call = move || called.set(true);
    scene.event_loop.call_later(Duration::ZERO, call);
    scene.turn()?;
    assert_eq!(third.received(), b"hello\r\n");
    assert!(timer_called.get());
    assert!(hooks.get() < A_FEW, "{} hooks", hooks.get());
    Ok(())
}

/// A timer that is due at once and sets another one.
fn tick(ticks: Rc<Cell<u32>>) {
    asynchat::call_later(Duration::ZERO, move || {
        ticks.set(ticks.get() + 1);
        if ticks.get() < ENDLESS {
            tick(ticks);
        }
    });
}

#[test]
fn zero_delay_timers_that_set_more_of_them_do_not_delay_others() -> Result {
    let scene = Scene::new()?;
    scene.event_loop.listen(ADDR, echo)?;
    let client = scene.client()?;
    let ticks = Rc::new(Cell::new(0));
    let counted = Rc::clone(&ticks);
    scene.event_loop.call_soon(move || tick(counted));
    scene.turn()?;
    scene.turn()?;
    assert!(ticks.get() > 0);

    client.send("hello\r\n");
    scene.turn()?;
    assert_eq!(client.received(), b"hello\r\n");
    assert!(ticks.get() < A_FEW, "{} ticks", ticks.get());
    Ok(())
}

// ---- turns with a time limit

const MILLI: Duration = Duration::from_millis(1);

/// What `run_for` lets pass.
fn time_of(scene: &Scene, budget: Duration) -> Result<Duration> {
    let before = scene.network.elapsed();
    scene.event_loop.run_for(budget)?;
    Ok(scene.network.elapsed() - before)
}

/// Two hundred clients send bursts of lines, each of which takes a tenth of a millisecond to answer.
#[test]
fn a_frame_takes_no_longer_than_its_budget_and_one_connection_and_serves_all_in_turn() -> Result {
    const CLIENTS: usize = 200;
    const LINES: usize = 5;
    let (scene, order) = (Scene::new()?, Rc::new(RefCell::new(Vec::new())));
    let (network, records) = (scene.network.clone(), Rc::clone(&order));
    let mut clients = 0..CLIENTS;
    scene.event_loop.listen(ADDR, move |chat: Chat| {
        let (network, records) = (network.clone(), Rc::clone(&records));
        let client = clients.next();
        move |line: &[u8]| {
            network.spend(MILLI / 10);
            records.borrow_mut().extend(client);
            chat.push_slices(&[line, b"\r\n"]);
            Ok(())
        }
    })?;
    let clients: Result<Vec<Peer>, _> = (0..CLIENTS).map(|_| scene.network.connect(ADDR)).collect();
    let clients = clients?;
    scene.settle()?;
    let burst = "hello\r\n".repeat(LINES);
    clients.iter().for_each(|client| client.send(&burst));
    let (mut frames, mut answered, mut seen) = (0, [0; CLIENTS], 0);
    while seen < 2 * CLIENTS * LINES {
        let taken = time_of(&scene, 4 * MILLI)?;
        assert!(taken < 5 * MILLI, "{taken:?}");
        frames += 1;
        for client in order.borrow().iter().skip(seen) {
            seen += 1;
            answered[*client] += 1;
            // A client that was answered sends its next burst at once.
            if answered[*client] == LINES {
                clients[*client].send(&burst);
            }
        }
        let next = scene.event_loop.next_timeout();
        assert!(seen == 2 * CLIENTS * LINES || next == Some(Duration::ZERO));
    }
    // 200 milliseconds of work, in frames that use their budget.
    assert!(frames <= 51, "{frames} frames");
    // Each burst in one turn of its client, and all first bursts before the second ones.
    let order = order.borrow();
    for round in order.chunks(CLIENTS * LINES) {
        assert!(round.chunks(LINES).all(|burst| burst == [burst[0]; LINES]));
        let mut served: Vec<usize> = round.iter().copied().step_by(LINES).collect();
        served.sort_unstable();
        assert!(served.into_iter().eq(0..CLIENTS));
    }
    Ok(())
}

/// The budget of each frame is used up by the first hook.
#[test]
fn frames_that_are_too_short_starve_nobody() -> Result {
    let scene = Scene::new()?;
    let (_players, third, hooks) = two_busy_sessions_and_a_third(&scene)?;
    let calls = Rc::new(Cell::new(0));
    let count = || {
        let calls = Rc::clone(&calls);
        move || calls.set(calls.get() + 1)
    };
    scene.event_loop.run_for(Duration::ZERO)?;
    assert!(hooks.get() > 0);

    third.send("hello\r\n");
    scene.event_loop.call_later(Duration::ZERO, count());
    scene.event_loop.call_soon(count());
    let posts = Arc::new(AtomicU32::new(0));
    let post = Arc::clone(&posts);
    let post = move || _ = post.fetch_add(1, Ordering::Relaxed);
    scene.event_loop.remote().post(post)?;
    for _ in 0..3 * A_FEW {
        scene.event_loop.run_for(Duration::ZERO)?;
    }
    assert_eq!(third.received(), b"hello\r\n");
    assert_eq!(calls.get(), 2);
    assert_eq!(posts.load(Ordering::Relaxed), 1);
    assert!(hooks.get() < 3 * A_FEW, "{} hooks", hooks.get());
    Ok(())
}

#[test]
fn a_budget_of_zero_makes_one_call_and_all_calls_in_their_order() -> Result {
    let (scene, order) = (Scene::new()?, Rc::new(RefCell::new(Vec::new())));
    for n in 0..5 {
        let order = Rc::clone(&order);
        let call = move || order.borrow_mut().push(n);
        scene.event_loop.call_soon(call);
    }
    for n in 1..=5 {
        assert_eq!(scene.event_loop.next_timeout(), Some(Duration::ZERO));
        assert_eq!(scene.event_loop.run_for(Duration::ZERO)?, n < 5);
        assert_eq!(*order.borrow(), (0..n).collect::<Vec<_>>());
    }
    assert_eq!(scene.event_loop.next_timeout(), None);
    Ok(())
}

/// A turn that was cut is continued by whatever runs the loop next.
#[test]
fn a_turn_that_was_cut_is_continued_by_run_once_and_by_run() -> Result {
    for runs in [false, true] {
        let (scene, calls) = (Scene::new()?, Rc::new(Cell::new(0)));
        for n in 0..10 {
            let (calls, network) = (Rc::clone(&calls), scene.network.clone());
            let call = move || {
                network.spend(MILLI);
                calls.set(calls.get() + 1);
            };
            match n % 2 {
                0 => scene.event_loop.call_soon(call),
                _ => drop(scene.event_loop.call_later(Duration::ZERO, call)),
            }
        }
        scene.event_loop.run_for(2 * MILLI)?;
        assert_eq!(calls.get(), 2);
        if runs {
            scene.event_loop.run()?;
        } else {
            assert!(!scene.event_loop.run_once(Duration::ZERO)?);
        }
        assert_eq!(calls.get(), 10);
    }
    Ok(())
}

#[test]
fn a_stop_ends_a_frame_before_its_time_is_up() -> Result {
    let scene = Scene::new()?;
    scene.event_loop.listen(ADDR, echo)?;
    let (stops, calls) = (scene.event_loop.clone(), Rc::new(Cell::new(0)));
    let (ours, again) = (Rc::clone(&calls), scene.event_loop.clone());
    scene.event_loop.call_soon(move || {
        stops.stop();
        again.call_soon(move || ours.set(1));
    });
    assert!(!scene.event_loop.run_for(Duration::MAX)?);
    assert_eq!(calls.get(), 0);
    assert!(scene.event_loop.run_for(Duration::MAX)?);
    assert_eq!(calls.get(), 1);
    Ok(())
}

/// What a cut turn has fetched and not run.
#[test]
fn posts_that_a_cut_turn_has_left_run_before_the_loop_ends_or_are_dropped_with_it() -> Result {
    for ends in [false, true] {
        let (scene, posts) = (Scene::new()?, Arc::new(AtomicU32::new(0)));
        let remote = scene.event_loop.remote();
        for _ in 0..3 {
            let posts = Arc::clone(&posts);
            remote.post(move || _ = posts.fetch_add(1, Ordering::Relaxed))?;
        }
        assert!(scene.event_loop.run_for(Duration::ZERO)?);
        assert_eq!(posts.load(Ordering::Relaxed), 1);
        if ends {
            scene.event_loop.shutdown(Duration::ZERO);
            assert!(!scene.event_loop.run_for(Duration::ZERO)?);
            assert_eq!(posts.load(Ordering::Relaxed), 3);
            assert_eq!(scene.event_loop.next_timeout(), None);
        } else {
            drop(scene);
        }
        assert_eq!(Arc::strong_count(&posts), 1);
    }
    Ok(())
}
