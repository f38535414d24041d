//! Hashes of passwords, in the forms that `htpasswd -B` and `openssl passwd -6` write.

use std::fmt::{self, Display};

use sha_crypt::password_hash::PasswordVerifier;
use sha_crypt::{Params, ShaCrypt};

/// The largest cost of bcrypt, which is an exponent, and the largest number of rounds of SHA-crypt. With either, a check takes
/// about a second.
const MAX_COST: u32 = 14;
const MAX_ROUNDS: u32 = 500_000;

/// The cost of hashes that are made here: some fifty milliseconds.
const COST: u32 = 10;

/// The longest password that is hashed here.
const MOST_BYTES: usize = 71;

const UNKNOWN: &str = "the password is not hashed with bcrypt or SHA-crypt: `htpasswd -nB NAME`, `openssl passwd -6` and \
     the option --hash-password make such a hash";
const MALFORMED: &str = "the hash of the password is malformed";
const TOO_SLOW: &str = "a check of the hash would take seconds";

/// The hash of a password, with its salt and its cost.
#[derive(Clone)]
pub enum PasswordHash {
    Bcrypt(String),
    /// SHA-crypt with SHA-256 or SHA-512.
    Sha(String),
}

impl PasswordHash {
    pub fn parse(text: &str) -> Result<PasswordHash, &'static str> {
        if ["$2a$", "$2b$", "$2y$"]
            .iter()
            .any(|it| text.starts_with(it))
        {
            let parts: bcrypt::HashParts = text.parse().map_err(|_| MALFORMED)?;
            return match parts.get_cost() {
                ..4 => Err(MALFORMED),
                4..=MAX_COST => Ok(PasswordHash::Bcrypt(text.to_owned())),
                _ => Err(TOO_SLOW),
            };
        }
        // A hash of SHA-256 has 32 bytes, which are 43 digits. A hash of SHA-512 has 64 bytes, which are 86 digits.
        let fields = match (text.strip_prefix("$5$"), text.strip_prefix("$6$")) {
            (Some(fields), _) => (fields, 43),
            (_, Some(fields)) => (fields, 86),
            _ => return Err(UNKNOWN),
        };
        check_sha(fields.0, fields.1)?;
        Ok(PasswordHash::Sha(text.to_owned()))
    }

    /// A new hash of a password.
    pub fn of(password: &str) -> Result<PasswordHash, String> {
        if password.contains('\0') {
            return Err("a password has no NUL".to_owned());
        }
        // bcrypt uses 72 bytes only, the last of which is a NUL.
        if password.len() > MOST_BYTES {
            let why = "a password for bcrypt has at most 71 bytes: use `openssl passwd -6`";
            return Err(why.to_owned());
        }
        let hash = bcrypt::non_truncating_hash(password, COST);
        let hash = hash.map_err(|error| format!("the password cannot be hashed: {error}"))?;
        Ok(PasswordHash::Bcrypt(hash))
    }

    /// Whether the hash is that of this password. This takes long. Both crates compare in constant time.
    pub fn is_of(&self, password: &[u8]) -> bool {
        // bcrypt repeats the password and a NUL until it has 72 bytes. So `a`, NUL, `a` would be as good as `a`.
        if password.contains(&0) {
            return false;
        }
        match self {
            PasswordHash::Bcrypt(hash) => bcrypt::verify(password, hash).unwrap_or(false),
            PasswordHash::Sha(hash) => {
                let hash = hash.as_str();
                ShaCrypt::default().verify_password(password, hash).is_ok()
            }
        }
    }
}

/// `[rounds=N$]SALT$HASH`, with so many digits in the hash.
fn check_sha(fields: &str, digits: usize) -> Result<(), &'static str> {
    let is_base64 = |text: &str| {
        text.bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"./".contains(&byte))
    };
    let (rounds, rest) = match fields.split_once('$') {
        Some((rounds, rest)) if rounds.starts_with("rounds=") => {
            let digits = rounds["rounds=".len()..].parse();
            let _: Params = rounds.parse().map_err(|_| MALFORMED)?;
            (digits.map_err(|_| MALFORMED)?, rest)
        }
        _ => (Params::RECOMMENDED_ROUNDS, fields),
    };
    match rest.split_once('$') {
        _ if rounds > MAX_ROUNDS => Err(TOO_SLOW),
        Some((salt, hash))
            if (1..=16).contains(&salt.len())
                && is_base64(salt)
                && hash.len() == digits
                && is_base64(hash) =>
        {
            Ok(())
        }
        _ => Err(MALFORMED),
    }
}

