//! `test_certificate`: makes a TLS certificate for tests.
//!
//! ```text
//! cargo run --example test_certificate -- --out /tmp/tls
//! cargo run --example test_certificate -- --out /tmp/tls localhost news.example.org 192.0.2.1
//! ```
//!
//! writes three files: `cert.pem` and `key.pem` for a server, and `ca.pem` for its
//! clients, which trust what that authority has certified. The key of the authority
//! is not written: it could be used to deceive every client that trusts `ca.pem`.
//!
//! ```text
//! cargo run --example test_certificate -- --out /tmp/tls --ca /tmp/tls-ca
//! cargo run --example test_certificate -- --out /tmp/tls --ca /tmp/tls-ca --client ann
//! cargo run --example test_certificate -- --out /tmp/expired --ca /tmp/tls-ca --expired
//! ```
//!
//! With `--ca` one authority certifies all of them. The first call makes it, and
//! keeps its key in that directory. `--client` makes a certificate for a client,
//! `client.pem` and `client-key.pem`, and `--expired` one that has expired.
//!
//! The program prints commands to try. A server on an open network needs a
//! certificate of a public authority instead, for example of Let's Encrypt.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use asynchat::tls::ServerName;
use asynchat::{Error, Result};
use clap::Parser;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

/// Makes a TLS certificate for tests, and the authority that has certified it.
#[derive(Parser)]
#[command(name = "test_certificate")]
struct Arguments {
    /// The directory for cert.pem, key.pem and ca.pem. It is created if it does not
    /// exist. Files that exist are not overwritten.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,

    /// For how many days the certificate is valid. It is also valid for the day before
    /// now, because the clocks of clients may be slow.
    #[arg(long, value_name = "N", default_value_t = 90, value_parser = clap::value_parser!(u16).range(1..=3650))]
    days: u16,

    /// Makes a certificate for a client of this name, instead of one for a server:
    /// client.pem and client-key.pem.
    #[arg(long, value_name = "NAME", conflicts_with = "names")]
    client: Option<String>,

    /// Makes a certificate that has expired a day ago.
    #[arg(long)]
    expired: bool,

    /// Uses the authority in this directory, or makes one there if there is none:
    /// ca.pem and ca-key.pem. Whoever can read the key can deceive those who trust
    /// the authority.
    #[arg(long, value_name = "DIR")]
    ca: Option<PathBuf>,

    /// The names and addresses of the server.
    #[arg(value_name = "NAME", value_parser = server_name,
          default_values = ["localhost", "127.0.0.1", "::1"])]
    names: Vec<String>,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "test_certificate: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result {
    let out = &arguments.out;
    let authority = match &arguments.ca {
        Some(dir) => Authority::of(dir)?,
        None => Authority::new()?,
    };
    let (certificate, key) = certify(arguments, &authority)?;
    let (certificate_file, key_file) = match arguments.client {
        Some(_) => ("client.pem", "client-key.pem"),
        None => ("cert.pem", "key.pem"),
    };
    let mut files = vec![
        (key_file, &key, PRIVATE),
        (certificate_file, &certificate, PUBLIC),
    ];
    // Certificates of the same authority may be in the same directory.
    if fs::read_to_string(out.join("ca.pem")).ok().as_ref() != Some(&authority.certificate) {
        files.push(("ca.pem", &authority.certificate, PUBLIC));
    }
    write_files(out, &files)?;
    let hints = match &arguments.client {
        Some(name) => client_hints(out, name),
        None => hints(out, &arguments.names),
    };
    // A closed standard output is no failure: the files are written.
    let _ = io::stdout().write_all(hints.as_bytes());
    Ok(())
}

const PRIVATE: u32 = 0o600;
const PUBLIC: u32 = 0o644;

/// Writes texts to new files with these names and modes.
fn write_files(out: &Path, files: &[(&str, &String, u32)]) -> Result {
    let failed = |path: &Path, error: io::Error| Error::from(error).context(path.display());
    fs::create_dir_all(out).map_err(|error| failed(out, error))?;
    // All are checked before the first is written. A key beside another certificate would be of no use.
    for (name, ..) in files {
        let path = out.join(name);
        if fs::symlink_metadata(&path).is_ok() {
            return Err(format!("{}: the file exists already", path.display()).into());
        }
    }
    for (name, text, mode) in files {
        let path = out.join(name);
        create(&path, *mode)
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .map_err(|error| failed(&path, error))?;
    }
    Ok(())
}

/// What certifies the others.
struct Authority {
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Result<Authority> {
        Authority::with(KeyPair::generate()?, None)
    }

