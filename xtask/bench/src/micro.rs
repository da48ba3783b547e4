//! Nanoseconds per frame, by `BPF_PROG_TEST_RUN`: what our programs add to an empty one.
//!
//! `repeat` runs a program again and again on one buffer. An answer is written over its request, so from the second
//! run on a responder would see a reply, and pass it: a fast lie. So nothing that answers is repeated by itself. A
//! small driver writes the request anew before each run, for one of the VIPs at random, and goes on as the program by
//! `bpf_tail_call`; the same driver with an empty program in that place is what its time is compared with. The counters
//! are compared with the number of runs at the end: every single one was answered.
//!
//! Times are CPU time of this thread, under `SCHED_FIFO`. Cases take turns, round by round, and each difference is
//! taken within a round: what the machine does to both sides falls out of it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use announcer::datapath::Mode;
use anyhow::{Context as _, Result, ensure};

use crate::{
    calm::Calm,
    frames,
    lab::{self, Far, Live},
    machine,
    programs::{Program, Question},
    progress::Progress,
    report::{Cell, Section},
    stats::Spread,
    sys::{self, Kind},
};

/// How many VIPs the tables hold.
const SIZES: [u16; 3] = [1, 1000, 10_000];
/// Runs before those that are timed.
const WARM_UP: u32 = 40_000;
/// The verdicts of an answer and of a pass.
const XDP: (u32, u32) = (3, 2);
const TCX: (u32, u32) = (7, u32::MAX);

/// How long it goes on.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    rounds: usize,
    repeat: u32,
}

/// One thing that is run again and again.
struct Run {
    program: Runnable,
    frame: Vec<u8>,
    verdict: u32,
    took: Vec<f64>,
    /// How often it was run in all.
    times: u64,
}

/// A program of the bench's own, or a live one.
enum Runnable {
    Ours(Program),
    Live(OwnedFd),
}

/// A row of the table: one run less another.
struct Row {
    kind: Kind,
    name: String,
    run: usize,
    less: usize,
}

/// All runs, and what is compared with what.
#[derive(Default)]
struct Plan {
    runs: Vec<Run>,
    rows: Vec<Row>,
}

impl Effort {
    /// A minute, or a few seconds.
    pub fn new(quick: bool) -> Self {
        if quick { Self { rounds: 9, repeat: 30_000 } } else { Self { rounds: 21, repeat: 30_000 } }
    }
}

impl Run {
    fn is_answered(&self) -> bool {
        [XDP.0, TCX.0].contains(&self.verdict)
    }
}

impl Plan {
    fn add(&mut self, program: Runnable, frame: &[u8], verdict: u32) -> usize {
        self.runs.push(Run { program, frame: frame.to_vec(), verdict, took: Vec::new(), times: 0 });
        self.runs.len() - 1
    }

    /// Frames that no program rewrites.
    fn add_others(&mut self, kind: Kind, live: &Live) -> Result<()> {
        let (_, pass) = verdicts(kind);
        let (udp4, tcp6) = (frames::udp4(), frames::tcp6());
        for (name, frame, program) in [
            ("UDP over IPv4, passed", &udp4, Runnable::Live(live.program(kind)?)),
            ("TCP over IPv6, passed", &tcp6, Runnable::Live(live.program(kind)?)),
            ("the boot clock alone", &udp4, Runnable::Ours(Program::clock(kind)?)),
        ] {
            let less = self.add(Runnable::Ours(Program::empty(kind)?), frame, pass);
            let run = self.add(program, frame, pass);
            self.rows.push(Row { kind, name: name.to_owned(), run, less });
        }
        Ok(())
    }

    fn add_question(&mut self, kind: Kind, question: Question, name: &str, live: &Live) -> Result<()> {
        let (answer, pass) = verdicts(kind);
        let verdict = if matches!(question, Question::Unknown4(_)) { pass } else { answer };
        let frame = question.frame();
        let empty = Program::empty(kind)?;
        let asks_nobody = Program::asking(kind, question, empty.as_fd())?;
        let asks_us = Program::asking(kind, question, live.program(kind)?.as_fd())?;
        let less = self.add(Runnable::Ours(asks_nobody), &frame, pass);
        let run = self.add(Runnable::Ours(asks_us), &frame, verdict);
        let name = format!("{name}, {} VIPs", question.addresses());
        self.rows.push(Row { kind, name: name.replace(", 1 VIPs", ", 1 VIP"), run, less });
        Ok(())
    }

