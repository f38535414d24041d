//! The `nntp` example on a simulated network: reading, posting, every segmentation, a barrage, and clients
//! that disconnect at any point.

#[path = "common/nntp_passwords.rs"]
mod passwords;
#[path = "common/scene.rs"]
mod scene;
#[path = "../nntp/server/mod.rs"]
#[allow(
    dead_code,
    reason = "only the sources and the command line of `nntp` use the rest"
)]
mod server;

use std::io;
use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use asynchat::sim::{self, Conditions, Ended, Network, Peer};
use asynchat::{Producer, Result};
use bytes::Bytes;
use passwords::{ann, pending};
use scene::Scene;
use server::article::{Article, Memory, Size, Text};
use server::head::Head;
use server::passwords::Checked;
use server::store::{Job, Store};
use server::{Options, Session, Spool};

const ADDR: &str = "192.0.2.1:119";
const OTHER: &str = "198.51.100.1:40000";
const ARTICLES: usize = 20;

/// A server with some articles, on the simulated network.
struct News(Scene);

impl Deref for News {
    type Target = Scene;
    fn deref(&self) -> &Scene {
        &self.0
    }
}

impl News {
    fn new(seed: u64) -> Result<News> {
        News::with(seed, Options::default())
    }

    fn with(seed: u64, options: Options) -> Result<News> {
        News::serving(seed, options, || Spool::demo(ARTICLES))
    }

    fn serving(
        seed: u64,
        options: Options,
        spool: impl FnOnce() -> Spool + 'static,
    ) -> Result<News> {
        let serve = move || server::serve(ADDR, spool(), options);
        Ok(News(Scene::new(Network::new(seed), serve)?))
    }

    /// A client that has received the greeting.
    fn client(&self) -> Result<Peer> {
        let client = self.network.connect(ADDR)?;
        self.settle()?;
        let greeting = client.take_received();
        assert!(greeting.starts_with(b"200 "), "{}", text(&greeting));
        Ok(client)
    }
}

fn text(output: &[u8]) -> String {
    String::from_utf8_lossy(output).into_owned()
}

/// The first line of a reply.
fn status(answer: &str) -> &str {
    answer.split("\r\n").next().unwrap_or_default()
}

const POST: &str = "POST\r\n\
    From: Ann <ann@example.org>\r\nNewsgroups: misc.test\r\nSubject: dots\r\n\
    Message-ID: <dots@example.org>\r\n\r\n..a line with a dot\r\n...\r\nthe end\r\n.\r\n";

#[test]
fn a_client_reads_articles() -> Result {
    let news = News::new(1)?;
    let client = news.client()?;
    assert_eq!(
        status(&news.ask(&client, "MODE READER\r\n")?).get(..3),
        Some("200")
    );
    let group = news.ask(&client, "GROUP misc.test\r\n")?;
    assert_eq!(group, format!("211 {ARTICLES} 1 {ARTICLES} misc.test\r\n"));
    let article = news.ask(&client, "ARTICLE 3\r\n")?;
    assert!(article.starts_with("220 3 <3@demo.invalid>"), "{article}");
    assert!(article.ends_with("\r\n.\r\n"), "{article}");
    assert!(
        article.contains("Subject: Generated article 3\r\n"),
        "{article}"
    );
    assert!(news.ask(&client, "NEXT\r\n")?.starts_with("223 4 "));
    let overview = news.ask(&client, "OVER 1-5\r\n")?;
    assert_eq!(overview.lines().count(), 7, "{overview}");
    assert!(news.ask(&client, "STAT 21\r\n")?.starts_with("423 "));
    assert!(news.ask(&client, "FROBNICATE\r\n")?.starts_with("500 "));
    assert!(news.ask(&client, "QUIT\r\n")?.starts_with("205 "));
    assert_eq!(client.ended(), Some(Ended::Finished));
    assert_eq!(news.network.elapsed(), Duration::ZERO);
    Ok(())
}

#[test]
fn other_clients_can_read_a_post() -> Result {
    let news = News::new(1)?;
    let (author, reader) = (news.client()?, news.client()?);
    let answer = news.ask(&author, POST)?;
    let replies: Vec<_> = answer.lines().map(|line| &line[..3]).collect();
    assert_eq!(replies, ["340", "240"], "{answer}");
    let body = news.ask(&reader, "BODY <dots@example.org>\r\n")?;
    let lines: Vec<_> = body.split("\r\n").skip(1).collect();
    assert_eq!(lines, ["..a line with a dot", "...", "the end", ".", ""]);
    Ok(())
}

