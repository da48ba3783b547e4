//! The pin directory: one agent at a time, nobody else's, foreign shapes refused, readable for people, mended while an
//! agent runs, gone after uninstall. Root.

use std::{fs, ops::ControlFlow, os::unix::fs::PermissionsExt, path::Path, thread, time::Duration};

use crate::support::{Lab, begin, link, owning, pin_root, session, sh, try_sh, vip};
use announcer::{
    datapath::{Attachment, Config, Datapath, DatapathError, Mode, Role, Status, Step, uninstall},
    vocabulary::BootNs,
};

const VIP4: &str = "10.9.0.100";
const VIP6: &str = "fd00:9::100";
const OTHER4: &str = "10.9.0.101";

#[test]
fn a_second_agent_is_refused_while_the_first_lives() {
    let _lab = Lab::without_links();
    let first = Datapath::open(Lab::config(Mode::Auto)).expect("a datapath");
    let second = Datapath::open(Lab::config(Mode::Auto));
    assert!(matches!(second, Err(DatapathError::Busy { .. })), "{second:?}");
    drop(first);
    Datapath::open(Lab::config(Mode::Auto)).expect("a datapath once the first is gone");
}

#[test]
fn an_agent_may_wait_for_the_one_before_it() {
    let _lab = Lab::without_links();
    let first = Datapath::open(Lab::config(Mode::Auto)).expect("a datapath");
    thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            // The thread shares this test's namespaces.
            Datapath::open_within(Lab::config(Mode::Auto), Duration::from_secs(20)).map(drop)
        });
        drop(first);
        waiting.join().expect("no panic").expect("the lock in the end");
    });
}

#[test]
fn a_directory_outside_a_bpffs_is_refused_with_the_way_out() {
    let _lab = Lab::without_links();
    let config = Config { pin_root: "/tmp/announcer-not-a-bpffs".into(), ..Lab::config(Mode::Auto) };
    let error = Datapath::open(config).expect_err("no bpffs");
    assert!(matches!(error, DatapathError::NotBpffs { .. }));
    let text = error.to_string();
    assert!(
        text.starts_with("/tmp/announcer-not-a-bpffs does not exist, and /tmp is not on a bpffs"),
        "{text}"
    );
    assert!(text.contains("mount -t bpf"), "{text}");
    assert!(!Path::new("/tmp/announcer-not-a-bpffs").exists());
}

fn mode() -> u32 {
    fs::metadata(pin_root()).expect("the directory").permissions().mode() & 0o7777
}

/// Opening fails, for the reason that is in the error, with the way out; and changes nothing.
fn untrusted(words: &[&str]) {
    let before = sh("stat -c '%u %a' /sys/fs/bpf/announcer; ls /sys/fs/bpf/announcer");
    let error = Datapath::open(Lab::config(Mode::Auto)).expect_err("another's directory").to_string();
    assert!(words.iter().all(|word| error.contains(word)) && !error.contains('\n'), "{error}");
    assert_eq!(sh("stat -c '%u %a' /sys/fs/bpf/announcer; ls /sys/fs/bpf/announcer"), before);
}

#[test]
fn the_directory_is_made_for_its_owner_alone_and_nobody_else_can_take_its_lock() {
    let _lab = Lab::without_links();
    let nobody_locks = "setpriv --reuid=65534 --clear-groups flock --nonblock /sys/fs/bpf/announcer true";
    let datapath = Datapath::open(Lab::config(Mode::Auto)).expect("a datapath");
    assert_eq!(mode(), 0o700);
    drop(datapath);
    let (locked, said) = try_sh(nobody_locks);
    assert!(!locked && said.contains("Permission denied"), "{said}");
}

#[test]
fn a_directory_that_an_older_release_left_open_is_closed_and_adopted() {
    let lab = Lab::new();
    let (datapath, _left) = lab.answering(Mode::Tcx, &[VIP4]);
    drop(datapath);
    sh("chmod 0755 /sys/fs/bpf/announcer");
    let datapath = Datapath::open(Lab::config(Mode::Tcx)).expect("a datapath");
    assert_eq!(mode(), 0o700);
    assert!(datapath.inherited().is_some_and(|inherited| inherited.owned.contains_key(&vip(VIP4))));
}

