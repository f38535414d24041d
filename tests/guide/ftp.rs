use std::collections::VecDeque;
use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use asynchat::{
    AsyncChat, AtShutdown, Channel, ChannelId, Chat, Close, Deadlines, Eof, ReadProducer, Result, Server,
    Terminator,
};
use tempfile::NamedTempFile;

/// How long a passive port waits for its connection, and a data connection for a command or for a byte.
const WAIT: Duration = Duration::from_secs(60);

/// What a command transfers.
enum Transfer {
    Send(File),
    /// Until it is complete the file has a temporary name. If it is dropped before, it is removed.
    Receive(NamedTempFile, String),
}

/// The session of a control connection.
struct Control {
    chat: Chat,
    /// The passive port, and the connection that came to it.
    passive: Option<Channel>,
    data: Option<Chat>,
    /// What waits for a data connection.
    requested: Option<Transfer>,
    /// Between 150 and the reply that ends the transfer.
    transferring: bool,
    /// The commands that came meanwhile.
    waiting: VecDeque<String>,
    /// The loop is shutting down: the transfer is the last one.
    is_last: bool,
}

impl Control {
    fn reply(&self, line: &str) {
        self.chat.push_slices(&[line.as_bytes(), b"\r\n"]);
    }

    /// EPSV, RFC 2428 section 3.
    fn open_passive_port(&mut self) -> Result {
        self.close_data();
        let own = self.chat.local_addr().and_then(|addr| addr.ip()).ok_or("no IP address")?;
        let client = self.chat.peer_addr().and_then(|addr| addr.ip());
        let (connected, closed) = (self.chat.clone(), self.chat.clone());
        let listener = Server::new((own, 0))
            // Another host must not receive the file (RFC 2577).
            .accept_if(move |peer| peer.ip() == client)
            .once(WAIT)
            .deadlines(Deadlines::default().idle(WAIT))
            .on_close(move |why| {
                if !matches!(why, Close::Local) {
                    let _ = closed.post(|control: &mut Control| control.nobody_came());
                }
            })
            .listen(move |data| {
                let handle = data.clone();
                // Fails, and ends the data connection, if the control connection has ended.
                connected.post(move |control: &mut Control| control.data_connected(handle))?;
                data.set_terminator(Terminator::none());
                data.pause_reading(); // until STOR comes
                Ok(Data { chat: data, control: connected.clone(), upload: None })
            })?;
        let addr = listener.local_addr().and_then(|addr| addr.inet()).ok_or("no IP address")?;
        self.reply(&format!("229 Entering Extended Passive Mode (|||{}|)", addr.port()));
        self.passive = Some(listener);
        Ok(())
    }

    fn data_connected(&mut self, data: Chat) -> Result {
        if self.has_open_port() {
            data.abort();
            return Ok(());
        }
        (self.passive, self.data) = (None, Some(data));
        self.begin_transfer();
        Ok(())
    }

    fn nobody_came(&mut self) -> Result {
        if self.has_open_port() {
            return Ok(());
        }
        self.passive = None;
        if self.requested.take().is_some() {
            self.reply("425 no data connection");
            self.transfer_ended()?;
        }
        Ok(())
    }

    /// A posted call of an earlier port may come after EPSV has opened another one.
    fn has_open_port(&self) -> bool {
        self.passive.as_ref().is_some_and(Channel::is_open)
    }

    fn request(&mut self, transfer: Option<Transfer>) {
        match transfer {
            None => self.reply("550 file unavailable"),
            Some(_) if self.passive.is_none() && self.data.is_none() => self.reply("425 use EPSV first"),
            Some(_) => {
                self.reply("150 the transfer begins");
                self.transferring = true;
                self.requested = transfer;
                self.begin_transfer();
            }
        }
    }

    /// Does nothing until both the request and the data connection are here.
    fn begin_transfer(&mut self) {
        let Some(data) = &self.data else { return };
        match self.requested.take() {
            None => {}
            Some(Transfer::Send(file)) => {
                data.push_with_producer(ReadProducer::new(file));
                data.close_when_done();
            }
            Some(Transfer::Receive(file, name)) => {
                // Fails if the data connection has ended, which its `handle_close` reports.
                let _ = data.post(move |data: &mut Data| {
                    data.upload = Some((file, name));
                    data.chat.resume_reading();
                    Ok(())
                });
            }
        }
    }

    fn data_closed(&mut self, id: ChannelId, reply: &str) -> Result {
        // An aborted connection is not this one any more.
        if self.data.take_if(|data| data.id() == id).is_none() || !self.transferring {
            return Ok(());
        }
        self.reply(reply);
        self.transfer_ended()
    }

