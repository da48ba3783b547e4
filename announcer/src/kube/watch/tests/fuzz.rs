//! Objects and Leases that were changed at random, beside good ones, in lists and in watches: the good one always comes
//! through, in time, and nothing panics. `cargo xtask fuzz --objects` runs this for as long as one likes.

use std::time::Instant as StdInstant;

use futures::StreamExt as _;

use super::{
    mutate::{Random, mutate, spoil, valid},
    server::{Habits, LEASES, bytes, event},
    *,
};
use crate::election::{Input, Leases, lease::Record};

/// How long this runs, in seconds; what else it begins with.
const SECONDS: &str = "ANNOUNCER_FUZZ_SECONDS";
const SEED: &str = "ANNOUNCER_FUZZ_SEED";
/// Of the clock that nobody waits for.
const IN_TIME: Duration = Duration::from_secs(120);

const KINDS: [(&str, &str); 6] = [
    ("Service", SERVICES),
    ("EndpointSlice", SLICES),
    ("Node", NODES),
    ("IPAddressPool", POOLS),
    ("L2Advertisement", ADVERTISEMENTS),
    ("Lease", LEASES),
];

/// The good object of a kind, and what it says.
fn good(kind: &str, says: u8) -> Value {
    let name = if kind == "Lease" { "vip-10.4.11.1" } else { "good" };
    let mut good = valid(kind, name);
    match kind {
        "Service" => good["status"]["loadBalancer"]["ingress"] = json!([{"ip": format!("10.4.11.{says}")}]),
        "EndpointSlice" => {
            good["metadata"]["labels"]["kubernetes.io/service-name"] = json!("good");
            good["endpoints"][0]["nodeName"] = json!(format!("n{says}"));
        }
        "Node" => good["metadata"]["labels"]["says"] = json!(says.to_string()),
        "IPAddressPool" => good["spec"]["addresses"] = json!([format!("10.4.{says}.0/24")]),
        "L2Advertisement" => good["spec"]["interfaces"] = json!([format!("eth{says}")]),
        _ => good["metadata"]["annotations"]["announcer.io/write"] = json!(says.to_string()),
    }
    good
}

fn comes_through(snapshot: &Snapshot, kind: &str, says: u8) -> bool {
    let service = || snapshot.services.get(&ObjectKey { namespace: "web".into(), name: "good".into() });
    let configuration = &snapshot.configuration;
    match kind {
        "Service" => {
            let vip = format!("10.4.11.{says}").parse().expect("an address");
            service().is_some_and(|service| service.addresses == [vip].into())
        }
        "EndpointSlice" => {
            service().is_some_and(|service| service.endpoints.nodes.contains(&format!("n{says}")))
        }
        "Node" => {
            snapshot.nodes.get("good").is_some_and(|node| node.labels.get("says") == Some(&says.to_string()))
        }
        "IPAddressPool" => {
            let vip = format!("10.4.{says}.1").parse().expect("an address");
            configuration.pools.get("good").is_some_and(|pool| pool.contains(vip))
        }
        _ => configuration
            .advertisements
            .get("good")
            .is_some_and(|ad| ad.interfaces == [format!("eth{says}")].into()),
    }
}

/// A bad object, which never has the name or the addresses of a good one.
fn bad(kind: &str, random: &mut Random) -> Vec<u8> {
    let mut object = valid(kind, if kind == "Lease" { "vip-10.9.0.1" } else { "bad" });
    mutate(&mut object, random);
    let mut text = bytes(&object);
    if random.below(3) == 0 {
        spoil(&mut text, random);
    }
    text
}

/// One agent's watches, and what they have told.
struct Run {
    server: Arc<Server>,
    snapshots: Snapshots,
    leases: futures::stream::BoxStream<'static, Input>,
    task: tokio::task::JoinHandle<()>,
}