#[test]
fn a_directory_that_others_own_or_may_write_is_refused_with_the_way_out() {
    let _lab = Lab::without_links();
    sh("setpriv --reuid=65534 --clear-groups mkdir /sys/fs/bpf/announcer");
    untrusted(&["belongs to user 65534", "`rm -r /sys/fs/bpf/announcer`", "mode=0700"]);
    sh("chown root /sys/fs/bpf/announcer && chmod 0775 /sys/fs/bpf/announcer");
    untrusted(&["may be written by others (mode 0775)", "`chmod 0700 /sys/fs/bpf/announcer`"]);
    sh("chmod 0700 /sys/fs/bpf/announcer && chmod 0777 /sys/fs/bpf");
    untrusted(&["/sys/fs/bpf may be written by others (mode 0777)", "`chmod 0700 /sys/fs/bpf`"]);
    // As `mount -t bpf` makes it: there nobody renames what is not theirs.
    sh("chmod 1777 /sys/fs/bpf");
    Datapath::open(Lab::config(Mode::Auto)).expect("a datapath");
}

/// Every name below the pin directory, and what is pinned there.
fn pinned() -> String {
    sh(
        "cd /sys/fs/bpf/announcer && find . | sort && for map in gen-*/session session; do bpftool map show pinned $map; done",
    )
}

#[test]
fn pins_that_are_deleted_under_a_running_agent_are_made_again_and_the_next_agent_adopts() {
    let lab = Lab::new();
    let (mut datapath, left) = lab.answering(Mode::Tcx, &[VIP4]);
    let before = pinned();
    let mended = datapath.mend_pins();
    assert!(mended.pins.is_empty() && mended.failed.is_none(), "nothing is missing: {mended:?}");

    // One that is gone, and one that is another's.
    sh(
        "cd /sys/fs/bpf/announcer && rm link-* vips4 && bpftool map create vips4 type hash key 8 value 64 entries 1 name x",
    );
    let mended = datapath.mend_pins();
    let names: Vec<_> = mended.pins.iter().filter_map(|pin| pin.file_name()).collect();
    assert_eq!(names, ["vips4", &*format!("link-{}-tcx", left.id)], "{mended:?}");
    assert_eq!(pinned(), before);

    // All of it, with the directory and its lock.
    sh("rm -r /sys/fs/bpf/announcer");
    let mended = datapath.mend_pins();
    assert!(mended.failed.is_none(), "{mended:?}");
    assert_eq!(pinned(), before);
    assert_eq!(mode(), 0o700);
    let second = Datapath::open(Lab::config(Mode::Tcx));
    assert!(matches!(second, Err(DatapathError::Busy { .. })), "the new directory is locked: {second:?}");
    drop(datapath);
    let next = Datapath::open(Lab::config(Mode::Tcx)).expect("a datapath");
    assert!(next.inherited().is_some_and(|inherited| inherited.owned.contains_key(&vip(VIP4))));
}

#[test]
fn a_bpffs_that_is_unmounted_under_a_running_agent_is_named_and_mended_once_there_is_another() {
    let lab = Lab::new();
    let (mut datapath, _left) = lab.answering(Mode::Tcx, &[VIP4]);
    sh("umount --lazy /sys/fs/bpf");
    let failed = datapath.mend_pins().failed.expect("nowhere to pin").to_string();
    assert!(failed.contains("is not on a bpffs") && failed.contains("mount -t bpf -o mode=0700"), "{failed}");
    sh("mount -t bpf -o mode=0700 bpf /sys/fs/bpf");
    let mended = datapath.mend_pins();
    assert!(mended.failed.is_none() && mended.pins.len() > 20, "{mended:?}");
    drop(datapath);
    let next = Datapath::open(Lab::config(Mode::Tcx)).expect("a datapath");
    assert!(next.inherited().is_some_and(|inherited| inherited.owned.contains_key(&vip(VIP4))));
}

#[test]
fn a_folder_that_is_deleted_on_the_host_while_it_is_mounted_here_is_named() {
    let lab = Lab::new();
    sh(
        "mkdir -m 0700 /sys/fs/bpf/announcer /sys/fs/bpf/pins && mount --bind /sys/fs/bpf/announcer /sys/fs/bpf/pins",
    );
    let config = Config { pin_root: "/sys/fs/bpf/pins".into(), ..Lab::config(Mode::Tcx) };
    let mut datapath = Datapath::open(config).expect("a datapath");
    datapath.establish(&[link("left")]).expect("established");
    sh("rm -r /sys/fs/bpf/announcer");
    let failed = datapath.mend_pins().failed.expect("nowhere to pin").to_string();
    assert!(
        failed.contains("was deleted on the host") && failed.contains("restart the container"),
        "{failed}"
    );
    drop((datapath, lab));
}

