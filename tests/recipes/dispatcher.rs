use asynchat::{Channel, Dispatcher, Result};

struct Parrot {
    channel: Channel,
    out: Vec<u8>,
}

impl Dispatcher for Parrot {
    fn channel(&self) -> &Channel {
        &self.channel
    }

    fn handle_connect(&mut self) -> Result {
        self.out = b"hello, I am a parrot\r\n".to_vec();
        Ok(())
    }

    fn handle_read(&mut self) -> Result {
        let mut buffer = [0; 8192];
        let count = self.channel.recv(&mut buffer)?;
        self.out.extend(buffer[..count].to_ascii_uppercase());
        Ok(())
    }

    fn writable(&self) -> bool {
        !self.out.is_empty()
    }

    fn handle_write(&mut self) -> Result {
        let count = self.channel.send(&self.out)?;
        self.out.drain(..count);
        Ok(())
    }
}

pub fn start(addr: &str) -> Result {
    let channel = Channel::connect(addr)?;
    asynchat::register(Parrot {
        channel,
        out: Vec::new(),
    })?;
    Ok(())
}
