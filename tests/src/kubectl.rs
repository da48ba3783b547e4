//! Talking to the cluster: kubectl for what people do, plain HTTP for what tests do often.

use std::{
    io::Write as _,
    path::Path,
    process::{Command, Output, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::{addresses::API_SERVER, cluster::Cluster, control_plane::ADMIN_TOKEN, machine::Machine};

impl Cluster {
    /// A kubectl command for this cluster, to be completed and run.
    pub fn kubectl_command(&self) -> Command {
        let mut command = self.control_plane().command(&self.shared.parts.kubernetes);
        command.arg("kubectl").arg("--kubeconfig").arg(self.kubeconfig());
        // kubectl keeps a cache and looks for preferences in the home folder; leave the user's alone.
        command.env("HOME", "/run").env("KUBECACHEDIR", "/run/kubectl-cache").env_remove("KUBECONFIG");
        command
    }

    /// Runs kubectl; its standard output, or an error with its standard error.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        let output = self.kubectl_output(arguments)?;
        if !output.status.success() {
            bail!("kubectl {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim_end());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs kubectl to whatever end.
    pub fn kubectl_output(&self, arguments: &[&str]) -> Result<Output> {
        self.kubectl_command().args(arguments).output().context("run kubectl")
    }

    /// `kubectl apply` of a text with one or more objects.
    pub fn apply_yaml(&self, yaml: &str) -> Result<String> {
        let mut child = self
            .kubectl_command()
            .args(["apply", "-f", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("run kubectl")?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(yaml.as_bytes()).context("hand the objects to kubectl")?;
        }
        let output = child.wait_with_output()?;
        if !output.status.success() {
            bail!("kubectl apply: {}of\n{yaml}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// `kubectl apply` of a file, or of all files in a folder.
    pub fn apply_path(&self, path: &Path) -> Result<String> {
        self.kubectl(&["apply", "-f", utf8(path)?])
    }

    /// `kubectl apply -k`.
    pub fn apply_kustomize(&self, folder: &Path) -> Result<String> {
        self.kubectl(&["apply", "-k", utf8(folder)?])
    }

    /// `kubectl delete -k`, and waits until all of it is gone.
    pub fn delete_kustomize(&self, folder: &Path) -> Result<String> {
        self.kubectl(&["delete", "-k", utf8(folder)?])
    }

    /// Installs custom resource definitions and waits until the API server serves them.
    pub fn install_crds(&self, path: &Path) -> Result<()> {
        let path = utf8(path)?;
        self.kubectl(&["apply", "--server-side", "-f", path])?;
        self.kubectl(&["wait", "--for=condition=Established", "--timeout=30s", "-f", path]).map(drop)
    }

    /// `kubectl wait` with these arguments: `&["--for=condition=Ready", "pod", "-l", "app=web"]`.
    pub fn wait_for(&self, arguments: &[&str], deadline: Duration) -> Result<()> {
        let timeout = format!("--timeout={}ms", deadline.as_millis());
        self.kubectl(&[&["wait", &timeout], arguments].concat()).map(drop)
    }

    /// Waits until a rollout (`daemonset/announcer`) is complete.
    pub fn wait_rollout(&self, namespace: &str, what: &str, deadline: Duration) -> Result<()> {
        let timeout = format!("--timeout={}ms", deadline.as_millis());
        let waited = self.kubectl(&["-n", namespace, "rollout", "status", &timeout, what]);
        waited.map(drop).with_context(|| {
            let pods = self.kubectl(&["-n", namespace, "get", "pods", "-o", "wide"]).unwrap_or_default();
            let events = self
                .kubectl(&["-n", namespace, "get", "events", "--sort-by=.lastTimestamp"])
                .unwrap_or_default();
            let logs =
                self.kubectl(&["-n", namespace, "logs", "--tail=15", "--prefix", what]).unwrap_or_default();
            format!("{what} in {namespace} is not rolled out\n{pods}{events}{logs}")
        })
    }

    /// One request to the API server, as the administrator, without the cost of starting kubectl. A PATCH
    /// is a merge patch. Any status but 2xx is an error.
    pub fn api(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
        request(self.control_plane(), method, path, body)
    }
}

/// One request to the API server from the control plane's machine.
pub(crate) fn request(machine: &Machine, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
    let (status, answer) = exchange(machine, ADMIN_TOKEN, method, path, body)?;
    if !(200..300).contains(&status) {
        bail!("{method} {path}: {status} {answer}");
    }
    Ok(answer)
}

/// The same with any token and to whatever end: the status, and what came back.
pub(crate) fn exchange(
    machine: &Machine,
    token: &str,
    method: &str,
    path: &str,
    body: Option<&Value>,
) -> Result<(u16, Value)> {
    let bearer = format!("Authorization: Bearer {token}");
    let content = match method {
        "PATCH" => "Content-Type: application/merge-patch+json",
        _ => "Content-Type: application/json",
    };
    let url = format!("{API_SERVER}{path}");
    let mut command = machine.command("curl");
    command.args([
        "-sSk",
        "--max-time",
        "10",
        "-X",
        method,
        "-H",
        &bearer,
        "-H",
        content,
        "-w",
        "\n%{http_code}",
    ]);
    if let Some(body) = body {
        command.arg("--data-binary").arg(body.to_string());
    }
    let output = command.arg(&url).output().context("run curl")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let (answer, status) = text.rsplit_once('\n').unwrap_or(("", ""));
    let status: u16 = status.parse().unwrap_or_default();
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(status > 0, "{method} {path}: no answer: {}", stderr.trim());
    let answer = serde_json::from_str(answer).or_else(|error| match status {
        200..300 => Err(error),
        _ => Ok(Value::from(answer.trim())),
    });
    Ok((status, answer.with_context(|| format!("{method} {path}: no JSON came back"))?))
}

fn utf8(path: &Path) -> Result<&str> {
    path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))
}
