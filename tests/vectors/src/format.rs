//! How a case is written in YAML.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use meridian_policy::{Action, ComponentType, Direction, DirectionEvidence, Vantage};
use serde::de::{Deserialize, Deserializer, Error};

/// A client's address where a case names none: outside the mesh.
pub const DEFAULT_SOURCE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 9, 0, 1));
/// A workload's namespace where a case names none.
pub const DEFAULT_NAMESPACE: &str = "default";

/// One request and what must become of it.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// A sentence, unique over all files.
    pub name: String,
    /// The filter that is asked.
    #[serde(deserialize_with = "vantage")]
    pub at: Vantage,
    /// The gateway, where rules of the policy name gateways and there are several.
    #[serde(default)]
    pub gateway: Option<String>,
    /// What the filter sees as `:authority`; `None` where no filter is ever asked.
    #[serde(default)]
    pub authority: Option<Bytes>,
    /// The client's address; `None` for a Unix socket.
    #[serde(default = "default_source", deserialize_with = "source")]
    pub source: Option<IpAddr>,
    /// The identity in the client's certificate, without `spiffe://`.
    #[serde(default)]
    pub principal: Option<String>,
    /// The server name of the TLS connection.
    #[serde(default)]
    pub sni: Option<String>,
    /// True if the client speaks TLS, whether or not it names a server or itself.
    #[serde(default)]
    pub tls: bool,
    /// The namespace of the workload that the filter serves.
    #[serde(default = "default_namespace")]
    pub namespace: String,
    /// The cluster of the route.
    #[serde(default)]
    pub cluster: Option<String>,
    /// The address that the client dialled.
    #[serde(default)]
    pub destination: Option<IpAddr>,
    /// The direction's tag headers that the client sends.
    #[serde(default, deserialize_with = "one_or_more")]
    pub tag: Vec<Bytes>,
    /// Further request headers.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// How the request is written on the wire.
    #[serde(default)]
    pub wire: Wire,
    /// What must come of it.
    pub expect: Expect,
}

/// What must come of a case. `None` is not checked; `Some(None)` is written `null`.
#[derive(Default, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Expect {
    /// Allowed or refused.
    #[serde(deserialize_with = "word_of_action")]
    pub decision: Option<Action>,
    /// The rule that decided, or none.
    #[serde(deserialize_with = "given")]
    pub rule: Option<Option<String>>,
    /// The status of a refusal.
    pub status: Option<u16>,
    /// The direction.
    #[serde(deserialize_with = "word_of_direction")]
    pub direction: Option<Direction>,
    /// The evidence for the direction.
    #[serde(deserialize_with = "word_of_evidence")]
    pub evidence: Option<DirectionEvidence>,
    /// Whom the request serves.
    #[serde(deserialize_with = "word_of_component")]
    pub component: Option<ComponentType>,
    /// The canonical host, or none where it is invalid.
    #[serde(deserialize_with = "given")]
    pub host: Option<Option<String>>,
    /// The tag that the upstream sees, or none.
    #[serde(deserialize_with = "given")]
    pub tag: Option<Option<String>>,
    /// What a dry run would have done, or none.
    #[serde(deserialize_with = "given")]
    pub dry_run: Option<Option<ExpectDryRun>>,
    /// The metric label `rule`, where `rule` and `host` do not already tell it.
    pub label: Option<String>,
    /// The status with which Envoy itself answers before any filter is asked.
    pub envoy: Option<EnvoyAnswer>,
    /// The first minor version of Envoy that does so, where an older one asks the filter.
    pub envoy_since: Option<String>,
}

/// What a dry run would have done.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectDryRun {
    /// Allowed or refused.
    #[serde(deserialize_with = "word_of_action")]
    pub decision: Option<Action>,
    /// The rule that would have decided, or none.
    #[serde(default, deserialize_with = "given")]
    pub rule: Option<Option<String>>,
}

/// How Envoy answers a request that no filter gets to see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EnvoyAnswer {
    /// With this status.
    Status(u16),
    /// With no response: the stream or the connection is reset.
    Reset,
}

/// How a request is written on the wire; only real Envoys see a difference.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Wire {
    /// `GET / HTTP/1.1` with the authority in Host.
    #[default]
    Http1,
    /// The same in HTTP/1.0.
    Http10,
    /// The authority in the request line, another one in Host.
    Absolute,
    /// `CONNECT authority`.
    Connect,
    /// HTTP/2 with the authority in `:authority`.
    Http2,
    /// CONNECT over HTTP/2.
    Http2Connect,
    /// One Host header for each part of the authority between commas.
    TwoHosts,
    /// Exactly these bytes.
    Raw(Vec<u8>),
}

/// Bytes, written as a string in which every character up to U+00FF stands for the byte of that
/// value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bytes(pub Vec<u8>);

impl Case {
    /// True if the client speaks TLS.
    pub fn is_tls(&self) -> bool {
        self.tls || self.sni.is_some() || self.principal.is_some()
    }

