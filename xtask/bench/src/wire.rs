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

/// The percentiles that are told.
const SHARES: [f64; 3] = [0.5, 0.99, 0.999];

/// Microseconds of answered questions, and how many were not.
struct Asked {
    took: Vec<f64>,
    lost: u32,
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
pub fn run(effort: Effort) -> Result<Vec<Section>> {
    let progress = Progress::start("wire", effort.rounds);
    let far = Far::new()?;
    let responders = Responder::start_all(&far)?;
    let _far_end = let_pass(&far, &responders[0].there)?;
    // By responder, setting and round: p50, p99 and p99.9.
    let mut figures = vec![vec![Vec::new(); SETTINGS.len()]; responders.len()];
    let mut lost = vec![0_u32; responders.len()];
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
                figures[index][number].push(SHARES.map(|share| percentile(&took, share)));
                lost[index] += asked.lost;
            }
        }
    }
    let table = |id, title: &str, note: &str, columns: &[(&'static str, &str, usize, usize)]| {
        let rows = responders.iter().zip(&figures).zip(&lost).map(|((responder, figures), lost)| {
            let cell = |&(key, _, setting, share): &(&'static str, &str, usize, usize)| {
                let rounds: &Vec<[f64; SHARES.len()]> = &figures[setting];
                Cell::spread(key, Spread::of(rounds.iter().map(|all| all[share])), 1)
            };
            let lost = Cell::number("lost", f64::from(*lost), 0);
            (responder.who.name(), columns.iter().map(cell).chain([lost]).collect())
        });
        let heads = columns.iter().map(|(_, head, ..)| (*head).to_owned());
        Section {
            id,
            title: title.to_owned(),
            notes: vec![note.to_owned()],
            columns: std::iter::once("answered by".to_owned()).chain(heads).collect(),
            rows: rows.collect(),
        }
    };
    let few = [
        ("idle_p50_us", "idle p50", 0, 0),
        ("idle_p99_us", "idle p99", 0, 1),
        ("busy_p50_us", "busy p50", 1, 0),
        ("busy_p99_us", "busy p99", 1, 1),
    ];
    let many = [("p50_us", "p50", 2, 0), ("p99_us", "p99", 2, 1), ("p999_us", "p99.9", 2, 2)];
    Ok(vec![
        table(
            "wire",
            "Round trip on a veth, µs",
            "Idle: back to back. Busy: one busy loop per CPU, paced.",
            &few,
        ),
        table("wire_busy", "Round trip with four busy loops per CPU, µs", "Paced.", &many),
    ])
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
