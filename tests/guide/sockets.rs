//! The server on the kernel's sockets, with a client of its own and with Python's ftplib.

use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use asynchat::{Remote, Result};

use crate::{GRACE, LARGE, enter_folder, ftp, port_of, skip, uploads_alone};

struct Client(BufReader<TcpStream>);

impl Client {
    fn connect(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        Client(BufReader::new(stream))
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        line
    }

    fn ask(&mut self, command: &str) -> String {
        write!(self.0.get_mut(), "{command}\r\n").unwrap();
        self.line()
    }
}

/// Starts the server on a thread of its own.
fn serve() -> (SocketAddr, Remote, JoinHandle<()>) {
    enter_folder();
    let (started, addr) = mpsc::channel();
    let server = thread::spawn(move || {
        let listener = ftp::start("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().and_then(|addr| addr.inet()).unwrap();
        started.send((addr, asynchat::remote().unwrap())).unwrap();
        asynchat::run().unwrap();
        asynchat::close_all();
    });
    let (addr, remote) = addr.recv().unwrap();
    (addr, remote, server)
}

#[test]
fn abor_on_real_sockets() {
    let (addr, remote, server) = serve();
    let mut control = Client::connect(addr);
    assert_eq!(control.line(), "220 ready\r\n");
    let mut data = Client::connect(port_of(&control.ask("EPSV"), addr.ip()));
    assert_eq!(control.ask("RETR large"), "150 the transfer begins\r\n");
    let mut begin = vec![0; 100_000];
    data.0.read_exact(&mut begin).unwrap();
    assert_eq!(control.ask("ABOR"), "426 aborted\r\n");
    assert_eq!(control.line(), "226 closed\r\n");
    let mut rest = Vec::new();
    let error = data.0.read_to_end(&mut rest).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert!((rest.len() as u64) < LARGE);

    let mut data = Client::connect(port_of(&control.ask("EPSV"), addr.ip()));
    assert_eq!(control.ask("RETR small"), "150 the transfer begins\r\n");
    rest.clear();
    data.0.read_to_end(&mut rest).unwrap();
    assert_eq!(rest, b"a small file");
    assert_eq!(control.line(), "226 done\r\n");
    assert_eq!(control.ask("QUIT"), "221 bye\r\n");
    remote.stop().unwrap();
    server.join().unwrap();
}

/// ftplib's `makepasv` asks for PASV where the host has an IPv4 address.
const FTPLIB: &str = "
import ftplib, io, sys
class Client(ftplib.FTP):
    def makepasv(self):
        return ftplib.parse229(self.sendcmd('EPSV'), self.sock.getpeername())
ftp = Client()
ftp.connect('127.0.0.1', int(sys.argv[1]), 20)
ftp.login('a')
def wait(block=b''):
    print('waiting', flush=True)
    sys.stdin.readline()
    return block
";

/// Runs the server and a client of Python's ftplib. Calls `act` where the client waits, and after that the server
/// has to end. False without a Python.
fn run_ftplib(script: &str, act: impl FnOnce(&Remote)) -> bool {
    let (addr, remote, server) = serve();
    let mut client = Command::new("python3");
    let (script, port) = (format!("{FTPLIB}{script}"), addr.port().to_string());
    client.args(["-c", &script, &port]);
    client.stdin(Stdio::piped()).stdout(Stdio::piped());
    let Ok(mut client) = client.spawn() else {
        skip::skipped("python3 is not installed");
        return false;
    };
    let mut line = String::new();
    let mut output = BufReader::new(client.stdout.take().unwrap());
    output.read_line(&mut line).unwrap();
    assert_eq!(line.trim_end(), "waiting");
    act(&remote);
    writeln!(client.stdin.take().unwrap()).unwrap();
    assert!(client.wait().unwrap().success());
    server.join().unwrap();
    true
}

fn shut_down(remote: &Remote) {
    remote.shutdown(GRACE).unwrap();
}

#[test]
fn ftplib_receives_stores_and_aborts() -> Result {
    uploads_alone(|| {
        let script = "
received = io.BytesIO()
assert ftp.retrbinary('RETR small', received.write) == '226 done'
assert received.getvalue() == b'a small file'
content = bytes(range(256)) * 4000
assert ftp.storbinary('STOR python', io.BytesIO(content)) == '226 done'
received = io.BytesIO()
ftp.retrbinary('RETR python', received.write)
assert received.getvalue() == content
for command in 'RETR large', 'STOR partial':
    data = ftp.transfercmd(command)
    if command == 'STOR partial':
        data.sendall(b'a part')
    assert ftp.abort() == '426 aborted'
    assert ftp.getline() == '226 closed'
    data.close()
wait()
assert ftp.getline() == '421 shutting down'
";
        run_ftplib(script, shut_down);
        assert!(!fs::exists("partial")?);
        Ok(())
    })
}

#[test]
fn a_shutdown_waits_for_a_download_of_ftplib() {
    let script = "
blocks = []
def receive(block):
    blocks.append(len(block))
    if len(blocks) == 1:
        wait()
assert ftp.retrbinary('RETR large', receive) == '226 done'
assert sum(blocks) == 64 << 20, sum(blocks)
assert ftp.getline() == '421 shutting down'
assert ftp.file.readline() == ''
";
    run_ftplib(script, shut_down);
}

#[test]
fn a_shutdown_waits_for_an_upload_of_ftplib() -> Result {
    uploads_alone(|| {
        let script = "
class File:
    blocks = iter([lambda: b'one ', lambda: wait(b'two '), lambda: b'three', lambda: b''])
    def read(self, size):
        return next(self.blocks)()
assert ftp.storbinary('STOR python', File()) == '226 done'
assert ftp.getline() == '421 shutting down'
assert ftp.file.readline() == ''
";
        if run_ftplib(script, shut_down) {
            assert_eq!(fs::read("python")?, b"one two three");
        }
        Ok(())
    })
}
