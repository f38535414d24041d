//! Flow control: the water marks, the output limit, and paused reading.

mod common;

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use asynchat::{Chat, Limits, More, Producer, Server, SimpleProducer, Terminator};
use common::{
    Log, Peer, Slot, addr_of, idle, new_loop, run_to_end, run_until, run_until_blocked, served,
};

/// A session with these limits that answers each record with `bytes` bytes.
fn answering(limits: Limits, bytes: usize) -> (asynchat::EventLoop, Log, Slot, Peer) {
    let (event_loop, log, slot) = (new_loop(), Log::default(), Slot::default());
    let session = log.session_with(move |chat, _| {
        chat.push(vec![b'x'; bytes]);
        Ok(())
    });
    let listener = Server::new("127.0.0.1:0")
        .limits(limits)
        .listen_on(&event_loop, slot.capture(session))
        .unwrap();
    let peer = Peer::connect(addr_of(&listener));
    run_until(&event_loop, || log.has("connect"));
    listener.close();
    (event_loop, log, slot, peer)
}

#[test]
fn input_pauses_while_the_peer_does_not_read_and_resumes_when_it_reads() {
    const REPLY: usize = 1 << 20;
    let limits = Limits::default().output(Limits::UNLIMITED);
    let (event_loop, log, slot, mut peer) = answering(limits, REPLY);
    peer.send("a\r\n".repeat(100));
    idle(&event_loop);
    // The kernel's buffers accept a few replies. The next one exceeds the mark, and no other
    // follows.
    let before = log.count("record");
    assert!(before < 20, "{before} records");
    assert!(slot.chat().queued() <= REPLY);
    idle(&event_loop);
    assert_eq!(log.count("record"), before);
    // The other replies follow as the peer reads.
    run_until(&event_loop, || peer.look().len() == 100 * REPLY);
    assert_eq!(log.count("record"), 100);
    assert!(log.has("low water"));
}

#[test]
fn records_already_read_wait_for_the_low_water_mark() {
    let limits = Limits::default().low_water(0).high_water(10);
    let (event_loop, log, slot, mut peer) = answering(limits, 100);
    peer.send("a\r\nb\r\n");
    run_until(&event_loop, || log.count("record") == 2);
    run_until(&event_loop, || log.count("low water") == 2);
    assert_eq!(
        log.lines(),
        ["connect", "record a", "low water", "record b", "low water"]
    );
    slot.chat().close();
    run_to_end(&event_loop);
}

#[test]
fn handle_low_water_is_called_once_for_each_crossing_of_the_high_water_mark() {
    let (event_loop, log) = (new_loop(), Log::default());
    let (chat, mut peer) = served(&event_loop, log.session());
    let much = Limits::default().high_water + 1;
    chat.push(vec![b'x'; much]);
    chat.push(vec![b'x'; much]);
    run_until(&event_loop, || peer.look().len() == 2 * much);
    chat.push("little");
    idle(&event_loop);
    assert_eq!(log.lines(), ["connect", "low water"]);
}

#[test]
fn handle_low_water_is_not_called_once_the_close_is_reached() {
    for when_done in [true, false] {
        let limits = Limits::default().low_water(100).high_water(1000);
        let (event_loop, log, slot, mut peer) = answering(limits, 0);
        let chat = slot.chat();
        chat.push(vec![b'x'; 5000]);
        let closing = chat.clone();
        if when_done {
            chat.close_when_done();
        } else {
            chat.push_hook(move || closing.close());
        }
        assert_eq!(peer.receive_all(&event_loop).len(), 5000);
        run_to_end(&event_loop);
        assert_eq!(log.lines(), ["connect", "close Local"]);
    }
}

#[test]
fn input_resumes_after_the_queue_is_discarded() {
    let (event_loop, log) = (new_loop(), Log::default());
    let (chat, mut peer) = served(&event_loop, log.session());
    chat.set_limits(Limits::default().output(Limits::UNLIMITED));
    chat.push(vec![b'x'; 32 << 20]);
    peer.send("are you there?\r\n");
    run_until_blocked(&event_loop, &chat);
    assert!(!log.has("record"));
    chat.discard_buffers();
    run_until(&event_loop, || log.has("record are you there?"));
    assert_eq!(log.count("low water"), 1);
}

