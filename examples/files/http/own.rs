//! What the server itself has, below `/-/`: the status page and what belongs to it.
//!
//! The status page shows who requests what. So only clients on this host may see it, and those of
//! [`Options::viewers`](super::Options::viewers), under a name that is not one of another site. Nothing here can be loaded into
//! the pages of other sites.

use asynchat::proxy_protocol::Network;
use asynchat::{Addr, Chat};

use super::Service;
use super::reply::{Content, Reply};
use crate::http1::{Fields, Framing, Request};
use crate::status::metrics;

/// The script of the pages of folders. It uploads files.
const UPLOAD: &str = include_str!("page.js");

const PAGE: &str = include_str!("status.html");
const STYLE: &str = include_str!("status.css");
const SCRIPT: &str = include_str!("status.js");

/// So many clients may watch. Each costs the size of an event a second.
const MOST_WATCHERS: usize = 32;

pub fn own(
    service: &Service,
    request: &Request<'_>,
    path: &str,
    (chat, client): (&Chat, Option<&Addr>),
    shutting_down: bool,
) -> Reply {
    let is_link = path.is_empty() && is_navigation(request.fields);
    if is_of_another_site(request.fields) && !is_link {
        return Reply::text(403, "a page of another site may not use this");
    }
    match path {
        "files.js" => return cached(UPLOAD, "text/javascript; charset=utf-8"),
        // A load balancer asks, from wherever it is.
        "health" if shutting_down => return Reply::text(503, "the server shuts down"),
        "health" => return fresh("ok\n".into(), "text/plain; charset=utf-8"),
        "" | "status.css" | "status.js" | "events" | "metrics"
            if service.options.has_status_page => {}
        _ => return Reply::text(404, "there is no such page"),
    }
    let is_seen = client.is_some_and(|client| {
        let is_viewer = |it: &Network| it.contains(client);
        is_on_host(chat, client) || service.options.viewers.iter().any(is_viewer)
    });
    if !is_seen || is_forwarded(request.fields) {
        return Reply::text(
            403,
            "only clients with a loopback address or one of --status-from may see the status, and not through a proxy",
        );
    }
    // DNS rebinding, from the browser of a client that may see it: see `host.rs`.
    if !service.options.hosts.know(request) {
        return Reply::text(
            421,
            "the status is shown under localhost, an address or a name of --host",
        );
    }
    match path {
        "" => fresh(PAGE.into(), "text/html; charset=utf-8").field(
            "Content-Security-Policy",
            "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src data:; \
             base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        )
        .field("Cross-Origin-Opener-Policy", "same-origin"),
        "status.css" => cached(STYLE, "text/css; charset=utf-8"),
        "status.js" => cached(SCRIPT, "text/javascript; charset=utf-8"),
        "metrics" => {
            let text = service.status.metrics(service.options.logins.wrong());
            fresh(text.into(), metrics::CONTENT_TYPE)
        }
        _ if request.framing != Framing::Empty => Reply::text(400, "a body is not possible here"),
        _ if shutting_down => Reply::text(503, "the server shuts down"),
        _ if service.status.watchers.get() >= MOST_WATCHERS => {
            Reply::text(503, "too many clients watch").field("Retry-After", "10")
        }
        _ => Reply::new(200, Content::Events)
            .field("Content-Type", "text/event-stream")
            .field("Cache-Control", "no-store")
            // nginx in front of this server would collect events.
            .field("X-Accel-Buffering", "no"),
    }
}

/// Whether a page of another site has caused the request (W3C Fetch Metadata). Browsers send the field to loopback addresses
/// and with TLS.
fn is_of_another_site(fields: Fields<'_>) -> bool {
    matches!(
        fields.only("sec-fetch-site"),
        Some(b"cross-site" | b"same-site")
    )
}

/// Whether a person has followed a link to the page. The site with the link learns nothing: the page is in no frame, and
/// its window belongs to another group (Cross-Origin-Opener-Policy).
fn is_navigation(fields: Fields<'_>) -> bool {
    fields.only("sec-fetch-mode") == Some(b"navigate")
        && fields.only("sec-fetch-dest") == Some(b"document")
}

/// Whether the client is on the host of the server: it has a loopback address, or is one of a Unix-domain socket. Another
/// address of the host says less: in a container all clients may have that of the container (rootless Podman). A proxy that
/// has named the client may mean its own host.
fn is_on_host(chat: &Chat, client: &Addr) -> bool {
    let is_named = chat.proxy_header().is_some();
    !is_named && client.ip().is_none_or(|ip| ip.to_canonical().is_loopback())
}

/// A reverse proxy on this host, or in a network of the viewers, sends requests of clients that may be anywhere. Most proxies
/// add one of these fields; nginx and HAProxy do if they are configured to.
fn is_forwarded(fields: Fields<'_>) -> bool {
    ["forwarded", "via", "x-forwarded-for", "x-real-ip"]
        .iter()
        .any(|name| fields.has(name))
}

/// Of this version of the program.
fn cached(text: &str, content_type: &str) -> Reply {
    Reply::new(200, Content::Bytes(text.into()))
        .field("Content-Type", content_type)
        .field("Cache-Control", "max-age=300")
}

fn fresh(content: Vec<u8>, content_type: &str) -> Reply {
    Reply::new(200, Content::Bytes(content))
        .field("Content-Type", content_type)
        .field("Cache-Control", "no-store")
}
