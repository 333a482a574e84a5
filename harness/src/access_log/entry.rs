//! One line of an access log, and what can be told from it.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};

use jiff::Timestamp;
use meridian_policy::{
    Action, Authority, Direction, Host, InvalidHost, Principal, Vantage, server_name,
};
use serde::Serialize;

/// A request, or a connection whose bytes passed unread, as a proxy logged it.
///
/// Every field may be missing. The texts are as they stand in the log, and most of them are a
/// client's: where the methods tell a thing, ask them, because they also read logs of proxies that
/// did not write it (Istio's default format, or an older filter).
///
/// ```
/// use meridian::access_log::{Entry, LoggedCaller};
/// use meridian_policy::Action;
///
/// let entry: Entry<'_> = serde_json::from_str(
///     r#"{"reporter": "egress", "method": "GET", "authority": "API.partner.example:8443",
///         "response_code": 403, "response_code_details": "meridian_deny{no-trackers}",
///         "peer": "spiffe://cluster.local/ns/shop/sa/cart"}"#,
/// )
/// .unwrap();
/// assert_eq!(entry.decision(), Some(Action::Deny));
/// assert_eq!(entry.rule(), Some("no-trackers"));
/// assert_eq!(entry.host().as_deref(), Some("api.partner.example"));
/// assert_eq!(entry.port(), Some(8443));
/// assert_eq!(entry.caller(), LoggedCaller::Workload { namespace: "shop", account: "cart" });
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Entry<'a> {
    /// When it began, in RFC 3339.
    pub time: Option<Cow<'a, str>>,
    /// The vantage of the filter that decided.
    pub reporter: Option<Cow<'a, str>>,
    /// The proxy's name.
    pub proxy: Option<Cow<'a, str>>,
    /// The namespace of the proxy's workload.
    pub namespace: Option<Cow<'a, str>>,
    /// north-south, east-west or unknown.
    pub direction: Option<Cow<'a, str>>,
    /// What the direction was concluded from.
    pub evidence: Option<Cow<'a, str>>,
    /// system or application.
    pub component_type: Option<Cow<'a, str>>,
    /// allow or deny.
    pub decision: Option<Cow<'a, str>>,
    /// The rule that decided, or `default`, `invalid-host`, `sni-mismatch`.
    pub rule: Option<Cow<'a, str>>,
    /// What a dry run would have done: `deny{RULE}` or `allow{RULE}`.
    pub dry_run: Option<Cow<'a, str>>,
    /// The canonical host, without port.
    pub host: Option<Cow<'a, str>>,
    /// The port that the authority had.
    pub port: Option<u16>,
    /// The listener.
    pub listener: Option<Cow<'a, str>>,
    /// The method; a connection has none.
    pub method: Option<Cow<'a, str>>,
    /// The authority as the client wrote it; a connection has none.
    pub authority: Option<Cow<'a, str>>,
    /// The path with its query.
    pub path: Option<Cow<'a, str>>,
    /// Such as `HTTP/1.1`.
    pub protocol: Option<Cow<'a, str>>,
    /// The status of the response; `None` also for 0, without a response.
    pub status: Option<u16>,
    /// The response code details.
    pub details: Option<Cow<'a, str>>,
    /// The response flags.
    pub flags: Option<Cow<'a, str>>,
    /// How long it took, in milliseconds.
    pub duration_ms: Option<u64>,
    /// Bytes from downstream.
    pub received_bytes: Option<u64>,
    /// Bytes to downstream.
    pub sent_bytes: Option<u64>,
    /// The downstream's `ip:port`.
    pub source: Option<Cow<'a, str>>,
    /// The caller's SPIFFE ID by mutual TLS.
    pub peer: Option<Cow<'a, str>>,
    /// The server name of TLS.
    pub sni: Option<Cow<'a, str>>,
    /// The `ip:port` that the connection came in at.
    pub destination: Option<Cow<'a, str>>,
    /// The upstream cluster.
    pub cluster: Option<Cow<'a, str>>,
    /// The upstream's `ip:port`.
    pub upstream: Option<Cow<'a, str>>,
    /// The request's identifier.
    pub request_id: Option<Cow<'a, str>>,
}