#[test]
fn input_resumes_when_the_limits_are_raised() {
    let (event_loop, log) = (new_loop(), Log::default());
    let (chat, mut peer) = served(&event_loop, log.session());
    let limits = Limits::default().output(Limits::UNLIMITED);
    chat.set_limits(limits);
    chat.push(vec![b'x'; 32 << 20]);
    peer.send("are you there?\r\n");
    run_until_blocked(&event_loop, &chat);
    assert!(!log.has("record"));
    chat.set_limits(
        limits
            .low_water(Limits::UNLIMITED)
            .high_water(Limits::UNLIMITED),
    );
    run_until(&event_loop, || log.has("record are you there?"));
}

/// A producer may hold an open file, so 64 of them count as a full queue, even if they are pending.
#[test]
fn pending_producers_cause_back_pressure() {
    struct Never;
    impl Producer for Never {
        fn more(&mut self, _: usize) -> std::io::Result<More> {
            Ok(More::Pending)
        }
    }
    let (event_loop, log) = (new_loop(), Log::default());
    let (chat, mut peer) = served(
        &event_loop,
        log.session_with(|chat, _| {
            chat.push_with_producer(Never);
            Ok(())
        }),
    );
    peer.send("file\r\n".repeat(100));
    run_until(&event_loop, || log.count("record") > 64);
    assert_idle(&event_loop);
    assert_eq!(log.count("record"), 65);
    assert!(!log.has("low water"));
    chat.discard_buffers();
    run_until(&event_loop, || log.has("low water"));
}

#[test]
fn output_over_its_limit_closes_the_connection_to_a_peer_that_does_not_read() {
    let (event_loop, log) = (new_loop(), Log::default());
    let (chat, _peer) = served(&event_loop, log.session());
    let mut pushed = 0;
    run_until(&event_loop, || {
        chat.push(vec![b'x'; 1 << 20]);
        pushed += 1;
        !chat.is_open()
    });
    assert!(pushed >= 8, "{pushed} MiB");
    run_to_end(&event_loop);
    assert_eq!(log.lines(), ["connect", "close OutputLimit"]);
}

#[test]
fn producers_and_hooks_count_against_the_output_limit() {
    let pushes: [fn(&Chat); 2] = [
        |chat| chat.push_with_producer(SimpleProducer::new("x")),
        |chat| chat.push_hook(|| ()),
    ];
    for push in pushes {
        let (event_loop, log) = (new_loop(), Log::default());
        let (chat, _peer) = served(&event_loop, log.session());
        let mut pushed = 0;
        while chat.is_open() && pushed < 10_000 {
            push(&chat);
            pushed += 1;
        }
        // They count as 8 MiB, 4 KiB each.
        assert!((2_000..2_100).contains(&pushed), "{pushed}");
        run_to_end(&event_loop);
        assert_eq!(log.lines(), ["connect", "close OutputLimit"]);
    }
}

/// As in a turn of the session: nobody else pushes yet.
#[test]
fn a_greeting_that_the_factory_pushes_is_not_limited() {
    const PARTS: usize = 100;
    let (event_loop, log) = (new_loop(), Log::default());
    let session = log.session();
    let (chat, mut peer) = served(&event_loop, move |chat| {
        chat.set_limits(Limits::default().output(100));
        for _ in 0..PARTS {
            chat.push([b'x'; 16 * 1024].to_vec());
        }
        session(chat)
    });
    assert!(chat.is_open(), "{:?}", log.lines());
    peer.expect(&event_loop, vec![b'x'; PARTS * 16 * 1024]);
    assert!(chat.is_open());
    // What others push later is.
    push_more_than_the_kernel_takes(&chat);
    assert!(!chat.is_open());
    run_to_end(&event_loop);
    assert_eq!(log.lines(), ["connect", "low water", "close OutputLimit"]);
}

/// With each push above the limit the kernel is offered some of the queue.
fn push_more_than_the_kernel_takes(chat: &Chat) {
    chat.push(vec![b'x'; 16 << 20]);
    assert!(chat.is_open());
    for _ in 0..1000 {
        chat.push("x");
    }
}

#[test]
fn an_output_limit_below_the_high_water_mark_applies() {
    let (event_loop, log) = (new_loop(), Log::default());
    let (chat, _peer) = served(&event_loop, log.session());
    chat.set_limits(Limits::default().output(100));
    // One push of any size is accepted, because the peer may be reading.
    chat.push("x".repeat(101));
    assert!(chat.is_open());
    push_more_than_the_kernel_takes(&chat);
    assert!(!chat.is_open());
    run_to_end(&event_loop);
    assert_eq!(log.lines(), ["connect", "close OutputLimit"]);
}

