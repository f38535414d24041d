//! The parameters of CONFIG GET and CONFIG SET.

use std::collections::BTreeMap;

use asynchat::Limits;

use crate::store::glob;

/// Parameters that can be changed while the server runs.
const CHANGEABLE: &[&str] = &[
    "client-output-buffer-limit",
    "client-query-buffer-limit",
    "proto-max-bulk-len",
    "protected-mode",
    "requirepass",
];

pub struct Config {
    values: BTreeMap<&'static str, String>,
    /// `proto-max-bulk-len`.
    pub argument: i64,
    /// `client-query-buffer-limit`.
    pub query_buffer: usize,
    pub protected: bool,
    /// `requirepass`, empty if there is none.
    pub password: String,
    /// The hard limit of `client-output-buffer-limit` for subscribers: output that others cause.
    pub output: usize,
}

impl Default for Config {
    fn default() -> Self {
        let values = [
            ("appendfsync", "everysec"),
            ("appendonly", "no"),
            ("bind", "127.0.0.1"),
            (
                "client-output-buffer-limit",
                "normal 0 0 0 slave 0 0 0 pubsub 33554432 0 0",
            ),
            ("client-query-buffer-limit", "1073741824"),
            ("databases", "16"),
            ("dir", ""),
            ("maxclients", "10000"),
            ("maxmemory", "0"),
            ("maxmemory-policy", "noeviction"),
            ("port", "6379"),
            ("proto-max-bulk-len", "536870912"),
            ("protected-mode", "yes"),
            ("requirepass", ""),
            ("save", ""),
            ("tcp-keepalive", "0"),
            ("timeout", "0"),
        ];
        Config {
            values: values.map(|(name, value)| (name, value.to_owned())).into(),
            argument: 512 << 20,
            query_buffer: 1 << 30,
            protected: true,
            password: String::new(),
            output: 32 << 20,
        }
    }
}

impl Config {
    /// The parameters that match one of the patterns.
    pub fn matching(&self, patterns: &[&[u8]]) -> Vec<(&'static str, &str)> {
        let is_wanted = |name: &str| {
            patterns
                .iter()
                .any(|pattern| glob::matches(&pattern.to_ascii_lowercase(), name.as_bytes()))
        };
        let all = self.values.iter();
        all.filter(|(name, _)| is_wanted(name))
            .map(|(name, value)| (*name, value.as_str()))
            .collect()
    }

    /// Sets what the command line says.
    pub fn set_initial(&mut self, name: &'static str, value: impl Into<String>) {
        self.values.insert(name, value.into());
    }

    /// Changes a parameter, or says why not.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let Some((known, _)) = self.values.get_key_value(name) else {
            return Err(
                "Unknown option or number of arguments for CONFIG SET - ".to_owned()
                    + &format!("'{name}'"),
            );
        };
        let known = *known;
        let failed = |why: &str| {
            Err(format!(
                "CONFIG SET failed (possibly related to argument '{name}') - {why}"
            ))
        };
        if !CHANGEABLE.contains(&known) {
            return failed("can't set immutable config");
        }
        let mut stored = value.to_owned();
        match known {
            "requirepass" => self.password = value.to_owned(),
            "protected-mode" => match value {
                "yes" => self.protected = true,
                "no" => self.protected = false,
                _ => return failed("argument must be 'yes' or 'no'"),
            },
            "client-output-buffer-limit" => {
                let words: Vec<&str> = value.split_whitespace().collect();
                let &["pubsub", hard, "0", "0"] = words.as_slice() else {
                    return failed("only 'pubsub <hard limit> 0 0' can be set");
                };
                let Some(hard) = memory(hard) else {
                    return failed("argument must be a memory value");
                };
                self.output = if hard == 0 { Limits::UNLIMITED } else { hard };
                stored = format!("normal 0 0 0 slave 0 0 0 pubsub {hard} 0 0");
            }
            _ => {
                let Some(bytes) = memory(value).filter(|bytes| *bytes >= 1 << 20) else {
                    return failed("argument must be a memory value of at least 1mb");
                };
                match known {
                    "proto-max-bulk-len" => self.argument = bytes as i64,
                    _ => self.query_buffer = bytes,
                }
                stored = bytes.to_string();
            }
        }
        self.values.insert(known, stored);
        Ok(())
    }
}

/// A number of bytes, with a unit such as `kb` (1024) or `k` (1000).
fn memory(text: &str) -> Option<usize> {
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
        assert_eq!(found, [("proto-max-bulk-len", "536870912")]);
        assert!(config.set("proto-max-bulk-len", "1gb").is_ok());
        assert_eq!(config.argument, 1 << 30);
        assert!(config.set("port", "1").unwrap_err().contains("immutable"));
        assert!(
            config
                .set("no-such", "1")
                .unwrap_err()
                .starts_with("Unknown option")
        );
        assert!(config.set("protected-mode", "maybe").is_err());
    }
}
