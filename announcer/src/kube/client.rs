//! The clients of the API server: one for watches, one for Leases.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use kube::{
    Client, Config,
    config::{InClusterError, KubeConfigOptions, Kubeconfig, KubeconfigError},
};

/// How long a TCP and TLS connection may take to stand.
const CONNECT: Duration = Duration::from_secs(2);

/// A watch hears something at least every 30 s, when its own timeout ends it; a list answers long before.
const SILENCE: Duration = Duration::from_secs(45);

/// Two clients with connections of their own, so that a large list never stands before a renewal.
#[derive(Clone)]
pub struct Clients {
    /// For watches and events. A request on it fails after 45 s without a byte.
    pub watch: Client,
    /// For Leases. It never retries and has no timeout of its own but for connecting (2 s): set one around each call.
    pub leases: Client,
    /// What the second one was made from.
    config: Config,
    /// Where the API server is.
    pub server: String,
}

impl Clients {
    /// Another client for Leases, with connections of its own.
    pub fn another(&self) -> impl Fn() -> Option<Client> + Send + Sync + use<> {
        let config = self.config.clone();
        move || Client::try_from(config.clone()).ok()
    }
}

/// Without what follows in the next lines: an excerpt of the file, which may hold a token.
fn clause(error: &KubeconfigError) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}

/// Why there is no way to the API server. Whether it answers is not known until the first request.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The file named by `--kubeconfig`, or `$KUBECONFIG`.
    #[error("cannot use kubeconfig {}: {}", path.display(), clause(error))]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// What is wrong with it; no `source`, for its words are in ours.
        error: KubeconfigError,
    },
    /// No file was named, and this is no pod.
    #[error("this is no pod ({source}): name a kubeconfig with --kubeconfig FILE or in $KUBECONFIG")]
    NoPod {
        /// What of a pod's environment is missing.
        #[source]
        source: InClusterError,
    },
    /// The configuration is there, and no client can be made from it.
    #[error("cannot make a Kubernetes client: {source}")]
    Client {
        /// What is wrong: certificates, mostly.
        #[source]
        source: Box<kube::Error>,
    },
}

/// Reads the file, or what a pod is given, or `$KUBECONFIG`, and makes the clients. Nothing is sent.
///
/// kube's own retries (up to 1000 s apart, since kube 4.0) are off: watches have a backoff of their own, and a renewal
/// must not happen at a time that nobody knows.
///
/// # Errors
/// See [`ConnectError`].
pub async fn connect(kubeconfig: Option<&Path>) -> Result<Clients, ConnectError> {
    let mut config = match kubeconfig {
        Some(path) => from_file(path)
            .await
            .map_err(|error| ConnectError::Kubeconfig { path: path.to_owned(), error })?,
        None => match Config::incluster() {
            Ok(config) => config,
            Err(source) => from_env().await?.ok_or(ConnectError::NoPod { source })?,
        },
    };
    config.default_retry = false;
    config.connect_timeout = Some(CONNECT);
    let (leases, of_leases) = (client(config.clone())?, config.clone());
    config.read_timeout = Some(SILENCE);
    config.reset_reader_on_write = true;
    let server = config.cluster_url.to_string();
    Ok(Clients { watch: client(config)?, leases, config: of_leases, server })
}

async fn from_env() -> Result<Option<Config>, ConnectError> {
    let refused = |error| ConnectError::Kubeconfig { path: "$KUBECONFIG".into(), error };
    let Some(kubeconfig) = Kubeconfig::from_env().map_err(refused)? else { return Ok(None) };
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
    config.map(Some).map_err(refused)
}

async fn from_file(path: &Path) -> Result<Config, KubeconfigError> {
    Config::from_custom_kubeconfig(Kubeconfig::read_from(path)?, &KubeConfigOptions::default()).await
}

fn client(config: Config) -> Result<Client, ConnectError> {
    Client::try_from(config).map_err(|source| ConnectError::Client { source: Box::new(source) })
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn refusal(path: &Path) -> String {
        match connect(Some(path)).await {
            Ok(_) => panic!("a client from {}", path.display()),
            Err(error) => error.to_string(),
        }
    }

    #[tokio::test]
    async fn a_kubeconfig_that_is_not_there_is_named() {
        let told = refusal(Path::new("/nonexistent/kubeconfig")).await;
        assert!(told.starts_with("cannot use kubeconfig /nonexistent/kubeconfig: "), "{told}");
    }

    #[tokio::test]
    async fn a_kubeconfig_that_is_no_kubeconfig_is_named() {
        let told = refusal(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))).await;
        assert!(told.contains("Cargo.toml: "), "{told}");
    }
}
