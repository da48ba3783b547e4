//! `deploy/overlays/standalone` as it is published, on virtual links like kind's: `auto` takes TCX. And the way out, which takes
//! away what we brought and nothing else.

use std::time::Duration;

use announcer_tests::{
    Cluster, Mode, Node,
    product::{self, ADVERTISEMENT_YAML, DAEMON_SET, FIRST_VIP, NAMESPACE, PINS, POOL_YAML},
    wait, web,
};
use anyhow::{Result, ensure};

use super::assert_one_owner_at_a_time;

/// Stands for MetalLB's controller.
const CONTROLLER_YAML: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: controller, namespace: metallb}
spec:
  selector: {matchLabels: {component: controller}}
  template:
    metadata: {labels: {component: controller}}
    spec: {containers: [{name: controller, image: 'localhost/web:lab', imagePullPolicy: Never}]}
";

/// Stands for MetalLB's speaker, with the node selector of its manifests.
const SPEAKER_YAML: &str = "
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: speaker, namespace: metallb}
spec:
  selector: {matchLabels: {app: metallb}}
  template:
    metadata: {labels: {app: metallb}}
    spec:
      nodeSelector: {kubernetes.io/os: linux}
      containers: [{name: speaker, image: 'localhost/web:lab', imagePullPolicy: Never}]
";

#[test]
fn the_untouched_base_answers_by_tcx_on_virtual_links_and_goes_as_it_came() -> Result<()> {
    let cluster = Cluster::builder().nodes(2).mode(Mode::Tcx).image(product::image()?).start()?;
    // What the base names is what was built: another name for the same image.
    for node in cluster.nodes() {
        node.exec(&[
            "ctr",
            "--address",
            "/run/containerd/containerd.sock",
            "-n",
            "k8s.io",
            "images",
            "tag",
            "localhost/announcer:lab",
            &product::base_image()?,
        ])?;
    }
    without_its_namespace_the_base_says_what_is_missing(&cluster)?;
    cluster.install_announcer("overlays/standalone")?;
    cluster.apply_yaml(POOL_YAML)?;
    cluster.apply_yaml(ADVERTISEMENT_YAML)?;
    cluster.apply_yaml(&web::manifest("httpbin", 2))?;
    let _allocator = cluster.allocator()?;
    let owner = cluster.wait_owner(FIRST_VIP, None, Duration::from_secs(30))?;
    let judge = cluster.judge(&[FIRST_VIP])?;
    cluster.wait_curl(cluster.client(), FIRST_VIP, Duration::from_secs(30))?;
    let node = cluster.node(&owner)?;
    assert_one_owner_at_a_time(&judge.finish()?, FIRST_VIP, &[node.mac()]);
    let logs = cluster.speaker_logs(&["--tail=-1"])?;
    assert!(logs.contains("eth0 (tcx"), "{logs}");
    the_speaker_is_stopped_and_comes_back(&cluster)?;
    it_is_taken_away_and_what_others_brought_stays(&cluster)
}

fn without_its_namespace_the_base_says_what_is_missing(cluster: &Cluster) -> Result<()> {
    let Err(error) = cluster.apply_kustomize(&product::deploy_dir().join("base")) else {
        anyhow::bail!("the base was applied into a namespace that is not there");
    };
    assert!(format!("{error:#}").contains(&format!("namespaces \"{NAMESPACE}\" not found")), "{error:#}");
    Ok(())
}

/// Whether a link of ours is pinned there: Debian's bpftool does not list TCX.
fn has_program(node: &Node) -> Result<bool> {
    let said = node.exec(&["sh", "-c", &format!("ls -A {PINS} | grep -c ^link- || true")])?;
    Ok(said.trim() != "0")
}

/// As the migration guide says it.
fn the_speaker_is_stopped_and_comes_back(cluster: &Cluster) -> Result<()> {
    let desired = |expected: &str| {
        let field = "jsonpath={.status.desiredNumberScheduled}";
        wait::until(&format!("{expected} speakers"), Duration::from_secs(20), || {
            let said = cluster.kubectl(&["-n", NAMESPACE, "get", "daemonset/speaker", "-o", field])?;
            Ok((said == expected).then_some(()))
        })
    };
    let patch = |how: &[&str], what: &str| {
        cluster.kubectl(&[&["-n", NAMESPACE, "patch", "daemonset", "speaker", "-p", what][..], how].concat())
    };
    cluster.apply_yaml(SPEAKER_YAML)?;
    desired("2")?;
    patch(&[], r#"{"spec":{"template":{"spec":{"nodeSelector":{"none":"none"}}}}}"#)?;
    desired("0")?;
    patch(&["--type=json"], r#"[{"op":"remove","path":"/spec/template/spec/nodeSelector/none"}]"#)?;
    desired("2")?;
    cluster.kubectl(&["-n", NAMESPACE, "delete", "daemonset", "speaker"]).map(drop)
}

/// As the README says it.
fn it_is_taken_away_and_what_others_brought_stays(cluster: &Cluster) -> Result<()> {
    cluster.apply_yaml(CONTROLLER_YAML)?;
    for node in cluster.nodes() {
        assert!(has_program(node)?, "{}", node.name());
    }
    cluster.apply_kustomize(&product::deploy_dir().join("overlays/uninstall"))?;
    cluster.wait_rollout(NAMESPACE, DAEMON_SET, Duration::from_secs(60))?;
    let printed = cluster.speaker_logs(&[])?;
    ensure!(printed.matches("removed the program from 1 links").count() == 2, "{printed}");
    for node in cluster.nodes() {
        assert!(!has_program(node)?, "{}", node.name());
        // The kubelet made the folder.
        node.exec(&["sh", "-c", &format!("test -z \"$(ls -A {PINS})\"")])?;
    }
    cluster.delete_kustomize(&product::deploy_dir().join("base"))?;
    let deleted = cluster.kubectl(&["-n", NAMESPACE, "delete", "leases", "-l", "announcer.io/kind"])?;
    assert!(deleted.contains("session-"), "{deleted}");
    let left = cluster.kubectl(&[
        "-n",
        NAMESPACE,
        "get",
        "-o",
        "name",
        "deployments,daemonsets,ipaddresspools,l2advertisements,leases,serviceaccounts,roles",
    ])?;
    let left: Vec<&str> = left.lines().collect();
    assert_eq!(
        left,
        [
            "deployment.apps/controller",
            "ipaddresspool.metallb.io/primary",
            "l2advertisement.metallb.io/primary",
            "serviceaccount/default",
        ]
    );
    Ok(())
}
