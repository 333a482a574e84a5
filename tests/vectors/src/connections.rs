//! The cases of connections that pass unread: how they are written, and how a policy is checked by them.
//!
//! Each is tried at both gateways. README.md beside this file describes the format.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use meridian_policy::{
    Action, Direction, DirectionEvidence, Document, Policy, Request, Subject, Vantage, Verdict,
};
use serde::de::{Deserialize, Deserializer};

use super::compare::compare;
use super::format::{self, Bytes, DEFAULT_SOURCE, ExpectDryRun};

/// The file, with its text.
pub const FILE: (&str, &str) = ("connections.yaml", include_str!("../connections.yaml"));
/// The port that the gateways listen on, in policy and cases; real Envoys put their own in its place.
pub const PORT: u16 = 8443;
/// The gateways' own address, which a connection dials where it names none.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(127, 1, 0, 20);
/// Where connections are decided.
pub const GATEWAYS: [Vantage; 2] = [Vantage::Ingress, Vantage::Egress];

/// The cases and the policy that decides on them.
pub struct Connections {
    /// The policy as it was written.
    pub document: yaml_serde::Value,
    /// The same policy, ready to decide.
    pub policy: Policy,
    /// The cases in their order.
    pub cases: Vec<Connection>,
}

/// One connection and what must become of it.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Connection {
    /// A sentence, unique.
    pub name: String,
    /// The server name that a filter sees.
    #[serde(default)]
    pub sni: Option<Bytes>,
    /// The client's address.
    #[serde(default = "default_source")]
    pub source: IpAddr,
    /// The address that it dials; `None` is the gateway's own, which filters do not take for a
    /// destination.
    #[serde(default)]
    pub destination: Option<Ipv4Addr>,
    /// What is sent first.
    #[serde(default)]
    pub wire: Wire,
    /// What must come of it.
    pub expect: Expect,
}

/// What a client sends first.
#[derive(Default, serde::Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub enum Wire {
    /// A ClientHello.
    #[default]
    #[serde(skip)]
    Tls,
    /// The same in pieces of this many bytes, and in TLS records of twice as many.
    Pieces {
        /// The bytes of a piece.
        pieces: usize,
    },
    /// A ClientHello with this server name, which Envoy does not hand on.
    Sni {
        /// The server name.
        sni: Bytes,
        /// The first minor version of Envoy that asks the filter; an older one closes the connection
        /// by itself.
        #[serde(default)]
        asked_since: Option<String>,
    },
    /// Something that is not TLS.
    Bytes {
        /// All of it.
        bytes: Bytes,
    },
}

/// What must come of a connection.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// Allowed or refused.
    #[serde(deserialize_with = "action")]
    pub decision: Action,
    /// The rule that decided, or `default` or `invalid-host`: the metric label.
    pub rule: String,
    /// The direction at egress.
    #[serde(default = "north_south", deserialize_with = "direction")]
    direction: Direction,
    /// The evidence for it.
    #[serde(default = "outside_sni", deserialize_with = "evidence")]
    evidence: DirectionEvidence,
    /// The canonical host; `Some(None)` is written `null`.
    #[serde(default, deserialize_with = "format::given")]
    pub host: Option<Option<String>>,
    /// What a dry run would have done.
    #[serde(default)]
    pub dry_run: Option<ExpectDryRun>,
}

