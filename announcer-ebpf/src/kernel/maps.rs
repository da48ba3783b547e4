//! The maps, and the node as the packet logic sees it through them.

use core::{net::IpAddr, ptr::addr_of};

use announcer_ebpf::{
    layout::{
        COUNTER_SLOTS, Conflict, Counters, EVENTS_BYTES, FILTER_WORDS, FilterBit, LINKS_ARRAY_ENTRIES,
        LINKS_HASH_ENTRIES, LinkEntry, LinkKey, MacKey, NODE_SLOT, TOLD_ENTRIES, VIPS_ENTRIES, Vip4Key,
        Vip6Key, VipEntry, shown,
    },
    packet::{Ingress, Node, Outcome, SessionView},
};
use aya_ebpf::{
    bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC},
    btf_maps::{Array, HashMap, LruHashMap, PerCpuArray, RingBuf},
    helpers::bpf_ktime_get_boot_ns,
    macros::btf_map,
};

use super::log::{self, macro_support::Level};

const GROWING: usize = BPF_F_NO_PREALLOC as usize;

#[btf_map]
static SESSION: Array<shown::Session, 1, { BPF_F_MMAPABLE as usize }> = Array::new();
#[btf_map]
static LINKS: Array<LinkEntry, { LINKS_ARRAY_ENTRIES as usize }> = Array::new();
#[btf_map]
static LINKS_BEYOND: HashMap<LinkKey, LinkEntry, { LINKS_HASH_ENTRIES as usize }, GROWING> = HashMap::new();
#[btf_map]
static MACS: HashMap<MacKey, u32, { LINKS_HASH_ENTRIES as usize }, GROWING> = HashMap::new();
#[btf_map]
static FILTER: Array<u64, { FILTER_WORDS as usize }> = Array::new();
#[btf_map]
static VIPS4: HashMap<Vip4Key, shown::VipEntry, { VIPS_ENTRIES as usize }, GROWING> = HashMap::new();
#[btf_map]
static VIPS6: HashMap<Vip6Key, shown::VipEntry, { VIPS_ENTRIES as usize }, GROWING> = HashMap::new();
#[btf_map]
static COUNTERS: PerCpuArray<Counters, { COUNTER_SLOTS as usize }> = PerCpuArray::new();
// No value type: libbpf refuses a ring buffer with one.
#[btf_map]
static EVENTS: RingBuf<(), { EVENTS_BYTES as usize }> = RingBuf::new();
/// When user space was last told that a VIP is contested.
#[btf_map]
static TOLD: LruHashMap<Vip6Key, u64, { TOLD_ENTRIES as usize }> = LruHashMap::new();

/// The maps, for one frame.
pub(super) struct Maps<At, IsProof> {
    /// Where the frame came in. Asked only of frames that may concern us: all others pay for every load.
    pub ingress: At,
    /// Whether the frame is a proof: counters and events are left alone. Asked only where one would be written.
    pub is_proof: IsProof,
}

impl<At: Fn() -> Ingress, IsProof: Fn() -> bool> Node for Maps<At, IsProof> {
    #[inline(always)]
    fn ingress(&self) -> Ingress {
        (self.ingress)()
    }

    #[inline(always)]
    fn link(&self, ingress: Ingress) -> Option<LinkEntry> {
        let Ingress { ifindex, vlan_id } = ingress;
        // VLAN id 0 is a priority tag: it belongs to the device itself.
        let vlan_id = u32::from(vlan_id.unwrap_or(0));
        let entry = if vlan_id == 0 && ifindex < LINKS_ARRAY_ENTRIES {
            *LINKS.get(ifindex)?
        } else {
            // SAFETY: the element stays readable for as long as the program runs (RCU). User space replaces entries
            // whole and waits for a grace period before it reuses a removed one for another role.
            *unsafe { LINKS_BEYOND.get(LinkKey { ingress_ifindex: ifindex, vlan_id }) }?
        };
        (entry.link_id != 0).then_some(entry)
    }

    #[inline(always)]
    fn is_own_mac(&self, mac: [u8; 6]) -> bool {
        MACS.get_ptr(MacKey { mac, zero: [0; 2] }).is_some()
    }

    #[inline(always)]
    fn vip4(&self, key: Vip4Key) -> Option<VipEntry> {
        may_be_known(FilterBit::v4(key.address)).then(|| VIPS4.get_ptr(key))?.map(read_entry)
    }

    #[inline(always)]
    fn vip6(&self, key: Vip6Key) -> Option<VipEntry> {
        may_be_known(FilterBit::v6(key.address)).then(|| VIPS6.get_ptr(key))?.map(read_entry)
    }

