use asynchat::{Addr, Channel, Dispatcher, Error, Result, Socket};

struct EchoHandler {
    channel: Channel,
    out: Vec<u8>,
}

impl Dispatcher for EchoHandler {
    fn channel(&self) -> &Channel {
        &self.channel
    }

    fn readable(&self) -> bool {
        self.out.is_empty() // asyncore's version buffers without bound
    }

    fn writable(&self) -> bool {
        !self.out.is_empty()
    }

    fn handle_read(&mut self) -> Result {
        let mut buffer = [0; 8192];
        let count = self.channel.recv(&mut buffer)?;
        self.out.extend(&buffer[..count]);
        Ok(())
    }

    fn handle_write(&mut self) -> Result {
        let count = self.channel.send(&self.out)?;
        self.out.drain(..count);
        Ok(())
    }
}

struct EchoServer {
    channel: Channel,
}

impl Dispatcher for EchoServer {
    fn channel(&self) -> &Channel {
        &self.channel
    }

    fn handle_accepted(&mut self, socket: Socket, _: Addr) -> Result {
        let channel = Channel::adopt(socket)?;
        asynchat::register(EchoHandler {
            channel,
            out: Vec::new(),
        })?;
        Ok(())
    }
}

pub fn start(addr: &str) -> Result<Channel, Error> {
    let channel = Channel::listen(addr)?;
    asynchat::register(EchoServer {
        channel: channel.clone(),
    })?;
    Ok(channel)
}
