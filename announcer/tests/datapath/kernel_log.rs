//! What the programs tell of their decisions, at each level; and that silence is free. Root.

use std::{
    io,
    sync::{Arc, Mutex, mpsc},
    time::Duration,
};

use announcer::{
    datapath::{Config, Datapath, KernelLog, KernelLogReader, Mode},
    vocabulary::Link,
};
use rustix::{
    event::{PollFd, PollFlags, poll},
    thread::{CapabilitySet, CapabilitySets, set_capabilities},
};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::support::{
    Lab,
    asker::Asker,
    begin,
    frames::{Arp, CLIENT, Ndp, STRANGER},
    link, owning, pin_root,
    programs::{
        Live,
        Said::{Drop, Pass},
    },
    sh, vip,
};

const VIP4: &str = "10.9.0.100";
const VIP6: &str = "fd00:9::100";
const OTHER4: &str = "10.9.0.101";
const OTHER6: &str = "fd00:9::101";
const NOBODY4: &str = "10.9.0.7";
const NOBODY6: &str = "fd00:9::7";

/// What was written.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl io::Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no panic").write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Written {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

/// One link whose programs log at some level: VIP4 and VIP6 owned, OTHER4 and OTHER6 elsewhere.
struct Telling {
    datapath: Datapath,
    left: Link,
    live: Live,
    reader: Option<KernelLogReader>,
    _lab: Lab,
}

impl Telling {
    fn at(level: KernelLog) -> Self {
        let lab = Lab::new();
        let (mut datapath, left) = taken_over(level);
        begin(&mut datapath, 1);
        let mut owners = owning(&[VIP4, VIP6], &[left.id]);
        owners.vips.extend(owning(&[OTHER4, OTHER6], &[]).vips);
        datapath.apply(&owners).expect("applied");
        let reader = datapath.kernel_log();
        let live = Live::open(&pin_root());
        Self { datapath, left, live, reader, _lab: lab }
    }

    /// The lines since the last call on our addresses, each of them told by both programs.
    fn lines(&mut self) -> Vec<String> {
        let mut lines = told(self.reader.as_mut().expect("something is logged"));
        // The namespaces' own stacks look for duplicates of their link-local addresses.
        lines.retain(|line| !line.contains("ip=fe80:"));
        lines.chunks(2).for_each(|pair| assert_eq!(pair[0], pair[1]));
        lines.into_iter().step_by(2).collect()
    }

