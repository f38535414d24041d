//! Transfers: what a data connection is for. One begins when both its command and its connection are here, in either
//! order.

use std::io::{Seek, SeekFrom};
use std::sync::Arc;
use std::time::Duration;

use asynchat::{Chat, CrlfProducer, HookedProducer, Producer, ReadProducer};

use super::command::Command;
use super::data::Data;
use super::listing::Format;
use super::route::Way;
use super::session::Session;
use super::upload::Upload;
use super::waiting::transfer_name;
use super::{Refusal, failed};
use crate::access_log;
use crate::failure::Logged;
use crate::names::Names;
use crate::status::{Progress, Record};
use crate::tree::{Found, InUse};
use crate::users::{Client, Share};

pub const DONE: &str = "226 done";
const ABORTED: &str = "426 aborted";

pub struct Transfer {
    /// Until the data connection is here.
    work: Option<(Work, Progress)>,
    is_upload: bool,
    /// A file of which the client has sent all, until it has its name.
    received: Option<Box<Upload>>,
    /// For STAT.
    text: String,
    record: Record,
    /// The reply, if it was sent while the client still sends its file.
    refusal: Option<Refusal>,
    /// After ABOR, until its data connection has ended.
    is_aborted: bool,
    /// ABOR waits behind other commands, and has its own reply in its turn.
    abor_waits: bool,
    _open_file: Arc<Share>,
}

/// What a command has asked for.
struct Begun {
    work: Work,
    text: String,
    /// The length in bytes, if it is known.
    length: Option<u64>,
    open_file: Arc<Share>,
}

enum Work {
    Send(Box<dyn Producer>),
    Receive(Box<Upload>),
}

impl Session {
    pub fn rest(&mut self, command: &Command) {
        let text = command.text().unwrap_or_default();
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        match text.parse::<u64>() {
            Ok(at) if is_number && at > 0 && self.is_ascii => {
                self.reply("504 use TYPE I for this");
            }
            Ok(at) if is_number => {
                self.restart = at;
                self.reply(&format!("350 the next transfer begins at {at}"));
            }
            _ => self.reply("501 the argument is not a number"),
        }
    }

    pub fn retr(&mut self, path: &[u8]) {
        let start = std::mem::take(&mut self.restart);
        let begun = self.open_file();
        let begun = begun.and_then(|open_file| self.download(path, start, open_file));
        self.begin_transfer("RETR", path, begun);
    }

    fn download(&self, path: &[u8], start: u64, open_file: Arc<Share>) -> Result<Begun, Refusal> {
        let names = self.resolve(path)?;
        let (mut file, size) = match self.service.tree.find(&names) {
            Ok(Found::File(file, metadata)) => (file, metadata.len()),
            Ok(Found::Folder(_)) => return Err("550 it is a folder"),
            Err(error) => return Err(failed(&names, &error)),
        };
        if start > size {
            return Err("554 the file is shorter");
        }
        if start > 0 {
            let sought = file.seek(SeekFrom::Start(start));
            sought.map_err(|error| failed(&names, &error))?;
        }
        // If the file becomes shorter meanwhile, the transfer is cut.
        let file = InUse::new(file, Some(Arc::clone(&open_file)));
        let producer = ReadProducer::new(file).length(size - start);
        let producer = Logged::new(producer, names.clone());
        Ok(Begun {
            work: Work::Send(if self.is_ascii {
                Box::new(CrlfProducer::new(producer))
            } else {
                Box::new(producer)
            }),
            text: format!("to send {} bytes of /{}", size - start, names.display()),
            length: (!self.is_ascii).then_some(size - start),
            open_file,
        })
    }

    pub fn stor(&mut self, path: &[u8]) {
        let start = std::mem::take(&mut self.restart);
        let begun = self.upload(path, (start > 0).then_some(start), false);
        self.begin_transfer("STOR", path, begun);
    }

    pub fn appe(&mut self, path: &[u8]) {
        self.restart = 0;
        let begun = self.upload(path, None, true);
        self.begin_transfer("APPE", path, begun);
    }

    fn upload(&self, path: &[u8], start: Option<u64>, append: bool) -> Result<Begun, Refusal> {
        let author = self.writer()?;
        let names = self.resolve_new(path)?;
        let text = format!("to receive /{}", names.display());
        let open_file = self.open_file()?;
        let until_closed = Arc::clone(&open_file);
        let upload = Upload::begin(
            &self.service,
            names,
            author,
            self.is_ascii,
            start,
            append,
            until_closed,
        )?;
        Ok(Begun {
            work: Work::Receive(Box::new(upload)),
            text,
            length: None,
            open_file,
        })
    }

