//! Checks of passwords, on threads: each takes as long as thousands of other requests, and the loop must not wait for it.
//!
//! The checks of an address follow one another. So an address has one thread at most, its failures are counted before
//! its next check, and a client that opens many connections at once is checked once: then its password is known.
//!
//! The addresses take turns, and each has its share of the queue. So an address with many checks delays another one by one
//! check.

use std::cell::{Cell, RefCell};
use std::collections::{HashSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use asynchat::{Addr, AsyncChat, Chat, Result};

use super::Users;
use super::accepted::Accepted;
use super::check_thread::on_a_thread;
use super::login_limit::{Client, LoginLimit};
use super::shares;

/// The most checks that wait, in all and of one address. An address also has its share only ([`shares`]).
const QUEUE: usize = 1024;
const QUEUE_OF_CLIENT: usize = 64;

/// The longest name and the longest password in bytes (RFC 1929 section 2). The work of SHA-crypt grows with the square of
/// the password's length: a password of 24 KB takes seconds (CVE-2016-6515).
pub const LONGEST: usize = 255;

/// Whether a password is that of a user.
type Check = dyn Fn(&[u8], &[u8]) -> bool + Send + Sync;

/// How a log-in has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Login {
    Right,
    /// The name or the password is wrong.
    Wrong,
    /// The address has failed too often: no password from there is checked for this time.
    TooMany(Duration),
    /// The password was not checked, because too many others wait, or there was no thread, or the check has panicked.
    Busy,
}

/// The log-ins of a program. Clones share them, so that several services count failures together.
#[derive(Clone)]
pub struct Logins(Rc<Shared>);

impl Default for Logins {
    /// There is nobody who could log in.
    fn default() -> Logins {
        Logins::new(Users::default())
    }
}

struct Shared {
    is_empty: bool,
    current: RefCell<Rc<UserSet>>,
    /// How many checks run at a time. With 0 they run on the loop, which tests on virtual time need.
    threads: usize,
    limit: LoginLimit,
    /// How many passwords were wrong.
    wrong: Cell<u64>,
    queue: RefCell<Queue>,
}

/// The users, and the passwords that were right for them. Both are replaced together.
struct UserSet {
    check: Arc<Check>,
    accepted: Accepted,
}

#[derive(Default)]
struct Queue {
    /// The requests of each address. The next turn is that of the first one. None of the lists is empty.
    waiting: VecDeque<(Client, VecDeque<Request>)>,
    running: HashSet<Client>,
}

struct Request {
    client: Client,
    chat: Chat,
    name: Vec<u8>,
    password: Vec<u8>,
    then: Box<dyn FnOnce(Login)>,
}

impl Logins {
    /// Checks passwords on half of the cores.
    pub fn new(users: Users) -> Logins {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        Logins::with_threads(users, cores.div_ceil(2))
    }

    pub fn with_threads(users: Users, threads: usize) -> Logins {
        Logins::with_check(users.is_empty(), check_of(users), threads)
    }

    /// With another check than that of [`Users`].
    pub fn with_check(
        is_empty: bool,
        check: impl Fn(&[u8], &[u8]) -> bool + Send + Sync + 'static,
        threads: usize,
    ) -> Logins {
        Logins(Rc::new(Shared {
            is_empty,
            current: RefCell::new(UserSet::new(check)),
            threads,
            limit: LoginLimit::default(),
            wrong: Cell::default(),
            queue: RefCell::default(),
        }))
    }

    /// The users of log-ins that follow. Whoever is logged in stays so. If there were users before, nobody can do without a
    /// password afterwards.
    pub fn replace(&self, users: Users) {
        self.0.current.replace(UserSet::new(check_of(users)));
    }

