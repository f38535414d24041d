//! Who may use the server, and by which name.

use asynchat::Result;

use crate::http::Options;
use crate::http::host::Hosts;
use crate::site::{ADDR, ANN, Site, TLS_ADDR, options, parse, put, request};
use crate::tls::server_config;

const LOOPBACK: [&str; 2] = ["127.0.0.1:80", "[::1]:80"];

/// The status of a request for a file by this name of the server.
fn status(site: &Site, host: &str) -> Result<u16> {
    let request = format!("GET /a.txt HTTP/1.1\r\nHost: {host}\r\n\r\n");
    Ok(site.one(request)?.status)
}

/// RFC 9110 section 4.2.1.
#[test]
fn a_uri_without_a_host_is_refused() -> Result {
    let site = Site::new()?;
    for target in ["http:///a.txt", "https://:80/a.txt", "http://"] {
        for method in ["GET", "OPTIONS"] {
            let reply = site.one(request(method, target, "", ""))?;
            assert_eq!(reply.status, 400, "{method} {target}");
        }
    }
    assert_eq!(site.get("http://a/a.txt", "")?.status, 200);
    Ok(())
}

/// DNS rebinding: the name of a site leads to this host.
#[test]
fn on_loopback_only_known_names_are_served() -> Result {
    for addr in LOOPBACK {
        let site = Site::at(options(), addr)?;
        for host in [
            "localhost",
            "localhost:8080",
            "x.localhost",
            "127.0.0.1:8080",
            "[::1]:80",
            "",
        ] {
            assert_eq!(status(&site, host)?, 200, "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:8080",
            "localhost.evil.example",
            "a",
        ] {
            assert_eq!(status(&site, host)?, 421, "{host}");
        }
        // The reply names the option.
        for (host, text) in [
            (
                "box.example:8080",
                "its option --host box.example adds it\n",
            ),
            ("a!b", "its option --host adds one\n"),
        ] {
            let reply = site.one(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"))?;
            assert!(reply.text().ends_with(text), "{}", reply.text());
        }
        // The name in the target comes before the one in the field.
        let absolute = "GET http://evil.example/a.txt HTTP/1.1\r\nHost: localhost\r\n\r\n";
        assert_eq!(site.one(absolute)?.status, 421);
        let absolute = "GET http://localhost/a.txt HTTP/1.1\r\nHost: evil.example\r\n\r\n";
        assert_eq!(site.one(absolute)?.status, 200);
        // HTTP/1.0 need not have a name, and browsers do not speak it.
        assert_eq!(site.one("GET /a.txt HTTP/1.0\r\n\r\n")?.status, 200);
        // Pages of the server itself, and uploads with the right password.
        assert_eq!(site.get("/-/files.js", "")?.status, 421);
        assert_eq!(site.one(put("/new", "content"))?.status, 421);
        assert_eq!(site.dir.names()?, ["a.txt", "dir"]);
    }
    Ok(())
}

#[test]
fn names_of_the_server_are_added() -> Result {
    let named = || Options {
        hosts: Hosts::new(&["Box.example".to_owned()]),
        ..options()
    };
    for addr in [LOOPBACK[0], ADDR] {
        let site = Site::at(named(), addr)?;
        assert_eq!(status(&site, "box.example:80")?, 200);
        assert_eq!(status(&site, "192.0.2.1")?, 200);
        assert_eq!(status(&site, "evil.example")?, 421);
    }
    // Without the option, a server that others reach has the names that they know it by.
    assert_eq!(status(&Site::new()?, "box.example")?, 200);
    Ok(())
}

/// Pages of other sites could show a private image, or run a private script.
#[test]
fn other_sites_do_not_load_what_is_private() -> Result {
    let policy = |site: &Site| -> Result<Option<String>> {
        let reply = site.one(format!(
            "GET /a.txt HTTP/1.1\r\nHost: localhost\r\n{ANN}\r\n"
        ))?;
        assert_eq!(reply.status, 200);
        let found = reply.field("cross-origin-resource-policy");
        Ok(found.map(str::to_owned))
    };
    let same_origin = Some("same-origin".to_owned());
    for addr in LOOPBACK {
        assert_eq!(policy(&Site::at(options(), addr)?)?, same_origin);
    }
    let private = Options {
        anonymous: false,
        ..options()
    };
    assert_eq!(policy(&Site::with(private)?)?, same_origin);
    // What is public may be shown everywhere.
    assert_eq!(policy(&Site::new()?)?, None);
    Ok(())
}

#[test]
fn with_tls_a_password_in_clear_is_refused() -> Result {
    for insecure_auth in [false, true] {
        let site = Site::with(Options {
            tls: Some(server_config().into()),
            insecure_auth,
            ..options()
        })?;
        let refused = site.one(put("/new", "content"))?;
        assert_eq!(refused.status, if insecure_auth { 201 } else { 403 });
        assert_eq!(refused.field("www-authenticate"), None);
        assert_eq!(site.dir.read("new").is_some(), insecure_auth);
        // A browser that is not asked for a password does not send one.
        let unknown = site.one(request("PUT", "/new", "", "content"))?;
        assert_eq!(unknown.field("www-authenticate").is_some(), insecure_auth);
        assert_eq!(site.get("/a.txt", ANN)?.status, 200);

        let mut client = site.handshake(site.network.connect(TLS_ADDR)?);
        client.send(put("/with-tls", "content"));
        site.exchange(&mut client);
        assert_eq!(parse(&client.plaintext)[0].status, 201);
    }
    Ok(())
}

#[test]
fn reading_needs_a_user_if_nobody_is_anonymous() -> Result {
    let site = Site::with(Options {
        anonymous: false,
        write: false,
        ..options()
    })?;
    for path in ["/a.txt", "/dir/", "/none", "/-/files.js"] {
        let reply = site.get(path, "")?;
        assert_eq!(reply.status, 401, "{path}");
        assert!(reply.field("www-authenticate").is_some());
    }
    assert_eq!(
        site.get("/a.txt", "Authorization: Basic YW5uOndyb25n\r\n")?
            .status,
        401
    );
    assert_eq!(site.get("/a.txt", ANN)?.body, b"hello, world\n");
    assert_eq!(site.one(put("/new", "content"))?.status, 405);
    Ok(())
}
