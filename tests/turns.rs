//! What a turn does first, and when the loop has nothing left to do.

mod common;

use std::sync::mpsc;
use std::time::Duration;

use asynchat::Chat;
use common::{
    Log, Peer, Session, addr_of, new_loop, run_to_end, run_until, run_until_blocked, served,
};

#[test]
fn posted_calls_and_visits_run_in_the_order_posted() {
    let (event_loop, log) = (new_loop(), Log::default());
    let (chat, _peer) = served(&event_loop, log.session());
    let (remote, (sender, receiver)) = (event_loop.remote(), mpsc::channel());
    for n in 0..2 {
        let (visits, calls) = (sender.clone(), sender.clone());
        let visit = move |_: &mut Session| Ok(visits.send(format!("visit {n}"))?);
        remote.post_to(chat.id(), visit).unwrap();
        remote
            .post(move || calls.send(format!("call {n}")).unwrap())
            .unwrap();
    }
    let mut ran = Vec::new();
    run_until(&event_loop, || {
        ran.extend(receiver.try_iter());
        ran.len() == 4
    });
    assert_eq!(ran, ["visit 0", "call 0", "visit 1", "call 1"]);
}

#[test]
fn a_timer_of_a_zero_delay_comes_after_the_connect() {
    let (event_loop, log) = (new_loop(), Log::default());
    let session = log.session();
    let listener = event_loop
        .listen("127.0.0.1:0", move |chat: Chat| {
            chat.call_later(Duration::ZERO);
            session(chat)
        })
        .unwrap();
    let _peer = Peer::connect(addr_of(&listener));
    run_until(&event_loop, || log.has("timer"));
    assert_eq!(log.lines(), ["connect", "timer"]);
}

#[test]
fn a_timer_fires_beside_a_connection_that_always_has_work_left() {
    fn again(chat: &Chat) {
        let next = chat.clone();
        chat.push_hook(move || again(&next));
    }
    let (event_loop, log) = (new_loop(), Log::default());
    let (chat, _peer) = served(&event_loop, log.session());
    again(&chat);
    let fired = log.clone();
    event_loop.call_later(Duration::from_millis(1), move || fired.add("timer"));
    run_until(&event_loop, || log.has("timer"));
    chat.close();
}

#[test]
fn a_stop_ends_one_run_once_and_not_the_run_after_it() {
    let (event_loop, log) = (new_loop(), Log::default());
    let stops = event_loop.clone();
    event_loop.call_soon(move || stops.stop());
    assert!(!event_loop.run_once(Duration::ZERO).unwrap());
    let called = log.clone();
    event_loop.call_soon(move || called.add("called"));
    run_to_end(&event_loop);
    assert_eq!(log.lines(), ["called"]);
}

#[test]
fn an_idle_timeout_set_on_a_closed_channel_is_no_reason_to_run_on() {
    let (event_loop, log) = (new_loop(), Log::default());
    let (chat, _peer) = served(&event_loop, log.session());
    chat.close();
    run_to_end(&event_loop);
    chat.set_idle_timeout(Duration::from_secs(3600));
    assert!(!event_loop.run_once(Duration::ZERO).unwrap());
    assert_eq!(event_loop.next_timeout(), None);
}

/// A wait that fails is tried again, for what it lacks may come; a poller that is broken is not
/// tried for ever.
#[cfg(feature = "sim")]
#[test]
fn a_hundred_failed_waits_in_a_row_end_the_run() {
    use asynchat::sim::{Call, Network};

    let network = Network::new(1);
    let event_loop = network.event_loop().unwrap();
    event_loop
        .listen("10.0.0.1:119", Log::default().session())
        .unwrap();
    let turn = || event_loop.run_once(Duration::ZERO);
    for _ in 0..2 {
        for _ in 0..99 {
            network.fail(Call::Wait, std::io::Error::other("broken"));
            assert!(turn().is_ok());
        }
        assert!(turn().is_ok());
    }
    for n in 1..=100 {
        network.fail(Call::Wait, std::io::Error::other("broken"));
        assert_eq!(turn().is_ok(), n < 100);
    }
}

#[test]
fn a_shutdown_that_is_stopped_goes_on_in_the_next_run() {
    let (event_loop, log) = (new_loop(), Log::default());
    let (chat, _peer) = served(&event_loop, log.session());
    for _ in 0..100 {
        chat.push(vec![b'x'; 60_000]);
    }
    run_until_blocked(&event_loop, &chat);
    event_loop.shutdown(Duration::from_millis(1));
    event_loop.stop();
    run_to_end(&event_loop);
    assert!(!log.has("close"));
    assert_eq!(event_loop.len(), 1);
    run_to_end(&event_loop);
    assert_eq!(log.lines(), ["connect", "close Shutdown"]);
}
