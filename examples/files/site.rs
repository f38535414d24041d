//! What the command line asks for: the options of both protocols, and their listeners.

use std::rc::Rc;
use std::time::{Duration, SystemTime};

use asynchat::{Addr, Error, Limits, Result};
use tracing::warn;

use crate::access_log::AccessLog;
use crate::arguments::Arguments;
use crate::capacity::{self, Capacity};
use crate::descriptors;
use crate::ftp;
use crate::http::host::{Hosts, is_loopback};
use crate::http::{Options, Service};
use crate::status::Status;
use crate::tree::Tree;
use crate::users::{Logins, Shares, Users};

/// What HTTP and FTP share.
pub struct Site<'a> {
    arguments: &'a Arguments,
    /// HTTP and FTP count wrong passwords together.
    pub logins: Logins,
    pub access_log: Option<AccessLog>,
    pub status: Rc<Status>,
    /// The connections of each listener, and of each address.
    connections: usize,
    per_address: usize,
    open_files: Shares,
}

/// Where the site is served.
#[derive(Default)]
pub struct Addresses {
    pub http: Option<Addr>,
    pub https: Option<Addr>,
    pub ftp: Option<Addr>,
    /// FTP with TLS from the beginning.
    pub ftps: Option<Addr>,
    /// Whether FTP has AUTH TLS.
    ftp_has_tls: bool,
}

