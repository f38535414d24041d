//! AUTH TLS, and data connections with TLS (RFC 4217).

use std::sync::Arc;

use asynchat::Result;
use asynchat::tls::rustls::pki_types::ServerName;
use asynchat::tls::rustls::version::{TLS12, TLS13};
use asynchat::tls::rustls::{
    ClientConfig, ClientConnection, Connection, HandshakeKind, ServerConfig, ServerConnection,
};

use crate::ftp::{Options, Security};
use crate::site::{ADDR, CLIENT, Site, TLS_ADDR, codes_of, extended, options, passive};
use crate::tls::{TlsPeer, client_config, client_config_of, server_config};

fn secure_options() -> Options {
    Options {
        tls: Some(server_config().into()),
        ..options()
    }
}

/// A client after AUTH TLS and the login, with protected data connections.
fn secured(site: &Site) -> Result<TlsPeer> {
    let control = site.connect(CLIENT, ADDR.parse()?)?;
    assert_eq!(codes_of(&site.ask(&control, "AUTH TLS\r\n")?), "220 234");
    let mut control = site.handshake(control);
    let replies = site.ask_tls(
        &mut control,
        "USER ann\r\nPASS secret\r\nPBSZ 0\r\nPROT P\r\nTYPE I\r\n",
    )?;
    assert_eq!(codes_of(&replies), "331 230 200 200 200");
    Ok(control)
}

#[test]
fn files_are_transferred_with_tls() -> Result {
    let site = Site::with(secure_options())?;
    let mut control = secured(&site)?;
    // The handshake is before or after the command.
    for is_early in [true, false] {
        let port = extended(&site.ask_tls(&mut control, "EPSV\r\n")?);
        let mut data = TlsPeer::client(site.connect(CLIENT, port)?, client_config());
        if is_early {
            site.exchange(&mut data);
        }
        let replies = site.ask_tls(&mut control, "RETR a.txt\r\n")?;
        site.exchange(&mut data);
        assert_eq!(data.text(), "hello\nworld\n");
        assert!(data.is_closed());
        let replies = replies + &site.ask_tls(&mut control, "NOOP\r\n")?;
        assert_eq!(codes_of(&replies), "150 226 200");

        let port = extended(&site.ask_tls(&mut control, "EPSV\r\n")?);
        let mut data = TlsPeer::client(site.connect(CLIENT, port)?, client_config());
        if is_early {
            site.exchange(&mut data);
        }
        assert_eq!(
            codes_of(&site.ask_tls(&mut control, "STOR new\r\n")?),
            "150"
        );
        site.exchange(&mut data);
        data.send("content");
        let end = data.close_notify();
        data.peer.send(end);
        data.peer.finish();
        assert_eq!(
            codes_of(&site.ask_tls(&mut control, "NOOP\r\n")?),
            "226 200"
        );
        assert_eq!(site.dir.read("new").unwrap(), b"content");
    }
    // The server connects, and is the server of TLS.
    let client = site.network.listen("192.0.2.7:5001")?;
    let replies = site.ask_tls(&mut control, "PORT 192,0,2,7,19,137\r\nRETR a.txt\r\n")?;
    assert_eq!(codes_of(&replies), "200 150");
    let mut data = TlsPeer::client(client.accept().unwrap(), client_config());
    site.exchange(&mut data);
    assert_eq!(data.text(), "hello\nworld\n");
    assert_eq!(
        codes_of(&site.ask_tls(&mut control, "PROT C\r\n")?),
        "226 200"
    );
    Ok(())
}

/// `ftps://`: no AUTH TLS, and data connections use TLS without PBSZ and PROT.
#[test]
fn tls_can_be_used_from_the_beginning() -> Result {
    let site = Site::with(secure_options())?;
    let control = site.connect(CLIENT, TLS_ADDR.parse()?)?;
    assert!(control.take_received().is_empty());
    let mut control = site.handshake(control);
    let commands = "USER ann\r\nPASS secret\r\nTYPE I\r\nAUTH TLS\r\nPBSZ 0\r\n";
    let replies = site.ask_tls(&mut control, commands)?;
    assert_eq!(codes_of(&replies), "220 331 230 200 503 200");
    let port = extended(&site.ask_tls(&mut control, "EPSV\r\n")?);
    let mut data = site.handshake(site.connect(CLIENT, port)?);
    let replies = site.ask_tls(&mut control, "RETR a.txt\r\n")?;
    site.exchange(&mut data);
    assert_eq!(data.text(), "hello\nworld\n");
    let replies = replies + &site.ask_tls(&mut control, "PROT C\r\nEPSV\r\nRETR a.txt\r\n")?;
    assert_eq!(codes_of(&replies), "150 226 200 229 521");
    Ok(())
}

