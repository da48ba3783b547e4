//! What [`LinkWatch`] sees of changes made by `ip`.

use std::sync::{Arc, mpsc};

use announcer::{
    vocabulary::{Link, LinkId},
    wire::links::{LinkView, LinkWatch},
};

use crate::lan::{Lan, Namespace, Pending, ip, ip_batch, mac};

/// Watches `namespace` until `wanted` holds; the watcher has its first view when this returns.
fn until(
    namespace: &Namespace,
    wanted: impl FnMut(&Arc<LinkView>) -> bool + Send + 'static,
) -> Pending<(Arc<LinkView>, Arc<LinkView>)> {
    let (watching, ready) = mpsc::channel();
    let pending = namespace.start_async(move || async move {
        let watch = LinkWatch::open().await.expect("netlink");
        tokio::spawn(watch.follow());
        let mut view = watch.view();
        let before = view.borrow_and_update().clone();
        watching.send(()).expect("a waiter");
        let after = view.wait_for(wanted).await.expect("a watch").clone();
        (before, after)
    });
    ready.recv().expect("a watcher");
    pending
}

/// Runs `ip` in a namespace whose own thread is busy watching.
fn ip_in(namespace: &Namespace, arguments: &str) {
    let arguments = arguments.to_owned();
    namespace.beside(move || drop(ip(&arguments)));
}

fn eth0(view: &LinkView) -> &Link {
    view.named("eth0").expect("eth0")
}

#[test]
fn the_first_view_is_complete() {
    let lan = Lan::new();
    let link = lan.node.link("eth0");
    let printed = lan.node.ip("-o link show eth0");
    assert!(
        printed.contains(&format!("link/ether {} ", link.mac))
            && printed.starts_with(&format!("{}:", link.id))
    );
    assert_eq!((link.kind.as_deref(), link.mtu, link.carrier), (Some("veth"), 1500, true));
    assert!(
        link.has_global_address && link.ipv6_source.is_some_and(|ip| ip.is_unicast_link_local()),
        "{link:?}"
    );
}

#[test]
fn lost_and_returned_carrier_is_seen() {
    let lan = Lan::new();
    let down = until(&lan.node, |view| !eth0(view).carrier);
    lan.client.ip("link set eth0 down");
    let (before, after) = down.wait();
    assert!(after.started_since(&before).is_empty());
    let up = until(&lan.node, |view| eth0(view).carrier);
    lan.client.ip("link set eth0 up");
    let (before, after) = up.wait();
    assert_eq!(after.started_since(&before), [eth0(&after).id].into());
}

#[test]
fn a_flap_is_seen_although_it_is_over() {
    let lan = Lan::new();
    let flap = until(&lan.node, {
        let mut first = None;
        move |view| eth0(view).carrier && *first.get_or_insert_with(|| view.starts.clone()) != view.starts
    });
    lan.client.ip("link set eth0 down");
    lan.client.ip("link set eth0 up");
    let (before, after) = flap.wait();
    assert_eq!(after.started_since(&before), [eth0(&after).id].into());
}

#[test]
fn a_changed_mac_is_seen_as_a_start() {
    let lan = Lan::new();
    let changed = until(&lan.node, |view| eth0(view).mac == mac("02:00:00:00:00:99"));
    ip_in(&lan.node, "link set eth0 address 02:00:00:00:00:99");
    let (before, after) = changed.wait();
    assert!(after.started_since(&before).contains(&eth0(&after).id));
}

#[test]
fn a_rename_keeps_the_link() {
    let lan = Lan::new();
    let renamed = until(&lan.node, |view| view.named("wan").is_some());
    ip_in(&lan.node, "link set eth0 name wan");
    let (before, after) = renamed.wait();
    let (old, new) = (eth0(&before).clone(), after.named("wan").expect("wan").clone());
    assert_eq!(Link { name: "wan".into(), ..old }, new);
    assert!(after.started_since(&before).is_empty(), "its announcements go on");
}

#[test]
fn a_link_deleted_and_created_again_under_its_name_and_number_is_seen() {
    let node = Namespace::new();
    node.ip("link add eth0 index 77 address 02:00:00:00:00:01 type veth peer name far");
    let gone = until(&node, |view| view.named("eth0").is_none());
    ip_in(&node, "link del eth0");
    let (old, _) = gone.wait();
    let back = until(&node, |view| view.named("eth0").is_some_and(|link| link.carrier));
    ip_in(&node, "link add eth0 index 77 address 02:00:00:00:00:01 type veth peer name far");
    ip_in(&node, "link set far up");
    ip_in(&node, "link set eth0 up");
    let (before, after) = back.wait();
    assert!(old.links.contains_key(&LinkId(77)) && !before.links.contains_key(&LinkId(77)));
    assert!(after.started_since(&before).contains(&LinkId(77)));
}

