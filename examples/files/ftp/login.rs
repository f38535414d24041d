//! Who the client is, and what protects it: USER, PASS, and RFC 4217: AUTH, PBSZ, PROT.

use std::sync::Arc;

use asynchat::Error;
use tracing::info;

use super::Refusal;
use super::command::Command;
use super::session::Session;
use crate::author::Author;
use crate::names::Names;
use crate::users::{self, log_wrong_password};

#[derive(Default)]
pub struct Login {
    who: Who,
    failures: u32,
    protection: Protection,
}

#[derive(Default)]
enum Who {
    #[default]
    Unknown,
    /// After USER.
    Named(String),
    Anonymous,
    User(String),
}

/// Of data connections.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Protection {
    /// PBSZ comes first.
    #[default]
    Unset,
    Clear,
    Private,
}

impl Login {
    /// Clients of a connection that uses TLS from its beginning expect PROT P.
    pub fn new(begins_tls: bool) -> Login {
        Login {
            protection: if begins_tls {
                Protection::Private
            } else {
                Protection::Unset
            },
            ..Login::default()
        }
    }

    pub fn is_complete(&self) -> bool {
        matches!(self.who, Who::Anonymous | Who::User(_))
    }

    /// Whether data connections use TLS.
    pub fn is_private(&self) -> bool {
        self.protection == Protection::Private
    }

    /// The name of the user, for the log.
    pub fn user(&self) -> &str {
        match &self.who {
            Who::User(name) => name,
            _ => "anonymous",
        }
    }
}

impl Session {
    pub fn user(&mut self, command: &Command) {
        self.login.who = Who::Unknown;
        self.expect_login();
        let options = &self.service.options;
        match command.text() {
            None | Some("") => self.reply("501 a name is missing"),
            Some(name) if is_anonymous(name) && !options.anonymous => {
                self.reply("530 only users may log in");
            }
            // As vsftpd: everybody on the way could read the password.
            Some(name)
                if !is_anonymous(name) && options.users_need_tls() && self.chat.tls().is_none() =>
            {
                self.reply("530 use AUTH TLS before the password");
            }
            Some(name) => {
                self.login.who = Who::Named(name.to_owned());
                self.reply(if is_anonymous(name) {
                    "331 send PASS with any password"
                } else {
                    "331 send PASS with the password"
                });
            }
        }
    }

    pub fn pass(&mut self, command: &Command) {
        let name = match std::mem::take(&mut self.login.who) {
            Who::Named(name) => name,
            who => {
                self.login.who = who;
                return self.reply("503 USER first");
            }
        };
        let options = &self.service.options;
        if is_anonymous(&name) {
            self.login.who = Who::Anonymous;
            self.logged_in();
            return self.reply("230 logged in, reading is permitted");
        }
        let (user, password) = (name.clone().into_bytes(), command.argument.clone());
        let later = name.clone();
        let then = |session: &mut Session, login| {
            session.checked(later, login);
            Ok(())
        };
        match options.logins.check(&self.chat, user, password, then) {
            Some(login) => self.end_login(name, login),
            None => self.begin_wait(),
        }
    }

    /// The password was checked.
    pub fn end_login(&mut self, name: String, login: users::Login) {
        match login {
            users::Login::Right => {
                let author = Author::new(&name, self.connection.peer.as_ref());
                info!(%author, "logged in over FTP");
                self.login.who = Who::User(name);
                self.logged_in();
                self.reply("230 logged in");
            }
            users::Login::Busy => self.hang_up("421 the password cannot be checked now"),
            users::Login::Wrong => {
                log_wrong_password(name.as_bytes(), self.connection.peer.as_ref());
                self.refuse_login("the name or the password is wrong");
            }
            users::Login::TooMany(wait) => self.refuse_login(&users::too_many(wait)),
        }
    }

    fn refuse_login(&mut self, why: &str) {
        self.login.failures += 1;
        let most = self.service.options.max_failed_logins;
        if self.login.failures >= most {
            self.hang_up(&format!("421 {why}"));
        } else {
            self.reply(&format!("530 {why}"));
        }
    }

    /// Whether the client has to set PROT P before a transfer. RFC 4217 section 12.3: a file would be sent in clear, and
    /// somebody else could take its connection.
    pub fn needs_private_data(&self) -> bool {
        matches!(self.login.who, Who::User(_))
            && self.service.options.users_need_tls()
            && !self.login.is_private()
    }

    /// The user, if it may write.
    pub fn writer(&self) -> Result<Author, Refusal> {
        match &self.login.who {
            Who::User(name) if self.service.options.write => {
                Ok(Author::new(name, self.connection.peer.as_ref()))
            }
            _ => Err("550 writing needs a user and a password"),
        }
    }

    pub fn auth(&mut self, command: &Command) {
        let mechanism = command.text().unwrap_or_default().to_ascii_uppercase();
        if self.service.options.tls.is_none() {
            return self.reply("502 the server has no certificate");
        }
        if self.chat.tls().is_some() {
            return self.reply("503 TLS is up already");
        }
        // RFC 4217 section 2: TLS-C is another name.
        if mechanism != "TLS" && mechanism != "TLS-C" {
            return self.reply("504 use AUTH TLS");
        }
        // They were sent in clear, during a transfer, and may be somebody else's (CVE-2011-0411). Those that the crate
        // has not delivered yet are its business.
        if self.has_waiting() {
            return self.hang_up("421 wait for the reply to AUTH");
        }
        self.reply("234 begin TLS");
        if let Err(error) = self.begin_tls() {
            self.chat.close_with(error);
        }
    }

    pub fn begin_tls(&mut self) -> Result<(), Error> {
        let security = self.service.options.tls.as_ref();
        let security = security.ok_or_else(|| Error::new("there is no certificate"))?;
        let security = security.for_session();
        self.chat.start_tls(Arc::clone(&security.control))?;
        self.security = Some(security);
        Ok(())
    }

    pub fn forget_login(&mut self) {
        let failures = self.login.failures;
        self.login = Login {
            failures,
            ..Login::new(self.begins_tls)
        };
        self.expect_login();
        self.folder = Names::default();
        self.is_ascii = true;
        self.restart = 0;
        self.rename_from = None;
        self.route.reset();
    }

    pub fn pbsz(&mut self) {
        if self.chat.tls().is_none() {
            return self.reply("503 AUTH TLS first");
        }
        if self.login.protection == Protection::Unset {
            self.login.protection = Protection::Clear;
        }
        self.reply("200 PBSZ=0");
    }

    /// Applies to the data connections that follow.
    pub fn prot(&mut self, command: &Command) {
        if self.login.protection == Protection::Unset {
            return self.reply("503 PBSZ first");
        }
        self.login.protection = match command.text() {
            Some("P" | "p") => Protection::Private,
            Some("C" | "c") => Protection::Clear,
            Some("S" | "s" | "E" | "e") => return self.reply("536 use PROT P or PROT C"),
            _ => return self.reply("504 use PROT P or PROT C"),
        };
        self.route.close();
        self.reply("200 done");
    }
}

fn is_anonymous(name: &str) -> bool {
    name.eq_ignore_ascii_case("anonymous") || name.eq_ignore_ascii_case("ftp")
}
