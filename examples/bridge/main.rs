//! A bridge to a serial device: several TCP clients share a device whose output has no delimiters.
//!
//! A pause in the device's output ends a record. Each record is sent to every client as a line, in hexadecimal
//! or as text. Each line from a client is written to the device.
//!
//! ```text
//! socat -d -d pty,raw,echo=0,link=/tmp/device pty,raw,echo=0,link=/tmp/line &
//! cargo run --release --example bridge -- --device /tmp/line --listen 127.0.0.1:7070
//! nc 127.0.0.1 7070                                   # in another terminal
//! printf '\x01\x03\x02\x00\x2a' > /tmp/device         # the clients see 010302002a
//! ```
//!
//! When too much output is queued for the device, no client is read until the queue is empty.
//!
//! If the device is missing, for example unplugged, the bridge tries to open it every second.
//!
//! Ctrl-C and SIGTERM end it, and a second signal ends it at once. SIGHUP does nothing.

#[path = "../common/mod.rs"]
mod common;

#[cfg(unix)]
mod unix {
    use std::cell::{Cell, RefCell};
    use std::collections::HashMap;
    use std::fs::{File, OpenOptions};
    use std::os::fd::AsFd;
    use std::os::unix::fs::OpenOptionsExt;
    use std::path::PathBuf;
    use std::rc::Rc;
    use std::time::Duration;

    use asynchat::{
        AsyncChat, ChannelId, Chat, Close, Connector, Limits, Overflow, RecordLimit, Result,
        Server, Terminator,
    };
    use clap::{Parser, ValueEnum};
    use rustix::termios::{self, OptionalActions};

    use super::common;

    /// When more bytes than this are queued for the device, reading from the clients is paused. The value is
    /// below [`Limits::high_water`], because above that the device would not be read either.
    const DEVICE_HIGH_WATER: usize = 16 * 1024;

    /// Shares a serial device among TCP clients.
    #[derive(Parser)]
    #[command(after_help = common::SIGNALS)]
    struct Args {
        /// The device, for example /dev/ttyUSB0, or a pseudo-terminal.
        #[arg(long, value_name = "PATH")]
        device: PathBuf,
        /// The speed in bits a second. Default: the current setting.
        #[arg(long, value_name = "BAUD")]
        baud: Option<u32>,
        /// The address to listen on; port 0 chooses a free port.
        #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:7070")]
        listen: String,
        /// The length of the pause that ends a record, in milliseconds. Modbus RTU requires 3.5
        /// characters, or 1.75 ms above 19,200 baud; a USB adapter delays data by up to 16 ms.
        #[arg(long, value_name = "MS", default_value_t = 30)]
        gap: u64,
        /// The format of the lines.
        #[arg(long, value_enum, default_value_t = Form::Hex)]
        form: Form,
    }

    #[derive(Clone, Copy, ValueEnum)]
    enum Form {
        /// Hexadecimal digits, such as 010302002a
        Hex,
        /// Text with control characters escaped. Lines from clients are written with a CR at the end.
        Text,
    }

    struct Bridge {
        args: Args,
        device: RefCell<Option<Chat>>,
        clients: RefCell<HashMap<ChannelId, Chat>>,
        /// Whether reading from the clients is paused.
        clients_paused: Cell<bool>,
    }

    pub(super) fn main() -> Result {
        let args = Args::parse();
        common::log_to_stderr("info");
        let listen = args.listen.clone();
        let bridge = Rc::new(Bridge {
            args,
            device: RefCell::default(),
            clients: RefCell::default(),
            clients_paused: Cell::default(),
        });
        bridge.attach()?;
        let shared = Rc::clone(&bridge);
        let listener = Server::new(listen)
            .limits(Limits::default().connections(64))
            .refusal("too many clients\r\n")
            .listen(move |chat| Client {
                chat,
                bridge: Rc::clone(&shared),
            })?;
        common::shutdown_on_ctrl_c(Duration::from_secs(1))?;
        if let Some(addr) = listener.local_addr() {
            common::announce(addr);
        }
        asynchat::run()?;
        Ok(())
    }

    impl Bridge {
        /// Opens the device, or schedules another attempt.
        fn attach(self: &Rc<Self>) -> Result {
            let bridge = Rc::clone(self);
            match self.open() {
                Ok(device) => {
                    let path = self.args.device.display();
                    tracing::info!(%path, "the device is open");
                    let gap = Duration::from_millis(self.args.gap);
                    let chat = Connector::adopt(device).connect(|_| Device { bridge })?;
                    chat.set_terminator(Terminator::idle_gap(gap));
                    self.device.replace(Some(chat));
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot open the device");
                    self.retry_later();
                }
            }
            Ok(())
        }

