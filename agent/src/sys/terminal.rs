//! The terminal that a program was started on.

use std::{
    io,
    os::fd::{AsFd as _, BorrowedFd},
};

use tokio::io::Interest;

use super::watched::readable;

/// Ends once the terminal of standard input is gone, as with a connection that broke. Reads nothing from
/// it; without a signal, whoever reads would find only that there is nothing.
///
/// # Errors
/// When standard input is nothing that can be watched.
pub fn taken_away() -> io::Result<impl Future<Output = ()> + Send> {
    watch(io::stdin().as_fd())
}

fn watch(terminal: BorrowedFd<'_>) -> io::Result<impl Future<Output = ()> + Send + use<>> {
    let terminal = readable(terminal.try_clone_to_owned()?)?;
    Ok(async move {
        // What fails here says nothing about the terminal: it cannot be watched any more.
        while let Ok(mut guard) = terminal.ready(Interest::READABLE).await {
            if guard.ready().is_read_closed() {
                return;
            }
            guard.clear_ready();
        }
        std::future::pending().await
    })
}

#[cfg(test)]
mod tests {
    use std::{io::Write as _, time::Duration};

    use nix::pty::openpty;
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn a_terminal_is_gone_with_its_other_end_and_not_with_what_is_typed() {
        let pty = openpty(None, None).unwrap();
        let mut gone = std::pin::pin!(watch(pty.slave.as_fd()).unwrap());
        let mut other = std::fs::File::from(pty.master);
        for _ in 0..3 {
            other.write_all(b"keys\n").unwrap();
            timeout(Duration::from_millis(20), &mut gone).await.unwrap_err();
        }
        drop(other);
        timeout(Duration::from_secs(30), gone).await.unwrap();
    }
}
