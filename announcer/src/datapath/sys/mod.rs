//! The system calls that aya keeps private or does not have, each wrapped once. All of the datapath's `unsafe` is here.

mod barrier;
mod bpf;
mod ethtool;
mod object;
mod session_map;

pub(super) use self::{
    barrier::grace_period,
    bpf::{MapInfo, get_pinned, harmless_command, is_same_object, pin},
    ethtool::rx_vlan_offload,
    object::{
        XdpFlags, create_tcx_link, create_xdp_link, detach_link, link_info, map_info, program_id,
        test_run_skb, test_run_xdp, update_link,
    },
    session_map::SessionMap,
};
