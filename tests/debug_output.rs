//! The `Debug` output of values that have buffers or other people's values: it is short, and shows no content.

mod common;

use std::fmt::Debug;
use std::io::Cursor;

use asynchat::{
    ChunkedProducer, CompositeProducer, Connector, CrlfProducer, Dialogue, DotStuffer,
    HookedProducer, IterProducer, LinesProducer, More, Producer, ReadProducer, Server,
    SimpleProducer, Target, Terminator,
};

const SECRET: &str = "PASS swordfish";

/// Checks that the output contains these words, and no content.
#[track_caller]
fn check(value: &impl Debug, words: &[&str]) {
    for text in [format!("{value:?}"), format!("{value:#?}")] {
        assert!(!text.contains("swordfish"), "{text}");
        // The bytes of the secret as numbers.
        assert!(!text.contains("115, 119"), "{text}");
        assert!(text.len() < 1000, "{} bytes: {text}", text.len());
        for word in words {
            assert!(text.contains(word), "{word}: {text}");
        }
    }
}

/// Checks a producer that has buffered a part of its output, and has more.
#[track_caller]
fn check_begun(mut producer: impl Producer + Debug, name: &str) {
    check(&producer, &[name]);
    let more = producer.more(3).unwrap();
    assert!(matches!(more, More::Chunk(_)), "{more:?}");
    check(&producer, &[name]);
}

fn secrets() -> Vec<&'static str> {
    vec![SECRET; 1000]
}

#[test]
fn a_producer_shows_counts_and_not_its_content() {
    check_begun(SimpleProducer::new(SECRET), "SimpleProducer");
    check_begun(ReadProducer::new(Cursor::new(SECRET)), "ReadProducer");
    check_begun(IterProducer::new(secrets()), "IterProducer");
    check_begun(LinesProducer::new(secrets()), "LinesProducer");
    let fallible = secrets().into_iter().map(Ok);
    check_begun(LinesProducer::fallible(fallible), "LinesProducer");
    check_begun(CrlfProducer::new(SECRET), "CrlfProducer");
    check_begun(DotStuffer::new(SECRET), "DotStuffer");
    check_begun(ChunkedProducer::new(SECRET), "ChunkedProducer");
    check_begun(HookedProducer::new(SECRET, |_| ()), "HookedProducer");
    let mut both = CompositeProducer::default();
    both.push(SECRET);
    both.push(SECRET);
    check_begun(both, "CompositeProducer");
}

#[test]
fn a_reader_or_an_iterator_need_not_have_debug_output() {
    let reader: Box<dyn std::io::Read> = Box::new(Cursor::new(SECRET));
    check(&ReadProducer::new(reader).length(5), &["5"]);
    let lines: Box<dyn Iterator<Item = &str>> = Box::new(secrets().into_iter());
    check(&LinesProducer::new(lines), &["LinesProducer"]);
}

#[test]
fn a_long_chunk_and_a_long_delimiter_are_cut() {
    let long = "x".repeat(100_000);
    check(&More::Chunk(long.clone().into()), &["100000 bytes"]);
    let text = format!("{:?}", More::Chunk("a\r\n".into()));
    assert_eq!(text, r#"Chunk(b"a\r\n")"#);
    let terminator = Terminator::try_bytes(long.as_bytes()).unwrap();
    check(&terminator, &["100000 bytes"]);
}

#[test]
fn a_builder_shows_its_target_and_its_settings() {
    let server = Server::new("127.0.0.1:7007").refusal(SECRET).backlog(77);
    check(&server, &["127.0.0.1:7007", "77"]);
    let connector = Connector::new("127.0.0.1:7007").configure(|_| Ok(()));
    check(&connector, &["127.0.0.1:7007"]);
    let addr: std::net::SocketAddr = ([127, 0, 0, 1], 7007).into();
    check(&Target::from(vec![addr; 5000]), &["127.0.0.1:7007", "5000"]);
    check(&Target::from("x".repeat(100_000)), &["Target"]);
    assert_eq!(format!("{:?}", Target::from("[::1]:7")), "Target([::1]:7)");
}

#[test]
fn a_chat_and_a_dialogue_show_how_much_is_queued() -> asynchat::Result {
    let (near, _far) = common::tcp_pair();
    let chat = Connector::adopt(near).connect(|_| |_: &[u8]| Ok(()))?;
    let mut dialogue: Dialogue<()> = Dialogue::new(&chat);
    dialogue.send_secret(format!("{SECRET}\r\n"), |_, _| Ok(()));
    check(&dialogue, &["Dialogue"]);
    chat.push(SECRET);
    check(&chat, &["queued"]);
    Ok(())
}
