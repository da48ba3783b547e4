//! The binary, started in the namespaces of the calling thread.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

/// More than anything here takes, so that a test ends with a sentence.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A running `announcer`; killed when it is dropped.
pub struct Announcer {
    child: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
}

/// How one that ran to its end did so.
#[derive(Debug)]
pub struct Ended {
    pub status: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

fn command(arguments: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_announcer"));
    command.args(arguments.split_whitespace()).stdin(Stdio::null());
    command
}

/// Runs `announcer ARGUMENTS` to its end.
pub fn run(arguments: &str) -> Ended {
    let output = command(arguments).output().expect("the binary runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ended { status: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
}

impl Announcer {
    /// Starts `announcer answer ARGUMENTS`, and returns once it answers.
    pub fn answer(arguments: &str) -> Self {
        let mut announcer = Self::start(&format!("answer {arguments}"));
        announcer.wait_for("answering for");
        announcer
    }

    /// Starts `announcer ARGUMENTS`.
    pub fn start(arguments: &str) -> Self {
        let mut child = command(arguments).stdout(Stdio::piped()).spawn().expect("the binary runs");
        let (send, lines) = mpsc::channel();
        let stdout = child.stdout.take().expect("piped");
        thread::spawn(move || {
            let mut lines = BufReader::new(stdout).lines();
            while let Some(Ok(line)) = lines.next() {
                if send.send(line).is_err() {
                    break;
                }
            }
        });
        Self { child, lines, seen: Vec::new() }
    }

    /// What it has said so far, as far as was waited for.
    pub fn said(&self) -> &[String] {
        &self.seen
    }

    /// The next line that holds `words`.
    pub fn wait_for(&mut self, words: &str) -> String {
        let until = Instant::now() + PATIENCE;
        loop {
            match self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    self.seen.push(line.clone());
                    if line.contains(words) {
                        return line;
                    }
                }
                Err(error) => panic!("no line with {words:?} ({error}) in {:#?}", self.seen),
            }
        }
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("the process is ours");
    }

    /// Sends a signal and waits for the end.
    pub fn end(mut self, signal: Signal) -> ExitStatus {
        self.signal(signal);
        self.child.wait().expect("a child")
    }
}

impl Drop for Announcer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
