//! What the library tells through `tracing`: which connection, how it opened and closed; and that a
//! peer can neither flood it nor forge a line of it.

mod common;

use std::fmt::Debug;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use asynchat::{Chat, Limits, Server};
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
struct Told {
    level: Level,
    fields: Fields,
    /// Of the span it was told in.
    span: Option<Fields>,
}

/// Keeps all that is told on this thread.
#[derive(Clone, Default)]
struct Keeper(Arc<Mutex<Vec<Told>>>);

impl Keeper {
    /// All events of this message.
    fn all(&self, message: &str) -> Vec<Told> {
        let told = self.0.lock().unwrap();
        let of_it = told
            .iter()
            .filter(|told| told.fields.of("message") == message);
        of_it.cloned().collect()
    }

    #[track_caller]
    fn only(&self, message: &str) -> Told {
        let mut all = self.all(message);
        assert_eq!(all.len(), 1, "{all:?}");
        all.remove(0)
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Keeper {
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
        self.0.lock().unwrap().push(Told {
            level: *event.metadata().level(),
            fields,
            span: span.and_then(|span| span.extensions().get::<Fields>().cloned()),
        });
    }
}

/// Does this while all that is told is kept.
fn told_during(act: impl FnOnce(&Keeper)) {
    let keeper = Keeper::default();
    let subscriber = tracing_subscriber::registry().with(keeper.clone());
    tracing::subscriber::with_default(subscriber, || act(&keeper));
}

#[test]
fn a_connection_tells_who_it_is_how_it_opened_and_how_it_closed() {
    told_during(|keeper| {
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

        let of_it = |told: &Told| {
            let span = told.span.as_ref();
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
            let told: Vec<Told> = keeper.all(message).into_iter().filter(of_it).collect();
            let [told] = &told[..] else {
                panic!("{message}: {told:?}");
            };
            assert_eq!(told.level, Level::DEBUG);
            assert_eq!(told.span.as_ref().unwrap().of("peer"), addr.to_string());
            for (field, value) in fields {
                assert_eq!(told.fields.of(field), *value, "{message}");
            }
        }
    });
}

#[test]
fn what_a_callback_tells_is_told_in_the_span_of_its_connection() {
    told_during(|keeper| {
        let event_loop = new_loop();
        let (chat, mut peer) = served(
            &event_loop,
            Log::default().session_with(|_, _| {
                tracing::info!("told by the session");
                Ok(())
            }),
        );
        peer.send("a\r\n");
        run_until(&event_loop, || {
            !keeper.all("told by the session").is_empty()
        });
        let span = keeper.only("told by the session").span.unwrap();
        assert_eq!(span.of("id"), chat.id().to_string());
    });
}

#[test]
fn what_a_factory_logs_is_in_the_span_of_its_new_connection() {
    told_during(|keeper| {
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
            .listen("127.0.0.1:0", slot.keep(logging(&far)))
            .unwrap();
        let chat = event_loop
            .connect(addr_of(&listener), logging(&near))
            .unwrap();
        run_until(&event_loop, || near.has("connect") && far.has("connect"));
        let ids: Vec<_> = keeper
            .all("logged by a factory")
            .into_iter()
            .map(|told| told.span.unwrap().of("id").to_owned())
            .collect();
        assert_eq!(ids, [chat.id().to_string(), slot.chat().id().to_string()]);
    });
}

/// The suppressed are not lost: the next that is told says how many they were.
#[test]
fn a_flood_of_failures_is_told_ten_times_a_second_and_counted() {
    told_during(|keeper| {
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
        let warnings = || keeper.all("a callback failed");
        let start = Instant::now();
        for _ in 0..1000 {
            fail();
        }
        // As many as that took seconds, begun ones counted, ten in each.
        let seconds = start.elapsed().as_secs() as usize + 1;
        let most = 10 * seconds;
        assert!(
            warnings().len() <= most,
            "{} in {seconds} s",
            warnings().len()
        );
        assert!(warnings().len() >= 10);
        assert!(warnings().iter().all(|told| told.level == Level::WARN));

        let suppressed = |told: &Told| told.fields.of("suppressed").parse::<u64>().unwrap();
        let told_of = || {
            warnings()
                .iter()
                .map(|told| 1 + suppressed(told))
                .sum::<u64>()
        };
        // They go on; one of them is the first of another second.
        while told_of() < failed() {
            assert!(
                start.elapsed() < DEADLINE,
                "nobody says how many were suppressed"
            );
            fail();
        }
        assert_eq!(told_of(), failed());
        assert!(warnings().iter().any(|told| suppressed(told) > 0));
    });
}

#[test]
fn a_flood_of_refused_clients_is_told_ten_times_a_second() {
    told_during(|keeper| {
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
        let told = keeper.all("a connection was refused: too many connections");
        let most = 10 * (start.elapsed().as_secs() as usize + 1);
        assert!((10..=most).contains(&told.len()), "{}", told.len());
        assert_eq!(told[0].fields.of("limit"), "Connections");
    });
}

/// CVE-2009-4487: a peer that can have a line of its own making logged.
#[test]
fn what_a_peer_has_sent_cannot_forge_a_line_or_drive_a_terminal() {
    told_during(|keeper| {
        let event_loop = new_loop();
        let (_, mut peer) = served(
            &event_loop,
            Log::default().session_with(|_, command| {
                let command = String::from_utf8_lossy(command);
                Err(asynchat::Error::new(format!("no such command: {command}")))
            }),
        );
        let forged = "x\r2026 ERROR all is lost\n\u{1b}[2J\u{9b}0m\u{7}\u{202e}";
        peer.send(format!("{forged}\r\n"));
        run_until(&event_loop, || event_loop.stats().closes.handler == 1);

        // Not `panic!`: that would print it, too.
        let (_, mut peer) = served(
            &event_loop,
            Log::default().session_with(|_, command| {
                let command = String::from_utf8_lossy(command).into_owned();
                std::panic::resume_unwind(Box::new(command))
            }),
        );
        peer.send(format!("{forged}\r\n"));
        run_until(&event_loop, || event_loop.stats().closes.panic == 1);

        // The error and the panic, and for each connection why it was closed.
        let told = keeper.0.lock().unwrap();
        let values = told.iter().flat_map(|told| &told.fields.0);
        let of_it: Vec<&String> = values
            .map(|(_, value)| value)
            .filter(|value| value.contains("all is lost"))
            .collect();
        assert!(of_it.len() >= 4, "{of_it:?}");
        let turns = |char| ('\u{202a}'..='\u{202e}').contains(&char);
        for value in of_it {
            let misleads = |char: char| char.is_control() || turns(char);
            assert!(!value.contains(misleads), "{value:?}");
        }
    });
}
