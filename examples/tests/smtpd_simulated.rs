//! The `smtpd` example on a simulated network, with a real maildir: messages, every segmentation, SMTP
//! smuggling, limits, a failing disk, and clients that disconnect at any point.

#[path = "common/scene.rs"]
mod scene;
#[path = "../smtpd/smtp/mod.rs"]
#[allow(dead_code, reason = "only the command line of `smtpd` uses the rest")]
mod smtp;

use std::cell::RefCell;
use std::fs;
use std::net::SocketAddr;
use std::ops::Deref;
use std::path::Path;
use std::rc::Rc;
use std::sync::mpsc;
use std::time::{Duration, UNIX_EPOCH};

use asynchat::sim::{self, Ended, Network, Peer, Script};
use asynchat::{Chat, Result};
use scene::Scene;
use smtp::workers::Workers;
use smtp::{Options, Service, Session};
use tempfile::TempDir;

const ADDR: &str = "192.0.2.1:25";

/// What a client sends before its first message, in one piece.
const HELLO: &str = "EHLO client.example\r\n";
const ENVELOPE: &str = "MAIL FROM:<bob@example.org>\r\nRCPT TO:<ann@localhost>\r\nDATA\r\n";

/// Without worker threads and fsync, because virtual time does not wait for threads or for the disk.
fn options() -> Options {
    Options {
        workers: 0,
        fsync: false,
        clock: || UNIX_EPOCH + Duration::from_secs(1_781_524_800),
        ..Options::default()
    }
}

/// A server on the simulated network. Only its maildir is real.
struct Mail {
    scene: Scene,
    dir: TempDir,
}

impl Deref for Mail {
    type Target = Scene;
    fn deref(&self) -> &Scene {
        &self.scene
    }
}

impl Mail {
    fn new() -> Result<Mail> {
        Mail::with(options())
    }

    fn with(options: Options) -> Result<Mail> {
        let dir = TempDir::new()?;
        let service = Service::open(dir.path(), options)?;
        let scene = Scene::new(Network::new(1), move || service.serve(ADDR))?;
        Ok(Mail { scene, dir })
    }

    fn advance(&self, seconds: u64) -> Result {
        self.scene.advance(Duration::from_secs(seconds))
    }

    /// A client that has received the greeting and sent EHLO.
    fn client(&self) -> Result<Peer> {
        let client = self.network.connect(ADDR)?;
        assert!(self.ask(&client, HELLO)?.starts_with("220 "));
        Ok(client)
    }

    /// Sends input, and returns the [`codes`] of the replies.
    fn codes(&self, client: &Peer, input: impl AsRef<[u8]>) -> Result<String> {
        Ok(codes(&self.ask(client, input)?))
    }

    fn delivered(&self) -> Result<Vec<Vec<u8>>> {
        messages(self.dir.path())
    }

    fn unfinished(&self) -> Result<usize> {
        Ok(fs::read_dir(self.dir.path().join("tmp"))?.count())
    }
}

/// The codes of the replies, separated by spaces. The last line of each reply counts.
fn codes(replies: &str) -> String {
    assert!(replies.is_empty() || replies.ends_with("\r\n"), "{replies}");
    let last = |line: &&str| line.get(3..4) == Some(" ");
    let codes = replies
        .lines()
        .filter(last)
        .filter_map(|line| line.get(..3));
    codes.collect::<Vec<_>>().join(" ")
}

/// The delivered messages, in order.
fn messages(maildir: &Path) -> Result<Vec<Vec<u8>>> {
    let paths = fs::read_dir(maildir.join("new"))?.map(|entry| Ok(entry?.path()));
    let mut paths = paths.collect::<Result<Vec<_>>>()?;
    // All have the same time, so the counter in their names determines the order.
    let count = |path: &Path| {
        let name = path.to_string_lossy().into_owned();
        let count = name.rsplit('Q').next()?.split('.').next()?;
        count.parse::<u64>().ok()
    };
    paths.sort_by_key(|path| count(path));
    paths.iter().map(|path| Ok(fs::read(path)?)).collect()
}