    pub fn list(&mut self, path: &[u8]) {
        let path = without_options(path);
        let begun = self.listing(path, Format::Long);
        self.begin_transfer("LIST", path, begun);
    }

    pub fn nlst(&mut self, path: &[u8]) {
        let path = without_options(path);
        let begun = self.listing(path, Format::Names);
        self.begin_transfer("NLST", path, begun);
    }

    pub fn mlsd(&mut self, path: &[u8]) {
        let is_file = |names: Names| matches!(self.service.tree.find(&names), Ok(Found::File(..)));
        let begun = if self.resolve(path).is_ok_and(is_file) {
            Err("501 the path is not that of a folder")
        } else {
            // RFC 3659 section 7.2.1
            self.listing(path, Format::Facts(self.facts))
        };
        self.begin_transfer("MLSD", path, begun);
    }

    fn listing(&mut self, path: &[u8], format: Format) -> Result<Begun, Refusal> {
        // REST is for the command that follows it.
        self.restart = 0;
        let open_file = self.open_file()?;
        let (names, producer) = self.listing_producer(path, format)?;
        Ok(Begun {
            work: Work::Send(Box::new(producer)),
            text: format!("to list /{}", names.display()),
            length: None,
            open_file,
        })
    }

    /// Sends 150, and begins if there is a data connection already.
    fn begin_transfer(
        &mut self,
        command: &'static str,
        path: &[u8],
        begun: Result<Begun, Refusal>,
    ) {
        let record = self.record(command, path);
        let connected = begun.and_then(|begun| {
            if self.needs_private_data() {
                return Err("521 use PBSZ 0 and PROT P first");
            }
            match self.route.way {
                Way::None | Way::Connecting(_) => {
                    return Err(if self.service.options.passive_only {
                        "425 use PASV or EPSV first"
                    } else {
                        "425 use PASV, EPSV, PORT or EPRT first"
                    });
                }
                Way::Refused(refusal) => return Err(refusal),
                Way::Active(client) => {
                    if let Err(refusal) = self.connect_to(client) {
                        self.route.close();
                        return Err(refusal);
                    }
                }
                Way::Passive(..) | Way::Connected(_) => {}
            }
            Ok(begun)
        });
        let Begun {
            work,
            text,
            length,
            open_file,
        } = match connected {
            Ok(begun) => begun,
            Err(refusal) => {
                record.finish(code(refusal), 0);
                return self.reply(refusal);
            }
        };
        self.reply("150 the transfer begins");
        self.transfer = Some(Transfer {
            is_upload: matches!(work, Work::Receive(_)),
            received: None,
            work: Some((work, self.connection.transfer(length))),
            text,
            record,
            refusal: None,
            is_aborted: false,
            abor_waits: false,
            _open_file: open_file,
        });
        self.transfer_data();
    }

    /// Counts an open file of the client.
    pub fn open_file(&self) -> Result<Arc<Share>, Refusal> {
        let client = Client::new(self.connection.peer.as_ref());
        let share = self.service.options.open_files.take(client);
        let share = share.map(Arc::new);
        share.ok_or("450 no more files may be open for your address now, try again later")
    }

    /// Counts and logs a transfer at its end.
    fn record(&self, command: &'static str, path: &[u8]) -> Record {
        let path = match self.resolve(path) {
            Ok(names) => names.to_string(),
            Err(_) => String::from_utf8_lossy(path).into_owned(),
        };
        self.connection.begin(command, &path);
        let options = &self.service.options;
        let line = options.access_log.as_ref().map(|log| {
            let request = access_log::Request {
                user: Some(self.login.user()),
                method: command,
                target: &path,
                protocol: "FTP",
                referer: None,
                user_agent: None,
            };
            let mut clock = self.service.clock.borrow_mut();
            log.request(self.connection.peer.as_ref(), clock.log_date(), &request)
        });
        let protocol = self.connection.protocol.get();
        Record::new(&options.status, protocol, command, 426, line)
    }

