//! A request or connection as a filter sees it: the arguments of `meridian explain`, and `request` in a
//! file of expectations.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::SystemTime;

use clap::Args;
use meridian_policy::{Date, Policy, Principal, Request, Subject, Vantage};
use serde::de::{Deserialize, Deserializer, Error};

use crate::text::shell::word;

/// What a policy is asked about. Each field is what the proxy would know.
#[derive(Debug, Clone, Args, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Query {
    /// The vantage: ingress, egress, inbound or outbound
    #[arg(long, value_name = "VANTAGE", value_parser = parse_vantage)]
    #[serde(deserialize_with = "vantage")]
    pub at: Vantage,
    /// The gateway by its name in the policy; needed where rules name gateways and there are several
    #[arg(long, value_name = "NAME")]
    pub gateway: Option<String>,
    /// Explain a connection that a gateway passes on unread: TLS passthrough or plain TCP
    #[arg(long)]
    #[serde(default)]
    pub connection: bool,
    /// The authority (Host header) that the client sends
    #[arg(long, value_name = "HOST", required_unless_present = "connection")]
    pub authority: Option<String>,
    /// The client's address
    #[arg(long, value_name = "IP:PORT", value_parser = parse_address)]
    #[serde(default, deserialize_with = "address")]
    pub source: Option<IpAddr>,
    /// The address and port that the client dialled, for connections and for PassthroughCluster at
    /// outbound; leave it out if it is the proxy's own
    #[arg(long, value_name = "IP:PORT", value_parser = Dialled::parse)]
    #[serde(default, deserialize_with = "dialled")]
    pub destination: Option<Dialled>,
    /// The peer's mTLS identity, such as cluster.local/ns/shop/sa/cart
    #[arg(long, value_name = "ID", value_parser = parse_principal)]
    #[serde(default, deserialize_with = "principal")]
    pub principal: Option<Principal>,
    /// The namespace of the sidecar's workload
    #[arg(long, value_name = "NS")]
    pub namespace: Option<String>,
    /// The server name (SNI) of the client's TLS connection
    #[arg(long, value_name = "NAME")]
    pub sni: Option<String>,
    /// The client speaks TLS to this proxy; implied by --sni
    #[arg(long)]
    #[serde(default)]
    pub tls: bool,
    /// The route's cluster, such as outbound|80||cart.shop.svc.cluster.local
    #[arg(long, value_name = "NAME")]
    pub cluster: Option<String>,
    /// The value of the direction header on arrival
    #[arg(long, value_name = "VALUE")]
    pub tag: Option<String>,
    /// The date, for rules that expire [default: today, in UTC]
    #[arg(long, value_name = "YYYY-MM-DD", value_parser = parse_date)]
    #[serde(default, deserialize_with = "date")]
    pub today: Option<Date>,
    /// The request carries x-forwarded-for
    #[arg(long)]
    #[serde(default)]
    pub forwarded: bool,
}

/// An address that was dialled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dialled {
    /// The address.
    pub address: IpAddr,
    /// The port, where it is said.
    pub port: Option<u16>,
}

/// A field that cannot stand where it does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misplaced {
    /// Its name.
    pub field: &'static str,
    /// Why, and what to write instead.
    pub message: Cow<'static, str>,
}

