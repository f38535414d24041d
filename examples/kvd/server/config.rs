//! The parameters of CONFIG GET and CONFIG SET.

use std::collections::BTreeMap;

use super::output::OutputLimits;
use crate::store::{glob, number};

/// Parameters that have one value, which may be set.
const FIXED: &[&str] = &[
    "appendfsync",
    "appendonly",
    "bind",
    "maxclients",
    "maxmemory",
    "maxmemory-policy",
    "port",
    "save",
    "tcp-keepalive",
];

/// Parameters that can be changed while the server runs.
const CHANGEABLE: &[&str] = &[
    "client-output-buffer-limit",
    "client-query-buffer-limit",
    "maxmemory-clients",
    "proto-max-bulk-len",
    "protected-mode",
    "requirepass",
    "timeout",
    "tracking-table-max-keys",
];

/// No limit of the size of a request is smaller.
pub const LEAST_QUERY_BUFFER: usize = 1 << 20;

#[derive(Clone)]
pub struct Config {
    values: BTreeMap<&'static str, Vec<u8>>,
    /// `proto-max-bulk-len`.
    pub argument: i64,
    /// `client-query-buffer-limit`.
    pub query_buffer: usize,
    pub protected: bool,
    /// `requirepass`, any bytes, empty if there is none.
    pub password: Vec<u8>,
    /// `timeout`: after how many seconds an idle client is closed. 0 for never.
    pub timeout: u64,
    /// `client-output-buffer-limit`.
    pub output: OutputLimits,
    /// `maxmemory-clients`: of all results whose replies are not complete.
    pub results: usize,
    /// `tracking-table-max-keys`.
    pub tracked_keys: usize,
}

impl Default for Config {
    fn default() -> Self {
        let output = OutputLimits::default();
        let output_text = output.to_string();
        let values = [
            ("appendfsync", "everysec"),
            ("appendonly", "no"),
            ("bind", "127.0.0.1"),
            ("client-output-buffer-limit", &output_text),
            ("client-query-buffer-limit", "1073741824"),
            ("databases", "16"),
            ("dir", ""),
            ("maxclients", "10000"),
            ("maxmemory", "0"),
            ("maxmemory-clients", "1073741824"),
            ("maxmemory-policy", "noeviction"),
            ("port", "6379"),
            ("proto-max-bulk-len", "536870912"),
            ("protected-mode", "yes"),
            ("requirepass", ""),
            ("save", ""),
            ("tcp-keepalive", "300"),
            ("timeout", "0"),
            ("tracking-table-max-keys", "1000000"),
        ];
        Config {
            values: values.map(|(name, value)| (name, value.into())).into(),
            argument: 512 << 20,
            query_buffer: 1 << 30,
            protected: true,
            password: Vec::new(),
            timeout: 0,
            output,
            results: 1 << 30,
            tracked_keys: 1_000_000,
        }
    }
}

impl Config {
    /// The parameters that match one of the patterns.
    pub fn matching(&self, patterns: &[&[u8]]) -> Vec<(&'static str, &[u8])> {
        let is_wanted = |name: &str| {
            patterns
                .iter()
                .any(|pattern| glob::matches(&pattern.to_ascii_lowercase(), name.as_bytes()))
        };
        let all = self.values.iter();
        all.filter(|(name, _)| is_wanted(name))
            .map(|(name, value)| (*name, value.as_slice()))
            .collect()
    }

    /// Sets what the command line says.
    pub fn set_initial(&mut self, name: &'static str, value: impl Into<Vec<u8>>) {
        self.values.insert(name, value.into());
    }

    /// Changes parameters, all or none, or says why not.
    pub fn set_all<V: AsRef<[u8]>>(&mut self, pairs: &[(String, V)]) -> Result<(), String> {
        for (at, (name, _)) in pairs.iter().enumerate() {
            if !self.values.contains_key(name.as_str()) {
                return Err(unknown(name));
            }
            if pairs[..at].iter().any(|(other, _)| other == name) {
                return Err(failed(name, "duplicate parameter"));
            }
        }
        let mut changed = self.clone();
        for (name, value) in pairs {
            changed.set(name, value)?;
        }
        *self = changed;
        Ok(())
    }

    /// Changes a parameter, or says why not, in the words of CONFIG SET.
    pub fn set(&mut self, name: &str, value: impl AsRef<[u8]>) -> Result<(), String> {
        let Some((known, _)) = self.values.get_key_value(name) else {
            return Err(unknown(name));
        };
        let outcome = self.change(known, value.as_ref());
        outcome.map_err(|why| failed(name, &why))
    }

