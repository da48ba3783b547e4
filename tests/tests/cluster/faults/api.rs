//! The API server is away, refuses, fails, is slow, or says nothing: to one node, or to all.

use std::{
    cell::RefCell,
    net::IpAddr,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use announcer_tests::{Node, Signal, product, wait};
use anyhow::{Context as _, Result, ensure};

use super::{FENCE, JOINED, PATIENCE, SOON, is_replaced, says_what_it_lost};
use crate::{
    bare::{Lab, VIPS},
    watch::{DEADLINE, HANDOVER, LAPSE, LEASE, RENEWAL},
};

/// From the moment when the API server can be used again: a connection, the renewal, and an attempt that still hung.
const ANSWERED_AGAIN: Duration = Duration::from_secs(5);
const REFUSED: &str = "API server did not take a lease request";
const LOST: &str = "API server did not answer a lease request";

#[test]
fn a_node_cut_off_from_the_api_server_alone_is_replaced_under_fence() -> Result<()> {
    let lab = Lab::start_with(4, &[FENCE])?;
    let watch = lab.watch(&VIPS)?;
    let old = watch.owner(VIPS[0])?;
    old.cut_off_api()?;
    let fault = "a node is cut off from the API server";
    let lost = is_replaced(&lab, watch, old, fault, LAPSE, || old.reconnect_api())?;
    says_what_it_lost(&lab, old, &lost)
}

#[test]
fn a_node_that_is_heard_by_the_api_server_and_hears_nothing_is_replaced_under_fence() -> Result<()> {
    let lab = Lab::start_with(4, &[FENCE])?;
    let watch = lab.watch(&VIPS)?;
    let old = watch.owner(VIPS[0])?;
    old.deafen_to_api()?;
    // A renewal that arrives still counts for those who watch, but not for its sender, who does not know.
    let limit = LAPSE + RENEWAL;
    let fault = "half-open: a node's requests arrive, no answer does";
    let lost = is_replaced(&lab, watch, old, fault, limit, || old.reconnect_api())?;
    says_what_it_lost(&lab, old, &lost)
}

#[test]
fn a_node_cut_off_from_the_api_server_alone_holds_what_it_answers_for() -> Result<()> {
    held_by_one("held: a node is cut off from the API server", |node| node.cut_off_api())
}

#[test]
fn a_node_that_is_heard_by_the_api_server_and_hears_nothing_holds_what_it_answers_for() -> Result<()> {
    held_by_one("held: a node's requests arrive, no answer does", |node| node.deafen_to_api())
}

#[test]
fn under_fence_an_api_server_stopped_for_longer_than_a_lease_moves_nothing() -> Result<()> {
    let lab = Lab::start_with(4, &[FENCE])?;
    silent_and_back(&lab, "the API server is stopped", stop, start)
}

#[test]
fn under_fence_an_api_server_that_accepts_connections_and_says_nothing_moves_nothing() -> Result<()> {
    let lab = Lab::start_with(4, &[FENCE])?;
    silent_and_back(&lab, "half-open: the API server is frozen", freeze, thaw)
}

#[test]
fn under_hold_all_is_answered_while_the_api_server_is_stopped_for_longer_than_a_lease() -> Result<()> {
    held("held: the API server is stopped", stop, start)
}

#[test]
fn under_hold_all_is_answered_while_the_api_server_accepts_connections_and_says_nothing() -> Result<()> {
    held("held: the API server is frozen", freeze, thaw)
}

#[test]
fn under_hold_all_is_answered_while_etcd_is_stopped_for_longer_than_a_lease() -> Result<()> {
    held(
        "held: etcd is stopped, the API server is not",
        |lab| lab.cluster.stop_part("etcd"),
        |lab| lab.cluster.start_part("etcd"),
    )
}

#[test]
fn under_hold_all_is_answered_while_the_store_stalls_for_twelve_and_for_twentyfive_seconds() -> Result<()> {
    let lab = Lab::start(3)?;
    let watch = lab.watch(&VIPS)?;
    let owners = watch.owners()?;
    // As k3s' kine does on a slow disk: reads and writes hang, connections stand.
    for seconds in [12, 25] {
        lab.cluster.signal_part("etcd", Signal::STOP)?;
        watch.go_on_for(Duration::from_secs(seconds));
        lab.cluster.signal_part("etcd", Signal::CONT)?;
        lab.wait_renewed(PATIENCE)?;
        lab.wait_for_agents_within(PATIENCE)?;
    }
    watch.finish("etcd stalls for 12 s, and for 25 s")?.all_stayed(&owners);
    Ok(())
}

fn stop(lab: &Lab) -> Result<()> {
    lab.cluster.stop_part("kube-apiserver")
}

fn start(lab: &Lab) -> Result<()> {
    lab.cluster.start_part("kube-apiserver")
}

fn freeze(lab: &Lab) -> Result<()> {
    lab.cluster.signal_part("kube-apiserver", Signal::STOP)
}

fn thaw(lab: &Lab) -> Result<()> {
    lab.cluster.signal_part("kube-apiserver", Signal::CONT)
}

#[test]
fn while_the_api_server_answers_429_nothing_moves() -> Result<()> {
    let occupied = RefCell::new(None);
    refusal(
        "429 Too Many Requests",
        "429",
        |lab| {
            lab.cluster.apply_yaml(NO_CONCURRENCY)?;
            // Even a level without seats serves one request at a time: this one.
            *occupied.borrow_mut() = Some(Noise::start(lab, 1, 1)?);
            let metric = "apiserver_flowcontrol_current_executing_requests";
            wait::until("no seat left", SOON, || {
                Ok((flow_control(lab, metric, "nothing")? > 0.0).then_some(()))
            })
        },
        |lab| {
            lab.cluster.kubectl(&["delete", "flowschema/refuse-announcer"])?;
            lab.cluster.kubectl(&["delete", "prioritylevelconfiguration/nothing"])?;
            drop(occupied.take());
            Ok(())
        },
    )
}

#[test]
fn while_the_api_server_answers_500_nothing_moves() -> Result<()> {
    refusal(
        "500 Internal Server Error",
        "500",
        |lab| lab.cluster.apply_yaml(&webhook("Fail", 1)).map(drop),
        |lab| lab.remove_webhook(),
    )
}

#[test]
fn while_the_rights_are_revoked_nothing_moves() -> Result<()> {
    let rbac = product::deploy_dir().join("base/rbac.yaml");
    let rbac = rbac.to_str().context("the path of deploy")?;
    refusal(
        "403: the RoleBinding is deleted",
        "403",
        |lab| lab.cluster.kubectl(&["-n", product::NAMESPACE, "delete", "rolebinding/announcer"]).map(drop),
        |lab| lab.cluster.kubectl(&["-n", product::NAMESPACE, "apply", "-f", rbac]).map(drop),
    )
}

#[test]
fn while_the_right_to_read_is_revoked_the_last_view_stays_and_nothing_moves() -> Result<()> {
    let lab = Lab::start(4)?;
    let watch = lab.watch(&VIPS)?;
    let owners = watch.owners()?;
    lab.cluster.kubectl(&["delete", "clusterrolebinding/announcer"])?;
    // A watch that is open goes on: it is the next one that is refused.
    lab.wait_logs("missing right", 1, Duration::from_secs(45))?;
    let rbac = product::deploy_dir().join("base/rbac.yaml");
    lab.cluster.kubectl(&["-n", product::NAMESPACE, "apply", "-f", rbac.to_str().context("a path")?])?;
    lab.wait_for_agents_within(Duration::from_secs(60))?;
    watch.finish("403: the ClusterRoleBinding is deleted")?.all_stayed(&owners);
    Ok(())
}

#[test]
fn while_every_write_takes_two_seconds_no_answer_is_lost_and_a_cordon_still_hands_over() -> Result<()> {
    let lab = Lab::start(4)?;
    let watch = lab.watch(&VIPS)?;
    let owners = watch.owners()?;
    let old = owners[0].1;
    lab.slow_down(2)?;
    watch.go_on_for(LEASE + DEADLINE);
    let now = watch.owners()?;
    lab.cluster.kubectl(&["cordon", old.name()])?;
    let new = watch.moved(VIPS[0], old, PATIENCE)?;
    let story = watch.finish("every write takes two seconds; then a cordon")?;
    assert_eq!(names(&now), names(&owners));
    // Its owner releases it, its successor claims it; and once more, if the release meets a write of the heir's.
    story.moved(VIPS[0], &[old, new], Duration::from_secs(6) + HANDOVER);
    for (vip, owner) in owners.iter().filter(|(_, owner)| owner.name() != old.name()) {
        story.stayed(*vip, owner);
    }
    Ok(())
}

#[test]
fn while_every_write_takes_four_seconds_no_answer_is_lost() -> Result<()> {
    let lab = Lab::start(4)?;
    let watch = lab.watch(&VIPS)?;
    let owners = watch.owners()?;
    lab.slow_down(4)?;
    lab.wait_logs(LOST, 1, PATIENCE)?;
    watch.go_on_for(2 * LEASE);
    watch.finish("every write takes four seconds")?.all_stayed(&owners);
    Ok(())
}

#[test]
fn connections_that_have_died_without_a_word_are_replaced_and_no_answer_is_lost() -> Result<()> {
    let lab = Lab::start(4)?;
    let watch = lab.watch(&VIPS)?;
    let owners = watch.owners()?;
    for node in lab.cluster.nodes() {
        node.kill_api_connections()?;
    }
    lab.wait_logs(LOST, 1, PATIENCE)?;
    lab.wait_renewed(SOON)?;
    // What was watched through them is noticed, too.
    lab.wait_for_agents_within(Duration::from_secs(40))?;
    watch.finish("all connections to the API server are dead")?.all_stayed(&owners);
    Ok(())
}

#[test]
fn while_another_client_floods_the_api_server_renewals_pass_and_nothing_moves() -> Result<()> {
    let lab = Lab::start(4)?;
    let watch = lab.watch(&VIPS)?;
    let owners = watch.owners()?;
    let flood = Noise::start(&lab, 3, 200)?;
    let queue = || flow_control(&lab, "apiserver_flowcontrol_current_inqueue_requests", "workload-low");
    wait::until("requests that have to wait", PATIENCE, || Ok((queue()? > 20.0).then_some(())))?;
    watch.go_on_for(LEASE + Duration::from_secs(3));
    ensure!(queue()? > 20.0, "the flood did not last");
    drop(flood);
    watch.finish("another client floods the API server")?.all_stayed(&owners);
    for node in lab.cluster.nodes() {
        let log = lab.log(node)?;
        for words in [REFUSED, LOST] {
            assert!(!log.contains(words), "{}: {log}", node.name());
        }
    }
    Ok(())
}

/// The API server refuses the agents: first for less than a lease, which nobody notices, then for longer.
fn refusal(
    fault: &str,
    status: &str,
    begin: impl Fn(&Lab) -> Result<()>,
    end: impl Fn(&Lab) -> Result<()>,
) -> Result<()> {
    let lab = Lab::start(4)?;
    let watch = lab.watch(&VIPS)?;
    let owners = watch.owners()?;
    begin(&lab)?;
    lab.wait_logs(REFUSED, 1, SOON)?;
    let log = lab.log(owners[0].1)?;
    let said = format!("\"error\":\"{status} ");
    assert!(log.lines().any(|line| line.contains(REFUSED) && line.contains(&said)), "no {status} in {log}");
    end(&lab)?;
    lab.wait_renewed(SOON)?;
    watch.finish(&format!("{fault}, for less than a lease"))?.all_stayed(&owners);
    silent_and_back(&lab, fault, begin, end)
}

/// Nobody can renew, and nobody hears a word: every owner goes on, for twice as long as its lease.
fn held(
    fault: &str,
    begin: impl FnOnce(&Lab) -> Result<()>,
    end: impl FnOnce(&Lab) -> Result<()>,
) -> Result<()> {
    let lab = Lab::start(4)?;
    let watch = lab.watch(&VIPS)?;
    let owners = watch.owners()?;
    begin(&lab)?;
    watch.go_on_for(2 * LEASE);
    end(&lab)?;
    lab.wait_renewed(PATIENCE)?;
    // What the others make of a list without renewals would show by now.
    watch.go_on_for(Duration::from_secs(3));
    watch.finish(fault)?.all_stayed(&owners);
    Ok(())
}

/// One owner hears nothing of the API server, and is fenced; as it is heard on the wire, nobody takes what it has. When it
/// hears again, it gives up at once, and somebody takes it.
fn held_by_one(fault: &str, cut: impl FnOnce(&Node) -> Result<()>) -> Result<()> {
    let lab = Lab::start(4)?;
    let watch = lab.watch(&VIPS)?;
    let owners = watch.owners()?;
    let old = owners[0].1;
    cut(old)?;
    let fenced = || {
        let path = format!("/apis/coordination.k8s.io/v1/namespaces/metallb/leases/session-{}", old.name());
        let session = lab.cluster.api("GET", &path, None)?;
        Ok((session["spec"]["holderIdentity"] == "").then_some(()))
    };
    wait::until("the fence", PATIENCE, fenced)?;
    watch.go_on_for(LEASE);
    let still = watch.owners()?;
    old.reconnect_api()?;
    lab.wait_log(old, JOINED, 2, PATIENCE)?;
    lab.wait_for_agents()?;
    VIPS.iter().try_for_each(|vip| watch.answered(*vip, PATIENCE))?;
    let story = watch.finish(fault)?;
    assert_eq!(names(&still), names(&owners));
    for (vip, owner) in owners {
        if owner.name() == old.name() {
            story.one_at_a_time(vip);
            assert!(story.silence(vip) <= LAPSE, "{vip} was silent for {:?}", story.silence(vip));
        } else {
            story.stayed(vip, owner);
        }
    }
    Ok(())
}

/// Nobody can renew: every kernel answers until its deadline, is silent, and answers again once the API server does.
fn silent_and_back(
    lab: &Lab,
    fault: &str,
    begin: impl Fn(&Lab) -> Result<()>,
    end: impl Fn(&Lab) -> Result<()>,
) -> Result<()> {
    let watch = lab.watch(&VIPS)?;
    let owners = watch.owners()?;
    begin(lab)?;
    let begun = watch.now();
    // Longer than a lease, whoever began to count when.
    VIPS.iter()
        .try_for_each(|vip| watch.silent(*vip, LEASE - DEADLINE + Duration::from_secs(1), PATIENCE))?;
    end(lab)?;
    let ended = watch.now();
    VIPS.iter().try_for_each(|vip| watch.answered(*vip, PATIENCE))?;
    let story = watch.finish(fault)?;
    for (vip, owner) in owners {
        story.had(vip, &[owner.mac()]);
        let (last, again) = story.gap(vip).with_context(|| format!("{vip} was never silent"))?;
        println!(
            "{vip}: answered for {:.1?}, and {:.1?} after the end",
            last - begun,
            again.saturating_sub(ended)
        );
        // The last renewal may have been just before the fault, or up to R before it.
        assert!(last <= begun + DEADLINE, "{vip} was answered after its lease");
        assert!(last >= begun + DEADLINE - Duration::from_secs(7), "{vip} was silent too early");
        assert!(again <= ended + ANSWERED_AGAIN, "{vip} was silent for too long");
    }
    Ok(())
}

fn names<'n>(owners: &[(IpAddr, &'n Node)]) -> Vec<&'n str> {
    owners.iter().map(|(_, node)| node.name()).collect()
}

