//! A process that does what keeps an agent's kernel answering, and nothing else: it renews.

use std::{thread, time::Duration};

use announcer::{datapath::Datapath, vocabulary::BootNs};

/// A forked child that moves the deadline of its parent's datapath; killed when dropped.
pub struct RenewingAgent {
    pid: libc::pid_t,
}

impl RenewingAgent {
    /// Renews twelve times in each lease.
    pub fn start(datapath: &mut Datapath, lease: Duration) -> Self {
        // SAFETY: what the child does is safe after a fork of a process with threads: it reads a clock, stores to
        // memory that it shares with the kernel, and sleeps. It never returns.
        let pid = unsafe { libc::fork() };
        assert!(pid >= 0, "fork");
        if pid == 0 {
            // SAFETY: a system call without pointers; it ends the child with the test's thread.
            unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
            while datapath.set_deadline(BootNs::now() + lease).is_ok() {
                thread::sleep(lease / 12);
            }
            // SAFETY: ends the child, and runs nothing of the parent's.
            unsafe { libc::_exit(1) };
        }
        Self { pid }
    }

    /// SIGSTOP; it stands still when this returns.
    pub fn stop(&self) {
        self.signal(libc::SIGSTOP);
        // SAFETY: our own child; the status is not asked for.
        let waited = unsafe { libc::waitpid(self.pid, std::ptr::null_mut(), libc::WUNTRACED) };
        assert_eq!(waited, self.pid);
    }

    /// SIGCONT.
    pub fn go_on(&self) {
        self.signal(libc::SIGCONT);
    }

    fn signal(&self, signal: libc::c_int) {
        // SAFETY: a child that has not been waited for: the number is nobody else's.
        assert_eq!(unsafe { libc::kill(self.pid, signal) }, 0);
    }
}

impl Drop for RenewingAgent {
    fn drop(&mut self) {
        self.signal(libc::SIGKILL);
        // SAFETY: our own child; the status is not asked for.
        unsafe { libc::waitpid(self.pid, std::ptr::null_mut(), 0) };
    }
}
