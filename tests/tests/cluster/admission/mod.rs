//! Who may write what of our Leases (`deploy/base/lease-policy.yaml`), by real tokens of Pods on two nodes, on a real API server:
//! every write that the election makes passes, and a node that has been taken over forges nothing.

mod leases;

use std::collections::BTreeSet;

use announcer_tests::{Cluster, Mode, product};
use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use leases::{Change, claim, own, peers, session, without};

const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/metallb/leases";
/// One of each kind of write that simulated clusters make; `announcer/src/election/simulation/kinds.rs` says how it is made.
const WRITES: &str = include_str!("writes.jsonl");

#[test]
fn the_policy_admits_every_write_of_the_election_and_refuses_every_forgery() -> Result<()> {
    let cluster = Cluster::builder().nodes(2).mode(Mode::Tcx).api_only().start()?;
    cluster.make_metallb_namespace()?;
    cluster.apply_kustomize(&product::deploy_dir().join("base"))?;
    let judge = Judge { cluster: &cluster, token: cluster.agent_token("bettley")? };
    judge.wait_for_the_policy()?;
    what_a_node_may_write(&judge)?;
    what_a_node_may_not_write(&judge)?;
    what_no_node_may_write(&judge)?;
    of_a_long_node_name_the_holder_tells_whose_session_it_is(&cluster)?;
    whatever_simulated_clusters_write_is_admitted(&cluster)
}

/// Puts what is there before, as an administrator whom no policy holds back, and lets an agent write.
struct Judge<'a> {
    cluster: &'a Cluster,
    token: String,
}

impl Judge<'_> {
    /// The API server learns of a policy some time after it has taken it.
    fn wait_for_the_policy(&self) -> Result<()> {
        let forged = Change { old: None, new: Some(session("session-zz", "zz/boot/machine", 1, &[])) };
        announcer_tests::wait::until("the policy", std::time::Duration::from_secs(20), || {
            Ok(self.write(&forged)?.is_err().then_some(()))
        })
    }

    /// The API server's word; `Err`: the policy's.
    fn write(&self, change: &Change) -> Result<Result<(), String>> {
        let lease = change.old.as_ref().or(change.new.as_ref()).context("something to write")?;
        let name = lease["metadata"]["name"].as_str().context("a name")?;
        let path = format!("{LEASES}/{name}");
        let _ = self.cluster.api("DELETE", &path, None);
        let before =
            change.old.as_ref().map(|old| self.cluster.api("POST", LEASES, Some(old))).transpose()?;
        let (status, answer) = match (&before, &change.new) {
            (_, None) => self.cluster.api_as(&self.token, "DELETE", &path, None)?,
            (None, Some(new)) => self.cluster.api_as(&self.token, "POST", LEASES, Some(new))?,
            (Some(before), Some(new)) => {
                let mut new = new.clone();
                for field in ["uid", "resourceVersion"] {
                    new["metadata"][field] = before["metadata"][field].clone();
                }
                self.cluster.api_as(&self.token, "PUT", &path, Some(&new))?
            }
        };
        if (200..300).contains(&status) {
            return Ok(Ok(()));
        }
        let said = answer["message"].as_str().unwrap_or_default().to_owned();
        ensure!(status == 403 && said.contains("announcer-leases"), "{status} {answer}: {change:?}");
        Ok(Err(said))
    }

    fn admits(&self, what: &str, old: Option<Value>, new: Option<Value>) -> Result<()> {
        let change = Change { old, new };
        self.write(&change)?.map_err(|said| anyhow::anyhow!("{what} is refused: {said}\n{change:?}"))
    }

    fn refuses(&self, what: &str, words: &str, old: Option<Value>, new: Option<Value>) -> Result<()> {
        let change = Change { old, new };
        match self.write(&change)? {
            Ok(()) => anyhow::bail!("{what} is admitted: {change:?}"),
            Err(said) => {
                ensure!(said.contains(words), "{what}: no `{words}` in {said}");
                Ok(())
            }
        }
    }
}