/// Somebody on the way has ended the connection, or the client does not speak TLS.
#[test]
fn a_transfer_with_tls_is_cut_without_its_end() -> Result {
    let site = Site::with(secure_options())?;
    let mut control = secured(&site)?;
    let port = extended(&site.ask_tls(&mut control, "EPSV\r\n")?);
    let mut data = site.handshake(site.connect(CLIENT, port)?);
    assert_eq!(
        codes_of(&site.ask_tls(&mut control, "STOR new\r\n")?),
        "150"
    );
    data.send("content");
    data.peer.finish();
    site.settle()?;
    assert_eq!(
        codes_of(&site.ask_tls(&mut control, "NOOP\r\n")?),
        "426 200"
    );
    assert_eq!(site.dir.names()?, ["a.txt", "dir"]);

    let port = extended(&site.ask_tls(&mut control, "EPSV\r\n")?);
    assert_eq!(
        codes_of(&site.ask_tls(&mut control, "STOR new\r\n")?),
        "150"
    );
    let data = site.connect(CLIENT, port)?;
    data.send("in clear");
    data.finish();
    site.settle()?;
    assert_eq!(
        codes_of(&site.ask_tls(&mut control, "NOOP\r\n")?),
        "425 200"
    );
    assert_eq!(site.dir.names()?, ["a.txt", "dir"]);

    // Nothing of a file is sent in clear, whenever the client connects.
    let replies = site.ask_tls(&mut control, "PROT C\r\nEPSV\r\n")?;
    let data = site.connect(CLIENT, extended(replies.lines().last().unwrap()))?;
    assert_eq!(
        codes_of(&site.ask_tls(&mut control, "PROT P\r\nRETR a.txt\r\n")?),
        "200 425"
    );
    assert!(data.received().is_empty());
    let port = extended(&site.ask_tls(&mut control, "EPSV\r\n")?);
    let data = site.connect(CLIENT, port)?;
    assert_eq!(
        codes_of(&site.ask_tls(&mut control, "RETR a.txt\r\n")?),
        "150"
    );
    assert!(data.received().is_empty());
    Ok(())
}

#[test]
fn passwords_need_tls_if_there_is_a_certificate() -> Result {
    let site = Site::with(secure_options())?;
    site.expect("USER ann", "530")?;
    site.expect("USER anonymous", "331")?;
    site.expect("PASS x", "230")?;
    site.expect("PBSZ 0", "503")?;
    site.expect("PROT P", "503")?;
    site.expect("AUTH GSSAPI", "504")?;
    assert!(
        site.command("FEAT")?
            .contains("\r\n AUTH TLS\r\n PBSZ\r\n PROT\r\n")
    );

    let mut control = secured(&site)?;
    let replies = site.ask_tls(&mut control, "AUTH TLS\r\nPROT S\r\nPROT x\r\n")?;
    assert_eq!(codes_of(&replies), "503 536 504");
    Ok(())
}

/// A file of a user is as secret as the password.
#[test]
fn the_files_of_a_user_need_tls_if_there_is_a_certificate() -> Result {
    for insecure_auth in [false, true] {
        let site = Site::with(Options {
            insecure_auth,
            ..secure_options()
        })?;
        let mut control = secured(&site)?;
        site.ask_tls(&mut control, "PROT C\r\n")?;
        for (command, codes) in [
            ("RETR a.txt", "150 226"),
            ("LIST", "150 226"),
            ("STOR new", "150"),
        ] {
            let port = extended(&site.ask_tls(&mut control, "EPSV\r\n")?);
            let data = site.connect(CLIENT, port)?;
            let replies = site.ask_tls(&mut control, &format!("{command}\r\n"))?;
            let codes = if insecure_auth { codes } else { "521" };
            assert_eq!(codes_of(&replies), codes, "{command}");
            assert_eq!(data.received().is_empty(), codes != "150 226");
        }
        // An anonymous client has no secrets.
        let control = site.connect(CLIENT, ADDR.parse()?)?;
        site.ask(&control, "USER anonymous\r\nPASS x\r\n")?;
        let port = extended(&site.ask(&control, "EPSV\r\n")?);
        let data = site.connect(CLIENT, port)?;
        let replies = site.ask(&control, "RETR a.txt\r\n")?;
        assert_eq!(codes_of(&replies), "150 226");
        assert_eq!(data.received(), b"hello\r\nworld\r\n");
        let user = codes_of(&site.ask(&control, "USER ann\r\n")?);
        assert_eq!(user, if insecure_auth { "331" } else { "530" });
    }
    Ok(())
}

