//! The live programs, run on one frame.

use std::path::Path;

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
