//! The journal's part of libsystemd, found at run time, so that the binary starts on a host without it.
//!
//! Only the functions named here are used; all are there since systemd 209.

use std::{
    ffi::{CStr, CString, c_char, c_int, c_void},
    io,
    marker::PhantomData,
    os::{
        fd::{BorrowedFd, RawFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
    ptr, slice,
};

const SONAME: &CStr = c"libsystemd.so.0";
/// Only the journal of this machine, and not what was collected from others.
const LOCAL_ONLY: c_int = 1;
/// Values longer than this are cut by the library.
const MAX_VALUE: usize = 1 << 20;

type Raw = *mut c_void;
type Plain = unsafe extern "C" fn(Raw) -> c_int;

type Open = unsafe extern "C" fn(*mut Raw, c_int) -> c_int;
type OpenDirectory = unsafe extern "C" fn(*mut Raw, *const c_char, c_int) -> c_int;
type Close = unsafe extern "C" fn(Raw);
type WithCursor = unsafe extern "C" fn(Raw, *const c_char) -> c_int;
type SeekRealtime = unsafe extern "C" fn(Raw, u64) -> c_int;
type GetCursor = unsafe extern "C" fn(Raw, *mut *mut c_char) -> c_int;
type GetRealtime = unsafe extern "C" fn(Raw, *mut u64) -> c_int;
type GetData = unsafe extern "C" fn(Raw, *const c_char, *mut *const c_void, *mut usize) -> c_int;
type SetThreshold = unsafe extern "C" fn(Raw, usize) -> c_int;
type AddMatch = unsafe extern "C" fn(Raw, *const c_void, usize) -> c_int;

/// The functions.
#[derive(Debug)]
pub(super) struct Library {
    open: Open,
    open_directory: OpenDirectory,
    close: Close,
    next: Plain,
    seek_cursor: WithCursor,
    test_cursor: WithCursor,
    seek_realtime: SeekRealtime,
    get_cursor: GetCursor,
    get_realtime: GetRealtime,
    get_data: GetData,
    set_threshold: SetThreshold,
    add_match: AddMatch,
    add_disjunction: Plain,
    get_fd: Plain,
    reliable_fd: Plain,
    process: Plain,
}

impl Library {
    /// Looks for the library. It is never unloaded.
    pub(super) fn load() -> io::Result<Self> {
        #[expect(unsafe_code, reason = "the library is looked for at run time")]
        // SAFETY: the name is a C string. The constructors of libsystemd, which run here, do nothing to
        // this process beyond its own data.
        let handle = unsafe { libc::dlopen(SONAME.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
        if handle.is_null() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "libsystemd.so.0 is not here"));
        }
        let find = |name: &CStr| {
            #[expect(unsafe_code, reason = "functions of a library that is looked for at run time")]
            // SAFETY: the handle is that of a loaded library and the name is a C string.
            let at = unsafe { libc::dlsym(handle, name.as_ptr()) };
            if at.is_null() {
                let what = format!("libsystemd has no {}", name.to_string_lossy());
                return Err(io::Error::new(io::ErrorKind::NotFound, what));
            }
            Ok(at)
        };
        // The type of each function is that of its field, as sd-journal.h has it.
        macro_rules! function {
            ($name:literal, $kind:ty) => {{
                let at = find($name)?;
                #[expect(unsafe_code, reason = "a function's address becomes a function")]
                // SAFETY: the address is that of the function of this name, not null, and stays valid since
                // the library is never unloaded; its type is the one declared in sd-journal.h.
                let function = unsafe { std::mem::transmute::<*mut c_void, $kind>(at) };
                function
            }};
        }
        Ok(Self {
            open: function!(c"sd_journal_open", Open),
            open_directory: function!(c"sd_journal_open_directory", OpenDirectory),
            close: function!(c"sd_journal_close", Close),
            next: function!(c"sd_journal_next", Plain),
            seek_cursor: function!(c"sd_journal_seek_cursor", WithCursor),
            test_cursor: function!(c"sd_journal_test_cursor", WithCursor),
            seek_realtime: function!(c"sd_journal_seek_realtime_usec", SeekRealtime),
            get_cursor: function!(c"sd_journal_get_cursor", GetCursor),
            get_realtime: function!(c"sd_journal_get_realtime_usec", GetRealtime),
            get_data: function!(c"sd_journal_get_data", GetData),
            set_threshold: function!(c"sd_journal_set_data_threshold", SetThreshold),
            add_match: function!(c"sd_journal_add_match", AddMatch),
            add_disjunction: function!(c"sd_journal_add_disjunction", Plain),
            get_fd: function!(c"sd_journal_get_fd", Plain),
            reliable_fd: function!(c"sd_journal_reliable_fd", Plain),
            process: function!(c"sd_journal_process", Plain),
        })
    }
}

/// An open journal. It stays on the thread that opened it, as the library wants.
#[derive(Debug)]
pub(super) struct Journal<'a> {
    library: &'a Library,
    /// Valid until this is dropped.
    raw: Raw,
    /// Not `Send`.
    _here: PhantomData<*mut ()>,
}

