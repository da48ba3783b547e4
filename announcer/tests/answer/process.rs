//! The binary, started in the namespaces of the calling thread.

use std::{
    env, fs,
    io::{self, BufRead, BufReader},
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
    ended(&mut command(arguments))
}

fn ended(command: &mut Command) -> Ended {
    let output = command.output().expect("the binary runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ended { status: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
}

/// Runs `announcer ARGUMENTS` to its end as a user without any right.
pub fn run_as_nobody(arguments: &str) -> Ended {
    // The build may lie where nobody else may look.
    let program = env::temp_dir().join(format!("announcer-for-nobody-{}", std::process::id()));
    fs::copy(env!("CARGO_BIN_EXE_announcer"), &program).expect("a copy");
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&program);
    let ended = ended(command.args(arguments.split_whitespace()));
    fs::remove_file(&program).expect("removed");
    ended
}

/// Runs `announcer ARGUMENTS` to its end under a seccomp filter that answers bpf(2) with `errno`.
pub fn run_without_bpf(errno: i32, arguments: &str) -> Ended {
    use std::os::unix::process::CommandExt;
    let mut command = command(arguments);
    // SAFETY: between fork and exec there are two system calls, and nothing is allocated.
    unsafe { command.pre_exec(move || refuse_bpf(errno)) };
    ended(&mut command)
}

fn refuse_bpf(errno: i32) -> io::Result<()> {
    let instruction = |code: u32, jt, jf, k: u32| libc::sock_filter { code: code as u16, jt, jf, k };
    let mut filter = [
        // `seccomp_data.nr`
        instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, libc::SYS_bpf as u32),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | errno as u32),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: flags only.
    let privileges = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    // SAFETY: the program and its instructions live until the call is over.
    let filtered =
        unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) };
    if privileges == 0 && filtered == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
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
        Self::spawn(command(arguments))
    }

    /// Starts `announcer ARGUMENTS` with these capabilities at most, as setpriv writes them.
    pub fn start_with(capabilities: &str, arguments: &str) -> Self {
        let mut command = Command::new("setpriv");
        command.args([
            "--no-new-privs",
            "--inh-caps",
            "-all",
            "--bounding-set",
            &format!("-all,{capabilities}"),
        ]);
        command.arg(env!("CARGO_BIN_EXE_announcer")).args(arguments.split_whitespace());
        Self::spawn(command)
    }

    fn spawn(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("the binary runs");
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
