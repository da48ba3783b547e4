//! In which mode a link gets the program: what `auto` takes, what a forced mode does, and what is said of it.

use std::fs;

use announcer::{
    datapath::{AttachError, Attachment, Datapath, LinkChange, Mode, Reason},
    vocabulary::Link,
};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::support::{
    Lab, begin,
    foreign::{Foreign, Hook},
    ip, link,
    offload::set_vlan_offload,
    owning, try_sh,
};

const VIP4: &str = "10.9.0.100";
const VIP6: &str = "fd00:9::100";

/// `left`, as a physical NIC would look.
fn nic() -> Link {
    Link { kind: None, ..link("left") }
}

/// A datapath on `left` in that mode, and what it said of it.
fn established(mode: Mode, left: &Link) -> (Datapath, LinkChange) {
    let mut datapath = Datapath::open(Lab::config(mode)).expect("a datapath");
    let mut reports = datapath.establish(std::slice::from_ref(left)).expect("established");
    begin(&mut datapath, 1);
    datapath.apply(&owning(&[VIP4, VIP6], &[left.id])).expect("applied");
    (datapath, reports.pop().expect("a report").change)
}

fn answers(lab: &Lab) -> bool {
    lab.client.run(|| {
        try_sh(&format!("arping -f -c 1 -w 1 -I right {VIP4}")).0
            && try_sh(&format!("ndisc6 -q -r 1 -w 1000 {VIP6} right")).0
    })
}

#[test]
fn auto_takes_tcx_on_a_veth_and_says_why() {
    let lab = Lab::new();
    let (datapath, change) = established(Mode::Auto, &link("left"));
    let expected = (Attachment::Tcx, Some(Reason::Veth));
    assert!(matches!(change, LinkChange::Attached { attachment, why } if (attachment, why) == expected));
    assert_eq!(datapath.attachments().values().collect::<Vec<_>>(), [&expected]);
    assert!(answers(&lab));
}

#[test]
fn auto_takes_native_where_the_driver_has_it() {
    let lab = Lab::new();
    let _far_end = lab.client.run(|| Foreign::passing_xdp(link("right").id.0));
    let (datapath, _) = established(Mode::Auto, &nic());
    assert_eq!(datapath.attachments().values().collect::<Vec<_>>(), [&(Attachment::Native, None)]);
    assert!(answers(&lab));
}

#[test]
fn auto_takes_tcx_where_the_driver_has_no_xdp_and_says_so() {
    let _lab = Lab::new();
    ip("link add left.5 type bridge");
    ip("link set left.5 up");
    let bridge = link("left.5");
    let (datapath, _) = established(Mode::Auto, &bridge);
    let expected = (Attachment::Tcx, Some(Reason::NoDriverSupport));
    assert_eq!(datapath.attachments()[&bridge.id], expected);
    drop(datapath);
}

#[test]
fn jumbo_frames_get_native_xdp() {
    let lab = Lab::new();
    ip("link set left mtu 9000");
    lab.client.run(|| ip("link set right mtu 9000"));
    let without = Foreign::xdp(link("left").id.0, Hook::Native, false).expect_err("refused");
    assert_eq!(without.raw_os_error(), Some(libc::ERANGE), "the driver wants `frags` of that MTU");
    let _far_end = lab.client.run(|| Foreign::passing_xdp(link("right").id.0));
    for mode in [Mode::Auto, Mode::Native] {
        let (datapath, _) = established(mode, &Link { mtu: 9000, ..nic() });
        assert_eq!(
            datapath.attachments().values().collect::<Vec<_>>(),
            [&(Attachment::Native, None)],
            "{mode}"
        );
        assert!(answers(&lab), "{mode}");
    }
}

/// As `8021q` lists them; gone again with `false`.
fn pretend_vlan_devices(there: bool) {
    let folder = "/proc/thread-self/net";
    if !there {
        return unmount(folder, UnmountFlags::empty()).expect("unmounted");
    }
    mount("tmpfs", folder, "tmpfs", MountFlags::empty(), None).expect("a tmpfs");
    fs::create_dir(format!("{folder}/vlan")).expect("a folder");
    let config = "VLAN Dev name\t | VLAN ID\nName-Type: VLAN_NAME_TYPE_RAW_PLUS_VID_NO_PAD\nleft.5         | 5  | left\n";
    fs::write(format!("{folder}/vlan/config"), config).expect("written");
}

#[test]
fn xdp_is_not_used_where_rx_vlan_offload_hides_the_tags_of_vlan_devices() {
    let _lab = Lab::new();
    pretend_vlan_devices(true);
    set_vlan_offload("left", true);
    for mode in [Mode::Native, Mode::Generic] {
        let (datapath, change) = established(mode, &nic());
        let LinkChange::Failed(error @ AttachError::VlanOffload { .. }) = change else {
            panic!("{change:?}")
        };
        assert!(error.to_string().contains("ethtool -K left rxvlan off"), "{error}");
        assert!(datapath.attachments().is_empty());
    }
    let (datapath, _) = established(Mode::Auto, &nic());
    assert_eq!(
        datapath.attachments().values().collect::<Vec<_>>(),
        [&(Attachment::Tcx, Some(Reason::VlanOffload))]
    );
    drop(datapath);
    set_vlan_offload("left", false);
    let (datapath, _) = established(Mode::Generic, &nic());
    assert_eq!(datapath.attachments().values().collect::<Vec<_>>(), [&(Attachment::Generic, None)]);
    pretend_vlan_devices(false);
}

#[test]
fn a_vlan_device_that_comes_later_moves_the_link_from_xdp_to_tcx() {
    let _lab = Lab::new();
    set_vlan_offload("left", true);
    let left = nic();
    let (mut datapath, _) = established(Mode::Auto, &left);
    assert_eq!(datapath.attachments()[&left.id], (Attachment::Native, None));
    pretend_vlan_devices(true);
    datapath.set_links(std::slice::from_ref(&left)).expect("followed");
    assert_eq!(datapath.attachments()[&left.id], (Attachment::Tcx, Some(Reason::VlanOffload)));
    pretend_vlan_devices(false);
}
