//! TLS of the client: who it is, and which servers it believes.

use std::sync::Arc;

use anyhow::Context;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::certificates::{Certificates, Identity};
use super::stream::Stream;

/// TLS as a client of one topology.
#[derive(Debug, Clone)]
pub struct Tls {
    /// The name in the ClientHello, or `None` to send none. The server's certificate need not
    /// name it: a forged SNI is a thing to try. It has to be of this run all the same.
    pub sni: Option<String>,
    config: Arc<rustls::ClientConfig>,
}

impl Tls {
    /// TLS to servers whose certificates are of this run, showing `identity` if the server asks.
    ///
    /// # Errors
    /// If rustls refuses the certificates.
    pub fn new(
        certificates: &Certificates,
        sni: Option<&str>,
        identity: Option<&Identity>,
    ) -> anyhow::Result<Self> {
        Self::believing(&certificates.roots(), sni, identity)
    }

    /// As [`Self::new`], with the CA certificates of a run elsewhere.
    ///
    /// # Errors
    /// If rustls refuses the certificates.
    pub fn believing(
        authorities: &[CertificateDer<'static>],
        sni: Option<&str>,
        identity: Option<&Identity>,
    ) -> anyhow::Result<Self> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        for root in authorities {
            roots.add(root.clone())?;
        }
        let builder = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyNameOfThisRun(
                rustls::client::WebPkiServerVerifier::builder_with_provider(
                    Arc::new(roots),
                    provider,
                )
                .build()?,
            )));
        let mut config = match identity {
            Some(identity) => builder.with_client_auth_cert(
                vec![identity.certificate.clone()],
                identity.key.clone_key(),
            )?,
            None => builder.with_no_client_auth(),
        };
        config.enable_sni = sni.is_some();
        Ok(Self {
            sni: sni.map(str::to_owned),
            config: Arc::new(config),
        })
    }

    /// A handshake on `stream` that offers `protocol` by ALPN.
    pub(super) async fn handshake(
        &self,
        stream: Box<dyn Stream>,
        protocol: &[u8],
    ) -> anyhow::Result<TlsStream<Box<dyn Stream>>> {
        let mut config = rustls::ClientConfig::clone(&self.config);
        config.alpn_protocols = vec![protocol.to_vec()];
        // Without SNI the name goes nowhere, and rustls wants one.
        let name = self.sni.as_deref().unwrap_or("unnamed.invalid");
        let name = ServerName::try_from(name.to_owned())
            .with_context(|| format!("`{name}` cannot be an SNI"))?;
        TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await
            .context("TLS handshake")
    }
}

/// TLS as a server that shows `identity` and asks for no certificate.
pub(super) fn acceptor(identity: &Identity) -> anyhow::Result<TlsAcceptor> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![identity.certificate.clone()], identity.key.clone_key())?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Believes any certificate that a CA of this run signed, whatever it names.
#[derive(Debug)]
struct AnyNameOfThisRun(Arc<rustls::client::WebPkiServerVerifier>);

impl ServerCertVerifier for AnyNameOfThisRun {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verified =
            self.0
                .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        match verified {
            // The name is compared last, after the chain, the time and the purpose.
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}