/// A store whose thread panics.
struct Panicking;

impl Store for Panicking {
    fn has_room(&self, _: usize, _: u64) -> bool {
        true
    }

    fn submit(&self, job: Job) {
        let thread = thread::spawn(move || {
            let _job = job;
            panic!("as the test wants it");
        });
        assert!(thread.join().is_err());
    }

    fn file_finished(&self, _: &mut Spool) {}
}

#[test]
fn a_post_is_answered_when_the_thread_of_the_store_panics() -> Result {
    let options = Options {
        store: Some(Box::new(Panicking)),
        ..Options::default()
    };
    let news = News::with(1, options)?;
    let client = news.client()?;
    let answer = news.ask(&client, format!("{POST}QUIT\r\n"))?;
    let replies: Vec<_> = answer.lines().map(|line| &line[..3]).collect();
    assert_eq!(replies, ["340", "441", "205"], "{answer}");
    assert_eq!(client.ended(), Some(Ended::Finished));
    Ok(())
}

#[test]
fn replies_do_not_depend_on_segmentation() -> Result {
    let input = format!("GROUP misc.test\r\nSTAT 2\r\n\r\nHEAD\r\n{POST}STAT 21\r\nQUIT\r\n");
    let mut whole = None;
    sim::every_segmentation(input.as_bytes(), |pieces| {
        let news = News::new(1)?;
        let client = news.client()?;
        let mut answers = String::new();
        for piece in pieces {
            answers += &news.ask(&client, piece)?;
        }
        assert_eq!(client.ended(), Some(Ended::Finished));
        assert_eq!(&answers, whole.get_or_insert(answers.clone()), "{pieces:?}");
        Ok(())
    })?;
    let whole = whole.unwrap_or_default();
    assert!(
        whole.contains("\r\n340 ") && whole.contains("\r\n240 "),
        "{whole}"
    );
    assert!(whole.contains("\r\n223 21 <dots@example.org>"), "{whole}");
    Ok(())
}

#[test]
fn replies_do_not_depend_on_network_conditions() -> Result {
    let input = format!("GROUP misc.test\r\nARTICLE 1\r\n{POST}OVER 1-9\r\nQUIT\r\n");
    let mut perfect = None;
    for seed in 0..40 {
        let news = News::new(seed)?;
        if seed > 0 {
            let bad = Conditions::default().short_reads(0.9).short_writes(0.9);
            let worse = bad
                .would_block(0.3)
                .late_events(0.5)
                .shuffled(true)
                .buffer(700);
            news.network.set_conditions(worse);
        }
        let client = news.client()?;
        let answers = news.ask(&client, &input)?;
        assert_eq!(
            &answers,
            perfect.get_or_insert(answers.clone()),
            "seed {seed}"
        );
    }
    Ok(())
}

#[test]
fn a_barrage_is_answered_in_order_and_does_not_delay_others() -> Result {
    const COMMANDS: usize = 20_000;
    let news = News::new(1)?;
    let (impatient, patient) = (news.client()?, news.client()?);
    // The client sends all its commands before it reads a reply.
    impatient.stop_reading();
    let numbers = || (0..COMMANDS).map(|n| n % ARTICLES + 1);
    let barrage: String = numbers().map(|n| format!("STAT {n}\r\n")).collect();
    let greeted = news.ask(&impatient, "GROUP misc.test\r\n")?;
    assert_eq!(greeted, "", "it does not read");
    impatient.send(barrage);
    news.settle()?;
    assert!(
        impatient.unsent() > 0,
        "the server still reads from a client that does not read"
    );
    let group = news.ask(&patient, "GROUP misc.test\r\n")?;
    assert!(group.starts_with("211 "), "{group}");

    impatient.start_reading(usize::MAX);
    news.settle()?;
    let answers = text(&impatient.take_received());
    let found = answers
        .split("\r\n")
        .filter(|line| line.starts_with("223 "));
    let found: Vec<_> = found.map(|line| line.split(' ').nth(1)).collect();
    let expected: Vec<_> = numbers().map(|n| n.to_string()).collect();
    assert_eq!(
        found,
        expected.iter().map(|n| Some(&**n)).collect::<Vec<_>>()
    );
    assert_eq!(impatient.unsent(), 0);
    Ok(())
}