impl Connections {
    /// Reads the file, with `port` in the place of [`PORT`].
    ///
    /// # Panics
    /// If it or the policy is wrong.
    pub fn with_port(port: u16) -> Self {
        #[derive(serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct File {
            policy: yaml_serde::Value,
            cases: Vec<Connection>,
        }
        let (file, text) = FILE;
        let text = text.replace(&PORT.to_string(), &port.to_string());
        let written: File =
            yaml_serde::from_str(&text).unwrap_or_else(|error| panic!("{file}: {error}"));
        let read = Document::deserialize(written.policy.clone())
            .unwrap_or_else(|error| panic!("{file}: {error}"));
        let policy = Policy::from_document(&read)
            .unwrap_or_else(|errors| panic!("{file}: policy: {errors:?}"));
        let mut names = BTreeSet::new();
        for case in &written.cases {
            let name = &case.name;
            assert!(names.insert(name), "two connections are called `{name}`");
            let hides_sni = matches!(case.wire, Wire::Sni { .. } | Wire::Bytes { .. });
            assert!(
                case.sni.is_none() || !hides_sni,
                "`{name}`: a filter sees no server name of that wire form"
            );
        }
        Self {
            document: written.policy,
            policy,
            cases: written.cases,
        }
    }

    /// Everything in which a policy does not do what the cases say.
    pub fn failures(&self) -> Vec<String> {
        let tried = self
            .cases
            .iter()
            .flat_map(|case| GATEWAYS.map(|at| (case, at)));
        tried
            .filter_map(|(case, at)| {
                let verdict =
                    case.ask(|request| self.policy.decide(at, Subject::Connection, request));
                let found = case.differences(at, &self.policy, &verdict);
                let name = &case.name;
                (!found.is_empty())
                    .then(|| format!("{}: `{name}` at {at}: {}", FILE.0, found.join("; ")))
            })
            .collect()
    }
}

impl Connection {
    /// What `question` says of the connection as the policy gets it.
    pub fn ask<T>(&self, question: impl FnOnce(&mut Request<'_>) -> T) -> T {
        let mut request = Request {
            sni: self.sni.as_ref().map(|sni| sni.0.as_slice()),
            source: Some(self.source),
            destination: self.destination.map(IpAddr::V4),
            // A filter reads it of the gateway's own address, too.
            destination_port: Some(PORT),
            ..Request::default()
        };
        question(&mut request)
    }

    /// The direction and its evidence; at ingress the source tells.
    pub fn direction(&self, at: Vantage) -> (Direction, DirectionEvidence) {
        let is_pod = matches!(self.source, IpAddr::V4(source) if source.octets()[..2] == [127, 1]);
        match (at, is_pod) {
            (Vantage::Ingress, true) => (Direction::EastWest, DirectionEvidence::MeshSource),
            (Vantage::Ingress, false) => (Direction::NorthSouth, DirectionEvidence::OutsideSource),
            _ => (self.expect.direction, self.expect.evidence),
        }
    }

    fn differences(&self, at: Vantage, policy: &Policy, verdict: &Verdict) -> Vec<String> {
        let section = policy.section(at);
        let (direction, evidence) = self.direction(at);
        let rule = verdict.reason.label(section).to_owned();
        let host = verdict
            .authority
            .as_ref()
            .map(|authority| authority.host.to_string());
        let dry_run = verdict.dry_run.map(|would| {
            let rule = would.reason.label(section);
            format!("{}{{{rule}}}", would.decision)
        });
        let mut found = Vec::new();
        compare(
            &mut found,
            "decision",
            Some(self.expect.decision),
            verdict.decision,
        );
        compare(&mut found, "rule", Some(self.expect.rule.clone()), rule);
        compare(&mut found, "direction", Some(direction), verdict.direction);
        compare(&mut found, "evidence", Some(evidence), verdict.evidence);
        compare(&mut found, "host", self.expect.host.clone(), host);
        compare(&mut found, "dry_run", Some(self.expect.dry_run()), dry_run);
        found
    }
}

impl Expect {
    /// `deny{RULE}`, as the access log has it.
    pub fn dry_run(&self) -> Option<String> {
        let would = self.dry_run.as_ref()?;
        let rule = would.rule.clone().flatten();
        let decision = would.decision.map_or("", |decision| decision.as_str());
        Some(format!(
            "{decision}{{{}}}",
            rule.as_deref().unwrap_or("default")
        ))
    }
}

fn default_source() -> IpAddr {
    DEFAULT_SOURCE
}

fn north_south() -> Direction {
    Direction::NorthSouth
}

fn outside_sni() -> DirectionEvidence {
    DirectionEvidence::OutsideSni
}

macro_rules! words {
    ($($function:ident: $word:ty = $read:path,)+) => {$(
        fn $function<'de, D: Deserializer<'de>>(deserializer: D) -> Result<$word, D::Error> {
            $read(deserializer)?.ok_or_else(|| serde::de::Error::custom("is empty"))
        }
    )+};
}

words! {
    action: Action = format::word_of_action,
    direction: Direction = format::word_of_direction,
    evidence: DirectionEvidence = format::word_of_evidence,
}