    /// Ends the transfer, counts it and logs it. Returns whether `reply` has to be sent.
    pub fn end_transfer(&mut self, reply: &str) -> bool {
        let Some(transfer) = self.transfer.take() else {
            return false;
        };
        let bytes = self.connection.done.get();
        let (record, refusal) = (transfer.record, transfer.refusal);
        record.finish(code(refusal.unwrap_or(reply)), bytes);
        refusal.is_none()
    }

    /// Does nothing until the data connection is here.
    fn transfer_data(&mut self) {
        let (Some(transfer), Way::Connected(data)) = (&mut self.transfer, &self.route.way) else {
            return;
        };
        match transfer.work.take() {
            None => {}
            Some((Work::Send(producer), progress)) => {
                data.push_with_producer(progress.track(producer));
                data.close_when_done();
                // It learns that the client has left.
                data.resume_reading();
            }
            Some((Work::Receive(mut upload), progress)) => {
                upload.begun();
                // Fails if the connection has ended, which its `handle_close` reports.
                let _ = data.post(move |data: &mut Data| {
                    data.receive(upload, progress);
                    Ok(())
                });
            }
        }
    }

    pub fn data_connected(&mut self, number: u64, data: Chat) {
        if number != self.route.number {
            return data.abort();
        }
        self.route.way = Way::Connected(data);
        self.transfer_data();
    }

    /// Nobody has connected to the port in time, or the server shuts down.
    pub fn nobody_came(&mut self, number: u64) {
        self.data_ended(number, "425 no connection has come from your address", None);
    }

    /// `received`: a file of which the client has sent all. It waits for its name: the end of the control connection, which
    /// aborts the upload, may follow that of the data connection. With TLS it need not wait: a client that is killed sends no
    /// `close_notify`.
    pub fn data_ended(&mut self, number: u64, reply: &'static str, received: Option<Box<Upload>>) {
        // `Route::close` has changed the number if the transfer was closed before.
        if number != self.route.number {
            return;
        }
        match (self.is_aborting(), received) {
            (false, Some(upload)) => {
                if let Some(transfer) = &mut self.transfer {
                    transfer.received = Some(upload);
                    self.finish_upload_after(if self.login.is_private() {
                        Duration::ZERO
                    } else {
                        self.service.options.upload_wait
                    });
                }
            }
            // It had ended when ABOR came.
            (true, None) if reply.starts_with("226") => self.end_aborted_transfer(reply),
            (true, upload) => {
                drop(upload);
                self.end_aborted_transfer(ABORTED);
            }
            (false, None) if self.transfer.is_none() && reply.starts_with('5') => {
                self.route.close();
                self.route.way = Way::Refused(reply);
            }
            (false, None) => self.close_transfer(reply),
        }
    }

    fn finish_upload_after(&self, delay: Duration) {
        let (chat, number) = (self.chat.clone(), self.route.number);
        asynchat::call_later(delay, move || {
            // Fails if the client has left.
            let _ = chat.post(move |session: &mut Session| {
                session.finish_upload(number);
                Ok(())
            });
        });
    }

    fn finish_upload(&mut self, number: u64) {
        let transfer = self.transfer.as_mut();
        let received = transfer.and_then(|transfer| transfer.received.as_mut());
        let Some(upload) = received.filter(|_| number == self.route.number) else {
            return;
        };
        match upload.finish() {
            Ok(true) => self.close_transfer(DONE),
            // The other connections have their turn before the next step.
            Ok(false) => self.finish_upload_after(Duration::ZERO),
            Err(refusal) => self.close_transfer(refusal),
        }
    }

    /// Ends the transfer, if there is one, and closes its data connection.
    pub fn close_transfer(&mut self, reply: &str) {
        self.route.close();
        let was_open = self.transfer.is_some();
        if self.end_transfer(reply) {
            self.reply(reply);
        }
        if was_open {
            self.transfer_ended();
        }
    }

    /// A file is refused while it is received. The transfer lasts until the client has stopped. A client that has sent ABOR
    /// meanwhile gets the two replies to it alone.
    pub fn transfer_refused(&mut self, number: u64, refusal: Refusal) {
        if number == self.route.number
            && let Some(transfer) = &mut self.transfer
            && !transfer.is_aborted
        {
            transfer.refusal = Some(refusal);
            self.reply(refusal);
        }
    }