/// Who called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LoggedCaller<'e> {
    /// A workload of the mesh, by mutual TLS.
    Workload {
        /// Its namespace.
        namespace: &'e str,
        /// Its service account.
        account: &'e str,
    },
    /// Somebody at this address.
    Source(IpAddr),
    /// The entry does not tell.
    Unknown,
}

/// What a dry run would have done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RuleDecision<'e> {
    /// allow or deny.
    pub decision: Action,
    /// By which rule, or `default`, `sni-mismatch`.
    pub rule: &'e str,
}

impl Entry<'_> {
    /// True if this is a connection whose bytes passed unread, and no request.
    pub fn is_connection(&self) -> bool {
        // A request that Envoy could not read has neither method nor authority, but a status.
        self.method.is_none()
            && self.authority.is_none()
            && self.protocol.is_none()
            && self.status.is_none()
    }

    /// True if there is anything to tell from it. An application's own log in JSON has nothing.
    pub fn is_telling(&self) -> bool {
        self.authority.is_some()
            || self.method.is_some()
            || self.host.is_some()
            || self.sni.is_some()
            || self.details.is_some()
            || self.decision.is_some()
            || self.destination.is_some()
            || self.cluster.is_some()
    }

    /// When it began; `None` also when it is no RFC 3339.
    pub fn timestamp(&self) -> Option<Timestamp> {
        self.time.as_deref()?.parse().ok()
    }

    /// Where the filter stood; `None` where the log does not tell.
    pub fn vantage(&self) -> Option<Vantage> {
        Vantage::from_word(self.reporter.as_deref()?)
    }

    /// The direction; `None` where the log does not tell. [`Direction::Unknown`] is the filter's word.
    pub fn direction(&self) -> Option<Direction> {
        Direction::from_word(self.direction.as_deref()?)
    }

    /// What was decided. Where the log does not tell: a refusal by the details that the filters
    /// write, and allowed by any other details, or none at a connection.
    pub fn decision(&self) -> Option<Action> {
        if let Some(word) = self.decision.as_deref() {
            return Action::from_word(word);
        }
        match self.details.as_deref() {
            Some(details) if details.starts_with("meridian_") => Some(Action::Deny),
            Some(_) => Some(Action::Allow),
            None => self.is_connection().then_some(Action::Allow),
        }
    }

    /// The rule that decided, or `default`, `invalid-host`, `sni-mismatch`; `None` where the log
    /// does not tell, as older logs do not for what was allowed.
    pub fn rule(&self) -> Option<&str> {
        if let Some(rule) = self.rule.as_deref() {
            return Some(rule);
        }
        match self.details.as_deref()? {
            "meridian_invalid_host" => Some("invalid-host"),
            "meridian_sni_mismatch" => Some("sni-mismatch"),
            details => details.strip_prefix("meridian_deny{")?.strip_suffix('}'),
        }
    }

    /// What a rule or section in dry run would have done.
    pub fn dry_run(&self) -> Option<RuleDecision<'_>> {
        let (word, rule) = self.dry_run.as_deref()?.split_once('{')?;
        Some(RuleDecision {
            decision: Action::from_word(word)?,
            rule: rule.strip_suffix('}')?,
        })
    }

    /// The host that was asked for, with the port that was written beside it: of `host`, else of the
    /// authority, else, for a connection, of the server name or the address that was dialled.
    ///
    /// # Errors
    /// Why it is no host.
    pub fn target(&self) -> Option<Result<Authority, InvalidHost>> {
        let written = match (&self.host, &self.authority) {
            (Some(host), _) => Some(Authority::parse(host.as_bytes()).map(|target| Authority {
                port: self.port.or(target.port),
                ..target
            })),
            (None, Some(authority)) => Some(Authority::parse(authority.as_bytes())),
            (None, None) => None,
        };
        if written.is_some() || !self.is_connection() {
            return written;
        }
        if let Some(sni) = &self.sni {
            return Some(server_name(sni.as_bytes()));
        }
        // The port is the listener's, which says nothing of the port that was dialled.
        let address = ip_of(self.destination.as_deref()?)?;
        Some(Ok(Authority {
            host: Host::Address(address),
            port: None,
        }))
    }

    /// The canonical host that was asked for; `None` when it is invalid or not told. See [`Self::target`].
    pub fn host(&self) -> Option<Cow<'_, str>> {
        Some(Cow::Owned(self.target()?.ok()?.host.to_string()))
    }

    /// The port that was written beside the host. See [`Self::target`].
    pub fn port(&self) -> Option<u16> {
        self.port
            .or_else(|| self.target().and_then(|target| target.ok()?.port))
    }

    /// Who called: the peer by mutual TLS, else the source address.
    pub fn caller(&self) -> LoggedCaller<'_> {
        if let Some(peer) = self.peer.as_deref()
            && let Some((namespace, account)) = workload(peer)
        {
            return LoggedCaller::Workload { namespace, account };
        }
        self.source_ip()
            .map_or(LoggedCaller::Unknown, LoggedCaller::Source)
    }

    /// The peer's identity; `None` without mutual TLS.
    pub fn principal(&self) -> Option<Principal> {
        Principal::parse(self.peer.as_deref()?)
    }

    /// The address of the downstream.
    pub fn source_ip(&self) -> Option<IpAddr> {
        ip_of(self.source.as_deref()?)
    }

    /// The address of the upstream.
    pub fn upstream_ip(&self) -> Option<IpAddr> {
        ip_of(self.upstream.as_deref()?)
    }

    /// The same entry, with texts of its own.
    pub fn into_owned(self) -> Entry<'static> {
        fn own(text: Option<Cow<'_, str>>) -> Option<Cow<'static, str>> {
            text.map(|text| Cow::Owned(text.into_owned()))
        }
        Entry {
            time: own(self.time),
            reporter: own(self.reporter),
            proxy: own(self.proxy),
            namespace: own(self.namespace),
            direction: own(self.direction),
            evidence: own(self.evidence),
            component_type: own(self.component_type),
            decision: own(self.decision),
            rule: own(self.rule),
            dry_run: own(self.dry_run),
            host: own(self.host),
            port: self.port,
            listener: own(self.listener),
            method: own(self.method),
            authority: own(self.authority),
            path: own(self.path),
            protocol: own(self.protocol),
            status: self.status,
            details: own(self.details),
            flags: own(self.flags),
            duration_ms: self.duration_ms,
            received_bytes: self.received_bytes,
            sent_bytes: self.sent_bytes,
            source: own(self.source),
            peer: own(self.peer),
            sni: own(self.sni),
            destination: own(self.destination),
            cluster: own(self.cluster),
            upstream: own(self.upstream),
            request_id: own(self.request_id),
        }
    }
}

fn ip_of(text: &str) -> Option<IpAddr> {
    let address: SocketAddr = text.parse().ok()?;
    Some(address.ip().to_canonical())
}

/// Namespace and account, read as [`Principal::parse`] does but borrowed: a log has millions.
fn workload(peer: &str) -> Option<(&str, &str)> {
    // Several URIs in one certificate are logged with commas between; only one can be an identity.
    let mut parts = peer.strip_prefix("spiffe://")?.split('/');
    let mut next = || parts.next().filter(|part| !part.is_empty());
    let (_domain, ns, namespace, sa, account) = (next()?, next()?, next()?, next()?, next()?);
    (ns == "ns" && sa == "sa" && parts.next().is_none()).then_some((namespace, account))
}
