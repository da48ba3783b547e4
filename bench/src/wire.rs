//! Round trips on a wire, as an asker with a packet socket sees them: one question at a time.
//!
//! The asker runs under `SCHED_FIFO` on the first CPU, so what it waits for is the answer and not itself. *Back to
//! back* is without a pause; *paced* with pauses of about a millisecond, in which other work gets the CPU, as between
//! a segment's real questions.

use std::{
    os::fd::OwnedFd,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};

use crate::{
    busy::Busy,
    frames,
    lab::Far,
    machine,
    progress::Progress,
    report::{Cell, Section},
    responders::{Responder, VIPS, let_pass},
    stats::{Spread, percentile, sorted},
    sys,
};

/// How long it goes on.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    rounds: usize,
    back_to_back: usize,
    paced: usize,
}

/// One way of asking: its name, how many busy loops there are per CPU, and whether it pauses.
struct Setting {
    loops_per_cpu: usize,
    paced: bool,
}

const SETTINGS: [Setting; 3] = [
    Setting { loops_per_cpu: 0, paced: false },
    Setting { loops_per_cpu: 1, paced: true },
    Setting { loops_per_cpu: 4, paced: true },
];

/// Microseconds of answered questions, and how many were not.
struct Asked {
    took: Vec<f64>,
    lost: usize,
}

impl Effort {
    /// Two minutes, or a few seconds.
    pub fn new(quick: bool) -> Self {
        if quick {
            Self { rounds: 2, back_to_back: 2000, paced: 300 }
        } else {
            Self { rounds: 5, back_to_back: 20_000, paced: 2000 }
        }
    }
}

/// Runs all of it.
pub fn run(effort: Effort) -> Result<Section> {
    let progress = Progress::start("wire", effort.rounds);
    let far = Far::new()?;
    let responders = Responder::start_all(&far)?;
    let _far_end = let_pass(&far, &responders[0].there)?;
    // By responder, setting and round: p50, p99 and p99.9.
    let mut figures = vec![vec![Vec::new(); SETTINGS.len()]; responders.len()];
    let mut lost = vec![0; responders.len()];
    for round in 0..effort.rounds {
        progress.round(round);
        for (number, setting) in SETTINGS.iter().enumerate() {
            let _busy = Busy::start(setting.loops_per_cpu * machine::cpus());
            for (index, responder) in responders.iter().enumerate() {
                progress.tell(&format!("round {}, {}", round + 1, responder.who.name()));
                let (ifindex, mac) = (responder.there.id.0, responder.there.mac.0);
                let count = if setting.paced { effort.paced } else { effort.back_to_back };
                let paced = setting.paced;
                let asked = far.run(move || ask(ifindex, mac, count, paced))?;
                ensure!(!asked.took.is_empty(), "{} has answered nothing", responder.who.name());
                let took = sorted(asked.took);
                figures[index][number].push([0.5, 0.99, 0.999].map(|share| percentile(&took, share)));
                lost[index] += asked.lost;
            }
        }
    }
    let rows = responders.iter().zip(&figures).zip(&lost).map(|((responder, figures), lost)| {
        let cell = |key, setting: usize, at: usize| {
            Cell::spread(key, Spread::of(figures[setting].iter().map(|all: &[f64; 3]| all[at])), 1)
        };
        let cells = vec![
            cell("idle_p50_us", 0, 0),
            cell("idle_p99_us", 0, 1),
            cell("busy_p50_us", 1, 0),
            cell("busy_p99_us", 1, 1),
            cell("busier_p99_us", 2, 1),
            cell("busier_p999_us", 2, 2),
            Cell::number("lost", *lost as f64, 0),
        ];
        (responder.who.name(), cells)
    });
    let rows = rows.collect();
    Ok(Section {
        id: "wire",
        title: "Round trip on a veth, µs".to_owned(),
        notes: vec![
            "idle: back to back; busy: a busy loop per CPU, paced; busier: four busy loops per CPU, paced."
                .to_owned(),
        ],
        columns: ["answered by", "idle p50", "p99", "busy p50", "p99", "busier p99", "p99.9", "lost"]
            .map(str::to_owned)
            .to_vec(),
        rows,
    })
}

fn ask(ifindex: u32, mac: [u8; 6], count: usize, paced: bool) -> Result<Asked> {
    let socket = sys::arp_socket(ifindex, Duration::from_millis(100))?;
    sys::pin_to_cpu(None, 0)?;
    sys::set_first(true)?;
    let asked =
        (0..count).try_fold(Asked { took: Vec::with_capacity(count), lost: 0 }, |mut asked, number| {
            match question(&socket, mac, number)? {
                Some(took) => asked.took.push(took.as_secs_f64() * 1e6),
                None => asked.lost += 1,
            }
            if paced {
                // 0.5 to 1.5 ms, in an order that has nothing to do with the scheduler's.
                thread::sleep(Duration::from_micros(500 + (number as u64).wrapping_mul(7919) % 1000));
            }
            Ok(asked)
        });
    sys::set_first(false)?;
    asked
}

/// One question and its answer; `None` if there is none in time.
fn question(socket: &OwnedFd, mac: [u8; 6], number: usize) -> Result<Option<Duration>> {
    let vip = 1 + (number % usize::from(VIPS)) as u8;
    let mut frame = frames::arp_request(mac, frames::CLIENT4, frames::OWNED4);
    frame[41] = vip;
    let mut answer = [0_u8; 128];
    let sent = Instant::now();
    rustix::io::write(socket, &frame)?;
    loop {
        match rustix::io::read(socket, &mut answer) {
            Ok(42..) if answer[21] == 2 && answer[28..32] == frame[38..42] => {
                return Ok(Some(sent.elapsed()));
            }
            Ok(_) => {}
            Err(rustix::io::Errno::AGAIN) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    }
}
