//! tcpdump, which reads the wire with eyes that are not ours.

use std::{
    io::{BufRead, BufReader},
    process::{Child, ChildStderr, Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

/// A running tcpdump. Frames are told as `-e -vv` prints them: addresses, tags, flags, options, checksums judged.
pub struct Tcpdump {
    child: Child,
    lines: mpsc::Receiver<String>,
    /// Kept open: tcpdump would die of writing to a closed one.
    _stderr: BufReader<ChildStderr>,
}

impl Tcpdump {
    /// On that device of this thread's namespace; it listens when this returns.
    pub fn start(device: &str) -> Self {
        // Room for bursts: with the default lengths its buffer holds 32 frames, and what comes then is lost.
        let mut child = Command::new("tcpdump")
            .args([
                "--immediate-mode",
                "-l",
                "-n",
                "-e",
                "-vv",
                "-t",
                "-s",
                "256",
                "-B",
                "4096",
                "-i",
                device,
            ])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("tcpdump");
        let mut stderr = BufReader::new(child.stderr.take().expect("piped"));
        let mut said = String::new();
        while !said.contains("listening on") {
            assert!(stderr.read_line(&mut said).expect("text") > 0, "tcpdump: {said}");
        }
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        let (send, lines) = mpsc::channel();
        thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| send.send(line)));
        Self { child, lines, _stderr: stderr }
    }

    /// All that it printed up to the line with `wanted` in it, which must come within five seconds.
    pub fn until(&mut self, wanted: &str) -> String {
        let mut text = String::new();
        while !text.lines().next_back().is_some_and(|line| line.contains(wanted)) {
            match self.lines.recv_timeout(Duration::from_secs(5)) {
                Ok(line) => text = text + &line + "\n",
                Err(error) => panic!("no {wanted:?} ({error}) in:\n{text}"),
            }
        }
        text
    }
}

impl Drop for Tcpdump {
    fn drop(&mut self) {
        self.child.kill().and_then(|()| self.child.wait()).expect("ended");
    }
}