/// CVE-2011-0411.
#[test]
fn what_came_in_clear_is_forgotten() -> Result {
    let site = Site::with(secure_options())?;
    let control = site.connect(CLIENT, ADDR.parse()?)?;
    let replies = site.ask(
        &control,
        "USER anonymous\r\nPASS x\r\nCWD dir\r\nAUTH TLS\r\n",
    )?;
    assert_eq!(codes_of(&replies), "220 331 230 250 234");
    let mut control = site.handshake(control);
    assert_eq!(codes_of(&site.ask_tls(&mut control, "PWD\r\n")?), "530");

    let control = site.connect(CLIENT, ADDR.parse()?)?;
    control.send("AUTH TLS\r\nUSER anonymous\r\nPASS x\r\nCWD dir\r\n");
    site.settle()?;
    assert!(control.has_ended());

    // What waits for the end of a transfer is no exception.
    site.expect("USER anonymous", "331")?;
    site.expect("PASS x", "230")?;
    let data = site.begin_large()?;
    site.expect("AUTH TLS\r\nUSER anonymous\r\nPASS x", "")?;
    data.start_reading(usize::MAX);
    assert_eq!(codes_of(&site.replies()?), "226 421");
    assert!(site.control.has_ended());
    Ok(())
}

/// RFC 4217 section 4: somebody else may have sent it.
#[test]
fn a_session_begins_anew_with_tls() -> Result {
    for is_binary in [false, true] {
        let site = Site::with(Options {
            insecure_auth: true,
            ..secure_options()
        })?;
        let control = site.connect(CLIENT, ADDR.parse()?)?;
        let replies = site.ask(
            &control,
            "USER ann\r\nPASS secret\r\nTYPE I\r\nCWD dir\r\nREST 6\r\nEPSV ALL\r\nEPSV\r\nRNFR big\r\nAUTH TLS\r\n",
        )?;
        let codes = "220 331 230 200 250 350 200 229 350 234";
        assert_eq!(codes_of(&replies), codes);
        let port = extended(replies.lines().nth(7).unwrap());
        let mut control = site.handshake(control);
        assert!(site.connect(CLIENT, port)?.has_ended());
        let login = "USER ann\r\nPASS secret\r\nPBSZ 0\r\nPROT P\r\n";
        let replies = site.ask_tls(&mut control, &format!("RNTO new\r\n{login}RNTO new\r\n"))?;
        assert_eq!(codes_of(&replies), "530 331 230 200 200 503");
        assert_eq!(site.dir.names()?, ["a.txt", "dir"]);
        assert_eq!(site.dir.read("dir/big").unwrap(), b"not yet");
        let replies = site.ask_tls(&mut control, "PWD\r\nPASV\r\n")?;
        assert!(replies.starts_with("257 \"/\" "), "{replies}");
        let port = passive(replies.lines().last().unwrap());
        // TYPE A is the default.
        let content = if is_binary {
            site.ask_tls(&mut control, "TYPE I\r\n")?;
            "hello\nworld\n"
        } else {
            "hello\r\nworld\r\n"
        };
        let mut data = site.handshake(site.connect(CLIENT, port)?);
        site.ask_tls(&mut control, "RETR a.txt\r\n")?;
        site.exchange(&mut data);
        assert_eq!(data.text(), content);
    }
    Ok(())
}

/// A client could guess for ever on one connection otherwise.
#[test]
fn wrong_passwords_before_tls_count_after_it() -> Result {
    let site = Site::with(Options {
        insecure_auth: true,
        ..secure_options()
    })?;
    let control = site.connect(CLIENT, ADDR.parse()?)?;
    let wrong = "USER ann\r\nPASS wrong\r\n";
    let replies = site.ask(&control, wrong.repeat(2) + "AUTH TLS\r\n")?;
    assert_eq!(codes_of(&replies), "220 331 530 331 530 234");
    let mut control = site.handshake(control);
    assert_eq!(codes_of(&site.ask_tls(&mut control, wrong)?), "331 421");
    assert!(control.peer.has_ended());
    Ok(())
}

/// Several clients can have one address. A stranger who connects to the port of another client is refused, as often as the
/// stranger tries, and the client is served after that.
#[test]
fn a_data_connection_can_have_to_resume_the_session_of_its_control_connection() -> Result {
    for version in [&TLS12, &TLS13] {
        let site = Site::with(Options {
            require_reuse: true,
            ..secure_options()
        })?;
        let [own, others, stranger] = [version; 3].map(client_config_of);
        let mut control = log_in(&site, &own)?;
        log_in(&site, &others)?;
        let is = |codes: &str, text: &str| (codes.to_owned(), text.to_owned());
        for _ in 0..2 {
            for config in [&others, &stranger] {
                assert_eq!(
                    fetch(&site, &mut control, config, false)?,
                    is("150 522 200", "")
                );
                assert_eq!(fetch(&site, &mut control, config, true)?, is("522 200", ""));
            }
        }
        for is_early in [false, true, false, true] {
            assert_eq!(
                fetch(&site, &mut control, &own, is_early)?,
                is("150 226 200", "hello\nworld\n")
            );
        }
    }
    Ok(())
}