#[test]
fn an_agent_at_another_mount_of_the_folder_adopts_and_uninstall_leaves_that_empty() {
    let lab = Lab::new();
    let (datapath, left) = lab.answering(Mode::Tcx, &[VIP4]);
    drop(datapath);
    // As a pod has it, whose agent before had all of the bpffs.
    sh("mkdir /sys/fs/bpf/pins && mount --bind /sys/fs/bpf/announcer /sys/fs/bpf/pins");
    let config = Config { pin_root: "/sys/fs/bpf/pins".into(), ..Lab::config(Mode::Tcx) };
    let next = Datapath::open(config).expect("a datapath");
    assert!(next.inherited().is_some_and(|inherited| inherited.owned.contains_key(&vip(VIP4))));
    drop(next);
    let links = uninstall(Path::new("/sys/fs/bpf/pins")).expect("uninstalled");
    assert_eq!(links, [left.id]);
    assert_eq!(sh("find /sys/fs/bpf/announcer"), "/sys/fs/bpf/announcer\n");
}

#[test]
fn a_pinned_map_of_another_shape_is_refused_and_replaced() {
    let lab = Lab::new();
    let (datapath, left) = lab.answering(Mode::Tcx, &[VIP4]);
    drop(datapath);
    let generation = "/sys/fs/bpf/announcer/gen-1";
    sh(&format!("rm {generation}/vips4"));
    sh(&format!("bpftool map create {generation}/vips4 type hash key 8 value 64 entries 100 name VIPS4"));
    let mut datapath = Datapath::open(Lab::config(Mode::Tcx)).expect("a datapath");
    assert_eq!(datapath.inherited(), None);
    datapath.establish(std::slice::from_ref(&left)).expect("established");
    assert!(!datapath.prove(vip(VIP4), left.id).expect("a proof"), "nothing is owned");
    begin(&mut datapath, 2);
    datapath.apply(&owning(&[VIP4], &[left.id])).expect("applied");
    assert!(datapath.prove(vip(VIP4), left.id).expect("a proof"));
    assert!(!Path::new(generation).exists());
}

#[test]
fn pinned_maps_of_another_layout_version_are_refused_and_replaced() {
    let lab = Lab::new();
    let (datapath, left) = lab.answering(Mode::Tcx, &[VIP4]);
    drop(datapath);
    let session = "/sys/fs/bpf/announcer/gen-1/session";
    let zeroes = "0 ".repeat(44);
    sh(&format!(
        "bpftool map update pinned {session} key 0 0 0 0 value 255 255 255 255 255 255 255 127 9 0 0 0 {zeroes}"
    ));
    let mut datapath = Datapath::open(Lab::config(Mode::Tcx)).expect("a datapath");
    assert_eq!(datapath.inherited(), None);
    datapath.establish(std::slice::from_ref(&left)).expect("established");
    assert_eq!(datapath.deadline(), BootNs::NONE);
}

#[test]
fn bpftool_prints_named_fields_and_words() {
    let lab = Lab::new();
    let (mut datapath, left) = lab.answering(Mode::Tcx, &[VIP4, VIP6]);
    let mut owners = owning(&[VIP4, VIP6], &[left.id]);
    owners.vips.extend(owning(&[OTHER4], &[]).vips);
    datapath.apply(&owners).expect("applied");
    // Of a ring buffer it says that there is nothing to dump, and fails.
    let dump = |map: &str| try_sh(&format!("bpftool map dump pinned /sys/fs/bpf/announcer/{map}")).1;
    let has = |map: &str, texts: &[&str]| {
        let dump: String = dump(map).split_whitespace().collect::<Vec<_>>().join(" ");
        for text in texts {
            assert!(dump.contains(text), "{text} in {map}: {dump}");
        }
    };
    has(
        "vips4",
        &["\"address\": [10,9,0,100", "\"role\": \"Owned\"", "\"role\": \"Elsewhere\"", "\"epoch\": 1"],
    );
    has(
        "vips6",
        &["\"address\": [253,0,0,9,0,0,0,0,0,0,0,0,0,0,1,0", "\"role\": \"Owned\"", "\"link_id\": "],
    );
    let deadline = format!("\"deadline_boot_ns\": {}", datapath.deadline().0);
    has("session", &[&deadline, "\"layout_version\": 2", "\"elsewhere\": \"Dropped\"", "\"epoch\": 1"]);
    let [a, b, c, d, e, f] = left.mac.0;
    has("links", &[&format!("\"link_id\": {}, \"mac\": [{a},{b},{c},{d},{e},{f}", left.id)]);
    has("macs", &[&format!("\"mac\": [{a},{b},{c},{d},{e},{f}")]);
    has("counters", &["\"replies\": 0", "\"last_seen_boot_ns\": 0"]);
    has("events", &["Found 0 elements"]);
    drop(lab);
}