/// A message without the lines that the server has added.
fn text(message: &[u8]) -> &[u8] {
    // The last added line contains the date, which is fixed in these tests.
    let date = b"\n\tMon, 15 Jun 2026 12:00:00 +0000\n";
    let at = message.windows(date.len()).position(|part| part == date);
    &message[at.map_or(0, |at| at + date.len())..]
}

/// A text as it is in a file, where lines end with LF.
fn filed(text: &[u8]) -> Vec<u8> {
    let mut filed = Vec::new();
    for line in text.split_inclusive(|b| *b == b'\n') {
        match line.strip_suffix(b"\r\n") {
            Some(line) => filed.extend([line, b"\n"].concat()),
            None => filed.extend(line),
        }
    }
    filed
}

/// A text as it is sent: dot-stuffed, and with the final dot line.
fn stuffed(text: &[u8]) -> Vec<u8> {
    let mut sent = Vec::new();
    for line in text.split_inclusive(|b| *b == b'\n') {
        if line.starts_with(b".") && (sent.is_empty() || sent.ends_with(b"\r\n")) {
            sent.push(b'.');
        }
        sent.extend(line);
    }
    sent.extend(b".\r\n");
    sent
}

#[test]
fn a_message_is_received_and_stored() -> Result {
    let mail = Mail::new()?;
    let from: SocketAddr = "192.0.2.7:4711".parse()?;
    let client = mail.network.connect_from(from, ADDR)?;
    let answer = mail.ask(&client, "")?;
    assert_eq!(answer, "220 localhost ESMTP asynchat\r\n");
    let answer = mail.ask(&client, HELLO)?;
    let size = options().max_size;
    assert_eq!(
        answer,
        format!(
            "250-localhost greets client.example\r\n250-PIPELINING\r\n250-SIZE {size}\r\n\
             250-8BITMIME\r\n250-ENHANCEDSTATUSCODES\r\n250 HELP\r\n"
        )
    );
    assert_eq!(mail.codes(&client, ENVELOPE)?, "250 250 354");
    assert_eq!((mail.unfinished()?, mail.delivered()?.len()), (1, 0));
    let answer = mail.ask(&client, "Subject: x\r\n\r\n..\r\n.\r\n")?;
    assert!(answer.starts_with("250 2.0.0 kept as "), "{answer}");
    assert_eq!((mail.unfinished()?, mail.delivered()?.len()), (0, 1));
    let id = answer.trim_end().rsplit(' ').next().unwrap_or_default();
    assert_eq!(
        fs::read_to_string(mail.dir.path().join("new").join(id))?,
        format!(
            "Return-Path: <bob@example.org>\nDelivered-To: ann@localhost\n\
             Received: from client.example ([192.0.2.7])\n\tby localhost with ESMTP id {id};\n\
             \tMon, 15 Jun 2026 12:00:00 +0000\nSubject: x\n\n.\n"
        )
    );
    assert_eq!(mail.codes(&client, "QUIT\r\n")?, "221");
    assert_eq!(client.ended(), Some(Ended::Finished));
    Ok(())
}

#[test]
fn commands_have_an_order() -> Result {
    for (commands, expected) in [
        ("MAIL FROM:<b@x>\r\n", "503"),
        ("HELO x\r\nRCPT TO:<a@localhost>\r\n", "250 503"),
        ("HELO x\r\nDATA\r\n", "250 503"),
        ("HELO x\r\nMAIL FROM:<>\r\nDATA\r\n", "250 250 554"),
        (
            "HELO x\r\nMAIL FROM:<>\r\nDATA\r\nRCPT TO:<a@localhost>\r\nDATA\r\n.\r\n",
            "250 250 554 250 354 250",
        ),
        ("HELO x\r\nMAIL FROM:<>\r\nMAIL FROM:<>\r\n", "250 250 503"),
        // These discard the envelope.
        (
            "HELO x\r\nMAIL FROM:<>\r\nRSET\r\nMAIL FROM:<>\r\n",
            "250 250 250 250",
        ),
        (
            "HELO x\r\nMAIL FROM:<>\r\nEHLO x\r\nRCPT TO:<a@localhost>\r\n",
            "250 250 250 503",
        ),
        (
            "HELO x\r\nMAIL FROM:<>\r\nRCPT TO:<a@localhost>\r\nDATA\r\n.\r\nDATA\r\n",
            "250 250 250 354 250 503",
        ),
        // These do not discard it, and need no HELO.
        (
            "NOOP\r\nHELP\r\nVRFY a\r\nHELO x\r\nMAIL FROM:<>\r\nNOOP\r\nBAD\r\nRCPT TO:<postmaster>\r\n",
            "250 214 252 250 250 250 500 250",
        ),
        ("RSET\r\nQUIT\r\nNOOP\r\n", "250 221"),
    ] {
        let mail = Mail::new()?;
        let client = mail.network.connect(ADDR)?;
        mail.ask(&client, "")?;
        assert_eq!(mail.codes(&client, commands)?, expected, "{commands}");
    }
    Ok(())
}