    fn transfer_ended(&mut self) -> Result {
        self.transferring = false;
        if self.is_last {
            self.reply("421 shutting down");
            self.chat.close_when_done();
            return Ok(());
        }
        while !self.transferring
            && let Some(line) = self.waiting.pop_front()
        {
            self.command(&line)?;
        }
        Ok(())
    }

    fn command(&mut self, line: &str) -> Result {
        let (command, argument) = line.split_once(' ').unwrap_or((line, ""));
        match command.to_ascii_uppercase().as_str() {
            "USER" => self.reply("230 welcome"),
            "TYPE" => self.reply("200 ok"),
            "EPSV" => self.open_passive_port()?,
            "RETR" => {
                let file = plain_name(argument).and_then(|name| File::open(name).ok());
                self.request(file.map(Transfer::Send));
            }
            "STOR" => {
                let name = plain_name(argument).map(str::to_owned);
                let file = NamedTempFile::new_in(".").ok();
                self.request(file.zip(name).map(|(file, name)| Transfer::Receive(file, name)));
            }
            "ABOR" => {
                self.close_data();
                if self.transferring {
                    self.reply("426 aborted");
                }
                self.reply("226 closed");
                self.transfer_ended()?;
            }
            "QUIT" => {
                self.reply("221 bye");
                self.chat.close_when_done();
            }
            _ => self.reply("502 not implemented"),
        }
        Ok(())
    }

    fn close_data(&mut self) {
        self.requested = None;
        self.passive.take().iter().for_each(Channel::close);
        self.data.take().iter().for_each(Chat::abort);
    }
}

/// Not a path to another folder.
fn plain_name(name: &str) -> Option<&str> {
    (Path::new(name).file_name() == Some(OsStr::new(name))).then_some(name)
}

impl AsyncChat for Control {
    fn handle_connect(&mut self) -> Result {
        self.reply("220 ready");
        Ok(())
    }

    fn found_terminator(&mut self, line: &[u8]) -> Result {
        // Before ABOR a client may send the Telnet signals IP and Synch: RFC 959 section 4.1.3.
        let begin = line.iter().position(|byte| *byte < 0xf0).unwrap_or(line.len());
        let line = std::str::from_utf8(&line[begin..])?;
        if !self.transferring || line.eq_ignore_ascii_case("ABOR") {
            return self.command(line);
        }
        // A client may send all its commands at once. Each reply follows the one before it.
        if self.waiting.len() == 100 {
            return Err("too many commands during a transfer".into());
        }
        self.waiting.push_back(line.to_owned());
        Ok(())
    }

    /// A transfer is finished before the connection closes.
    fn handle_shutdown(&mut self) -> Result<AtShutdown> {
        if self.transferring {
            self.is_last = true;
            return Ok(AtShutdown::Stay);
        }
        self.reply("421 shutting down");
        Ok(AtShutdown::CloseWhenDone)
    }

    fn handle_close(&mut self, _: &Close) {
        self.close_data();
    }
}

/// The session of a data connection.
struct Data {
    chat: Chat,
    control: Chat,
    /// The file that is being received, and its name.
    upload: Option<(NamedTempFile, String)>,
}

impl AsyncChat for Data {
    fn found_terminator(&mut self, _: &[u8]) -> Result {
        Ok(())
    }

    fn collect_incoming_data(&mut self, chunk: &[u8]) -> Result {
        if let Some((file, _)) = &mut self.upload {
            file.write_all(chunk)?;
        }
        Ok(())
    }

    /// The end of the connection is the end of the file.
    fn handle_eof(&mut self, _: &[u8]) -> Result<Eof> {
        if let Some((file, name)) = self.upload.take() {
            file.persist(name)?;
        }
        Ok(Eof::CloseWhenDone)
    }

    /// The control connection closes it.
    fn handle_shutdown(&mut self) -> Result<AtShutdown> {
        Ok(AtShutdown::Stay)
    }

    fn handle_close(&mut self, why: &Close) {
        let reply = match why {
            Close::Handler(_) => "451 the file cannot be read or written",
            _ if self.upload.is_none() && why.sent_all() => "226 done",
            _ => "426 the data connection has failed",
        };
        let id = self.chat.id();
        let _ = self.control.post(move |control: &mut Control| control.data_closed(id, reply));
    }
}

fn serve(addr: &str) -> Result<Channel> {
    let listener = Server::new(addr).listen(|chat| Control {
        chat,
        passive: None,
        data: None,
        requested: None,
        transferring: false,
        waiting: VecDeque::new(),
        is_last: false,
    })?;
    Ok(listener)
}

fn main() -> Result {
    serve("127.0.0.1:2121")?;
    asynchat::run()?;
    Ok(())
}
