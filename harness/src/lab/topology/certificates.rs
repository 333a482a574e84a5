//! The certificates of one run: a CA for the mesh, with SPIFFE identities, and one for the public.
//!
//! Both CAs are made anew for each run and their keys never leave the process.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, SanType,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use super::roles::OUTSIDE;
use crate::lab::config::identity::{Credentials, MeshIdentity, spiffe_id};

/// The hosts that the ingress gateway's public certificate names.
const PUBLIC_NAMES: [&str; 4] = [
    "example.com",
    "*.example.com",
    "*.apps.example.com",
    "*.system.example.com",
];

/// A workload's certificate and key, held in memory: for a client that plays the workload.
#[derive(Debug)]
pub struct Identity {
    pub(super) certificate: CertificateDer<'static>,
    pub(super) key: PrivateKeyDer<'static>,
}

impl Identity {
    /// Reads a certificate and its private key (PEM).
    ///
    /// # Errors
    /// If a file cannot be read, or holds something else; names it.
    pub fn read(certificate: &Path, key: &Path) -> anyhow::Result<Self> {
        Ok(Self {
            certificate: read_certificate(certificate)?,
            key: PrivateKeyDer::from_pem_file(key)
                .with_context(|| format!("no private key in {}", key.display()))?,
        })
    }
}

/// Reads the first certificate of a file (PEM).
///
/// # Errors
/// If the file cannot be read, or holds none; names it.
pub fn read_certificate(file: &Path) -> anyhow::Result<CertificateDer<'static>> {
    CertificateDer::from_pem_file(file)
        .with_context(|| format!("no certificate in {}", file.display()))
}

/// The certificates of one run.
pub struct Certificates {
    folder: PathBuf,
    mesh: CertifiedIssuer<'static, KeyPair>,
    public: CertifiedIssuer<'static, KeyPair>,
}

impl std::fmt::Debug for Certificates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificates")
            .field("folder", &self.folder)
            .finish_non_exhaustive()
    }
}

impl Certificates {
    /// Makes both CAs and writes their certificates, `mesh-ca.pem` and `public-ca.pem`, to
    /// `folder`, which is created.
    ///
    /// # Errors
    /// If the folder cannot be written, or holds them already.
    pub fn create(folder: PathBuf) -> anyhow::Result<Self> {
        create(&folder)?;
        let certificates = Self {
            mesh: authority("Meridian local mesh CA")?,
            public: authority("Meridian local public CA")?,
            folder,
        };
        write(&certificates.mesh_ca(), &certificates.mesh.pem())?;
        write(&certificates.public_ca(), &certificates.public.pem())?;
        Ok(certificates)
    }

    /// The folder of the files.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The file of the mesh's CA certificate.
    pub fn mesh_ca(&self) -> PathBuf {
        self.folder.join("mesh-ca.pem")
    }

    /// The file of the CA certificate behind the ingress gateway's public certificate.
    pub fn public_ca(&self) -> PathBuf {
        self.folder.join("public-ca.pem")
    }

    /// The CA certificates that a client of this run believes.
    pub fn roots(&self) -> [CertificateDer<'static>; 2] {
        [self.mesh.der().clone(), self.public.der().clone()]
    }

    /// Issues a certificate for `principal`, which may be of any trust domain: the mesh's CA
    /// signs it.
    ///
    /// # Errors
    /// If the principal is not ASCII.
    pub fn identity(&self, principal: &str) -> anyhow::Result<Identity> {
        let (certificate, key) = self.issue_identity(principal, None)?;
        Ok(Identity {
            certificate: certificate.der().clone(),
            key: PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
        })
    }

    /// Issues a certificate for `principal` into `NAME.pem` and `NAME.key`, with the DNS name
    /// `service` too if given: NGINX cannot check a SPIFFE ID.
    ///
    /// # Errors
    /// If a file cannot be written or is there already.
    pub fn write_identity(
        &self,
        name: &str,
        principal: &str,
        service: Option<&str>,
    ) -> anyhow::Result<MeshIdentity> {
        let (certificate, key) = self.issue_identity(principal, service)?;
        Ok(MeshIdentity {
            credentials: self.write_credentials(name, &certificate, &key)?,
            ca: self.mesh_ca(),
        })
    }

    /// Issues a certificate of the public CA for the servers outside, and for workloads that outside
    /// clients reach by TLS.
    ///
    /// # Errors
    /// If a name is none.
    pub fn server(&self) -> anyhow::Result<Identity> {
        let (certificate, key) = self.issue_server()?;
        Ok(Identity {
            certificate: certificate.der().clone(),
            key: PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
        })
    }

