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
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
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
    let made = Made::new(&arguments.names, arguments.days)?;
    let out = &arguments.out;
    let failed = |path: &Path, error: io::Error| Error::from(error).context(path.display());
    fs::create_dir_all(out).map_err(|error| failed(out, error))?;
    let files = [
        ("key.pem", &made.key, 0o600),
        ("cert.pem", &made.certificate, 0o644),
        ("ca.pem", &made.authority, 0o644),
    ];
    // All are checked before the first is written. A key beside another certificate would be of no use.
    for (name, ..) in files {
        let path = out.join(name);
        if fs::symlink_metadata(&path).is_ok() {
            return Err(format!("{}: the file exists already", path.display()).into());
        }
    }
    for (name, text, mode) in files {
        let path = out.join(name);
        create(&path, mode)
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .map_err(|error| failed(&path, error))?;
    }
    let hints = hints(out, &arguments.names);
    // A closed standard output is no failure: the files are written.
    let _ = io::stdout().write_all(hints.as_bytes());
    Ok(())
}

/// Three texts in the PEM format.
struct Made {
    authority: String,
    certificate: String,
    key: String,
}

impl Made {
    fn new(names: &[String], days: u16) -> Result<Made, rcgen::Error> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = rcgen::date_time_ymd(1970, 1, 1) + now.unwrap_or_default();
        let day = |n: u16| Duration::from_secs(86_400) * u32::from(n);
        let (from, to) = (now - day(1), now + day(days));

        let mut params = CertificateParams::default();
        (params.not_before, params.not_after) = (from, to);
        // It certifies servers, and no further authority.
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let name = "asynchat test authority";
        params.distinguished_name.push(DnType::CommonName, name);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;

        let mut params = CertificateParams::new(names)?;
        (params.not_before, params.not_after) = (from, to);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        // Clients look at the names, and not at this one. It has at most 64 characters (RFC 5280 appendix A).
        let name = names.iter().find(|name| name.len() <= 64);
        let name = name.map_or("asynchat test server", String::as_str);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &authority)?;
        Ok(Made {
            authority: authority.pem(),
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        })
    }
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