    /// Whether there is nobody who could log in.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty
    }

    /// How many passwords, or names, were wrong until now.
    pub fn wrong(&self) -> u64 {
        self.0.wrong.get()
    }

    /// The delay of the reply to the last wrong password of an address, for protocols whose clients do not expect to learn
    /// how long to wait: `first` for its first one, and twice as long for each further one.
    pub fn reply_delay(&self, peer: Option<&Addr>, first: Duration) -> Duration {
        self.0.limit.delay(Client::new(peer), first)
    }

    /// Checks the password of a client. `None`: this takes a while, then `then` is called with its session, unless it has
    /// ended.
    pub fn check<S: AsyncChat>(
        &self,
        chat: &Chat,
        name: Vec<u8>,
        password: Vec<u8>,
        then: impl FnOnce(&mut S, Login) -> Result + 'static,
    ) -> Option<Login> {
        let session = chat.clone();
        let request = Request {
            client: Client::new(chat.peer_addr().as_ref()),
            chat: chat.clone(),
            name,
            password,
            then: Box::new(move |login| {
                // Fails if the connection has ended.
                let _ = session.post(move |session: &mut S| then(session, login));
            }),
        };
        let known = self.0.known(&request);
        if known.is_some() {
            return known;
        }
        if self.0.queue.borrow_mut().is_full(request.client) {
            return Some(Login::Busy);
        }
        self.0.queue.borrow_mut().add(request);
        self.0.start();
        None
    }
}

fn check_of(users: Users) -> impl Fn(&[u8], &[u8]) -> bool {
    move |name, password| users.admit(name, password)
}

impl UserSet {
    fn new(check: impl Fn(&[u8], &[u8]) -> bool + Send + Sync + 'static) -> Rc<UserSet> {
        Rc::new(UserSet {
            check: Arc::new(check),
            accepted: Accepted::new(),
        })
    }
}

impl Shared {
    /// The outcome, if it needs no check.
    fn known(&self, request: &Request) -> Option<Login> {
        if let Some(wait) = self.limit.wait(request.client) {
            return Some(Login::TooMany(wait));
        }
        if !request.is_plausible() {
            self.fail(request.client);
            return Some(Login::Wrong);
        }
        let accepted = &self.current.borrow().accepted;
        let is_right = accepted.has(&request.name, &request.password, asynchat::now());
        is_right.then_some(Login::Right)
    }

    fn start(self: &Rc<Self>) {
        while let Some(request) = self.next() {
            if request.chat.is_closing() {
                self.release(request.client);
            } else if let Some(login) = self.known(&request) {
                self.release(request.client);
                (request.then)(login);
            } else {
                self.run(request);
            }
        }
    }

    fn next(&self) -> Option<Request> {
        self.queue.borrow_mut().next(self.threads.max(1))
    }

    fn release(&self, client: Client) {
        self.queue.borrow_mut().running.remove(&client);
    }

    fn run(self: &Rc<Self>, request: Request) {
        let (users, shared) = (Rc::clone(&self.current.borrow()), Rc::clone(self));
        let check = Arc::clone(&users.check);
        let (name, password) = (request.name.clone(), request.password.clone());
        let check = move || check(&name, &password);
        if self.threads == 0 {
            asynchat::call_soon(move || shared.finish(request, &users, Some(check())));
        } else {
            on_a_thread(check, move |is_right| {
                shared.finish(request, &users, is_right);
            });
        }
    }

    /// `users` is the set that the check used. If it was replaced meanwhile, its remembered passwords are dropped with it.
    fn finish(self: &Rc<Self>, request: Request, users: &UserSet, is_right: Option<bool>) {
        self.release(request.client);
        let login = match is_right {
            Some(true) => Login::Right,
            Some(false) => Login::Wrong,
            None => Login::Busy,
        };
        match login {
            Login::Right => {
                let accepted = &users.accepted;
                accepted.insert(&request.name, &request.password, asynchat::now());
            }
            Login::Wrong => self.fail(request.client),
            Login::TooMany(_) | Login::Busy => {}
        }
        (request.then)(login);
        self.start();
    }

