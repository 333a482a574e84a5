//! A CA, a server's certificate for chosen names, and clients' with SPIFFE ids.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context;
use meridian_tests::raw::tls::ClientCertificate;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, PublicKeyData, SanType,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

/// The certificates of one test. One CA signs servers and clients, of any trust domain.
pub(crate) struct Certificates {
    ca: CertifiedIssuer<'static, KeyPair>,
    clients: BTreeMap<String, ClientCertificate>,
    server_key: Vec<u8>,
    /// The file of the CA's certificate.
    pub(crate) ca_file: PathBuf,
    /// The file of the server's certificate.
    pub(crate) server_file: PathBuf,
    /// The file of the server's key.
    pub(crate) key_file: PathBuf,
}

impl Certificates {
    /// Makes a CA, the server's certificate for `names` and one for each of `principals`, and
    /// writes what Envoy needs to `folder`.
    pub(crate) fn create(
        folder: &Path,
        names: Vec<String>,
        principals: impl IntoIterator<Item = String>,
    ) -> anyhow::Result<Self> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let key = KeyPair::generate()?;
        let mut certificates = Self {
            ca,
            clients: BTreeMap::new(),
            server_key: key.subject_public_key_info(),
            ca_file: folder.join("ca.pem"),
            server_file: folder.join("server.pem"),
            key_file: folder.join("server.key"),
        };
        std::fs::write(&certificates.ca_file, certificates.ca.pem())?;
        let server = leaf(CertificateParams::new(names)?).signed_by(&key, &certificates.ca)?;
        std::fs::write(&certificates.server_file, server.pem())?;
        std::fs::write(&certificates.key_file, key.serialize_pem())?;
        for principal in principals {
            let client = certificates
                .issue(&principal)
                .with_context(|| format!("a certificate for {principal}"))?;
            certificates.clients.insert(principal, client);
        }
        Ok(certificates)
    }

    /// The CA's certificate.
    pub(crate) fn ca(&self) -> &CertificateDer<'static> {
        self.ca.der()
    }

    /// The server's public key, as a `SubjectPublicKeyInfo` in DER.
    pub(crate) fn server_key(&self) -> &[u8] {
        &self.server_key
    }

    /// The certificate of a principal that [`Certificates::create`] was told of.
    pub(crate) fn client(&self, principal: &str) -> Option<&ClientCertificate> {
        self.clients.get(principal)
    }

    fn issue(&self, principal: &str) -> anyhow::Result<ClientCertificate> {
        let mut params = leaf(CertificateParams::default());
        let uri = format!("spiffe://{principal}");
        params.subject_alt_names = vec![SanType::URI(uri.as_str().try_into()?)];
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.ca)?;
        Ok(ClientCertificate {
            chain: vec![certificate.der().clone()],
            key: PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
        })
    }
}

fn leaf(mut params: CertificateParams) -> CertificateParams {
    params.distinguished_name = DistinguishedName::new();
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    params
}