impl Display for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (PasswordHash::Bcrypt(hash) | PasswordHash::Sha(hash)) = self;
        f.write_str(hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of `secret`, made by `htpasswd -nbB -C 4`, `openssl passwd -5`, `openssl passwd -6`, and the last two by crypt(3) of
    /// glibc.
    const OF_SECRET: [&str; 5] = [
        "$2y$04$/80S5ZWgTBN7e27fyijNIupGmOrQ2r4vYGxi0ellEs2KCBaTTrRNi",
        "$5$l2NaPbY59iuUbqds$z7rdbs9EsrqJwgxmM9a6eSFGrgL8iypqEiIapKfzKx7",
        "$6$abcdefgh$ltjgWl6579NluT/Vi1nwEvcil.G5Nbc4NiXZaNGStk8PSwGfQv72N2CKPPrVACtLtip/cZ/1GM/O6IND4WQhG.",
        "$5$rounds=1000$saltsalt$eKLZU9t9OoPWrqOQsoTIKG0aYkZ5rGOoOQhiIvoSWX2",
        "$6$rounds=1000$saltsaltsaltsalt$cv7no.30n.S75jcCNBQv6o7WVXQ5AaB1EpIeSKwsNupcnQDQ0DsukcAPRNjPumwKIBg2JK5ii9uw5enNnnA4N/",
    ];

    #[test]
    fn a_hash_of_other_programs_is_that_of_one_password() {
        for text in OF_SECRET {
            let hash = PasswordHash::parse(text).unwrap();
            assert!(hash.is_of(b"secret"), "{text}");
            for other in [
                &b""[..],
                b"Secret",
                b"secret ",
                b"secret\0",
                b"secret\0secret",
                b"secret\0secret\0secret",
                b"secre",
                b"\xff",
            ] {
                assert!(!hash.is_of(other), "{text} {other:?}");
            }
            assert_eq!(hash.to_string(), text);
        }
    }

    #[test]
    fn a_hash_that_is_made_is_that_of_its_password() {
        let hash = PasswordHash::of("se:cret ü").unwrap().to_string();
        let hash = PasswordHash::parse(&hash).unwrap();
        assert!(hash.is_of("se:cret ü".as_bytes()) && !hash.is_of(b"se:cret"));
        let longest = "x".repeat(MOST_BYTES);
        assert!(
            PasswordHash::of(&longest)
                .unwrap()
                .is_of(longest.as_bytes())
        );
        let error = PasswordHash::of(&"x".repeat(72)).err().unwrap();
        assert!(error.contains("at most 71 bytes: use `openssl passwd -6`"));
        assert!(PasswordHash::of("secret\0secret").is_err());
    }

    #[test]
    fn what_is_no_hash_is_refused() {
        let salted = |n| format!("$6${}${}", "a".repeat(n), "b".repeat(86));
        let rounds = |n: &str| format!("$6$rounds={n}$a${}", "b".repeat(86));
        let bcrypt = |cost: &str| OF_SECRET[0].replacen("04", cost, 1);
        for text in [salted(1), salted(16), rounds("500000"), bcrypt("14")] {
            assert!(PasswordHash::parse(&text).is_ok(), "{text}");
        }
        for (text, why) in [
            ("secret".to_owned(), UNKNOWN),
            ("".to_owned(), UNKNOWN),
            ("ü".to_owned(), UNKNOWN),
            ("$1$a$b".to_owned(), UNKNOWN),
            ("$apr1$a$b".to_owned(), UNKNOWN),
            ("{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=".to_owned(), UNKNOWN),
            ("$2x$04$a".to_owned(), UNKNOWN),
            ("$2y$04$a".to_owned(), MALFORMED),
            (bcrypt("03"), MALFORMED),
            (bcrypt("15"), TOO_SLOW),
            (bcrypt("31"), TOO_SLOW),
            ("$6$".to_owned(), MALFORMED),
            ("$6$a".to_owned(), MALFORMED),
            ("$6$a$b".to_owned(), MALFORMED),
            (salted(0), MALFORMED),
            (salted(17), MALFORMED),
            (salted(1) + "$", MALFORMED),
            (salted(1).replace('b', ":"), MALFORMED),
            (rounds("999"), MALFORMED),
            (rounds(""), MALFORMED),
            (rounds("x"), MALFORMED),
            (rounds("500001"), TOO_SLOW),
        ] {
            assert_eq!(PasswordHash::parse(&text).err(), Some(why), "{text}");
        }
    }
}
