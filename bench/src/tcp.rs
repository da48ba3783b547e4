//! What other traffic pays: one TCP stream into an interface with and without the program.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    time::{Duration, Instant},
};

use announcer::datapath::Mode;
use anyhow::{Context as _, Result};

use crate::{
    frames,
    lab::{Far, Live, ip, link},
    machine,
    progress::Progress,
    report::{Cell, Section},
    stats::Spread,
    sys,
};

/// How long it goes on.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    rounds: usize,
    each: Duration,
}

/// An interface, and the rates of the streams into it.
struct Lane {
    name: String,
    address: SocketAddr,
    rates: Vec<f64>,
    _live: Option<Live>,
}

const CHUNK: usize = 128 << 10;

impl Effort {
    /// A minute, or a few seconds.
    pub fn new(quick: bool) -> Self {
        let each = Duration::from_millis(if quick { 300 } else { 1500 });
        Self { rounds: if quick { 3 } else { 9 }, each }
    }
}

/// Runs all of it.
pub fn run(effort: Effort) -> Result<Section> {
    let progress = Progress::start("tcp", effort.rounds);
    let far = Far::new()?;
    let modes = [None, Some(Mode::Tcx), Some(Mode::Generic), Some(Mode::Native)];
    let lanes = modes.into_iter().enumerate().map(|(number, mode)| Lane::start(&far, number, mode));
    let mut lanes = lanes.collect::<Result<Vec<_>>>()?;
    for round in 0..effort.rounds {
        for lane in &mut lanes {
            progress.tell(&format!("round {} of {}, {}", round + 1, effort.rounds, lane.name));
            lane.stream(&far, effort.each)?;
        }
    }
    let none = lanes[0].rates.clone();
    let rows = lanes.iter().map(|lane| {
        let of_none = lane.rates.iter().zip(&none).map(|(rate, none)| rate / none);
        let cells = vec![
            Cell::spread("gbit_s", Spread::of(lane.rates.iter().copied()), 1),
            Cell::spread("of_none", Spread::of(of_none), 2),
        ];
        (lane.name.clone(), cells)
    });
    Ok(Section {
        id: "tcp",
        title: "One TCP stream into the interface".to_owned(),
        notes: Vec::new(),
        columns: ["on the interface", "Gbit/s", "of none"].map(str::to_owned).to_vec(),
        rows: rows.collect(),
    })
}

impl Lane {
    fn start(far: &Far, number: usize, mode: Option<Mode>) -> Result<Self> {
        let name = mode.map_or("nothing".to_owned(), |mode| format!("ours, {mode}"));
        let (here, there) = (format!("tcp{number}"), format!("tcp{number}-f"));
        far.add_pair(&here, &there)?;
        ip(&format!("addr add 10.80.{number}.1/24 dev {here}"))?;
        far.run(move || ip(&format!("addr add 10.80.{number}.2/24 dev {there}")))?;
        let vips = (1..=64).map(|number| frames::vip4(number).into());
        let live = mode.map(|mode| Live::start(&here, mode, &link(&here)?, vips)).transpose()?;
        let address = format!("10.80.{number}.1:0").parse().context("an address")?;
        Ok(Self { name, address, rates: Vec::new(), _live: live })
    }

    fn stream(&mut self, far: &Far, each: Duration) -> Result<()> {
        let listener = TcpListener::bind(self.address)?;
        let address = listener.local_addr()?;
        let sending = far.start(move || {
            sys::pin_to_cpu(None, 0)?;
            let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
            let chunk = vec![0x5a_u8; CHUNK];
            let begun = Instant::now();
            while begun.elapsed() < each {
                stream.write_all(&chunk)?;
            }
            Ok(())
        })?;
        sys::pin_to_cpu(None, 1 % machine::cpus())?;
        let received = listener.accept().context("accept").and_then(|(mut stream, _)| {
            let (mut chunk, mut bytes, begun) = (vec![0; CHUNK], 0, Instant::now());
            loop {
                match stream.read(&mut chunk)? {
                    0 => return Ok(bytes as f64 * 8.0 / begun.elapsed().as_secs_f64() / 1e9),
                    read => bytes += read,
                }
            }
        });
        sending.recv()??;
        self.rates.push(received?);
        Ok(())
    }
}