#[test]
fn disconnected_clients_leave_no_sockets() -> Result {
    let input = format!("GROUP misc.test\r\nARTICLE 1\r\n{POST}QUIT\r\n");
    let news = News::new(1)?;
    for end in 0..input.len() {
        let client = news.client()?;
        client.send(&input[..end]);
        match end % 3 {
            0 => client.reset(),
            1 => client.finish(),
            _ => drop(client),
        }
        news.settle()?;
    }
    // The server's sockets of the half-closed clients linger briefly.
    news.network
        .advance(&news.event_loop, Duration::from_secs(5))?;
    assert_eq!(news.network.sockets(), 1, "the listener");
    assert!(news.ask(&news.client()?, "HELP\r\n")?.starts_with("100 "));
    Ok(())
}

/// Where the kernel may still have much, only a lingering socket has a deadline. Of what `OVER` sends nothing is made when
/// QUIT comes.
#[test]
fn quit_closes_at_once_after_little_output() -> Result {
    for (overviews, lingers) in [(1, false), (100, true)] {
        let news = News::new(1)?;
        let client = news.client()?;
        let before = news.network.sockets();
        let overviews = "OVER 1-20\r\n".repeat(overviews);
        let answer = news.ask(&client, format!("GROUP misc.test\r\n{overviews}QUIT\r\n"))?;
        assert_eq!(answer.len() > 128 << 10, lingers, "{}", answer.len());
        assert!(answer.ends_with("205 goodbye\r\n"));
        assert_eq!(client.ended(), Some(Ended::Finished));
        assert_eq!(news.network.sockets() == before, lingers);
    }
    Ok(())
}

#[test]
fn a_shutdown_sends_400_and_waits_for_an_article() -> Result {
    let news = News::new(1)?;
    let (reader, author) = (news.client()?, news.client()?);
    let (first, rest) = POST.split_at(POST.len() / 2);
    assert!(news.ask(&author, first)?.starts_with("340 "));
    news.event_loop.shutdown(Duration::from_secs(5));
    let farewell = "400 the server shuts down\r\n";
    assert_eq!(news.ask(&reader, "")?, farewell);
    assert_eq!(reader.ended(), Some(Ended::Finished));
    assert_eq!(news.ask(&author, "")?, "");
    let answer = news.ask(&author, format!("{rest}DATE\r\n"))?;
    assert!(answer.starts_with("240 "), "{answer}");
    assert!(answer.ends_with(farewell), "{answer}");
    assert_eq!(answer.lines().count(), 2);
    assert_eq!(author.ended(), Some(Ended::Finished));
    Ok(())
}

#[test]
fn idle_and_slow_clients_are_closed() -> Result {
    let news = News::new(1)?;
    let (silent, slow) = (news.client()?, news.client()?);
    // Single bytes of a command line do not extend its deadline.
    for _ in 0..7 {
        slow.send("H");
        news.network
            .advance(&news.event_loop, Duration::from_secs(9))?;
    }
    assert!(
        slow.has_ended(),
        "a command line in {:?}",
        news.network.elapsed()
    );
    assert!(!silent.has_ended());
    news.network
        .advance(&news.event_loop, Duration::from_secs(600))?;
    assert!(
        silent.has_ended(),
        "silent for {:?}",
        news.network.elapsed()
    );
    Ok(())
}

#[test]
fn clients_that_send_only_bad_commands_are_closed() -> Result {
    let news = News::new(1)?;
    let client = news.client()?;
    // Only bad commands in a row count.
    for _ in 0..3 {
        let answers = news.ask(&client, "FROBNICATE\r\n".repeat(9) + "DATE\r\n")?;
        assert_eq!(answers.matches("\r\n").count(), 10, "{answers}");
        assert!(!answers.contains("400 "), "{answers}");
    }
    let answers = news.ask(&client, "FROBNICATE\r\n".repeat(30))?;
    assert_eq!(answers.matches("500 ").count(), 9, "{answers}");
    assert!(
        answers.ends_with("400 too many bad commands\r\n"),
        "{answers}"
    );
    assert!(client.has_ended());
    Ok(())
}

#[test]
fn an_http_request_closes_the_connection_at_once() -> Result {
    let news = News::new(1)?;
    let client = news.client()?;
    let request = "POST / HTTP/1.1\r\nHost: news.example.org\r\n\r\nGROUP misc.test\r\n";
    let answer = news.ask(&client, request)?;
    assert!(answer.starts_with("400 "), "{answer}");
    assert_eq!(answer.matches("\r\n").count(), 1, "{answer}");
    assert!(client.has_ended());
    Ok(())
}