/// API Priority and Fairness gives the agents no seat at all.
const NO_CONCURRENCY: &str = "
apiVersion: flowcontrol.apiserver.k8s.io/v1
kind: PriorityLevelConfiguration
metadata: {name: nothing}
spec:
  type: Limited
  limited: {nominalConcurrencyShares: 0, lendablePercent: 0, borrowingLimitPercent: 0, limitResponse: {type: Reject}}
---
apiVersion: flowcontrol.apiserver.k8s.io/v1
kind: FlowSchema
metadata: {name: refuse-announcer}
spec:
  priorityLevelConfiguration: {name: nothing}
  matchingPrecedence: 10
  rules:
  - subjects:
    - {kind: ServiceAccount, serviceAccount: {name: announcer, namespace: metallb}}
    - {kind: ServiceAccount, serviceAccount: {name: noise, namespace: default}}
    resourceRules: [{apiGroups: ['*'], resources: ['*'], verbs: ['*'], namespaces: ['*'], clusterScope: true}]
";

/// Asks a host that refuses connections, or says nothing, before any Lease of ours is written.
fn webhook(failure_policy: &str, seconds: u32) -> String {
    format!(
        "
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {{name: lab}}
webhooks:
- name: leases.lab.example
  clientConfig: {{url: 'https://127.0.0.1:9/'}}
  rules: [{{apiGroups: [coordination.k8s.io], apiVersions: ['*'], operations: ['*'], resources: [leases]}}]
  namespaceSelector: {{matchLabels: {{kubernetes.io/metadata.name: metallb}}}}
  failurePolicy: {failure_policy}
  timeoutSeconds: {seconds}
  sideEffects: None
  admissionReviewVersions: [v1]
"
    )
}

