//! What the library logs through `tracing`: connections with their beginning and end. A peer can
//! neither flood the log nor forge a line of it.

mod common;

use std::fmt::Debug;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use asynchat::{Chat, Limits, Result, Server, Terminator};
use common::subscribing::with_subscriber;
use common::{DEADLINE, Log, Peer, addr_of, new_loop, run_to_end, run_until, served};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

/// The fields of a span or an event, as text.
#[derive(Clone, Debug, Default)]
struct Fields(Vec<(&'static str, String)>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.push((field.name(), format!("{value:?}")));
    }
}

impl Fields {
    fn of(&self, name: &str) -> &str {
        let mut fields = self.0.iter();
        let field = fields.find(|(field, _)| *field == name);
        field.map_or("", |(_, value)| value)
    }
}

#[derive(Clone, Debug)]
struct Logged {
    level: Level,
    fields: Fields,
    /// The fields of the span around the event.
    span: Option<Fields>,
}

/// Stores all events of this thread.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<Logged>>>);

impl Collector {
    /// All events with this message.
    fn all(&self, message: &str) -> Vec<Logged> {
        let logged = self.0.lock().unwrap();
        let of_it = logged
            .iter()
            .filter(|logged| logged.fields.of("message") == message);
        of_it.cloned().collect()
    }

