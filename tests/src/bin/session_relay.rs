//! `session-relay SESSION PORT`: joins its standard input and output to a port of this host, as the SSM
//! agent's session worker joins a session to sshd. The first argument is what tells whose session it is.

use std::{
    io::{self, Write as _},
    net::{Shutdown, TcpStream},
    process::ExitCode,
    thread,
};

fn main() -> ExitCode {
    match relay() {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            writeln!(io::stderr(), "session-relay: {e}").unwrap_or_default();
            ExitCode::FAILURE
        }
    }
}

fn relay() -> io::Result<()> {
    let port = std::env::args().nth(2).and_then(|p| p.parse().ok());
    let port: u16 = port.ok_or_else(|| io::Error::other("usage: session-relay SESSION PORT"))?;
    let mut down = TcpStream::connect(("127.0.0.1", port))?;
    let mut up = down.try_clone()?;
    let sending = thread::spawn(move || {
        let sent = io::copy(&mut io::stdin().lock(), &mut up);
        // The client went: so does the session, as with the real worker.
        up.shutdown(Shutdown::Both).unwrap_or_default();
        sent
    });
    let mut out = io::stdout().lock();
    let mut chunk = vec![0; 32 << 10];
    loop {
        let n = io::Read::read(&mut down, &mut chunk)?;
        let Some(part) = chunk.get(..n).filter(|p| !p.is_empty()) else { break };
        out.write_all(part)?;
        out.flush()?;
    }
    drop(sending);
    Ok(())
}
