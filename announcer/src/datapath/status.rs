//! What the pins alone tell, while no agent runs or beside one that does: nothing is locked, nothing is written.

use std::{collections::BTreeMap, os::fd::AsFd, path::Path};

use announcer_ebpf::layout::{Counters, LINKS_ARRAY_ENTRIES, LinkEntry, NODE_SLOT, role};

use super::{
    Attachment, DatapathError, PerFamily, SessionRecord,
    active::sum,
    entries::read_entries,
    generation::program_ids,
    maps::{Maps, Unreadable},
    pin_root::{LinkPin, check_bpffs, generation, generations, is_present},
    shape::MapName,
    sys, trust,
};
use crate::vocabulary::{BootNs, LinkId, Mac, Vip};

/// What the kernel answers, and has counted.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Status {
    /// Under which session.
    pub session: SessionRecord,
    /// Until when.
    pub deadline: BootNs,
    /// Requests for VIPs owned elsewhere are dropped.
    pub suppress: bool,
    /// By link.
    pub links: BTreeMap<LinkId, LinkStatus>,
    /// By VIP and link.
    pub vips: BTreeMap<(Vip, LinkId), VipStatus>,
    /// What no VIP has counted.
    pub node: Counters,
    /// How many entries the owner map of each family can hold.
    pub capacity: PerFamily,
}

/// A link that carries the program.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LinkStatus {
    /// Where the program runs.
    pub attachment: Attachment,
    /// The hardware address that answers name; `None` for a link that the live maps don't know.
    pub mac: Option<Mac>,
    /// Until when its own generation answers: while an agent takes over, links may run different ones. `None` if that
    /// generation can't be found or read.
    pub deadline: Option<BootNs>,
}

/// What a VIP is on one link.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct VipStatus {
    /// Its role.
    pub role: Role,
    /// The epoch under which it was taken; 0 where it is elsewhere.
    pub epoch: u64,
    /// What was seen of it.
    pub counters: Counters,
}

/// Who answers for a VIP on a link.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Role {
    /// This node, while epoch and deadline allow it.
    Owned,
    /// Another node, or another link.
    Elsewhere,
    /// A number of a newer layout.
    Unknown(u32),
}

// === impl Status ===

impl Status {
    /// Reads the pins under `pin_root`; `None` if nothing is pinned there.
    ///
    /// # Errors
    /// No bpffs, no right to look, pins that others may change, or maps of another build.
    pub fn read(pin_root: &Path) -> Result<Option<Result<Self, Unreadable>>, DatapathError> {
        Self::look(pin_root).map_err(DatapathError::explained)
    }

    fn look(pin_root: &Path) -> Result<Option<Result<Self, Unreadable>>, DatapathError> {
        check_bpffs(pin_root)?;
        if !is_present(pin_root)? {
            return Ok(None);
        }
        // Who may not look is told so, and not that the directory is another's.
        let session_is_pinned = is_present(&pin_root.join(MapName::Session.pin()))?;
        trust::check(pin_root)?;
        if !session_is_pinned {
            let unfinished = !LinkPin::all(pin_root).unwrap_or_default().is_empty();
            return if unfinished {
                Err(DatapathError::Unfinished { path: pin_root.to_owned() })
            } else {
                Ok(None)
            };
        }
        let maps = match Maps::open(pin_root)? {
            Ok(maps) => maps,
            Err(why) => return Ok(Some(Err(why))),
        };
        let session = maps.session.read();
        let counters = |slot| {
            let values = maps.counters.get(&slot, 0).map_err(DatapathError::map("read", "COUNTERS"))?;
            Ok::<_, DatapathError>(sum(&values))
        };
        let mut status = Self {
            session: SessionRecord::of(&session),
            deadline: BootNs(session.deadline_boot_ns),
            suppress: session.elsewhere == announcer_ebpf::layout::elsewhere::DROPPED,
            links: links(pin_root, &maps)?,
            vips: BTreeMap::new(),
            node: counters(NODE_SLOT)?,
            capacity: maps.capacity()?.room(1),
        };
        for ((link, vip), entry) in read_entries(&maps)? {
            let role = match entry.role {
                role::OWNED => Role::Owned,
                role::ELSEWHERE => Role::Elsewhere,
                other => Role::Unknown(other),
            };
            let counters = counters(entry.counter_slot)?;
            status.vips.insert((vip, link), VipStatus { role, epoch: entry.epoch, counters });
        }
        Ok(Some(Ok(status)))
    }
}

fn links(pin_root: &Path, maps: &Maps) -> Result<BTreeMap<LinkId, LinkStatus>, DatapathError> {
    let mut macs = BTreeMap::new();
    for index in 0..LINKS_ARRAY_ENTRIES {
        let entry = maps.links.get(&index, 0).map_err(DatapathError::map("read", "LINKS"))?;
        macs.insert(LinkId(entry.link_id), entry);
    }
    for pair in maps.links_beyond.iter() {
        let (_, entry) = pair.map_err(DatapathError::map("read", "LINKS_BEYOND"))?;
        macs.insert(LinkId(entry.link_id), entry);
    }
    let deadlines = deadlines(pin_root)?;
    let mut links = BTreeMap::new();
    for LinkPin { link, attachment, path } in LinkPin::all(pin_root)? {
        let info = sys::get_pinned(&path).and_then(|fd| sys::link_info(fd.as_fd()));
        let info = info.map_err(DatapathError::file("read the link", path))?;
        if info.ifindex == link.0 {
            let mac = macs.get(&link).map(|LinkEntry { mac, .. }| Mac(*mac));
            let deadline = deadlines.get(&info.prog_id).copied();
            links.insert(link, LinkStatus { attachment, mac, deadline });
        }
    }
    Ok(links)
}

/// The deadline that each program goes by, by its id.
fn deadlines(pin_root: &Path) -> Result<BTreeMap<u32, BootNs>, DatapathError> {
    let mut deadlines = BTreeMap::new();
    for folder in generations(pin_root)?.into_iter().map(|number| generation(pin_root, number)) {
        if let Ok(maps) = Maps::open(&folder)? {
            let deadline = BootNs(maps.session.deadline());
            deadlines.extend(program_ids(&folder).into_iter().map(|program| (program, deadline)));
        }
    }
    Ok(deadlines)
}
