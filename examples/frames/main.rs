//! A game that has its own loop with sixty frames a second. Players connect over TCP.
//!
//! ```text
//! cargo run --release --example frames
//! nc -C 127.0.0.1 7013          # in another terminal, for each player
//! ```
//!
//! Players move with `N`, `S`, `E` and `W`, stop with `STOP`, and leave with `QUIT`. `LOOK` shows the field
//! once, `WATCH` shows it whenever something has moved. In each frame the game calls `run_for`, with the time
//! that a frame can spare. It never waits for a player: a player who does not read misses pictures, and the
//! others are not affected.
//!
//! Ctrl-C and SIGTERM end it, and a second signal ends it at once. SIGHUP does nothing.

#[path = "../common/mod.rs"]
mod common;

use std::cell::RefCell;
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

use asynchat::{AsyncChat, Chat, Close, EventLoop, Result};
use clap::Parser;

const FRAME: Duration = Duration::from_micros(16_667);
const WIDTH: usize = 32;
const HEIGHT: usize = 10;

/// A field on which players move.
#[derive(Parser)]
#[command(after_help = common::SIGNALS)]
struct Args {
    /// The address to listen on; port 0 chooses a free port.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:7013")]
    listen: String,

    /// How many frames there are between two steps.
    #[arg(long, value_name = "N", default_value_t = 12, value_parser = clap::value_parser!(u64).range(1..))]
    step: u64,
}

fn main() -> Result {
    common::log_to_stderr("warn");
    let args = Args::parse();
    let event_loop = EventLoop::new()?;
    let field = Rc::new(RefCell::new(Field::default()));
    let shared = Rc::clone(&field);
    let listener = event_loop.listen(&args.listen, move |chat| Player {
        chat,
        field: Rc::clone(&shared),
    })?;
    common::shutdown_loop_on_ctrl_c(&event_loop, Duration::from_secs(1))?;
    if let Some(addr) = listener.local_addr() {
        common::announce(addr);
    }

    let (mut frame, mut due) = (0, Instant::now());
    while event_loop.run_for(FRAME / 4)? {
        frame += 1;
        if frame % args.step == 0 {
            field.borrow_mut().step();
        }
        field.borrow_mut().show();
        // Sleep until the next frame. If it is late, the frames after it are shifted.
        due += FRAME;
        match due.checked_duration_since(Instant::now()) {
            Some(rest) => thread::sleep(rest),
            None => due = Instant::now(),
        }
    }
    Ok(())
}

/// The field with the figures on it.
#[derive(Default)]
struct Field {
    figures: Vec<Figure>,
    /// Something has changed since the field was last shown.
    changed: bool,
}

struct Figure {
    chat: Chat,
    letter: char,
    at: (usize, usize),
    heading: (isize, isize),
    watching: bool,
}

impl Field {
    /// Adds a figure with the first free letter, and returns the letter. Returns `None` if no letter is free.
    fn enter(&mut self, chat: Chat) -> Option<char> {
        let taken = |letter| self.figures.iter().any(|figure| figure.letter == letter);
        let letter = ('A'..='Z').find(|letter| !taken(*letter))?;
        let number = letter as usize - 'A' as usize;
        let at = (7 * number % WIDTH, 3 * number % HEIGHT);
        let (heading, watching) = ((0, 0), false);
        self.figures.push(Figure {
            chat,
            letter,
            at,
            heading,
            watching,
        });
        self.changed = true;
        Some(letter)
    }

    fn leave(&mut self, chat: &Chat) {
        self.figures.retain(|figure| figure.chat.id() != chat.id());
        self.changed = true;
    }

    fn figure_of(&mut self, chat: &Chat) -> Option<&mut Figure> {
        let mut figures = self.figures.iter_mut();
        figures.find(|figure| figure.chat.id() == chat.id())
    }

    /// Moves the figures. A figure that leaves the field at one edge enters it at the opposite edge.
    fn step(&mut self) {
        for Figure { at, heading, .. } in &mut self.figures {
            at.0 = (at.0 + WIDTH).saturating_add_signed(heading.0) % WIDTH;
            at.1 = (at.1 + HEIGHT).saturating_add_signed(heading.1) % HEIGHT;
            self.changed |= *heading != (0, 0);
        }
    }

    /// Sends the field to watching players if it has changed. A player for whom a picture is still queued gets
    /// none.
    fn show(&mut self) {
        if !std::mem::take(&mut self.changed) {
            return;
        }
        let picture = bytes::Bytes::from(self.picture());
        for figure in &self.figures {
            if figure.watching && figure.chat.queued() == 0 {
                figure.chat.push(picture.clone());
            }
        }
    }

    /// The field as text: a line for each row, and a dot line.
    fn picture(&self) -> String {
        let mut rows = [['-'; WIDTH]; HEIGHT];
        for figure in &self.figures {
            rows[figure.at.1][figure.at.0] = figure.letter;
        }
        let lines = rows.map(|row| String::from_iter(row) + "\r\n");
        lines.concat() + ".\r\n"
    }
}

/// The handler of a player's connection.
struct Player {
    chat: Chat,
    field: Rc<RefCell<Field>>,
}

impl AsyncChat for Player {
    fn handle_connect(&mut self) -> Result {
        match self.field.borrow_mut().enter(self.chat.clone()) {
            Some(letter) => write!(self.chat, "220 you are {letter}\r\n"),
            None => {
                self.chat.push("421 the field is full\r\n");
                self.chat.close_when_done();
            }
        }
        Ok(())
    }

    fn found_terminator(&mut self, line: &[u8]) -> Result {
        let mut field = self.field.borrow_mut();
        let command = line.to_ascii_uppercase();
        if command == b"LOOK" {
            write!(self.chat, "215 the field\r\n{}", field.picture());
            return Ok(());
        }
        let Some(figure) = field.figure_of(&self.chat) else {
            return Ok(());
        };
        match command.as_slice() {
            b"N" => figure.heading = (0, -1),
            b"S" => figure.heading = (0, 1),
            b"E" => figure.heading = (1, 0),
            b"W" => figure.heading = (-1, 0),
            b"STOP" => figure.heading = (0, 0),
            b"WATCH" => figure.watching = !figure.watching,
            b"QUIT" => {
                self.chat.push("221 bye\r\n");
                self.chat.close_when_done();
                return Ok(());
            }
            _ => {
                self.chat
                    .push("500 N, S, E, W, STOP, LOOK, WATCH or QUIT\r\n");
                return Ok(());
            }
        }
        self.chat.push("250 ok\r\n");
        Ok(())
    }

    fn handle_close(&mut self, _: &Close) {
        self.field.borrow_mut().leave(&self.chat);
    }
}
