//! One agent's programs and maps: loaded together, pinned together in a folder, found again by the program's id.

use std::{
    fs, io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use aya::{
    Ebpf, EbpfLoader,
    maps::Map,
    programs::{Program, ProgramError, SchedClassifier, Xdp},
};

use super::{
    Attachment, DatapathError, KernelLog, KernelLogReader,
    faults::Faults,
    kernel_log,
    maps::{Maps, Unreadable},
    pin_root::unpin,
    shape::{MapName, counter_slots},
    step::{Step, Steps},
    sys,
    tables::Sizes,
};

const XDP: &str = "announcer_xdp";
const XDP_GENERIC: &str = "announcer_xdp_generic";
const TCX: &str = "announcer_tcx";

/// The programs and maps of one generation.
#[derive(Debug)]
pub(super) struct Generation {
    xdp: OwnedFd,
    xdp_generic: OwnedFd,
    tcx: OwnedFd,
    pub(super) maps: Maps,
    /// What the programs tell, if this agent has loaded them and wants to hear it.
    pub(super) log: Option<KernelLogReader>,
}

// === impl Generation ===

impl Generation {
    /// Loads a new generation with tables of these sizes. `shared` are pinned maps of our shape and capacity to go on
    /// with.
    pub(super) fn load(
        shared: &[(MapName, PathBuf)],
        sizes: Sizes,
        log: KernelLog,
        faults: &Faults,
    ) -> Result<Self, DatapathError> {
        faults.check("load").map_err(DatapathError::kernel("load the programs"))?;
        let level = log as u8;
        let mut loader = EbpfLoader::new();
        kernel_log::set(&mut loader, &level);
        loader.map_max_entries(MapName::Counters.symbol(), counter_slots());
        let Sizes { vips4, vips6, links } = sizes;
        loader.map_max_entries(MapName::Vips4.symbol(), vips4);
        loader.map_max_entries(MapName::Vips6.symbol(), vips6);
        loader.map_max_entries(MapName::LinksBeyond.symbol(), links);
        loader.map_max_entries(MapName::Macs.symbol(), links);
        for (name, path) in shared {
            loader.map_pin_path(name.symbol(), path.as_path());
        }
        let load = |error| DatapathError::Load(Box::new(error));
        let mut object = loader.load(announcer_ebpf::OBJECT).map_err(load)?;
        let xdp = load_program::<Xdp>(&mut object, XDP, Xdp::load)?;
        let xdp_generic = load_program::<Xdp>(&mut object, XDP_GENERIC, Xdp::load)?;
        let tcx = load_program::<SchedClassifier>(&mut object, TCX, SchedClassifier::load)?;
        let mut all = Vec::new();
        for name in MapName::ALL {
            let map = object.map(name.symbol()).ok_or(DatapathError::Incomplete { name: name.symbol() })?;
            all.push((name, duplicate(map).map_err(DatapathError::kernel("duplicate a map's descriptor"))?));
        }
        let log = (log != KernelLog::Off).then(|| KernelLogReader::new(&mut object)).transpose()?;
        let mut maps = Maps::new(all)?;
        maps.faults = faults.clone();
        Ok(Self { xdp, xdp_generic, tcx, maps, log })
    }

    /// Opens a pinned generation, once shape and layout version are known to fit.
    pub(super) fn open(folder: &Path) -> Result<Result<Self, Unreadable>, DatapathError> {
        let get = |name: &str| {
            let path = folder.join(name);
            sys::get_pinned(&path).map_err(DatapathError::file("open the pin", path))
        };
        match Maps::open(folder)? {
            Ok(maps) => {
                // Older agents had one XDP program for both modes.
                let xdp_generic = get(XDP_GENERIC).or_else(|_| get(XDP))?;
                Ok(Ok(Self { xdp: get(XDP)?, xdp_generic, tcx: get(TCX)?, maps, log: None }))
            }
            Err(why) => Ok(Err(why)),
        }
    }

    /// The program that a link of this attachment runs.
    pub(super) fn program(&self, attachment: Attachment) -> BorrowedFd<'_> {
        match attachment {
            Attachment::Native => self.xdp.as_fd(),
            Attachment::Generic => self.xdp_generic.as_fd(),
            Attachment::Tcx => self.tcx.as_fd(),
        }
    }

    /// Pins programs and maps in the new folder `folder`.
    pub(super) fn pin(&self, folder: &Path, steps: &mut Steps) -> Result<(), DatapathError> {
        fs::create_dir(folder).map_err(DatapathError::file("create the folder", folder))?;
        steps.done(Step::FolderMade)?;
        for (name, object) in self.pins() {
            let path = folder.join(name);
            let pinned = self.maps.faults.check("pin").and_then(|()| sys::pin(object, &path));
            pinned.map_err(DatapathError::file("pin", path))?;
            steps.done(Step::Pinned(name))?;
        }
        Ok(())
    }

    /// Programs and maps, by their names in the generation's folder.
    pub(super) fn pins(&self) -> impl Iterator<Item = (&'static str, BorrowedFd<'_>)> {
        let maps = self.maps.all().map(|(name, map)| (name.pin(), map.as_fd()));
        let programs = [(XDP, &self.xdp), (XDP_GENERIC, &self.xdp_generic), (TCX, &self.tcx)];
        maps.chain(programs.map(|(name, program)| (name, program.as_fd())))
    }

    /// The maps that are pinned for inspection, by their names there.
    pub(super) fn shown(&self) -> impl Iterator<Item = (&'static str, BorrowedFd<'_>)> {
        let shown = self.maps.all().filter(|(name, _)| !name.is_optional());
        shown.map(|(name, map)| (name.pin(), map.as_fd()))
    }

    /// Points the pins for inspection, right under `root`, at this generation's maps, each in one step. They are for
    /// those who look: without one everything else goes on.
    pub(super) fn show(&self, root: &Path, steps: &mut Steps) -> Result<(), DatapathError> {
        for (name, map) in self.shown() {
            let (path, new) = (root.join(name), root.join(format!("{name}-new")));
            let shown = unpin(&new).and_then(|()| {
                sys::pin(map, &new).map_err(DatapathError::file("pin", &new))?;
                fs::rename(&new, &path).map_err(DatapathError::file("replace the pin", path))
            });
            if let Err(error) = shown {
                let error = error.in_a_line();
                tracing::warn!(map = name, error, "The pin for inspection shows an older map, or none");
            }
            steps.done(Step::Shown(name))?;
        }
        Ok(())
    }
}