/// A server with a user ann, whose password is "secret".
fn with_a_password() -> Result<News> {
    let options = Options {
        check_password: Some(ann()),
        insecure_auth: true,
        ..Options::default()
    };
    News::with(1, options)
}

fn guess(word: &str) -> String {
    format!("AUTHINFO USER ann\r\nAUTHINFO PASS {word}\r\n")
}

#[test]
fn failed_logins_are_delayed_and_then_close_the_connection() -> Result {
    let news = with_a_password()?;
    let client = news.client()?;
    let second = |news: &News| {
        news.network
            .advance(&news.event_loop, Duration::from_secs(1))
    };
    let mut answers = vec![news.ask(&client, ["a", "b", "c", "secret"].map(guess).concat())?];
    for _ in 0..7 {
        // Another client is not delayed.
        assert!(news.ask(&news.client()?, "DATE\r\n")?.starts_with("111 "));
        second(&news)?;
        answers.push(text(&client.take_received()));
    }
    let failed = "481 authentication failed\r\n381 password required\r\n";
    let end = "400 too many failed log-ins\r\n";
    assert_eq!(answers[..2], ["381 password required\r\n", failed]);
    assert_eq!(
        answers[2..],
        ["", failed, "", "", "", end],
        "after 3 and after 7 seconds"
    );
    assert!(client.has_ended());

    let other = news.client()?;
    assert!(news.ask(&other, guess("secret"))?.contains("281 "));
    Ok(())
}

/// A check on a thread takes a while. The commands behind it wait.
#[test]
fn commands_wait_while_a_password_is_checked() -> Result {
    let (check, checking) = pending();
    let options = Options {
        check_password: Some(check),
        insecure_auth: true,
        ..Options::default()
    };
    let news = News::with(1, options)?;
    let end = |checked| {
        let chat = checking.take().ok_or("no check")?;
        let ended = chat.post(move |session: &mut Session| {
            session.password_checked(checked);
            Ok(())
        });
        news.settle()?;
        // Fails if the session has ended.
        Ok::<_, asynchat::BoxError>(ended.is_ok())
    };
    let codes = |client: &Peer| {
        let answer = text(&client.take_received());
        let codes = answer.lines().map(|line| line[..3].to_owned());
        codes.collect::<Vec<_>>()
    };
    let second = Duration::from_secs(1);
    let named = "381 password required\r\n";
    for (checked, replies) in [
        (Checked::Right, ["281", "211"]),
        (Checked::Busy, ["403", "480"]),
        (Checked::Wrong(Duration::from_secs(1)), ["481", "480"]),
    ] {
        let client = news.client()?;
        let answer = news.ask(&client, guess("secret") + "GROUP misc.test\r\n")?;
        assert!(
            answer.ends_with(named) && !answer.contains("211 "),
            "{answer}"
        );
        assert!(end(checked)?);
        if matches!(checked, Checked::Wrong(_)) {
            assert!(codes(&client).is_empty());
            news.network.advance(&news.event_loop, second)?;
        }
        assert_eq!(codes(&client), replies);
    }
    // The client has sent all that it will send.
    for (checked, reply) in [
        (Checked::Right, "281"),
        (Checked::Busy, "403"),
        (Checked::Wrong(Duration::from_secs(1)), "481"),
    ] {
        let client = news.client()?;
        news.ask(&client, guess("secret") + "QUIT\r\n")?;
        client.finish();
        news.settle()?;
        assert!(end(checked)?);
        news.network.advance(&news.event_loop, 2 * second)?;
        assert_eq!(codes(&client), [reply, "205"]);
        assert_eq!(client.ended(), Some(Ended::Finished));
    }
    // The check takes too long, and its outcome is for nobody.
    let client = news.client()?;
    news.ask(&client, guess("secret") + "GROUP misc.test\r\n")?;
    news.network.advance(&news.event_loop, 29 * second)?;
    assert_eq!(client.ended(), None);
    news.network.advance(&news.event_loop, second)?;
    assert_eq!(
        text(&client.take_received()),
        "400 the password was not checked in time\r\n"
    );
    assert!(!end(Checked::Right)?);
    assert_eq!(client.ended(), Some(Ended::Finished));
    // An ended check leaves no timer behind.
    let client = news.client()?;
    news.ask(&client, guess("secret"))?;
    assert!(end(Checked::Right)?);
    news.network.advance(&news.event_loop, 60 * second)?;
    assert_eq!(codes(&client), ["281"]);
    assert_eq!(client.ended(), None);
    // The client leaves, or the server shuts down.
    let client = news.client()?;
    news.ask(&client, guess("secret"))?;
    client.reset();
    news.settle()?;
    assert!(!end(Checked::Right)?);
    let client = news.client()?;
    news.ask(&client, guess("secret"))?;
    client.stop_reading();
    news.event_loop.shutdown(Duration::from_secs(5));
    news.settle()?;
    end(Checked::Right)?;
    client.start_reading(usize::MAX);
    news.settle()?;
    assert_eq!(
        text(&client.take_received()),
        "400 the server shuts down\r\n"
    );
    Ok(())
}