    /// The two lines' common end.
    fn frame(&self, mac: [u8; 6]) -> String {
        let [a, b, c, d, e, f] = mac;
        format!(r#"mac="{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}" ifindex={}"#, self.left.id)
    }
}

fn taken_over(kernel_log: KernelLog) -> (Datapath, Link) {
    let left = link("left");
    let config = Config { kernel_log, ..Lab::config(Mode::Tcx) };
    let mut datapath = Datapath::open(config).expect("a datapath");
    datapath.establish(std::slice::from_ref(&left)).expect("established");
    (datapath, left)
}

/// What the reader makes of all that is there, one line an event.
fn told(reader: &mut KernelLogReader) -> Vec<String> {
    let written = Written::default();
    let subscriber = tracing_subscriber::fmt()
        .with_writer(written.clone())
        .with_max_level(LevelFilter::TRACE)
        .without_time()
        .with_ansi(false)
        .finish();
    tracing::subscriber::with_default(subscriber, || reader.flush());
    let text = String::from_utf8(written.0.lock().expect("no panic").clone()).expect("text");
    text.lines().map(|line| line.trim().to_owned()).collect()
}

fn instructions(program: &str) -> String {
    let generation = sh("ls -d /sys/fs/bpf/announcer/gen-*").trim().to_owned();
    sh(&format!("bpftool prog dump xlated pinned {generation}/{program}"))
}

#[test]
fn every_decision_on_a_vip_is_told_at_debug() {
    let mut bench = Telling::at(KernelLog::Debug);
    let ask = |bench: &Telling, frame: &[u8]| bench.live.both(bench.left.id.0, frame);
    let client = bench.frame(CLIENT);
    let line = |what: &str, ip: &str| format!("DEBUG announcer::kernel: kernel: {what} ip={ip} {client}");

    ask(&bench, &Arp::request(VIP4).bytes());
    ask(&bench, &Ndp::solicitation(VIP6).bytes());
    assert_eq!(bench.lines(), [line("answered", VIP4), line("answered", VIP6)]);

    assert_eq!(ask(&bench, &Arp::request(OTHER4).bytes()), Drop);
    assert_eq!(ask(&bench, &Ndp::solicitation(OTHER6).bytes()), Drop);
    assert_eq!(bench.lines(), [line("suppressed", OTHER4), line("suppressed", OTHER6)]);

    bench.datapath.silence().expect("silent");
    assert_eq!(ask(&bench, &Arp::request(VIP4).bytes()), Drop);
    assert_eq!(ask(&bench, &Ndp::solicitation(VIP6).bytes()), Drop);
    assert_eq!(bench.lines(), [line("fenced", VIP4), line("fenced", VIP6)]);
}

#[test]
fn conflicts_and_malformed_messages_are_told_at_debug() {
    let mut bench = Telling::at(KernelLog::Debug);
    let ask = |bench: &Telling, frame: &[u8]| assert_eq!(bench.live.both(bench.left.id.0, frame), Pass);
    ask(&bench, &Arp { from: STRANGER, sender_mac: STRANGER, sender: VIP4, ..Arp::request(VIP4) }.bytes());
    ask(&bench, &Ndp::advertisement(VIP6, STRANGER).bytes());
    ask(&bench, &Ndp { hop_limit: 64, ..Ndp::solicitation(VIP6) }.bytes());
    let (stranger, client) = (bench.frame(STRANGER), bench.frame(CLIENT));
    let expected = [
        format!("DEBUG announcer::kernel: kernel: conflict ip={VIP4} {stranger}"),
        format!("DEBUG announcer::kernel: kernel: conflict ip={VIP6} {stranger}"),
        format!("DEBUG announcer::kernel: kernel: malformed {client}"),
    ];
    assert_eq!(bench.lines(), expected);
}

#[test]
fn what_is_left_to_the_stack_is_told_at_trace_only() {
    for level in [KernelLog::Debug, KernelLog::Trace] {
        let mut bench = Telling::at(level);
        assert_eq!(bench.live.both(bench.left.id.0, &Arp::request(NOBODY4).bytes()), Pass);
        assert_eq!(bench.live.both(bench.left.id.0, &Ndp::solicitation(NOBODY6).bytes()), Pass);
        let line = |ip| format!("TRACE announcer::kernel: kernel: passed ip={ip} {}", bench.frame(CLIENT));
        let expected =
            if level == KernelLog::Trace { vec![line(NOBODY4), line(NOBODY6)] } else { Vec::new() };
        assert_eq!(bench.lines(), expected);
    }
}

#[test]
fn levels_above_debug_tell_nothing_of_requests() {
    let mut bench = Telling::at(KernelLog::Info);
    bench.live.both(bench.left.id.0, &Arp::request(VIP4).bytes());
    assert_eq!(bench.lines(), Vec::<String>::new());
}

#[test]
fn proofs_are_not_told() {
    let mut bench = Telling::at(KernelLog::Trace);
    for text in [VIP4, VIP6, OTHER4, OTHER6, NOBODY4, NOBODY6] {
        bench.datapath.prove(vip(text), bench.left.id).expect("a proof");
    }
    assert_eq!(bench.lines(), Vec::<String>::new());
}

#[test]
fn a_silent_program_has_no_instruction_of_the_log() {
    let bench = Telling::at(KernelLog::Off);
    assert!(bench.reader.is_none());
    let silent = ["announcer_xdp", "announcer_tcx"].map(instructions);
    drop(bench);
    let _telling = Telling::at(KernelLog::Debug);
    let telling = ["announcer_xdp", "announcer_tcx"].map(instructions);
    for (silent, telling) in silent.into_iter().zip(telling) {
        // Only the log reserves room in a ring buffer, by functions of its own.
        assert!(telling.contains("bpf_ringbuf_reserve") && telling.contains("suppressed4"), "{telling}");
        assert!(!silent.contains("bpf_ringbuf_reserve") && !silent.contains("suppressed4"), "{silent}");
    }
}

#[test]
fn the_log_s_ring_is_a_page_while_nothing_is_logged() {
    let bytes = |level| {
        let _bench = Telling::at(level);
        let generation = sh("ls -d /sys/fs/bpf/announcer/gen-*").trim().to_owned();
        let ids = sh(&format!("bpftool prog show pinned {generation}/announcer_xdp"));
        let ids = ids.split("map_ids ").nth(1).and_then(|rest| rest.split_whitespace().next());
        let maps: Vec<String> = ids
            .expect("the program's maps")
            .split(',')
            .map(|id| sh(&format!("bpftool map show id {id}")))
            .filter(|shown| shown.contains("AYA_LOGS"))
            .collect();
        let [map] = &maps[..] else { panic!("{maps:?}") };
        map.split("max_entries ").nth(1).and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok())
    };
    assert_eq!(bytes(KernelLog::Off), sh("getconf PAGESIZE").trim().parse().ok());
    assert_eq!(bytes(KernelLog::Debug), Some(128 << 10));
}

