//! The options of the command line.

use std::path::{Path, PathBuf};
use std::time::Duration;

use asynchat::Result;
use asynchat::proxy_protocol::Network;
use clap::Parser;

use crate::certificate::CertificateOptions;
use crate::ftp::arguments::FtpArguments;
use crate::http;
use crate::numbers::{count, seconds};
use crate::size::size;
use crate::users::UserOptions;

/// Shares a folder over HTTP/1.1 and FTP.
///
/// The log goes to standard error. RUST_LOG=debug adds connections and replies.
///
/// At Ctrl-C or SIGTERM the program accepts no more, and ends when its connections have finished, at the latest after
/// --grace. A second signal ends it at once. SIGHUP opens the access log by its name once more, and reads the
/// certificate and the file of --passwords again, if there are any.
#[derive(Parser)]
#[command(version, name = "files")]
pub struct Arguments {
    /// The folder to share.
    #[arg(value_name = "DIR", required = true)]
    pub folder: Option<PathBuf>,

    /// The address to listen on, for HTTP; port 0 chooses a free port. Default: 127.0.0.1:8080, and FTP on 127.0.0.1:2121
    /// beside it. With this option, --tls-listen or --proxy-protocol, FTP needs --ftp-listen. With --tls-listen there is HTTP
    /// without TLS only if this option is given.
    #[arg(long, value_name = "HOST:PORT")]
    pub listen: Option<String>,

    /// The address to listen on, for HTTP with TLS.
    #[arg(
        long,
        value_name = "HOST:PORT",
        requires = "tls_cert",
        help_heading = "TLS"
    )]
    pub tls_listen: Option<String>,

    /// A name by which clients may call the server, beside `localhost` and addresses (repeatable).
    /// Requests with another one get a 421, if their connection is one to a loopback address, if
    /// there is this option, or if they are for the status page: a site must not read the folder
    /// or the page by a name that leads here.
    #[arg(long, value_name = "NAME", value_parser = http::host::name)]
    pub host: Vec<String>,

    /// Accept only connections of proxies in this network, which send the client's address with the
    /// PROXY protocol (repeatable): 10.0.0.0/8, ::1, unix:. Over HTTP; FTP has other clients. Whoever
    /// checks the health of the server has to send it, too: `curl --haproxy-protocol`, HAProxy with
    /// check-send-proxy.
    #[arg(long, value_name = "NETWORK")]
    pub proxy_protocol: Vec<Network>,

    /// Follow symbolic links, also out of the folder. An upload replaces a link. APPE and REST of FTP
    /// write in the file that it leads to.
    #[arg(long)]
    pub follow_symlinks: bool,

    /// Only users may read, too. Over HTTP and FTP.
    #[arg(long, help_heading = "Users")]
    pub no_anonymous: bool,

    /// Accept passwords, and over FTP the files of users, without TLS although there is TLS.
    #[arg(long, requires = "tls_cert", help_heading = "Users")]
    pub insecure_auth: bool,

    /// Let users upload, replace and delete files. Every user may change every file. An upload that was
    /// cut leaves nothing, and has to be sent again from its beginning. Only what APPE of FTP has added
    /// stays, and what STOR has after REST; the same user can continue it with REST and STOR. After a power failure the last
    /// uploads may be missing or empty.
    #[arg(long, help_heading = "Writing")]
    pub write: bool,

    /// The longest upload, in bytes, or with K, M or G behind the number.
    #[arg(long, value_name = "SIZE", default_value = "1G", help_heading = "Writing", value_parser = size)]
    pub max_upload: u64,

    /// Append a line for each request of HTTP and each transfer of FTP to this file, in the combined
    /// format of Apache. Lines are written after a second.
    #[arg(long, value_name = "FILE")]
    pub access_log: Option<PathBuf>,

    /// Also show the status page and the metrics below /-/ to clients with these addresses, such as
    /// 192.0.2.7 or 10.0.0.0/8 (repeatable). They show the addresses of clients and the paths that
    /// they request. Clients with a loopback address may see them in any case. With --no-anonymous all of
    /// them need a user, too. Requests with the fields of a reverse proxy do not get them.
    #[arg(long, value_name = "NETWORK")]
    pub status_from: Vec<Network>,

    /// Show the status page and the metrics to nobody. For a server behind a reverse proxy that adds
    /// no field to requests: all its clients would count as clients on the host of the proxy.
    #[arg(long, conflicts_with = "status_from")]
    pub no_status: bool,

    /// How many connections are served at a time. Further ones get a 503 and are closed. The addresses of
    /// --tls-listen, --ftp-listen and --ftps-listen each have a count of their own; they send an alert of
    /// TLS, a 421, or nothing (FTPS). If the limit on descriptors is too low for it, it is lowered, and
    /// the log says so. What is left is for files: when they are used up, or an address has half of what
    /// the others leave, a client gets a 503 or 450 and can try again. Default: 10000, or what the limit
    /// permits.
    #[arg(long, value_name = "N", value_parser = count(), help_heading = "Limits")]
    pub max_connections: Option<usize>,

    /// How many connections one address may have, of each of these. Behind a proxy, all connections have the address of
    /// the proxy, unless --proxy-protocol is given. Default: a tenth of --max-connections, at most 1000, and at least 16 or
    /// half of them.
    #[arg(long, value_name = "N", value_parser = count(), help_heading = "Limits")]
    pub max_per_address: Option<usize>,

    /// How long a connection may be idle between two requests: at least twice --receive-time. Default:
    /// 75, or that.
    #[arg(long, value_name = "SECONDS", value_parser = seconds(), help_heading = "Limits")]
    pub idle: Option<u64>,

    /// The time for the head of a request, and for each 64 KiB of an upload. Then the client
    /// gets a 408, or a 426 over FTP.
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds(), help_heading = "Limits")]
    pub receive_time: u64,

    /// The time in which a client has to take each 64 KiB of a reply.
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds(), help_heading = "Limits")]
    pub drain_time: u64,

    /// How long clients may finish transfers after Ctrl-C. A second Ctrl-C cuts them.
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = seconds(), help_heading = "Limits")]
    pub grace: u64,

    #[command(flatten)]
    pub users: UserOptions,

    #[command(flatten)]
    pub ftp: FtpArguments,

    #[command(flatten)]
    pub certificate: CertificateOptions,
}