        fn retry_later(self: &Rc<Self>) {
            let bridge = Rc::clone(self);
            asynchat::call_later(Duration::from_secs(1), move || {
                if let Err(error) = bridge.attach() {
                    tracing::error!(%error, "cannot use the device");
                }
            });
        }

        fn open(&self) -> Result<File> {
            let flags = rustix::fs::OFlags::NOCTTY | rustix::fs::OFlags::NONBLOCK;
            let device = OpenOptions::new()
                .read(true)
                .write(true)
                .custom_flags(flags.bits().cast_signed())
                .open(&self.args.device)
                .map_err(|error| format!("open {}: {error}", self.args.device.display()))?;
            if termios::isatty(device.as_fd()) {
                let mut how = termios::tcgetattr(&device)?;
                how.make_raw();
                if let Some(baud) = self.args.baud {
                    how.set_speed(baud)?;
                }
                termios::tcsetattr(&device, OptionalActions::Now, &how)?;
            }
            Ok(device)
        }

        /// Writes to the device. If too much is queued, reading from the clients is paused until the queue is
        /// empty.
        fn send(self: &Rc<Self>, device: &Chat, parts: &[&[u8]]) {
            device.push_slices(parts);
            if device.queued() > DEVICE_HIGH_WATER && !self.clients_paused.replace(true) {
                for client in self.clients.borrow().values() {
                    client.pause_reading();
                }
                let bridge = Rc::clone(self);
                device.push_hook(move || bridge.resume_clients());
            }
        }

        fn resume_clients(&self) {
            self.clients_paused.set(false);
            for client in self.clients.borrow().values() {
                client.resume_reading();
            }
        }

        fn send_to_clients(&self, line: &[u8]) {
            for client in self.clients.borrow().values() {
                client.push_slices(&[line, b"\r\n"]);
            }
        }
    }

    /// The handler of the device. A record is its output between two pauses.
    struct Device {
        bridge: Rc<Bridge>,
    }

    impl AsyncChat for Device {
        fn found_terminator(&mut self, record: &[u8]) -> Result {
            let line = match self.bridge.args.form {
                Form::Hex => record.iter().map(|byte| format!("{byte:02x}")).collect(),
                Form::Text => record.trim_ascii_end().escape_ascii().to_string(),
            };
            self.bridge.send_to_clients(line.as_bytes());
            Ok(())
        }

        /// The device sends without a pause. Output above the limit is discarded.
        fn handle_overflow(&mut self, _limit: &RecordLimit) -> Result<Overflow> {
            tracing::warn!("the device sent more than 8 KiB without a pause");
            Ok(Overflow::Discard)
        }

        fn handle_close(&mut self, why: &Close) {
            self.bridge.device.replace(None);
            self.bridge.resume_clients();
            if !why.is_local() {
                tracing::warn!(%why, "the device was closed");
                self.bridge.retry_later();
            }
        }
    }

    /// The handler of a client.
    struct Client {
        chat: Chat,
        bridge: Rc<Bridge>,
    }

    impl AsyncChat for Client {
        fn handle_connect(&mut self) -> Result {
            let mut clients = self.bridge.clients.borrow_mut();
            clients.insert(self.chat.id(), self.chat.clone());
            self.chat.set_terminator(Terminator::line());
            if self.bridge.clients_paused.get() {
                self.chat.pause_reading();
            }
            Ok(())
        }

        fn found_terminator(&mut self, line: &[u8]) -> Result {
            let device = self.bridge.device.borrow();
            let Some(device) = &*device else {
                self.chat.push("the device is away\r\n");
                return Ok(());
            };
            match self.bridge.args.form {
                Form::Text => self.bridge.send(device, &[line, b"\r"]),
                Form::Hex => match from_hex(line) {
                    Some(bytes) => self.bridge.send(device, &[&bytes]),
                    None => self.chat.push("not hexadecimal\r\n"),
                },
            }
            Ok(())
        }

        fn handle_close(&mut self, _: &Close) {
            self.bridge.clients.borrow_mut().remove(&self.chat.id());
        }
    }

    /// Parses hexadecimal digits. White space is ignored.
    fn from_hex(line: &[u8]) -> Option<Vec<u8>> {
        let digits: Vec<u32> = line
            .iter()
            .filter(|byte| !byte.is_ascii_whitespace())
            .map(|byte| char::from(*byte).to_digit(16))
            .collect::<Option<_>>()?;
        let pairs = digits.chunks_exact(2);
        if !pairs.remainder().is_empty() {
            return None;
        }
        pairs
            .map(|pair| u8::try_from(pair[0] * 16 + pair[1]).ok())
            .collect()
    }
}

#[cfg(unix)]
fn main() -> asynchat::Result {
    unix::main()
}

#[cfg(not(unix))]
fn main() -> asynchat::Result {
    Err("this program runs on Unix only: on other systems a serial device cannot be polled".into())
}