    #[track_caller]
    fn only(&self, message: &str) -> Logged {
        let mut all = self.all(message);
        assert_eq!(all.len(), 1, "{all:?}");
        all.remove(0)
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Collector {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        let span = context.span(id).expect("it is new");
        span.extensions_mut().insert(fields);
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let span = context.event_span(event);
        self.0.lock().unwrap().push(Logged {
            level: *event.metadata().level(),
            fields,
            span: span.and_then(|span| span.extensions().get::<Fields>().cloned()),
        });
    }
}

/// Collects the events while `act` runs.
fn collect(act: impl FnOnce(&Collector)) {
    let collector = Collector::default();
    let subscriber = tracing_subscriber::registry().with(collector.clone());
    with_subscriber(subscriber, || act(&collector));
}

#[test]
fn a_connection_logs_its_peer_its_beginning_and_its_end() {
    collect(|collector| {
        let (event_loop, log) = (new_loop(), Log::default());
        let (chat, mut peer) = served(
            &event_loop,
            log.session_with(|chat, _| {
                chat.push("an answer");
                Ok(())
            }),
        );
        peer.send("a\r\nb\r\n");
        peer.expect(&event_loop, "an answeran answer");
        let addr = peer.stream.local_addr().unwrap();
        drop(peer);
        run_to_end(&event_loop);

        let of_it = |logged: &Logged| {
            let span = logged.span.as_ref();
            span.is_some_and(|span| span.of("id") == chat.id().to_string())
        };
        for (message, fields) in [
            ("opened", &[("phase", "Open")][..]),
            (
                "closed",
                &[
                    ("why", "the peer closed the connection"),
                    ("bytes_in", "6"),
                    ("bytes_out", "18"),
                    ("records_in", "2"),
                ],
            ),
        ] {
            let logged: Vec<Logged> = collector.all(message).into_iter().filter(of_it).collect();
            let [logged] = &logged[..] else {
                panic!("{message}: {logged:?}");
            };
            assert_eq!(logged.level, Level::DEBUG);
            assert_eq!(logged.span.as_ref().unwrap().of("peer"), addr.to_string());
            for (field, value) in fields {
                assert_eq!(logged.fields.of(field), *value, "{message}");
            }
        }
    });
}

#[test]
fn an_event_in_a_callback_is_in_the_span_of_its_connection() {
    collect(|collector| {
        let event_loop = new_loop();
        let (chat, mut peer) = served(
            &event_loop,
            Log::default().session_with(|_, _| {
                tracing::info!("logged by the session");
                Ok(())
            }),
        );
        peer.send("a\r\n");
        run_until(&event_loop, || {
            !collector.all("logged by the session").is_empty()
        });
        let span = collector.only("logged by the session").span.unwrap();
        assert_eq!(span.of("id"), chat.id().to_string());
    });
}

#[test]
fn a_factory_that_fails_is_logged_with_the_id_and_the_peer_of_its_connection() {
    collect(|collector| {
        let event_loop = new_loop();
        let listener = event_loop
            .listen("127.0.0.1:0", |_| -> Result<fn(&[u8]) -> Result> {
                Err("no database\r\nforged: a line".into())
            })
            .unwrap();
        let mut peer = Peer::connect(addr_of(&listener));
        let _ = peer.wait_for_end(&event_loop);
        let logged = collector.only("a factory failed");
        assert_eq!(logged.level, Level::WARN);
        let addr = peer.stream.local_addr().unwrap().to_string();
        assert_eq!(logged.fields.of("peer").trim_matches('"'), addr);
        assert_eq!(logged.span.unwrap().of("id"), logged.fields.of("id"));
        let error = logged.fields.of("error");
        assert_eq!(error, r"no database\r\nforged: a line");
    });
}

#[test]
fn the_panic_of_a_callback_is_logged_in_the_span_of_its_connection() {
    collect(|collector| {
        let event_loop = new_loop();
        let panics = Log::default().session_with(|_, _| panic!("on purpose"));
        let (chat, mut peer) = served(&event_loop, panics);
        peer.send("a\r\n");
        run_until(&event_loop, || !chat.is_open());
        let span = collector.only("a callback panicked").span.unwrap();
        assert_eq!(span.of("id"), chat.id().to_string());
    });
}

#[test]
fn an_event_in_a_factory_is_in_the_span_of_its_connection() {
    collect(|collector| {
        let (event_loop, slot) = (new_loop(), common::Slot::default());
        let logging = |session: &Log| {
            let session = session.session();
            move |chat: Chat| {
                tracing::info!("logged by a factory");
                session(chat)
            }
        };
        let (near, far) = (Log::default(), Log::default());
        let listener = event_loop
            .listen("127.0.0.1:0", slot.capture(logging(&far)))
            .unwrap();
        let chat = event_loop
            .connect(addr_of(&listener), logging(&near))
            .unwrap();
        run_until(&event_loop, || near.has("connect") && far.has("connect"));
        let ids: Vec<_> = collector
            .all("logged by a factory")
            .into_iter()
            .map(|logged| logged.span.unwrap().of("id").to_owned())
            .collect();
        assert_eq!(ids, [chat.id().to_string(), slot.chat().id().to_string()]);
    });
}

/// Suppressed events are counted: the next event has their number.
#[test]
fn failures_are_logged_ten_times_a_second_and_the_rest_is_counted() {
    collect(|collector| {
        let event_loop = new_loop();
        let listener = event_loop
            .listen("127.0.0.1:0", |_: Chat| |_: &[u8]| Err(common::failure()))
            .unwrap();
        let failed = || event_loop.stats().closes.handler;
        let fail = || {
            let before = failed();
            Peer::connect(addr_of(&listener)).send("fail\r\n");
            run_until(&event_loop, || failed() > before);
        };
        let warnings = || collector.all("a callback failed");
        let start = Instant::now();
        for _ in 0..1000 {
            fail();
        }
        // Ten for each second of the test, including the last one that has begun.
        let seconds = start.elapsed().as_secs() as usize + 1;
        let most = 10 * seconds;
        assert!(
            warnings().len() <= most,
            "{} in {seconds} s",
            warnings().len()
        );
        assert!(warnings().len() >= 10);
        assert!(warnings().iter().all(|logged| logged.level == Level::WARN));

        let suppressed = |logged: &Logged| logged.fields.of("suppressed").parse::<u64>().unwrap();
        let reported = || {
            warnings()
                .iter()
                .map(|logged| 1 + suppressed(logged))
                .sum::<u64>()
        };
        // More failures follow. One of them is the first in another second.
        let start = Instant::now();
        while reported() < failed() {
            assert!(
                start.elapsed() < DEADLINE,
                "no event has the number of suppressed ones"
            );
            fail();
        }
        assert_eq!(reported(), failed());
        assert!(warnings().iter().any(|logged| suppressed(logged) > 0));
    });
}

#[test]
fn a_count_above_its_limit_is_logged_with_the_limit() {
    collect(|collector| {
        let (event_loop, log) = (new_loop(), Log::default());
        let session = log.session();
        let (chat, mut peer) = served(&event_loop, move |chat| session(chat).skipping());
        chat.set_terminator(Terminator::count(9000));
        run_until(&event_loop, || log.has("overflow"));
        let logged = collector.only(
            "a record of 9000 bytes exceeds Limits::record (8192 bytes): Terminator::limit raises it, \
             Terminator::streamed needs none",
        );
        assert_eq!(logged.level, Level::WARN);
        // A long line is the peer's fault, and is not logged.
        chat.set_terminator(Terminator::crlf());
        peer.send("x".repeat(9000) + &"y".repeat(9000));
        run_until(&event_loop, || log.count("overflow") == 2);
        let logged = collector.0.lock().unwrap();
        let warnings = logged.iter().filter(|logged| logged.level == Level::WARN);
        assert_eq!(warnings.count(), 1);
    });
}

#[test]
fn refused_clients_are_logged_ten_times_a_second() {
    collect(|collector| {
        let event_loop = new_loop();
        let listener = Server::new("127.0.0.1:0")
            .limits(Limits::default().connections(0))
            .listen_on(&event_loop, Log::default().session())
            .unwrap();
        let start = Instant::now();
        for n in 1..=200 {
            drop(Peer::connect(addr_of(&listener)));
            run_until(&event_loop, || event_loop.stats().refused == n);
        }
        let logged = collector.all("a connection was refused: too many connections");
        let most = 10 * (start.elapsed().as_secs() as usize + 1);
        assert!((10..=most).contains(&logged.len()), "{}", logged.len());
        assert_eq!(logged[0].fields.of("limit"), "Connections");
        // The span is that of the listener, which is one of several.
        let span = logged[0].span.as_ref().unwrap();
        assert_eq!(span.of("local"), addr_of(&listener).to_string());
    });
}

/// CVE-2009-4487: the text of a peer is logged.
#[test]
fn input_in_the_log_cannot_forge_a_line_or_control_a_terminal() {
    collect(|collector| {
        let event_loop = new_loop();
        let (_, mut peer) = served(
            &event_loop,
            Log::default().session_with(|_, command| {
                let command = String::from_utf8_lossy(command);
                Err(asynchat::Error::new(format!("no such command: {command}")).into())
            }),
        );
        let forged = "x\r2026 ERROR all is lost\n\u{1b}[2J\u{9b}0m\u{7}\u{202e}";
        peer.send(format!("{forged}\r\n"));
        run_until(&event_loop, || event_loop.stats().closes.handler == 1);

        // Not `panic!`, which would print the message.
        let (_, mut peer) = served(
            &event_loop,
            Log::default().session_with(|_, command| {
                let command = String::from_utf8_lossy(command).into_owned();
                std::panic::resume_unwind(Box::new(command))
            }),
        );
        peer.send(format!("{forged}\r\n"));
        run_until(&event_loop, || event_loop.stats().closes.panic == 1);

        // The error, the panic, and the reason of each close.
        let logged = collector.0.lock().unwrap();
        let values = logged.iter().flat_map(|logged| &logged.fields.0);
        let of_it: Vec<&String> = values
            .map(|(_, value)| value)
            .filter(|value| value.contains("all is lost"))
            .collect();
        assert!(of_it.len() >= 4, "{of_it:?}");
        let is_bidi_control = |char| ('\u{202a}'..='\u{202e}').contains(&char);
        for value in of_it {
            let misleads = |char: char| char.is_control() || is_bidi_control(char);
            assert!(!value.contains(misleads), "{value:?}");
        }
    });
}