impl Arguments {
    pub fn folder(&self) -> &Path {
        // It is required, except with --hash-password.
        self.folder.as_deref().unwrap_or(Path::new(""))
    }

    /// Where HTTP without TLS is. Who names an address with TLS only wants no other port to be open.
    pub fn listen(&self) -> Option<&str> {
        let default = self.tls_listen.is_none().then_some("127.0.0.1:8080");
        self.listen.as_deref().or(default)
    }

    /// Where FTP is. Who names an address of HTTP wants no other port to be open, and neither does who has a proxy before it.
    pub fn ftp_listen(&self) -> Option<&str> {
        let ftp = &self.ftp;
        let is_default = self.listen.is_none()
            && self.tls_listen.is_none()
            && self.proxy_protocol.is_empty()
            && ftp.ftps_listen.is_none()
            && !ftp.no_ftp;
        let default = is_default.then_some("127.0.0.1:2121");
        ftp.ftp_listen.as_deref().or(default)
    }

    pub fn has_ftp(&self) -> bool {
        self.ftp_listen().is_some() || self.ftp.ftps_listen.is_some()
    }

    /// How many descriptors the sockets of one connection of each listener take together. FTP has a second one, for a port
    /// or a data connection.
    pub fn sockets(&self) -> usize {
        let of_http = [self.listen(), self.tls_listen.as_deref()];
        let of_ftp = [self.ftp_listen(), self.ftp.ftps_listen.as_deref()];
        of_http.into_iter().flatten().count() + 2 * of_ftp.into_iter().flatten().count()
    }

    /// Refuses options that have no effect.
    pub fn check_addresses(&self) -> Result {
        let ftp = &self.ftp;
        let has_addresses = self.tls_listen.is_some() || ftp.has_addresses();
        if self.certificate.is_given() && !has_addresses {
            return Err("--tls-cert needs --tls-listen, --ftp-listen or --ftps-listen".into());
        }
        if ftp.has_options() && !self.has_ftp() {
            return Err("the options of FTP need --ftp-listen or --ftps-listen".into());
        }
        Ok(())
    }

    pub fn idle(&self) -> Result<Duration> {
        // A client that gets a 408 must not have been closed before.
        let least = self.receive_time.saturating_mul(2);
        match self.idle {
            Some(idle) if idle < least => Err(format!(
                "--idle {idle} is less than twice --receive-time {}",
                self.receive_time
            )
            .into()),
            idle => Ok(Duration::from_secs(idle.unwrap_or(least.max(75)))),
        }
    }

    /// Refuses to share what only the server may read: the log has the addresses and the names of users.
    pub fn check_secrets(&self) -> Result {
        let secrets = [
            ("--passwords", self.users.passwords.as_deref()),
            ("--tls-key", self.certificate.tls_key.as_deref()),
            ("--access-log", self.access_log.as_deref()),
        ];
        // What cannot be found here is reported by those who open it.
        let Ok(folder) = self.folder().canonicalize() else {
            return Ok(());
        };
        for (option, path) in secrets {
            if let Some(path) = path
                && canonical(path).is_some_and(|found| found.starts_with(&folder))
            {
                return Err(
                    format!("{option} {} is in the folder to share", path.display()).into(),
                );
            }
        }
        Ok(())
    }
}

