//! Solicited-node memberships, as the kernel lists them and as they are seen on the wire.

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader},
    net::Ipv6Addr,
    process::{Command, Stdio},
    time::Duration,
};

use announcer::{
    vocabulary::{LinkId, Vip},
    wire::groups::{Groups, Membership, Reconciled, wanted},
};

use crate::lan::{Lan, Namespace, ip_batch};

const PREFIX: &str = "ff0200000000000000000001ff0b";

fn vip(text: &str) -> Vip {
    text.parse().expect("an address")
}

fn memberships(link: LinkId, vips: &[&str]) -> BTreeSet<Membership> {
    wanted(vips.iter().map(|text| (vip(text), link)))
}

/// One agent's life: it opens, reconciles once, and ends, with all its sockets.
fn agent(namespace: &Namespace, wanted: BTreeSet<Membership>) -> Reconciled {
    let link = namespace.link("eth0").id;
    namespace.run_async(move || async move {
        let mut groups = Groups::open(BTreeSet::from([link])).expect("netlink");
        groups.reconcile(&wanted).await.expect("addresses")
    })
}

/// The kernel's list of `eth0` for groups of fd00:4::b:0/112, by their last 16 bits.
fn kernels(namespace: &Namespace) -> Vec<String> {
    namespace.run(list)
}

fn list() -> Vec<String> {
    let list = std::fs::read_to_string("/proc/thread-self/net/igmp6").expect("IPv6");
    let columns = list.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let groups = columns.filter(|columns| columns[1] == "eth0").map(|columns| columns[2].to_owned());
    let ours: BTreeSet<_> = groups.filter_map(|group| Some(group.strip_prefix(PREFIX)?.to_owned())).collect();
    ours.into_iter().collect()
}

fn done(joined: usize, left: usize) -> Reconciled {
    Reconciled { joined, left, ..Reconciled::default() }
}

#[test]
fn a_membership_outlives_the_agent_that_made_it() {
    let lan = Lan::new();
    let link = lan.node.link("eth0").id;
    assert_eq!(agent(&lan.node, memberships(link, &["fd00:4::b:1", "10.4.11.1"])), done(1, 0));
    assert_eq!(kernels(&lan.node), ["0001"]);
    let shown = lan.node.ip("-o -6 addr show dev eth0 to ff02::/16");
    assert!(shown.contains("ff02::1:ff0b:1/128") && shown.contains("autojoin"), "{shown}");
    assert!(
        shown.contains("nodad") && !shown.contains("tentative"),
        "nobody is asked about a group: {shown}"
    );
}

#[test]
fn the_next_agent_adopts_removes_and_adds() {
    let lan = Lan::new();
    let link = lan.node.link("eth0").id;
    agent(&lan.node, memberships(link, &["fd00:4::b:1", "fd00:4::b:2"]));
    assert_eq!(agent(&lan.node, memberships(link, &["fd00:4::b:2", "fd00:4::b:3"])), done(1, 1));
    assert_eq!(kernels(&lan.node), ["0002", "0003"]);
    assert_eq!(agent(&lan.node, BTreeSet::new()), done(0, 2));
    assert_eq!(kernels(&lan.node), [""; 0]);
}

#[test]
fn a_shared_group_stays_until_its_last_vip_goes() {
    let lan = Lan::new();
    let link = lan.node.link("eth0").id;
    assert_eq!(agent(&lan.node, memberships(link, &["fd00:4::b:1", "fd00:5::b:1"])), done(1, 0));
    assert_eq!(agent(&lan.node, memberships(link, &["fd00:5::b:1"])), done(0, 0));
    assert_eq!(kernels(&lan.node), ["0001"]);
}

