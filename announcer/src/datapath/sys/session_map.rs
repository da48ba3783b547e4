//! `SESSION`, mapped into memory: the deadline moves by one atomic store, never by a copy that could be seen torn.

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
    ptr::NonNull,
    sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst},
};

use announcer_ebpf::layout::Session;

/// The memory of a memory-mappable array whose one value is a [`Session`].
#[derive(Debug)]
pub(in super::super) struct SessionMap {
    session: NonNull<Words>,
}

/// [`Session`] as user space and programs share it: every word is atomic.
#[repr(C)]
struct Words {
    deadline_boot_ns: AtomicU64,
    layout_version: AtomicU32,
    elsewhere: AtomicU32,
    epoch: AtomicU64,
    uid: [AtomicU64; 2],
    boot_id: [AtomicU64; 2],
}

const _: () = assert!(size_of::<Words>() == size_of::<Session>());
const BYTES: usize = size_of::<Words>();

// SAFETY: the mapping belongs to the process, not to a thread, and all access is atomic.
unsafe impl Send for SessionMap {}
// SAFETY: as above.
unsafe impl Sync for SessionMap {}

// === impl SessionMap ===

impl SessionMap {
    /// Maps `map`, whose shape the caller has checked: an array with `BPF_F_MMAPABLE` and values of a [`Session`].
    pub(in super::super) fn new(map: BorrowedFd<'_>) -> io::Result<Self> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice.
        let memory = unsafe {
            libc::mmap(std::ptr::null_mut(), BYTES, protection, libc::MAP_SHARED, map.as_raw_fd(), 0)
        };
        if memory == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        NonNull::new(memory.cast()).map(|session| Self { session }).ok_or_else(io::Error::last_os_error)
    }

    fn words(&self) -> &Words {
        // SAFETY: a page-aligned mapping of at least `BYTES` readable and writable bytes, there until `drop`. The
        // kernel fills the rest of the page; atomics take any value.
        unsafe { self.session.as_ref() }
    }

    /// `deadline_boot_ns`.
    pub(in super::super) fn deadline(&self) -> u64 {
        self.words().deadline_boot_ns.load(SeqCst)
    }

    /// Stores `deadline_boot_ns` in one write.
    pub(in super::super) fn set_deadline(&self, boot_ns: u64) {
        self.words().deadline_boot_ns.store(boot_ns, SeqCst);
    }

    /// The value, field by field.
    pub(in super::super) fn read(&self) -> Session {
        let Words { deadline_boot_ns, layout_version, elsewhere, epoch, uid, boot_id } = self.words();
        Session {
            deadline_boot_ns: deadline_boot_ns.load(SeqCst),
            layout_version: layout_version.load(SeqCst),
            elsewhere: elsewhere.load(SeqCst),
            epoch: epoch.load(SeqCst),
            uid: load(uid),
            boot_id: load(boot_id),
        }
    }

    /// Stores all but the deadline, which the caller has set to 0 a grace period ago.
    pub(in super::super) fn write_identity(&self, session: &Session) {
        let words = self.words();
        let &Session { deadline_boot_ns: _, layout_version, elsewhere, epoch, uid, boot_id } = session;
        words.layout_version.store(layout_version, SeqCst);
        words.elsewhere.store(elsewhere, SeqCst);
        words.epoch.store(epoch, SeqCst);
        store(&words.uid, uid);
        store(&words.boot_id, boot_id);
    }
}

impl Drop for SessionMap {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `new`, of which no reference outlives `self`.
        let result = unsafe { libc::munmap(self.session.as_ptr().cast(), BYTES) };
        debug_assert_eq!(result, 0, "munmap of a live mapping");
    }
}

fn load(words: &[AtomicU64; 2]) -> [u8; 16] {
    let mut bytes = [0; 16];
    for (half, word) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(words) {
        *half = word.load(SeqCst).to_ne_bytes();
    }
    bytes
}

fn store(words: &[AtomicU64; 2], bytes: [u8; 16]) {
    for (word, half) in words.iter().zip(bytes.as_chunks::<8>().0) {
        word.store(u64::from_ne_bytes(*half), SeqCst);
    }
}
