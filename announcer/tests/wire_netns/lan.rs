//! Network namespaces without a name: one thread each, and gone when the thread ends.

use std::{
    future::Future,
    io::Write,
    os::fd::AsRawFd,
    process::{Command, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError, Sender},
    thread::{self, JoinHandle},
    time::Duration,
};

use announcer::{
    vocabulary::{Link, Mac},
    wire::links::LinkWatch,
};

/// More than anything here takes, so that a test ends with a sentence and not by a time limit from outside.
pub const PATIENCE: Duration = Duration::from_secs(10);

type Job = Box<dyn FnOnce() + Send>;

/// A network namespace, entered by a thread that does as it is told.
pub struct Namespace {
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    tid: libc::pid_t,
}

impl Namespace {
    /// With `lo` up, and without waiting for duplicate address detection.
    pub fn new() -> Self {
        let (jobs, inbox) = mpsc::channel::<Job>();
        let (ready, tid) = mpsc::channel();
        let thread = thread::spawn(move || {
            // SAFETY: `unshare` takes no pointer; it changes the namespace of this thread alone.
            let unshared = unsafe { libc::unshare(libc::CLONE_NEWNET) };
            assert_eq!(unshared, 0, "a network namespace needs root: {}", std::io::Error::last_os_error());
            std::fs::write("/proc/sys/net/ipv6/conf/default/accept_dad", "0").expect("IPv6");
            ip("link set lo up");
            // SAFETY: `gettid` has no conditions.
            ready.send(unsafe { libc::gettid() }).expect("a maker");
            inbox.into_iter().for_each(|job| job());
        });
        let tid = tid.recv_timeout(PATIENCE).expect("a namespace");
        Self { jobs: Some(jobs), thread: Some(thread), tid }
    }

    /// The number by which `ip` knows it.
    pub fn tid(&self) -> libc::pid_t {
        self.tid
    }

    /// Starts `work` inside; the answer comes by the receiver.
    pub fn start<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Pending<T> {
        let (answer, pending) = mpsc::channel();
        let job = Box::new(move || drop(answer.send(work())));
        self.jobs.as_ref().expect("not dropped").send(job).expect("a thread");
        Pending(pending)
    }

    /// Does `work` inside.
    pub fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        self.start(work).wait()
    }

    /// Runs a future inside, on a runtime whose every socket belongs to this namespace.
    pub fn run_async<T, F>(&self, work: impl FnOnce() -> F + Send + 'static) -> T
    where
        T: Send + 'static,
        F: Future<Output = T>,
    {
        self.run(move || block_on(work()))
    }

    /// Starts a future inside.
    pub fn start_async<T, F>(&self, work: impl FnOnce() -> F + Send + 'static) -> Pending<T>
    where
        T: Send + 'static,
        F: Future<Output = T>,
    {
        self.start(move || block_on(work()))
    }

    /// Does `work` inside, on another thread: for when this one is busy.
    pub fn beside(&self, work: impl FnOnce() + Send + 'static) {
        let namespace =
            std::fs::File::open(format!("/proc/self/task/{}/ns/net", self.tid)).expect("a namespace");
        let entered = thread::spawn(move || {
            // SAFETY: the descriptor is open; it changes the namespace of this thread alone.
            let entered = unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) };
            assert_eq!(entered, 0, "{}", std::io::Error::last_os_error());
            work();
        });
        entered.join().expect("no panic");
    }

    /// `ip ARGUMENTS` inside; what it prints.
    pub fn ip(&self, arguments: &str) -> String {
        let arguments = arguments.to_owned();
        self.run(move || ip(&arguments))
    }

    /// Waits until `eth0` has its link-local address, which comes with the multicast route.
    fn ipv6_ready(&self) {
        self.run_async(|| async {
            let watch = LinkWatch::open().await.expect("netlink");
            tokio::spawn(watch.follow());
            let local = |link: &Link| link.ipv6_source.is_some_and(|ip| ip.is_unicast_link_local());
            let mut view = watch.view();
            view.wait_for(|view| view.named("eth0").is_some_and(local)).await.expect("a watch");
        });
    }

    /// The link of this name, as [`LinkWatch`] sees it.
    pub fn link(&self, name: &'static str) -> Link {
        self.run_async(move || async move {
            let watch = LinkWatch::open().await.expect("netlink");
            let view = watch.view().borrow().clone();
            view.named(name).expect("a link of that name").clone()
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        drop(self.jobs.take());
        let ended = self.thread.take().map(JoinHandle::join);
        if !thread::panicking() {
            assert!(matches!(ended, Some(Ok(()))), "a job panicked");
        }
    }
}

/// An answer to come.
pub struct Pending<T>(Receiver<T>);

impl<T> Pending<T> {
    pub fn wait(self) -> T {
        match self.0.recv_timeout(PATIENCE) {
            Ok(answer) => answer,
            Err(RecvTimeoutError::Timeout) => panic!("no answer within {PATIENCE:?}"),
            Err(RecvTimeoutError::Disconnected) => panic!("the job panicked"),
        }
    }
}

/// A node and a client, joined by a cable: `eth0` on both.
pub struct Lan {
    pub node: Namespace,
    pub client: Namespace,
}

impl Lan {
    /// Both ends up; the node is 10.4.0.1 and fd00:4::1, the client 10.4.0.2 and fd00:4::2.
    pub fn new() -> Self {
        let (node, client) = (Namespace::new(), Namespace::new());
        // Not by chance: a MAC's last bytes make a group of its host's own, which a test may look for.
        let peer = format!("peer name eth0 address 02:00:0a:04:00:02 netns {}", client.tid);
        node.ip(&format!("link add eth0 address 02:00:0a:04:00:01 type veth {peer}"));
        for (end, host) in [(&node, 1), (&client, 2)] {
            end.ip(&format!("addr add 10.4.0.{host}/20 dev eth0"));
            end.ip(&format!("addr add fd00:4::{host}/64 dev eth0"));
            end.ip("link set eth0 up");
        }
        // IPv6 begins when the kernel's link watch gets round to it, up to a second later.
        node.ipv6_ready();
        client.ipv6_ready();
        Self { node, client }
    }
}

/// `ip ARGUMENTS` in the namespace of the calling thread.
pub fn ip(arguments: &str) -> String {
    let output = Command::new("ip").args(arguments.split_whitespace()).output().expect("iproute2");
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// Many commands of `ip`, one a line, in the namespace of the calling thread.
pub fn ip_batch(commands: &str) {
    let mut child = Command::new("ip").args(["-batch", "-"]).stdin(Stdio::piped()).spawn().expect("iproute2");
    child.stdin.take().expect("piped").write_all(commands.as_bytes()).expect("written");
    assert!(child.wait().expect("ended").success());
}

/// The MAC that `ip link` prints.
pub fn mac(text: &str) -> Mac {
    let bytes: Vec<_> = text.split(':').map(|byte| u8::from_str_radix(byte, 16).expect("a MAC")).collect();
    Mac(bytes.try_into().expect("six bytes"))
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async { tokio::time::timeout(PATIENCE, work).await.expect("in time") })
}

/// What kernels before about 6.8 have by default; of the calling thread's namespace alone since Linux 6.7.
pub fn small_optmem() {
    std::fs::write("/proc/sys/net/core/optmem_max", "20480").expect("Linux 6.7");
}
