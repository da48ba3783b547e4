//! The machine that holds etcd, the API server and, in a whole cluster, controllers and scheduler.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result};
use rustix::process::Signal;

use crate::{
    accounts,
    addresses::{API_SERVER, POD_CIDRS, SERVICE_CIDRS},
    logs,
    machine::Machine,
    parts::Parts,
    process::Process,
    wait,
};

/// The administrator's token. The API server can be reached from inside the lab only.
pub const ADMIN_TOKEN: &str = "lab-admin";
/// All that the cluster remembers, on the control plane's machine.
pub(crate) const ETCD_DATA: &str = "/var/lib/etcd";

/// The parts of the control plane.
#[derive(Debug)]
pub(crate) struct ControlPlane {
    machine: Arc<Machine>,
    parts: Mutex<Vec<Part>>,
}

/// One part, which can be started again as it was.
#[derive(Debug)]
struct Part {
    name: String,
    argv: Vec<String>,
    log: PathBuf,
    /// `None` while it is stopped.
    process: Option<Process>,
}

impl ControlPlane {
    /// Starts etcd and the API server; returns before they are ready.
    pub(crate) fn start(
        machine: Arc<Machine>,
        parts: &Parts,
        lab_dir: &Path,
        nodes: &[String],
        audited: bool,
    ) -> Result<Self> {
        let pki = lab_dir.join("pki");
        fs::create_dir_all(&pki)?;
        let path = |name: &str| pki.join(name).display().to_string();
        let kubernetes = parts.kubernetes.to_str().context("the path of the lab's programs is not UTF-8")?;
        machine.run(&[kubernetes, "signing-key", &path("service-accounts.key")])?;
        fs::write(pki.join("tokens.csv"), tokens(nodes))?;

        let audit = if audited { audit_flags(lab_dir)? } else { vec![] };

        let plane = Self::attach(machine);
        plane.part(lab_dir, kubernetes, "etcd", &[&format!("--data-dir={ETCD_DATA}")])?;
        let audit: Vec<&str> = audit.iter().map(String::as_str).collect();
        let flags = &[
            "--etcd-servers=http://127.0.0.1:2379",
            "--advertise-address=10.4.0.2",
            "--bind-address=0.0.0.0",
            "--secure-port=6443",
            &format!("--cert-dir={}", pki.display()),
            &format!("--token-auth-file={}", path("tokens.csv")),
            &format!("--service-account-key-file={}", path("service-accounts.key")),
            &format!("--service-account-signing-key-file={}", path("service-accounts.key")),
            "--service-account-issuer=https://kubernetes.default.svc",
            &format!("--service-cluster-ip-range={SERVICE_CIDRS}"),
            "--authorization-mode=Node,RBAC",
            "--allow-privileged=true",
            "--kubelet-preferred-address-types=InternalIP",
            "--endpoint-reconciler-type=master-count",
        ];
        plane.part(lab_dir, kubernetes, "kube-apiserver", &[&flags[..], &audit].concat())?;
        Ok(plane)
    }

    pub(crate) fn attach(machine: Arc<Machine>) -> Self {
        Self { machine, parts: Mutex::default() }
    }

    /// Waits until the API server says that it is ready.
    pub(crate) fn wait_api(&self, lab_dir: &Path) -> Result<()> {
        let url = format!("{API_SERVER}/readyz");
        let bearer = format!("Authorization: Bearer {ADMIN_TOKEN}");
        wait::until("the API server", Duration::from_secs(60), || {
            for part in self.parts().iter().filter_map(|part| part.process.as_ref()) {
                if !part.is_running() {
                    return Ok(Some(Err(anyhow::anyhow!("{} has ended; {}", part.name(), part.log_tail()))));
                }
            }
            let said = self.machine.output(&["curl", "-sk", "--max-time", "2", "-H", &bearer, &url])?;
            Ok((said.stdout == b"ok").then_some(Ok(())))
        })
        .with_context(|| logs::tail(&lab_dir.join("logs/control-plane-kube-apiserver.log")))?
    }

    /// Waits for the API server, and writes the kubeconfigs.
    pub(crate) fn wait_ready(&self, lab_dir: &Path, nodes: &[String]) -> Result<()> {
        self.wait_api(lab_dir)?;
        fs::write(lab_dir.join("kubeconfig"), kubeconfig(lab_dir, ADMIN_TOKEN, None))?;
        for node in nodes {
            let name = format!("kubeconfig-{node}");
            fs::write(lab_dir.join(name), kubeconfig(lab_dir, &format!("node-{node}"), None))?;
        }
        fs::write(lab_dir.join("kubeconfig-proxy"), kubeconfig(lab_dir, "proxy", None))?;
        Ok(())
    }