/// The handshake of a refused client of TLS 1.2 was complete, so the client could resume it. A client need not wait for the
/// server's Finished, as rustls does. So the configurations are tested without a server, which would cut the connection before.
#[test]
fn only_the_session_of_the_control_connection_can_be_resumed() -> Result {
    for version in [&TLS12, &TLS13] {
        let security = Security::from(server_config()).for_session();
        let [own, stranger] = [version; 2].map(client_config_of);
        // Ticketers of rustls forget a key after twelve hours, and a control connection can be older.
        assert!(!security.control.ticketer.enabled() && !security.data.ticketer.enabled());
        assert_eq!(handshake(&security.control, &own)?, HandshakeKind::Full);
        // More often than the store has entries.
        for _ in 0..20 {
            assert_eq!(handshake(&security.data, &stranger)?, HandshakeKind::Full);
        }
        // rustls uses a ticket of TLS 1.3 once.
        for _ in 0..8 {
            assert_eq!(handshake(&security.data, &own)?, HandshakeKind::Resumed);
        }
        let other = Security::from(server_config()).for_session();
        assert_eq!(handshake(&other.data, &own)?, HandshakeKind::Full);
    }
    Ok(())
}

/// A handshake of the two, without a network.
fn handshake(server: &Arc<ServerConfig>, client: &Arc<ClientConfig>) -> Result<HandshakeKind> {
    let name = ServerName::try_from("localhost")?;
    let mut client = Connection::from(ClientConnection::new(Arc::clone(client), name)?);
    let mut server = Connection::from(ServerConnection::new(Arc::clone(server))?);
    while client.wants_write() || server.wants_write() {
        pass_on(&mut client, &mut server)?;
        pass_on(&mut server, &mut client)?;
    }
    Ok(server.handshake_kind().expect("the handshake is complete"))
}

fn pass_on(from: &mut Connection, to: &mut Connection) -> Result {
    let mut bytes = Vec::new();
    while from.wants_write() {
        from.write_tls(&mut bytes)?;
    }
    let mut bytes = &bytes[..];
    while !bytes.is_empty() {
        to.read_tls(&mut bytes)?;
        to.process_new_packets()?;
    }
    Ok(())
}

fn log_in(site: &Site, config: &Arc<ClientConfig>) -> Result<TlsPeer> {
    let control = site.connect(CLIENT, ADDR.parse()?)?;
    site.ask(&control, "AUTH TLS\r\n")?;
    let mut control = TlsPeer::client(control, Arc::clone(config));
    let commands = "USER ann\r\nPASS secret\r\nPBSZ 0\r\nPROT P\r\nTYPE I\r\n";
    let replies = site.ask_tls(&mut control, commands)?;
    assert_eq!(codes_of(&replies), "331 230 200 200 200");
    Ok(control)
}

/// The codes of the replies to a transfer whose data connection has this configuration, and what it has received.
fn fetch(
    site: &Site,
    control: &mut TlsPeer,
    config: &Arc<ClientConfig>,
    is_early: bool,
) -> Result<(String, String)> {
    let port = extended(&site.ask_tls(control, "EPSV\r\n")?);
    let mut data = TlsPeer::client(site.connect(CLIENT, port)?, Arc::clone(config));
    if is_early {
        data.exchange(|| site.settle().unwrap());
    }
    let replies = site.ask_tls(control, "RETR a.txt\r\n")?;
    data.exchange(|| site.settle().unwrap());
    let replies = replies + &site.ask_tls(control, "NOOP\r\n")?;
    Ok((codes_of(&replies), data.text()))
}

/// Nothing of what a stranger sends is stored.
#[test]
fn an_upload_that_does_not_resume_the_session_leaves_nothing() -> Result {
    let site = Site::with(Options {
        require_reuse: true,
        ..secure_options()
    })?;
    let mut control = secured(&site)?;
    let port = extended(&site.ask_tls(&mut control, "EPSV\r\n")?);
    let stored = site.ask_tls(&mut control, "STOR new\r\n")?;
    let mut data = TlsPeer::client(site.connect(CLIENT, port)?, client_config());
    data.exchange(|| site.settle().unwrap());
    data.send("content");
    let end = data.close_notify();
    data.peer.send(end);
    data.peer.finish();
    let replies = stored + &site.ask_tls(&mut control, "NOOP\r\n")?;
    assert_eq!(codes_of(&replies), "150 522 200");
    assert_eq!(site.dir.names()?, ["a.txt", "dir"]);
    Ok(())
}
