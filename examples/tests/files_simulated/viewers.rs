//! Who may see the status page.

use std::net::SocketAddr;

use asynchat::Result;

use crate::http::Options;
use crate::http::host::Hosts;
use crate::site::{ADDR, ANN, Site, options, parse, statuses};
use crate::status_page::{client, get, local, request};

#[test]
fn only_clients_on_the_host_may_see_them() -> Result {
    const PRIVATE: [&str; 5] = [
        "/-/",
        "/-/events",
        "/-/metrics",
        "/-/status.css",
        "/-/status.js",
    ];
    let site = Site::with(Options {
        viewers: vec!["198.51.100.0/24".parse()?],
        ..options()
    })?;
    let status = |from: &str, path: &str, fields: &str| -> Result<u16> {
        let client = client(&site, from)?;
        client.send(request("HEAD", path, fields, ""));
        site.settle()?;
        Ok(parse(&client.take_received())[0].status)
    };
    for path in PRIVATE {
        assert_eq!(status("127.0.0.1:0", path, "")?, 200, "{path}");
        assert_eq!(status("127.9.9.9:0", path, "")?, 200, "{path}");
        assert_eq!(status("198.51.100.7:0", path, "")?, 200, "{path}");
        assert_eq!(status("192.0.2.9:0", path, "")?, 403, "{path}");
        assert_eq!(status("198.51.101.1:0", path, "")?, 403, "{path}");
        // A proxy on the host, or in the network of the viewers, forwards the request of somebody else.
        for field in [
            "X-Forwarded-For: 192.0.2.9",
            "X-Real-IP: 192.0.2.9",
            "Forwarded: for=_x",
            "Via: 1.1 x",
        ] {
            let fields = format!("{field}\r\n");
            assert_eq!(status("127.0.0.1:0", path, &fields)?, 403, "{field}");
            assert_eq!(status("198.51.100.7:0", path, &fields)?, 403, "{field}");
        }
    }
    // All clients of a container may have its address.
    let own = ADDR.parse::<SocketAddr>()?.ip();
    assert!(!own.is_loopback());
    assert_eq!(status(&format!("{own}:0"), "/-/", "")?, 403);
    assert_eq!(status("192.0.2.9:0", "/-/health", "")?, 200);
    assert_eq!(status("192.0.2.9:0", "/-/files.js", "")?, 200);
    // Without anonymous clients, all but the health needs a user.
    let private = Site::with(Options {
        anonymous: false,
        ..options()
    })?;
    assert_eq!(get(&private, "/-/health")?.status, 200);
    for path in PRIVATE {
        assert_eq!(get(&private, path)?.status, 401, "{path}");
        let head = request("HEAD", path, ANN, "");
        assert_eq!(statuses(&local(&private, &head)?), [200], "{path}");
    }
    // A refused client does not learn whether it could watch.
    let stranger = client(&site, "192.0.2.9:0")?;
    let reply = site.ask(&stranger, request("GET", "/-/events", "", ""))?;
    assert!(reply.starts_with("HTTP/1.1 403 "), "{reply}");
    Ok(())
}

#[test]
fn the_page_can_be_switched_off() -> Result {
    let site = Site::with(Options {
        has_status_page: false,
        ..options()
    })?;
    for path in ["/-/", "/-/events", "/-/metrics", "/-/status.js"] {
        assert_eq!(get(&site, path)?.status, 404, "{path}");
    }
    for path in ["/-/health", "/-/files.js"] {
        assert_eq!(get(&site, path)?.status, 200, "{path}");
    }
    Ok(())
}

/// DNS rebinding, from the browser of somebody who may see the page.
#[test]
fn the_page_is_shown_under_known_names_only() -> Result {
    let site = Site::with(Options {
        viewers: vec!["198.51.100.0/24".parse()?],
        ..options()
    })?;
    let status = |site: &Site, path: &str, target: &str, host: &str| -> Result<u16> {
        let client = client(site, "198.51.100.7:0")?;
        client.send(format!(
            "GET {target}{path} HTTP/1.1\r\nHost: {host}\r\n\r\n"
        ));
        site.settle()?;
        Ok(parse(&client.take_received())[0].status)
    };
    for path in ["/-/", "/-/metrics", "/-/status.js"] {
        for host in ["localhost:80", "192.0.2.1", "[2001:db8::1]:80"] {
            assert_eq!(status(&site, path, "", host)?, 200, "{path} {host}");
        }
        assert_eq!(status(&site, path, "", "evil.example")?, 421, "{path}");
        let absolute = status(&site, path, "http://evil.example", "localhost")?;
        assert_eq!(absolute, 421, "{path}");
    }
    assert_eq!(status(&site, "/-/events", "", "evil.example")?, 421);
    for path in ["/-/health", "/-/files.js", "/a.txt"] {
        assert_eq!(status(&site, path, "", "any.example")?, 200, "{path}");
    }
    let named = Site::with(Options {
        hosts: Hosts::new(&["box.example".to_owned()]),
        viewers: vec!["198.51.100.0/24".parse()?],
        ..options()
    })?;
    assert_eq!(status(&named, "/-/", "", "box.example")?, 200);
    Ok(())
}

#[test]
fn pages_of_other_sites_use_nothing_of_it() -> Result {
    let site = Site::new()?;
    for path in ["/-/", "/-/metrics", "/-/health", "/-/files.js"] {
        for (value, status) in [
            ("cross-site", 403),
            ("same-site", 403),
            ("same-origin", 200),
            ("none", 200),
        ] {
            let fields = format!("Sec-Fetch-Site: {value}\r\n");
            let replies = local(&site, &request("GET", path, &fields, ""))?;
            assert_eq!(statuses(&replies), [status], "{path} {value}");
        }
    }
    Ok(())
}

#[test]
fn a_link_of_another_site_leads_to_the_page() -> Result {
    let site = Site::new()?;
    for (path, mode, destination, status) in [
        ("/-/", "navigate", "document", 200),
        ("/-/", "navigate", "iframe", 403),
        ("/-/", "no-cors", "image", 403),
        ("/-/metrics", "navigate", "document", 403),
        ("/-/events", "navigate", "document", 403),
    ] {
        let fields = format!(
            "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: {mode}\r\nSec-Fetch-Dest: {destination}\r\n"
        );
        let replies = local(&site, &request("GET", path, &fields, ""))?;
        assert_eq!(statuses(&replies), [status], "{path} {mode} {destination}");
    }
    Ok(())
}

#[test]
fn a_proxy_can_name_the_client() -> Result {
    let site = Site::with(Options {
        proxies: vec!["127.0.0.0/8".parse()?],
        ..options()
    })?;
    let status = |header: &str| -> Result<u16> {
        let client = client(&site, "127.0.0.1:0")?;
        client.send(header);
        client.send(request("GET", "/-/metrics", "", ""));
        site.settle()?;
        Ok(parse(&client.take_received())[0].status)
    };
    assert_eq!(
        status("PROXY TCP4 198.51.100.7 192.0.2.1 5000 80\r\n")?,
        403
    );
    // On whose host is it?
    assert_eq!(status("PROXY TCP4 127.0.0.1 192.0.2.1 5000 80\r\n")?, 403);
    // Somebody whom the proxy does not name.
    assert_eq!(status("PROXY UNKNOWN\r\n")?, 403);
    Ok(())
}