#[test]
fn a_shutdown_does_not_wait_for_a_delayed_reply() -> Result {
    let news = with_a_password()?;
    let client = news.client()?;
    let answer = news.ask(&client, guess("wrong"))?;
    assert_eq!(answer, "381 password required\r\n");
    news.event_loop.shutdown(Duration::from_secs(5));
    let answer = news.ask(&client, "DATE\r\n")?;
    assert_eq!(answer, "400 the server shuts down\r\n");
    assert_eq!(client.ended(), Some(Ended::Finished));
    assert_eq!(news.network.elapsed(), Duration::ZERO);
    Ok(())
}

#[test]
fn failed_logins_are_limited_for_each_address() -> Result {
    let news = with_a_password()?;
    let advance = |seconds| {
        news.network
            .advance(&news.event_loop, Duration::from_secs(seconds))
    };
    let crowd: Vec<_> = (0..50).map(|_| news.client()).collect::<Result<_>>()?;
    for (n, client) in crowd.iter().enumerate() {
        client.send(guess(if n < 10 { "wrong" } else { "secret" }));
        news.settle()?;
    }
    advance(16)?;
    for client in &crowd {
        let answer = text(&client.take_received());
        assert!(
            answer.ends_with("\r\n481 authentication failed\r\n"),
            "{answer}"
        );
    }
    let elsewhere = news
        .network
        .connect_from(OTHER.parse::<SocketAddr>()?, ADDR)?;
    let answer = news.ask(&elsewhere, guess("secret"))?;
    assert!(answer.contains("281 "), "{answer}");
    // One failure is forgotten 30 seconds after the first.
    advance(14)?;
    assert!(news.ask(&crowd[0], guess("secret"))?.contains("281 "));
    Ok(())
}

/// A post whose body has so many lines of 64 octets.
fn post(n: usize, lines: usize) -> String {
    let line = "All work and no play makes Jack a dull boy, again and again...\r\n";
    let body = line.repeat(lines);
    format!(
        "POST\r\nFrom: Jack <jack@example.org>\r\nNewsgroups: misc.test\r\nSubject: {n}\r\n\
         Message-ID: <{n}@example.org>\r\n\r\n{body}.\r\n"
    )
}

#[test]
fn posts_above_the_memory_limit_are_refused_and_reading_still_works() -> Result {
    // The articles of `demo` are as large, but they do not count because they were not posted.
    let options = Options {
        max_spool: 40 * 1024,
        ..Options::default()
    };
    let news = News::with(1, options)?;
    let client = news.client()?;
    let mut answers = vec![];
    for n in 0..10 {
        // Each post has slightly more than ten kibibytes.
        let answer = news.ask(&client, post(n, 160))?;
        assert!(answer.starts_with("340 "), "{answer}");
        answers.push(answer.lines().nth(1).unwrap_or_default().to_owned());
    }
    let (stored, refused) = answers.split_at(3);
    assert_eq!(stored, ["240 article received"; 3]);
    assert_eq!(refused, ["441 no room for more posts"; 7]);
    // The rest of the memory is enough for a short post.
    let answer = news.ask(&client, post(10, 1))?;
    assert!(answer.ends_with("\r\n240 article received\r\n"), "{answer}");

    let reader = news.client()?;
    for n in 0..=10 {
        let answer = news.ask(&reader, format!("STAT <{n}@example.org>\r\n"))?;
        let there = n < 3 || n == 10;
        assert_eq!(answer.starts_with("223 "), there, "{n}: {answer}");
    }
    let answer = news.ask(&reader, "GROUP misc.test\r\nARTICLE 3\r\n")?;
    assert!(answer.contains("Subject: Generated article 3"), "{answer}");
    Ok(())
}

