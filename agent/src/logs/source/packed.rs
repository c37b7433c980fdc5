//! A file packed by gzip, read as if it were not: rotation packed it before it was read to its end.
//!
//! It is unpacked as it is read; going back begins anew. Bounds: 4 GiB packed and 64 GiB unpacked; more is
//! an error that says so.

use std::{
    fmt,
    io::{self, Read as _},
    sync::{Arc, Mutex, PoisonError},
};

use flate2::read::MultiGzDecoder;

use crate::logs::ports::{TailFile, TailStat};

const MAX_PACKED: u64 = 4 << 30;
const MAX_UNPACKED: u64 = 64 << 30;
const BLOCK: usize = 64 << 10;

/// The content of a packed file.
pub(super) struct Packed {
    file: Arc<dyn TailFile>,
    /// Unpacked length.
    size: u64,
    stream: Mutex<Stream>,
}

struct Stream {
    decoder: MultiGzDecoder<io::BufReader<Sequential>>,
    at: u64,
}

/// A file from its beginning on.
struct Sequential {
    file: Arc<dyn TailFile>,
    at: u64,
}

impl io::Read for Sequential {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.file.read_at(buf, self.at)?;
        self.at += n as u64;
        Ok(n)
    }
}

impl fmt::Debug for Packed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Packed").field("file", &self.file).field("size", &self.size).finish()
    }
}

impl Packed {
    /// Unpacks it once, to know that it is whole and how long.
    ///
    /// # Errors
    /// When it cannot be read, is no gzip, is damaged, still being written, or too large.
    pub(super) fn open(file: Arc<dyn TailFile>) -> io::Result<Self> {
        if file.stat()?.size > MAX_PACKED {
            return Err(io::Error::other("more than 4 GiB packed: not read"));
        }
        let mut stream = Stream::new(file.clone());
        let mut block = vec![0; BLOCK];
        loop {
            let n = stream.decoder.read(&mut block)?;
            stream.at += n as u64;
            if stream.at > MAX_UNPACKED {
                return Err(io::Error::other("more than 64 GiB unpacked: not read"));
            }
            if n == 0 {
                break;
            }
        }
        let size = stream.at;
        Ok(Self { stream: Mutex::new(Stream::new(file.clone())), file, size })
    }
}

impl Stream {
    fn new(file: Arc<dyn TailFile>) -> Self {
        let input = io::BufReader::with_capacity(BLOCK, Sequential { file, at: 0 });
        Self { decoder: MultiGzDecoder::new(input), at: 0 }
    }
}

impl TailFile for Packed {
    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        // A panic inside leaves a stream at an unknown place; it is not used after that, since the job
        // that panicked ends the task.
        let mut stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        if at < stream.at {
            *stream = Stream::new(self.file.clone());
        }
        let mut passed = vec![0; BLOCK];
        while stream.at < at {
            let left = usize::try_from(at - stream.at).unwrap_or(BLOCK).min(BLOCK);
            let n = stream.decoder.read(passed.get_mut(..left).unwrap_or_default())?;
            if n == 0 {
                return Ok(0);
            }
            stream.at += n as u64;
        }
        let n = stream.decoder.read(buf)?;
        stream.at += n as u64;
        drop(stream);
        Ok(n)
    }

    fn stat(&self) -> io::Result<TailStat> {
        Ok(TailStat { size: self.size, ..self.file.stat()? })
    }
}