    /// Starts the controllers and the scheduler.
    pub(crate) fn start_controllers(&self, parts: &Parts, lab_dir: &Path) -> Result<()> {
        let kubernetes = parts.kubernetes.to_str().context("the path of the lab's programs is not UTF-8")?;
        let kubeconfig = format!("--kubeconfig={}", lab_dir.join("kubeconfig").display());
        let pki = lab_dir.join("pki");
        self.part(
            lab_dir,
            kubernetes,
            "kube-controller-manager",
            &[
                &kubeconfig,
                "--leader-elect=false",
                &format!("--service-account-private-key-file={}", pki.join("service-accounts.key").display()),
                &format!("--root-ca-file={}", pki.join("apiserver.crt").display()),
                &format!("--cluster-cidr={POD_CIDRS}"),
                "--allocate-node-cidrs=false",
                // A lab's node that has crashed is to be noticed within a test's patience.
                "--node-monitor-period=1s",
                "--node-monitor-grace-period=15s",
            ],
        )?;
        self.part(lab_dir, kubernetes, "kube-scheduler", &[&kubeconfig, "--leader-elect=false"])
    }

    pub(crate) fn machine(&self) -> &Arc<Machine> {
        &self.machine
    }

    /// Kills a part (`kube-apiserver`, `etcd`, …), as when its machine loses power.
    pub(crate) fn stop(&self, name: &str) -> Result<()> {
        self.with(name, |part| part.process.take().map_or(Ok(()), |mut process| process.kill()))
    }

    /// Starts a stopped part again, as it was.
    pub(crate) fn start_again(&self, name: &str) -> Result<()> {
        self.with(name, |part| part.start(&self.machine))
    }

    pub(crate) fn signal(&self, name: &str, signal: Signal) -> Result<()> {
        self.with(name, |part| part.process.as_ref().map_or(Ok(()), |process| process.signal(signal)))
    }

    fn with(&self, name: &str, work: impl FnOnce(&mut Part) -> Result<()>) -> Result<()> {
        let mut parts = self.parts();
        let part = parts.iter_mut().find(|part| part.name == name);
        work(part.with_context(|| format!("this process runs no {name}"))?)
    }

    fn part(&self, lab_dir: &Path, kubernetes: &str, name: &str, flags: &[&str]) -> Result<()> {
        let argv = [&[kubernetes, name], flags].concat().into_iter().map(str::to_owned).collect();
        let log = lab_dir.join(format!("logs/control-plane-{name}.log"));
        let mut part = Part { name: name.to_owned(), argv, log, process: None };
        part.start(&self.machine)?;
        self.parts().push(part);
        Ok(())
    }

    /// A panic in another thread leaves a list that is still true.
    fn parts(&self) -> MutexGuard<'_, Vec<Part>> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Part {
    fn start(&mut self, machine: &Machine) -> Result<()> {
        let argv: Vec<&str> = self.argv.iter().map(String::as_str).collect();
        self.process = Some(Process::start(machine, &self.name, &argv, &self.log)?);
        Ok(())
    }
}

/// Where the API server writes down what the agents' account asks for, if it does.
pub(crate) fn audit_log(lab_dir: &Path) -> PathBuf {
    lab_dir.join("logs/audit.log")
}

/// Lets it do so.
fn audit_flags(lab_dir: &Path) -> Result<Vec<String>> {
    let policy = serde_json::json!({
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [{"level": "Metadata", "users": [accounts::user()]}, {"level": "None"}],
    });
    let path = lab_dir.join("pki/audit.json");
    fs::write(&path, policy.to_string())?;
    Ok(vec![
        format!("--audit-policy-file={}", path.display()),
        format!("--audit-log-path={}", audit_log(lab_dir).display()),
    ])
}

/// Everyone's token, name, id and groups.
fn tokens(nodes: &[String]) -> String {
    let mut lines = format!("{ADMIN_TOKEN},lab-admin,1,\"system:masters\"\nproxy,system:kube-proxy,2,\n");
    for (index, node) in nodes.iter().enumerate() {
        lines += &format!("node-{node},system:node:{node},{},\"system:nodes\"\n", index + 10);
    }
    lines
}

/// A kubeconfig for a token; `acting_as` lets the administrator be somebody else.
pub(crate) fn kubeconfig(lab_dir: &Path, token: &str, acting_as: Option<&str>) -> String {
    let mut user = serde_json::json!({"token": token});
    if let Some(name) = acting_as {
        user["as"] = name.into();
    }
    let ca = lab_dir.join("pki/apiserver.crt");
    let config = serde_json::json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "lab", "cluster": {"server": API_SERVER, "certificate-authority": ca}}],
        "users": [{"name": "lab", "user": user}],
        "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "lab"}}],
        "current-context": "lab",
    });
    // JSON is YAML.
    config.to_string()
}