/// What the recorded writes do not have: what stands there was spoilt by hand.
fn what_a_node_may_write(judge: &Judge<'_>) -> Result<()> {
    let admits = |what: &str, old: Value, new: Value| judge.admits(what, Some(old), Some(new));
    let peer = |duration: i64, epoch: i64, notes: &[(&str, &str)]| {
        let mut peer = peers("cargyll/boot/machine", epoch, notes);
        peer["spec"]["leaseDurationSeconds"] = json!(duration);
        peer
    };
    admits("a lease above the longest", peer(600, 7, &[]), {
        let mut fenced = peers("", 8, &[]);
        fenced["spec"]["leaseDurationSeconds"] = json!(60);
        fenced
    })?;
    admits(
        "links out of order",
        peer(15, 7, &[("links", "eth1,eth0,eth0")]),
        peers("", 8, &[("links", "eth0,eth1")]),
    )?;
    admits(
        "a spoilt number",
        peer(15, 7, &[("early", "bad"), ("left", "007")]),
        peers("", 8, &[("left", "7")]),
    )?;
    let hints = [("links-left-out", "x,eth1=eth0"), ("unsteady", "FD00::1")];
    admits("spoilt hints", peer(15, 7, &hints), peers("", 8, &[("unsteady", "fd00::1")]))?;
    admits("the greatest epoch", peer(15, i64::from(i32::MAX), &[]), peers("", i64::from(i32::MAX), &[]))?;
    admits("a session emptied by hand", peers("", 7, &[]), peers("", 8, &[]))?;
    let mut bare = claim("cargyll", &[]);
    bare["spec"] = json!({"holderIdentity": "cargyll"});
    bare["metadata"]["annotations"] = json!({});
    admits("a claim that was written by hand", bare, claim("bettley", &[]))?;
    let owned = Some(claim("bettley", &[]));
    let mut v6 = claim("bettley", &[]);
    v6["metadata"]["name"] = json!("vip-fd00-0004-000b-0000-0000-0000-0000-0001");
    judge.admits("a claim of an IPv6 address", None, Some(v6))?;
    judge.admits("the deletion of what is its own", owned, None)
}