/// What a function says: a negative errno, or a number.
fn said(code: c_int) -> io::Result<c_int> {
    if code < 0 { Err(io::Error::from_raw_os_error(-code)) } else { Ok(code) }
}

fn c_string(text: &str) -> io::Result<CString> {
    CString::new(text).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))
}

impl<'a> Journal<'a> {
    /// Opens the journal of the host, or the files in a directory.
    pub(super) fn open(library: &'a Library, directory: Option<&Path>) -> io::Result<Self> {
        let mut raw: Raw = ptr::null_mut();
        match directory {
            None => {
                #[expect(unsafe_code, reason = "libsystemd")]
                // SAFETY: `raw` is a place for a pointer, which is set if this succeeds.
                said(unsafe { (library.open)(&raw mut raw, LOCAL_ONLY) })?;
            }
            Some(dir) => {
                let dir = CString::new(dir.as_os_str().as_bytes())
                    .map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
                #[expect(unsafe_code, reason = "libsystemd")]
                // SAFETY: as above; the path is a C string that lives over the call.
                said(unsafe { (library.open_directory)(&raw mut raw, dir.as_ptr(), 0) })?;
            }
        }
        let journal = Self { library, raw, _here: PhantomData };
        #[expect(unsafe_code, reason = "libsystemd")]
        // SAFETY: `raw` is an open journal, used on this thread only.
        said(unsafe { (library.set_threshold)(raw, MAX_VALUE) })?;
        Ok(journal)
    }

    /// Only entries that meet one of these lists of `FIELD=value` whole.
    pub(super) fn only(&mut self, any: &[Vec<String>]) -> io::Result<()> {
        for all in any {
            for m in all {
                #[expect(unsafe_code, reason = "libsystemd")]
                // SAFETY: `raw` is open; the bytes live over the call, which copies them.
                let code =
                    unsafe { (self.library.add_match)(self.raw, m.as_ptr().cast(), m.len()) };
                said(code)?;
            }
            #[expect(unsafe_code, reason = "libsystemd")]
            // SAFETY: `raw` is open.
            said(unsafe { (self.library.add_disjunction)(self.raw) })?;
        }
        Ok(())
    }

    /// The next entry to come is the one at the cursor or, if that is not there, a near one.
    pub(super) fn seek_cursor(&mut self, cursor: &str) -> io::Result<()> {
        let cursor = c_string(cursor)?;
        #[expect(unsafe_code, reason = "libsystemd")]
        // SAFETY: `raw` is open; the cursor is a C string that lives over the call.
        said(unsafe { (self.library.seek_cursor)(self.raw, cursor.as_ptr()) }).map(drop)
    }

    /// Whether this entry is the one at the cursor.
    pub(super) fn is_at(&mut self, cursor: &str) -> io::Result<bool> {
        let cursor = c_string(cursor)?;
        #[expect(unsafe_code, reason = "libsystemd")]
        // SAFETY: `raw` is open; the cursor is a C string that lives over the call.
        Ok(said(unsafe { (self.library.test_cursor)(self.raw, cursor.as_ptr()) })? > 0)
    }

    /// The next entry to come is the first one from this time on.
    pub(super) fn seek_realtime(&mut self, us: u64) -> io::Result<()> {
        #[expect(unsafe_code, reason = "libsystemd")]
        // SAFETY: `raw` is open.
        said(unsafe { (self.library.seek_realtime)(self.raw, us) }).map(drop)
    }