    /// Issues the ingress gateway's public certificate into `public.pem` and `public.key`.
    ///
    /// # Errors
    /// If a file cannot be written or is there already.
    pub fn write_public(&self) -> anyhow::Result<Credentials> {
        let names = PUBLIC_NAMES.map(str::to_owned);
        let mut params = leaf(CertificateParams::new(names)?);
        params
            .distinguished_name
            .push(DnType::CommonName, "Meridian local ingress gateway");
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.public)?;
        self.write_credentials("public", &certificate, &key)
    }

    /// Issues a certificate for `principal` into a folder, which is created, under the names that
    /// Istio gives them: `cert-chain.pem`, `key.pem`, and the mesh's CA certificate `root-cert.pem`.
    ///
    /// # Errors
    /// If a file cannot be written or is there already.
    pub fn write_mounted_identity(
        &self,
        folder: &Path,
        principal: &str,
        service: Option<&str>,
    ) -> anyhow::Result<()> {
        let (certificate, key) = self.issue_identity(principal, service)?;
        create(folder)?;
        write(&folder.join("cert-chain.pem"), &certificate.pem())?;
        write(&folder.join("key.pem"), &key.serialize_pem())?;
        write(&folder.join("root-cert.pem"), &self.mesh.pem())
    }

    /// Issues a certificate of the public CA for a server into a folder, which is created, as
    /// `tls.crt` and `tls.key`.
    ///
    /// # Errors
    /// If a name is none, or a file cannot be written or is there already.
    pub fn write_mounted_server(&self, folder: &Path) -> anyhow::Result<()> {
        let (certificate, key) = self.issue_server()?;
        create(folder)?;
        write(&folder.join("tls.crt"), &certificate.pem())?;
        write(&folder.join("tls.key"), &key.serialize_pem())
    }

    fn issue_server(&self) -> anyhow::Result<(rcgen::Certificate, KeyPair)> {
        let outside = OUTSIDE.iter().map(|server| server.host);
        let names = outside.filter(|host| *host != "*").chain(PUBLIC_NAMES);
        let names: Vec<String> = names.map(str::to_owned).collect();
        let key = KeyPair::generate()?;
        let certificate = leaf(CertificateParams::new(names)?).signed_by(&key, &self.public)?;
        Ok((certificate, key))
    }

    fn issue_identity(
        &self,
        principal: &str,
        service: Option<&str>,
    ) -> anyhow::Result<(rcgen::Certificate, KeyPair)> {
        let uri = spiffe_id(principal);
        let issue = || -> Result<_, rcgen::Error> {
            let mut params = leaf(CertificateParams::default());
            params.subject_alt_names = vec![SanType::URI(uri.as_str().try_into()?)];
            if let Some(service) = service {
                params
                    .subject_alt_names
                    .push(SanType::DnsName(service.try_into()?));
            }
            let key = KeyPair::generate()?;
            Ok((params.signed_by(&key, &self.mesh)?, key))
        };
        issue().with_context(|| format!("cannot issue a certificate for {uri}"))
    }

    fn write_credentials(
        &self,
        name: &str,
        certificate: &rcgen::Certificate,
        key: &KeyPair,
    ) -> anyhow::Result<Credentials> {
        let credentials = Credentials {
            certificate: self.folder.join(format!("{name}.pem")),
            key: self.folder.join(format!("{name}.key")),
        };
        write(&credentials.certificate, &certificate.pem())?;
        write(&credentials.key, &key.serialize_pem())?;
        Ok(credentials)
    }
}

fn authority(name: &str) -> anyhow::Result<CertifiedIssuer<'static, KeyPair>> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    CertifiedIssuer::self_signed(params, KeyPair::generate()?)
        .with_context(|| format!("cannot make the {name}"))
}

/// Workloads of a mesh are servers and clients at once.
fn leaf(mut params: CertificateParams) -> CertificateParams {
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    params
}

fn create(folder: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))
}

/// Keys and certificates alike are readable by their owner alone.
fn write(path: &Path, pem: &str) -> anyhow::Result<()> {
    fs::File::options()
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(pem.as_bytes()))
        .with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn keys_are_readable_by_their_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let certificates = Certificates::create(folder.path().join("certificates")).unwrap();
        let identity = certificates
            .write_identity("shop", "cluster.local/ns/shop/sa/shop", None)
            .unwrap();
        let mode = fs::metadata(identity.credentials.key)
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_principal_that_no_certificate_can_hold_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let certificates = Certificates::create(folder.path().join("certificates")).unwrap();
        let error = certificates
            .identity("clüster.local/ns/a/sa/b")
            .unwrap_err();
        assert!(
            error
                .to_string()
                .contains("spiffe://clüster.local/ns/a/sa/b")
        );
    }
}