    /// The authority of this directory. If there is none, a new one whose key is kept there.
    fn of(dir: &Path) -> Result<Authority> {
        let (certificate, key) = (dir.join("ca.pem"), dir.join("ca-key.pem"));
        if fs::symlink_metadata(&key).is_err() {
            let key = KeyPair::generate()?;
            let text = key.serialize_pem();
            let authority = Authority::with(key, None)?;
            let files = [
                ("ca-key.pem", &text, PRIVATE),
                ("ca.pem", &authority.certificate, PUBLIC),
            ];
            write_files(dir, &files)?;
            return Ok(authority);
        }
        let read = |path: &Path| {
            fs::read_to_string(path).map_err(|error| Error::from(error).context(path.display()))
        };
        let key_text = read(&key)?;
        let pair = KeyPair::from_pem(&key_text)
            .map_err(|error| Error::new(error).context(key.display()))?;
        Authority::with(pair, Some(read(&certificate)?))
    }

    /// With a certificate that was made for the key before, or with a new one.
    fn with(key: KeyPair, certificate: Option<String>) -> Result<Authority> {
        let mut params = CertificateParams::default();
        set_validity(&mut params, -3651, 3650);
        // It certifies servers and clients, and no further authority.
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let name = "asynchat test authority";
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = match certificate {
            Some(certificate) => certificate,
            None => params.self_signed(&key)?.pem(),
        };
        let issuer = Issuer::new(params, key);
        Ok(Authority {
            certificate,
            issuer,
        })
    }
}

/// A certificate and its key, in the PEM format.
fn certify(arguments: &Arguments, authority: &Authority) -> Result<(String, String)> {
    let days = i64::from(arguments.days);
    let (name, purpose, mut params) = match &arguments.client {
        Some(name) => (
            name.as_str(),
            ExtendedKeyUsagePurpose::ClientAuth,
            CertificateParams::default(),
        ),
        None => (
            common_name(&arguments.names),
            ExtendedKeyUsagePurpose::ServerAuth,
            CertificateParams::new(arguments.names.as_slice())?,
        ),
    };
    if arguments.expired {
        set_validity(&mut params, -1 - days, -1);
    } else {
        set_validity(&mut params, -1, days);
    }
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![purpose];
    params.use_authority_key_identifier_extension = true;
    params.distinguished_name.push(DnType::CommonName, name);
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, &authority.issuer)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

/// Clients look at the names, and not at this one. It has at most 64 characters (RFC 5280 appendix A).
fn common_name(names: &[String]) -> &str {
    let name = names.iter().find(|name| name.len() <= 64);
    name.map_or("asynchat test server", String::as_str)
}

/// Makes it valid from so many days after now to so many.
fn set_validity(params: &mut CertificateParams, from: i64, to: i64) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = rcgen::date_time_ymd(1970, 1, 1) + now.unwrap_or_default();
    let after = |days: i64| {
        let span = Duration::from_secs(86_400 * days.unsigned_abs());
        if days < 0 { now - span } else { now + span }
    };
    (params.not_before, params.not_after) = (after(from), after(to));
}

/// Creates a file, with this mode from the beginning: nobody else can open a key in between.
fn create(path: &Path, mode: u32) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, mode);
    #[cfg(not(unix))]
    let _ = mode; // the file has the rights of its directory
    options.open(path)
}

fn hints(out: &Path, names: &[String]) -> String {
    let file = |name| out.join(name).display().to_string();
    let (ca, cert, key) = (file("ca.pem"), file("cert.pem"), file("key.pem"));
    let name = names.first().map_or("localhost", String::as_str);
    format!(
        "{cert} and {key} are for the server, {ca} is for its clients.
The certificate is for {}.

a news server, and two clients:
  cargo run --release --example nntp -- --tls-cert {cert} --tls-key {key} --tls-listen 127.0.0.1:5630
  openssl s_client -connect 127.0.0.1:5630 -servername {name} -CAfile {ca} -crlf
  openssl s_client -starttls nntp -connect 127.0.0.1:1119 -servername {name} -CAfile {ca} -crlf
a mail server, and two clients:
  cargo run --release --example smtpd -- --maildir /tmp/mail --tls-cert {cert} --tls-key {key} --tls-listen 127.0.0.1:4650
  swaks --server 127.0.0.1:2525 --tls --to ann@localhost
  openssl s_client -starttls smtp -connect 127.0.0.1:2525 -servername {name} -CAfile {ca} -crlf
",
        names.join(", ")
    )
}

fn client_hints(out: &Path, name: &str) -> String {
    let file = |name| out.join(name).display().to_string();
    let (ca, cert, key) = (file("ca.pem"), file("client.pem"), file("client-key.pem"));
    format!(
        "{cert} and {key} are for the client {name}, {ca} is for its servers.

  openssl s_client -connect HOST:PORT -cert {cert} -key {key} -CAfile {ca} -crlf
"
    )
}

/// A host name, also one that begins with `*.`, or an address. In a certificate, a name has no dot at its end (RFC 5280
/// section 4.2.1.6).
fn server_name(text: &str) -> Result<String, String> {
    let text = text.strip_suffix('.').unwrap_or(text);
    let name = text.strip_prefix("*.").unwrap_or(text);
    match ServerName::try_from(name) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err("not a host name and not an address".to_owned()),
    }
}