#[test]
fn a_group_that_somebody_else_holds_is_left_alone() {
    let lan = Lan::new();
    let link = lan.node.link("eth0").id;
    lan.node.ip("addr add ff02::1:ff0b:1/128 dev eth0 autojoin");
    assert_eq!(agent(&lan.node, memberships(link, &["fd00:4::b:1"])), done(0, 0));
    assert_eq!(agent(&lan.node, BTreeSet::new()), done(0, 0));
    assert_eq!(kernels(&lan.node), ["0001"]);
}

#[test]
fn loss_of_carrier_loses_no_membership() {
    let lan = Lan::new();
    let link = lan.node.link("eth0").id;
    agent(&lan.node, memberships(link, &["fd00:4::b:1"]));
    lan.client.ip("link set eth0 down");
    lan.client.ip("link set eth0 up");
    assert_eq!(kernels(&lan.node), ["0001"]);
}

#[test]
fn what_the_kernel_loses_as_a_link_goes_down_is_held_again() {
    let lan = Lan::new();
    let link = lan.node.link("eth0").id;
    let many: Vec<_> = (0..50).map(|n| format!("{n:04x}")).collect();
    lan.node.run({
        // Without ARP the kernel does not join for the address, but with ARP it leaves: it forgets the group, and still
        // takes it for joined. The same happens, now and then, if a link goes down right after the address came.
        let add = many.iter().map(|n| format!("addr add ff02::1:ff0b:{n}/128 dev eth0 autojoin nodad\n"));
        let before = ["link set eth0 arp off\n".to_owned()].into_iter();
        let flap = ["arp on", "down", "up"].map(|change| format!("link set eth0 {change}\n"));
        let batch: String = before.chain(add).chain(flap).collect();
        move || ip_batch(&batch)
    });
    let vips: Vec<_> = many.iter().map(|n| format!("fd00:4::b:{n}")).collect();
    let wanted = memberships(link, &vips.iter().map(String::as_str).collect::<Vec<_>>());
    let again = wanted.clone();
    let listed = lan.node.run_async(move || async move {
        let mut groups = Groups::open(BTreeSet::from([link])).expect("netlink");
        groups.reconcile(&wanted).await.expect("addresses");
        groups.reconcile(&again).await.expect("addresses");
        list()
    });
    assert_eq!(listed, many);
}

#[test]
fn a_link_created_again_is_joined_again() {
    let node = Namespace::new();
    for _ in 0..2 {
        node.ip("link add eth0 address 02:00:0a:04:00:01 type veth peer name far");
        node.ip("link set eth0 up");
        let link = node.link("eth0").id;
        assert_eq!(agent(&node, memberships(link, &["fd00:4::b:1"])), done(1, 0));
        assert_eq!(kernels(&node), ["0001"]);
        node.ip("link del eth0");
    }
}

#[test]
fn a_membership_on_a_link_that_is_gone_fails_alone() {
    let lan = Lan::new();
    let link = lan.node.link("eth0").id;
    let (gone, mut all) = (LinkId(999), memberships(link, &["fd00:4::b:1"]));
    all.extend(memberships(gone, &["fd00:4::b:1"]));
    let done = agent(&lan.node, all);
    assert_eq!((done.joined, done.failed.keys().map(|(link, _)| *link).collect()), (1, vec![gone]));
}

#[test]
fn past_the_kernels_limit_sockets_hold_the_rest() {
    let lan = Lan::new();
    let link = lan.node.link("eth0").id;
    let many: BTreeSet<Membership> =
        (0..1000).map(|n| (link, Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff0b, n))).collect();
    let few: BTreeSet<_> = many.iter().take(10).copied().collect();
    let counts = lan.node.run_async(move || async move {
        // Some 290 memberships instead of 2 340; of this namespace alone since Linux 6.7.
        std::fs::write("/proc/sys/net/core/optmem_max", "16384").expect("Linux 6.7");
        let mut groups = Groups::open(BTreeSet::from([link])).expect("netlink");
        let all = groups.reconcile(&many).await.expect("addresses");
        assert_eq!((all.joined + all.by_socket, all.failed.len()), (1000, 0));
        assert!(all.joined > 200 && all.by_socket > 600, "{} and {}", all.joined, all.by_socket);
        let listed = list().len();
        let rest = groups.reconcile(&few).await.expect("addresses");
        assert_eq!((rest.left + 10, rest.by_socket), (all.joined, 0));
        (listed, list().len())
    });
    assert_eq!(counts, (1000, 10));
}