/// The ids of the programs pinned in a folder, whatever else is in it.
pub(super) fn program_ids(folder: &Path) -> Vec<u32> {
    let id = |name: &str| sys::program_id(sys::get_pinned(&folder.join(name)).ok()?.as_fd()).ok();
    [XDP, XDP_GENERIC, TCX].into_iter().filter_map(id).collect()
}

fn load_program<P>(
    object: &mut Ebpf,
    name: &'static str,
    load: impl FnOnce(&mut P) -> Result<(), ProgramError>,
) -> Result<OwnedFd, DatapathError>
where
    for<'a> &'a mut P: TryFrom<&'a mut Program, Error = ProgramError>,
{
    let wrap = |source| DatapathError::LoadProgram { name, source: Box::new(source) };
    let program = object.program_mut(name).ok_or(DatapathError::Incomplete { name })?;
    load((&mut *program).try_into().map_err(wrap)?).map_err(wrap)?;
    let fd = program.fd().map_err(wrap)?;
    fd.as_fd().try_clone_to_owned().map_err(DatapathError::kernel("duplicate a program's descriptor"))
}

fn duplicate(map: &Map) -> io::Result<OwnedFd> {
    let (Map::Array(data)
    | Map::HashMap(data)
    | Map::LruHashMap(data)
    | Map::PerCpuArray(data)
    | Map::RingBuf(data)) = map
    else {
        return Err(io::ErrorKind::Unsupported.into());
    };
    data.fd().as_fd().try_clone_to_owned()
}
