//! A place of its own for every test: network namespaces, a bpffs and links that vanish with the test's threads.

#![allow(dead_code, reason = "each test binary uses a part of it")]

pub mod agent;
pub mod asker;
pub mod bench;
pub mod foreign;
pub mod frames;
pub mod odd;
pub mod offload;
pub mod programs;
pub mod rig;
pub mod socket;
pub mod tcpdump;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
    process::Command,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use announcer::{
    datapath::{Config, Datapath, KernelLog, Mode, Owners, SessionRecord},
    vocabulary::{BootNs, Link, LinkId, Mac, Vip},
};
use announcer_ebpf::layout::Vip6Key;
use aya::maps::{HashMap, Map, MapData};
use rustix::{
    mount::{MountFlags, MountPropagationFlags, mount, mount_change},
    thread::{UnshareFlags, unshare_unsafe},
};

pub const UID: [u8; 16] = *b"0123456789abcdef";
pub const BOOT_ID: [u8; 16] = *b"boot-of-this-one";

/// The test's thread in its own network and mount namespace, and a client at the far end of `left`-`right`.
pub struct Lab {
    pub client: Client,
}

/// A thread in another network namespace that runs what it is given.
pub struct Client {
    pub tid: i32,
    jobs: mpsc::Sender<Box<dyn FnOnce() + Send>>,
}

impl Lab {
    /// Both ends up, 10.9.0.1 and fd00:9::1 on `left`, .2 and ::2 on the client's `right`.
    pub fn new() -> Self {
        let lab = Self::without_links();
        lab.add_veth("left", "right");
        ip("addr add 10.9.0.1/24 dev left");
        ip("addr add fd00:9::1/64 dev left nodad");
        lab.client.run(|| {
            ip("addr add 10.9.0.2/24 dev right");
            ip("addr add fd00:9::2/64 dev right nodad");
        });
        lab
    }

    pub fn without_links() -> Self {
        enter_namespaces(true);
        let client = Client::new();
        ip("link set lo up");
        client.run(|| ip("link set lo up"));
        Self { client }
    }

    pub fn add_veth(&self, left: &'static str, right: &'static str) {
        ip(&format!("link add {left} type veth peer name {right}"));
        ip(&format!("link set {right} netns {}", self.client.tid));
        ip(&format!("link set {left} up"));
        self.client.run(move || ip(&format!("link set {right} up")));
    }

    pub fn config(mode: Mode) -> Config {
        Config { pin_root: pin_root(), mode, kernel_log: KernelLog::Off, ..Config::default() }
    }

    /// Attached to `left`, answering for the VIPs for a minute.
    pub fn answering(&self, mode: Mode, vips: &[&str]) -> (Datapath, Link) {
        self.answering_as(Self::config(mode), vips)
    }

    /// The same, set up as `config` says.
    pub fn answering_as(&self, config: Config, vips: &[&str]) -> (Datapath, Link) {
        let left = link("left");
        let mut datapath = Datapath::open(config).expect("a datapath");
        let reports = datapath.establish(std::slice::from_ref(&left)).expect("established");
        assert!(datapath.attachments().contains_key(&left.id), "left is attached: {reports:?}");
        begin(&mut datapath, 1);
        datapath.apply(&owning(vips, &[left.id])).expect("applied");
        (datapath, left)
    }
}

impl Client {
    fn new() -> Self {
        let (jobs, inbox) = mpsc::channel::<Box<dyn FnOnce() + Send>>();
        let (send_tid, tid) = mpsc::channel();
        thread::spawn(move || {
            enter_namespaces(false);
            send_tid.send(rustix::thread::gettid().as_raw_nonzero().get()).expect("the test waits");
            for job in inbox {
                job();
            }
        });
        Self { tid: tid.recv().expect("the client's thread id"), jobs }
    }

    /// Runs `job` in the client's namespace and waits for it.
    pub fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        self.start(job).recv().expect("the job did not panic")
    }

    /// Begins `job` in the client's namespace; one at a time.
    pub fn start<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> mpsc::Receiver<T> {
        let (done, result) = mpsc::channel();
        let job = move || drop(done.send(job()));
        self.jobs.send(Box::new(job)).expect("the client lives");
        result
    }
}

/// Where the test's datapath pins.
pub fn pin_root() -> PathBuf {
    "/sys/fs/bpf/announcer".into()
}