#[test]
fn a_full_spool_is_reported_before_the_article_is_sent() -> Result {
    let news = News::with(
        1,
        Options {
            max_spool: 1,
            ..Options::default()
        },
    )?;
    let client = news.client()?;
    let answer = news.ask(&client, "POST\r\n")?;
    assert_eq!(answer, "440 no room for more posts\r\n");
    let answer = news.ask(&client, "IHAVE <1@example.org>\r\n")?;
    assert_eq!(answer, "436 no room for more articles\r\n");
    let answer = news.ask(&client, "GROUP misc.test\r\nARTICLE 3\r\n")?;
    assert!(answer.contains("Subject: Generated article 3"), "{answer}");
    Ok(())
}

/// A well-formed header, followed by `more`.
fn article(id: &str, more: &str) -> String {
    format!(
        "From: Eve <eve@example.org>\r\nNewsgroups: misc.test\r\nSubject: hi\r\n\
         Message-ID: {id}\r\nDate: Sat, 21 Nov 2026 10:00:00 +0000\r\nPath: x!not-for-mail\r\n{more}"
    )
}

/// RFC 3977, section 3.1.1: CR and LF occur only as CRLF, and NUL does not occur. A client that ends lines at
/// a bare LF would take the text after it for the next line of the header, the reply or the list.
#[test]
fn a_post_with_bare_cr_bare_lf_or_nul_is_refused() -> Result {
    let news = News::new(1)?;
    let client = news.client()?;
    let forged = "second\n.\n220 3 <forged@x>\nFrom: Mallory <mallory@example.org>\n\nboo";
    let mut serial = 0;
    for stray in ["\n", "\r", "\0", "\r\r\n", "\n\r", forged] {
        for whole in [
            format!("\r\nbody {stray}text\r\n"),
            format!("X-Last: {stray}text\r\n\r\nbody\r\n"),
            format!("X-Last: x\r\n\r\nbody{stray}\r\n"),
            format!("X-Last: x{stray}Approved: mod@x\r\n\r\nbody\r\n"),
        ] {
            serial += 1;
            let id = format!("<{serial}@example.org>");
            let text = article(&id, &whole);
            let answer = news.ask(&client, format!("POST\r\n{text}.\r\n"))?;
            assert!(answer.contains("\r\n441 "), "{whole:?}: {answer}");
            let answer = news.ask(&client, format!("IHAVE {id}\r\n{text}.\r\n"))?;
            assert!(answer.contains("\r\n437 "), "{whole:?}: {answer}");
            // The session is in sync, and the article was not stored.
            let answer = news.ask(&client, format!("STAT {id}\r\n"))?;
            assert!(answer.starts_with("430 "), "{whole:?}: {answer}");
        }
    }
    Ok(())
}

#[test]
fn refusals_do_not_depend_on_segmentation() -> Result {
    for (stray, name) in [("a\nb", "LF"), ("\r", "CR")] {
        let text = format!("POST\r\nA: b\r\n\r\n{stray}\r\n.\r\nDATE\r\n");
        sim::every_segmentation(text.as_bytes(), |pieces| {
            let news = News::new(1)?;
            let client = news.client()?;
            let mut answers = String::new();
            for piece in pieces {
                answers += &news.ask(&client, piece)?;
            }
            let lines: Vec<_> = answers.lines().collect();
            assert!(
                lines[1].starts_with("441 ") && lines[1].ends_with(name),
                "{lines:?}"
            );
            assert!(lines[2].starts_with("111 "), "{lines:?}");
            Ok(())
        })?;
    }
    Ok(())
}