#[test]
fn the_object_can_be_loaded_with_nothing_but_bpftool() {
    let _lab = Lab::without_links();
    sh("mkdir /sys/fs/bpf/programs /sys/fs/bpf/maps");
    sh(&format!(
        "bpftool prog loadall {} /sys/fs/bpf/programs pinmaps /sys/fs/bpf/maps",
        announcer_ebpf::OBJECT_PATH
    ));
    assert_eq!(
        sh("ls /sys/fs/bpf/programs").split_whitespace().collect::<Vec<_>>(),
        ["announcer_tcx", "announcer_xdp", "announcer_xdp_generic"]
    );
}

#[test]
fn status_reads_everything_from_the_pins_beside_a_running_agent_and_after_it() {
    let lab = Lab::new();
    let (mut datapath, left) = lab.answering(Mode::Tcx, &[VIP4]);
    let mut owners = owning(&[VIP4], &[left.id]);
    owners.vips.extend(owning(&[OTHER4], &[]).vips);
    datapath.apply(&owners).expect("applied");
    lab.client.run(|| sh(&format!("arping -c 2 -w 2 -I right {VIP4}")));
    let read = || Status::read(&pin_root()).expect("readable").expect("pinned").expect("of our layout");
    let beside = read();
    let deadline = datapath.deadline();
    drop(datapath);
    let after = read();
    assert_eq!(beside, after);
    assert_eq!((after.session, after.deadline, after.suppress), (session(1), deadline, true));
    assert_eq!(after.links[&left.id].attachment, Attachment::Tcx);
    assert_eq!(after.links[&left.id].mac, Some(left.mac));
    let owned = &after.vips[&(vip(VIP4), left.id)];
    assert_eq!((owned.role, owned.epoch, owned.counters.replies), (Role::Owned, 1, 2));
    assert_eq!(after.vips[&(vip(OTHER4), left.id)].role, Role::Elsewhere);
}

#[test]
fn status_says_of_each_link_until_when_its_own_generation_answers() {
    let lab = Lab::new();
    lab.add_veth("second", "second-far");
    let (mut datapath, left) = lab.answering(Mode::Tcx, &[VIP4]);
    let links = [left.clone(), link("second")];
    datapath.set_links(&links).expect("two links");
    let deadline = datapath.deadline();
    drop(datapath);
    let mut datapath = Datapath::open(Lab::config(Mode::Tcx)).expect("a datapath");
    datapath.on_step(Box::new(|step| match step {
        Step::Swapped(_) => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    }));
    datapath.establish(&links).expect_err("stopped between the two swaps");
    drop(datapath);
    // What the second link still goes by.
    let (layout, zeroes) = (announcer_ebpf::layout::LAYOUT_VERSION, "0 ".repeat(44));
    sh(&format!(
        "bpftool map update pinned /sys/fs/bpf/announcer/gen-1/session key 0 0 0 0 value 5 0 0 0 0 0 0 0 {layout} 0 0 0 {zeroes}"
    ));
    let status = Status::read(&pin_root()).expect("readable").expect("pinned").expect("of our layout");
    assert_eq!(status.links[&left.id].deadline, Some(deadline));
    assert_eq!(status.links[&links[1].id].deadline, Some(BootNs(5)));
    sh("rm -r /sys/fs/bpf/announcer/gen-1");
    let status = Status::read(&pin_root()).expect("readable").expect("pinned").expect("of our layout");
    assert_eq!(status.links[&links[1].id].deadline, None);
    drop(lab);
}

#[test]
fn uninstall_leaves_nothing_behind_and_needs_no_agent() {
    let lab = Lab::new();
    let (datapath, left) = lab.answering(Mode::Generic, &[VIP4]);
    assert!(matches!(uninstall(&pin_root()), Err(DatapathError::Busy { .. })), "not under a running agent");
    drop(datapath);
    assert_eq!(uninstall(&pin_root()).expect("uninstalled"), [left.id]);
    assert!(!pin_root().exists());
    assert!(!sh("ip -d link show left").contains("xdp"));
    let asked = lab.client.run(|| try_sh(&format!("arping -c 1 -w 1 -I right {VIP4}")).0);
    assert!(!asked);
    assert_eq!(Status::read(&pin_root()).expect("readable").map(|_| ()), None);
    assert_eq!(uninstall(&pin_root()).expect("nothing to do"), []);
    assert_eq!(link("left").id, left.id);
}