#[test]
fn pause_reading_stops_records_already_read() {
    let (event_loop, log) = (new_loop(), Log::default());
    let (chat, mut peer) = served(
        &event_loop,
        log.session_with(|chat, record| {
            if record == b"wait" {
                chat.pause_reading();
            }
            Ok(())
        }),
    );
    peer.send("a\r\nwait\r\nb\r\n");
    run_until(&event_loop, || log.has("record wait"));
    peer.send("c\r\n");
    idle(&event_loop);
    assert_eq!(log.lines(), ["connect", "record a", "record wait"]);
    chat.resume_reading();
    run_until(&event_loop, || log.has("record c"));
    assert_eq!(log.lines()[3..], ["record b", "record c"]);
}

#[test]
fn a_terminator_set_while_paused_applies_to_input_already_read() {
    let (event_loop, log) = (new_loop(), Log::default());
    let (chat, mut peer) = served(
        &event_loop,
        log.session_with(|chat, _| {
            chat.pause_reading();
            Ok(())
        }),
    );
    peer.send("a\r\nbc;d;");
    run_until(&event_loop, || log.has("record a"));
    chat.set_terminator(Terminator::bytes(b";"));
    idle(&event_loop);
    chat.resume_reading();
    run_until(&event_loop, || log.has("record bc"));
    chat.resume_reading();
    run_until(&event_loop, || log.has("record d"));
}

#[test]
fn the_end_of_input_waits_until_reading_resumes() {
    let (event_loop, log) = (new_loop(), Log::default());
    let (chat, mut peer) = served(&event_loop, log.session());
    chat.pause_reading();
    peer.send("last words\r\n");
    drop(peer);
    idle(&event_loop);
    assert_eq!(log.lines(), ["connect"]);
    chat.resume_reading();
    run_to_end(&event_loop);
    assert_eq!(
        log.lines(),
        ["connect", "record last words", "eof ", "close Eof"]
    );
}

#[test]
fn a_paused_channel_still_sends_and_closes() {
    let (event_loop, log) = (new_loop(), Log::default());
    let (chat, mut peer) = served(&event_loop, log.session());
    chat.pause_reading();
    chat.push("more ");
    peer.expect(&event_loop, "more ");
    chat.push("and the end");
    chat.close_when_done();
    assert_eq!(peer.receive_all(&event_loop), b"and the end");
    run_to_end(&event_loop);
    assert_eq!(log.lines(), ["connect", "close Local"]);
}

#[test]
fn a_paused_listener_accepts_after_it_resumes() {
    let (event_loop, log) = (new_loop(), Log::default());
    let listener = event_loop.listen("127.0.0.1:0", log.session()).unwrap();
    listener.pause_reading();
    let _peer = Peer::connect(addr_of(&listener));
    idle(&event_loop);
    assert_eq!(log.lines(), [""; 0]);
    listener.resume_reading();
    run_until(&event_loop, || log.has("connect"));
}

#[test]
fn a_listener_paused_by_its_factory_accepts_one_connection_at_a_time() {
    let (event_loop, log) = (new_loop(), Log::default());
    let session = log.session();
    let pausing = std::rc::Rc::new(std::cell::OnceCell::<asynchat::Channel>::new());
    let listener = std::rc::Rc::clone(&pausing);
    let channel = event_loop
        .listen("127.0.0.1:0", move |chat| {
            listener.get().expect("it listens").pause_reading();
            session(chat)
        })
        .unwrap();
    pausing.set(channel.clone()).expect("it is set once");
    let _peers = [(); 3].map(|()| Peer::connect(addr_of(&channel)));
    for n in 1..=3 {
        run_until(&event_loop, || log.count("connect") >= n);
        idle(&event_loop);
        assert_eq!(log.count("connect"), n);
        channel.resume_reading();
    }
}

/// Checks that the loop is idle: no event is reported repeatedly for a channel without interest in
/// it.
#[track_caller]
fn assert_idle(event_loop: &asynchat::EventLoop) {
    idle(event_loop);
    let before = event_loop.stats().events;
    idle(event_loop);
    assert_eq!(event_loop.stats().events, before);
    assert_ne!(event_loop.next_timeout(), Some(Duration::ZERO));
}