#[test]
fn replies_and_messages_do_not_depend_on_segmentation() -> Result {
    let texts: [&[u8]; 2] = [b".\r\n..\r\n.a\r\n\xe4\r.\r\n\n.\n\r\n", b""];
    let mut input = HELLO.as_bytes().to_vec();
    for text in texts {
        input.extend(b"MAIL FROM:<>\r\nRCPT TO:<a@b>\r\nRCPT TO:<a@localhost>\r\nDATA\r\n");
        input.extend(stuffed(text));
    }
    input.extend(b"QUIT\r\n");
    let expected = "220 250 250 550 250 354 250 250 550 250 354 250 221";
    sim::every_segmentation(&input, |pieces| {
        let dir = TempDir::new()?;
        let service = Service::open(dir.path(), options())?;
        let script = Script::new().send_each(pieces);
        let transcript = sim::drive(move |chat| Session::new(chat, service), script)?;
        assert_eq!(codes(&transcript.text()), expected, "{pieces:?}");
        let found = messages(dir.path())?;
        let found: Vec<_> = found.iter().map(|message| text(message)).collect();
        assert_eq!(found, texts.map(filed), "{pieces:?}");
        Ok(())
    })
}

#[test]
fn replies_to_commands_do_not_depend_on_segmentation() -> Result {
    let dir = TempDir::new()?;
    let service = Service::open(dir.path(), options())?;
    let line = "x".repeat(600);
    let input = format!("EHLO x\r\n\r\n{line}\r\nMAIL FROM:<>\r\nRCPT TO:<a@\r\nRSET\r\nQUIT\r\n");
    let session = move |chat| Session::new(chat, Rc::clone(&service));
    let transcript = sim::drive_every_segmentation(session, input.as_bytes())?;
    assert_eq!(codes(&transcript.text()), "220 250 500 500 250 501 250 221");
    Ok(())
}

/// CVE-2023-51764 and similar attacks: a text that another server takes for the end of a message, followed by
/// a forged message.
#[test]
fn smuggled_line_ends_are_content() -> Result {
    let ends = [
        "\n.\n",
        "\n.\r\n",
        "\r\n.\n",
        "\r.\r",
        "\r\n.\r",
        "\r.\r\n",
        "\n.\r",
        "\r\n\0.\r\n",
    ];
    for end in ends {
        let mail = Mail::new()?;
        let client = mail.client()?;
        assert_eq!(mail.codes(&client, ENVELOPE)?, "250 250 354");
        let smuggled =
            format!("Subject: x\r\n\r\nx{end}{ENVELOPE}From: the.boss@localhost\r\n\r\nx\r\n");
        assert_eq!(mail.codes(&client, &smuggled)?, "", "{end:?}");
        assert_eq!(mail.codes(&client, ".\r\n")?, "250", "{end:?}");
        let delivered = mail.delivered()?;
        assert_eq!(delivered.len(), 1, "{end:?}");
        // A dot at the beginning of a line is removed, whatever follows it: section 4.5.2.
        let expected = smuggled.replace("\r\n.", "\r\n");
        assert_eq!(text(&delivered[0]), filed(expected.as_bytes()), "{end:?}");
    }
    Ok(())
}

#[test]
fn bare_line_ends_in_a_command_are_refused() -> Result {
    let mail = Mail::new()?;
    let client = mail.client()?;
    for line in [
        "NOOP\nMAIL FROM:<b@x>\r\n",
        "NOOP\rMAIL FROM:<b@x>\r\n",
        "NOOP \r\r\n",
    ] {
        assert_eq!(mail.codes(&client, line)?, "500", "{line:?}");
    }
    assert_eq!(mail.codes(&client, "RCPT TO:<a@localhost>\r\n")?, "503");
    Ok(())
}