#[test]
fn an_own_address_in_the_same_group_still_answers() {
    let lan = Lan::new();
    let link = lan.node.link("eth0").id;
    lan.node.ip("addr add fd00:4::5:b:1/64 dev eth0");
    agent(&lan.node, memberships(link, &["fd00:4::b:1"]));
    let output = lan.client.run(|| {
        Command::new("ndisc6")
            .args(["-1", "-r", "3", "-w", "1000", "fd00:4::5:b:1", "eth0"])
            .output()
            .expect("ndisc6")
    });
    let printed = String::from_utf8_lossy(&output.stdout).to_lowercase();
    assert!(printed.contains(&lan.node.link("eth0").mac.to_string()), "{printed}");
}

#[test]
fn joining_is_reported_to_switches_by_mld() {
    let lan = Lan::new();
    let link = lan.node.link("eth0").id;
    let mut tcpdump = lan.client.run(|| {
        // An MLDv2 report (ICMPv6 143 after the 8 bytes of the router alert option) to ff02::16.
        let filter = "ip6 dst ff02::16 and ip6[48] == 143";
        let mut command = Command::new("tcpdump");
        command.args(["-lnvi", "eth0", filter]).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().expect("tcpdump")
    });
    let mut errors = BufReader::new(tcpdump.stderr.take().expect("piped")).lines();
    assert!(errors.any(|line| line.expect("text").contains("listening on")), "tcpdump did not start");
    agent(&lan.node, memberships(link, &["fd00:4::b:1"]));
    let printed = BufReader::new(tcpdump.stdout.take().expect("piped")).lines();
    let seen = printed.map(|line| line.expect("text")).any(|line| line.contains("ff02::1:ff0b:1"));
    tcpdump.kill().and_then(|()| tcpdump.wait()).expect("ended");
    assert!(seen);
}

#[test]
fn memberships_on_links_of_another_instance_are_left_alone() {
    let lan = Lan::new();
    let link = lan.node.link("eth0").id;
    agent(&lan.node, memberships(link, &["fd00:4::b:1"]));
    let left = lan.node.run_async(|| async {
        let mut groups = Groups::open(BTreeSet::new()).expect("netlink");
        groups.leave_all().await.expect("addresses")
    });
    assert_eq!((left, kernels(&lan.node)), (done(0, 0), vec!["0001".to_owned()]));
}

#[test]
fn a_group_that_somebody_flushes_is_joined_again() {
    let lan = Lan::new();
    let link = lan.node.link("eth0").id;
    let (joined, flush) = std::sync::mpsc::channel();
    let again = lan.node.start_async(move || async move {
        let groups = Groups::open(BTreeSet::from([link])).expect("netlink");
        let (want, wanted) = tokio::sync::watch::channel(BTreeSet::new());
        let keeping = tokio::spawn(groups.keep(wanted));
        want.send(memberships(link, &["fd00:4::b:1", "fd00:4::b:2"])).expect("a keeper");
        let present = async || {
            while list().len() < 2 {
                tokio::time::sleep(Duration::from_millis(20)).await
            }
        };
        present().await;
        joined.send(()).expect("a test");
        while list().len() == 2 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        present().await;
        drop(want);
        keeping.await.expect("no panic");
        list()
    });
    flush.recv_timeout(crate::lan::PATIENCE).expect("joined");
    lan.node.beside(|| drop(crate::lan::ip("-6 addr flush dev eth0 scope link")));
    assert_eq!(again.wait().len(), 2);
}
