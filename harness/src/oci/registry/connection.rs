//! Requests to a registry, with the authorization that it asks for.

use std::cell::RefCell;
use std::collections::HashMap;

use anyhow::{Context, bail, ensure};
use base64::prelude::{BASE64_STANDARD, Engine};
use serde::Deserialize;
use ureq::http::{HeaderMap, Method, Request, Response, StatusCode};
use url::Url;

use super::challenge::Challenge;
use super::credentials::{self, Credentials};
use crate::https;

/// As much of an answer as is read: manifests and errors are small.
const MAX_ANSWER: u64 = 8 << 20;

/// A registry, and what it gave to be asked again.
#[derive(Debug)]
pub(super) struct Connection {
    agent: ureq::Agent,
    /// As people write it.
    registry: String,
    /// Where its API is.
    base: Url,
    credentials: Option<Credentials>,
    /// The header `Authorization` by repository.
    authorizations: RefCell<HashMap<String, String>>,
}

/// An answer, read to its end.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

impl Answer {
    /// The value of a header that is there, in ASCII.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The error of an answer that is none that was hoped for, with what the registry says of it.
    pub(super) fn refusal(&self, what: &str) -> anyhow::Error {
        #[derive(Deserialize)]
        struct Errors {
            errors: Vec<RegistryError>,
        }
        #[derive(Deserialize)]
        #[serde(default)]
        #[derive(Default)]
        struct RegistryError {
            code: String,
            message: String,
        }
        let said = match serde_json::from_slice::<Errors>(&self.body) {
            Ok(Errors { errors }) => {
                let errors = errors.iter();
                let texts = errors.map(|error| format!("{} ({})", error.message, error.code));
                texts.collect::<Vec<_>>().join(", ")
            }
            Err(_) => {
                let text = String::from_utf8_lossy(&self.body);
                text.lines().next().unwrap_or_default().trim().to_owned()
            }
        };
        let said = if said.is_empty() {
            said
        } else {
            format!(": {said}")
        };
        anyhow::anyhow!("it {what}: HTTP {}{said}", self.status)
    }
}

impl Connection {
    pub(super) fn new(registry: &str, plain_http: bool) -> anyhow::Result<Self> {
        let scheme = if plain_http { "http" } else { "https" };
        let host = match registry {
            // Its name is not where it answers.
            "docker.io" => "registry-1.docker.io",
            host => host,
        };
        let base = Url::parse(&format!("{scheme}://{host}/v2/"))
            .with_context(|| format!("{registry:?} is no host"))?;
        Ok(Self {
            agent: https::config().http_status_as_error(false).build().into(),
            registry: registry.to_owned(),
            base,
            credentials: credentials::find(registry)?,
            authorizations: RefCell::default(),
        })
    }

    /// The address of what lies at `path` of the API.
    pub(super) fn address(&self, path: &str) -> anyhow::Result<Url> {
        Ok(self.base.join(path)?)
    }

    /// Asks for what lies at `path`, with GET or HEAD.
    pub(super) fn get(
        &self,
        method: Method,
        repository: &str,
        path: &str,
        headers: &[(&str, &str)],
    ) -> anyhow::Result<Answer> {
        let address = self.address(path)?;
        self.authorized(repository, &address, |authorization| {
            let mut request = Request::builder().method(&method).uri(address.as_str());
            for (name, value) in headers.iter().copied().chain(authorization) {
                request = request.header(name, value);
            }
            Ok(self.agent.run(request.body(())?)?)
        })
    }

    /// Sends something, with POST or PUT.
    pub(super) fn send(
        &self,
        method: Method,
        repository: &str,
        address: &Url,
        content: Option<(&str, &[u8])>,
    ) -> anyhow::Result<Answer> {
        self.authorized(repository, address, |authorization| {
            let mut request = Request::builder().method(&method).uri(address.as_str());
            let kind = content.map(|(kind, _)| ("content-type", kind));
            for (name, value) in kind.into_iter().chain(authorization) {
                request = request.header(name, value);
            }
            let bytes = content.map(|(_, bytes)| bytes).unwrap_or_default();
            Ok(self.agent.run(request.body(bytes)?)?)
        })
    }

