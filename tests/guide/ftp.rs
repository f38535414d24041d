use std::collections::VecDeque;
use std::ffi::OsStr;
use std::fs::File;
use std::path::Path;
use std::time::Duration;

use asynchat::{AsyncChat, Channel, ChannelId, Chat, Close, Eof, ReadProducer, Result, Server};

/// The session of a control connection.
struct Control {
    chat: Chat,
    /// The passive port, and the connection that came to it.
    passive: Option<Channel>,
    data: Option<Chat>,
    /// The file that waits for a data connection.
    requested: Option<File>,
    /// Between 150 and the reply that ends the transfer.
    transferring: bool,
    /// The commands that came meanwhile.
    waiting: VecDeque<String>,
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
            .once(Duration::from_secs(60))
            .on_close(move |why| {
                if matches!(why, Close::Timeout(_) | Close::Io(_)) {
                    let _ = closed.post(|control: &mut Control| control.nobody_came());
                }
            })
            .listen(move |data| {
                let (handle, control) = (data.clone(), connected.clone());
                // Fails, and ends the data connection, if the control connection has ended.
                connected.post(move |control: &mut Control| control.data_connected(handle))?;
                Ok(Data { control, id: data.id() })
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
        self.send_file();
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

    fn retrieve(&mut self, name: &str) {
        let is_plain = Path::new(name).file_name() == Some(OsStr::new(name));
        let file = File::open(name).ok().filter(|_| is_plain);
        match file {
            None => self.reply("550 no such file"),
            Some(_) if self.passive.is_none() && self.data.is_none() => self.reply("425 use EPSV first"),
            Some(file) => {
                self.reply("150 here it comes");
                self.transferring = true;
                self.requested = Some(file);
                self.send_file();
            }
        }
    }

    /// Sends the file when both the request and the data connection are here.
    fn send_file(&mut self) {
        let Some(data) = &self.data else { return };
        let Some(file) = self.requested.take() else { return };
        data.push_with_producer(ReadProducer::new(file));
        data.close_when_done();
    }

    /// `sent_all`: the kernel has accepted the whole file.
    fn data_closed(&mut self, id: ChannelId, sent_all: bool) -> Result {
        // An aborted connection is not this one any more.
        if self.data.take_if(|data| data.id() == id).is_none() || !self.transferring {
            return Ok(());
        }
        self.reply(match sent_all {
            true => "226 done",
            false => "426 the data connection has failed",
        });
        self.transfer_ended()
    }

    fn transfer_ended(&mut self) -> Result {
        self.transferring = false;
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
            "RETR" => self.retrieve(argument),
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

    fn handle_close(&mut self, _: &Close) {
        self.close_data();
    }
}

/// The session of a data connection, which only sends.
struct Data {
    control: Chat,
    id: ChannelId,
}

impl AsyncChat for Data {
    fn found_terminator(&mut self, _: &[u8]) -> Result {
        Ok(())
    }

    /// A client that only receives may finish sending at once.
    fn handle_eof(&mut self, _: &[u8]) -> Result<Eof> {
        Ok(Eof::StayOpen)
    }

    fn handle_close(&mut self, why: &Close) {
        let (id, sent_all) = (self.id, why.sent_all());
        let _ = self.control.post(move |control: &mut Control| control.data_closed(id, sent_all));
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
    })?;
    Ok(listener)
}

fn main() -> Result {
    serve("127.0.0.1:2121")?;
    asynchat::run()?;
    Ok(())
}
