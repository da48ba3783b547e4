//! Answers per second of one CPU.
//!
//! A generator runs on the first CPU (`BPF_PROG_TEST_RUN` with live frames, far faster than any socket) and the
//! responder on the second: its device's NAPI as a kernel thread pinned there, and the packet responder, too. The far
//! end counts and drops every answer, on the responder's CPU, whoever answers. Frames come in bursts of 64.
//!
//! The responder is kept busy: more is offered than it can answer. Answers are counted per second, and per second of CPU
//! time that the responder's threads took, which other work on the machine makes less certain, but not smaller.
//!
//! The kernel keeps a neighbour entry for everybody it has answered, 1024 of them in one table for the whole machine.
//! Five thousand senders are what a segment's scan, or an attacker, makes of that.

use std::{
    fs,
    os::fd::AsFd,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    frames,
    lab::{Far, ip, set},
    machine,
    programs::Program,
    progress::Progress,
    report::{Cell, Section},
    responders::{Responder, VIPS, Who},
    stats::Spread,
    sys,
};

/// How long it goes on.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    rounds: usize,
    each: Duration,
}

const MANY_SENDERS: u16 = 5000;
/// Frames per system call.
const AT_ONCE: u32 = 1 << 20;

impl Effort {
    /// A minute, or a few seconds.
    pub fn new(quick: bool) -> Self {
        let each = Duration::from_millis(if quick { 250 } else { 1000 });
        Self { rounds: if quick { 2 } else { 5 }, each }
    }
}

/// Runs all of it.
pub fn run(effort: Effort) -> Result<Section> {
    ensure!(machine::cpus() >= 2, "the flood needs two CPUs: one asks, one answers");
    let progress = Progress::start("flood", effort.rounds);
    let far = Far::new()?;
    let responders = Responder::start_all(&far)?;
    let mut lanes = Vec::new();
    for responder in responders {
        lanes.push(Lane::start(&far, responder)?);
    }
    for round in 0..effort.rounds {
        for lane in &mut lanes {
            progress.tell(&format!(
                "round {} of {}, {}",
                round + 1,
                effort.rounds,
                lane.responder.who.name()
            ));
            for senders in [1, MANY_SENDERS] {
                lane.flood(&far, senders, effort.each)?;
            }
        }
    }
    let kernel = lanes.iter().find(|lane| lane.responder.who == Who::Kernel).context("the kernel's lane")?;
    let rows = lanes.iter().map(|lane| {
        let thousands = |of: &dyn Fn(&Flooded) -> f64, floods: &[Flooded]| {
            Spread::of(floods.iter().map(|flooded| of(flooded) / 1e3))
        };
        let quotient = |over: &[Flooded], under: &[Flooded]| {
            let pairs = over.iter().zip(under);
            Spread::of(pairs.map(|(over, under)| over.answered / under.answered))
        };
        let cells = vec![
            Cell::number("replies_k", thousands(&|flooded| flooded.answered, &lane.one).median, 0),
            Cell::spread("replies_k_per_cpu", thousands(&Flooded::per_cpu_second, &lane.one), 0),
            Cell::spread("over_kernel", quotient(&lane.one, &kernel.one), 1),
            Cell::spread("many_senders_k_per_cpu", thousands(&Flooded::per_cpu_second, &lane.many), 0),
            Cell::number("of_one_sender", quotient(&lane.many, &lane.one).median, 2),
            Cell::spread("cpu", Spread::of(lane.one.iter().map(|flooded| flooded.cpu)), 2),
            Cell::spread("offered_k", thousands(&|flooded| flooded.offered, &lane.one), 0),
        ];
        (lane.responder.who.name(), cells)
    });
    let rows = rows.collect();
    let offered = Spread::of(lanes.iter().flat_map(|lane| &lane.one).map(|flooded| flooded.offered / 1e3));
    Ok(Section {
        id: "flood",
        title: "Answers by one CPU, thousands per second".to_owned(),
        notes: vec![format!("Offered: {:.0} [{:.0}–{:.0}].", offered.median, offered.p25, offered.p75)],
        columns: ["answered by", "per second", "per CPU second", "× kernel", "5000 senders", "of one"]
            .map(str::to_owned)
            .to_vec(),
        rows,
    })
}