    /// Sends a request, and once more with what the registry asked for.
    fn authorized<'a>(
        &self,
        repository: &str,
        address: &Url,
        run: impl Fn(Option<(&'a str, &str)>) -> anyhow::Result<Response<ureq::Body>>,
    ) -> anyhow::Result<Answer> {
        let run = |authorization: Option<&str>| {
            let header = authorization.map(|value| ("authorization", value));
            let response = run(header).map_err(|error| self.explained(error))?;
            let (parts, mut body) = response.into_parts();
            let body = body.with_config().limit(MAX_ANSWER).read_to_vec();
            anyhow::Ok(Answer {
                status: parts.status,
                headers: parts.headers,
                body: body.context("its answer broke off")?,
            })
        };
        // An upload may go to a store of another host, which is not to know who we are.
        if address.origin() != self.base.origin() {
            return run(None);
        }
        let known = self.authorizations.borrow().get(repository).cloned();
        let answer = run(known.as_deref())?;
        let answer = match answer.status {
            StatusCode::UNAUTHORIZED => match self.authorization(repository, &answer)? {
                Some(authorization) => {
                    let answer = run(Some(&authorization))?;
                    self.authorizations
                        .borrow_mut()
                        .insert(repository.to_owned(), authorization);
                    answer
                }
                None => answer,
            },
            _ => answer,
        };
        match answer.status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                let advice = match &self.credentials {
                    Some(_) => "the credentials of `docker login` do not suffice",
                    None => "there are no credentials for it",
                };
                Err(answer
                    .refusal("refuses access")
                    .context(format!("{advice}: run `docker login {}`", self.registry)))
            }
            _ => Ok(answer),
        }
    }

    /// The header that answers a challenge; `None` if there is none that could.
    fn authorization(&self, repository: &str, asked: &Answer) -> anyhow::Result<Option<String>> {
        let headers = asked.headers.get_all("www-authenticate").iter();
        let challenge = headers
            .filter_map(|header| Challenge::parse(header.to_str().ok()?))
            .next();
        let basic = |user: &str, password: &str| {
            format!(
                "Basic {}",
                BASE64_STANDARD.encode(format!("{user}:{password}"))
            )
        };
        let (realm, service) = match (challenge, &self.credentials) {
            (Some(Challenge::Basic), Some(Credentials::Password { user, password })) => {
                return Ok(Some(basic(user, password)));
            }
            (Some(Challenge::Bearer { .. }), Some(Credentials::RegistryToken(token))) => {
                return Ok(Some(format!("Bearer {token}")));
            }
            (Some(Challenge::Bearer { realm, service }), _) => (realm, service),
            _ => return Ok(None),
        };
        let mut realm = token_address(&realm, &self.base)?;
        let scope = format!("repository:{repository}:pull,push");
        let wanted = [("scope", scope.as_str())];
        let wanted = wanted
            .into_iter()
            .chain(service.as_deref().map(|service| ("service", service)));
        let response = if let Some(Credentials::IdentityToken(token)) = &self.credentials {
            let form = [
                ("grant_type", "refresh_token"),
                ("client_id", "meridian"),
                ("refresh_token", token),
            ];
            let form: Vec<(&str, &str)> = form.into_iter().chain(wanted).collect();
            self.agent.post(realm.as_str()).send_form(form)
        } else {
            realm.query_pairs_mut().extend_pairs(wanted);
            let mut request = self.agent.get(realm.as_str());
            if let Some(Credentials::Password { user, password }) = &self.credentials {
                request = request.header("authorization", basic(user, password));
            }
            request.call()
        };
        let host = realm.host_str().unwrap_or_default();
        let mut response =
            response.with_context(|| format!("cannot reach {host}, where it sends for a token"))?;
        if !response.status().is_success() {
            let advice = match &self.credentials {
                Some(_) => "the credentials of `docker login` were not taken",
                None => "there are no credentials for it",
            };
            bail!(
                "{advice}: run `docker login {}` ({host} gives no token: HTTP {})",
                self.registry,
                response.status()
            );
        }
        /// Either name is used.
        #[derive(Deserialize)]
        struct Given {
            #[serde(alias = "access_token")]
            token: String,
        }
        let body = response
            .body_mut()
            .with_config()
            .limit(MAX_ANSWER)
            .read_to_vec()?;
        let Given { token } = serde_json::from_slice(&body)
            .with_context(|| format!("{host} answers without a token"))?;
        Ok(Some(format!("Bearer {token}")))
    }

    /// What an error of the transport means, where that is known.
    fn explained(&self, error: anyhow::Error) -> anyhow::Error {
        let registry = &self.registry;
        let advice = match error.downcast_ref::<ureq::Error>() {
            Some(ureq::Error::HostNotFound) => format!("there is no host of the name {registry}"),
            Some(failed) if speaks_no_tls(failed) => format!(
                "{registry} does not speak TLS: if it is meant to serve plain HTTP, add --plain-http"
            ),
            Some(ureq::Error::Protocol(_)) if self.base.scheme() == "http" => {
                format!("{registry} does not speak HTTP: leave --plain-http away if it has TLS")
            }
            Some(ureq::Error::Io(io)) if io.kind() == std::io::ErrorKind::ConnectionRefused => {
                format!("nothing listens at {registry}")
            }
            _ => format!("cannot talk to {registry}"),
        };
        error.context(advice)
    }
}

/// Where a token is to be had, if credentials may be sent there.
fn token_address(realm: &str, base: &Url) -> anyhow::Result<Url> {
    let realm = Url::parse(realm).with_context(|| format!("it sends for a token to {realm:?}"))?;
    // What is meant for TLS is told to nobody without it.
    let is_safe = realm.scheme() == "https" || (realm.scheme(), base.scheme()) == ("http", "http");
    ensure!(
        is_safe,
        "it sends for a token to {realm}, which is not https"
    );
    Ok(realm)
}

/// True if a peer answered the beginning of TLS with something else.
fn speaks_no_tls(error: &ureq::Error) -> bool {
    let is_other = |error: &rustls::Error| {
        matches!(
            error,
            rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType)
        )
    };
    match error {
        ureq::Error::Rustls(error) => is_other(error),
        ureq::Error::Io(error) => {
            let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
            inner.is_some_and(is_other)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_for_tls_are_sent_by_tls_alone() {
        let [tls, plain] =
            ["https://a.io/v2/", "http://a.io/v2/"].map(|base| base.parse().unwrap());
        for (realm, base, is_safe) in [
            ("https://b.io/token", &tls, true),
            ("http://a.io/token", &tls, false),
            ("http://a.io/token", &plain, true),
            ("https://b.io/token", &plain, true),
            ("file:///token", &plain, false),
            ("/token", &tls, false),
        ] {
            assert_eq!(
                token_address(realm, base).is_ok(),
                is_safe,
                "{realm} {base}"
            );
        }
    }
}