/// This thread, and what it starts, in new network and mount namespaces with their own sysfs, and a bpffs if wanted.
fn enter_namespaces(bpffs: bool) {
    // SAFETY: namespaces of this thread alone; no descriptor table is unshared.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS | UnshareFlags::NEWNET) }.expect("unshare needs root");
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private).expect("private mounts");
    mount("sysfs", "/sys", "sysfs", MountFlags::empty(), None).expect("a sysfs");
    // Addresses can be used at once, and nobody looks for routers.
    sysctl("net/ipv6/conf/default/accept_dad", "0");
    sysctl("net/ipv6/conf/default/router_solicitations", "0");
    if bpffs {
        mount("bpf", "/sys/fs/bpf", "bpf", MountFlags::empty(), None).expect("a bpffs");
    }
}

/// Sets a sysctl of this thread's network namespace.
pub fn sysctl(name: &str, value: &str) {
    fs::write(format!("/proc/sys/{name}"), value).unwrap_or_else(|error| panic!("{name}: {error}"));
}

/// Asks until the answer is good: for state of the kernel that no event tells of.
pub fn wait_for<T>(limit: Duration, what: &str, mut ask: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        match ask() {
            Ok(found) => return found,
            Err(seen) if Instant::now() > deadline => panic!("no {what}; at last: {seen}"),
            Err(_) => thread::sleep(Duration::from_millis(5)),
        }
    }
}

/// `ip …`, which must work.
pub fn ip(arguments: &str) {
    sh(&format!("ip {arguments}"));
}

/// A shell command, which must work; its output.
pub fn sh(command: &str) -> String {
    let (success, output) = try_sh(command);
    assert!(success, "{command}: {output}");
    output
}

/// A shell command: whether it worked, and its output.
pub fn try_sh(command: &str) -> (bool, String) {
    let output = Command::new("sh").args(["-c", &format!("exec 2>&1; {command}")]).output().expect("a shell");
    (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The link of this namespace with that name, as netlink would tell it.
pub fn link(name: &str) -> Link {
    let read = |file: &str| {
        let path = format!("/sys/class/net/{name}/{file}");
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}")).trim().to_owned()
    };
    let mac: Vec<u8> =
        read("address").split(':').map(|byte| u8::from_str_radix(byte, 16).expect("hexadecimal")).collect();
    let details = sh(&format!("ip -d -o link show dev {name}"));
    let kind =
        ["veth", "bridge", "vlan", "dummy"].into_iter().find(|kind| details.contains(&format!(" {kind} ")));
    Link {
        id: LinkId(read("ifindex").parse().expect("a number")),
        name: name.to_owned(),
        mac: Mac(mac.try_into().expect("six bytes")),
        kind: kind.map(str::to_owned),
        carrier: true,
        mtu: 1500,
        master: None,
        vlan: None,
        has_global_address: true,
        ipv6_source: None,
    }
}

/// A session of that epoch with ten minutes to go: longer than any test takes on a machine that does much else.
pub fn begin(datapath: &mut Datapath, epoch: u64) {
    datapath.begin_session(&session(epoch)).expect("a session");
    datapath.set_deadline(BootNs::now() + Duration::from_secs(600)).expect("a deadline");
}

pub fn session(epoch: u64) -> SessionRecord {
    SessionRecord { uid: UID, epoch, boot_id: BOOT_ID }
}

pub fn vip(text: &str) -> Vip {
    text.parse().expect("an address")
}

/// All `vips` owned on all `links`.
pub fn owning(vips: &[&str], links: &[LinkId]) -> Owners {
    let on: BTreeSet<LinkId> = links.iter().copied().collect();
    Owners { vips: vips.iter().map(|text| (vip(text), on.clone())).collect::<BTreeMap<_, _>>() }
}

/// As if half a second had passed: the kernel tells of the next conflict of every VIP.
pub fn let_time_pass() {
    let map = MapData::from_pin("/sys/fs/bpf/announcer/gen-1/told").expect("the pin");
    let mut told: HashMap<_, Vip6Key, u64> =
        Map::from_map_data(map).expect("a map").try_into().expect("a hash of times");
    let keys: Vec<Vip6Key> = told.keys().map(|key| key.expect("a key")).collect();
    keys.iter().for_each(|key| told.remove(key).expect("removed"));
}