#[test]
fn addresses_come_and_go() {
    let node = Namespace::new();
    node.ip("link add eth0 type veth peer name far");
    let come = until(&node, |view| view.named("eth0").is_some_and(|link| link.has_global_address));
    ip_in(&node, "addr add 10.4.0.9/20 dev eth0");
    assert!(!eth0(&come.wait().0).has_global_address);
    let go = until(&node, |view| view.named("eth0").is_some_and(|link| !link.has_global_address));
    ip_in(&node, "addr del 10.4.0.9/20 dev eth0");
    go.wait();
}

#[test]
fn enslaving_to_a_bridge_and_freeing_are_seen() {
    let node = Namespace::new();
    node.ip("link add br0 type bridge");
    node.ip("link add eth0 type veth peer name far");
    let enslaved = until(&node, |view| eth0(view).master.is_some());
    ip_in(&node, "link set eth0 master br0");
    let (_, view) = enslaved.wait();
    let bridge = view.named("br0").expect("br0");
    assert_eq!((eth0(&view).master, bridge.kind.as_deref()), (Some(bridge.id), Some("bridge")));
    let free = until(&node, |view| eth0(view).master.is_none());
    ip_in(&node, "link set eth0 nomaster");
    free.wait();
}

#[test]
fn the_loopback_is_no_link() {
    let node = Namespace::new();
    node.ip("link add eth0 type veth peer name far");
    let (_, view) = until(&node, |_| true).wait();
    assert_eq!((view.named("lo"), view.links.len()), (None, 2));
}

#[test]
fn a_link_that_stops_speaking_arp_is_mute() {
    let node = Namespace::new();
    node.ip("link add eth0 type veth peer name far");
    let mute = until(&node, |view| view.mute.contains(&eth0(view).id));
    ip_in(&node, "link set eth0 arp off");
    assert!(mute.wait().0.mute.is_empty());
}

#[test]
fn after_more_news_than_the_socket_holds_the_view_is_true_again() {
    let node = Namespace::new();
    node.ip("link add eth0 type veth peer name far");
    node.ip("addr add 10.4.0.9/20 dev eth0");
    let (watching, ready) = mpsc::channel();
    let (over, storm) = mpsc::channel();
    let pending = node.start_async(move || async move {
        let watch = LinkWatch::open().await.expect("netlink");
        tokio::spawn(watch.follow());
        let mut view = watch.view();
        watching.send(()).expect("a waiter");
        // Blocks the runtime: nobody reads the socket while the kernel fills it.
        storm.recv().expect("a storm");
        view.wait_for(|view| view.named("last").is_some()).await.expect("a watch").clone()
    });
    ready.recv().expect("a watcher");
    node.beside(move || {
        let noise = (0..5000).map(|n| format!("addr add 10.9.{}.{}/32 dev eth0\n", n / 250, n % 250));
        let end = ["addr flush dev eth0\n", "link set eth0 name last\n"].map(ToOwned::to_owned);
        ip_batch(&noise.chain(end).collect::<String>());
    });
    over.send(()).expect("a watcher");
    assert!(!pending.wait().named("last").expect("a link").has_global_address);
}

#[test]
fn the_default_routes_link_and_the_subnets_of_addresses_are_seen() {
    let lan = Lan::new();
    let uplink = until(&lan.node, |view| view.uplinks == [eth0(view).id].into());
    ip_in(&lan.node, "route add default via 10.4.0.2 dev eth0");
    // Routes are looked at when addresses change, and from time to time.
    ip_in(&lan.node, "addr add 10.9.0.1/24 dev eth0");
    let (before, after) = uplink.wait();
    assert_eq!(before.uplinks, [].into());
    let subnets = &after.facts[&eth0(&after).id].subnets;
    let texts: Vec<String> = subnets.iter().map(ToString::to_string).collect();
    assert_eq!(texts, ["10.4.0.0/20", "10.9.0.0/24", "fd00:4::/64"]);
}

#[test]
fn alternative_names_are_seen() {
    let node = Namespace::new();
    node.ip("link add eth0 type veth peer name far");
    // The kernel tells of them while the link is up.
    node.ip("link set eth0 up");
    let named = until(&node, |view| view.named("a-long-name-of-eth0").is_some());
    ip_in(&node, "link property add dev eth0 altname a-long-name-of-eth0");
    let (_, view) = named.wait();
    assert_eq!(view.named("a-long-name-of-eth0"), Some(eth0(&view)));
}

#[test]
fn who_follows_after_one_that_was_killed_sees_what_changed_between() {
    let node = Namespace::new();
    node.ip("link add eth0 type veth peer name far");
    let view = node.run_async(|| async {
        let watch = LinkWatch::open().await.expect("netlink");
        let mut view = watch.view();
        let first = tokio::spawn(watch.follow());
        ip("link set eth0 name between");
        view.wait_for(|view| view.named("between").is_some()).await.expect("a watch");
        first.abort();
        first.await.expect_err("it was killed");
        ip("link set between name last");
        ip("link add eth1 type veth peer name far1");
        let _second = tokio::spawn(watch.follow());
        let both = |view: &Arc<LinkView>| view.named("last").is_some() && view.named("eth1").is_some();
        view.wait_for(both).await.expect("a watch").clone()
    });
    assert!(view.named("between").is_none());
}