/// A client that ends its lines with LF would wait for replies for ever. It gets one hint. Only CR LF ends a
/// line (CVE-2023-51764).
#[test]
fn a_client_that_ends_lines_with_lf_alone_gets_one_hint() -> Result {
    let mail = Mail::new()?;
    let client = mail.network.connect(ADDR)?;
    mail.ask(&client, "")?;
    let answer = mail.ask(&client, "HELO x\n")?;
    assert_eq!(
        answer,
        "500 5.5.2 end lines with CR LF, not with LF alone\r\n"
    );
    let letter = "MAIL FROM:<b@x>\nRCPT TO:<ann@localhost>\nDATA\n\nx\n.\nQUIT\n";
    assert_eq!(mail.ask(&client, letter)?, "");
    // The whole input was one line, and the hint was its reply.
    assert_eq!(mail.codes(&client, "x\r\nEHLO x\r\n")?, "250");
    assert_eq!(mail.codes(&client, "NOOP\nNOOP")?, "");
    assert_eq!(mail.codes(&client, "\r\nNOOP\r\n")?, "500 250");
    assert_eq!(mail.delivered()?.len(), 0);

    // A line with the hint gets no second reply when it is too long. The next long line gets its own reply.
    let client = mail.network.connect(ADDR)?;
    let long = "NOOP\n".repeat(1000) + "\r\n";
    assert_eq!(mail.codes(&client, &long)?, "220 500");
    assert_eq!(mail.codes(&client, format!("{long}NOOP\r\n"))?, "500 250");
    Ok(())
}

#[test]
fn the_hint_does_not_depend_on_segmentation() -> Result {
    let dir = TempDir::new()?;
    let service = Service::open(dir.path(), options())?;
    let input = b"\n\r\nA\nB\r\n";
    let session = move |chat| Session::new(chat, Rc::clone(&service));
    let transcript = sim::drive_every_segmentation(session, input)?;
    assert_eq!(codes(&transcript.text()), "220 500 500");
    assert_eq!(transcript.text().matches("not with LF").count(), 1);
    Ok(())
}

#[test]
fn every_octet_is_stored() -> Result {
    let mail = Mail::new()?;
    let client = mail.client()?;
    // All pairs of octets. They are larger than one buffer.
    let pairs = (0..=255u8).flat_map(|a| (0..=255u8).flat_map(move |b| [a, b]));
    let mut sent: Vec<u8> = pairs.collect();
    sent.extend(b"\r\n");
    assert_eq!(mail.codes(&client, ENVELOPE)?, "250 250 354");
    assert_eq!(mail.codes(&client, stuffed(&sent))?, "250");
    assert!(text(&mail.delivered()?[0]) == filed(&sent));
    Ok(())
}

#[test]
fn a_message_over_the_size_is_refused_and_skipped() -> Result {
    let max_size = 1000;
    let mail = Mail::with(Options {
        max_size,
        ..options()
    })?;
    let client = mail.client()?;
    assert_eq!(mail.codes(&client, "MAIL FROM:<> SIZE=1001\r\n")?, "552");
    assert_eq!(
        mail.codes(&client, "MAIL FROM:<> SIZE=1000\r\nRSET\r\n")?,
        "250 250"
    );
    // Stuffed dots do not count: RFC 1870, section 5.
    let exact = ".".repeat(998) + "\r\n";
    for (text, code) in [
        (exact.clone(), "250"),
        (format!("x{exact}"), "552"),
        (exact.repeat(99), "552"),
    ] {
        assert_eq!(mail.codes(&client, ENVELOPE)?, "250 250 354");
        let sent = stuffed(text.as_bytes());
        let (most, rest) = sent.split_at(sent.len() - 1);
        assert_eq!(mail.codes(&client, most)?, "", "no reply before the end");
        assert_eq!(mail.codes(&client, rest)?, code);
        assert_eq!(mail.unfinished()?, 0);
    }
    assert_eq!(mail.delivered()?.len(), 1);
    assert_eq!(mail.codes(&client, "NOOP\r\n")?, "250");
    Ok(())
}