    fn fail(&self, client: Client) {
        self.wrong.set(self.wrong.get() + 1);
        self.limit.record_failure(client);
    }
}

/// What a client reads after [`Login::TooMany`].
pub fn too_many(wait: Duration) -> String {
    let seconds = wait.as_secs();
    format!("too many wrong passwords from your address: try again in {seconds} seconds")
}

impl Request {
    /// Whether there can be a user with this name and this password. The programs that make hashes accept no password with
    /// a NUL, and bcrypt would take `a`, NUL, `a` for `a`.
    fn is_plausible(&self) -> bool {
        self.name.len() <= LONGEST && self.password.len() <= LONGEST && !self.password.contains(&0)
    }
}

impl Queue {
    /// Whether no further request of this client may wait. The requests of sessions that have ended do not count.
    fn is_full(&mut self, client: Client) -> bool {
        self.has_most(client) && {
            for (_, requests) in &mut self.waiting {
                requests.retain(|it| !it.chat.is_closing());
            }
            self.waiting.retain(|(_, requests)| !requests.is_empty());
            self.has_most(client)
        }
    }

    fn has_most(&self, client: Client) -> bool {
        let (mut own, mut others) = (0, 0);
        for (of, requests) in &self.waiting {
            if *of == client {
                own += requests.len();
            } else {
                others += requests.len();
            }
        }
        own >= QUEUE_OF_CLIENT.min(shares::most(QUEUE, others))
    }

    fn add(&mut self, request: Request) {
        let of_client = |it: &&mut (Client, _)| it.0 == request.client;
        match self.waiting.iter_mut().find(of_client) {
            Some((_, requests)) => requests.push_back(request),
            None => self.waiting.push_back((request.client, [request].into())),
        }
    }

