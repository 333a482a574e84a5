//! The credentials that `docker login` keeps, in `$DOCKER_CONFIG/config.json` or
//! `~/.docker/config.json`.

use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use base64::prelude::{BASE64_STANDARD, Engine};
use serde::Deserialize;

/// What a registry is told of who asks.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Credentials {
    /// A name and a password.
    Password {
        /// The name.
        user: String,
        /// The password.
        password: String,
    },
    /// A token that is exchanged for those of single requests.
    IdentityToken(String),
    /// A token that is sent as it is.
    RegistryToken(String),
}

// Secrets stay out of what is printed.
impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Password { .. } => "Password",
            Self::IdentityToken(_) => "IdentityToken",
            Self::RegistryToken(_) => "RegistryToken",
        })
    }
}

/// Docker's configuration, as far as it holds credentials.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Configuration {
    auths: HashMap<String, Entry>,
    creds_store: String,
    cred_helpers: HashMap<String, String>,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default, rename_all = "lowercase")]
struct Entry {
    auth: String,
    username: String,
    password: String,
    identitytoken: String,
    registrytoken: String,
}

/// The credentials for a registry; `None` if there are none.
///
/// # Errors
/// If the configuration cannot be read, or a program that keeps credentials fails.
pub(super) fn find(registry: &str) -> anyhow::Result<Option<Credentials>> {
    let folder = std::env::var_os("DOCKER_CONFIG")
        .filter(|folder| !folder.is_empty())
        .map(PathBuf::from)
        .or_else(|| std::env::home_dir().map(|home| home.join(".docker")));
    match folder {
        Some(folder) => find_in(&folder.join("config.json"), registry),
        None => Ok(None),
    }
}

fn find_in(path: &Path, registry: &str) -> anyhow::Result<Option<Credentials>> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    let configuration: Configuration = serde_json::from_slice(&bytes)
        .with_context(|| format!("{} is not what `docker login` writes", path.display()))?;
    configuration
        .of(registry)
        .with_context(|| format!("in {}", path.display()))
}

impl Configuration {
    fn of(&self, registry: &str) -> anyhow::Result<Option<Credentials>> {
        // Docker Hub is kept under the address of its first version.
        let name = match registry {
            "docker.io" => "https://index.docker.io/v1/",
            name => name,
        };
        let helper = self
            .cred_helpers
            .get(registry)
            .or_else(|| self.cred_helpers.get(name));
        if let Some(helper) = helper {
            return ask(helper, name);
        }
        let is_same = |key: &&String| {
            let host = key.split_once("://").map_or(key.as_str(), |(_, rest)| rest);
            key.as_str() == name || host.split('/').next() == Some(registry)
        };
        // An entry without content is left behind by a store.
        let entry = self.auths.get(name).or_else(|| {
            let key = self.auths.keys().filter(is_same).min()?;
            self.auths.get(key)
        });
        match entry.map(Entry::credentials).transpose()?.flatten() {
            None if !self.creds_store.is_empty() => ask(&self.creds_store, name),
            credentials => Ok(credentials),
        }
    }
}

impl Entry {
    fn credentials(&self) -> anyhow::Result<Option<Credentials>> {
        if !self.registrytoken.is_empty() {
            return Ok(Some(Credentials::RegistryToken(self.registrytoken.clone())));
        }
        if !self.identitytoken.is_empty() {
            return Ok(Some(Credentials::IdentityToken(self.identitytoken.clone())));
        }
        if self.auth.is_empty() {
            let password = Credentials::Password {
                user: self.username.clone(),
                password: self.password.clone(),
            };
            return Ok((!self.username.is_empty()).then_some(password));
        }
        let decoded = BASE64_STANDARD.decode(&self.auth).ok();
        let decoded = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
        let pair = decoded.as_deref().and_then(|text| text.split_once(':'));
        let (user, password) = pair.context("an `auth` is not USER:PASSWORD in base64")?;
        Ok(Some(Credentials::Password {
            user: user.to_owned(),
            password: password.trim_end_matches('\0').to_owned(),
        }))
    }
}

/// What a program answers that keeps credentials.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Kept {
    username: String,
    secret: String,
}

/// Asks `docker-credential-HELPER`.
fn ask(helper: &str, registry: &str) -> anyhow::Result<Option<Credentials>> {
    let program = format!("docker-credential-{helper}");
    let run = || -> anyhow::Result<_> {
        let mut child = Command::new(&program)
            .arg("get")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(registry.as_bytes())?;
        }
        Ok(child.wait_with_output()?)
    };
    let output = run().with_context(|| format!("cannot ask {program} for credentials"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stdout);
        if said.contains("credentials not found") {
            return Ok(None);
        }
        bail!("{program} gives no credentials: {}", said.trim());
    }
    let Kept { username, secret } = serde_json::from_slice(&output.stdout)
        .with_context(|| format!("{program} does not answer with credentials"))?;
    Ok(Some(match username.as_str() {
        "<token>" => Credentials::IdentityToken(secret),
        _ => Credentials::Password {
            user: username,
            password: secret,
        },
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(configuration: &str, registry: &str) -> anyhow::Result<Option<Credentials>> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), configuration).unwrap();
        find_in(file.path(), registry)
    }

    #[test]
    fn credentials_are_those_of_the_registry() {
        let password = |user: &str, password: &str| {
            Some(Credentials::Password {
                user: user.to_owned(),
                password: password.to_owned(),
            })
        };
        // me:a:b, me:hub
        let all = r#"{"auths": {
            "ghcr.io": {"auth": "bWU6YTpi"},
            "https://r.example:5000/v2/": {"username": "u", "password": "p"},
            "https://index.docker.io/v1/": {"auth": "bWU6aHVi"},
            "t.example": {"auth": "bWU6YTpi", "identitytoken": "i"},
            "s.example": {"registrytoken": "r"},
            "empty.example": {}
        }}"#;
        for (registry, expected) in [
            ("ghcr.io", password("me", "a:b")),
            ("r.example:5000", password("u", "p")),
            ("docker.io", password("me", "hub")),
            (
                "t.example",
                Some(Credentials::IdentityToken("i".to_owned())),
            ),
            (
                "s.example",
                Some(Credentials::RegistryToken("r".to_owned())),
            ),
            ("empty.example", None),
            ("example", None),
            ("r.example", None),
        ] {
            assert_eq!(found(all, registry).unwrap(), expected, "{registry}");
        }
        assert_eq!(find_in(Path::new("/nowhere"), "ghcr.io").unwrap(), None);
    }

    #[test]
    fn a_broken_configuration_is_named() {
        for (configuration, expected) in [
            ("{", "is not what `docker login` writes"),
            (
                r#"{"auths": {"a.io": {"auth": "%"}}}"#,
                "not USER:PASSWORD in base64",
            ),
            (
                r#"{"credsStore": "none-such"}"#,
                "docker-credential-none-such",
            ),
            (
                r#"{"credHelpers": {"a.io": "none-such"}}"#,
                "docker-credential-none-such",
            ),
        ] {
            let error = format!("{:#}", found(configuration, "a.io").unwrap_err());
            assert!(error.contains(expected), "{error}");
        }
    }
}
