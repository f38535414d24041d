//! Programs that accept TLS and pass the plaintext on to a server, each on one thread as far as it can be.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use asynchat::Result;

use crate::certificate::Files;
use crate::process::Process;

/// Starts the program, and waits until it listens.
pub fn start(
    name: &str,
    files: &Files,
    behind: SocketAddr,
    core: Option<usize>,
) -> Result<Process> {
    // None of them tells which free port it has been given.
    let addr = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let folder = files.folder().display();
    let config = files.path("config");
    let (text, mut command) = match name {
        "nginx" => {
            let text = format!(
                "load_module /usr/lib/nginx/modules/ngx_stream_module.so;\n\
                 daemon off; master_process off; pid {folder}/pid; error_log {folder}/log;\n\
                 events {{ worker_connections 4096; }}\n\
                 stream {{ server {{ listen {addr} ssl; proxy_pass {behind};\n\
                 ssl_certificate {folder}/cert.pem; ssl_certificate_key {folder}/key.pem;\n\
                 ssl_protocols TLSv1.3; ssl_session_cache shared:tls:10m; }} }}\n"
            );
            let mut command = Command::new("nginx");
            command
                .arg("-e")
                .arg(files.path("log"))
                .arg("-c")
                .arg(&config);
            (text, command)
        }
        "haproxy" => {
            let text = format!(
                "global\n nbthread 1\n maxconn 4000\n\
                 defaults\n mode tcp\n timeout connect 10s\n timeout client 60s\n timeout server 60s\n\
                 frontend tls\n bind {addr} ssl crt {folder}/both.pem ssl-min-ver TLSv1.3\n default_backend lines\n\
                 backend lines\n server lines {behind}\n"
            );
            let mut command = Command::new("haproxy");
            command.arg("-q").arg("-db").arg("-f").arg(&config);
            (text, command)
        }
        _ => {
            let text = format!(
                "foreground = yes\npid =\nsyslog = no\ndebug = 3\n\
                 [tls]\naccept = {addr}\nconnect = {behind}\ncert = {folder}/both.pem\nsslVersionMin = TLSv1.3\n"
            );
            let mut command = Command::new("stunnel");
            command.arg(&config);
            (text, command)
        }
    };
    fs::write(&config, text)?;
    let process = Process::spawn(&mut command, core, addr)?;
    let deadline = Instant::now() + Duration::from_secs(20);
    while TcpStream::connect(addr).is_err() {
        if Instant::now() > deadline {
            return Err(format!("{name} does not listen").into());
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(process)
}
