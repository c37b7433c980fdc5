//! The server's end of smux version 1: many connections in one session.
//!
//! No window on the wire. What all streams together have received and not yet written is bounded by
//! a bucket; when that is full, nothing more is read and all streams wait (as in the original).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::{Notify, mpsc},
};

use super::{
    port::{Done, Ends, Input, PIECE, What},
    session::Session,
};
use crate::{dialer, peer::Shared};

/// Bytes of all streams that are received and not written.
const BUCKET: usize = 4 << 20;
/// Most streams at a time; more are closed at once.
const STREAMS: usize = 1024;
/// Messages of one stream that wait. The bucket is the real bound.
const QUEUE: usize = 16_384;
const HEADER: usize = 8;

const SYN: u8 = 0;
const FIN: u8 = 1;
const PSH: u8 = 2;
const NOP: u8 = 3;

/// Reads frames out of a byte stream.
#[derive(Debug, Default)]
struct Parser {
    bytes: BytesMut,
}

#[derive(Debug, PartialEq, Eq)]
struct Smux {
    command: u8,
    stream: u32,
    data: Bytes,
}

impl Parser {
    fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole frame.
    fn next(&mut self) -> Result<Option<Smux>, String> {
        let Some(header) = self.bytes.get(..HEADER) else { return Ok(None) };
        let (version, command) = (header[0], header[1]);
        if version != 1 || command > NOP {
            return Err(format!("smux frame of version {version}, command {command}"));
        }
        let size = usize::from(u16::from_le_bytes([header[2], header[3]]));
        if command != PSH && size != 0 {
            return Err(format!("smux command {command} with {size} bytes"));
        }
        let stream = u32::from_le_bytes([header[4], header[5], header[6], header[7]]);
        if self.bytes.len() < HEADER + size {
            return Ok(None);
        }
        self.bytes.advance(HEADER);
        Ok(Some(Smux { command, stream, data: self.bytes.split_to(size).freeze() }))
    }
}

fn frame(command: u8, stream: u32, data: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(HEADER + data.len());
    out.put_u8(1);
    out.put_u8(command);
    out.put_u16_le(u16::try_from(data.len()).unwrap_or(u16::MAX));
    out.put_u32_le(stream);
    out.put_slice(data);
    out.freeze()
}

/// What streams and the reader of frames share.
#[derive(Debug, Default)]
struct Bucket {
    bytes: AtomicUsize,
    freed: Notify,
}

pub(super) async fn serve(shared: &Arc<Shared>, me: &Arc<Session>, mut ends: Ends) {
    let bucket = Arc::new(Bucket::default());
    let mut parser = Parser::default();
    let mut streams: BTreeMap<u32, mpsc::Sender<Bytes>> = BTreeMap::new();
    let mut used: BTreeSet<u32> = BTreeSet::new();
    loop {
        while bucket.bytes.load(Ordering::Acquire) >= BUCKET {
            // The notice is kept if it comes first.
            tokio::select! {
                () = bucket.freed.notified() => {}
                () = ends.done.closed() => return,
            }
        }
        let Some(Input { seq, id, acked, what }) = ends.input.recv().await else { return };
        let size = what.len();
        let (data, over) = match what {
            What::Data(data) => (data, false),
            What::Disconnect => (Bytes::new(), false),
            What::Terminate => (Bytes::new(), true),
        };
        parser.push(&data);
        loop {
            let smux = match parser.next() {
                Ok(Some(smux)) => smux,
                Ok(None) => break,
                Err(what) => {
                    ends.done.send(Done::Wrong(what.clone())).await.unwrap_or_default();
                    return ends.done.send(Done::End(what)).await.unwrap_or_default();
                }
            };
            streams.retain(|_, s| !s.is_closed());
            let wrong = match smux.command {
                SYN if used.contains(&smux.stream) => Some("opened twice"),
                SYN if smux.stream % 2 == 0 => Some("opened by a client, and even"),
                SYN => {
                    used.insert(smux.stream);
                    me.stats(|s| s.streams += 1);
                    if streams.len() < STREAMS {
                        streams.insert(smux.stream, open(shared, me, &ends, &bucket, smux.stream));
                    } else {
                        ends.output.send(frame(FIN, smux.stream, &[])).await.unwrap_or_default();
                    }
                    None
                }
                PSH => match streams.get(&smux.stream) {
                    Some(stream) => {
                        let size = smux.data.len();
                        bucket.bytes.fetch_add(size, Ordering::AcqRel);
                        if stream.try_send(smux.data).is_err() {
                            bucket.bytes.fetch_sub(size, Ordering::AcqRel);
                        }
                        None
                    }
                    // It may have ended here while the data was on its way.
                    None if used.contains(&smux.stream) => None,
                    None => Some("has data but was never opened"),
                },
                FIN if !used.contains(&smux.stream) => Some("closed but never opened"),
                FIN => {
                    streams.remove(&smux.stream);
                    None
                }
                _ => {
                    me.stats(|s| s.nops += 1);
                    None
                }
            };
            if let Some(wrong) = wrong {
                let wrong = Done::Wrong(format!("smux stream {} {wrong}", smux.stream));
                ends.done.send(wrong).await.unwrap_or_default();
            }
        }
        if ends.done.send(Done::Written { seq, id, acked, size }).await.is_err() {
            return;
        }
        if over {
            return ends.done.send(Done::Terminate).await.unwrap_or_default();
        }
    }
}

