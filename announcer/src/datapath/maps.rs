//! The maps of one generation, typed, once their shapes are known to be ours.

use std::{
    fmt, io,
    os::fd::{AsFd, OwnedFd},
    path::Path,
};

use announcer_ebpf::layout::{
    Counters, LAYOUT_VERSION, LinkEntry, LinkKey, MacKey, Vip4Key, Vip6Key, VipEntry,
};
use aya::maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray};

use super::{
    DatapathError,
    faults::Faults,
    shape::MapName,
    sys::{self, SessionMap},
    tables::Sizes,
};

/// All maps of a generation, of the shape and layout of this build.
pub(super) struct Maps {
    pub(super) session: SessionMap,
    pub(super) links: Array<MapData, LinkEntry>,
    pub(super) links_beyond: HashMap<MapData, LinkKey, LinkEntry>,
    pub(super) macs: HashMap<MapData, MacKey, u32>,
    /// Written by [`super::entries`] alone.
    pub(super) filter: Array<MapData, u64>,
    pub(super) vips4: HashMap<MapData, Vip4Key, VipEntry>,
    pub(super) vips6: HashMap<MapData, Vip6Key, VipEntry>,
    pub(super) counters: PerCpuArray<MapData, Counters>,
    /// What a test makes fail.
    pub(super) faults: Faults,
    /// Every map once more, to be pinned and opened anew.
    all: Vec<(MapName, OwnedFd)>,
}

/// Why pinned maps are not ours to read.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Unreadable {
    /// The map with this pin is missing, or has another kind, key, value or flags.
    #[error("the pinned map `{0}` is missing or has another shape: another version of Announcer made it")]
    Shape(&'static str),
    /// The layout has another version.
    #[error("the pinned maps have layout {0}: another version of Announcer made them")]
    Version(u32),
}

// === impl Maps ===

impl Maps {
    /// The descriptors must be of maps that this build has made, or whose shape has been checked.
    pub(super) fn new(all: Vec<(MapName, OwnedFd)>) -> Result<Self, DatapathError> {
        let session = SessionMap::new(find(&all, MapName::Session)?.as_fd())
            .map_err(DatapathError::kernel("map SESSION into memory"))?;
        Ok(Self {
            session,
            links: typed(&all, MapName::Links)?,
            links_beyond: typed(&all, MapName::LinksBeyond)?,
            macs: typed(&all, MapName::Macs)?,
            filter: typed(&all, MapName::Filter)?,
            vips4: typed(&all, MapName::Vips4)?,
            vips6: typed(&all, MapName::Vips6)?,
            counters: typed(&all, MapName::Counters)?,
            faults: Faults::default(),
            all,
        })
    }

    /// How many entries the tables can hold.
    pub(super) fn capacity(&self) -> Result<Sizes, DatapathError> {
        let of = |name| {
            let info = sys::map_info(self.fd(name)?.as_fd());
            info.map(|info| info.max_entries).map_err(DatapathError::kernel("look at a map's size"))
        };
        let links = of(MapName::LinksBeyond)?.min(of(MapName::Macs)?);
        Ok(Sizes { vips4: of(MapName::Vips4)?, vips6: of(MapName::Vips6)?, links })
    }

    /// Opens the maps pinned in `folder`.
    pub(super) fn open(folder: &Path) -> Result<Result<Self, Unreadable>, DatapathError> {
        let mut all = Vec::new();
        for name in MapName::ALL {
            let path = folder.join(name.pin());
            let map = match sys::get_pinned(&path) {
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    return Err(DatapathError::file("open the pin", path)(error));
                }
                map => map.ok(),
            };
            match map.filter(|map| name.fits(map.as_fd()).is_ok_and(|fits| fits)) {
                Some(map) => all.push((name, map)),
                None if name.is_optional() => {}
                None => return Ok(Err(Unreadable::Shape(name.pin()))),
            }
        }
        let maps = Self::new(all)?;
        match maps.session.read().layout_version {
            LAYOUT_VERSION => Ok(Ok(maps)),
            version => Ok(Err(Unreadable::Version(version))),
        }
    }

    /// A map at a type of its own.
    pub(super) fn open_as<M>(&self, name: MapName) -> Result<M, DatapathError>
    where
        M: TryFrom<Map, Error = MapError>,
    {
        typed(&self.all, name)
    }

    /// A map's descriptor.
    pub(super) fn fd(&self, name: MapName) -> Result<&OwnedFd, DatapathError> {
        find(&self.all, name)
    }

    /// All maps' descriptors.
    pub(super) fn all(&self) -> impl Iterator<Item = (MapName, &OwnedFd)> {
        self.all.iter().map(|(name, map)| (*name, map))
    }
}

impl fmt::Debug for Maps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Maps").field("session", &self.session.read()).finish_non_exhaustive()
    }
}

/// Opens the map behind a descriptor at a type; aya compares the sizes of key and value once more.
fn typed<M>(all: &[(MapName, OwnedFd)], name: MapName) -> Result<M, DatapathError>
where
    M: TryFrom<Map, Error = MapError>,
{
    let fd = find(all, name)?.try_clone().map_err(DatapathError::kernel("duplicate a map's descriptor"))?;
    let open = || M::try_from(Map::from_map_data(MapData::from_fd(fd)?)?);
    open().map_err(DatapathError::map("open", name.symbol()))
}

fn find(all: &[(MapName, OwnedFd)], wanted: MapName) -> Result<&OwnedFd, DatapathError> {
    let found = all.iter().find(|(name, _)| *name == wanted);
    found.map(|(_, fd)| fd).ok_or(DatapathError::Incomplete { name: wanted.symbol() })
}