#[test]
fn a_paused_channel_does_not_spin_whatever_its_peer_does() {
    let (event_loop, log) = (new_loop(), Log::default());
    let (chat, mut peer) = served(&event_loop, log.session());
    chat.pause_reading();
    assert_idle(&event_loop);
    peer.send("unread");
    assert_idle(&event_loop);
    peer.reset();
    assert_idle(&event_loop);
    chat.resume_reading();
    run_to_end(&event_loop);
    assert_eq!(log.lines(), ["connect", "close Reset"]);
}

#[test]
fn a_back_pressured_channel_does_not_spin_whatever_its_peer_does() {
    let (event_loop, log) = (new_loop(), Log::default());
    let (chat, mut peer) = served(&event_loop, log.session());
    chat.push(vec![b'x'; 8 << 20]);
    run_until_blocked(&event_loop, &chat);
    assert_idle(&event_loop);
    peer.send("unread");
    assert_idle(&event_loop);
    peer.finish();
    assert_idle(&event_loop);
    peer.reset();
    run_to_end(&event_loop);
    assert_eq!(log.count("close Reset"), 1);
}

#[test]
fn a_half_closed_peer_and_a_pending_producer_do_not_spin() {
    let (event_loop, log) = (new_loop(), Log::default());
    let session = log.session();
    let (chat, peer) = served(&event_loop, move |chat| session(chat).staying_open());
    assert_idle(&event_loop);
    peer.finish();
    assert_idle(&event_loop);
    chat.push_with_producer(Never);
    assert_idle(&event_loop);
    chat.close();
    run_to_end(&event_loop);
}

struct Never;

impl asynchat::Producer for Never {
    fn more(&mut self, _: usize) -> std::io::Result<asynchat::More> {
        Ok(asynchat::More::Pending)
    }
}

#[test]
fn an_urgent_byte_does_not_make_the_loop_spin() {
    let (event_loop, log) = (new_loop(), Log::default());
    let (_chat, mut peer) = served(&event_loop, log.session());
    let socket = socket2::SockRef::from(&peer.stream);
    socket.send_out_of_band(b"!").unwrap();
    assert_idle(&event_loop);
    peer.send("in band\r\n");
    // A chat receives the urgent byte at its place in the stream.
    run_until(&event_loop, || log.has("record !in band"));
}

/// Input that was read and waits counts against the high-water mark, so fewer answers fit into the
/// queue. Every command is answered in the end.
#[test]
fn waiting_input_reduces_the_room_for_answers_and_all_of_it_is_answered() {
    const COUNT: usize = 10_000;
    let (event_loop, log) = (new_loop(), Log::default());
    let (answers, most) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
    let (counted, fullest) = (Rc::clone(&answers), Rc::clone(&most));
    let (_chat, mut peer) = served(
        &event_loop,
        log.session_with(move |chat, _| {
            counted.set(counted.get() + 1);
            match counted.get() % 100 {
                0 => chat.push_with_producer(SimpleProducer::new(vec![b'x'; 1000])),
                _ => chat.push_slice(&[b'x'; 1000]),
            }
            fullest.set(fullest.get().max(chat.queued()));
            Ok(())
        }),
    );
    peer.send("c\r\n".repeat(COUNT));
    peer.expect(&event_loop, vec![b'x'; COUNT * 1000]);
    assert_eq!(answers.get(), COUNT);
    assert!(most.get() <= 65 * 1024, "{} queued", most.get());
}

/// The record that lets the producer continue is followed by much other input that waits.
#[test]
fn a_producer_that_waits_for_a_record_does_not_stop_its_delivery() {
    struct WaitsForRecords(Rc<Cell<usize>>);
    impl Producer for WaitsForRecords {
        fn more(&mut self, _: usize) -> io::Result<More> {
            Ok(if self.0.get() < 2 {
                More::Pending
            } else {
                More::Done
            })
        }
    }
    let (event_loop, log) = (new_loop(), Log::default());
    let records = Rc::new(Cell::new(0));
    let counted = Rc::clone(&records);
    let (chat, mut peer) = served(
        &event_loop,
        log.session_with(move |chat, _| {
            counted.set(counted.get() + 1);
            match counted.get() {
                1 => {
                    chat.push_with_producer(WaitsForRecords(Rc::clone(&counted)));
                    chat.push("behind it");
                }
                2 => chat.resume_producing(),
                _ => {}
            }
            Ok(())
        }),
    );
    chat.set_limits(Limits::default().low_water(1024).high_water(4096));
    peer.send("a line\r\n".repeat(6000));
    run_until(&event_loop, || records.get() == 6000);
    run_until(&event_loop, || chat.queued() == 0);
}
