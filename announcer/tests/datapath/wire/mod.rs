//! The frame table on a real link, in every mode, judged by what others made: arping, ndisc6, tcpdump and the Linux
//! neighbour table. Needs root.

/// Each function becomes three tests, one on a link in each mode.
macro_rules! in_every_mode {
    ($($name:ident),+ $(,)?) => {$(
        mod $name {
            use announcer::datapath::Mode;

            use crate::support::rig::Rig;

            #[test]
            fn tcx() {
                super::$name(Rig::new(Mode::Tcx));
            }

            #[test]
            fn generic() {
                super::$name(Rig::new(Mode::Generic));
            }

            #[test]
            fn native() {
                super::$name(Rig::new(Mode::Native));
            }
        }
    )+};
}

mod answers;
mod conflicts;
mod lease;
mod neighbours;
mod silence;
mod vlan;
