//! How many connections and open files there can be, with so many descriptors.

use tracing::{info, warn};

/// The descriptors that are for neither. 64 are for the standard streams, the poller, the listeners, the logs and the shared
/// folder, for the folders on the way to a file, and for parts of uploads that wait to be closed on a thread. 64 are for the
/// sockets of refused clients: the loop has no more of them at a time. 64 are for the sockets of connections that have ended,
/// whose last output is on its way. There can be more of these, which then take the descriptors of files. When a connection
/// cannot be accepted, the loop closes them.
const RESERVED: u64 = 3 * 64;

/// The connections of each listener, if nobody has said how many.
const CONNECTIONS: usize = 10_000;

/// The connections of an address, if nobody has said how many: a tenth of all, at most and at least so many. Browsers and
/// programs for downloads have up to 16.
const MOST_OF_ADDRESS: usize = 1000;
const LEAST_OF_ADDRESS: usize = 16;

/// The most descriptors of an open file: an upload also has its folder open.
const OF_A_FILE: u64 = 2;

#[derive(Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Of each listener.
    pub connections: usize,
    /// That requests and transfers have open while they are sent or received, and that were removed and wait to be closed.
    pub files: usize,
}

impl Capacity {
    /// `asked`: the connections of each listener, with --max-connections. `sockets`: how many one connection of each listener
    /// takes together. `descriptors`: the limit, if there is one. If it is too low, there are fewer connections, and a quarter
    /// of the descriptors is left for files.
    pub fn new(asked: Option<usize>, sockets: usize, descriptors: Option<u64>) -> Capacity {
        let wanted = asked.unwrap_or(CONNECTIONS);
        let Some(descriptors) = descriptors else {
            return Capacity {
                connections: wanted,
                files: usize::MAX,
            };
        };
        let free = descriptors.saturating_sub(RESERVED);
        let possible = (free - free / 4) / sockets as u64;
        let connections = (wanted as u64).min(possible).max(1);
        let is_lowered = connections < wanted as u64;
        if is_lowered && asked.is_some() {
            warn!(
                wanted,
                possible = connections,
                descriptors,
                "the limit on descriptors is too low for --max-connections, which is lowered"
            );
        } else if is_lowered {
            info!(
                wanted,
                possible = connections,
                descriptors,
                "the limit on descriptors is too low for the default of --max-connections, which is lowered for each listener"
            );
        }
        let left = free.saturating_sub(connections * sockets as u64);
        Capacity {
            connections: connections as usize,
            files: usize::try_from(left / OF_A_FILE)
                .unwrap_or(usize::MAX)
                .max(1),
        }
    }
}

/// How many connections an address may have, of those of a listener. `asked`: with --max-per-address. Otherwise no address can
/// take more than half, unless there is only one connection.
pub fn per_address(asked: Option<usize>, connections: usize) -> usize {
    asked.unwrap_or_else(|| {
        let tenth = (connections / 10).clamp(LEAST_OF_ADDRESS, MOST_OF_ADDRESS);
        tenth.min(connections / 2).max(1)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_on_descriptors_lowers_the_number_of_connections() {
        for (asked, sockets, descriptors, connections, files) in [
            (None, 3, None, 10_000, usize::MAX),
            (None, 3, Some(1 << 20), 10_000, 509_192),
            (None, 1, Some(1024), 624, 104),
            (Some(5000), 6, Some(1024), 104, 104),
            (Some(100), 1, Some(1024), 100, 366),
            (None, 3, Some(20), 1, 1),
        ] {
            let expected = Capacity { connections, files };
            assert_eq!(Capacity::new(asked, sockets, descriptors), expected);
            // All of them together have a descriptor.
            if let Some(descriptors) = descriptors.filter(|it| *it > RESERVED) {
                let most = (connections * sockets) as u64 + files as u64 * OF_A_FILE;
                assert!(most + RESERVED <= descriptors, "{descriptors}");
            }
        }
    }

    #[test]
    fn an_address_has_a_tenth_of_few_connections_unless_somebody_has_said_how_many() {
        for (asked, connections, of_address) in [
            (None, 100_000, 1000),
            (None, 10_000, 1000),
            (None, 624, 62),
            (None, 104, 16),
            (None, 20, 10),
            (None, 1, 1),
            (Some(1000), 624, 1000),
        ] {
            assert_eq!(per_address(asked, connections), of_address);
        }
    }
}