fn what_a_node_may_not_write(judge: &Judge<'_>) -> Result<()> {
    const FENCE: &str = "of the session of another node bettley may write the fence and nothing else";
    const ABSENT: &str = "in the place of a session that is absent bettley may create a fenced one";
    const OWN: &str =
        "the session of bettley names that node or nobody, for 1 to 60 s, and its epoch only grows";
    const CLAIM: &str = "of a claim bettley may write its own name in or out";
    let live = |epoch, notes: &[(&str, &str)]| Some(peers("cargyll/boot/machine", epoch, notes));
    let fenced = |epoch, notes: &[(&str, &str)]| Some(peers("", epoch, notes));
    let refuses = |what: &str, old, new| judge.refuses(what, FENCE, old, new);
    refuses("another's epoch, raised with its holder in it", live(1, &[]), live(9, &[]))?;
    refuses("another's life after it was fenced", fenced(3, &[]), live(4, &[]))?;
    refuses("another's renewal", live(1, &[]), live(1, &[("renewal", "another")]))?;
    refuses("another that has left", live(1, &[]), fenced(2, &[("left", "1")]))?;
    refuses("a fence that forgets an early one", live(7, &[("early", "5")]), fenced(8, &[]))?;
    refuses("a fence that forgets who has left", live(7, &[("left", "5")]), fenced(8, &[]))?;
    refuses("a fence with other links", live(1, &[]), fenced(2, &[("links", "eth0,eth9")]))?;
    refuses("a fence that suspects", live(1, &[]), fenced(2, &[("suspects", "u/1/eth0/1")]))?;
    refuses("a fence with another choice", live(1, &[]), fenced(2, &[("fencing", "strict")]))?;
    let strict = [("fencing", "strict"), ("early", "1")];
    refuses("an early fence of who is strict", live(1, &strict[..1]), fenced(2, &strict))?;
    refuses("an early fence of another epoch", live(5, &[]), fenced(6, &[("early", "3")]))?;
    refuses("another's holder out, in the same epoch", live(2, &[]), fenced(2, &[]))?;
    refuses("a fence and more", live(1, &[]), fenced(2, &[("more", "x")]))?;
    let mut shorter = peers("", 2, &[]);
    shorter["spec"]["leaseDurationSeconds"] = json!(1);
    refuses("a fence that shortens the lease", live(1, &[]), Some(shorter))?;
    judge.refuses("another's live session, deleted", "goes only when it is fenced", live(1, &[]), None)?;

    let refuses = |what: &str, new| judge.refuses(what, ABSENT, None, Some(new));
    refuses("a node that is none", session("session-zz", "zz/boot/machine", 1, &[("links", "eth0")]))?;
    refuses("a second session", session("session-zz", "bettley/boot/machine", 1, &[]))?;
    let mut empty = session("session-zz", "", 1, &[("links", "eth0")]);
    empty["spec"]["leaseDurationSeconds"] = json!(60);
    refuses("a fenced one with links", empty)?;

    let refuses = |what: &str, old, new| judge.refuses(what, OWN, Some(old), Some(new));
    refuses("its own session for another", own(1, &[]), session("session-bettley", "cargyll/b/m", 1, &[]))?;
    refuses("a lower epoch of its own", own(5, &[]), own(4, &[]))?;
    let mut longer = own(1, &[]);
    longer["spec"]["leaseDurationSeconds"] = json!(61);
    refuses("a longer lease", own(1, &[]), longer)?;

    let creates =
        |what: &str, new| judge.refuses(what, "a claim that bettley creates names bettley", None, Some(new));
    creates("a claim for another", claim("cargyll", &[]))?;
    creates("a claim with an heir", claim("bettley", &[("heir", "dalt/u/1")]))?;
    let refuses = |what: &str, old, new| judge.refuses(what, CLAIM, Some(old), Some(new));
    let heir = ("heir", "dalt/u/1");
    refuses("another's name in", claim("bettley", &[]), claim("cargyll", &[]))?;
    refuses("another's name out", claim("cargyll", &[]), claim("", &[]))?;
    refuses("another's binding", claim("cargyll", &[]), claim("cargyll", &[("session-epoch", "0")]))?;
    refuses(
        "itself as preferred",
        claim("cargyll", &[("preferred", "dalt")]),
        claim("cargyll", &[("preferred", "bettley")]),
    )?;
    refuses(
        "an heir that nobody prefers",
        claim("cargyll", &[]),
        claim("cargyll", &[("heir", "bettley/u/1")]),
    )?;
    refuses(
        "an heir that does not accept itself",
        claim("cargyll", &[("preferred", "dalt")]),
        claim("cargyll", &[("preferred", "dalt"), heir]),
    )?;
    refuses(
        "an heir of its own choice",
        claim("cargyll", &[heir]),
        claim("bettley", &[("heir", "erenford/u/1")]),
    )?;
    refuses("another's heir out", claim("cargyll", &[heir]), claim("cargyll", &[]))?;
    refuses("a release under another epoch", claim("bettley", &[]), claim("", &[("session-epoch", "7")]))?;
    let mut far = claim("bettley", &[]);
    far["spec"]["leaseTransitions"] = json!(7);
    refuses("a claim that has moved often", claim("cargyll", &[]), far)?;
    let deletes = |what: &str, old| judge.refuses(what, "names another node than bettley", Some(old), None);
    deletes("another's claim, deleted", claim("cargyll", &[]))?;
    deletes("a claim that another inherits, deleted", claim("", &[heir]))?;
    let unbound = without(claim("bettley", &[]), "session-epoch");
    judge.refuses("a claim without an epoch", "bound to an epoch", Some(claim("cargyll", &[])), Some(unbound))
}