    /// The next request of an address of which none runs. The address goes to the end of the queue.
    fn next(&mut self, most: usize) -> Option<Request> {
        if self.running.len() >= most {
            return None;
        }
        let is_free = |it: &(Client, _)| !self.running.contains(&it.0);
        let first = self.waiting.iter().position(is_free)?;
        let (client, mut requests) = self.waiting.remove(first)?;
        let request = requests.pop_front()?;
        if !requests.is_empty() {
            self.waiting.push_back((client, requests));
        }
        self.running.insert(client);
        Some(request)
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::Mutex;
    use std::sync::mpsc::{Receiver, Sender, channel};

    use asynchat::{Connector, Server};

    use super::*;

    struct Session {
        chat: Chat,
        logins: Logins,
    }

    impl AsyncChat for Session {
        /// A password, or `NAME:PASSWORD`.
        fn found_terminator(&mut self, password: &[u8]) -> Result {
            let then = |session: &mut Session, login| {
                session.reply(login);
                Ok(())
            };
            let (name, password) = match password.iter().position(|byte| *byte == b':') {
                Some(colon) => (password[..colon].to_vec(), password[colon + 1..].to_vec()),
                None => (b"ann".to_vec(), password.to_vec()),
            };
            if let Some(login) = self.logins.check(&self.chat, name, password, then) {
                self.reply(login);
            }
            Ok(())
        }
    }

    impl Session {
        fn reply(&self, login: Login) {
            write!(self.chat, "{login:?}\r\n");
        }
    }

    /// A test that fails must end.
    const DEADLINE: Duration = Duration::from_secs(60);

    /// Log-ins whose checks each wait for the sender, and what was checked.
    fn gated(threads: usize) -> (Logins, Sender<()>, Receiver<Vec<u8>>) {
        let (release, gate) = channel::<()>();
        let (log, checked) = channel();
        let gate = Mutex::new((gate, log));
        let check = move |_: &[u8], password: &[u8]| {
            let gate = gate.lock().unwrap();
            let _ = gate.1.send(password.to_vec());
            gate.0.recv_timeout(DEADLINE).unwrap();
            match password {
                b"panic" => panic!("on purpose"),
                password => password == b"right",
            }
        };
        let logins = Logins::with_check(false, check, threads);
        (logins, release, checked)
    }

    /// Sends passwords over a connection. Calls `on_reply` with each reply, until it returns false.
    fn converse(
        logins: Logins,
        passwords: &[&str],
        mut on_reply: impl FnMut(&str) -> bool + 'static,
    ) -> Result {
        let make = move |chat| Session {
            chat,
            logins: logins.clone(),
        };
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = Server::new(any).listen(make)?;
        let addr = listener.local_addr().ok_or("no address")?;
        let client = Connector::new(addr).connect(move |_| {
            move |reply: &[u8]| {
                if !on_reply(std::str::from_utf8(reply)?) {
                    asynchat::stop();
                }
                Ok(())
            }
        })?;
        for password in passwords {
            write!(client, "{password}\r\n");
        }
        Ok(asynchat::run()?)
    }

    #[test]
    fn the_loop_goes_on_during_a_check() -> Result {
        let (logins, release, checked) = gated(1);
        // If the loop waited for the check, this timer would never fire.
        asynchat::call_later(Duration::from_millis(1), move || {
            asynchat::call_soon(move || release.send(()).unwrap());
        });
        converse(logins, &["right"], |reply| {
            assert_eq!(reply, "Right");
            false
        })?;
        assert_eq!(checked.recv()?, b"right");
        Ok(())
    }

    #[test]
    fn a_password_that_was_right_is_checked_once() -> Result {
        let (logins, release, checked) = gated(4);
        for _ in 0..3 {
            release.send(())?;
        }
        let mut replies = vec![];
        converse(
            logins,
            &["right", "right", "wrong", "right", "panic"],
            move |reply| {
                replies.push(reply.to_owned());
                match replies.len() {
                    5 => assert_eq!(replies, ["Right", "Right", "Wrong", "Right", "Busy"]),
                    _ => return true,
                }
                false
            },
        )?;
        let checked: Vec<_> = checked.try_iter().collect();
        assert_eq!(checked, [&b"right"[..], b"wrong", b"panic"]);
        Ok(())
    }

    /// A password that was right a short while ago is forgotten with its user.
    #[test]
    fn other_users_have_other_passwords() -> Result {
        let users = |password: &str| {
            let mut users = Users::default();
            users.add_in_clear(&format!("ann:{password}")).unwrap();
            users
        };
        let logins = Logins::with_threads(users("old"), 1);
        let ask = |passwords: &[&str], expected: &'static [&str]| {
            let mut expected = expected.iter();
            let check = move |reply: &str| {
                assert_eq!(Some(&reply), expected.next());
                expected.len() > 0
            };
            converse(logins.clone(), passwords, check)
        };
        ask(&["old", "new"], &["Right", "Wrong"])?;
        logins.replace(users("new"));
        ask(&["old", "new"], &["Wrong", "Right"])
    }

    /// However many connections an address has: its failures are counted before its next check.
    #[test]
    fn an_address_has_ten_guesses() -> Result {
        let (logins, release, checked) = gated(4);
        for _ in 0..20 {
            release.send(())?;
        }
        let mut replies = 0;
        converse(logins, &["wrong"; 60], move |reply| {
            replies += 1;
            match replies {
                1..=10 => assert_eq!(reply, "Wrong"),
                _ => assert!(reply.starts_with("TooMany("), "{reply}"),
            }
            replies < 60
        })?;
        assert_eq!(checked.try_iter().count(), 10);
        Ok(())
    }