    fn measure(&mut self, index: usize, ifindex: u32, repeat: u32, calm: &mut Calm) -> Result<()> {
        let run = &mut self.runs[index];
        let kind = self.rows.iter().find(|row| row.run == index || row.less == index).map(|row| row.kind);
        let kind = kind.context("a run without a row")?;
        let go = |repeat| {
            let before = sys::thread_time();
            let (verdict, _) = sys::test_run(kind, run.program.as_fd(), ifindex, &run.frame, repeat)?;
            ensure!(verdict == run.verdict, "a program said {verdict} and not {} to a frame", run.verdict);
            Ok(sys::thread_time().saturating_sub(before))
        };
        // The caches hold what the case before left: ask for each VIP a few times first.
        go(WARM_UP)?;
        let mut times = 0;
        let took = calm.measure(|| {
            times += 1;
            go(repeat)
        })?;
        run.took.push(took.as_secs_f64() * 1e9 / f64::from(repeat));
        run.times += u64::from(WARM_UP) + times * u64::from(repeat);
        Ok(())
    }

    fn section(&self, restless: f64) -> Section {
        let rows = self.rows.iter().map(|row| {
            let (run, less) = (&self.runs[row.run].took, &self.runs[row.less].took);
            let over = run.iter().zip(less).map(|(run, less)| run - less);
            let kind = match row.kind {
                Kind::Xdp => "XDP",
                Kind::Tcx => "TCX",
            };
            (
                format!("{kind}: {}", row.name),
                vec![
                    Cell::spread("ns", Spread::of(run.iter().copied()), 1),
                    Cell::spread("over_empty_ns", Spread::of(over), 1),
                    Cell::number("over_empty_best_ns", best(run) - best(less), 1),
                ],
            )
        });
        Section {
            id: "micro",
            title: "Nanoseconds per frame (BPF_PROG_TEST_RUN)".to_owned(),
            notes: vec![
                "At best: the fastest round less the fastest round of the empty program.".to_owned(),
                format!("{:.0} % of the figures were taken on a restless machine.", restless * 100.0),
            ],
            columns: ["frame", "ns", "over an empty program", "at best"].map(str::to_owned).to_vec(),
            rows: rows.collect(),
        }
    }
}

impl AsFd for Runnable {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Ours(program) => program.as_fd(),
            Self::Live(program) => program.as_fd(),
        }
    }
}

/// Runs all of it.
pub fn run(effort: Effort) -> Result<Section> {
    let Effort { rounds, repeat } = effort;
    let progress = Progress::start("micro", rounds);
    let far = Far::new()?;
    far.add_pair("micro", "micro-far")?;
    let link = lab::link("micro")?;
    // One agent for each size and family, all on one link.
    let mut lives = Vec::new();
    for size in SIZES {
        let start = |family: &str, vips: Vec<_>| {
            Live::start(&format!("micro-{family}-{size}"), Mode::Tcx, &link, vips)
        };
        let v4 = start("v4", (1..=size).map(|n| frames::vip4(n).into()).collect())?;
        let v6 = start("v6", (1..=size).map(|n| frames::vip6(n).into()).collect())?;
        lives.push((size, v4, v6));
    }
    let mut plan = Plan::default();
    for kind in [Kind::Xdp, Kind::Tcx] {
        plan.add_others(kind, &lives[0].1)?;
        for (size, v4, _) in &lives {
            plan.add_question(kind, Question::Unknown4(*size), "ARP, unknown", v4)?;
        }
        for (size, v4, _) in &lives {
            plan.add_question(kind, Question::Owned4(*size), "ARP, answered", v4)?;
        }
        for (size, _, v6) in &lives {
            plan.add_question(kind, Question::Owned6(*size), "NS, answered", v6)?;
        }
    }
    let mut calm = Calm::take(1 % machine::cpus(), link.id.0)?;
    let measured = (0..rounds).try_for_each(|round| {
        progress.round(round);
        (0..plan.runs.len()).try_for_each(|index| plan.measure(index, link.id.0, repeat, &mut calm))
    });
    sys::set_first(false)?;
    measured?;
    // Every single run was answered.
    let wanted: u64 = plan.runs.iter().filter(|run| run.is_answered()).map(|run| run.times).sum();
    let replies = lives.iter().flat_map(|(_, v4, v6)| [v4, v6]).map(Live::replies).sum::<Result<u64>>()?;
    ensure!(replies == wanted, "{replies} of {wanted} questions were answered");
    eprintln!(
        "micro: {:.0} % of the figures were taken on a restless machine",
        calm.restless_share() * 100.0
    );
    Ok(plan.section(calm.restless_share()))
}

fn best(took: &[f64]) -> f64 {
    took.iter().copied().fold(f64::INFINITY, f64::min)
}

fn verdicts(kind: Kind) -> (u32, u32) {
    match kind {
        Kind::Xdp => XDP,
        Kind::Tcx => TCX,
    }
}
