//! TLS for the raw clients: with or without a client certificate, with or without a server name.

use std::sync::Arc;

use anyhow::Context;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use tokio_rustls::TlsConnector;

use super::Stream;

/// A client's certificate chain, leaf first, and its key.
#[derive(Debug)]
pub struct ClientCertificate {
    /// The chain.
    pub chain: Vec<CertificateDer<'static>>,
    /// The key.
    pub key: PrivateKeyDer<'static>,
}

/// How to speak TLS.
#[derive(Debug)]
pub struct Options<'o> {
    /// The CA that must have signed the server's certificate.
    pub ca: &'o CertificateDer<'static>,
    /// What the client shows when it is asked.
    pub client: Option<&'o ClientCertificate>,
    /// The SNI, in lower case on the wire; the server's certificate must be for this name. Without
    /// it no SNI is sent, and the certificate may be for any name.
    pub server_name: Option<&'o str>,
    /// The protocols to offer, such as `h2`; empty for no ALPN.
    pub alpn: &'o [&'o str],
}

/// Completes a handshake over `stream`.
///
/// # Errors
/// If the server name is not one that TLS can carry, or the handshake fails.
pub async fn connect(
    stream: Box<dyn Stream>,
    options: &Options<'_>,
) -> anyhow::Result<Box<dyn Stream>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(options.ca.clone())?;
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?;
    let builder = match options.server_name {
        Some(_) => builder.with_root_certificates(roots),
        None => builder
            .dangerous()
            .with_custom_certificate_verifier(AnyName::new(roots, &provider)?),
    };
    let mut config = match options.client {
        Some(client) => {
            builder.with_client_auth_cert(client.chain.clone(), client.key.clone_key())?
        }
        None => builder.with_no_client_auth(),
    };
    config.enable_sni = options.server_name.is_some();
    config.alpn_protocols = options
        .alpn
        .iter()
        .map(|protocol| protocol.as_bytes().to_vec())
        .collect();
    // rustls wants a name where none is sent too.
    let name = options.server_name.unwrap_or("unnamed.invalid");
    let name = ServerName::try_from(name.to_owned())
        .with_context(|| format!("{name:?} cannot be a server name"))?;
    let stream = TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
        .context("the TLS handshake failed")?;
    Ok(Box::new(stream))
}

/// Believes any certificate that the roots have signed, whatever its names.
#[derive(Debug)]
struct AnyName {
    roots: RootCertStore,
    provider: Arc<CryptoProvider>,
    signatures: Arc<WebPkiServerVerifier>,
}

impl AnyName {
    fn new(roots: RootCertStore, provider: &Arc<CryptoProvider>) -> anyhow::Result<Arc<Self>> {
        let signatures = WebPkiServerVerifier::builder_with_provider(
            Arc::new(roots.clone()),
            Arc::clone(provider),
        )
        .build()?;
        Ok(Arc::new(Self {
            roots,
            provider: Arc::clone(provider),
            signatures,
        }))
    }
}

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        verify_server_cert_signed_by_trust_anchor(
            &ParsedCertificate::try_from(end_entity)?,
            &self.roots,
            intermediates,
            now,
            self.provider.signature_verification_algorithms.all,
        )?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signatures.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signatures.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.signatures.supported_verify_schemes()
    }
}