    /// Closes a refused transfer: a client that sends a command after the refusal has stopped sending its file.
    pub fn close_refused_transfer(&mut self) {
        // The replies to ABOR come when the data connection has ended.
        let transfer = self.transfer.as_ref().filter(|it| !it.is_aborted);
        if let Some(refusal) = transfer.and_then(|it| it.refusal) {
            self.route.finish();
            self.close_transfer(refusal);
        }
    }

    /// RFC 959 section 4.1.3: two replies, if there was a transfer. They come after the end of the data connection, with which
    /// an incomplete upload is removed, and the lock on its file.
    pub fn abor(&mut self) {
        match self.transfer {
            None => {
                self.route.close();
                self.reply("226 there is no transfer");
            }
            Some(_) => self.abort_transfer(false),
        }
    }

    /// Aborts the transfer, if there is one. `abor_waits`: ABOR has its own reply later, after those to commands before it.
    pub fn abort_transfer(&mut self, abor_waits: bool) {
        let Some(transfer) = &mut self.transfer else {
            return;
        };
        transfer.abor_waits = abor_waits;
        match &self.route.way {
            Way::Connected(data) if transfer.received.is_none() => {
                transfer.is_aborted = true;
                data.abort();
            }
            _ => self.end_aborted_transfer(ABORTED),
        }
    }

    /// Replies to a command whose transfer was aborted before it began. It is counted and logged as one that has begun.
    pub fn refuse_transfer(&mut self, command: &Command) {
        self.restart = 0;
        if self.login.is_complete()
            && let Some(name) = transfer_name(command)
        {
            let path = match name {
                "LIST" | "NLST" | "MLSD" => without_options(&command.argument),
                _ => &command.argument,
            };
            self.record(name, path).finish(code(ABORTED), 0);
        }
        self.reply(ABORTED);
    }

    fn end_aborted_transfer(&mut self, reply: &str) {
        self.route.close();
        let abor_waits = self.transfer.as_ref().is_some_and(|it| it.abor_waits);
        self.end_transfer(reply);
        self.reply(reply);
        if !abor_waits {
            self.reply("226 the data connection is closed");
        }
        self.transfer_ended();
    }

    pub fn is_receiving(&self) -> bool {
        let transfer = self.transfer.as_ref();
        transfer.is_some_and(|transfer| transfer.is_upload)
    }

    /// Whether there is a transfer for which the client has not connected to the port.
    pub fn awaits_client(&self) -> bool {
        self.transfer.is_some() && matches!(self.route.way, Way::Passive(_))
    }

    pub fn is_aborting(&self) -> bool {
        let transfer = self.transfer.as_ref();
        transfer.is_some_and(|transfer| transfer.is_aborted)
    }

    /// Without a path: how it is going, also during a transfer. With one: a listing in the reply.
    pub fn stat(&mut self, path: &[u8]) {
        let path = without_options(path);
        if path.is_empty() {
            return self.status();
        }
        let listing = self.listing_producer(path, Format::Long);
        match listing.and_then(|(_, producer)| Ok((producer, self.open_file()?))) {
            Ok((producer, open_file)) => {
                self.send_listing(HookedProducer::new(producer, |_| drop(open_file)));
            }
            Err(refusal) => self.reply(refusal),
        }
    }

    fn status(&self) {
        let user = self.login.user();
        let kind = if self.is_ascii { "A" } else { "I" };
        let tls = if self.chat.tls().is_some() {
            "TLS"
        } else {
            "no TLS"
        };
        let stats = match &self.route.way {
            Way::Connected(data) => data.stats(),
            _ => Default::default(),
        };
        let transfer = match &self.transfer {
            None => "no transfer".to_owned(),
            Some(Transfer { text, .. }) => {
                let (sent, received) = (stats.bytes_out, stats.bytes_in);
                format!("a transfer {text}: {sent} bytes sent, {received} received")
            }
        };
        let text = crate::common::Escaped(transfer);
        let reply =
            format!("211-the state:\r\n user {user}, type {kind}, {tls}\r\n {text}\r\n211 end");
        self.reply(&reply);
    }
}

/// The number at the start of a reply.
fn code(reply: &str) -> u16 {
    reply
        .get(..3)
        .and_then(|code| code.parse().ok())
        .unwrap_or(0)
}

/// The path in `LIST -la path`, as old clients send it.
fn without_options(mut path: &[u8]) -> &[u8] {
    while path.starts_with(b"-") {
        let end = memchr::memchr(b' ', path);
        path = end.map_or(b"", |end| &path[end + 1..]);
    }
    path
}