#[test]
fn recipients_are_local_and_not_too_many() -> Result {
    let mail = Mail::with(Options {
        domains: vec!["Example.org".to_owned(), "[192.0.2.1]".to_owned()],
        ..options()
    })?;
    let client = mail.client()?;
    let rcpt = |to: &str| format!("RCPT TO:<{to}>\r\n");
    assert_eq!(mail.codes(&client, "MAIL FROM:<>\r\n")?, "250");
    for to in [
        "a@localhost",
        "a@sub.example.org",
        "a@[192.0.2.2]",
        "a%example.org@x",
    ] {
        assert_eq!(mail.codes(&client, rcpt(to))?, "550", "{to}");
    }
    for to in [
        "a@eXample.ORG",
        "a@[192.0.2.1]",
        "@example.org:a@example.org",
        "Postmaster",
    ] {
        assert_eq!(mail.codes(&client, rcpt(to))?, "250", "{to}");
    }
    let many: String = (4..102)
        .map(|n| rcpt(&format!("{n}@example.org")))
        .collect();
    let expected = ["250"; 96].join(" ") + " 452 452";
    assert_eq!(mail.codes(&client, many)?, expected);
    assert_eq!(mail.codes(&client, "DATA\r\n.\r\n")?, "354 250");
    let delivered = String::from_utf8_lossy(&mail.delivered()?[0]).into_owned();
    assert_eq!(delivered.matches("Delivered-To: ").count(), 100);

    let all = Mail::with(Options {
        domains: vec!["*".to_owned()],
        ..options()
    })?;
    let client = all.client()?;
    let anybody = "MAIL FROM:<>\r\nRCPT TO:<a@b.example>\r\n";
    assert_eq!(all.codes(&client, anybody)?, "250 250");
    Ok(())
}

#[test]
fn disconnected_clients_leave_no_unfinished_messages() -> Result {
    let input = format!("{HELLO}{ENVELOPE}Subject: x\r\n\r\nx\r\n.\r\nQUIT\r\n");
    let complete = input.find("\r\n.\r\n").ok_or("it has an end")? + 5;
    let mail = Mail::new()?;
    for end in 0..input.len() {
        let before = mail.delivered()?.len();
        let client = mail.network.connect(ADDR)?;
        client.send(&input[..end]);
        mail.settle()?;
        match end % 3 {
            0 => client.reset(),
            1 => client.finish(),
            _ => drop(client),
        }
        mail.settle()?;
        assert_eq!(mail.unfinished()?, 0, "{end}");
        let delivered = mail.delivered()?.len() - before;
        assert_eq!(delivered, usize::from(end >= complete), "{end}");
    }
    // The server's sockets of the half-closed clients linger briefly.
    mail.advance(5)?;
    assert_eq!(mail.network.sockets(), 1, "the listener");
    Ok(())
}

/// Where the kernel may still have much, only a lingering socket has a deadline.
#[test]
fn quit_closes_at_once_after_little_output() -> Result {
    for (commands, lingers) in [(1, false), (2000, true)] {
        let mail = Mail::new()?;
        let client = mail.client()?;
        let before = mail.network.sockets();
        let input = "HELP\r\n".repeat(commands) + "QUIT\r\n";
        let replies = mail.ask(&client, input)?;
        assert_eq!(replies.len() > 128 << 10, lingers, "{}", replies.len());
        assert!(codes(&replies).ends_with("214 221"));
        assert_eq!(client.ended(), Some(Ended::Finished));
        assert_eq!(mail.network.sockets() == before, lingers);
    }
    Ok(())
}

#[test]
fn a_failing_disk_is_replied_and_the_session_stays_in_sync() -> Result {
    let mail = Mail::new()?;
    let client = mail.client()?;
    let (tmp, new) = (mail.dir.path().join("tmp"), mail.dir.path().join("new"));
    fs::remove_dir(&tmp)?;
    assert_eq!(mail.codes(&client, ENVELOPE)?, "250 250 451", "no 354");
    fs::create_dir(&tmp)?;
    fs::remove_dir(&new)?;
    assert_eq!(mail.codes(&client, ENVELOPE)?, "250 250 354");
    assert_eq!(mail.codes(&client, "QUIT\r\n.\r\nNOOP\r\n")?, "451 250");
    assert_eq!(mail.unfinished()?, 0);
    fs::create_dir(&new)?;
    assert_eq!(mail.codes(&client, ENVELOPE)?, "250 250 354");
    assert_eq!(mail.codes(&client, ".\r\n")?, "250");
    Ok(())
}