    #[inline(always)]
    fn session(&self) -> SessionView {
        let Some(session) = SESSION.get_ptr(0) else { return SessionView::default() };
        let session = session.cast::<announcer_ebpf::layout::Session>();
        // SAFETY: element 0 of an array is there for the life of the map; the shown struct has the plain one's
        // layout. User space may store at any time, each field in one aligned store: volatile loads read each once.
        unsafe {
            SessionView {
                deadline_boot_ns: addr_of!((*session).deadline_boot_ns).read_volatile(),
                epoch: addr_of!((*session).epoch).read_volatile(),
                elsewhere: addr_of!((*session).elsewhere).read_volatile(),
            }
        }
    }

    #[inline(always)]
    fn boot_ns(&self) -> u64 {
        // SAFETY: a helper without arguments.
        unsafe { bpf_ktime_get_boot_ns() }
    }

    #[inline(always)]
    fn count_request(&mut self, slot: u32, outcome: Outcome, at_boot_ns: u64) {
        self.book(slot, |counters| {
            counters.requests += 1;
            // No `match`: of it the compiler makes one addition at a variable offset, which needs CAP_PERFMON.
            counters.replies += u64::from(outcome == Outcome::Replied);
            counters.fenced += u64::from(outcome == Outcome::Fenced);
            counters.suppressed += u64::from(outcome == Outcome::Suppressed);
            counters.last_seen_boot_ns = at_boot_ns;
        });
    }

    #[inline(always)]
    fn count_malformed(&mut self) {
        self.book(NODE_SLOT, |counters| counters.malformed += 1);
    }

    #[inline(always)]
    fn last_told(&self, key: Vip6Key) -> Option<u64> {
        // SAFETY: the element stays readable for as long as the program runs (RCU), and takes any value. Another CPU may
        // write it meanwhile, in one aligned store.
        TOLD.get_ptr(key).map(|at| unsafe { at.read_volatile() })
    }

    #[inline(always)]
    fn tell(&mut self, slot: u32, key: Vip6Key, conflict: Conflict) {
        if (self.is_proof)() {
            return;
        }
        // Where it can't be remembered there are more events, not fewer.
        let _ = TOLD.insert(key, conflict.at_boot_ns, 0);
        let lost = EVENTS.output_untyped::<Conflict>(conflict, 0).is_err();
        self.book(slot, |counters| {
            counters.conflicts += 1;
            counters.events_lost += u64::from(lost);
            counters.last_seen_boot_ns = conflict.at_boot_ns;
        });
        log::conflict(self.ingress().ifindex, &conflict);
    }

    #[inline(always)]
    fn count_conflict(&mut self, slot: u32, conflict: Conflict) {
        if (self.is_proof)() {
            return;
        }
        self.book(slot, |counters| {
            counters.conflicts += 1;
            counters.last_seen_boot_ns = conflict.at_boot_ns;
        });
        log::conflict(self.ingress().ifindex, &conflict);
    }

    #[inline(always)]
    fn log_request(&self, outcome: Outcome, target: IpAddr, sender: [u8; 6]) {
        if log::tells(outcome) && !(self.is_proof)() {
            log::request(outcome, self.ingress().ifindex, target, sender);
        }
    }

    #[inline(always)]
    fn log_malformed(&self, sender: [u8; 6]) {
        if log::enabled(Level::Debug) && !(self.is_proof)() {
            log::malformed(self.ingress().ifindex, sender);
        }
    }
}

impl<At, IsProof: Fn() -> bool> Maps<At, IsProof> {
    #[inline(always)]
    fn book(&self, slot: u32, write: impl FnOnce(&mut Counters)) {
        if (self.is_proof)() {
            return;
        }
        if let Some(counters) = COUNTERS.get_ptr_mut(slot) {
            // SAFETY: this CPU's own element, and nothing else of this program holds a reference to it. An interrupt
            // that runs the program on the same CPU in between can cost a count, never more.
            write(unsafe { &mut *counters });
        }
    }
}

/// `false` is certain: no entry has an address with that bit.
#[inline(always)]
fn may_be_known(bit: FilterBit) -> bool {
    // SAFETY: an element of an array is there for the life of the map, and takes any value. User space may store at any
    // time; a bit that an entry needs is set before and after.
    FILTER.get_ptr(bit.word).is_some_and(|word| unsafe { word.read_volatile() } & bit.mask != 0)
}

/// Reads an element through its integer twin.
#[inline(always)]
fn read_entry(entry: *const shown::VipEntry) -> VipEntry {
    // SAFETY: the pointer comes from a lookup, its element stays readable for as long as the program runs (RCU), the
    // twin has the same layout and takes any bit pattern. (A removed element may be reused while we read. User space
    // therefore waits for a grace period between removals and additions.)
    unsafe { *entry.cast::<VipEntry>() }
}
