//! Programs: the live ones run on one frame, and a foreign one that passes everything.

use std::{
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    path::Path,
};

use aya::{
    TestRun, TestRunOptions,
    programs::{SchedClassifier, Xdp},
};

/// What a program said of a frame.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Said {
    /// It goes on, unchanged.
    Pass,
    Drop,
    /// This goes back.
    Answer(Vec<u8>),
}

/// The two programs of the live generation.
pub struct Live {
    xdp: Xdp,
    tcx: SchedClassifier,
}

impl Live {
    /// Of the one generation pinned under `pin_root`.
    pub fn open(pin_root: &Path) -> Self {
        let generation = std::fs::read_dir(pin_root)
            .expect("pins")
            .map(|entry| entry.expect("an entry").path())
            .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("gen-")))
            .expect("a generation");
        let attach_type = aya_obj::programs::XdpAttachType::Interface;
        Self {
            xdp: Xdp::from_pin(generation.join("announcer_xdp"), attach_type).expect("the XDP program"),
            tcx: SchedClassifier::from_pin(generation.join("announcer_tcx")).expect("the TCX program"),
        }
    }

    /// Both programs on `frame` as if it came in by `ifindex`; they must say the same.
    pub fn both(&self, ifindex: u32, frame: &[u8]) -> Said {
        let xdp = self.xdp(ifindex, frame);
        assert_eq!(self.tcx(ifindex, frame), xdp, "TCX and XDP disagree on {frame:02x?}");
        xdp
    }

    pub fn xdp(&self, ifindex: u32, frame: &[u8]) -> Said {
        let context = words(&[0, frame.len() as u32, 0, ifindex, 0, 0]);
        let mut out = vec![0; frame.len() + 64];
        let options = TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut out),
            ctx_in: Some(&context),
            ..TestRunOptions::default()
        };
        let run = self.xdp.test_run(options).expect("a test run");
        out.truncate(run.data_size_out as usize);
        said(run.return_value, &[2, 1, 3], frame, out)
    }

    pub fn tcx(&self, ifindex: u32, frame: &[u8]) -> Said {
        let mut context = [0; 48];
        context[10] = ifindex;
        let context = words(&context);
        let mut out = vec![0; frame.len() + 64];
        let options = TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut out),
            ctx_in: Some(&context),
            ..TestRunOptions::default()
        };
        let run = self.tcx.test_run(options).expect("a test run");
        out.truncate(run.data_size_out as usize);
        said(run.return_value, &[u32::MAX, 2, 7], frame, out)
    }
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

fn said(verdict: u32, verdicts: &[u32; 3], before: &[u8], after: Vec<u8>) -> Said {
    let [pass, drop, answer] = *verdicts;
    match verdict {
        verdict if verdict == pass => {
            assert_eq!(after, before, "a passed frame is not touched");
            Said::Pass
        }
        verdict if verdict == drop => Said::Drop,
        verdict if verdict == answer => Said::Answer(after),
        other => panic!("verdict {other}"),
    }
}

/// A program of somebody else's that says one thing of every frame. Attached until dropped.
pub struct Foreign {
    _link: OwnedFd,
}

impl Foreign {
    /// Native XDP that passes everything: what the far end of a veth needs to take up what native XDP sends.
    pub fn passing_xdp(ifindex: u32) -> Self {
        let (program_type, attach_type, driver_mode, xdp_pass) = (6, 37, 4, 2);
        Self::attach(program_type, xdp_pass, ifindex, attach_type, driver_mode)
    }

    /// At the end of the TCX ingress chain; it drops all that comes so far.
    pub fn dropping_tcx(ifindex: u32) -> Self {
        let (program_type, attach_type, tcx_drop) = (3, 46, 2);
        Self::attach(program_type, tcx_drop, ifindex, attach_type, 0)
    }

    fn attach(kind: u32, verdict: u32, ifindex: u32, attach_type: u32, flags: u32) -> Self {
        // mov r0, verdict; exit
        let instructions: [u64; 2] = [0xb7 | u64::from(verdict) << 32, 0x95];
        let license = c"GPL";
        let mut load = [0_u32; 32];
        (load[0], load[1]) = (kind, 2);
        put(&mut load, 2, instructions.as_ptr() as u64);
        put(&mut load, 4, license.as_ptr() as u64);
        let program = bpf(5, &mut load).expect("a program");
        let mut create = [program.as_raw_fd() as u32, ifindex, attach_type, flags, 0, 0, 0, 0];
        Self { _link: bpf(28, &mut create).expect("a link") }
    }
}

fn put(words: &mut [u32], at: usize, value: u64) {
    words[at] = value as u32;
    words[at + 1] = (value >> 32) as u32;
}

fn bpf(command: libc::c_int, attribute: &mut [u32]) -> io::Result<OwnedFd> {
    let bytes = size_of_val(attribute) as libc::c_ulong;
    // SAFETY: the attribute is readable for its length, and the pointers in it outlive the call.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, command, attribute.as_mut_ptr(), bytes) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor, for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}