    /// Goes to the next entry; false if there is none yet.
    pub(super) fn next(&mut self) -> io::Result<bool> {
        #[expect(unsafe_code, reason = "libsystemd")]
        // SAFETY: `raw` is open.
        Ok(said(unsafe { (self.library.next)(self.raw) })? > 0)
    }

    /// The cursor of this entry.
    pub(super) fn cursor(&mut self) -> io::Result<String> {
        let mut text: *mut c_char = ptr::null_mut();
        #[expect(unsafe_code, reason = "libsystemd")]
        // SAFETY: `raw` is open; `text` is a place for a pointer, which is set if this succeeds.
        said(unsafe { (self.library.get_cursor)(self.raw, &raw mut text) })?;
        #[expect(unsafe_code, reason = "libsystemd")]
        // SAFETY: the library gave a C string, which is ours and is not freed before the next line.
        let copy = unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned();
        #[expect(unsafe_code, reason = "libsystemd gives memory of malloc")]
        // SAFETY: it was allocated with malloc for us, and nothing points to it any more.
        unsafe {
            libc::free(text.cast());
        }
        Ok(copy)
    }

    /// When this entry was received, in microseconds since the epoch.
    pub(super) fn realtime(&mut self) -> io::Result<u64> {
        let mut us = 0;
        #[expect(unsafe_code, reason = "libsystemd")]
        // SAFETY: `raw` is open; `us` is a place for the number.
        said(unsafe { (self.library.get_realtime)(self.raw, &raw mut us) })?;
        Ok(us)
    }

    /// A field of this entry, if it has that.
    pub(super) fn field(&mut self, name: &str) -> io::Result<Option<Vec<u8>>> {
        let c_name = c_string(name)?;
        let (mut data, mut len): (*const c_void, usize) = (ptr::null(), 0);
        let (data_at, len_at) = (&raw mut data, &raw mut len);
        #[expect(unsafe_code, reason = "libsystemd")]
        // SAFETY: `raw` is open; the name is a C string; both places are set if this succeeds.
        let code = unsafe { (self.library.get_data)(self.raw, c_name.as_ptr(), data_at, len_at) };
        if code == -libc::ENOENT {
            return Ok(None);
        }
        said(code)?;
        if data.is_null() {
            return Ok(None);
        }
        #[expect(unsafe_code, reason = "libsystemd points into its own memory")]
        // SAFETY: the library gave `len` readable bytes, valid until the next call with this journal, and
        // they are copied before that.
        let whole = unsafe { slice::from_raw_parts(data.cast::<u8>(), len) };
        // It comes as NAME=value.
        Ok(Some(whole.get(name.len() + 1..).unwrap_or_default().to_vec()))
    }

    /// What becomes readable when the journal changes, and whether that is always so.
    pub(super) fn fd(&self) -> io::Result<(BorrowedFd<'_>, bool)> {
        #[expect(unsafe_code, reason = "libsystemd")]
        // SAFETY: `raw` is open.
        let fd: RawFd = said(unsafe { (self.library.get_fd)(self.raw) })?;
        #[expect(unsafe_code, reason = "libsystemd")]
        // SAFETY: `raw` is open.
        let reliable = said(unsafe { (self.library.reliable_fd)(self.raw) })? > 0;
        #[expect(unsafe_code, reason = "libsystemd owns the descriptor")]
        // SAFETY: the descriptor belongs to the journal, which is borrowed for as long as this is used.
        Ok((unsafe { BorrowedFd::borrow_raw(fd) }, reliable))
    }

    /// Takes note of changes, after the descriptor told of them.
    pub(super) fn process(&mut self) -> io::Result<()> {
        #[expect(unsafe_code, reason = "libsystemd")]
        // SAFETY: `raw` is open.
        said(unsafe { (self.library.process)(self.raw) }).map(drop)
    }
}

impl Drop for Journal<'_> {
    fn drop(&mut self) {
        #[expect(unsafe_code, reason = "libsystemd")]
        // SAFETY: `raw` is open, on this thread, and is not used any more.
        unsafe {
            (self.library.close)(self.raw);
        }
    }
}