/// The path without links. The file itself may have to be created.
fn canonical(path: &Path) -> Option<PathBuf> {
    let in_folder = || {
        let folder = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new(".")).canonicalize().ok()?;
        Some(folder.join(path.file_name()?))
    };
    path.canonicalize().ok().or_else(in_folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(options: &str) -> std::result::Result<Arguments, String> {
        let words = ["files", "."].into_iter().chain(options.split_whitespace());
        Arguments::try_parse_from(words).map_err(|error| error.to_string())
    }

    #[test]
    fn sizes_may_have_a_unit() {
        let size_of = |text: &str| parse(&format!("--max-upload={text}")).map(|it| it.max_upload);
        assert_eq!(size_of("1000000"), Ok(1_000_000));
        assert_eq!(size_of("500M"), Ok(500 << 20));
        assert_eq!(size_of("2G"), Ok(2 << 30));
        for wrong in ["0", "0K", "G", "1T", "1.5G", "-1", "17179869184G"] {
            assert!(
                size_of(wrong).is_err_and(|it| it.contains("such as")),
                "{wrong}"
            );
        }
    }

    #[test]
    fn the_name_of_a_host_has_no_scheme_port_or_path() {
        assert!(parse("--host files.example.org --host box").is_ok());
        for wrong in ["http://x/", "x:80", "x/", ""] {
            assert!(parse(&format!("--host={wrong}")).is_err(), "{wrong}");
        }
        // A client sends xn--mller-kva.example for it.
        let error = parse("--host müller.example").err().unwrap_or_default();
        assert!(error.contains("xn--"), "{error}");
    }

    #[test]
    fn ftp_is_beside_http_unless_an_address_is_named() -> Result {
        let ftp = |options: &str| {
            let parsed = parse(options)?;
            let checked = parsed.check_addresses();
            checked.map_err(|error| error.to_string())?;
            Ok::<_, String>(parsed.ftp_listen().map(ToOwned::to_owned))
        };
        let default = "127.0.0.1:2121".to_owned();
        assert_eq!(ftp(""), Ok(Some(default.clone())));
        assert_eq!(ftp("--ftp-ports 50000-50100"), Ok(Some(default)));
        assert_eq!(ftp("--ftp-listen a:21"), Ok(Some("a:21".to_owned())));
        assert_eq!(ftp("--listen a:80"), Ok(None));
        assert_eq!(ftp("--no-ftp"), Ok(None));
        let with_tls = "--tls-listen a:443 --tls-cert c --tls-key k";
        assert_eq!(ftp(with_tls), Ok(None));
        assert_eq!(ftp("--proxy-protocol ::1"), Ok(None));
        let both = "--listen a:80 --ftp-listen a:21";
        assert_eq!(ftp(both), Ok(Some("a:21".to_owned())));
        for wrong in [
            "--no-ftp --ftp-listen a:21",
            "--no-ftp --ftp-ports 1-2",
            "--no-ftp --ftp-passive-only",
            "--listen a:80 --ftp-ports 1-2",
            "--tls-cert c --tls-key k",
        ] {
            assert!(ftp(wrong).is_err(), "{wrong}");
        }
        Ok(())
    }

    #[test]
    fn a_connection_may_be_idle_for_twice_the_time_of_a_request() -> Result {
        let idle = |options: &str| parse(options)?.idle().map_err(|error| error.to_string());
        assert_eq!(idle(""), Ok(Duration::from_secs(75)));
        assert_eq!(idle("--receive-time 50"), Ok(Duration::from_secs(100)));
        assert_eq!(
            idle("--receive-time 5 --idle 10"),
            Ok(Duration::from_secs(10))
        );
        let error = "--idle 10 is less than twice --receive-time 30";
        assert_eq!(idle("--idle 10"), Err(error.to_owned()));
        Ok(())
    }

    #[test]
    fn passwords_and_logs_in_the_folder_are_refused() -> Result {
        // The tests run in the folder of the package.
        for inside in [
            "--passwords Cargo.toml",
            "--access-log Cargo.toml",
            "--access-log new.log",
            "--access-log ../examples/files/new.log",
        ] {
            let outcome = parse(inside)?.check_secrets();
            assert!(outcome.is_err_and(|it| it.to_string().contains("in the folder to share")));
        }
        parse("--access-log ../new.log --passwords ../Cargo.toml")?.check_secrets()
    }
}