#[test]
fn idle_and_slow_clients_are_closed() -> Result {
    let mail = Mail::new()?;
    let (silent, slow, slow_sender) = (mail.client()?, mail.client()?, mail.client()?);
    assert_eq!(mail.codes(&slow_sender, ENVELOPE)?, "250 250 354");
    for _ in 0..7 {
        slow.send("N");
        slow_sender.send("x\r\n");
        mail.advance(9)?;
    }
    assert!(slow.has_ended(), "a command may take a minute");
    assert!(!slow_sender.has_ended() && !silent.has_ended());
    for _ in 0..9 {
        slow_sender.send("x\r\n");
        mail.advance(60)?;
    }
    assert!(silent.has_ended(), "a client may be idle for five minutes");
    assert!(slow_sender.has_ended(), "a message may take ten minutes");
    assert_eq!(mail.unfinished()?, 0);
    Ok(())
}

#[test]
fn clients_that_send_only_bad_commands_are_closed() -> Result {
    let mail = Mail::new()?;
    let client = mail.client()?;
    // Only bad commands in a row count. Commands in the wrong order count, too.
    let bad = "X\r\nRCPT TO:<a@localhost>\r\n\r\n".repeat(3);
    for _ in 0..3 {
        assert!(
            !mail
                .codes(&client, format!("{bad}NOOP\r\n"))?
                .contains("421")
        );
    }
    let answer = mail.codes(&client, bad.repeat(2))?;
    assert!(answer.ends_with(" 421"), "{answer}");
    assert_eq!(answer.split(' ').count(), 11, "{answer}");
    assert!(client.has_ended());

    let browser = mail.network.connect(ADDR)?;
    let request = format!("POST / HTTP/1.1\r\nHost: x\r\n\r\n{HELLO}{ENVELOPE}");
    assert_eq!(mail.codes(&browser, request)?, "220 421");
    assert!(browser.has_ended());
    Ok(())
}

#[test]
fn a_refused_connection_gets_a_421() -> Result {
    let limits = options().limits.connections(1);
    let mail = Mail::with(Options {
        limits,
        ..options()
    })?;
    let _one = mail.client()?;
    let another = mail.network.connect(ADDR)?;
    assert_eq!(mail.codes(&another, "")?, "421");
    assert_eq!(another.ended(), Some(Ended::Finished));
    Ok(())
}

#[test]
fn a_barrage_of_messages_is_answered_in_order() -> Result {
    const COUNT: usize = 500;
    let mail = Mail::new()?;
    let client = mail.client()?;
    // The client sends everything before it reads a reply.
    client.stop_reading();
    let message = |n| format!("{ENVELOPE}{n}\r\n.\r\n");
    let barrage: String = (0..COUNT).map(message).collect();
    assert_eq!(mail.codes(&client, barrage + "QUIT\r\n")?, "");
    client.start_reading(usize::MAX);
    let replies = mail.ask(&client, "")?;
    let expected = "250 250 354 250 ".repeat(COUNT) + "221";
    assert_eq!(codes(&replies), expected);
    let texts: Vec<_> = (0..COUNT).map(|n| format!("{n}\n")).collect();
    let delivered = mail.delivered()?;
    let found: Vec<_> = delivered.iter().map(|message| text(message)).collect();
    assert_eq!(
        found,
        texts.iter().map(String::as_bytes).collect::<Vec<_>>()
    );
    Ok(())
}