impl Lab {
    fn remove_webhook(&self) -> Result<()> {
        self.cluster.kubectl(&["delete", "validatingwebhookconfiguration/lab"]).map(drop)
    }

    /// The webhook's address no longer refuses connections, but says nothing.
    fn deafen_webhook(&self) -> Result<()> {
        let script = "nft delete table inet lab-deaf 2>/dev/null || true
            nft add table inet lab-deaf
            nft 'add chain inet lab-deaf out { type filter hook output priority filter; }'
            nft add rule inet lab-deaf out tcp dport 9 drop";
        self.cluster.control_plane().shell(script).map(drop)
    }

    /// From now on every write of a Lease of ours takes so many seconds.
    fn slow_down(&self, seconds: u32) -> Result<()> {
        self.deafen_webhook()?;
        self.cluster.apply_yaml(&webhook("Ignore", seconds))?;
        let lease = serde_json::json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "trial"},
        });
        wait::until("a slow write", SOON, || {
            let begun = Instant::now();
            let path = "/apis/coordination.k8s.io/v1/namespaces/metallb/leases?dryRun=All";
            self.cluster.api("POST", path, Some(&lease))?;
            Ok((begun.elapsed() > Duration::from_secs(1)).then_some(()))
        })
    }

    /// Waits until every session has been renewed from now on.
    pub(super) fn wait_renewed(&self, limit: Duration) -> Result<()> {
        let versions = || -> Result<Vec<String>> {
            let list =
                self.cluster.api("GET", "/apis/coordination.k8s.io/v1/namespaces/metallb/leases", None)?;
            let sessions = list["items"].as_array().into_iter().flatten().filter(|lease| {
                lease["metadata"]["name"].as_str().is_some_and(|name| name.starts_with("session-"))
            });
            Ok(sessions.map(|lease| lease["metadata"]["resourceVersion"].to_string()).collect())
        };
        let before = wait::until("an answer of the API server", limit, || versions().map(Some))?;
        wait::until("a renewal of every session", limit, || {
            Ok(versions()?.iter().zip(&before).all(|(now, before)| now != before).then_some(()))
        })
    }
}

