//! The client for HTTP and HTTPS to the world outside this machine.

use std::sync::Arc;
use std::time::Duration;

use ureq::config::ConfigBuilder;
use ureq::tls::{RootCerts, TlsConfig, TlsProvider};
use ureq::typestate::AgentScope;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a transfer may stand still.
const STALL_TIMEOUT: Duration = Duration::from_secs(60);

/// A client with the system's root certificates. `$SSL_CERT_FILE` and the proxy variables are
/// honoured; an answer of 400 or more is an error.
pub(crate) fn agent() -> ureq::Agent {
    config().build().into()
}

/// The configuration of [`agent`], for callers that differ in something.
pub(crate) fn config() -> ConfigBuilder<AgentScope> {
    let tls = TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .root_certs(RootCerts::PlatformVerifier)
        // Without it ureq takes the process-wide default, which somebody else may have set.
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .build();
    ureq::Agent::config_builder()
        .tls_config(tls)
        .user_agent(concat!("meridian/", env!("CARGO_PKG_VERSION")))
        .timeout_connect(Some(CONNECT_TIMEOUT))
        .timeout_per_read(Some(STALL_TIMEOUT))
}