impl Query {
    /// Finds a field that would go unread, or is missing.
    ///
    /// # Errors
    /// The first such field.
    pub fn validate(&self) -> Result<(), Misplaced> {
        let misplaced = |field, message: &'static str| {
            let message = message.into();
            Err(Misplaced { field, message })
        };
        if !self.connection {
            return match self.authority {
                Some(_) => Ok(()),
                None => misplaced(
                    "authority",
                    "is missing; write the host that is asked for, or ask about a connection",
                ),
            };
        }
        if !matches!(self.at, Vantage::Ingress | Vantage::Egress) {
            return misplaced(
                "connection",
                "is of gateways, a sidecar has no network filter; ask at ingress or egress",
            );
        }
        if self.authority.is_some() {
            return misplaced(
                "authority",
                "is of requests; write the connection's server name as sni, or what it dials as destination",
            );
        }
        let of_requests = [
            ("cluster", self.cluster.is_some()),
            ("forwarded", self.forwarded),
            ("namespace", self.namespace.is_some()),
            ("tag", self.tag.is_some()),
            ("tls", self.tls),
        ];
        match of_requests.iter().find(|(_, is_there)| *is_there) {
            Some((field, _)) => misplaced(
                field,
                "is of requests; a connection is decided by sni, source, destination and principal; leave it out",
            ),
            None => Ok(()),
        }
    }

    /// Fills in which gateway of the policy it is about.
    ///
    /// # Errors
    /// If the policy has no gateway of this name there, or tells its gateways apart and none is named.
    pub fn resolve_gateway(&mut self, policy: &Policy) -> Result<(), Misplaced> {
        let gateway = policy.gateway(self.at, self.gateway.as_deref());
        let gateway = gateway.map_err(|error| Misplaced {
            field: "gateway",
            message: error.to_string().into(),
        })?;
        self.gateway = gateway.map(str::to_owned);
        Ok(())
    }

    /// Whether it is a request or a connection.
    pub fn subject(&self) -> Subject {
        match self.connection {
            true => Subject::Connection,
            false => Subject::Request,
        }
    }

    /// The evidence that the policy is asked with.
    pub fn request(&self) -> Request<'_> {
        Request {
            source: self.source,
            destination: self.destination.map(|dialled| dialled.address),
            destination_port: self.destination.and_then(|dialled| dialled.port),
            peer: self.principal.clone(),
            sni: self.sni.as_deref().map(str::as_bytes),
            tls: self.tls || self.sni.is_some(),
            cluster: self.cluster.as_deref(),
            tag: self.tag.as_deref().map(str::as_bytes),
            forwarded: self.forwarded,
            namespace: self.namespace.as_deref(),
            gateway: self.gateway.as_deref(),
            today: Some(self.today.unwrap_or_else(today)),
            ..Request::new(self.authority.as_deref().unwrap_or_default().as_bytes())
        }
    }

    /// The command line of `meridian explain` for this.
    pub fn command(&self, policy: &Path) -> String {
        let mut words = vec!["meridian explain --policy".to_owned()];
        words.push(word(&policy.display().to_string()));
        let given = |value: &Option<String>| value.clone();
        let options = [
            ("at", Some(self.at.to_string())),
            ("gateway", given(&self.gateway)),
            ("authority", given(&self.authority)),
            ("source", self.source.map(|address| address.to_string())),
            (
                "destination",
                self.destination.map(|dialled| dialled.to_string()),
            ),
            (
                "principal",
                self.principal.as_ref().map(ToString::to_string),
            ),
            ("namespace", given(&self.namespace)),
            ("sni", given(&self.sni)),
            ("cluster", given(&self.cluster)),
            ("tag", given(&self.tag)),
            ("today", self.today.map(|day| day.to_string())),
        ];
        for (name, value) in options {
            if let Some(value) = value {
                words.extend([format!("--{name}"), word(&value)]);
            }
        }
        let flags = [
            ("--connection", self.connection),
            ("--tls", self.tls),
            ("--forwarded", self.forwarded),
        ];
        let flags = flags.iter().filter(|(_, is_given)| *is_given);
        words.extend(flags.map(|(flag, _)| (*flag).to_owned()));
        words.join(" ")
    }
}

impl Dialled {
    fn parse(text: &str) -> Result<Self, String> {
        let port = text.parse::<SocketAddr>().map(|address| address.port());
        Ok(Self {
            address: parse_address(text)?,
            port: port.ok(),
        })
    }
}

impl std::fmt::Display for Dialled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.port {
            Some(port) => SocketAddr::new(self.address, port).fmt(f),
            None => self.address.fmt(f),
        }
    }
}

/// The day, in UTC.
pub(crate) fn today() -> Date {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    Date::from_unix_seconds(since.map_or(0, |since| since.as_secs()))
}

pub(crate) fn parse_vantage(text: &str) -> Result<Vantage, String> {
    Vantage::from_word(text).ok_or_else(|| {
        format!(
            "write one of {}",
            Vantage::ALL
                .iter()
                .map(|word| word.as_str())
                .collect::<Vec<_>>()
                .join(", ")
        )
    })
}

fn parse_address(text: &str) -> Result<IpAddr, String> {
    let with_port = text.parse::<SocketAddr>().map(|address| address.ip());
    with_port
        .or_else(|_| text.trim_matches(['[', ']']).parse())
        .map_err(|_| "write IP:PORT, such as 203.0.113.7:51234 or [2001:db8::1]:51234".to_owned())
}

fn parse_date(text: &str) -> Result<Date, String> {
    Date::parse(text).ok_or_else(|| "write YYYY-MM-DD".to_owned())
}

fn parse_principal(text: &str) -> Result<Principal, String> {
    Principal::parse(text).ok_or_else(|| "write TRUST_DOMAIN/ns/NAMESPACE/sa/ACCOUNT".to_owned())
}

/// Reads text as the command line does.
fn parsed<'de, D: Deserializer<'de>, T>(
    deserializer: D,
    parse: fn(&str) -> Result<T, String>,
) -> Result<Option<T>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    let value = text
        .map(|text| parse(&text).map_err(|hint| D::Error::custom(format!("is {text:?}; {hint}"))));
    value.transpose()
}

macro_rules! fields {
    ($($function:ident: $type:ty = $parse:expr,)+) => {$(
        fn $function<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<$type>, D::Error> {
            parsed(deserializer, $parse)
        }
    )+};
}

fields! {
    address: IpAddr = parse_address,
    dialled: Dialled = Dialled::parse,
    principal: Principal = parse_principal,
    date: Date = parse_date,
}

fn vantage<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vantage, D::Error> {
    parsed(deserializer, parse_vantage)?.ok_or_else(|| D::Error::missing_field("at"))
}