    /// Finds fields that cannot stand together.
    pub(super) fn validate(&self) -> Result<(), &'static str> {
        let expect = &self.expect;
        if self.authority.is_none() != expect.decision.is_none() {
            return Err("a decision is expected exactly where there is an authority");
        }
        if expect.decision.is_none() && expect.envoy.is_none() {
            return Err("nothing is expected");
        }
        if expect.envoy_since.is_some() && (expect.envoy.is_none() || expect.decision.is_none()) {
            return Err("`envoy_since` wants `envoy`, and the decision of the filter before");
        }
        if self.cluster.is_some() && !matches!(self.at, Vantage::Outbound | Vantage::Egress) {
            return Err("a cluster tells something only on the way out");
        }
        if matches!(self.wire, Wire::Raw(_)) && self.cluster.is_some() {
            return Err("raw bytes cannot choose a cluster");
        }
        let has_destination = self.destination.is_some();
        let passes_through = self.cluster.as_deref() == Some("PassthroughCluster");
        if passes_through && !has_destination && self.source.is_some() {
            return Err("only a Unix socket has no destination: add `source: none`");
        }
        if has_destination && self.source.is_none() {
            return Err("a Unix socket has no destination");
        }
        Ok(())
    }
}

impl Expect {
    /// The metric label `rule`, as far as it is known.
    pub fn label(&self) -> Option<String> {
        if self.label.is_some() {
            return self.label.clone();
        }
        match (self.rule.as_ref()?, &self.host) {
            (Some(rule), _) => Some(rule.clone()),
            (None, Some(None)) => Some("invalid-host".to_owned()),
            (None, _) if self.status == Some(400) => Some("invalid-host".to_owned()),
            (None, _) => Some("default".to_owned()),
        }
    }
}

fn default_source() -> Option<IpAddr> {
    Some(DEFAULT_SOURCE)
}

fn default_namespace() -> String {
    DEFAULT_NAMESPACE.to_owned()
}

/// Tells a field that is `null` from one that is not there.
pub(super) fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

fn source<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<IpAddr>, D::Error> {
    let text = String::deserialize(deserializer)?;
    match text.as_str() {
        "none" => Ok(None),
        address => address.parse().map(Some).map_err(D::Error::custom),
    }
}

fn one_or_more<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Bytes>, D::Error> {
    #[derive(serde::Deserialize)]
    #[serde(untagged)]
    enum OneOrMore {
        One(Bytes),
        More(Vec<Bytes>),
    }
    Ok(match OneOrMore::deserialize(deserializer)? {
        OneOrMore::One(one) => vec![one],
        OneOrMore::More(more) => more,
    })
}

macro_rules! words_of {
    ($($function:ident: $word:ty,)+) => {$(
        pub(super) fn $function<'de, D: Deserializer<'de>>(
            deserializer: D,
        ) -> Result<Option<$word>, D::Error> {
            let text = String::deserialize(deserializer)?;
            match <$word>::from_word(&text) {
                Some(word) => Ok(Some(word)),
                None => Err(D::Error::custom(format!("{text:?} is none of {:?}", <$word>::ALL))),
            }
        }
    )+};
}

words_of! {
    word_of_action: Action,
    word_of_component: ComponentType,
    word_of_direction: Direction,
    word_of_evidence: DirectionEvidence,
    word_of_vantage: Vantage,
}

fn vantage<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vantage, D::Error> {
    word_of_vantage(deserializer)?.ok_or_else(|| D::Error::custom("no vantage"))
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.chars()
            .map(|char| {
                u8::try_from(u32::from(char)).map_err(|_| {
                    D::Error::custom(format!("{char:?} is no byte: write \\x escapes"))
                })
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

impl<'de> Deserialize<'de> for Wire {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(serde::Deserialize)]
        #[serde(untagged, deny_unknown_fields)]
        enum Written {
            Word(String),
            Raw { raw: Bytes },
        }
        let word = match Written::deserialize(deserializer)? {
            Written::Raw { raw } => return Ok(Self::Raw(raw.0)),
            Written::Word(word) => word,
        };
        Ok(match word.as_str() {
            "http1" => Self::Http1,
            "http1.0" => Self::Http10,
            "absolute" => Self::Absolute,
            "connect" => Self::Connect,
            "http2" => Self::Http2,
            "http2-connect" => Self::Http2Connect,
            "two-hosts" => Self::TwoHosts,
            _ => return Err(D::Error::custom(format!("{word:?} is no wire form"))),
        })
    }
}

impl<'de> Deserialize<'de> for EnvoyAnswer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(serde::Deserialize)]
        #[serde(untagged)]
        enum Written {
            Status(u16),
            Word(String),
        }
        match Written::deserialize(deserializer)? {
            Written::Status(status) => Ok(Self::Status(status)),
            Written::Word(word) if word == "reset" => Ok(Self::Reset),
            Written::Word(word) => Err(D::Error::custom(format!("{word:?} is no answer"))),
        }
    }
}
