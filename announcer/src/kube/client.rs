//! The clients of the API server: one for watches, one for Leases.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use kube::{
    Client, Config,
    config::{InClusterError, KubeConfigOptions, Kubeconfig, KubeconfigError},
};

use super::line::{Heard, Line, Source};

/// How long a TCP and TLS connection may take to stand.
const CONNECT: Duration = Duration::from_secs(2);

/// A watch hears something at least every 30 s, when its own timeout ends it; a list answers long before.
const SILENCE: Duration = Duration::from_secs(45);

/// Two clients with connections of their own, so that a large list never stands before a renewal. Each reads the
/// configuration again after a request that failed: a changed CA, token or kubeconfig needs no restart.
#[derive(Clone)]
pub struct Clients {
    /// For watches and events. A request on it fails after 45 s without a byte.
    pub watch: Client,
    /// For Leases. It never retries and has no timeout of its own but for connecting (2 s): set one around each call.
    pub leases: Client,
    /// The line of the second one.
    of_leases: Arc<Line>,
    /// What they were made from.
    made_from: (Source, Config),
    /// When the API server was last heard, on any of them.
    pub heard: Heard,
    /// Where the API server was when they were made.
    pub server: String,
}

impl Clients {
    /// One more client, with connections of its own, for another runtime: they belong to the one that this is called in.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn apart(&self) -> Result<Client, ConnectError> {
        let (source, config) = self.made_from.clone();
        Ok(Line::new(source, config, |_| {}, self.heard.clone())?.client())
    }

    /// The client for Leases again, whose requests from now on have connections of their own.
    pub fn another(&self) -> impl Fn() -> Option<Client> + Send + Sync + use<> {
        let (line, client) = (self.of_leases.clone(), self.leases.clone());
        move || {
            line.give_up();
            Some(client.clone())
        }
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

/// Reads the file, or what a pod is given, or `$KUBECONFIG`, and makes the clients. Nothing is sent. Needs a tokio runtime,
/// which the clients use from then on.
///
/// kube's own retries (up to 1000 s apart, since kube 4.0) are off: watches have a backoff of their own, and a renewal
/// must not happen at a time that nobody knows.
///
/// # Errors
/// See [`ConnectError`].
pub async fn connect(kubeconfig: Option<&Path>) -> Result<Clients, ConnectError> {
    let (source, config) = match kubeconfig {
        Some(path) => {
            let source = Source::File(path.to_owned());
            let config = read(&source).await?;
            (source, config)
        }
        None => match read(&Source::Pod).await {
            Ok(config) => (Source::Pod, config),
            Err(no_pod) => match Kubeconfig::from_env() {
                Ok(None) => return Err(no_pod),
                _ => (Source::Environment, read(&Source::Environment).await?),
            },
        },
    };
    let (server, heard) = (config.cluster_url.to_string(), Heard::new());
    let of_leases = Line::new(source.clone(), config.clone(), |_| {}, heard.clone())?;
    let of_watches = Line::new(
        source.clone(),
        config.clone(),
        |config| {
            config.read_timeout = Some(SILENCE);
            config.reset_reader_on_write = true;
        },
        heard.clone(),
    )?;
    let (watch, leases) = (of_watches.client(), of_leases.client());
    Ok(Clients { watch, leases, of_leases, made_from: (source, config), heard, server })
}

/// The configuration as it is now.
pub(super) async fn read(source: &Source) -> Result<Config, ConnectError> {
    let mut config = match source {
        Source::File(path) => {
            from_file(path).await.map_err(|error| ConnectError::Kubeconfig { path: path.clone(), error })?
        }
        Source::Pod => Config::incluster().map_err(|source| ConnectError::NoPod { source })?,
        Source::Environment => {
            let refused = |error| ConnectError::Kubeconfig { path: "$KUBECONFIG".into(), error };
            let kubeconfig = Kubeconfig::from_env().map_err(refused)?.unwrap_or_default();
            Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
                .await
                .map_err(refused)?
        }
    };
    config.default_retry = false;
    config.connect_timeout = Some(CONNECT);
    Ok(config)
}

async fn from_file(path: &Path) -> Result<Config, KubeconfigError> {
    Config::from_custom_kubeconfig(Kubeconfig::read_from(path)?, &KubeConfigOptions::default()).await
}

pub(super) fn client(config: Config) -> Result<Client, ConnectError> {
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
