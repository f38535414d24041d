//! The check of a password. The program that includes this folder stores the passwords.

use std::time::Duration;

use asynchat::Chat;

/// How the check of a password has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checked {
    Right,
    /// The reply has this delay.
    Wrong(Duration),
    /// There was no check, because too many passwords wait, or it has failed.
    Busy,
}

/// Checks the name and the password of a client, and limits how many an address can try. `None`: this takes a while, and then
/// [`Session::password_checked`](super::Session::password_checked) is called. Until then the client's next command waits.
pub type CheckPassword = dyn Fn(&Chat, &str, &str) -> Option<Checked>;
