//! What the kernel programs tell of their decisions: aya-log's records, turned into `tracing` events.

use std::{
    fmt, io,
    os::fd::{AsFd, BorrowedFd},
};

use aya::{Ebpf, EbpfLoader};
use aya_log::EbpfLogger;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::DatapathError;
use crate::vocabulary::Vip;

const RING: &str = "AYA_LOGS";
/// While nothing is logged: the loader rounds it up to a page.
const SMALLEST_RING: u32 = 1;
/// How long to wait for a record before it is asked whether anybody wants one.
const LOOK: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

/// The reading end of what the programs of this agent tell. Records that nobody takes in time are lost, not waited for.
pub struct KernelLogReader {
    logger: EbpfLogger<ToTracing>,
}

/// Makes an event of each record.
struct ToTracing;

/// Sets the level (a [`KernelLog`](super::KernelLog) as a number) of the programs to be loaded.
pub(super) fn set<'a>(loader: &mut EbpfLoader<'a>, level: &'a u8) {
    loader.override_global(aya_log::LEVEL, level, true);
    if *level == 0 {
        loader.map_max_entries(RING, SMALLEST_RING);
    }
}

// === impl KernelLogReader ===

impl KernelLogReader {
    /// The target of its events, whose message is `kernel: ` and one of `answered`, `fenced`, `suppressed`, `passed`,
    /// `malformed` and `conflict`, and whose fields are `ip`, `mac` (the other host's) and `ifindex` (where the frame
    /// came in).
    pub const TARGET: &'static str = "announcer::kernel";

    pub(super) fn new(object: &mut Ebpf) -> Result<Self, DatapathError> {
        let logger = EbpfLogger::init_with_logger(object, ToTracing);
        Ok(Self { logger: logger.map_err(|source| DatapathError::KernelLog(Box::new(source)))? })
    }

    /// Makes events of all that is there, without waiting.
    pub fn flush(&mut self) {
        self.logger.flush();
    }

    /// Reads on this thread while `wanted` says so, which is asked at least once a second. For a thread of its own: under a
    /// flood of requests there is always one more record, and a task would keep a runtime's worker from all others.
    ///
    /// # Errors
    /// The ring can't be waited for.
    pub fn read_while(&mut self, wanted: impl Fn() -> bool) -> io::Result<()> {
        while wanted() {
            match poll(&mut [PollFd::new(&self.logger, PollFlags::IN)], Some(&LOOK)) {
                Ok(0) => {}
                Ok(_) | Err(rustix::io::Errno::INTR) => self.flush(),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

impl AsFd for KernelLogReader {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.logger.as_fd()
    }
}

impl fmt::Debug for KernelLogReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KernelLogReader").finish_non_exhaustive()
    }
}

// === impl ToTracing ===

impl log::Log for ToTracing {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let text = record.args().to_string();
        let mut words = text.split(' ');
        let what = words.next().unwrap_or_default();
        let (mut ip, mut mac, mut ifindex) = (None, None, None);
        for (name, value) in words.filter_map(|word| word.split_once('=')) {
            match name {
                "ip" => ip = value.parse::<Vip>().ok().map(tracing::field::display),
                "mac" => mac = Some(value),
                "ifindex" => ifindex = value.parse::<u32>().ok(),
                _ => {}
            }
        }
        macro_rules! event {
            ($level:ident) => {
                tracing::event!(target: KernelLogReader::TARGET, tracing::Level::$level, ip, mac, ifindex, "kernel: {what}")
            };
        }
        match record.level() {
            log::Level::Error => event!(ERROR),
            log::Level::Warn => event!(WARN),
            log::Level::Info => event!(INFO),
            log::Level::Debug => event!(DEBUG),
            log::Level::Trace => event!(TRACE),
        }
    }

    fn flush(&self) {}
}
