use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use asynchat::{AsyncChat, Channel, Chat, Error, Result};

#[derive(Default)]
pub struct Player {
    x: i32,
    speed: i32,
}

struct Session {
    player: Rc<RefCell<Player>>,
}

impl AsyncChat for Session {
    fn found_terminator(&mut self, line: &[u8]) -> Result {
        self.player.borrow_mut().speed = match line {
            b"left" => -1,
            b"right" => 1,
            _ => 0,
        };
        Ok(())
    }
}

pub type Players = Rc<RefCell<Vec<(Chat, Rc<RefCell<Player>>)>>>;

pub fn start(addr: &str, players: &Players) -> Result<Channel, Error> {
    let players = Rc::clone(players);
    asynchat::listen(addr, move |chat| {
        let player = Rc::default();
        players.borrow_mut().push((chat, Rc::clone(&player)));
        Session { player }
    })
}

pub fn run(players: &Players) -> Result {
    let mut next_frame = Instant::now();
    loop {
        next_frame += Duration::from_millis(20);
        while let Some(rest) = next_frame.checked_duration_since(Instant::now()) {
            if !asynchat::run_once(rest)? {
                return Ok(()); // nothing is registered any more
            }
        }
        players.borrow_mut().retain(|(chat, _)| chat.is_open());
        for (chat, player) in players.borrow().iter() {
            let mut player = player.borrow_mut();
            if player.speed != 0 {
                player.x += player.speed;
                write!(chat, "at {}\r\n", player.x);
            }
        }
    }
}