#[test]
fn a_shutdown_sends_421_and_waits_for_a_message() -> Result {
    let mail = Mail::new()?;
    // `sending` completes its message after the shutdown, `slow` does not.
    let [idle, sending, slow] = [mail.client()?, mail.client()?, mail.client()?];
    for client in [&sending, &slow] {
        let codes = mail.codes(client, format!("{ENVELOPE}the first half\r\n"))?;
        assert_eq!(codes, "250 250 354");
    }
    mail.event_loop.shutdown(Duration::from_secs(5));
    assert_eq!(mail.codes(&idle, "")?, "421");
    assert_eq!(idle.ended(), Some(Ended::Finished));

    assert_eq!(mail.codes(&sending, "")?, "");
    let codes = mail.codes(&sending, "the rest\r\n.\r\nNOOP\r\n")?;
    assert_eq!(codes, "250 421");
    assert_eq!(sending.ended(), Some(Ended::Finished));

    mail.network
        .advance(&mail.event_loop, Duration::from_secs(5))?;
    assert_eq!(mail.codes(&slow, "")?, "");
    assert_eq!(slow.ended(), Some(Ended::Reset));
    assert_eq!((mail.unfinished()?, mail.delivered()?.len()), (0, 1));
    Ok(())
}

/// A session that gives a worker a task for each line. The task waits for a message before it ends.
fn waiting(
    chat: Chat,
    workers: Rc<RefCell<Option<Workers>>>,
    mut gates: Vec<mpsc::Receiver<()>>,
) -> impl FnMut(&[u8]) -> Result {
    gates.reverse();
    move |line| {
        let Some(gate) = gates.pop() else {
            chat.push("no workers\r\n");
            return Ok(());
        };
        let line = format!("{} done\r\n", String::from_utf8_lossy(line));
        if let Some(workers) = &*workers.borrow() {
            workers.run(&chat, move || {
                // If `recv` fails, the test has ended.
                let _ = gate.recv();
                line
            });
        }
        Ok(())
    }
}

#[test]
fn replies_stay_in_order_when_workers_finish_in_another() -> Result {
    let network = Network::new(1);
    let event_loop = network.event_loop()?;
    let workers = Rc::new(RefCell::new(Some(Workers::new(2)?)));
    let (socket, client) = network.pair();
    let ((first, first_gate), (second, second_gate)) = (mpsc::channel(), mpsc::channel());
    let shared = Rc::clone(&workers);
    asynchat::Connector::adopt(socket).connect_on(&event_loop, move |chat| {
        waiting(chat, shared, vec![first_gate, second_gate])
    })?;
    client.send("one\r\ntwo\r\nthree\r\n");
    network.settle(&event_loop)?;
    second.send(())?;
    assert_eq!(client.received(), b"", "the first task is not done");
    // The shutdown waits for both replies.
    event_loop.shutdown(Duration::from_secs(5));
    network.settle(&event_loop)?;
    assert!(!client.has_ended());
    first.send(())?;
    // Dropping the pool waits until both tasks are done.
    drop(workers.take());
    network.settle(&event_loop)?;
    assert!(client.has_ended());
    assert_eq!(client.received(), b"one done\r\ntwo done\r\nno workers\r\n");
    Ok(())
}

#[test]
fn a_task_that_panics_gets_a_reply_and_ends_no_worker() -> Result {
    let network = Network::new(1);
    let event_loop = network.event_loop()?;
    let workers = Rc::new(RefCell::new(Some(Workers::new(1)?)));
    let clients = [(); 2].map(|()| {
        let (socket, client) = network.pair();
        let shared = Rc::clone(&workers);
        let connector = asynchat::Connector::adopt(socket);
        let connected = connector.connect_on(&event_loop, move |chat: Chat| {
            move |line: &[u8]| {
                let panics = line == b"panic";
                if let Some(workers) = &*shared.borrow() {
                    workers.run(&chat, move || {
                        if panics {
                            panic!("as the test wants it")
                        } else {
                            "done\r\n".to_owned()
                        }
                    });
                }
                Ok(())
            }
        });
        connected.map(|_| client)
    });
    let [first, second] = clients;
    let (first, second) = (first?, second?);
    first.send("panic\r\n");
    network.settle(&event_loop)?;
    second.send("line\r\n");
    network.settle(&event_loop)?;
    // Dropping the pool waits until both tasks are done.
    drop(workers.take());
    network.settle(&event_loop)?;
    assert_eq!(first.received(), b"451 4.3.0 local error\r\n");
    assert_eq!(second.received(), b"done\r\n");
    assert!(!first.has_ended() && !second.has_ended());
    Ok(())
}