impl Run {
    fn start(lists: &[(&'static str, Vec<Vec<u8>>)]) -> Self {
        let server = Server::complete(&[(SERVICES, &[good("Service", 0)])]);
        lists.iter().for_each(|(path, objects)| server.install_raw(path, objects.clone()));
        server.behave(NODES, Habits { page: Some(2), ..Habits::default() });
        let (snapshots, task) = start(&server);
        let leases = Leases::new(server.client(), "metallb").observe().boxed();
        Self { server, snapshots, leases, task }
    }

    /// Waits until the good object of a kind says this.
    async fn wait(&mut self, kind: &str, says: u8, of: &str) {
        let comes = async {
            if kind == "Lease" {
                while let Some(input) = self.leases.next().await {
                    let records = match input {
                        Input::Changed(record) => vec![record],
                        Input::Listed(_, records) | Input::Compared(_, records) => records,
                        _ => continue,
                    };
                    let says_so = |record: &Record| {
                        matches!(record, Record::Claim(claim) if claim.vip.to_string() == "10.4.11.1"
                            && claim.write == says.to_string())
                    };
                    if records.iter().any(says_so) {
                        return;
                    }
                }
                panic!("the leases are watched no longer");
            }
            let comes =
                |now: &Option<Arc<Snapshot>>| now.as_deref().is_some_and(|s| comes_through(s, kind, says));
            self.snapshots.wait_for(comes).await.expect("a watcher that runs");
        };
        assert!(timeout(IN_TIME, comes).await.is_ok(), "the good {kind} did not come through {of}");
        assert!(!self.task.is_finished(), "the watcher ended");
    }
}

/// Bad ones beside good ones: in lists at the start, in the watch, in lists after 410; and each is deleted in the end.
async fn beside(random: &mut Random) -> u64 {
    let (kind, path) = KINDS[random.below(KINDS.len())];
    let mut all: Vec<Vec<u8>> = (0..=random.below(16)).map(|_| bad(kind, random)).collect();
    let objects = all.len() as u64;
    let place = random.below(all.len() + 1);
    let listed = |says: u8, bad: &[Vec<u8>]| {
        let mut objects = bad.to_vec();
        objects.insert(place.min(objects.len()), bytes(&good(kind, says)));
        objects
    };
    let told =
        || all.iter().map(|text| String::from_utf8_lossy(text).into_owned()).collect::<Vec<_>>().join("\n");
    // A pool or an advertisement that is wrong in its content holds back the whole configuration, as in MetalLB, until it is gone.
    let holds_back = matches!(kind, "IPAddressPool" | "L2Advertisement");

    let mut run = Run::start(&[(path, listed(1, &all))]);
    run.wait(kind, 1, &format!("a list of\n{}", told())).await;
    while kind == "Lease" && timeout(Duration::from_millis(10), run.leases.next()).await.is_ok() {}
    run.server.watched(path).await;
    for text in &all {
        run.server.tell_raw(path, event(["ADDED", "MODIFIED"][random.below(2)], text));
    }
    run.server.install_raw(path, listed(2, &all));
    run.server.tell_raw(path, event("MODIFIED", &bytes(&good(kind, 2))));
    if !holds_back {
        run.wait(kind, 2, &format!("a watch with\n{}", told())).await;
    }
    if kind == "Lease" {
        // It is read by nobody meanwhile.
        while timeout(Duration::from_secs(3), run.leases.next()).await.is_ok() {}
    } else {
        tokio::time::sleep(Duration::from_secs(40)).await;
    }
    run.server.watched(path).await;
    run.server.install_raw(path, listed(3, &all));
    run.server.expire(path);
    if !holds_back {
        run.wait(kind, 3, &format!("a list after 410 of\n{}", told())).await;
    }
    let what = told();
    all.clear();
    if kind == "Lease" {
        while timeout(Duration::from_secs(3), run.leases.next()).await.is_ok() {}
    } else {
        tokio::time::sleep(Duration::from_secs(40)).await;
    }
    run.server.watched(path).await;
    run.server.install_raw(path, listed(4, &all));
    run.server.expire(path);
    run.wait(kind, 4, &format!("a list without\n{what}")).await;
    if kind != "Lease" {
        let none = |now: &Option<Arc<Snapshot>>| now.as_ref().is_some_and(|now| now.unreadable.is_empty());
        timeout(IN_TIME, run.snapshots.wait_for(none))
            .await
            .expect("nothing unreadable is left")
            .expect("a watcher");
    }
    objects
}

#[test]
fn a_good_object_always_comes_through_beside_those_that_were_changed_at_random() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let (seconds, long) = (number(SECONDS).unwrap_or(4), number(SECONDS).is_some());
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a time after 1970");
    let first = number(SEED).unwrap_or(now.as_nanos() as u64);
    println!("fuzzing objects for {seconds} s from seed {first}: {SEED}={first} repeats it");
    let (begun, mut objects, mut rounds, mut said) = (StdInstant::now(), 0, 0_u64, StdInstant::now());
    while begun.elapsed().as_secs() < seconds {
        let seed = first.wrapping_add(rounds);
        let round = std::panic::catch_unwind(|| {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
            runtime.expect("a runtime").block_on(beside(&mut Random(seed)))
        });
        match round {
            Ok(count) => objects += count,
            Err(_) => panic!("seed {seed} failed, see above: {SEED}={seed} {SECONDS}=1 repeats it"),
        }
        rounds += 1;
        if long && said.elapsed().as_secs() >= 60 {
            println!("{objects} objects in {rounds} rounds, all good ones came through");
            said = StdInstant::now();
        }
    }
    println!("{objects} objects in {rounds} rounds, all good ones came through");
}