/// Starts a stream and returns where its data goes. Dropping that closes it.
fn open(
    shared: &Arc<Shared>,
    me: &Arc<Session>,
    ends: &Ends,
    bucket: &Arc<Bucket>,
    number: u32,
) -> mpsc::Sender<Bytes> {
    let (data, input) = mpsc::channel(QUEUE);
    let (output, done) = (ends.output.clone(), ends.done.clone());
    let (on, me, bucket) = (shared.clone(), me.clone(), bucket.clone());
    shared.spawn(async move {
        match dialer::dial(&on, &me, &me.target.host, me.target.port).await {
            Ok(pipe) => stream(pipe, input, &output, &bucket, number).await,
            Err(_) => {
                done.send(Done::Flag(3)).await.unwrap_or_default();
                drain(input, &bucket);
            }
        }
        output.send(frame(FIN, number, &[])).await.unwrap_or_default();
    });
    data
}

async fn stream(
    pipe: dialer::Pipe,
    mut input: mpsc::Receiver<Bytes>,
    output: &mpsc::Sender<Bytes>,
    bucket: &Bucket,
    number: u32,
) {
    let dialer::Pipe { mut reader, mut writer, keep } = pipe;
    let read = async {
        let mut buffer = BytesMut::new();
        loop {
            buffer.reserve(PIECE);
            match reader.read_buf(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {
                    let data = buffer.split();
                    for part in data.chunks(PIECE) {
                        if output.send(frame(PSH, number, part)).await.is_err() {
                            return;
                        }
                    }
                }
            }
        }
    };
    let write = async {
        while let Some(data) = input.recv().await {
            let written = writer.write_all(&data).await.is_ok() && writer.flush().await.is_ok();
            bucket.bytes.fetch_sub(data.len(), Ordering::AcqRel);
            bucket.freed.notify_one();
            if !written {
                return std::future::pending().await;
            }
        }
    };
    // No half-close: the end of one direction is the end of both, as with the original.
    tokio::select! {
        () = read => {}
        () = write => {}
        // The session may end while the destination reads nothing.
        () = output.closed() => {}
    }
    drop(keep);
    drain(input, bucket);
}

/// Gives back what nobody will write.
fn drain(mut input: mpsc::Receiver<Bytes>, bucket: &Bucket) {
    input.close();
    while let Ok(data) = input.try_recv() {
        bucket.bytes.fetch_sub(data.len(), Ordering::AcqRel);
    }
    bucket.freed.notify_one();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_read_across_any_cut() {
        let bytes = [frame(SYN, 3, &[]), frame(PSH, 3, b"hello"), frame(FIN, 3, &[])].concat();
        let mut parser = Parser::default();
        let mut seen = Vec::new();
        for byte in bytes {
            parser.push(&[byte]);
            while let Some(smux) = parser.next().unwrap() {
                seen.push((smux.command, smux.stream, smux.data.len()));
            }
        }
        assert_eq!(seen, [(SYN, 3, 0), (PSH, 3, 5), (FIN, 3, 0)]);
    }

    #[test]
    fn another_version_command_or_length_is_an_error() {
        for bytes in [[2, 0, 0, 0, 3, 0, 0, 0], [1, 4, 0, 0, 3, 0, 0, 0], [1, 0, 1, 0, 3, 0, 0, 0]]
        {
            let mut parser = Parser::default();
            parser.push(&bytes);
            assert!(parser.next().is_err(), "{bytes:?}");
        }
    }
}