fn what_no_node_may_write(judge: &Judge<'_>) -> Result<()> {
    let names =
        ["kube-controller-manager", "vip-x", "vip-10.4.011.1", "vip-0000-0000-0000-0000-0000-ffff-0a04-0b01"];
    for name in names {
        let mut other = claim("bettley", &[]);
        other["metadata"]["name"] = json!(name);
        judge.refuses(name, "no agent writes the Lease", None, Some(other))?;
    }
    let fenced = |protocol| Some(peers("", 2, &[("protocol", protocol)]));
    let two = Some(peers("cargyll/boot/machine", 1, &[("protocol", "2")]));
    judge.refuses("a Lease of another protocol", "read, never written", two, fenced("1"))?;
    let two = Some(own(1, &[("protocol", "2")]));
    judge.refuses("another protocol", "in the form of docs/protocol.md", Some(own(1, &[])), two)?;
    let mut final_one = own(1, &[]);
    final_one["metadata"]["finalizers"] = json!(["example.org/held"]);
    judge.refuses("a finalizer", "in the form of docs/protocol.md", Some(own(1, &[])), Some(final_one))?;
    let nobody = Judge { cluster: judge.cluster, token: judge.cluster.unbound_token()? };
    nobody.refuses("a token of no Pod", "the token names no node", None, Some(own(1, &[])))
}

/// Such a name is cut, and ends in a hash that the policy cannot compute.
fn of_a_long_node_name_the_holder_tells_whose_session_it_is(cluster: &Cluster) -> Result<()> {
    let label = "a".repeat(60);
    let node = [label.as_str(), &label, &label, &"b".repeat(63)].join(".");
    ensure!(node.len() == 246, "{}", node.len());
    // As `election::lease::session_name` makes it.
    let name = format!("session-{}-0123456789abcdef", &node[..228]);
    make_node(cluster, &node)?;
    let judge = Judge { cluster, token: cluster.agent_token_of("announcer-long", &node)? };
    let live = |holder: &str, epoch| Some(session(&name, &format!("{holder}/boot/machine"), epoch, &[]));
    judge.admits("the session of a long name", None, live(&node, 1))?;
    judge.admits("its renewal", live(&node, 1), live(&node, 1))?;
    let other = format!("{}{}", &node[..240], "c".repeat(6));
    judge.refuses(
        "one of a name that begins alike",
        "the fence and nothing else",
        live(&other, 1),
        live(&node, 2),
    )?;
    let unlike = Some(session("session-zz-0123456789abcdef", &format!("{node}/boot/machine"), 1, &[]));
    judge.refuses("one of another name", "in the place of a session that is absent", None, unlike)
}

fn whatever_simulated_clusters_write_is_admitted(cluster: &Cluster) -> Result<()> {
    let writes: Vec<Value> = WRITES.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    ensure!(writes.len() > 50, "there are {} kinds of writes", writes.len());
    let nodes: BTreeSet<&str> = writes.iter().filter_map(|write| write["node"].as_str()).collect();
    let mut judges = std::collections::BTreeMap::new();
    for node in nodes {
        make_node(cluster, node)?;
        judges.insert(node, Judge { cluster, token: cluster.agent_token(node)? });
    }
    for write in &writes {
        let judge = &judges[write["node"].as_str().context("a node")?];
        let lease = |field: &str| Some(write[field].clone()).filter(|lease| !lease.is_null());
        judge.admits(write["kind"].as_str().unwrap_or_default(), lease("old"), lease("new"))?;
    }
    println!("{} kinds of writes are admitted", writes.len());
    Ok(())
}

fn make_node(cluster: &Cluster, name: &str) -> Result<()> {
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}});
    cluster.api("POST", "/api/v1/nodes", Some(&node)).map(drop)
}