    #[test]
    fn what_no_user_can_have_is_not_checked() -> Result {
        let (logins, release, checked) = gated(1);
        for _ in 0..2 {
            release.send(())?;
        }
        let longest = "x".repeat(LONGEST);
        let too_long = "x".repeat(LONGEST + 1);
        let long_name = format!("{longest}:x");
        let too_long_name = format!("{too_long}:x");
        let passwords = [
            &longest,
            &too_long,
            &long_name,
            &too_long_name,
            "secret\0secret",
            "secret\0",
        ];
        let mut left = passwords.len();
        converse(logins, &passwords, move |reply| {
            assert_eq!(reply, "Wrong");
            left -= 1;
            left > 0
        })?;
        let checked: Vec<_> = checked.try_iter().collect();
        assert_eq!(checked, [longest.as_bytes(), b"x"]);
        Ok(())
    }

    fn client(n: u8) -> Client {
        Client::new(Some(&SocketAddr::from(([192, 0, 2, n], 1)).into()))
    }

    /// A request of a client with this number.
    fn request(n: u8, chat: &Chat) -> Request {
        Request {
            client: client(n),
            chat: chat.clone(),
            name: vec![],
            password: vec![],
            then: Box::new(|_| {}),
        }
    }

    fn chats(count: usize) -> Result<Vec<Chat>> {
        let listener =
            Server::new(SocketAddr::from(([127, 0, 0, 1], 0))).listen(|_| |_: &[u8]| Ok(()))?;
        let addr = listener.local_addr().ok_or("no address")?;
        let connect = || Connector::new(addr.clone()).connect(|_| |_: &[u8]| Ok(()));
        let mut chats = vec![];
        for _ in 0..count {
            chats.push(connect()?);
        }
        Ok(chats)
    }

    /// Clients that leave before their passwords are checked do not stand in the way of others.
    #[test]
    fn requests_of_sessions_that_have_ended_do_not_count() -> Result {
        let chats = chats(QUEUE_OF_CLIENT)?;
        let mut queue = Queue::default();
        for chat in &chats {
            queue.add(request(1, chat));
        }
        assert!(queue.is_full(client(1)));
        chats[3].close();
        assert!(!queue.is_full(client(1)));
        assert_eq!(queue.waiting[0].1.len(), QUEUE_OF_CLIENT - 1);
        Ok(())
    }

    #[test]
    fn addresses_take_turns() -> Result {
        let chat = &chats(1)?[0];
        let mut queue = Queue::default();
        let next = |queue: &mut Queue| {
            queue.running.clear();
            queue.next(1).map(|request| request.client)
        };
        for _ in 0..3 {
            queue.add(request(1, chat));
        }
        assert!(next(&mut queue) == Some(client(1)));
        for n in [2, 3, 3] {
            queue.add(request(n, chat));
        }
        let order: Vec<_> = std::iter::from_fn(|| next(&mut queue)).collect();
        assert!(order == [1, 2, 3, 1, 3].map(client));
        Ok(())
    }

    /// A few addresses cannot take all of it.
    #[test]
    fn there_is_room_in_the_queue_for_another_address() -> Result {
        let chat = &chats(1)?[0];
        let mut queue = Queue::default();
        let mut counts = vec![];
        for n in 0..30 {
            let mut count = 0;
            while !queue.is_full(client(n)) {
                queue.add(request(n, chat));
                count += 1;
            }
            counts.push(count);
        }
        assert_eq!(counts[..14], [QUEUE_OF_CLIENT; 14]);
        assert_eq!(counts[14..20], [64, 32, 16, 8, 4, 2]);
        Ok(())
    }

    #[test]
    fn few_checks_of_an_address_wait() -> Result {
        let (logins, release, _checked) = gated(1);
        let mut replies = 0;
        converse(logins, &["right"; 1 + QUEUE_OF_CLIENT + 1], move |reply| {
            // The last one is refused at once, while the first one is checked.
            if replies == 0 {
                assert_eq!(reply, "Busy");
                release.send(()).unwrap();
            } else {
                assert_eq!(reply, "Right");
            }
            replies += 1;
            replies <= 1 + QUEUE_OF_CLIENT
        })
    }
}