/// RFC 5536, sections 2.2, 3.1.3 and 3.1.4, and the fields that may occur only once.
#[test]
fn a_header_that_violates_rfc_5536_is_refused() -> Result {
    let news = News::new(1)?;
    let client = news.client()?;
    let long = format!("X-Long: {}\r\n", "x".repeat(991));
    let mut bad: Vec<String> = [
        "From: other@example.org\r\n",
        "subject: other\r\n",
        "DATE: Sat, 21 Nov 2026 10:00:01 +0000\r\n",
        "Message-Id: <other@example.org>\r\n",
        "Newsgroups: misc.test\r\n",
        "Path: y!not-for-mail\r\n",
        "References: <a@b>\r\nReferences: <c@d>\r\n",
        "Followup-To: poster\r\nFollowup-To: poster\r\n",
        "Reply-To: a@b.example\r\nReply-to: c@d.example\r\n",
        "Organization: a\r\nOrganization: b\r\n",
        "Content-Type: text/plain\r\nContent-Type: text/html\r\n",
        "X-Blank: a\r\n \t\r\n",
        "X-Blank:\r\n a\r\n",
        "no field\r\n",
        &long,
    ]
    .map(|more| article("<bad@example.org>", more))
    .into();
    let good = article("<bad@example.org>", "");
    let overlong = format!("<{}@example.org>", "a".repeat(240));
    for id in [
        "<a>",
        "<a@>",
        "<@b>",
        "<a..b@c>",
        "<a@b.>",
        "<a@b@c>",
        "<a@b>c>",
        "<a b@c>",
        "<a@[b]c>",
        "a@b",
        "<a@b> x",
        "<\u{e9}@b>",
        "<\"a\"@b>",
        &overlong,
    ] {
        bad.push(good.replace("<bad@example.org>", id));
    }
    for groups in [
        "misc.test,",
        ",misc.test",
        "misc..test,misc.test",
        "misc.test misc.test",
        "misc.test,a b",
    ] {
        bad.push(good.replace("misc.test", groups));
    }
    bad.push(good.replace("x!not", "x!.POSTED!not"));
    for text in bad {
        let answer = news.ask(&client, format!("POST\r\n{text}\r\nbody\r\n.\r\n"))?;
        assert!(answer.contains("\r\n441 "), "{text}: {answer}");
    }
    let more = format!("{}X-Folded: a\r\n\tb\r\n", &long.replacen('x', "", 1));
    let text = article("<a!#$%&'*+-/=?^_`{|}~.b@[192.0.2.1]>", &more);
    let answer = news.ask(&client, format!("POST\r\n{text}\r\nbody\r\n.\r\n"))?;
    assert!(answer.ends_with("\r\n240 article received\r\n"), "{answer}");
    Ok(())
}

/// RFC 5537, section 3.5: only the injecting server sets these fields. In an article from a peer they remain.
#[test]
fn a_posters_trace_fields_are_dropped() -> Result {
    let news = News::new(1)?;
    let client = news.client()?;
    let trace = "Injection-Info: bank.example; posting-host=\"ceo\"\r\n\tx\r\nNNTP-Posting-Host: ceo\r\n\
         NNTP-Posting-Date: never\r\nX-Trace: t\r\nX-Complaints-To: c\r\nXref: bank.example misc.test:7\r\n";
    let text = article("<1@x>", trace);
    let answer = news.ask(&client, format!("POST\r\n{text}\r\nbody\r\n.\r\n"))?;
    assert!(answer.ends_with("\r\n240 article received\r\n"), "{answer}");
    let head = news.ask(&client, "HEAD <1@x>\r\n")?;
    for absent in ["bank.example", "ceo", "never", "X-Trace", "X-Complaints-To"] {
        assert!(!head.contains(absent), "{head}");
    }
    let text = article("<2@x>", trace);
    let answer = news.ask(&client, format!("IHAVE <2@x>\r\n{text}\r\nbody\r\n.\r\n"))?;
    assert!(answer.ends_with("\r\n235 article received\r\n"), "{answer}");
    let head = news.ask(&client, "HEAD <2@x>\r\n")?;
    assert!(
        head.contains("posting-host=\"ceo\"") && head.contains("X-Trace: t"),
        "{head}"
    );
    assert!(!head.contains("misc.test:7"), "{head}");
    Ok(())
}