    /// Changes a parameter that there is, or says why not.
    pub fn change(&mut self, known: &'static str, value: &[u8]) -> Result<(), String> {
        if known == "requirepass" {
            self.password = value.to_owned();
            self.values.insert(known, value.to_owned());
            return Ok(());
        }
        let failed = |why: &str| Err(why.to_owned());
        // The other parameters are text.
        let value = &*String::from_utf8_lossy(value);
        if FIXED.contains(&known) {
            // Clients and their tests set what is the case anyway.
            let only = &*String::from_utf8_lossy(&self.values[known]);
            let is_same = value.eq_ignore_ascii_case(only)
                || (memory(value).is_some() && memory(value) == memory(only));
            if is_same {
                return Ok(());
            }
            let why = match known {
                "appendfsync" | "appendonly" => "the command line of kvd sets it, with --dir",
                "bind" | "maxclients" | "port" => "the command line of kvd sets it",
                _ => "kvd has no other",
            };
            return failed(&format!("argument must be '{only}': {why}"));
        }
        if !CHANGEABLE.contains(&known) {
            return failed("can't set immutable config");
        }
        let mut stored = value.to_owned();
        match known {
            "timeout" => match number::integer(value.as_bytes()) {
                Some(seconds @ 0..=2_147_483_647) => self.timeout = seconds as u64,
                Some(_) => return failed("argument must be between 0 and 2147483647 inclusive"),
                None => return failed("argument couldn't be parsed into an integer"),
            },
            "tracking-table-max-keys" => match number::integer(value.as_bytes()) {
                Some(0) => self.tracked_keys = usize::MAX,
                Some(most @ 1..) => self.tracked_keys = most as usize,
                Some(_) => {
                    let most = i64::MAX;
                    return failed(&format!("argument must be between 0 and {most} inclusive"));
                }
                None => return failed("argument couldn't be parsed into an integer"),
            },
            "protected-mode" => match value {
                "yes" => self.protected = true,
                "no" => self.protected = false,
                _ => return failed("argument must be 'yes' or 'no'"),
            },
            "client-output-buffer-limit" => {
                if let Err(why) = self.output.set(value) {
                    return failed(why);
                }
                stored = self.output.to_string();
            }
            "maxmemory-clients" => {
                if value.ends_with('%') {
                    return failed(
                        "a percent value is a part of maxmemory, which kvd does not limit",
                    );
                }
                let Some(bytes) = memory(value) else {
                    return failed("argument must be a memory or percent value");
                };
                self.results = if bytes == 0 { usize::MAX } else { bytes };
                stored = bytes.to_string();
            }
            _ => {
                let Some(bytes) = memory(value) else {
                    return failed("argument must be a memory value");
                };
                if !(LEAST_QUERY_BUFFER..=i64::MAX as usize).contains(&bytes) {
                    let most = i64::MAX;
                    return failed(&format!(
                        "argument must be between {LEAST_QUERY_BUFFER} and {most} inclusive"
                    ));
                }
                match known {
                    "proto-max-bulk-len" => self.argument = bytes as i64,
                    _ => self.query_buffer = bytes,
                }
                stored = bytes.to_string();
            }
        }
        self.values.insert(known, stored.into());
        Ok(())
    }
}

fn unknown(name: &str) -> String {
    format!("Unknown option or number of arguments for CONFIG SET - '{name}'")
}

fn failed(name: &str, why: &str) -> String {
    format!("CONFIG SET failed (possibly related to argument '{name}') - {why}")
}

/// A number of bytes, perhaps with a unit such as `kb` (1024) or `k` (1000).
pub fn memory(text: &str) -> Option<usize> {
    let text = text.to_ascii_lowercase();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit: usize = match &text[digits.len()..] {
        "" | "b" => 1,
        "k" => 1_000,
        "kb" => 1 << 10,
        "m" => 1_000_000,
        "mb" => 1 << 20,
        "g" => 1_000_000_000,
        "gb" => 1 << 30,
        _ => return None,
    };
    digits.parse::<usize>().ok()?.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_found_by_pattern_and_checked_when_they_are_set() {
        let mut config = Config::default();
        let found = config.matching(&[b"proto*"]);
        assert_eq!(found, [("proto-max-bulk-len", &b"536870912"[..])]);
        assert!(config.set("proto-max-bulk-len", "1gb").is_ok());
        assert_eq!(config.argument, 1 << 30);
        assert!(config.set("dir", "/").unwrap_err().contains("immutable"));
        assert!(
            config
                .set("no-such", "1")
                .unwrap_err()
                .starts_with("Unknown option")
        );
        assert!(config.set("protected-mode", "maybe").is_err());
        assert!(config.set("maxmemory", "0mb").is_ok());
        assert!(config.set("port", "6379").is_ok());
        assert!(
            config
                .set("port", "1")
                .unwrap_err()
                .contains("must be '6379': the command line")
        );
        assert!(
            config
                .set("maxmemory", "1mb")
                .unwrap_err()
                .contains("must be '0': kvd has no other")
        );
        assert!(
            config
                .set("appendfsync", "always")
                .unwrap_err()
                .contains("must be 'everysec': the command line")
        );
        let limits = "pubsub 8mb 4mb 60";
        assert!(config.set("client-output-buffer-limit", limits).is_ok());
        let found = config.matching(&[b"client-output*"]);
        assert_eq!(
            found[0].1,
            b"normal 0 0 0 slave 0 0 0 pubsub 8388608 4194304 60"
        );
    }

    #[test]
    fn the_limit_of_results_is_a_number_of_bytes() {
        let mut config = Config::default();
        assert!(config.set("maxmemory-clients", "2mb").is_ok());
        for (value, why) in [
            (
                "5%",
                "a percent value is a part of maxmemory, which kvd does not limit",
            ),
            ("10xb", "argument must be a memory or percent value"),
        ] {
            let refusal = config.change("maxmemory-clients", value.as_bytes());
            assert_eq!(refusal, Err(why.to_owned()));
        }
        assert_eq!(config.results, 2 << 20);
    }

    #[test]
    fn several_parameters_are_set_all_or_none() {
        let mut config = Config::default();
        let mut set = |pairs: &[(&str, &str)]| {
            let pairs = pairs.iter().map(|(a, b)| ((*a).into(), *b));
            let outcome = config.set_all(&pairs.collect::<Vec<_>>());
            (outcome.is_ok(), config.password.clone())
        };
        let refused = (false, vec![]);
        assert_eq!(set(&[("requirepass", "a"), ("port", "1")]), refused);
        assert_eq!(set(&[("requirepass", "a"), ("nosuch", "1")]), refused);
        let twice = [("requirepass", "a"), ("requirepass", "b")];
        assert_eq!(set(&twice), refused);
        let both = [("requirepass", "a"), ("save", "")];
        assert_eq!(set(&both), (true, "a".into()));
    }
}