impl Site<'_> {
    pub fn new(arguments: &Arguments, users: Users) -> Result<Site<'_>> {
        let descriptors = descriptors::raise_limit();
        let capacity = Capacity::new(arguments.max_connections, arguments.sockets(), descriptors);
        let access_log = match &arguments.access_log {
            Some(path) => Some(AccessLog::open(path).map_err(|error| {
                Error::from(error).context(format_args!("--access-log {}", path.display()))
            })?),
            None => None,
        };
        Ok(Site {
            arguments,
            logins: Logins::new(users),
            access_log,
            status: Status::new(arguments.folder(), SystemTime::now),
            connections: capacity.connections,
            per_address: capacity::per_address(arguments.max_per_address, capacity.connections),
            open_files: Shares::new(capacity.files),
        })
    }

    /// Listens for what the command line asks for, on this thread's loop.
    pub fn listen(&self) -> Result<Addresses> {
        let mut addresses = Addresses::default();
        self.listen_for_http(&mut addresses)?;
        if self.arguments.has_ftp() {
            self.listen_for_ftp(&mut addresses)?;
        }
        Ok(addresses)
    }

    fn listen_for_http(&self, addresses: &mut Addresses) -> Result {
        let service = Service::new(self.open_tree()?, self.http_options()?);
        if let Some(address) = self.arguments.listen() {
            let listener = service.serve(address);
            let listener = listener.map_err(|e| e.context(format_args!("--listen {address}")))?;
            addresses.http = listener.local_addr();
        }
        if let Some(address) = self.arguments.tls_listen.as_deref() {
            let listener = service.serve_tls(address);
            let listener =
                listener.map_err(|e| e.context(format_args!("--tls-listen {address}")))?;
            addresses.https = listener.local_addr();
        }
        Ok(())
    }

    /// After HTTP: a data connection of FTP must not lead to its ports.
    fn listen_for_ftp(&self, addresses: &mut Addresses) -> Result {
        let mut options = self.ftp_options()?;
        let others = [&addresses.http, &addresses.https].into_iter().flatten();
        let ports = others.filter_map(|addr| addr.inet().map(|addr| addr.port()));
        options.other_ports = ports.collect();
        addresses.ftp_has_tls = options.tls.is_some();
        let service = ftp::Service::new(self.open_tree()?, options);
        if let Some(address) = self.arguments.ftp_listen() {
            match service.serve(address) {
                Ok(listener) => addresses.ftp = listener.local_addr(),
                Err(error) if !self.arguments.ftp.is_wanted() => {
                    warn!(%error, "there is no FTP: another --ftp-listen may help, or --no-ftp");
                }
                Err(error) => {
                    return Err(error.context(format_args!("--ftp-listen {address}")).into());
                }
            }
        }
        if let Some(address) = self.arguments.ftp.ftps_listen.as_deref() {
            let listener = service.serve_tls(address);
            let listener =
                listener.map_err(|e| e.context(format_args!("--ftps-listen {address}")))?;
            addresses.ftps = listener.local_addr();
        }
        Ok(())
    }

    fn open_tree(&self) -> Result<Tree> {
        let tree = Tree::open(self.arguments.folder(), self.arguments.follow_symlinks);
        let failed = |error| Error::from(error).context(self.arguments.folder().display());
        Ok(tree.map_err(failed)?)
    }

    fn limits(&self, defaults: Limits) -> Limits {
        defaults
            .connections(self.connections)
            .per_address(self.per_address)
    }

    fn http_options(&self) -> Result<Options> {
        let arguments = self.arguments;
        let defaults = Options::default();
        let tls = arguments.certificate.acceptor(&["http/1.1"])?;
        Ok(Options {
            hosts: Hosts::new(&arguments.host),
            anonymous: !arguments.no_anonymous,
            write: arguments.write,
            logins: self.logins.clone(),
            insecure_auth: arguments.insecure_auth,
            max_upload: arguments.max_upload,
            receive_time: Duration::from_secs(arguments.receive_time),
            grace: Duration::from_secs(arguments.grace),
            limits: self.limits(defaults.limits),
            open_files: self.open_files.clone(),
            proxies: arguments.proxy_protocol.clone(),
            deadlines: defaults
                .deadlines
                .idle(arguments.idle()?)
                .drain(Duration::from_secs(arguments.drain_time)),
            access_log: self.access_log.clone(),
            // Without a port for TLS a password can be sent in clear only.
            tls: arguments.tls_listen.as_ref().and(tls),
            status: Rc::clone(&self.status),
            has_status_page: !arguments.no_status,
            viewers: arguments.status_from.clone(),
            ..defaults
        })
    }

    fn ftp_options(&self) -> Result<ftp::Options> {
        let arguments = self.arguments;
        let defaults = ftp::Options::default();
        let drain = Duration::from_secs(arguments.drain_time);
        let input = Duration::from_secs(arguments.receive_time);
        Ok(ftp::Options {
            anonymous: !arguments.no_anonymous,
            write: arguments.write,
            logins: self.logins.clone(),
            insecure_auth: arguments.insecure_auth,
            max_upload: arguments.max_upload,
            ports: arguments.ftp.ftp_ports.clone(),
            passive_only: arguments.ftp.ftp_passive_only,
            address: arguments.ftp.ftp_address,
            idle: Duration::from_secs(arguments.ftp.ftp_idle),
            limits: self.limits(defaults.limits),
            // A transfer must not be idle before one of the others has passed.
            data_deadlines: defaults
                .data_deadlines
                .idle(Duration::from_secs(60).max(input).max(drain))
                .drain(drain)
                .input(input),
            grace: Duration::from_secs(arguments.grace),
            open_files: self.open_files.clone(),
            access_log: self.access_log.clone(),
            status: Rc::clone(&self.status),
            // Control connections, and data connections: some clients offer one name or the other.
            tls: arguments.certificate.replaceable(
                &["ftp", "ftp-data"],
                ftp::Security::from,
                ftp::Security::replace,
            )?,
            require_reuse: arguments.ftp.ftps_require_reuse,
            ..defaults
        })
    }
}

impl Addresses {
    /// Whether a listener that other hosts may reach takes a password in clear. With TLS, passwords are refused without it,
    /// unless `insecure_auth` is set.
    pub fn take_passwords_in_clear(&self, insecure_auth: bool) -> bool {
        let is_open = |addr: &Option<Addr>, has_tls: bool| {
            (!has_tls || insecure_auth) && addr.as_ref().is_some_and(|addr| !is_loopback(addr))
        };
        is_open(&self.http, self.https.is_some()) || is_open(&self.ftp, self.ftp_has_tls)
    }
}
