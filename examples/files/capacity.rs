//! How many connections and open files there can be, with so many descriptors.

use tracing::{info, warn};

/// The descriptors that are for neither: of the standard streams, the poller, the listeners, the logs and the shared folder,
/// of the folders on the way to a file, and of large files that wait to be closed on a thread.
const RESERVED: u64 = 64;

/// The connections of each listener, if nobody has said how many.
const CONNECTIONS: usize = 10_000;

/// The most descriptors of an open file: an upload also has its folder open.
const OF_A_FILE: u64 = 2;

#[derive(Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Of each listener.
    pub connections: usize,
    /// That requests and transfers have open while they are sent or received.
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
        match connections < wanted as u64 {
            true if asked.is_some() => warn!(
                wanted,
                possible = connections,
                descriptors,
                "the limit on descriptors is too low for --max-connections, which is lowered"
            ),
            true => info!(
                possible = connections,
                descriptors, "the limit on descriptors lowers the number of connections"
            ),
            false => {}
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_on_descriptors_lowers_the_number_of_connections() {
        for (asked, sockets, descriptors, connections, files) in [
            (None, 3, None, 10_000, usize::MAX),
            (None, 3, Some(1 << 20), 10_000, 509_256),
            (None, 1, Some(1024), 720, 120),
            (Some(5000), 6, Some(1024), 120, 120),
            (Some(100), 1, Some(1024), 100, 430),
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
}