#[test]
fn over_hdr_and_head_agree() -> Result {
    let news = News::new(1)?;
    let client = news.client()?;
    let text = article(
        "<1@x>",
        "References: <a@b>\r\n <c@d>\r\nXref: x y:1\r\nXref-Not: z\r\n",
    );
    news.ask(&client, format!("POST\r\n{text}\r\nbody\r\n.\r\n"))?;
    news.ask(&client, "GROUP misc.test\r\n")?;
    for number in [3, ARTICLES + 1] {
        let article = news.ask(&client, format!("ARTICLE {number}\r\n"))?;
        let article = article.split_once("\r\n").map_or("", |(_, rest)| rest);
        let article = article.strip_suffix(".\r\n").unwrap_or_default();
        let head = article.split_once("\r\n\r\n").map_or("", |(head, _)| head);
        let unfolded = head.replace("\r\n ", " ");
        let over = news.ask(&client, format!("OVER {number}\r\n"))?;
        let row: Vec<&str> = over
            .lines()
            .nth(1)
            .unwrap_or_default()
            .split('\t')
            .collect();
        assert_eq!(row[6], article.len().to_string(), "octets");
        let fields = [
            ("Subject", row[1]),
            ("From", row[2]),
            ("Date", row[3]),
            ("Message-ID", row[4]),
            ("References", row[5]),
            ("Xref", row[8].strip_prefix("Xref: ").unwrap_or_default()),
        ];
        for (name, value) in fields {
            let prefix = format!("{name}: ");
            let mut lines = unfolded
                .lines()
                .filter_map(|line| line.strip_prefix(&prefix));
            assert_eq!(lines.next().unwrap_or_default(), value, "{name} in {head}");
            assert_eq!(lines.next(), None, "{name} in {head}");
            let hdr = news.ask(&client, format!("HDR {name} {number}\r\n"))?;
            assert_eq!(hdr.lines().nth(1), Some(&*format!("{number} {value}")));
        }
        assert!(
            fields[5].1.ends_with(&format!(" misc.test:{number}")),
            "{over}"
        );
    }
    Ok(())
}

/// A text that counts how often it is read.
struct Read(Arc<AtomicUsize>);

impl Text for Read {
    fn head(&self) -> io::Result<Head> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(Head::repair(HEAD))
    }

    fn body(&self) -> io::Result<Box<dyn Producer>> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(Box::new(Bytes::from_static(BODY)))
    }
}

/// Larger than the buffers of the network and the high-water mark together.
const BODY: &[u8] = &[b'x'; 1 << 20];

const HEAD: &[u8] = b"Message-ID: <read@x>\r\nSubject: s\r\n";

#[test]
fn a_text_is_opened_when_its_reply_is_sent_not_when_it_is_requested() -> Result {
    let reads = Arc::new(AtomicUsize::new(0));
    let text = Read(Arc::clone(&reads));
    let news = News::serving(1, Options::default(), || {
        let mut spool = Spool::demo(ARTICLES);
        let group = spool.add_group("files", "", 0, false);
        spool.append(
            &group,
            Article::new(&Head::repair(HEAD), Size::default(), 0, text),
        );
        spool
    })?;
    let client = news.client()?;
    client.stop_reading();
    client.send("GROUP files\r\n".to_owned() + &"ARTICLE 1\r\n".repeat(10));
    news.settle()?;
    let open = reads.load(Ordering::Relaxed);
    assert_eq!(open, 2, "the head and the body of the first");
    client.start_reading(usize::MAX);
    news.settle()?;
    assert_eq!(text_count(&client, "\r\n220 1 <read@x>\r\n"), 10);
    assert_eq!(reads.load(Ordering::Relaxed), 20);
    Ok(())
}

fn text_count(client: &Peer, what: &str) -> usize {
    text(&client.take_received()).matches(what).count()
}

#[test]
fn newnews_lists_an_article_in_two_groups_once() -> Result {
    let news = News::serving(1, Options::default(), || {
        let mut spool = Spool::demo(ARTICLES);
        let groups = ["a", "b", "c"].map(|name| spool.add_group(name, "", 0, false));
        let article = |n: i64| {
            let head = Head::repair(format!("Message-ID: <{n}@x>\r\n").as_bytes());
            Memory::new(head, "text\r\n").article(n * 100)
        };
        for (n, members) in (1..).zip([&[0, 1][..], &[1], &[1, 2], &[0, 2], &[2]]) {
            for &member in members {
                spool.append(&groups[member], article(n));
            }
        }
        spool
    })?;
    let client = news.client()?;
    // 3 minutes and 20 seconds after the beginning of 1970 are 200 seconds of Unix time.
    let since = |wildmat| format!("NEWNEWS {wildmat} 19700101 000320 GMT\r\n");
    for (wildmat, ids) in [
        ("a,b,c", &[4, 2, 3, 5][..]),
        ("b,c", &[2, 3, 4, 5]),
        ("*,!misc.*,!b", &[4, 3, 5]),
        ("d", &[]),
    ] {
        let lines: String = ids.iter().map(|n| format!("<{n}@x>\r\n")).collect();
        let expected = format!("230 list of new articles follows\r\n{lines}.\r\n");
        assert_eq!(news.ask(&client, since(wildmat))?, expected, "{wildmat}");
    }
    Ok(())
}