/// Another client, whose requests each keep a seat of the API server for half a minute.
struct Noise(Vec<Child>);

impl Noise {
    /// So many programs with so many requests at a time.
    fn start(lab: &Lab, programs: usize, requests: usize) -> Result<Self> {
        let grant = [
            "create",
            "clusterrolebinding",
            "noise",
            "--clusterrole=cluster-admin",
            "--serviceaccount=default:noise",
        ];
        // It may have been made by an earlier one.
        lab.cluster.kubectl_output(&grant)?;
        // Before they are done, somebody is asked who never answers.
        lab.cluster.apply_yaml(
            &webhook("Ignore", 30)
                .replace("[coordination.k8s.io]", "['']")
                .replace("[leases]", "[configmaps]")
                .replace("kubernetes.io/metadata.name: metallb", "kubernetes.io/metadata.name: default"),
        )?;
        lab.deafen_webhook()?;
        let machine = lab.cluster.control_plane();
        let one = || -> Result<Child> {
            let mut command: Command = machine.command("curl");
            command.args([
                "-skZ",
                "--http1.1",
                "--parallel-max",
                &requests.to_string(),
                "--parallel-immediate",
            ]);
            command.args(["-H", "Authorization: Bearer lab-admin", "-H", "Content-Type: application/json"]);
            command.args(["-H", "Impersonate-User: system:serviceaccount:default:noise"]);
            command.args(["-d", r#"{"metadata":{"generateName":"noise-"}}"#]);
            command.arg("https://10.4.0.2:6443/api/v1/namespaces/default/configmaps?n=[1-100000]");
            command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().context("start curl")
        };
        Ok(Self((0..programs).map(|_| one()).collect::<Result<_>>()?))
    }
}

impl Drop for Noise {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A gauge of API Priority and Fairness for one of its levels.
fn flow_control(lab: &Lab, name: &str, level: &str) -> Result<f64> {
    let metrics = lab.cluster.kubectl(&["get", "--raw", "/metrics"])?;
    let level = format!("priority_level=\"{level}\"");
    let of_level = |line: &&str| line.starts_with(name) && line.contains(&level);
    let value = |line: &str| line.rsplit(' ').next()?.parse::<f64>().ok();
    Ok(metrics.lines().filter(of_level).filter_map(value).sum())
}