/// What came of one flood, per second.
#[derive(Clone, Copy, Debug)]
struct Flooded {
    offered: f64,
    answered: f64,
    /// The share of one CPU that the responder's threads took.
    cpu: f64,
}

/// A responder with its generators and the sink of its answers.
struct Lane {
    responder: Responder,
    sink: std::sync::Arc<Program>,
    _sink_link: std::os::fd::OwnedFd,
    generators: [std::sync::Arc<Program>; 2],
    /// The responder's, and the kernel's for its device.
    threads: Vec<i32>,
    one: Vec<Flooded>,
    many: Vec<Flooded>,
}

impl Flooded {
    fn per_cpu_second(&self) -> f64 {
        self.answered / self.cpu
    }
}

impl Lane {
    fn start(far: &Far, responder: Responder) -> Result<Self> {
        let name = &responder.here.name;
        // With NAPI, and that in a thread, which can be given a CPU.
        sys::enable_gro(name).with_context(|| format!("GRO of {name}"))?;
        let (ifindex, mac) = (responder.there.id.0, responder.there.mac.0);
        let sink = std::sync::Arc::new(Program::sink()?);
        let program = sink.clone();
        let sink_link = far.run(move || Ok(sys::attach_native(program.as_fd(), ifindex)?))?;
        set(&format!("/sys/class/net/{name}/threaded"), "1")?;
        let mut threads = napi_threads(name)?;
        ensure!(!threads.is_empty(), "{name} has no NAPI thread");
        threads.extend(responder.thread);
        threads.iter().try_for_each(|thread| sys::pin_to_cpu(Some(*thread), 1))?;
        let generator = |senders| Program::generator(mac, VIPS, senders).map(std::sync::Arc::new);
        let generators = [generator(1)?, generator(MANY_SENDERS)?];
        let (one, many) = (Vec::new(), Vec::new());
        Ok(Self { responder, sink, _sink_link: sink_link, generators, threads, one, many })
    }

    fn flood(&mut self, far: &Far, senders: u16, each: Duration) -> Result<()> {
        let many = senders > 1;
        let generator = self.generators[usize::from(many)].clone();
        let ifindex = self.responder.there.id.0;
        let before = (self.sink.number()?, cpu_time(&self.threads)?);
        let (sent, took) = far.run(move || {
            sys::pin_to_cpu(None, 0)?;
            let frame = frames::arp_request(frames::CLIENT, frames::CLIENT4, frames::OWNED4);
            let (begun, mut sent) = (Instant::now(), 0_u64);
            while begun.elapsed() < each {
                sys::send_live(generator.as_fd(), ifindex, &frame, AT_ONCE).context("live frames")?;
                sent += u64::from(AT_ONCE);
            }
            Ok((sent, begun.elapsed()))
        })?;
        let replies = self.sink.number()? - before.0;
        ensure!(replies > 0, "{} has answered nothing", self.responder.who.name());
        let per_second = |count: u64| count as f64 / took.as_secs_f64();
        let cpu = (cpu_time(&self.threads)? - before.1).as_secs_f64() / took.as_secs_f64();
        let flooded = Flooded { offered: per_second(sent), answered: per_second(replies), cpu };
        if many {
            self.many.push(flooded);
            // The table is the whole machine's.
            ip(&format!("neigh flush dev {}", self.responder.here.name))?;
        } else {
            self.one.push(flooded);
        }
        // What is still queued is not the next one's.
        std::thread::sleep(Duration::from_millis(20));
        Ok(())
    }
}

/// CPU time that the threads have taken so far.
fn cpu_time(threads: &[i32]) -> Result<Duration> {
    let time = |thread: &i32| {
        let path = format!("/proc/{thread}/schedstat");
        let text = fs::read_to_string(&path).context(path)?;
        let first = text.split(' ').next().and_then(|number| number.parse().ok());
        first.map(Duration::from_nanos).context("the kernel has no schedstat")
    };
    threads.iter().map(time).sum()
}

/// The kernel's threads `napi/<device>-<id>`.
fn napi_threads(device: &str) -> Result<Vec<i32>> {
    let wanted = format!("napi/{device}-");
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let path = entry?.path();
        let id = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse::<i32>().ok());
        let name = fs::read_to_string(path.join("comm")).unwrap_or_default();
        found.extend(id.filter(|_| name.starts_with(&wanted)));
    }
    Ok(found)
}
