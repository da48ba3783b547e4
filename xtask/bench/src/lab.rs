//! Where it is measured: network namespaces of the bench's own, which vanish with it however it ends.

use std::{
    fs,
    net::IpAddr,
    os::fd::OwnedFd,
    path::Path,
    process::Command,
    sync::{OnceLock, mpsc},
    thread,
    time::Duration,
};

use announcer::{
    datapath::{Config, Datapath, Mode, Owners, SessionRecord},
    vocabulary::{BootNs, Link, LinkId, Mac, Vip},
};
use anyhow::{Context as _, Result, anyhow, ensure};
use rustix::{
    fs::CWD,
    mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree},
};

use crate::sys::{self, Kind};

/// Where cgroups are mounted.
const CGROUP_DIR: &str = "/sys/fs/cgroup";
/// The deadline of the bench's sessions: longer than any run.
const LONG: Duration = Duration::from_secs(24 * 3600);

/// A thread in another network namespace, which does what it is given.
pub struct Far {
    thread: i32,
    jobs: mpsc::Sender<Box<dyn FnOnce() + Send>>,
}

/// The live programs of one agent's datapath, and what keeps them so.
pub struct Live {
    datapath: Datapath,
    pins: std::path::PathBuf,
}

/// The machine's cgroups as they were mounted outside.
static CGROUPS: OnceLock<OwnedFd> = OnceLock::new();

/// Takes the process into namespaces of its own: to be called before any other thread runs.
pub fn enter() -> Result<()> {
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::AT_RECURSIVE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if let Ok(tree) = open_tree(CWD, CGROUP_DIR, flags) {
        CGROUPS.get_or_init(|| tree);
    }
    sys::enter_namespaces(true).context("no namespaces: the bench needs root")?;
    ip("link set lo up")
}

/// Gives this process's `/sys` its cgroups again, which kubelets want. Other parts do without: machines of a lab would
/// have a share of the CPUs each, and not a process its own.
pub fn show_cgroups() -> Result<()> {
    if fs::read_dir(CGROUP_DIR).is_ok_and(|mut listed| listed.next().is_some()) {
        return Ok(());
    }
    let tree = CGROUPS.get().context("this system has no cgroups")?;
    move_mount(tree, "", CWD, CGROUP_DIR, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .context("mount the cgroups again")
}

/// `ip …`, which must work.
pub fn ip(arguments: &str) -> Result<()> {
    let output = Command::new("ip")
        .args(arguments.split_whitespace())
        .output()
        .context("`ip` is missing: install iproute2")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ip {arguments}: {}", said.trim());
    Ok(())
}

/// Writes a setting of the calling thread's namespace.
pub fn set(path: &str, value: &str) -> Result<()> {
    fs::write(path, value).with_context(|| format!("{path} = {value}"))
}

/// A veth of this namespace by its name, as netlink would tell it.
pub fn link(name: &str) -> Result<Link> {
    let read = |file: &str| {
        let path = format!("/sys/class/net/{name}/{file}");
        fs::read_to_string(&path).context(path).map(|text| text.trim().to_owned())
    };
    let mac: Vec<u8> =
        read("address")?.split(':').map(|byte| u8::from_str_radix(byte, 16)).collect::<Result<_, _>>()?;
    Ok(Link {
        id: LinkId(read("ifindex")?.parse()?),
        name: name.to_owned(),
        mac: Mac(mac.try_into().map_err(|_| anyhow!("{name} is no Ethernet link"))?),
        kind: Some("veth".to_owned()),
        carrier: true,
        mtu: 1500,
        master: None,
        vlan: None,
        has_global_address: true,
        ipv6_source: None,
    })
}

// === impl Far ===

impl Far {
    /// A namespace with nothing but `lo` in it.
    pub fn new() -> Result<Self> {
        let (jobs, inbox) = mpsc::channel::<Box<dyn FnOnce() + Send>>();
        let (ready, begun) = mpsc::channel();
        thread::spawn(move || {
            let entered = sys::enter_namespaces(false);
            ready.send(entered.map(|()| rustix::thread::gettid().as_raw_nonzero().get())).unwrap_or_default();
            for job in inbox {
                job();
            }
        });
        let far = Self { thread: begun.recv()??, jobs };
        far.run(|| ip("link set lo up"))?;
        Ok(far)
    }

    /// A veth pair: `here` in this namespace, `there` in the far one, both up.
    pub fn add_pair(&self, here: &str, there: &str) -> Result<()> {
        ip(&format!("link add {here} type veth peer name {there}"))?;
        ip(&format!("link set {there} netns {}", self.thread))?;
        let there = there.to_owned();
        self.run(move || ip(&format!("link set {there} up")))?;
        ip(&format!("link set {here} up"))
    }

    /// Does `job` there and waits for it.
    pub fn run<T: Send + 'static>(&self, job: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
        self.start(job)?.recv().context("the far thread has ended")?
    }

    /// Begins `job` there; one at a time.
    pub fn start<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<mpsc::Receiver<Result<T>>> {
        let (done, result) = mpsc::channel();
        let job = move || drop(done.send(job()));
        self.jobs.send(Box::new(job)).map_err(|_| anyhow!("the far thread has ended"))?;
        Ok(result)
    }
}

// === impl Live ===

impl Live {
    /// Attaches to `link` in `mode`, with pins of its own at `name`, and owns `vips` there for a long time.
    pub fn start(
        name: &str,
        mode: Mode,
        link: &Link,
        vips: impl IntoIterator<Item = IpAddr>,
    ) -> Result<Self> {
        let pins = Path::new("/sys/fs/bpf").join(name);
        let config = Config { pin_root: pins.clone(), mode, ..Config::default() };
        let mut datapath = Datapath::open(config)?;
        let reports = datapath.establish(std::slice::from_ref(link))?;
        ensure!(datapath.attachments().contains_key(&link.id), "{name} can't be attached: {reports:?}");
        datapath.begin_session(&SessionRecord { uid: *b"of-a-bench-alone", epoch: 1, boot_id: [1; 16] })?;
        let here = std::collections::BTreeSet::from([link.id]);
        let vips = vips.into_iter().map(|address| (Vip::new(address), here.clone())).collect();
        datapath.apply(&Owners { vips })?;
        datapath.set_deadline(BootNs::now() + LONG)?;
        Ok(Self { datapath, pins })
    }

    /// The program as its generation has it.
    pub fn program(&self, kind: Kind) -> Result<OwnedFd> {
        let name = match kind {
            Kind::Xdp => "announcer_xdp",
            Kind::Tcx => "announcer_tcx",
        };
        let path = self.pins.join("gen-1").join(name);
        sys::open_pin(&path).with_context(|| path.display().to_string())
    }

    /// How many requests it has answered.
    pub fn replies(&self) -> Result<u64> {
        let counters = self.datapath.counters()?;
        Ok(counters.values().map(|counters| counters.replies).sum())
    }
}
