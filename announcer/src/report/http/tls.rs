//! What the metrics port shows a client that wants to know whom it speaks to: the operator's certificate, or one that this
//! process made for itself, which keeps a token from whoever listens on the wire, and proves nothing.

use std::{
    fmt, fs, io,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, date_time_ymd};
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tracing::warn;

/// How long a certificate that this process made is used: it is valid for a year and more.
const OWN: Duration = Duration::from_secs(30 * 86_400);
/// How often the operator's files are read again.
const FILES: Duration = Duration::from_secs(60);

/// Where certificate and key come from.
#[derive(Clone, Debug)]
pub enum Identity {
    /// This process makes them, for a host of this name.
    Own(String),
    /// The operator keeps them in these files, in PEM form, and may replace them at any time.
    Files {
        /// The certificate, and those that vouch for it.
        certificate: PathBuf,
        /// Its key.
        key: PathBuf,
    },
}

/// Why there is no certificate to show.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// It holds something else.
    #[error("cannot find what belongs there in {}", path.display())]
    Pem {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    /// Key and certificate are not of each other, or of an unknown kind.
    #[error("cannot use the metrics certificate and its key")]
    Refused(#[source] rustls::Error),
    /// None could be made.
    #[error("cannot make a metrics certificate")]
    Make(#[source] rcgen::Error),
}

/// The certificate that the port shows.
pub struct Certificate {
    identity: Identity,
    now: Mutex<(TlsAcceptor, Instant)>,
}

impl Certificate {
    /// # Errors
    /// See [`TlsError`].
    pub fn new(identity: Identity) -> Result<Self, TlsError> {
        let now = Mutex::new((acceptor(&identity)?, Instant::now()));
        Ok(Self { identity, now })
    }

    /// For the next connection. Files that cannot be used leave the last good ones in force.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        let lasts = if matches!(self.identity, Identity::Own(_)) { OWN } else { FILES };
        if now.1.elapsed() >= lasts {
            now.1 = Instant::now();
            match acceptor(&self.identity) {
                Ok(fresh) => now.0 = fresh,
                Err(error) => {
                    let cause = std::error::Error::source(&error).map(ToString::to_string);
                    warn!(%error, cause, "Cannot read the metrics certificate again; the last one stays");
                }
            }
        }
        now.0.clone()
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate").field("identity", &self.identity).finish_non_exhaustive()
    }
}

fn acceptor(identity: &Identity) -> Result<TlsAcceptor, TlsError> {
    let (chain, key) = match identity {
        Identity::Own(name) => own(name).map_err(TlsError::Make)?,
        Identity::Files { certificate, key } => files(certificate, key)?,
    };
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|config| config.with_no_client_auth().with_single_cert(chain, key))
        .map_err(TlsError::Refused)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

type Pair = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn own(name: &str) -> Result<Pair, rcgen::Error> {
    let key = KeyPair::generate()?;
    let mut certificate = CertificateParams::new([name.to_owned()])?;
    certificate.distinguished_name = DistinguishedName::new();
    certificate.distinguished_name.push(DnType::CommonName, name);
    let year = i32::from(jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).year());
    (certificate.not_before, certificate.not_after) =
        (date_time_ymd(year - 1, 1, 1), date_time_ymd(year + 2, 1, 1));
    let chain = vec![certificate.self_signed(&key)?.der().clone()];
    Ok((chain, PrivateKeyDer::Pkcs8(key.serialize_der().into())))
}

fn files(certificate: &PathBuf, key: &PathBuf) -> Result<Pair, TlsError> {
    let read =
        |path: &PathBuf| fs::read(path).map_err(|source| TlsError::Read { path: path.clone(), source });
    let wrong = |path: &PathBuf| {
        let path = path.clone();
        move |source| TlsError::Pem { path, source }
    };
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(certificate)?).collect();
    let key_der = PrivateKeyDer::from_pem_slice(&read(key)?).map_err(wrong(key))?;
    Ok((chain.map_err(wrong(certificate))?, key_der))
}