#[test]
fn a_change_of_the_level_under_load_loses_no_answer() {
    let lab = Lab::new();
    drop(lab.answering(Mode::Tcx, &[VIP4]));
    let asker = Asker::start(&lab.client, VIP4);
    let mut told_by = Vec::new();
    for level in [KernelLog::Debug, KernelLog::Off, KernelLog::Debug, KernelLog::Off] {
        let (mut datapath, _) = taken_over(level);
        let Some(mut reader) = datapath.kernel_log() else { continue };
        while !told(&mut reader).iter().any(|line| line.contains("kernel: answered")) {
            poll(&mut [PollFd::new(&reader, PollFlags::IN)], None).expect("something to read");
        }
        told_by.push(level);
    }
    let asked = asker.stop();
    assert_eq!(asked.answered, asked.sent, "every request is answered");
    assert_eq!(told_by, [KernelLog::Debug, KernelLog::Debug]);
}

#[test]
fn the_reader_s_thread_tells_what_happens_as_it_happens() {
    struct Lines(Mutex<mpsc::Sender<String>>);
    impl io::Write for &Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let line = String::from_utf8_lossy(bytes).into_owned();
            self.0.lock().expect("no panic").send(line).map_err(io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let (sender, lines) = mpsc::channel();
    let subscriber = tracing_subscriber::fmt()
        .with_writer(Arc::new(Lines(Mutex::new(sender))))
        .with_max_level(LevelFilter::TRACE)
        .finish();
    // Of the whole process: other tests' threads have one of their own while they look.
    tracing::subscriber::set_global_default(subscriber).expect("the only one");
    let mut bench = Telling::at(KernelLog::Debug);
    let mut reader = bench.reader.take().expect("something is logged");
    std::thread::spawn(move || reader.read_while(|| true));
    for ip in [VIP4, OTHER4] {
        bench.live.both(bench.left.id.0, &Arp::request(ip).bytes());
        let told = |line: String| line.contains("announcer::kernel") && line.contains(ip);
        while !told(lines.recv_timeout(Duration::from_secs(10)).expect("a line")) {}
    }
}

#[test]
fn the_daemonset_s_capabilities_are_enough_to_tell() {
    let _lab = Lab::new();
    let few = CapabilitySet::BPF | CapabilitySet::NET_ADMIN | CapabilitySet::PERFMON | CapabilitySet::NET_RAW;
    let sets = CapabilitySets { effective: few, permitted: few, inheritable: CapabilitySet::empty() };
    set_capabilities(None, sets).expect("this thread gives up the rest");
    let (mut datapath, _) = taken_over(KernelLog::Trace);
    assert!(datapath.kernel_log().is_some());
    assert!(datapath.kernel_log().is_none(), "there is one reader");
}
