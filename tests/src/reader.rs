//! Who reads a program's output, as a container runtime does, and can stop doing so.

use std::{
    fs::{self, File},
    io::{self, ErrorKind, PipeReader, PipeWriter, Read as _, Write as _},
    os::{fd::AsRawFd as _, unix::fs::OpenOptionsExt as _},
    path::Path,
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use anyhow::{Context as _, Result};

/// Copies a pipe into a log.
#[derive(Debug)]
pub struct Reader {
    ours: PipeWriter,
    gate: Arc<Gate>,
}

#[derive(Debug, Default)]
struct Gate {
    closed: AtomicBool,
    /// Whether the reading thread has stopped at the gate.
    waits: Mutex<bool>,
    changed: Condvar,
}

impl Reader {
    /// A reader, and the end of its pipe that a program writes to.
    pub(crate) fn start(log: &Path) -> Result<(Self, PipeWriter)> {
        let (reader, writer) = io::pipe().context("make a pipe")?;
        let log = File::options().create(true).append(true).open(log).context("open the log")?;
        let gate = Arc::new(Gate::default());
        let (ours, passes) = (writer.try_clone()?, gate.clone());
        thread::spawn(move || copy(reader, log, &passes));
        Ok((Self { ours, gate }, writer))
    }

    /// Reads no more, and the pipe is full when this returns: who writes to it next waits until [`go_on`](Self::go_on).
    pub fn stall(&self) -> Result<()> {
        self.gate.closed.store(true, Ordering::Release);
        // It may be in the middle of a read, and stops after that.
        (&self.ours).write_all(b"\n")?;
        let mut waits = self.gate.waits.lock().unwrap_or_else(PoisonError::into_inner);
        while !*waits {
            waits = self.gate.changed.wait(waits).unwrap_or_else(PoisonError::into_inner);
        }
        // Opened once more: not to block is a property of the open file, which the program shares with `ours`.
        let path = format!("/proc/self/fd/{}", self.ours.as_raw_fd());
        let mut filler = fs::OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(path)?;
        for chunk in [&[b'\n'; 4096][..], b"\n"] {
            loop {
                match filler.write(chunk) {
                    Ok(_) => (),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error).context("fill the pipe"),
                }
            }
        }
        Ok(())
    }

    /// Reads again.
    pub fn go_on(&self) {
        self.gate.closed.store(false, Ordering::Release);
        *self.gate.waits.lock().unwrap_or_else(PoisonError::into_inner) = false;
        self.gate.changed.notify_all();
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.go_on();
    }
}

fn copy(mut pipe: PipeReader, mut log: File, gate: &Gate) {
    let mut buffer = [0; 4096];
    while let Ok(length @ 1..) = pipe.read(&mut buffer) {
        let _ = log.write_all(buffer.get(..length).unwrap_or_default());
        if gate.closed.load(Ordering::Acquire) {
            let mut waits = gate.waits.lock().unwrap_or_else(PoisonError::into_inner);
            *waits = true;
            gate.changed.notify_all();
            while *waits {
                waits = gate.changed.wait(waits).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }
}
